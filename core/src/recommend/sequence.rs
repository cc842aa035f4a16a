//! A recommender that is one sequence model: the user's items in, scores of all items out.

mod states;

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::catalogue::{Catalogue, ItemIndex};
use super::clock::{Clock, system_clock};
use super::ranking::{self, Ranked};
use super::request::{RankedItem, Recommendations, Request, Timings, Usage};
use super::{Recommender, Scorer, first_occurrences, select};
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::models::almost_rec::{AlmostRec, ItemPrompt};
use crate::models::lru_rec::LruRec;
use crate::models::sequence::{RepeatedItems, SeenItems, SequenceConfig, SequenceModel};
use crate::session::{Session, SoftTokens};
use crate::weights::Weights;
use states::States;

/// A prompt's window of items moves on by its length over this.
const WINDOW_STEPS: usize = 4;

/// A sequence model over a catalogue: item `i` of the catalogue is item `i` of the model.
#[derive(Debug)]
pub struct SequenceRecommender<B: Backend> {
    backend: B,
    model: SequenceModel<B>,
    catalogue: Catalogue,
    prior: Vec<f32>, // (num_items)
    clock: Clock,
    /// Of recent requests, where the model is recurrent: a user's new event costs one step.
    states: Mutex<States<B>>,
}

impl<B: Backend> SequenceRecommender<B> {
    /// The model of these weights over `catalogue`, or over ids `first_item_id..` when the
    /// checkpoint came without one.
    ///
    /// # Errors
    /// A catalogue with another number of items than the model; whatever [`SequenceModel::load`]
    /// refuses.
    pub fn load(
        weights: &Weights<'_, B>,
        config: impl Into<SequenceConfig>,
        catalogue: Option<Catalogue>,
    ) -> Result<Self> {
        let backend = weights.backend().clone();
        Self::new(backend, SequenceModel::load(weights, config.into())?, catalogue)
    }

    /// The same of a model that is loaded.
    ///
    /// # Errors
    /// A catalogue with another number of items than the model.
    pub fn new(backend: B, model: SequenceModel<B>, catalogue: Option<Catalogue>) -> Result<Self> {
        let items = model.config().items();
        let catalogue = match catalogue {
            Some(catalogue) => catalogue,
            None => Catalogue::numbered(items.first_item_id, items.num_items)?,
        };
        if catalogue.len() != items.num_items {
            let expected = format!("{} items, as `num_items` says", items.num_items);
            let model = model.config().model_type();
            return Err(Error::argument(model, "catalogue", expected, catalogue.len()));
        }
        let (prior, states) = (catalogue.prior(), Mutex::default());
        Ok(Self { backend, model, prior, catalogue, clock: system_clock, states })
    }

    /// The same, with timings from this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The model inside.
    pub fn model(&self) -> &SequenceModel<B> {
        &self.model
    }

    /// The items a model sees of a history: known ones, repeats as the configuration says, the last
    /// `max_seq_len`. A recurrence sees all of them: its state is the same size after any number, and
    /// windows would begin anew with every event.
    fn context(&self, history: &[ItemIndex]) -> Vec<ItemIndex> {
        let config = self.model.config().items();
        let mut items = match config.repeated_items {
            RepeatedItems::Keep => history.to_vec(),
            RepeatedItems::First => first_occurrences(history),
        };
        let too_many = items.len().saturating_sub(config.max_seq_len);
        let dropped = match self.model.recurrent() {
            Some(_) => 0,
            // In steps: a prompt that begins as the one before is read from there on.
            None if self.model.multimodal().is_some() => {
                too_many.next_multiple_of((config.max_seq_len / WINDOW_STEPS).max(1))
            }
            None => too_many,
        };
        items.drain(..dropped.min(items.len().saturating_sub(1)));
        items
    }

    /// Raw scores of packed contexts, none of them empty: (contexts, num_items) in catalogue order.
    async fn score(&self, contexts: &[Vec<ItemIndex>]) -> Result<Vec<f32>> {
        if contexts.len() > self.model.batch() {
            let mut scores = Vec::with_capacity(contexts.len() * self.num_items());
            for contexts in contexts.chunks(self.model.batch()) {
                scores.extend(Box::pin(self.score(contexts)).await?);
            }
            return Ok(scores);
        }
        let (b, config) = (&self.backend, self.model.config());
        let lengths: Vec<usize> = contexts.iter().map(Vec::len).collect();
        let segments = Segments::new(&lengths)?;
        let rows: Vec<u32> =
            contexts.iter().flatten().map(|&item| config.items().row(item)).collect();
        let hidden = self.model.forward(b, &rows, &segments)?;
        self.read_scores(&b.gather_rows(&hidden, &segments.last_rows())?).await
    }

    /// Raw scores of one context that is not empty, and what of it was computed.
    async fn score_one(&self, context: Vec<ItemIndex>) -> Result<(Vec<f32>, Usage)> {
        let history_items = context.len();
        let usage = Usage { history_items, ..Usage::default() };
        if let Some(model) = self.model.recurrent() {
            let (scores, cached_items) = self.continue_recurrence(model, context).await?;
            return Ok((scores, Usage { cached_items, ..usage }));
        }
        if let Some(model) = self.model.multimodal() {
            let (scores, tokens) = self.continue_prompt(model, &context).await?;
            return Ok((scores, Usage { history_items, ..tokens }));
        }
        Ok((self.score(&[context]).await?, usage))
    }

    fn states(&self) -> MutexGuard<'_, States<B>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The scores, and how many items were known from an earlier request.
    async fn continue_recurrence(
        &self,
        model: &LruRec<B>,
        context: Vec<ItemIndex>,
    ) -> Result<(Vec<f32>, usize)> {
        let (b, items) = (&self.backend, self.model.config().items());
        let found = self.states().longest(&context);
        let (known, state) = found.map_or((0, None), |(known, state)| (known, Some(state)));
        let state = match state {
            Some(state) if known == context.len() => state,
            state => {
                let rows: Vec<u32> = context[known..].iter().map(|&item| items.row(item)).collect();
                let segments = Segments::one(rows.len())?;
                model.step(b, &rows, &segments, state.as_ref())?
            }
        };
        let scores = self.read_scores(&state.hidden).await?;
        self.states().keep(context, state);
        Ok((scores, known))
    }

    /// The scores, and the tokens of the prompt and of what an earlier request left of it.
    async fn continue_prompt(
        &self,
        model: &AlmostRec<B>,
        context: &[ItemIndex],
    ) -> Result<(Vec<f32>, Usage)> {
        let b = &self.backend;
        let ItemPrompt { tokens, positions, identities, rows, images } =
            model.prompt(b, context)?;
        let kept = self.states().session.take();
        let mut session = match kept {
            Some(session) => session,
            None => Session::new(b.clone(), model.llama().clone(), usize::MAX)?,
        };
        let soft = SoftTokens { positions: &positions, identities: &identities, rows: &rows };
        let cost = session.prefill_soft(&tokens, &soft)?;
        let missing = || Error::Internal("almost_rec: a prompt without a last state".into());
        let scores = self.read_scores(session.last_state().ok_or_else(missing)?).await?;
        self.states().session = Some(session);
        let usage = Usage {
            prompt_tokens: cost.prompt_tokens,
            cached_tokens: cost.cached_tokens,
            image_tokens: images,
            ..Usage::default()
        };
        Ok((scores, usage))
    }

    /// Scores after hidden states: (states, num_items) in catalogue order.
    async fn read_scores(&self, hidden: &B::Tensor) -> Result<Vec<f32>> {
        let (b, config) = (&self.backend, self.model.config());
        let scores = b.read(&self.model.scores(b, hidden)?).await?;
        // Drop the columns of no item.
        let (first, columns) = (config.column(0) as usize, config.num_columns());
        if first == 0 && columns == self.num_items() {
            return Ok(scores);
        }
        let items = first..first + self.num_items();
        Ok(scores.chunks_exact(columns).flat_map(|row| &row[items.clone()]).copied().collect())
    }
}

impl<B: Backend> Recommender for SequenceRecommender<B> {
    fn name(&self) -> &str {
        self.model.config().model_type()
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
            request.exclude_seen && self.model.config().items().seen_items == SeenItems::Exclude;
        let nothing = HashSet::new();
        let dropped = if drop_seen { &seen } else { &nothing };
        let candidates = select::candidates(&self.catalogue, request, dropped)?;
        let context = self.context(&history);
        let prepared = (self.clock)();

        let nothing_to_rank = candidates.is_empty() || request.k == 0;
        let unread = Usage { history_items: context.len(), ..Usage::default() };
        let (scores, usage) = match (nothing_to_rank, context.is_empty()) {
            (true, _) => (Vec::new(), unread),
            (false, true) => (self.prior.clone(), unread),
            (false, false) => self.score_one(context).await?,
        };
        let scored = (self.clock)();

        let score_zero =
            request.exclude_seen && self.model.config().items().seen_items == SeenItems::ScoreZero;
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
            usage: Usage { unknown_items, candidates: candidates.len(), ..usage },
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
        self.model.config().items().seen_items
    }

    fn repeated_items(&self) -> RepeatedItems {
        self.model.config().items().repeated_items
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
