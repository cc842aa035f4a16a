//! Pointing: an answer begins with an item's token, so the model chooses a candidate before it
//! writes.

use super::{Asked, Read, TmfRecommender};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::recommend::Scorer;
use crate::recommend::catalogue::ItemIndex;
use crate::session::Sampler;

impl<B: Backend, R: Scorer> TmfRecommender<B, R> {
    /// Whether it points.
    pub(super) fn points(&self) -> bool {
        self.config.prompt.points(self.config.level)
    }

    /// The logit of every candidate's token behind the prompt: (1, candidates).
    fn pointers(&self, read: &Read<B>, candidates: &[ItemIndex]) -> Result<B::Tensor> {
        let missing = || Error::Internal("tmf: item tokens without a fusion".into());
        let soft = self.soft.as_ref().ok_or_else(missing)?;
        read.session.soft_logits(&soft.candidates(&self.backend, candidates)?)
    }

    /// log P(token) of every candidate, among all of them.
    pub(super) async fn point_scores(
        &self,
        read: &Read<B>,
        candidates: &[ItemIndex],
    ) -> Result<Vec<f32>> {
        let mut scores = self.backend.read(&self.pointers(read, candidates)?).await?;
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
        scores.iter_mut().for_each(|score| *score -= most + sum.ln());
        Ok(scores)
    }

    /// Draws a candidate and puts its token behind the prompt. Returns its place.
    pub(super) async fn point(
        &self,
        read: &mut Read<B>,
        asked: &Asked,
        candidates: &[ItemIndex],
        sampler: &mut Sampler,
    ) -> Result<usize> {
        let b = &self.backend;
        let place = sampler.next(b, &self.pointers(read, candidates)?).await? as usize;
        if let (Some(soft), Some(&item)) = (&self.soft, candidates.get(place)) {
            read.prompt.point(item, place);
            let rows = soft.rows(b, &read.prompt, &asked.items(&read.prompt))?;
            read.session.prefill_soft(&read.prompt.token_ids, &rows.tokens())?;
        }
        Ok(place)
    }
}
