//! Texts to the tokens an encoder takes: the folder's tokenizer, and where it cuts.

use super::EncoderFiles;
use crate::error::Result;
use crate::models::llama::TokenId;
use crate::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer};
use crate::weights::{ConfigReader, MAX_CONFIG_BYTES};

/// A tokenizer and its limit.
#[derive(Debug)]
pub(super) struct Texts {
    tokenizer: Tokenizer,
    max_tokens: usize,
    /// What stands around a text where the file itself adds nothing: CLIP's files from before its
    /// post-processor was stored in them.
    around: Option<[TokenId; 2]>,
}

impl Texts {
    /// `None` without a `tokenizer.json`. A text is cut to the least of `max_positions`,
    /// `model_max_length` of `tokenizer_config.json` and `max_seq_length` of
    /// `sentence_bert_config.json`.
    pub(super) fn open(
        files: &dyn EncoderFiles,
        max_positions: usize,
        vocab_size: usize,
        is_clip: bool,
    ) -> Result<Option<Self>> {
        const FILE: &str = "tokenizer.json";
        let Some(text) = files.text(FILE, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
        let tokenizer = Tokenizer::from_bytes(FILE, text.as_bytes())?;
        tokenizer.check_vocab_size(vocab_size)?;
        let mut max_tokens = max_positions;
        let limits = [
            ("tokenizer_config.json", "model_max_length"),
            ("sentence_bert_config.json", "max_seq_length"),
        ];
        for (file, field) in limits {
            let Some(text) = files.text(file, MAX_CONFIG_BYTES)? else { continue };
            let config = ConfigReader::new(file, &text)?;
            // Files without a limit of their own hold 1e30.
            if config.has(field) {
                max_tokens = max_tokens.min(config.f32(field, 1.0..=f32::MAX)? as usize);
            }
        }
        let around = match is_clip && tokenizer.encode("", true)?.is_empty() {
            true => {
                let id = |token| tokenizer.token_id(token);
                id("<|startoftext|>").zip(id("<|endoftext|>")).map(|(start, end)| [start, end])
            }
            false => None,
        };
        Ok(Some(Self { tokenizer, max_tokens, around }))
    }

    pub(super) fn tokens(&self, text: &str) -> Result<Vec<TokenId>> {
        let Some([start, end]) = self.around else {
            return self.tokenizer.encode_truncated(text, self.max_tokens);
        };
        let ids = self.tokenizer.encode_truncated(text, self.max_tokens.saturating_sub(2))?;
        Ok([&[start], ids.as_slice(), &[end]].concat())
    }
}
