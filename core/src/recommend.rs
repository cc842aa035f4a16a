//! Floor 8, requests to ranked items: raw item ids in, raw item ids out, for every recommender.
//!
//! What each unusual request means, the same for all recommenders:
//!
//! | request | answer |
//! |---|---|
//! | `k` = 0, or `candidates` an empty list | no items |
//! | `k` larger than what may be recommended | everything that may be, ranked |
//! | a candidate named twice | ranked once, where it came first |
//! | a candidate the catalogue does not know | `Err` naming it |
//! | an unknown id in `history` | skipped, counted in `usage.unknown_items` |
//! | an unknown id in `exclude` | nothing: it could not be recommended anyway |
//! | a history without any known item | the catalogue's prior |
//! | a history longer than the model's context | its last items; all of them count as seen |
//! | a behaviour, in `history` or asked for, that the recommender does not know | `Err` naming those it knows |
//! | more candidates than a language model reads at once | the retriever chooses; the others rank behind, in its order |
//! | a score that is NaN | `Err` naming the item |
//! | equal scores | order of `candidates`, else of the catalogue |

mod bundle;
mod catalogue;
mod clock;
mod embeddings;
mod explain;
mod graph;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod kind;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod mllm4rec;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod mllm_srec;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod prompted;
mod ranking;
mod request;
mod select;
mod sequence;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod tmf;

pub use bundle::{
    ALMOST_REC_CONFIG, ALMOST_REC_WEIGHTS, BUNDLE_FILE, BUNDLE_FORMAT_VERSION, Bundle, BundleFile,
    BundleManifest, BundleText, CATALOGUE_FILE, COMPONENT_FILES, Component, ENCODER_FILES,
    FUSION_CONFIG, FUSION_WEIGHTS, GRAPH_TABLE, IMAGE_TABLE, MAX_MANIFEST_BYTES, MLLM_SREC_CONFIG,
    MLLM4REC_CONFIG, RETRIEVER_FILES, SEQUENCE_TABLE, SUMMARIES, TEMPLATE, TEXT_TABLE, TMF_CONFIG,
};
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use bundle::{behaviour_rows, one_hot, prompt_tokens, title_tokens};
pub use catalogue::{
    Catalogue, CatalogueItem, ItemId, ItemIndex, MAX_DESCRIPTION_BYTES, MAX_TITLE_BYTES,
};
pub use clock::Clock;
pub use embeddings::{
    EmbeddingTable, ItemEmbeddings, Modality, TABLE_ITEMS, TABLE_MODALITY, TABLE_PRESENT,
};
pub use explain::{Explanation, ItemChange, MAX_EXPLAINED, ModalityChange, explain};
pub use graph::{GraphModel, GraphRecommender, TABLE_BEHAVIOURS};
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use kind::Kind;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use mllm_srec::{MllmSrecConfig, MllmSrecParts, MllmSrecRecommender, Summarised, item_words};
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use mllm4rec::{Mllm4RecConfig, Mllm4RecParts, Mllm4RecRecommender};
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use prompted::{PREFIX_CACHE_BYTES, Prior};
pub use ranking::{Ranked, rank_of, top, top_items};
pub use request::{
    Filter, Interaction, RankedItem, Recommendations, Request, RunsOn, Timings, Usage,
};
pub use sequence::SequenceRecommender;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use tmf::{Answer, Decoding, TmfConfig, TmfParts, TmfRecommender, Written, name_tokens};

use crate::error::{Error, Result};
use crate::models::sequence::{RepeatedItems, SeenItems};

/// Something that answers requests.
#[expect(
    async_fn_in_trait,
    reason = "no caller needs the future to be Send: pollster or the page's loop waits"
)]
pub trait Recommender {
    /// The name bundles select it by, such as `sasrec`.
    fn name(&self) -> &str;
    /// The items it knows.
    fn catalogue(&self) -> &Catalogue;
    /// The best items for one user; see the module for what unusual requests mean.
    async fn recommend(&self, request: &Request) -> Result<Recommendations>;
}

/// What evaluation asks of a scorer: which item comes after this history?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question<'a> {
    /// Items of the history, oldest first.
    pub items: &'a [ItemIndex],
    /// What was done to each of them; empty where nobody knows.
    pub behaviours: &'a [&'a str],
    /// What will be done to the item that is asked for, where that is part of the question.
    pub target_behaviour: Option<&'a str>,
    /// The only items to score, each once; all of them for `None`.
    pub candidates: Option<&'a [ItemIndex]>,
}

impl Question<'_> {
    /// The answer of somebody who scored all items: `row` (num_items).
    ///
    /// # Errors
    /// A candidate that is not an item.
    fn answer(&self, row: &[f32]) -> Result<Scores> {
        let score = |&item: &ItemIndex| {
            row.get(item as usize).copied().ok_or_else(|| {
                let expected = format!("items below {}", row.len());
                Error::argument("answer_batch", "candidates", expected, item)
            })
        };
        let scores = match self.candidates {
            Some(candidates) => candidates.iter().map(score).collect::<Result<_>>()?,
            None => row.to_vec(),
        };
        Ok(Scores { scores, valid: true, read: None })
    }
}

/// What a scorer says to a [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// (candidates) in the order of the question, or (num_items); raw, no seen item masked.
    pub scores: Vec<f32>,
    /// The answer names an item that was asked for. False only where free text named none, and then
    /// the scores mean nothing.
    pub valid: bool,
    /// Where a retriever chose what a language model read: how many of the best-scored items it read.
    /// The others are in the retriever's order. `None` where all scores are of one kind.
    pub read: Option<usize>,
}

/// Something that scores the items of a catalogue for many users at once: what evaluation and
/// retrieval need.
#[expect(
    async_fn_in_trait,
    reason = "no caller needs the future to be Send: pollster or the page's loop waits"
)]
pub trait Scorer {
    /// Items that are scored; an [`ItemIndex`] is below it.
    fn num_items(&self) -> usize;
    /// How its published protocol treats items of the history.
    fn seen_items(&self) -> SeenItems {
        SeenItems::Exclude
    }
    /// Whether a history keeps repeated items.
    fn repeated_items(&self) -> RepeatedItems {
        RepeatedItems::Keep
    }
    /// Raw scores (histories, num_items), row-major, no seen item masked. A history is oldest first;
    /// an empty one gets the prior.
    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>>;
    /// One answer per question. A scorer that reads behaviours, or that need not score all items to
    /// score a few, has its own way; what is here looks the candidates up in
    /// [`Scorer::score_batch`].
    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        let histories: Vec<_> = questions.iter().map(|question| question.items).collect();
        let rows = self.score_batch(&histories).await?;
        let rows = rows.chunks_exact(self.num_items().max(1));
        questions.iter().zip(rows).map(|(question, row)| question.answer(row)).collect()
    }
}

/// Each item's first occurrence, in order.
pub fn first_occurrences(items: &[ItemIndex]) -> Vec<ItemIndex> {
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    items.iter().copied().filter(|&item| seen.insert(item)).collect()
}
