//! What a request's ids mean, the same for every recommender.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::catalogue::{Catalogue, ItemIndex};
use super::first_occurrences;
use super::request::{Interaction, Request};
use crate::error::{Error, Result};

/// `Err` for a request that `recommender`, which reads items alone, has no answer to.
pub(super) fn items_only(recommender: &str, request: &Request) -> Result<()> {
    if request.query.is_some() {
        let expected = format!("none: {recommender} reads no text");
        return Err(Error::argument("recommend", "query", expected, "one"));
    }
    if !request.hide.is_empty() {
        let expected = format!("none: {recommender} fuses no modalities");
        return Err(Error::argument("recommend", "hide", expected, request.hide.len()));
    }
    Ok(())
}

/// Known items of the request's history with their interactions, oldest first, and how many are
/// unknown.
pub(super) fn history<'r>(
    catalogue: &Catalogue,
    request: &'r Request,
) -> Result<(Vec<(ItemIndex, &'r Interaction)>, usize)> {
    let mut history: Vec<_> = request.history.iter().collect();
    if let Some(time) = history.iter().filter_map(|i| i.time).find(|time| !time.is_finite()) {
        return Err(Error::argument("recommend", "history.time", "a finite number", time));
    }
    if history.iter().all(|interaction| interaction.time.is_some()) {
        history.sort_by(|a, b| a.time.partial_cmp(&b.time).unwrap_or(Ordering::Equal));
    }
    let known = history.iter().filter_map(|i| Some((catalogue.index_of(&i.item)?, *i)));
    let known: Vec<_> = known.collect();
    let unknown = history.len() - known.len();
    Ok((known, unknown))
}

/// What may be recommended, in the order that breaks ties: the request's candidates or the whole
/// catalogue, without what it excludes and filters, and without `seen`.
pub(super) fn candidates(
    catalogue: &Catalogue,
    request: &Request,
    seen: &HashSet<ItemIndex>,
) -> Result<Vec<ItemIndex>> {
    let exclude: HashSet<_> =
        request.exclude.iter().filter_map(|id| catalogue.index_of(id)).collect();
    let allowed = |item: ItemIndex| {
        !(seen.contains(&item) || exclude.contains(&item))
            && (request.filter.is_empty()
                || catalogue.get(item).is_some_and(|item| request.filter.passes(item)))
    };
    let Some(candidates) = &request.candidates else {
        return Ok((0..catalogue.len() as ItemIndex).filter(|&i| allowed(i)).collect());
    };
    let mut indices = Vec::with_capacity(candidates.len());
    for id in candidates {
        indices.push(catalogue.index_of(id).ok_or_else(|| {
            Error::argument("recommend", "candidates", "ids of the catalogue", id)
        })?);
    }
    let mut indices = first_occurrences(&indices);
    indices.retain(|&item| allowed(item));
    Ok(indices)
}
