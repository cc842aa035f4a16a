//! What a base model reads besides prompts: the catalogue's text, and lists of names.

use tributary_core::Result;
use tributary_core::models::llama::TokenId;
use tributary_core::prompt::{Hybrid, Names};
use tributary_core::random::Random;
use tributary_core::tokenizer::Tokenizer;

use super::TmfDataConfig;
use crate::data::Dataset;

/// Different names of a list; each stands there twice.
const NAMES: u64 = 12;

/// Texts to learn word by word.
pub(super) struct Texts {
    lines: Vec<Vec<TokenId>>,
    lists: usize,
    separator: Vec<TokenId>,
    items: u64,
}

impl Texts {
    pub(super) fn new(
        dataset: &Dataset,
        config: &TmfDataConfig,
        tokenizer: &Tokenizer,
        end: TokenId,
    ) -> Result<Self> {
        let mut lines = Vec::new();
        if config.catalogue_lessons > 0 {
            for item in dataset.catalogue.items() {
                let text = match &item.description {
                    Some(text) => format!(" {}. {text}", item.title),
                    None => format!(" {}", item.title),
                };
                let mut line = tokenizer.encode_content(&text)?;
                line.push(end);
                lines.push(line);
            }
        }
        let lines: Vec<_> = (0..config.catalogue_lessons).flat_map(|_| lines.clone()).collect();
        let items = dataset.catalogue.len() as u64;
        let separator = tokenizer.encode_content(";")?;
        Ok(Self { lines, lists: config.name_lists, separator, items })
    }

    /// Lessons of an epoch.
    pub(super) fn len(&self) -> usize {
        self.lines.len() + self.lists
    }

    /// Lesson `i`; lists are drawn anew each time.
    pub(super) fn lesson(&self, i: usize, names: &Names, random: &mut Random) -> Result<Hybrid> {
        let token_ids = match self.lines.get(i) {
            Some(line) => line.clone(),
            None => self.list(names, random)?,
        };
        Ok(Hybrid {
            answer: 1..token_ids.len(),
            token_ids,
            soft: Vec::new(),
            history: 0..0,
            history_rows: Vec::new(),
            event_rows: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// Names behind each other, each twice, so that half of it can be told from what stands before.
    fn list(&self, names: &Names, random: &mut Random) -> Result<Vec<TokenId>> {
        let mut list: Vec<u32> = (0..NAMES.min(self.items))
            .map(|_| random.below(self.items) as u32)
            .flat_map(|item| [item, item])
            .collect();
        let len = list.len();
        random.shuffle(&mut list, len);
        let mut tokens = self.separator.clone();
        for item in list {
            tokens.extend_from_slice(names.tokens(item)?);
            tokens.extend_from_slice(&self.separator);
        }
        Ok(tokens)
    }

    /// Lesson `i`, for errors.
    pub(super) fn name(&self, i: usize) -> String {
        match self.lines.len().checked_sub(i + 1) {
            Some(_) => format!("line {i} of the catalogue"),
            None => format!("list {} of names", i - self.lines.len()),
        }
    }
}
