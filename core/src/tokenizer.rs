//! Floor 6: text to token ids and back, by the `tokenizers` crate behind a check of the file.
//!
//! `tokenizers` panics on several malformed files; a file is untrusted, so its structure is
//! checked first, and on native targets the crate runs inside `catch_unwind`.

mod check;
mod vocabulary;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{Model, ModelWrapper, Normalizer, OffsetType, PreTokenizedString, PreTokenizer};

pub use check::{MAX_TOKEN_ID, MAX_TOKENIZER_BYTES};
pub use vocabulary::{BYTES, Vocabulary};

use crate::error::{Error, Result};

/// Longest text that is tokenised, bytes.
pub const MAX_TEXT_BYTES: usize = 16 << 20;

/// A loaded `tokenizer.json`.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
    /// Ids that no content may become: special tokens, but not the one for unknown words.
    special: HashSet<u32>,
}

/// What [`Tokenizer::encode_within`] puts before a piece.
const BEFORE: &str = "a";

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` names it in errors. The file's own truncation and padding
    /// are ignored: both would change a prompt without a word.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self> {
        check::structure(file, bytes)?;
        let invalid = |found: String| Error::file(file, "tokenizer", "a loadable file", found);
        let mut inner = caught(|| tokenizers::Tokenizer::from_bytes(bytes))
            .map_err(&invalid)?
            .map_err(|error| invalid(error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        let unknown = match inner.get_model() {
            ModelWrapper::BPE(model) => model.get_unk_token().clone(),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            ModelWrapper::Unigram(_) => None,
        };
        let added = inner.get_added_tokens_decoder().into_iter();
        let special = added
            .filter(|(_, token)| token.special && Some(&token.content) != unknown.as_ref())
            .map(|(id, _)| id)
            .collect();
        Ok(Self { inner, file: file.to_string(), special })
    }

    /// `Err` unless every id is below the rows of a model's embedding table.
    pub fn check_vocab_size(&self, vocab_size: usize) -> Result<()> {
        let vocabulary = self.inner.get_vocab(true);
        match vocabulary.into_iter().find(|(_, id)| *id as usize >= vocab_size) {
            None => Ok(()),
            Some((token, id)) => {
                let expected = format!("an id below vocab_size {vocab_size}");
                Err(Error::file(&self.file, format!("token `{token}`"), expected, id))
            }
        }
    }

    /// The ids of `text`, with the special tokens of the file's post-processor if asked for.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        check_bytes(text)?;
        let encoding = caught(|| self.inner.encode_fast(text, add_special_tokens));
        let encoding = self.ours(encoding)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// [`Tokenizer::encode`] with special tokens, of at most `max_tokens`: a longer text loses its
    /// end and keeps the special tokens, as by Hugging Face's truncation.
    pub fn encode_truncated(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>> {
        let whole = self.encode(text, true)?;
        if whole.len() <= max_tokens {
            return Ok(whole);
        }
        let plain = self.encode(text, false)?;
        let special = whole.len().saturating_sub(plain.len());
        let start = (0..=special).find(|&start| {
            whole.get(start..).is_some_and(|rest| !plain.is_empty() && rest.starts_with(&plain))
        });
        let (Some(start), Some(kept)) = (start, max_tokens.checked_sub(special)) else {
            let expected = format!("room for the {special} special tokens around a text");
            return Err(Error::argument("encode", "max_tokens", expected, max_tokens));
        };
        let (before, rest) = whole.split_at(start);
        let (text, after) = rest.split_at(plain.len());
        Ok([before, text.get(..kept).unwrap_or(text), after].concat())
    }

    /// The ids of `text` as content: whatever it says, no special and no added token comes of it.
    /// Titles and everything else that is not ours goes through here.
    pub fn encode_content(&self, text: &str) -> Result<Vec<u32>> {
        check_bytes(text)?;
        let encoding = caught(|| {
            let mut pieces = PreTokenizedString::from(text);
            if let Some(normalizer) = self.inner.get_normalizer() {
                pieces.normalize(|piece| normalizer.normalize(piece))?;
            }
            if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
            pieces.into_encoding(None, 0, OffsetType::None)
        });
        let encoding = self.ours(encoding)?;
        // Some vocabularies hold their special tokens among the words, too.
        let ids = encoding.get_ids().iter().copied();
        Ok(ids.filter(|id| !self.special.contains(id)).collect())
    }

    /// The ids of a piece of text as it reads in the middle of a line: a tokenizer that marks the
    /// beginning of a text marks none here. `content` as in [`Tokenizer::encode_content`];
    /// otherwise special tokens that the piece spells are meant.
    pub fn encode_within(&self, piece: &str, content: bool) -> Result<Vec<u32>> {
        let encode = |text: &str| match content {
            true => self.encode_content(text),
            false => self.encode(text, false),
        };
        let before = encode(BEFORE)?;
        match encode(&format!("{BEFORE}{piece}"))?.strip_prefix(before.as_slice()) {
            Some(ids) if !ids.is_empty() => Ok(ids.to_vec()),
            // The piece and what came before it became one token.
            _ => encode(piece),
        }
    }

    /// The text of `ids`; an unknown id is an error.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| self.inner.id_to_token(id).is_none()) {
            return Err(Error::argument("decode", "ids", "ids of the vocabulary", id));
        }
        self.ours(caught(|| self.inner.decode(ids, skip_special_tokens)))
    }

    /// Rows that an embedding table needs: the largest id and one.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The id of a whole token.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn ours<T>(&self, result: Result<tokenizers::Result<T>, String>) -> Result<T> {
        let invalid = |found| Error::file(&self.file, "tokenizer", "a working tokenizer", found);
        result.map_err(invalid)?.map_err(|error| invalid(error.to_string()))
    }
}

fn check_bytes(text: &str) -> Result<()> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    let (limit, found) = (MAX_TEXT_BYTES as u64, text.len() as u64);
    Err(Error::Limit { what: "tokenizer: bytes of the text".into(), limit, found })
}

/// Runs the crate's code; a panic becomes its message. On wasm a panic still ends the instance.
fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or("a panic".into())
    })
}
