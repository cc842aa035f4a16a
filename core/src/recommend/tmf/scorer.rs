//! TMF under evaluation, which asks about items by their places.

use std::collections::HashMap;

use super::{Asked, Hidden, Stopwatch, TmfRecommender};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::sequence::SeenItems;
use crate::recommend::catalogue::ItemIndex;
use crate::recommend::request::{Timings, Usage};
use crate::recommend::{Question, Scorer, Scores};

impl<B: Backend, R: Scorer> TmfRecommender<B, R> {
    pub(super) fn asked(&self, question: &Question<'_>) -> Result<Asked> {
        let config = &self.config;
        let default = config.default_behaviour.as_ref().or(config.behaviours.first());
        let default = default.map_or("", String::as_str);
        let mut history = Vec::with_capacity(question.items.len());
        for (place, &item) in question.items.iter().enumerate() {
            let name = question.behaviours.get(place).map(|name| (*name).to_owned());
            history.push((item, config.behaviour("behaviours", name.as_ref(), default)?));
        }
        let target = question.target_behaviour.map(str::to_owned);
        let target_behaviour =
            config.behaviour("target_behaviour", target.as_ref(), &config.target_behaviour)?;
        let candidates = match question.candidates {
            Some(candidates) => candidates.to_vec(),
            None => (0..self.catalogue.len() as ItemIndex).collect(),
        };
        let usage = Usage { candidates: candidates.len(), ..Usage::default() };
        let (wanted, hidden) = (candidates.len(), Hidden::default());
        Ok(Asked { history, target_behaviour, candidates, wanted, hidden, usage })
    }
}

/// Scores are log-likelihoods of names where the model read the item, and below them, in the
/// retriever's order, where it did not.
impl<B: Backend, R: Scorer> Scorer for TmfRecommender<B, R> {
    fn num_items(&self) -> usize {
        self.catalogue.len()
    }

    fn seen_items(&self) -> SeenItems {
        SeenItems::Exclude
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        let questions: Vec<_> =
            histories.iter().map(|&items| Question { items, ..Question::default() }).collect();
        let answers = self.answer_batch(&questions).await?;
        Ok(answers.into_iter().flat_map(|answer| answer.scores).collect())
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let asked = self.asked(question)?;
            let (mut timings, mut usage) = (Timings::default(), Usage::default());
            let mut watch = Stopwatch::new(self.clock);
            let ranked = self.rank(&asked, &mut watch, &mut timings, &mut usage).await?;
            let scores: HashMap<ItemIndex, f32> = ranked.into_iter().collect();
            let score = |item: &ItemIndex| {
                let missing = || Error::Internal(format!("tmf: item {item} was not ranked"));
                scores.get(item).copied().ok_or_else(missing)
            };
            let scores = asked.candidates.iter().map(score).collect::<Result<_>>()?;
            answers.push(Scores { scores, valid: true, read: None });
        }
        Ok(answers)
    }
}
