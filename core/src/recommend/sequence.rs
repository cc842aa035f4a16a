//! A recommender that is one sequence model: the user's items in, scores of all items out.

use std::collections::HashSet;

use super::catalogue::{Catalogue, ItemIndex};
use super::ranking::{self, Ranked};
use super::request::{RankedItem, Recommendations, Request, Timings, Usage};
use super::{Recommender, Scorer, first_occurrences, select};
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::models::sasrec::{RepeatedItems, SasRec, SasRecConfig, SeenItems};
use crate::weights::Weights;

/// Milliseconds since some fixed moment. On wasm32 the standard library has no clock, so the page's
/// `performance.now` is passed in.
pub type Clock = fn() -> f64;

/// SASRec over a catalogue: item `i` of the catalogue is item `i` of the model.
#[derive(Debug)]
pub struct SequenceRecommender<B: Backend> {
    backend: B,
    model: SasRec<B>,
    catalogue: Catalogue,
    prior: Vec<f32>, // (num_items)
    clock: Clock,
}

impl<B: Backend> SequenceRecommender<B> {
    /// The model of these weights over `catalogue`, or over ids `first_item_id..` when the
    /// checkpoint came without one.
    ///
    /// # Errors
    /// A catalogue with another number of items than the model; whatever [`SasRec::load`] refuses.
    pub fn load(
        weights: &Weights<'_, B>,
        config: SasRecConfig,
        catalogue: Option<Catalogue>,
    ) -> Result<Self> {
        let catalogue = match catalogue {
            Some(catalogue) => catalogue,
            None => Catalogue::numbered(config.first_item_id, config.num_items)?,
        };
        if catalogue.len() != config.num_items {
            let expected = format!("{} items, as `num_items` says", config.num_items);
            return Err(Error::argument("sasrec", "catalogue", expected, catalogue.len()));
        }
        let backend = weights.backend().clone();
        let model = SasRec::load(weights, config)?;
        Ok(Self { backend, model, prior: catalogue.prior(), catalogue, clock: system_clock })
    }

    /// The same, with timings from this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The model inside.
    pub fn model(&self) -> &SasRec<B> {
        &self.model
    }

    /// The items a model sees of a history: known ones, repeats as the configuration says, the last
    /// `max_seq_len`.
    fn context(&self, history: &[ItemIndex]) -> Vec<ItemIndex> {
        let config = self.model.config();
        let mut items = match config.repeated_items {
            RepeatedItems::Keep => history.to_vec(),
            RepeatedItems::First => first_occurrences(history),
        };
        items.drain(..items.len().saturating_sub(config.max_seq_len));
        items
    }

    /// Raw scores of packed contexts, none of them empty: (contexts, num_items) in catalogue order.
    async fn score(&self, contexts: &[Vec<ItemIndex>]) -> Result<Vec<f32>> {
        let (b, config) = (&self.backend, self.model.config());
        let lengths: Vec<usize> = contexts.iter().map(Vec::len).collect();
        let segments = Segments::new(&lengths)?;
        let rows: Vec<u32> = contexts.iter().flatten().map(|&item| config.row(item)).collect();
        let hidden = self.model.forward(b, &rows, &segments)?;
        let last = b.gather_rows(&hidden, &segments.last_rows())?;
        let scores = b.read(&self.model.scores(b, &last)?).await?;
        // Drop the columns of no item.
        let (first, columns) = (config.column(0) as usize, config.num_columns());
        if first == 0 && columns == config.num_items {
            return Ok(scores);
        }
        let items = first..first + config.num_items;
        Ok(scores.chunks_exact(columns).flat_map(|row| &row[items.clone()]).copied().collect())
    }
}

impl<B: Backend> Recommender for SequenceRecommender<B> {
    fn name(&self) -> &str {
        "sasrec"
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    async fn recommend(&self, request: &Request) -> Result<Recommendations> {
        let started = (self.clock)();
        select::items_only(self.name(), request)?;
        let (history, unknown_items) = select::history(&self.catalogue, request)?;
        let history: Vec<_> = history.into_iter().map(|(item, _)| item).collect();
        let seen: HashSet<_> = history.iter().copied().collect();
        let drop_seen =
            request.exclude_seen && self.model.config().seen_items == SeenItems::Exclude;
        let nothing = HashSet::new();
        let dropped = if drop_seen { &seen } else { &nothing };
        let candidates = select::candidates(&self.catalogue, request, dropped)?;
        let context = self.context(&history);
        let history_items = context.len();
        let prepared = (self.clock)();

        let nothing_to_rank = candidates.is_empty() || request.k == 0;
        let scores = match (nothing_to_rank, context.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => self.prior.clone(),
            (false, false) => self.score(&[context]).await?,
        };
        let scored = (self.clock)();

        let score_zero =
            request.exclude_seen && self.model.config().seen_items == SeenItems::ScoreZero;
        let score = |item: ItemIndex| match scores.get(item as usize) {
            Some(score) if !score.is_nan() && score_zero && seen.contains(&item) => 0.0,
            Some(&score) => score,
            None => f32::NAN,
        };
        let ranked: Vec<Ranked> = match nothing_to_rank {
            true => Vec::new(),
            false => candidates.iter().map(|&item| (item, score(item))).collect(),
        };
        let items = ranking::top(&self.catalogue, &ranked, request.k)?;
        let items = items.into_iter().zip(1..).map(|((item, score), rank)| {
            let id = self.catalogue.items()[item as usize].id.clone();
            RankedItem { id, score, rank }
        });
        let items = items.collect();
        let ended = (self.clock)();
        Ok(Recommendations {
            items,
            timings: Timings {
                prepare_ms: prepared - started,
                forward_ms: scored - prepared,
                rank_ms: ended - scored,
                total_ms: ended - started,
                ..Timings::default()
            },
            usage: Usage {
                history_items,
                unknown_items,
                candidates: candidates.len(),
                ..Usage::default()
            },
            backend: self.backend.info().into(),
            valid: true,
        })
    }
}

impl<B: Backend> Scorer for SequenceRecommender<B> {
    fn num_items(&self) -> usize {
        self.catalogue.len()
    }

    fn seen_items(&self) -> SeenItems {
        self.model.config().seen_items
    }

    fn repeated_items(&self) -> RepeatedItems {
        self.model.config().repeated_items
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        let contexts: Vec<_> = histories.iter().map(|history| self.context(history)).collect();
        if let Some(item) = contexts.iter().flatten().find(|&&i| i as usize >= self.num_items()) {
            let expected = format!("items below {}", self.num_items());
            return Err(Error::argument("score_batch", "histories", expected, item));
        }
        if contexts.iter().all(|context| !context.is_empty()) && !contexts.is_empty() {
            return self.score(&contexts).await;
        }
        let known: Vec<_> = contexts.iter().filter(|c| !c.is_empty()).cloned().collect();
        let scores = if known.is_empty() { Vec::new() } else { self.score(&known).await? };
        let mut rows = scores.chunks_exact(self.num_items().max(1));
        let mut all = Vec::with_capacity(histories.len() * self.num_items());
        for context in &contexts {
            let row = if context.is_empty() { None } else { rows.next() };
            all.extend_from_slice(row.unwrap_or(&self.prior));
        }
        Ok(all)
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(super) fn system_clock() -> f64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

#[cfg(target_arch = "wasm32")]
pub(super) fn system_clock() -> f64 {
    0.0
}
