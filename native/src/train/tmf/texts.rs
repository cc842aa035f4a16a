//! What a base model reads besides prompts: the catalogue's text, lists of names, and noise that
//! repeats itself. To answer by a name of its prompt a model must repeat what it has read; from
//! names alone it learns the catalogue by heart first, and long nothing else. Noise cannot be
//! learned by heart.

use tributary_core::Result;
use tributary_core::models::llama::TokenId;
use tributary_core::prompt::{Hybrid, Names};
use tributary_core::random::Random;
use tributary_core::tokenizer::Tokenizer;

use super::TmfDataConfig;
use crate::data::Dataset;

/// Different names of a list; each stands there twice.
const NAMES: u64 = 12;

/// Tokens of a piece of noise that is repeated.
const NOISE: std::ops::Range<u64> = 8..64;

/// Texts to learn word by word.
pub(super) struct Texts {
    lines: Vec<Vec<TokenId>>,
    lists: usize,
    repeats: usize,
    separator: Vec<TokenId>,
    items: u64,
    vocabulary: u64,
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
        let vocabulary = tokenizer.vocab_size() as u64;
        let (lists, repeats) = (config.name_lists, config.repeats);
        Ok(Self { lines, lists, repeats, separator, items, vocabulary })
    }

    /// Lessons of an epoch.
    pub(super) fn len(&self) -> usize {
        self.lines.len() + self.lists + self.repeats
    }

    /// Lesson `i`; lists and noise are drawn anew each time.
    pub(super) fn lesson(&self, i: usize, names: &Names, random: &mut Random) -> Result<Hybrid> {
        let token_ids = match self.lines.get(i) {
            Some(line) => line.clone(),
            None if i < self.lines.len() + self.lists => self.list(names, random)?,
            None => {
                let len = NOISE.start + random.below(NOISE.end - NOISE.start);
                let noise = (0..len).map(|_| random.below(self.vocabulary) as TokenId);
                noise.collect::<Vec<_>>().repeat(2)
            }
        };
        Ok(Hybrid {
            answer: 1..token_ids.len(),
            token_ids,
            soft: Vec::new(),
            history: 0..0,
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
            None => format!("text {} behind the catalogue", i - self.lines.len()),
        }
    }
}
