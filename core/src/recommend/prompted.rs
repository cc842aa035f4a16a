//! What recommenders have in common that prompt a language model: a retriever chooses what the prompt
//! offers, a session reads it and keeps what the next prompt begins with, and what the prompt left out
//! follows in the retriever's order.

mod answer;

use std::sync::{Arc, Mutex, PoisonError};

pub(super) use answer::{Answered, Asked, Cost, Ranks, answer_batch, recommend, score_batch};

use super::catalogue::{Catalogue, ItemIndex};
use super::clock::Clock;
use super::ranking::{self, Ranked};
use super::request::{RankedItem, Timings, Usage};
use super::{ItemId, Scorer};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::llama::{Llama, LlamaConfig, TokenId};
use crate::session::{PrefixCache, Session, SharedPrefixCache, SoftTokens};
use crate::tokenizer::Tokenizer;

/// Bytes of cached prompt beginnings, unless told otherwise.
pub const PREFIX_CACHE_BYTES: u64 = 64 << 20;

/// The retriever that knows no user: items by their popularity.
#[derive(Clone, Debug)]
pub struct Prior(pub(super) Vec<f32>);

impl Prior {
    /// `candidates` by popularity, best first.
    pub(super) fn rank(
        &self,
        catalogue: &Catalogue,
        candidates: &[ItemIndex],
    ) -> Result<Vec<Ranked>> {
        let prior = |item: ItemIndex| self.0.get(item as usize).copied().unwrap_or(0.0);
        let ranked: Vec<Ranked> = candidates.iter().map(|&item| (item, prior(item))).collect();
        ranking::top(catalogue, &ranked, ranked.len())
    }
}

impl Scorer for Prior {
    fn num_items(&self) -> usize {
        self.0.len()
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        Ok(self.0.repeat(histories.len()))
    }
}

/// The candidates that a prompt offers and the others, both best first.
#[derive(Debug)]
pub(super) struct Shortlist {
    pub(super) offered: Vec<ItemIndex>,
    pub(super) others: Vec<ItemIndex>,
}

/// How many items a [`Shortlist`] has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// In the prompt.
    pub(super) offered: usize,
    /// Of these, at most for items that the retriever has no row for, the newest first.
    pub(super) cold: usize,
    /// In the answer.
    pub(super) wanted: usize,
}

impl Shortlist {
    /// The best of `candidates` by the scores of `retriever`: `places.offered` of them, and as many
    /// others as an answer of `places.wanted` needs.
    pub(super) async fn retrieve(
        catalogue: &Catalogue,
        retriever: &impl Scorer,
        history: impl Iterator<Item = ItemIndex>,
        candidates: &[ItemIndex],
        places: Places,
    ) -> Result<Self> {
        let known = retriever.num_items();
        let is_known = |item: &ItemIndex| (*item as usize) < known;
        let (warm, mut new): (Vec<ItemIndex>, Vec<_>) =
            candidates.iter().partition(|i| is_known(i));
        let history: Vec<ItemIndex> = history.filter(is_known).collect();
        let scores = retriever.score_batch(&[&history]).await?;
        let score = |item: ItemIndex| scores.get(item as usize).copied().unwrap_or(f32::NAN);
        let warm: Vec<Ranked> = warm.into_iter().map(|item| (item, score(item))).collect();
        let Places { offered: most, cold, wanted } = places;
        let warm = ranking::top(catalogue, &warm, most.max(wanted))?;
        let mut offered: Vec<_> = warm.into_iter().map(|(item, _)| item).collect();

        // The last items of the catalogue are the newest.
        new.reverse();
        let places = cold.max(most.saturating_sub(offered.len())).min(most);
        let late = new.split_off(new.len().min(places));
        let mut others = offered.split_off(offered.len().min(most - new.len()));
        others.extend(late);
        others.truncate(wanted.saturating_sub(most));
        offered.extend(new);
        Ok(Self { offered, others })
    }
}

/// Puts `others`, which no score compares with the ranked ones, behind them in their order.
pub(super) fn rank_behind(ranked: &mut Vec<Ranked>, others: Vec<ItemIndex>) {
    let last = ranked.last().map_or(0.0, |(_, score)| *score);
    ranked.extend((1..).zip(others).map(|(place, item)| (item, last - place as f32)));
}

/// Ranked items as an answer gives them.
pub(super) fn ranked_items(catalogue: &Catalogue, ranked: Vec<Ranked>) -> Result<Vec<RankedItem>> {
    let items = ranked.into_iter().zip(1..);
    items
        .map(|((item, score), rank)| Ok(RankedItem { id: id(catalogue, item)?, score, rank }))
        .collect()
}

pub(super) fn id(catalogue: &Catalogue, item: ItemIndex) -> Result<ItemId> {
    let item = catalogue.get(item).map(|item| item.id.clone());
    item.ok_or_else(|| Error::Internal("an item outside the catalogue".into()))
}

/// `Err` unless prompts of `max_prompt_tokens`, which may begin with one special token and end answers
/// with another, are this model's.
pub(super) fn check_language(
    recommender: &'static str,
    model: &LlamaConfig,
    tokenizer: &Tokenizer,
    (bos, end): (Option<TokenId>, TokenId),
    max_prompt_tokens: usize,
) -> Result<()> {
    tokenizer.check_vocab_size(model.vocab_size)?;
    if let Some(id) = bos.into_iter().chain([end]).find(|&id| id as usize >= model.vocab_size) {
        let expected = format!("tokens below vocab_size {}", model.vocab_size);
        return Err(Error::argument(recommender, "bos_token_id, end_token_id", expected, id));
    }
    let longest = model.max_position_embeddings;
    if max_prompt_tokens > longest {
        let (expected, found) = (format!("at most {longest}"), max_prompt_tokens);
        return Err(Error::argument(recommender, "max_prompt_tokens", expected, found));
    }
    Ok(())
}

/// A language model that reads one prompt after another.
#[derive(Debug)]
pub(super) struct PromptReader<B: Backend> {
    backend: B,
    model: Arc<Llama<B>>,
    max_tokens: usize,
    keeps_states: bool,
    prefixes: SharedPrefixCache<B>,
    /// The last request's, taken by the next: a user's new event costs its own tokens.
    session: Mutex<Option<Session<B>>>,
}

impl<B: Backend> PromptReader<B> {
    /// `max_tokens`: of a prompt and what is written behind it. `keeps_states`: of all its tokens, for
    /// [`Session::states`].
    pub(super) fn new(backend: B, model: Llama<B>, max_tokens: usize, keeps_states: bool) -> Self {
        let prefixes = Arc::new(Mutex::new(PrefixCache::new(PREFIX_CACHE_BYTES)));
        let (model, session) = (Arc::new(model), Mutex::new(None));
        Self { backend, model, max_tokens, keeps_states, prefixes, session }
    }

    /// The same, with at most this many bytes of cached prompt beginnings; with none no prompt finds
    /// anything of the one before.
    pub(super) fn with_prefix_cache(self, bytes: u64) -> Self {
        let prefixes = Arc::new(Mutex::new(PrefixCache::new(bytes)));
        Self { prefixes, session: Mutex::new(None), ..self }
    }

    pub(super) fn model(&self) -> &Llama<B> {
        &self.model
    }

    /// A session that has read `prompt`, and what that cost.
    pub(super) fn read(
        &self,
        prompt: &[TokenId],
        soft: Option<&SoftTokens<'_, B::Tensor>>,
        usage: &mut Usage,
    ) -> Result<Session<B>> {
        let mut session = match self.session.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(session) => session,
            None => {
                let session =
                    Session::new(self.backend.clone(), self.model.clone(), self.max_tokens)?
                        .with_prefix_cache(self.prefixes.clone());
                match self.keeps_states {
                    true => session.with_states()?,
                    false => session,
                }
            }
        };
        let read = match soft {
            Some(soft) => session.prefill_soft(prompt, soft)?,
            None => session.prefill(prompt)?,
        };
        usage.prompt_tokens += read.prompt_tokens;
        usage.cached_tokens += read.cached_tokens;
        Ok(session)
    }

    /// Keeps the session for the next prompt.
    pub(super) fn give_back(&self, session: Session<B>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

/// Milliseconds of the stages of an answer.
pub(super) struct Stopwatch {
    clock: Clock,
    start: f64,
    last: f64,
}

impl Stopwatch {
    pub(super) fn new(clock: Clock) -> Self {
        let start = clock();
        Self { clock, start, last: start }
    }

    /// Milliseconds since the last call.
    pub(super) fn lap(&mut self) -> f64 {
        let now = (self.clock)();
        now - std::mem::replace(&mut self.last, now)
    }

    pub(super) fn finish(&self, mut timings: Timings) -> Timings {
        timings.forward_ms =
            timings.retrieve_ms + timings.encode_ms + timings.prefill_ms + timings.score_ms;
        timings.total_ms = self.last - self.start;
        timings
    }
}
