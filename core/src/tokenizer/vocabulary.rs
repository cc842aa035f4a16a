//! A vocabulary of one's own: byte-level BPE (Sennrich et al., arXiv 1508.07909) learned from texts,
//! for small models that are trained from the start.

use std::collections::HashSet;

use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::caught;
use crate::error::{Error, Result};

/// Tokens that every byte-level vocabulary has: one per byte.
pub const BYTES: usize = 256;

/// What a new tokenizer is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Most tokens, special ones and the 256 bytes included.
    pub size: usize,
    /// Get the first ids, in this order; never learned from a text.
    pub special_tokens: Vec<String>,
    /// Special tokens before and after a text that is encoded with them.
    pub around: (Option<String>, Option<String>),
    /// Capitals become small letters.
    pub lowercase: bool,
    /// Tokens may hold spaces (Liu et al., arXiv 2503.13423): what always stands together, such as
    /// most of a title, becomes a few tokens instead of one for each word.
    pub across_words: bool,
}

impl Vocabulary {
    /// The text of a `tokenizer.json` learned from `texts`. The same texts in the same order give
    /// the same file. Every text can be encoded: what was never seen goes byte by byte.
    ///
    /// # Errors
    /// A size below the special tokens and the bytes, a special token twice, one around a text that
    /// is not special.
    pub fn learn<'t>(&self, texts: impl Iterator<Item = &'t str> + Send) -> Result<String> {
        let least = BYTES + self.special_tokens.len();
        if self.size < least {
            let expected = format!("at least {least}: every byte and every special token");
            return Err(Error::argument("vocabulary", "size", expected, self.size));
        }
        let distinct: HashSet<&String> = self.special_tokens.iter().collect();
        if distinct.len() < self.special_tokens.len() || distinct.iter().any(|t| t.is_empty()) {
            let found = format!("{:?}", self.special_tokens);
            return Err(Error::argument("vocabulary", "special_tokens", "distinct texts", found));
        }
        let around = [&self.around.0, &self.around.1].into_iter().flatten();
        if let Some(other) = around.clone().find(|token| !distinct.contains(token)) {
            let expected = "one of the special tokens";
            return Err(Error::argument("vocabulary", "around", expected, other));
        }

        let lowercase = if self.lowercase { json!({"type": "Lowercase"}) } else { Value::Null };
        let start = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": lowercase,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                              "use_regex": !self.across_words},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                        "use_regex": true},
            "model": {"type": "BPE", "vocab": {}, "merges": []},
        });
        let special = |token: &String| AddedToken::from(token.as_str(), true);
        let mut trainer = TrainerWrapper::from(
            BpeTrainer::builder()
                .vocab_size(self.size)
                .show_progress(false)
                .special_tokens(self.special_tokens.iter().map(special).collect())
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .build(),
        );
        let learned = caught(|| {
            let mut tokenizer = Tokenizer::from_bytes(start.to_string())?;
            tokenizer.train(&mut trainer, texts)?;
            tokenizer.to_string(false)
        });
        let broken = |what: String| Error::Internal(format!("vocabulary: {what}"));
        let learned = learned.map_err(broken)?.map_err(|e| broken(e.to_string()))?;
        let mut file: Value = serde_json::from_str(&learned).map_err(|e| broken(e.to_string()))?;
        if around.clone().next().is_some() {
            file["post_processor"] = self.template(around.map(String::as_str));
        }
        Ok(format!("{file:#}\n"))
    }

    /// The post-processor that puts the tokens around a text.
    fn template<'t>(&self, around: impl Iterator<Item = &'t str>) -> Value {
        let special = |token: &Option<String>, of: u8| {
            token.iter().map(|id| json!({"SpecialToken": {"id": id, "type_id": of}})).collect()
        };
        let part = |text: &str, of: u8| -> Vec<Value> {
            let before: Vec<Value> = special(&self.around.0, of);
            let after: Vec<Value> = special(&self.around.1, of);
            let text = vec![json!({"Sequence": {"id": text, "type_id": of}})];
            [before, text, after].concat()
        };
        let mut tokens = serde_json::Map::new();
        for token in around {
            let id = self.special_tokens.iter().position(|special| special == token);
            tokens.insert(token.into(), json!({"id": token, "ids": [id], "tokens": [token]}));
        }
        let pair = [part("A", 0), part("B", 0)].concat();
        json!({
            "type": "TemplateProcessing",
            "single": part("A", 0),
            "pair": pair,
            "special_tokens": tokens,
        })
    }
}
