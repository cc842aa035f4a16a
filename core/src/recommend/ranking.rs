//! Scores to ranks, on the host.
//!
//! Every score is looked at, because a NaN must be an error and not a bad place: that is why an
//! answer is ranked here and not by `Backend::top_k`, which ranks NaN last without a word.

use std::cmp::Ordering;

use super::catalogue::{Catalogue, ItemIndex};
use crate::error::{Error, Result};

/// An item with its score.
pub type Ranked = (ItemIndex, f32);

/// The `k` best of `candidates`, best first, equal scores in the order given.
///
/// # Errors
/// A score that is NaN, naming the item.
pub fn top(catalogue: &Catalogue, candidates: &[Ranked], k: usize) -> Result<Vec<Ranked>> {
    if let Some((item, _)) = candidates.iter().find(|(_, score)| score.is_nan()) {
        return Err(nan(&catalogue.name(*item)));
    }
    let better = |&a: &usize, &b: &usize| -> Ordering {
        // -0 and 0 are equal scores, as `<` has it.
        let (score_a, score_b) = (candidates[a].1, candidates[b].1);
        score_b.partial_cmp(&score_a).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    if k < order.len() {
        if k > 0 {
            order.select_nth_unstable_by(k - 1, better);
        }
        order.truncate(k);
    }
    order.sort_unstable_by(better);
    Ok(order.into_iter().map(|place| candidates[place]).collect())
}

/// How many of `candidates` rank before `target`: those with a higher score, and those with the
/// same score and a lower index. 0 is the best.
///
/// # Errors
/// A NaN among the scores, naming the item.
pub fn rank_of(
    scores: &[f32],
    target: ItemIndex,
    candidates: impl IntoIterator<Item = ItemIndex>,
) -> Result<usize> {
    let score = |item: ItemIndex| match scores.get(item as usize) {
        Some(score) if score.is_nan() => Err(nan(&format!("#{item}"))),
        Some(&score) => Ok(score),
        None => Err(Error::argument("rank_of", "item", format!("below {}", scores.len()), item)),
    };
    let target_score = score(target)?;
    let mut rank = 0;
    for item in candidates {
        let score = score(item)?;
        rank += usize::from(score > target_score || score == target_score && item < target);
    }
    Ok(rank)
}

/// The `k` best of `candidates`, best first; equal scores by the lower index, as [`rank_of`] counts
/// them. Needs room for 2 `k` items, however many candidates there are. A NaN, which `rank_of`
/// refuses, has no place here.
pub fn top_items(
    scores: &[f32],
    candidates: impl IntoIterator<Item = ItemIndex>,
    k: usize,
) -> Vec<ItemIndex> {
    let score = |item: ItemIndex| scores.get(item as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let better = |&a: &ItemIndex, &b: &ItemIndex| {
        score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    };
    let mut best: Vec<ItemIndex> = Vec::new();
    let mut worst = f32::NEG_INFINITY;
    if k == 0 {
        return best;
    }
    for item in candidates {
        if score(item) < worst {
            continue;
        }
        best.push(item);
        // Only now and then, so that an item costs one comparison on average.
        if best.len() >= k.saturating_mul(2) {
            best.select_nth_unstable_by(k - 1, better);
            best.truncate(k);
            worst = best.last().map_or(worst, |&item| score(item));
        }
    }
    best.sort_unstable_by(better);
    best.truncate(k);
    best
}

fn nan(item: &str) -> Error {
    Error::argument("recommend", "score", "a number", format!("NaN for item {item}"))
}
