//! The next item as the model writes it.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{FREE_TOKENS, Read, Stopwatch, TmfRecommender};
use crate::backend::Backend;
use crate::error::Result;
use crate::prompt::AnswerRule;
use crate::recommend::Scorer;
use crate::recommend::catalogue::{ItemId, ItemIndex};
use crate::recommend::request::{Request, RunsOn, Timings, Usage};
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
    /// A user without history gets the catalogue's prior, as in [`Recommender::recommend`].
    ///
    /// # Errors
    /// Whatever [`Recommender::recommend`] refuses; a sampling out of range.
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
        let (item, text) = if asked.candidates.is_empty() {
            (None, String::new())
        } else if asked.history.is_empty() {
            let best = self.prior(&asked.candidates, 1)?;
            let item = best.first().map(|(item, _)| *item);
            (item, item.map_or(Ok(String::new()), |item| self.prompts.names().text(item))?)
        } else {
            let (candidates, _) = self.retrieve(&asked).await?;
            timings.retrieve_ms = watch.lap();
            let Read { mut session, trie } =
                self.read(&asked, &candidates, &mut watch, &mut timings, &mut usage)?;
            let (place, text) = match decoding {
                Decoding::Constrained => {
                    let choice = session.choose(&trie, &mut sampler).await?;
                    let text = self.tokenizer.decode(&choice.token_ids, true)?.trim().to_owned();
                    (choice.names.first().copied(), text)
                }
                Decoding::Free(rule) => {
                    self.write(&mut session, &mut sampler, rule, &candidates).await?
                }
            };
            self.give_back(session);
            timings.score_ms = watch.lap();
            (place.and_then(|place| candidates.get(place).copied()), text)
        };
        Ok(Answer {
            item: item.map(|item| self.id(item)).transpose()?,
            text,
            valid: item.is_some(),
            timings: watch.finish(timings),
            usage,
            backend: self.backend.info().into(),
        })
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
        let mut stop_token_ids = self.model.config().eos_token_ids.clone();
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
