//! Why an item was recommended: what its score loses without one thing that the model was told.
//!
//! Leave-one-out, so it holds for every recommender and approximates nothing: the request is asked
//! again without an item of its history, and without a modality. Scores of language models are log
//! probabilities among the candidates, so a change of ln 2 means: twice as likely because of it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Recommender;
use super::catalogue::ItemId;
use super::embeddings::Modality;
use super::request::{Recommendations, Request};
use crate::error::{Error, Result};

/// Items of the history, the last ones, that are left out one by one.
pub const MAX_EXPLAINED: usize = 12;

/// What one recommended item owes to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The recommended item.
    pub id: ItemId,
    /// Its score as asked.
    pub score: f32,
    /// Items of the history, the most helpful first.
    pub by_item: Vec<ItemChange>,
    /// Modalities, the most helpful first; none for recommenders that fuse none.
    pub by_modality: Vec<ModalityChange>,
}

/// The score less the score without this item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// An item of the history.
    pub id: ItemId,
    /// Positive where it speaks for the recommendation.
    pub change: f32,
}

/// The score less the score without this modality of all items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModalityChange {
    /// What was hidden.
    pub modality: Modality,
    /// Positive where it speaks for the recommendation.
    pub change: f32,
}

/// Explains the scores of `items`, which `request` may recommend. `modalities` are those that the
/// recommender fuses. Asks it once for every item and modality left out.
///
/// # Errors
/// An item that the request does not rank; whatever the recommender refuses.
pub async fn explain<R: Recommender>(
    recommender: &R,
    request: &Request,
    items: &[ItemId],
    modalities: &[Modality],
) -> Result<Vec<Explanation>> {
    let full = Request { k: usize::MAX, ..request.clone() };
    let mut without_items = Vec::new();
    for id in last_items(&full) {
        let mut without = full.clone();
        without.history.retain(|interaction| interaction.item != id);
        if request.exclude_seen {
            // It stays out of the ranking, so the others compete with whom they did.
            without.exclude.push(id.clone());
        }
        // The prior of a user without history is no score of the model.
        let answer = match without.history.is_empty() {
            true => None,
            false => Some(recommender.recommend(&without).await?),
        };
        without_items.push((id, answer));
    }
    let mut without_modalities = Vec::new();
    for &modality in modalities.iter().filter(|modality| !request.hide.contains(modality)) {
        let mut without = full.clone();
        without.hide.push(modality);
        without_modalities.push((modality, recommender.recommend(&without).await?));
    }
    // Last, so that what a recommender keeps of its last request serves this one with an event more.
    let answer = recommender.recommend(&full).await?;
    // What says nothing about a user gives all items the mean.
    let sum: f32 = answer.items.iter().map(|item| item.score).sum();
    let mean = sum / answer.items.len().max(1) as f32;

    let explain = |id: &ItemId| {
        let score = score_of(&answer, id).ok_or_else(|| {
            Error::argument("explain", "items", "items that the request ranks", id)
        })?;
        let by_item = without_items.iter().filter_map(|(left_out, other)| {
            let without = match other {
                Some(other) => score_of(other, id)?,
                None => mean,
            };
            Some(ItemChange { id: left_out.clone(), change: score - without })
        });
        let by_modality = without_modalities.iter().filter_map(|(modality, other)| {
            let change = score - score_of(other, id)?;
            Some(ModalityChange { modality: *modality, change })
        });
        let (mut by_item, mut by_modality): (Vec<_>, Vec<_>) =
            (by_item.collect(), by_modality.collect());
        by_item.sort_by(|a, b| b.change.total_cmp(&a.change));
        by_modality.sort_by(|a, b| b.change.total_cmp(&a.change));
        Ok(Explanation { id: id.clone(), score, by_item, by_modality })
    };
    items.iter().map(explain).collect()
}

fn score_of(answer: &Recommendations, id: &ItemId) -> Option<f32> {
    answer.items.iter().find(|item| item.id == *id).map(|item| item.score)
}

/// The last distinct items of the history, the newest first.
fn last_items(request: &Request) -> Vec<ItemId> {
    let mut seen = HashSet::new();
    let newest = request.history.iter().rev().map(|interaction| &interaction.item);
    newest.filter(|item| seen.insert(*item)).take(MAX_EXPLAINED).cloned().collect()
}
