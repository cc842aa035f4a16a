//! What TMF learns from and is validated on: questions to users' events, each with candidates, under
//! the protocol of [`SplitRule::LastOf`](crate::data::SplitRule::LastOf).

use std::collections::{HashMap, HashSet};

use tributary_core::random::Random;
use tributary_core::recommend::{Catalogue, ItemIndex};
use tributary_core::{Error, Result};

use super::TmfDataConfig;
use crate::data::{Dataset, Split, UserSequence};

/// Which item was met, with which behaviour, after the first `history` events?
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) user: usize,
    pub(super) history: usize,
    pub(super) item: ItemIndex,
    pub(super) behaviour: u32,
}

/// All lessons of a data set.
pub(super) struct Lessons<'a> {
    dataset: &'a Dataset,
    num_candidates: usize,
    pub(super) target_behaviour: u32,
    pub(super) questions: Vec<Question>,
    pub(super) validation: Vec<Question>,
    /// Users with a story: what they did before anything that is held out, as questions without
    /// answer.
    pub(super) stories: Vec<Question>,
}

impl<'a> Lessons<'a> {
    pub(super) fn new(dataset: &'a Dataset, config: &TmfDataConfig) -> Result<Self> {
        let target = behaviour(dataset, &config.target_behaviour)?;
        let mut asked = vec![target];
        for name in &config.asked_behaviours {
            asked.push(behaviour(dataset, name)?);
        }
        let users = config.users.unwrap_or(usize::MAX);
        let mut questions = Vec::new();
        for (user, sequence) in dataset.users.iter().enumerate().take(users) {
            let end = dataset.training_len(sequence);
            let (mut touched, mut met) = (HashMap::new(), HashSet::new());
            let events = sequence.items.iter().zip(&sequence.behaviours).take(end);
            for (place, (&item, &behaviour)) in events.enumerate() {
                let history = *touched.entry(item).or_insert(place);
                // An item asked for twice with one behaviour would be one question twice.
                if history > 0 && asked.contains(&behaviour) && met.insert((item, behaviour)) {
                    questions.push(Question { user, history, item, behaviour: behaviour.into() });
                }
            }
        }
        if questions.is_empty() {
            let expected = format!("users with events before a `{}`", config.target_behaviour);
            return Err(Error::file(&dataset.name, "interactions", expected, "none"));
        }
        let target_behaviour = u32::from(target);
        let cases = dataset.cases(Split::Valid).into_iter().map(|case| Question {
            user: case.user,
            history: case.history.len(),
            item: case.target,
            behaviour: target_behaviour,
        });
        let validation = match dataset.target_behaviour() {
            Some(_) => cases.take(config.validation_users).collect(),
            // Somebody split already and kept the validation part elsewhere.
            None => Vec::new(),
        };
        let all = dataset.users.iter().enumerate().take(users).map(|(user, sequence)| Question {
            user,
            history: dataset.training_len(sequence),
            item: 0,
            behaviour: target_behaviour,
        });
        let all: Vec<_> = all.filter(|story| story.history > 1).collect();
        let stories = (0..config.stories).flat_map(|_| all.iter().copied()).collect();
        if !config.questions {
            questions.clear();
        }
        let num_candidates = config.num_candidates;
        let lessons =
            Self { dataset, num_candidates, target_behaviour, questions, validation, stories };
        // Enough items that nobody has met, for every question.
        let asked = lessons.questions.iter().chain(&lessons.validation);
        let most = asked.map(|question| lessons.met(question.user).len()).max().unwrap_or(0);
        if dataset.catalogue.len() < most + num_candidates {
            let expected = format!("{num_candidates} items beside the {most} of a user");
            return Err(Error::file(&dataset.name, "items", expected, dataset.catalogue.len()));
        }
        Ok(lessons)
    }

    /// Questions and stories.
    pub(super) fn len(&self) -> usize {
        self.questions.len() + self.stories.len()
    }

    pub(super) fn dataset(&self) -> &Dataset {
        self.dataset
    }

    /// The catalogue, popularity counted in the target behaviour of the questions.
    pub(super) fn catalogue(&self) -> Result<Catalogue> {
        let mut counts = vec![0; self.dataset.catalogue.len()];
        for question in self.questions.iter().filter(|q| q.behaviour == self.target_behaviour) {
            if let Some(count) = counts.get_mut(question.item as usize) {
                *count += 1;
            }
        }
        let mut catalogue = self.dataset.catalogue.clone();
        catalogue.set_popularity(&counts)?;
        Ok(catalogue)
    }

    fn sequence(&self, user: usize) -> Option<&UserSequence> {
        self.dataset.users.get(user)
    }

    fn met(&self, user: usize) -> HashSet<ItemIndex> {
        self.sequence(user).map_or(HashSet::new(), |user| user.items.iter().copied().collect())
    }

    /// The events before the question: (item, behaviour).
    pub(super) fn history(&self, question: &Question) -> Vec<(ItemIndex, u32)> {
        let Some(user) = self.sequence(question.user) else { return Vec::new() };
        let events = user.items.iter().zip(&user.behaviours).take(question.history);
        events.map(|(&item, &behaviour)| (item, u32::from(behaviour))).collect()
    }

    /// The right item, and others that the user never met.
    pub(super) fn candidates(&self, question: &Question, random: &mut Random) -> Vec<ItemIndex> {
        let mut taken = self.met(question.user);
        taken.insert(question.item);
        let mut candidates = vec![question.item];
        while candidates.len() < self.num_candidates {
            let item = random.below(self.dataset.catalogue.len() as u64) as ItemIndex;
            if taken.insert(item) {
                candidates.push(item);
            }
        }
        candidates
    }

    /// The user's name, for errors.
    pub(super) fn name(&self, question: &Question) -> String {
        let user = self.sequence(question.user).map_or("?", |user| &user.user);
        format!("user {user} after {} events", question.history)
    }
}

/// The place of a behaviour in [`Dataset::behaviours`].
fn behaviour(dataset: &Dataset, name: &str) -> Result<u16> {
    let place = dataset.behaviours.iter().position(|known| known == name);
    place.and_then(|place| u16::try_from(place).ok()).ok_or_else(|| {
        let expected = format!("behaviours of the data: {}", dataset.behaviours.join(", "));
        Error::file("configuration", "data.asked_behaviours", expected, name)
    })
}
