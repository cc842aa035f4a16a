//! Floor 6: a request as a hybrid prompt (TMF, arXiv 2410.12228, section 4.2 and Figure 3): token
//! ids, and the places where the embedding of an item or of a behaviour stands instead of a token.
//!
//! Text that comes from a catalogue or a user is tokenised on its own, apart from the template's:
//! nothing in it can become a special token or a placeholder.

mod builder;
mod chain;
mod labels;
mod letters;
mod names;
mod template;
mod text;
mod window;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use builder::{PromptBuilder, PromptOptions, PromptRequest};
pub use chain::{
    Chain, ChainOptions, ChainPrompts, ChainTemplate, ItemWording, ItemWords, Preference,
};
pub use letters::{
    LabelToken, LetterOptions, LetterPrompt, LetterPrompts, LetterTemplate, MAX_LETTERS,
};
pub use names::{AnswerRule, MAX_NAME_BYTES, Names};
pub use template::{BehaviourWords, Pattern, Template};
#[cfg(feature = "tokenizer")]
pub use text::template_json;
pub use text::{MAX_TEMPLATE_BYTES, TextPattern};
pub use window::Window;

use crate::models::llama::TokenId;

/// Stands at the places of soft tokens. It says nothing: its embedding is written over.
pub const SOFT_TOKEN_ID: TokenId = 0;

/// What a prompt is made of: the three tasks of Figure 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// (a) Names only.
    Text,
    /// (b) And a soft token behind every behaviour.
    Behaviour,
    /// (c) And a soft token behind every item.
    #[default]
    Item,
}

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hybrid {
    /// Token ids; [`SOFT_TOKEN_ID`] where a soft token stands.
    pub token_ids: Vec<TokenId>,
    /// The soft tokens by position.
    pub soft: Vec<Soft>,
    /// The interactions of the request that the prompt holds: its last ones.
    pub history: Range<usize>,
    /// The order in which the request's candidates are named: places in its list.
    pub candidates: Vec<usize>,
    /// The position before each entry of the history names its item, and the item: where one could be
    /// asked which item comes.
    pub history_rows: Vec<(usize, u32)>,
    /// The position of each entry's item: of its soft token, below the level of items of its name's
    /// last token.
    pub event_rows: Vec<usize>,
    /// Positions of the answer and its end in `token_ids`; empty without an answer. The row before
    /// each of them predicts it.
    pub answer: Range<usize>,
}

impl Hybrid {
    /// Begins the answer with the token of `item`, the request's candidate at `place`.
    pub fn point(&mut self, item: u32, place: usize) {
        let position = self.token_ids.len();
        self.soft.push(Soft { position, kind: SoftKind::Candidate { item, place } });
        self.token_ids.push(SOFT_TOKEN_ID);
        self.answer = position..position + 1;
    }
}

/// A place that an embedding takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soft {
    /// Position in the prompt.
    pub position: usize,
    /// Which embedding.
    pub kind: SoftKind,
}

/// Which embedding a soft token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftKind {
    /// A behaviour, by its place in the list of behaviours.
    Behaviour(u32),
    /// An item of the history.
    History {
        /// The item.
        item: u32,
        /// Its place among the interactions the prompt holds: the row of the fused history.
        place: usize,
        /// What was done to it, at last.
        behaviour: u32,
    },
    /// A candidate.
    Candidate {
        /// The item.
        item: u32,
        /// Its place in the request's list.
        place: usize,
    },
}

impl Hybrid {
    /// Soft tokens that stand for items.
    pub fn item_tokens(&self) -> usize {
        self.soft.iter().filter(|soft| !matches!(soft.kind, SoftKind::Behaviour(_))).count()
    }
}
