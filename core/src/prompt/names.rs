//! Items by what they are called: their tokens, and which one an answer names.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::llama::TokenId;
use crate::tokenizer::Tokenizer;

/// Bytes of a title that are read; the rest of a longer one is not looked at.
pub const MAX_NAME_BYTES: usize = 1024;

/// The names of a catalogue's items, each tokenised when it is first asked for.
#[derive(Clone, Debug)]
pub struct Names {
    tokenizer: Arc<Tokenizer>,
    names: Vec<Name>,
    max_tokens: usize,
}

#[derive(Clone, Debug)]
struct Name {
    text: Box<str>,
    tokens: OnceLock<Box<[TokenId]>>,
}

impl Names {
    /// No names yet; each is cut to `max_tokens` tokens.
    pub fn new(tokenizer: Arc<Tokenizer>, max_tokens: usize) -> Self {
        Self { tokenizer, names: Vec::new(), max_tokens }
    }

    /// Adds the next item: its title on one line, or its `id` where the title is empty.
    pub fn push(&mut self, title: &str, id: &str) {
        let text = match line(title) {
            title if title.is_empty() => line(id),
            title => title,
        };
        self.names.push(Name { text: text.into(), tokens: OnceLock::new() });
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True without any item.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The tokens of an item's name as it reads behind a word, with the space before it. Nothing in
    /// a name becomes a special token.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn tokens(&self, item: u32) -> Result<&[TokenId]> {
        let Some(name) = self.names.get(item as usize) else {
            let expected = format!("an item below {}", self.names.len());
            return Err(Error::argument("prompt", "item", expected, item));
        };
        if let Some(tokens) = name.tokens.get() {
            return Ok(tokens);
        }
        let mut tokens = self.tokenizer.encode_within(&format!(" {}", name.text), true)?;
        tokens.truncate(self.max_tokens);
        Ok(name.tokens.get_or_init(|| tokens.into()))
    }

    /// The name as an answer spells it: the text of its tokens.
    pub fn text(&self, item: u32) -> Result<String> {
        let text = self.tokenizer.decode(self.tokens(item)?, true)?;
        Ok(text.trim().to_owned())
    }
}

/// `text` without control characters, its white space single blanks, cut to [`MAX_NAME_BYTES`].
pub(super) fn line(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_NAME_BYTES);
    let words = text[..end].split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// When a generated text is an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerRule {
    /// Its first line is the name of exactly one candidate.
    #[default]
    Exact,
    /// Its first line holds the name of exactly one candidate, in any case: LLaRA's rule, under
    /// which a name inside another one spoils both.
    Contains,
}

impl AnswerRule {
    /// The place among `names` of the one that `text` gives, if it is an answer.
    pub fn read<N: AsRef<str>>(self, text: &str, names: &[N]) -> Option<usize> {
        let line = text.trim_start().lines().next()?.trim();
        let lower = line.to_lowercase();
        let given = |name: &str| {
            !name.is_empty()
                && match self {
                    Self::Exact => name == line,
                    Self::Contains => lower.contains(&name.to_lowercase()),
                }
        };
        let mut places = names.iter().enumerate().filter(|(_, name)| given(name.as_ref()));
        let (place, _) = places.next()?;
        places.next().is_none().then_some(place)
    }
}
