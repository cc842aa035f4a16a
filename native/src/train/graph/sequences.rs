//! What graph encoders train and validate on: users' events under the protocol of one behaviour.

use std::collections::HashMap;
use std::path::Path;

use tributary_core::random::Random;
use tributary_core::recommend::{Catalogue, GraphModel, GraphRecommender, ItemIndex};
use tributary_core::{Context, Error, Result};

use super::super::config::FitConfig;
use super::GraphDataConfig;
use crate::burn_backend::Burn;
use crate::data::{CATALOGUE_FILE, Dataset, Split, SplitRule, UserSequence};
use crate::evaluate::{Candidates, EvaluateOptions, evaluate};
use crate::files::write_atomically;

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
    examples: Vec<Example<'a>>,
    catalogue: Catalogue,
    pub(super) metric: String,
    validation: EvaluateOptions,
}

impl<'a> Sequences<'a> {
    /// `target` is a row of the data's behaviours.
    pub(super) fn new(
        dataset: &'a Dataset,
        target: u32,
        config: &FitConfig,
        data: &GraphDataConfig,
    ) -> Result<Self> {
        let mut examples = Vec::new();
        for user in &dataset.users {
            let end = dataset.training_len(user);
            let touches = first_touches(user, end);
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
                let of_target = |question: &&Question| question.behaviour == target;
                let targets = questions.iter().filter(of_target).copied().collect();
                examples.push(Example { user, questions, targets });
            }
        }
        let mut catalogue = dataset.catalogue.clone();
        catalogue.set_popularity(&dataset.popularity())?;
        let candidates = match data.validation_candidates {
            Some(num_candidates) => Candidates::Exact { num_candidates },
            None => Candidates::All,
        };
        let validation = EvaluateOptions {
            split: Split::Valid,
            candidates,
            k: vec![config.metric_k()?],
            users: data.validation_users,
            batch: VALIDATION_BATCH,
            ..EvaluateOptions::default()
        };
        let metric = config.training.metric.clone();
        Ok(Self { dataset, examples, catalogue, metric, validation })
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
        let users = self.dataset.users.iter();
        users.map(|user| events(user, self.dataset.training_len(user))).collect()
    }

    /// Which items a training event names.
    pub(super) fn present(&self) -> Vec<bool> {
        self.dataset.popularity().iter().map(|&count| count > 0).collect()
    }

    /// Writes `config.json` and the catalogue.
    pub(super) fn describe(&self, folder: &Path, config_json: &str) -> Result<()> {
        write_atomically(&folder.join("config.json"), config_json.as_bytes())?;
        let catalogue = self.catalogue.to_jsonl()?;
        write_atomically(&folder.join(CATALOGUE_FILE), catalogue.as_bytes())
    }

    /// The validation metric of `model`.
    pub(super) fn validate(&self, b: &Burn, model: GraphModel<Burn>) -> Result<Option<f64>> {
        if self.dataset.split == SplitRule::Given {
            // Somebody split already and kept the validation part elsewhere.
            return Ok(None);
        }
        let recommender = GraphRecommender::new(b.clone(), model, self.catalogue.clone())?;
        let options = &self.validation;
        let found = evaluate(&recommender, &self.catalogue, self.dataset, options, |_, _| ())
            .at(|| "validation")?;
        Ok(found.metrics.get(&self.metric).copied())
    }
}

/// For each of the first `end` events, how many events come before the first touch of its item.
fn first_touches(user: &UserSequence, end: usize) -> Vec<usize> {
    let mut first = HashMap::new();
    let events = user.items.iter().take(end).enumerate();
    events.map(|(place, &item)| *first.entry(item).or_insert(place)).collect()
}

/// The first `end` events.
fn events(user: &UserSequence, end: usize) -> Vec<Event> {
    let behaviours = user.behaviours.iter().map(|&behaviour| u32::from(behaviour));
    user.items.iter().copied().zip(behaviours).take(end).collect()
}
