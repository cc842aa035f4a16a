//! Pointing: a model chooses a candidate before it writes its name.
//!
//! A candidate's score is ln sum exp of the products of its token with the final states of some rows of
//! the prompt: of the history's items and of the last row, behind which the answer comes. It is enough
//! that one of them goes with it (late interaction: Khattab and Zaharia, arXiv 2004.12832, with a smooth
//! maximum). A token is an item's soft token or, below the level of items, the mean of its name's
//! embeddings. Candidates stand in no prompt: one prefill ranks any number of them, and one event more
//! costs its own tokens.

use super::{Asked, Hidden, Read, Stopwatch, TmfRecommender};
use crate::backend::{Backend, Mix};
use crate::error::Result;
use crate::models::llama::{Llama, TokenId};
use crate::prompt::Level;
use crate::recommend::Scorer;
use crate::recommend::catalogue::ItemIndex;
use crate::recommend::request::{Timings, Usage};
use crate::session::Sampler;

/// Candidates that are pointed at; of more, those the retriever ranks first. Each one's token is kept.
const MAX_POINTED: usize = 16_384;

/// The token of each name, the mean of its embeddings: (names, hidden_size). A name without tokens has
/// zeros.
///
/// # Errors
/// A token outside the vocabulary.
pub fn name_tokens<B: Backend>(b: &B, model: &Llama<B>, names: &[&[TokenId]]) -> Result<B::Tensor> {
    let ids = names.concat();
    if ids.is_empty() {
        return b.zeros([names.len(), model.config().hidden_size]);
    }
    let mut next = 0;
    let means = names.iter().map(|name| {
        let first = next;
        next += name.len() as u32;
        (first..next).map(|row| (row, 1.0 / name.len() as f32)).collect::<Vec<_>>()
    });
    b.mix_rows(&model.embed(b, &ids)?, &Mix::new(ids.len(), means)?)
}

impl<B: Backend, R: Scorer> TmfRecommender<B, R> {
    /// Whether an answer begins with an item's token.
    pub(super) fn points(&self) -> bool {
        self.config.prompt.points(self.config.level)
    }

    /// Candidates that are ranked at once.
    pub(super) fn most_ranked(&self) -> usize {
        match self.config.prompt.pointer {
            true => self.config.max_candidates.max(MAX_POINTED),
            false => self.config.max_candidates,
        }
    }

    /// What is pointed at: (candidates, hidden_size).
    fn pointed(&self, candidates: &[ItemIndex], hidden: Hidden) -> Result<B::Tensor> {
        match (&self.soft, self.config.level) {
            (Some(soft), Level::Item) => soft.candidates(&self.backend, candidates, hidden),
            _ => {
                let names = candidates.iter().map(|&item| self.prompts.names().tokens(item));
                name_tokens(&self.backend, self.reader.model(), &names.collect::<Result<Vec<_>>>()?)
            }
        }
    }

    /// The logit of every candidate behind the prompt.
    async fn pointers(
        &self,
        read: &Read<B>,
        candidates: &[ItemIndex],
        hidden: Hidden,
    ) -> Result<Vec<f32>> {
        let b = &self.backend;
        let last = read.prompt.token_ids.len().saturating_sub(1);
        let rows = read.prompt.event_rows.iter().chain([&last]).map(|&row| row as u32);
        let states = read.session.states(&rows.collect::<Vec<_>>())?;
        let products = b.read(&b.similarity(&states, &self.pointed(candidates, hidden)?)?).await?;
        let logit = |candidate: usize| {
            let rows = products.chunks_exact(candidates.len());
            let of = || rows.clone().filter_map(|row| row.get(candidate).copied());
            let most = of().fold(f32::NEG_INFINITY, f32::max);
            most + of().map(|x| (x - most).exp()).sum::<f32>().ln()
        };
        Ok((0..candidates.len()).map(logit).collect())
    }

    /// log P(candidate) of each, among all of them.
    pub(super) async fn point_scores(
        &self,
        read: &Read<B>,
        candidates: &[ItemIndex],
        hidden: Hidden,
    ) -> Result<Vec<f32>> {
        let mut scores = self.pointers(read, candidates, hidden).await?;
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
        scores.iter_mut().for_each(|score| *score -= most + sum.ln());
        Ok(scores)
    }

    /// Reads the prompt without candidates and draws one of them.
    pub(super) async fn point(
        &self,
        asked: &Asked,
        sampler: &mut Sampler,
        watch: &mut Stopwatch,
        timings: &mut Timings,
        usage: &mut Usage,
    ) -> Result<Option<ItemIndex>> {
        let candidates = self.retrieve(asked, self.most_ranked()).await?.offered;
        timings.retrieve_ms += watch.lap();
        let read = self.read(asked, &candidates, false, watch, timings, usage)?;
        let logits = self.pointers(&read, &candidates, asked.hidden).await?;
        self.reader.give_back(read.session);
        let logits = self.backend.upload(&logits, [1, candidates.len()])?;
        let place = sampler.next(&self.backend, &logits).await? as usize;
        timings.score_ms += watch.lap();
        Ok(candidates.get(place).copied())
    }

    /// Begins an answer with the token of `item`, one of the `candidates` that the prompt lists.
    pub(super) fn begin(
        &self,
        read: &mut Read<B>,
        asked: &Asked,
        candidates: &[ItemIndex],
        item: ItemIndex,
    ) -> Result<()> {
        let (Some(soft), Some(place)) =
            (&self.soft, candidates.iter().position(|other| *other == item))
        else {
            return Ok(());
        };
        read.prompt.point(item, place);
        let rows =
            soft.rows(&self.backend, &read.prompt, &asked.items(&read.prompt), asked.hidden)?;
        read.session.prefill_soft(&read.prompt.token_ids, &rows.tokens())?;
        Ok(())
    }
}
