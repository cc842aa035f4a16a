//! What graph encoders train and validate on: users' events under the protocol of one behaviour.

use std::path::Path;

use tributary_core::metrics::{Denominator, RankingMetrics};
use tributary_core::random::Random;
use tributary_core::recommend::{Catalogue, ItemIndex, rank_of};
use tributary_core::{Error, Result};

use super::super::checkpoint::write_atomically;
use super::super::config::FitConfig;
use crate::data::{CATALOGUE_FILE, Dataset, Split, SplitRule, TargetCase, UserSequence};

/// Users scored at once while validating.
const VALIDATION_BATCH: usize = 64;

/// An item and the row of its behaviour.
pub(super) type Event = (ItemIndex, u32);

/// A question of training: which item was met, with which behaviour, after the first `history`
/// events?
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) history: usize,
    pub(super) item: ItemIndex,
    pub(super) behaviour: u32,
}

/// One user that can be asked about.
struct Example<'a> {
    user: &'a UserSequence,
    /// Events that may be known; each has a history of one event at least.
    questions: Vec<Question>,
    /// Those with the target behaviour.
    targets: Vec<Question>,
}

/// The users of a data set.
pub(super) struct Sequences<'a> {
    dataset: &'a Dataset,
    pub(super) target: u32,
    examples: Vec<Example<'a>>,
    /// Events of each user to train on.
    ends: Vec<usize>,
    validation: Vec<TargetCase>,
    pub(super) metric: String,
    k: usize,
}

impl<'a> Sequences<'a> {
    pub(super) fn new(
        dataset: &'a Dataset,
        target: u16,
        config: &FitConfig,
        validation_users: Option<usize>,
    ) -> Result<Self> {
        let ends = dataset.target_training(target);
        let mut examples = Vec::new();
        for (user, &end) in dataset.users.iter().zip(&ends) {
            let touches = user.first_touches(end);
            let events = user.items.iter().zip(&user.behaviours).zip(&touches);
            let questions: Vec<Question> = events
                .filter(|(_, history)| **history > 0)
                .map(|((&item, &behaviour), &history)| Question {
                    history,
                    item,
                    behaviour: u32::from(behaviour),
                })
                .collect();
            if !questions.is_empty() {
                let of_target = |question: &&Question| question.behaviour == u32::from(target);
                let targets = questions.iter().filter(of_target).copied().collect();
                examples.push(Example { user, questions, targets });
            }
        }
        let mut validation = match dataset.split {
            // Somebody split already and kept the validation part elsewhere.
            SplitRule::Given => Vec::new(),
            SplitRule::LeaveOneOut => dataset.target_cases(target, Split::Valid),
        };
        validation.truncate(validation_users.unwrap_or(usize::MAX));
        let (metric, k) = (config.training.metric.clone(), config.metric_k()?);
        let target = u32::from(target);
        Ok(Self { dataset, target, examples, ends, validation, metric, k })
    }

    pub(super) fn len(&self) -> usize {
        self.examples.len()
    }

    pub(super) fn name(&self, example: u32) -> String {
        let example = self.examples.get(example as usize);
        format!("user {}", example.map_or("?", |example| &example.user.user))
    }

    /// A question to this example, drawn by `random`: with probability `target_share` one for the
    /// target behaviour, where there is any; and the events before it.
    pub(super) fn draw(
        &self,
        example: u32,
        target_share: f64,
        random: &mut Random,
    ) -> Result<(Vec<Event>, Question)> {
        let found = self.examples.get(example as usize);
        let found = found.ok_or_else(|| Error::Internal(format!("no example {example}")))?;
        let wants_target = random.unit() < target_share;
        let questions = match wants_target && !found.targets.is_empty() {
            true => &found.targets,
            false => &found.questions,
        };
        let question = questions.get(random.below(questions.len() as u64) as usize).copied();
        let question = question.ok_or_else(|| Error::Internal("an example of nothing".into()))?;
        Ok((events(found.user, question.history), question))
    }

    /// The events of every user that may be trained on.
    pub(super) fn training(&self) -> Vec<Vec<Event>> {
        let users = self.dataset.users.iter().zip(&self.ends);
        users.map(|(user, &end)| events(user, end)).collect()
    }

    /// Which items a training event names.
    pub(super) fn present(&self) -> Vec<bool> {
        self.popularity().iter().map(|&count| count > 0).collect()
    }

    fn popularity(&self) -> Vec<u64> {
        let mut counts = vec![0; self.dataset.catalogue.len()];
        for (item, _) in self.training().into_iter().flatten() {
            if let Some(count) = counts.get_mut(item as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// The catalogue, popularity counted in the training events.
    fn catalogue(&self) -> Result<Catalogue> {
        let mut catalogue = self.dataset.catalogue.clone();
        catalogue.set_popularity(&self.popularity())?;
        Ok(catalogue)
    }

    /// Writes `config.json` and the catalogue.
    pub(super) fn describe(&self, folder: &Path, config_json: &str) -> Result<()> {
        write_atomically(&folder.join("config.json"), config_json.as_bytes())?;
        let catalogue = self.catalogue()?.to_jsonl()?;
        write_atomically(&folder.join(CATALOGUE_FILE), catalogue.as_bytes())
    }

    /// The validation metric of `score`, which gives (histories, num_items): each target among all
    /// items that are not in its history.
    pub(super) fn validate(
        &self,
        score: impl Fn(&[&[Event]]) -> Result<Vec<f32>>,
    ) -> Result<Option<f64>> {
        if self.validation.is_empty() {
            return Ok(None);
        }
        let num_items = self.dataset.catalogue.len();
        let mut metrics = RankingMetrics::new(&[self.k])?;
        for batch in self.validation.chunks(VALIDATION_BATCH) {
            let history = |case: &TargetCase| {
                self.dataset
                    .users
                    .get(case.user)
                    .map_or(Vec::new(), |user| events(user, case.history))
            };
            let histories: Vec<Vec<Event>> = batch.iter().map(history).collect();
            let slices: Vec<&[Event]> = histories.iter().map(Vec::as_slice).collect();
            let scores = score(&slices)?;
            for ((case, history), row) in batch.iter().zip(&histories).zip(scores.chunks(num_items))
            {
                let seen: std::collections::HashSet<_> =
                    history.iter().map(|&(item, _)| item).collect();
                let others = (0..num_items as ItemIndex)
                    .filter(|item| *item != case.target && !seen.contains(item));
                metrics.add(rank_of(row, case.target, others)?);
            }
        }
        Ok(metrics.by_name(Denominator::OverAllUsers).get(&self.metric).copied())
    }
}

/// The first `end` events.
fn events(user: &UserSequence, end: usize) -> Vec<Event> {
    let behaviours = user.behaviours.iter().map(|&behaviour| u32::from(behaviour));
    user.items.iter().copied().zip(behaviours).take(end).collect()
}
