//! The next item as the model writes it.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Asked, FREE_TOKENS, Stopwatch, TmfRecommender};
use crate::backend::Backend;
use crate::error::Result;
use crate::models::sequence::SeenItems;
use crate::prompt::AnswerRule;
use crate::recommend::catalogue::{ItemId, ItemIndex};
use crate::recommend::request::{Request, RunsOn, Timings, Usage};
use crate::recommend::{Question, Scorer, Scores, prompted};
use crate::session::{Sampler, Sampling, Session, StopRules};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// Only candidates' names can be written: valid by construction.
    Constrained,
    /// Anything can; what counts as an answer says the rule.
    Free(AnswerRule),
}

/// A written answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The candidate that was named; `None` when the text is no answer, or there was nothing to
    /// choose among.
    pub item: Option<ItemId>,
    /// What was written.
    pub text: String,
    /// The text names exactly one candidate.
    pub valid: bool,
    /// Where the time went.
    pub timings: Timings,
    /// What was read.
    pub usage: Usage,
    /// What it ran on.
    pub backend: RunsOn,
}

impl<B: Backend, R: Scorer> TmfRecommender<B, R> {
    /// The next item's name as the model writes it, among the candidates that a prompt holds.
    /// A user without history gets the catalogue's prior, as in
    /// [`recommend`](crate::recommend::Recommender::recommend).
    ///
    /// # Errors
    /// What [`recommend`](crate::recommend::Recommender::recommend) refuses; a sampling out of range.
    pub async fn answer(
        &self,
        request: &Request,
        decoding: Decoding,
        sampling: Sampling,
    ) -> Result<Answer> {
        let mut watch = Stopwatch::new(self.clock);
        let mut timings = Timings::default();
        let mut sampler = Sampler::new(sampling)?;
        let asked = self.resolve(request)?;
        let mut usage = asked.usage;
        timings.prepare_ms = watch.lap();
        let (item, text) = self
            .decide(&asked, decoding, &mut sampler, &mut watch, &mut timings, &mut usage)
            .await?;
        Ok(Answer {
            item: item.map(|item| prompted::id(&self.catalogue, item)).transpose()?,
            text,
            valid: item.is_some(),
            timings: watch.finish(timings),
            usage,
            backend: self.backend.info().into(),
        })
    }

    /// The candidate that the model names, and what it wrote.
    async fn decide(
        &self,
        asked: &Asked,
        decoding: Decoding,
        sampler: &mut Sampler,
        watch: &mut Stopwatch,
        timings: &mut Timings,
        usage: &mut Usage,
    ) -> Result<(Option<ItemIndex>, String)> {
        if asked.candidates.is_empty() {
            Ok((None, String::new()))
        } else if asked.history.is_empty() {
            let best = self.prior.rank(&self.catalogue, &asked.candidates)?;
            let item = best.first().map(|(item, _)| *item);
            let text = item.map_or(Ok(String::new()), |item| self.prompts.names().text(item))?;
            Ok((item, text))
        } else {
            let pointed = match self.config.prompt.pointer {
                true => self.point(asked, sampler, watch, timings, usage).await?,
                false => None,
            };
            if let (Some(item), Decoding::Constrained) = (pointed, decoding) {
                // One name is left, and nothing to choose.
                return Ok((pointed, self.prompts.names().text(item)?));
            }
            let shortlist = self.retrieve(asked, self.config.max_candidates).await?;
            let mut candidates = shortlist.offered;
            if let Some(item) = pointed.filter(|item| !candidates.contains(item))
                && let Some(last) = candidates.last_mut()
            {
                *last = item;
            }
            timings.retrieve_ms += watch.lap();
            let mut read = self.read(asked, &candidates, true, watch, timings, usage)?;
            if let Some(item) = pointed.filter(|_| self.points()) {
                self.begin(&mut read, asked, &candidates, item)?;
            }
            let mut session = read.session;
            let (place, text) = match decoding {
                Decoding::Constrained => {
                    let choice = session.choose(&self.trie(&candidates)?, sampler).await?;
                    let text = self.tokenizer.decode(&choice.token_ids, true)?.trim().to_owned();
                    (choice.names.first().copied(), text)
                }
                Decoding::Free(rule) => {
                    self.write(&mut session, sampler, rule, &candidates).await?
                }
            };
            self.reader.give_back(session);
            timings.score_ms += watch.lap();
            Ok((place.and_then(|place| candidates.get(place).copied()), text))
        }
    }

    /// The recommender under evaluation by the names it writes, greedily, instead of by scores.
    pub fn written(&self, decoding: Decoding) -> Written<'_, B, R> {
        Written { tmf: self, decoding }
    }

    /// Free generation, and which candidate it names.
    async fn write(
        &self,
        session: &mut Session<B>,
        sampler: &mut Sampler,
        rule: AnswerRule,
        candidates: &[ItemIndex],
    ) -> Result<(Option<usize>, String)> {
        let names = self.prompts.names();
        let mut longest = 0;
        for &item in candidates {
            longest = longest.max(names.tokens(item)?.len());
        }
        let mut stop_token_ids = self.reader.model().config().eos_token_ids.clone();
        stop_token_ids.push(self.config.prompt.end_token_id);
        // One token more than any name has makes the text no name.
        let max_new_tokens = match rule {
            AnswerRule::Exact => longest + 1,
            AnswerRule::Contains => FREE_TOKENS,
        };
        let stop = StopRules { max_new_tokens, stop_token_ids, stop_sequences: Vec::new() };
        let generated = session.generate(sampler, &stop, |_| ControlFlow::Continue(())).await?;
        // A model may have more tokens than its tokenizer: what it writes then is no answer.
        let text = self.tokenizer.decode(&generated.token_ids, true).unwrap_or_default();
        let texts = candidates.iter().map(|&item| names.text(item));
        let place = rule.read(&text, &texts.collect::<Result<Vec<_>>>()?);
        Ok((place, text))
    }
}

/// [`TmfRecommender::written`]: the item that is named scores 1, all others 0; an answer that names
/// none is not valid.
#[derive(Debug)]
pub struct Written<'a, B: Backend, R> {
    tmf: &'a TmfRecommender<B, R>,
    decoding: Decoding,
}

impl<B: Backend, R: Scorer> Scorer for Written<'_, B, R> {
    fn num_items(&self) -> usize {
        self.tmf.num_items()
    }

    fn seen_items(&self) -> SeenItems {
        self.tmf.seen_items()
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        self.tmf.score_batch(histories).await
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let asked = self.tmf.asked(question)?;
            let (mut timings, mut usage) = (Timings::default(), Usage::default());
            let mut watch = Stopwatch::new(self.tmf.clock);
            let mut sampler = Sampler::new(Sampling::Greedy)?;
            let (named, _) = self
                .tmf
                .decide(&asked, self.decoding, &mut sampler, &mut watch, &mut timings, &mut usage)
                .await?;
            let score = |item: &ItemIndex| f32::from(u8::from(Some(*item) == named));
            let scores = asked.candidates.iter().map(score).collect();
            answers.push(Scores { scores, valid: named.is_some(), read: None });
        }
        Ok(answers)
    }
}
