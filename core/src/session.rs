//! Floor 7: a language model and one sequence of tokens: prefill, append, asked logits, packed
//! candidates, generation, choice among names.
//!
//! Ranking is prefill: a long prompt, then a few logits. So the cost of each call is the tokens
//! that are new ([`Usage`] counts them), and what is read back is what was asked for.

mod prefix_cache;
mod sampler;
mod trie;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

pub use prefix_cache::{BLOCK_TOKENS, PrefixCache};
pub use sampler::{Sampler, Sampling};
pub use trie::{Choice, Likelihood, MAX_TRIE_NODES, Trie};

use prefix_cache::Slot;

use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::models::llama::{AxesRows, Llama, Rows, TokenId};
use crate::nn::{AxesPosition, KvCache, KvUse};

/// Tokens of a prompt computed at a time: bounds the memory of activations, and costs nothing that
/// could be measured.
const PREFILL_TOKENS: usize = 128;
/// Rows of full-vocabulary logits held at a time while candidates are scored.
const LOGIT_ROWS: usize = 128;

/// A cache of prompt prefixes that several sessions of one model share.
pub type SharedPrefixCache<B> = Arc<Mutex<PrefixCache<B>>>;

/// What a prompt cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose keys and values were there already.
    pub cached_tokens: usize,
}

/// The soft tokens of a prompt: rows that take the places of some of its token embeddings.
#[derive(Debug)]
pub struct SoftTokens<'a, T> {
    /// Their places in the prompt, ascending.
    pub positions: &'a [u32],
    /// What each one is. Two soft tokens of one identity must have equal rows: cached keys and
    /// values are found by it.
    pub identities: &'a [u64],
    /// (positions, hidden_size)
    pub rows: &'a T,
}

/// One sequence and its cache.
#[derive(Debug)]
pub struct Session<B: Backend> {
    backend: B,
    model: Arc<Llama<B>>,
    cache: KvCache<B>,
    slots: Vec<Slot>,
    /// (1, hidden_size): the state after the last token, which its logits are made of.
    last: Option<B::Tensor>,
    prefixes: Option<SharedPrefixCache<B>>,
}

/// When to stop generating.
#[derive(Clone, Debug, PartialEq)]
pub struct StopRules {
    /// Most new tokens.
    pub max_new_tokens: usize,
    /// Any of these ends the answer; it is not part of it.
    pub stop_token_ids: Vec<TokenId>,
    /// Any of these sequences ends the answer; it is not part of it.
    pub stop_sequences: Vec<Vec<TokenId>>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token or sequence.
    Stop,
    /// `max_new_tokens`, or the context is full.
    Length,
    /// The caller's `on_token` said so.
    Cancelled,
}

/// A generated answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// New tokens, without the stop.
    pub token_ids: Vec<TokenId>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

impl<B: Backend> Session<B> {
    /// An empty session of at most `max_seq_len` tokens (the model's own limit if smaller).
    pub fn new(backend: B, model: Arc<Llama<B>>, max_seq_len: usize) -> Result<Self> {
        let cache = model.kv_cache(&backend, max_seq_len)?;
        Ok(Self { backend, model, cache, slots: Vec::new(), last: None, prefixes: None })
    }

    /// Looks prompts up in `prefixes` and leaves their blocks there. All sessions that share it
    /// must run the same model with the same adapter.
    #[must_use]
    pub fn with_prefix_cache(mut self, prefixes: SharedPrefixCache<B>) -> Self {
        self.prefixes = Some(prefixes);
        self
    }

    /// The same, keeping the final state of every token for [`Session::states`]. What shares its
    /// prefix cache must do so, too.
    pub fn with_states(self) -> Result<Self> {
        let width = self.model.config().hidden_size;
        Ok(Self { cache: self.cache.with_states(&self.backend, width)?, ..self })
    }

    /// The tokens whose keys and values are cached; a soft token by the token under it.
    pub fn tokens(&self) -> Vec<TokenId> {
        self.slots.iter().map(|slot| slot.token).collect()
    }

    /// Makes the session's sequence equal `prompt`, computing what neither the session nor the
    /// prefix cache holds, the last token at least.
    pub fn prefill(&mut self, prompt: &[TokenId]) -> Result<Usage> {
        self.fill(&text(prompt, 0), None)
    }

    /// [`Session::prefill`] of a prompt with soft tokens. The ids at their positions count for the
    /// caches and for nothing else.
    ///
    /// # Errors
    /// Positions that do not ascend or lie outside the prompt, another number of identities or
    /// rows than of positions, rows of another width than the model's.
    pub fn prefill_soft(
        &mut self,
        prompt: &[TokenId],
        soft: &SoftTokens<'_, B::Tensor>,
    ) -> Result<Usage> {
        let slots = self.soft_slots(text(prompt, 0), soft)?;
        self.fill(&slots, Some(soft))
    }

    /// [`Session::prefill_soft`] of a prompt whose tokens stand in time, height and width: pictures in
    /// a text. What follows stands behind the largest number of all.
    ///
    /// # Errors
    /// As for [`Session::prefill_soft`]; not one position for each token, or one that is no place of
    /// the prompt.
    pub fn prefill_axes(
        &mut self,
        prompt: &[TokenId],
        positions: &[AxesPosition],
        soft: &SoftTokens<'_, B::Tensor>,
    ) -> Result<Usage> {
        if positions.len() != prompt.len() {
            let (expected, found) = ([prompt.len()], [positions.len()]);
            return Err(Error::shape("prefill", "positions", &expected, &found));
        }
        let places = prompt.len() as u32;
        if let Some(position) = positions.iter().flatten().find(|&&place| place >= places) {
            let expected = format!("places below {places}");
            return Err(Error::argument("prefill", "positions", expected, position));
        }
        let mut slots = text(prompt, 0);
        for (slot, &position) in slots.iter_mut().zip(positions) {
            slot.position = position;
        }
        let slots = self.soft_slots(slots, soft)?;
        self.fill(&slots, Some(soft))
    }

    /// The slots of a prompt with the identities of its soft tokens.
    fn soft_slots(
        &self,
        mut slots: Vec<Slot>,
        soft: &SoftTokens<'_, B::Tensor>,
    ) -> Result<Vec<Slot>> {
        let (count, hidden_size) = (soft.positions.len(), self.model.config().hidden_size);
        if soft.identities.len() != count {
            let found = soft.identities.len();
            return Err(Error::shape("prefill", "soft.identities", &[count], &[found]));
        }
        let found = self.backend.shape(soft.rows);
        if found != [count, hidden_size] {
            return Err(Error::shape("prefill", "soft.rows", &[count, hidden_size], &found));
        }
        if !soft.positions.is_sorted_by(|a, b| a < b) {
            let found = format!("{:?}", soft.positions);
            return Err(Error::argument("prefill", "soft.positions", "ascending places", found));
        }
        let tokens = slots.len();
        for (&position, &identity) in soft.positions.iter().zip(soft.identities) {
            let Some(slot) = slots.get_mut(position as usize) else {
                let expected = format!("places below {tokens}");
                return Err(Error::argument("prefill", "soft.positions", expected, position));
            };
            slot.soft = Some(identity);
        }
        Ok(slots)
    }

    fn fill(&mut self, prompt: &[Slot], soft: Option<&SoftTokens<'_, B::Tensor>>) -> Result<Usage> {
        let Some(most) = prompt.len().checked_sub(1) else {
            return Err(Error::argument("prefill", "prompt", "at least one token", "none"));
        };
        let limit = self.cache.max_seq_len();
        if prompt.len() > limit {
            let found = prompt.len();
            return Err(Error::InputTooLong { what: "the prompt", limit, found });
        }
        let common = self.slots.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        self.truncate(common.min(most));
        if let Some(prefixes) = &self.prefixes {
            let mut prefixes = prefixes.lock().unwrap_or_else(PoisonError::into_inner);
            let have = self.slots.len();
            let found = prefixes.lookup(&prompt[..most]);
            if found.len() * BLOCK_TOKENS > have {
                let whole = have - have % BLOCK_TOKENS;
                self.cache.truncate(whole);
                self.slots.truncate(whole);
                self.last = None;
                for block in &found[have / BLOCK_TOKENS..] {
                    self.cache.paste_rows(&self.backend, block)?;
                    self.slots = prompt[..self.cache.len()].to_vec();
                }
            }
        }
        let cached_tokens = self.slots.len();
        self.cache.reserve_prompt(&self.backend, prompt.len())?;
        self.extend(&prompt[cached_tokens..], soft)?;
        if let Some(prefixes) = &self.prefixes {
            let mut prefixes = prefixes.lock().unwrap_or_else(PoisonError::into_inner);
            prefixes.insert(&self.backend, &self.slots, &self.cache)?;
        }
        Ok(Usage { prompt_tokens: prompt.len(), cached_tokens })
    }

    /// Adds tokens behind the sequence.
    pub fn append(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.extend(&text(tokens, self.next_position()), None)
    }

    /// Where the next token stands: behind all that there are.
    fn next_position(&self) -> u32 {
        self.slots.iter().flat_map(|slot| slot.position).max().map_or(0, |last| last + 1)
    }

    /// Adds `slots` behind the sequence; `soft` holds the rows of the whole prompt they end.
    fn extend(&mut self, slots: &[Slot], soft: Option<&SoftTokens<'_, B::Tensor>>) -> Result<()> {
        self.cache.reserve(&self.backend, slots.len())?;
        slots.chunks(PREFILL_TOKENS).try_for_each(|slots| self.extend_few(slots, soft))
    }

    fn extend_few(
        &mut self,
        slots: &[Slot],
        soft: Option<&SoftTokens<'_, B::Tensor>>,
    ) -> Result<()> {
        let b = &self.backend;
        let Some(last) = slots.len().checked_sub(1) else { return Ok(()) };
        let first = self.slots.len() as u32;
        let segments = Segments::one(slots.len())?;
        let tokens: Vec<TokenId> = slots.iter().map(|slot| slot.token).collect();
        // The soft tokens among these slots.
        let before = |end: u32| soft.map_or(0, |soft| soft.positions.partition_point(|&p| p < end));
        let own = before(first)..before(first + slots.len() as u32);
        let hidden = match soft {
            Some(soft) if !own.is_empty() => {
                let places: Vec<u32> =
                    soft.positions[own.clone()].iter().map(|p| p - first).collect();
                let new: Vec<u32> = own.map(|row| row as u32).collect();
                let soft = b.gather_rows(soft.rows, &new)?;
                self.model.embed_soft(b, &tokens, &places, &soft)?
            }
            _ => self.model.embed(b, &tokens)?,
        };
        let positions: Vec<AxesPosition> = slots.iter().map(|slot| slot.position).collect();
        let rows = AxesRows { segments: &segments, positions: &positions };
        let kv = KvUse::Append(&mut self.cache);
        let hidden = self.model.forward_axes(b, hidden, rows, kv, None)?;
        self.cache.write_states(b, &hidden)?;
        self.last = Some(b.gather_rows(&hidden, &[last as u32])?);
        self.slots.extend_from_slice(slots);
        Ok(())
    }

    /// The state after the last token, which its logits are made of: (1, hidden_size); `None` without
    /// tokens.
    pub fn last_state(&self) -> Option<&B::Tensor> {
        self.last.as_ref()
    }

    /// Forgets the tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if len < self.slots.len() {
            self.slots.truncate(len);
            self.cache.truncate(len);
            self.last = None;
        }
    }

    fn last(&self) -> Result<&B::Tensor> {
        let missing = || Error::argument("session", "tokens", "a prefilled prompt", "none");
        self.last.as_ref().ok_or_else(missing)
    }

    /// Logits after the last token: of `asked` tokens in their order, or of the whole vocabulary.
    pub async fn logits(&self, asked: Option<&[TokenId]>) -> Result<Vec<f32>> {
        let b = &self.backend;
        let logits = match asked {
            Some(asked) => self.model.asked_logits(b, self.last()?, asked)?,
            None => self.model.logits(b, self.last()?)?,
        };
        b.read(&logits).await
    }

    /// The final states of the tokens at `positions`, of a session that keeps them:
    /// (positions, hidden_size).
    ///
    /// # Errors
    /// A session without states; a position outside the sequence.
    pub fn states(&self, positions: &[u32]) -> Result<B::Tensor> {
        self.cache.states(&self.backend, positions)
    }

    /// The log-probability of every token of every candidate, each as if it alone followed the
    /// sequence. One packed pass: the sequence is computed once, and stays as it is.
    pub async fn score(&self, candidates: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>> {
        let (b, model) = (&self.backend, &self.model);
        let lengths = self.branch_lengths("score", candidates)?;
        // A token is predicted by the row before it, so first tokens come from the sequence's last
        // row, and the last token of a candidate needs no row.
        let firsts: Vec<TokenId> = candidates.iter().map(|c| c[0]).collect();
        let first = b.gather_rows(self.last()?, &vec![0; firsts.len()])?;
        let firsts = self.log_probabilities(&first, &firsts).await?;

        let lengths: Vec<usize> = lengths.into_iter().map(|length| length - 1).collect();
        let segments = Segments::new(&lengths)?;
        let ids: Vec<TokenId> =
            candidates.iter().flat_map(|c| &c[..c.len() - 1]).copied().collect();
        let targets: Vec<TokenId> = candidates.iter().flat_map(|c| &c[1..]).copied().collect();
        let positions = segments.positions(self.next_position());
        let rows = Rows { segments: &segments, positions: &positions };
        let hidden = model.embed(b, &ids)?;
        let hidden = model.forward(b, hidden, rows, KvUse::Share(&self.cache), None)?;
        let rest = self.log_probabilities(&hidden, &targets).await?;

        let mut rest = rest.into_iter();
        Ok(firsts
            .into_iter()
            .zip(lengths)
            .map(|(first, n)| std::iter::once(first).chain(rest.by_ref().take(n)).collect())
            .collect())
    }

    /// Logits of the `asked` tokens behind each of `suffixes`, each as if it alone followed the
    /// sequence: (suffixes, asked), row-major. One packed pass, as for [`Session::score`].
    ///
    /// # Errors
    /// A suffix without a token; one that does not fit behind the sequence.
    pub async fn branch_logits(
        &self,
        suffixes: &[Vec<TokenId>],
        asked: &[TokenId],
    ) -> Result<Vec<f32>> {
        let (b, model) = (&self.backend, &self.model);
        self.last()?;
        let rows = self.branch_lengths("branch_logits", suffixes)?;
        let segments = Segments::new(&rows)?;
        let ids = suffixes.concat();
        let positions = segments.positions(self.next_position());
        let rows = Rows { segments: &segments, positions: &positions };
        let hidden = model.embed(b, &ids)?;
        let hidden = model.forward(b, hidden, rows, KvUse::Share(&self.cache), None)?;
        let lasts: Vec<u32> = segments.iter().map(|segment| segment.end as u32 - 1).collect();
        let logits = model.asked_logits(b, &b.gather_rows(&hidden, &lasts)?, asked)?;
        b.read(&logits).await
    }

    /// Tokens of each of `branches`, which fit behind the sequence and are not empty.
    fn branch_lengths(
        &self,
        operation: &'static str,
        branches: &[Vec<TokenId>],
    ) -> Result<Vec<usize>> {
        let lengths: Vec<usize> = branches.iter().map(Vec::len).collect();
        if lengths.contains(&0) {
            let expected = "at least one token each";
            return Err(Error::argument(operation, "candidates", expected, "an empty candidate"));
        }
        let longest = lengths.iter().max().copied().unwrap_or(0);
        let (limit, found) = (self.cache.max_seq_len(), self.slots.len() + longest);
        if found > limit {
            return Err(Error::InputTooLong { what: "the prompt and a candidate", limit, found });
        }
        Ok(lengths)
    }

    /// log softmax(logits)[target] for each row of `hidden`.
    async fn log_probabilities(&self, hidden: &B::Tensor, targets: &[TokenId]) -> Result<Vec<f32>> {
        let b = &self.backend;
        let mut found = Vec::with_capacity(targets.len());
        for (chunk, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
            let first = (chunk * LOGIT_ROWS) as u32;
            let rows: Vec<u32> = (first..first + targets.len() as u32).collect();
            let logits = self.model.logits(b, &b.gather_rows(hidden, &rows)?)?;
            let losses = b.read(&b.cross_entropy(&logits, targets)?).await?;
            found.extend(losses.into_iter().map(|loss| -loss));
        }
        Ok(found)
    }

    /// Continues the sequence token by token. `on_token` sees each new token as it comes.
    pub async fn generate(
        &mut self,
        sampler: &mut Sampler,
        stop: &StopRules,
        mut on_token: impl FnMut(TokenId) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let mut token_ids = Vec::new();
        let mut finish_reason = FinishReason::Length;
        while token_ids.len() < stop.max_new_tokens {
            let logits = self.model.logits(&self.backend, self.last()?)?;
            let token = sampler.next(&self.backend, &logits).await?;
            if stop.stop_token_ids.contains(&token) {
                finish_reason = FinishReason::Stop;
                break;
            }
            token_ids.push(token);
            let ends = |end: &&Vec<TokenId>| !end.is_empty() && token_ids.ends_with(end);
            if let Some(end) = stop.stop_sequences.iter().find(ends) {
                token_ids.truncate(token_ids.len() - end.len());
                finish_reason = FinishReason::Stop;
                break;
            }
            if on_token(token).is_break() {
                finish_reason = FinishReason::Cancelled;
                break;
            }
            // The last token asked for needs no pass of its own.
            if token_ids.len() == stop.max_new_tokens
                || self.slots.len() == self.cache.max_seq_len()
            {
                break;
            }
            self.append(&[token])?;
        }
        Ok(Generated { token_ids, finish_reason })
    }
}

/// Slots of tokens that follow each other from the position `first` on.
fn text(tokens: &[TokenId], first: u32) -> Vec<Slot> {
    let slot = |(&token, position)| Slot { token, soft: None, position: [position; 3] };
    tokens.iter().zip(first..).map(slot).collect()
}
