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
    let answer = recommender.recommend(&full).await?;
    let mut explanations = Vec::with_capacity(items.len());
    for id in items {
        let score = score(&answer, id).ok_or_else(|| {
            Error::argument("explain", "items", "items that the request ranks", id)
        })?;
        let (id, by_item, by_modality) = (id.clone(), Vec::new(), Vec::new());
        explanations.push(Explanation { id, score, by_item, by_modality });
    }
    let sum: f32 = answer.items.iter().map(|item| item.score).sum();
    let mean = sum / answer.items.len().max(1) as f32;
    for left_out in last_items(&full) {
        let mut without = full.clone();
        without.history.retain(|interaction| interaction.item != left_out);
        // It stays where it was: out of the ranking if the whole history keeps it out.
        if score(&answer, &left_out).is_none() {
            without.exclude.push(left_out.clone());
        }
        // The prior of a user without history is no score of the model: what says nothing about a user
        // gives all items the mean.
        let other = match without.history.is_empty() {
            true => None,
            false => Some(recommender.recommend(&without).await?),
        };
        for explanation in &mut explanations {
            let without = match &other {
                Some(other) => score(other, &explanation.id),
                None => Some(mean),
            };
            if let Some(score) = without {
                let change = explanation.score - score;
                explanation.by_item.push(ItemChange { id: left_out.clone(), change });
            }
        }
    }
    for &modality in modalities.iter().filter(|modality| !request.hide.contains(modality)) {
        let mut without = full.clone();
        without.hide.push(modality);
        let other = recommender.recommend(&without).await?;
        for explanation in &mut explanations {
            if let Some(score) = score(&other, &explanation.id) {
                let change = explanation.score - score;
                explanation.by_modality.push(ModalityChange { modality, change });
            }
        }
    }
    for explanation in &mut explanations {
        explanation.by_item.sort_by(|a, b| b.change.total_cmp(&a.change));
        explanation.by_modality.sort_by(|a, b| b.change.total_cmp(&a.change));
    }
    Ok(explanations)
}

fn score(answer: &Recommendations, id: &ItemId) -> Option<f32> {
    answer.items.iter().find(|item| item.id == *id).map(|item| item.score)
}

/// The last distinct items of the history, the newest first.
fn last_items(request: &Request) -> Vec<ItemId> {
    let mut seen = HashSet::new();
    let newest = request.history.iter().rev().map(|interaction| &interaction.item);
    newest.filter(|item| seen.insert(*item)).take(MAX_EXPLAINED).cloned().collect()
}
