//! What MLLM-SRec learns from and is validated on: users at some place of what they liked, what came
//! next, and what they do not like.

use std::collections::HashSet;

use tributary_core::random::Random;
use tributary_core::recommend::{Catalogue, ItemIndex};
use tributary_core::{Error, Result};

use super::MllmSrecDataConfig;
use crate::data::{Dataset, Split};
use crate::evaluate::{Negatives, Pair, draw_pairs};

/// The seed of the validation's negatives: the same in every run.
const VALIDATION_SEED: u64 = 0x7a11d;

/// Items before the first question at least.
const MIN_HISTORY: usize = 2;

/// All lessons of a data set.
pub(super) struct Lessons<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) catalogue: Catalogue,
    pub(super) validation: Vec<Pair>,
    pub(super) negatives: Negatives,
    users: Vec<User>,
    prompts_per_user: usize,
    targets: usize,
    item_lessons: usize,
}

/// What training may know of a user.
struct User {
    name: String,
    /// Oldest first.
    liked: Vec<ItemIndex>,
    /// What is answered with no; empty where it is drawn.
    disliked: Vec<ItemIndex>,
    /// All that the user ever touched, held-out items too: nothing to draw.
    touched: HashSet<ItemIndex>,
}

/// Which lesson an example is.
pub(super) enum Lesson {
    /// Of a user, by its place.
    Choice(usize),
    /// An item to be summarised.
    Item(ItemIndex),
}

/// A user at one place.
pub(super) struct Question {
    pub(super) history: Vec<ItemIndex>,
    /// Answered with yes, and with no: as many of each.
    pub(super) liked: Vec<ItemIndex>,
    pub(super) disliked: Vec<ItemIndex>,
}

impl<'a> Lessons<'a> {
    pub(super) fn new(
        dataset: &'a Dataset,
        config: &MllmSrecDataConfig,
        catalogue: Catalogue,
    ) -> Result<Self> {
        let negatives = config.negatives.clone();
        let behaviour = negatives.place(dataset)?;
        let target = match &config.target_behaviour {
            Some(name) => Negatives::Behaviour(name.clone()).place(dataset)?,
            None => None,
        };
        let mut users = Vec::new();
        for sequence in &dataset.users {
            let events = sequence.items.iter().enumerate().take(dataset.training_len(sequence));
            let (mut liked, mut disliked) = (Vec::new(), Vec::new());
            for (place, &item) in events {
                let done = sequence.behaviours.get(place);
                if behaviour.is_some_and(|behaviour| done == Some(&behaviour)) {
                    disliked.push(item);
                } else if target.is_none_or(|target| done == Some(&target)) {
                    liked.push(item);
                }
            }
            let touched: HashSet<_> = sequence.items.iter().copied().collect();
            let has_negatives = match behaviour {
                Some(_) => !disliked.is_empty(),
                None => touched.len() < dataset.catalogue.len(),
            };
            if liked.len() > MIN_HISTORY && has_negatives {
                users.push(User { name: sequence.user.clone(), liked, disliked, touched });
            }
        }
        if users.is_empty() {
            let expected = format!("users with more than {MIN_HISTORY} liked items and a negative");
            return Err(Error::file(&dataset.name, "users", expected, "none"));
        }
        let mut validation = draw_pairs(dataset, Split::Valid, &negatives, VALIDATION_SEED)?;
        validation.truncate(config.validation_users);
        Ok(Self {
            dataset,
            catalogue,
            validation,
            negatives,
            users,
            prompts_per_user: config.prompts_per_user,
            targets: config.targets,
            item_lessons: config.item_lessons,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.users.len() * self.prompts_per_user + self.catalogue.len() * self.item_lessons
    }

    pub(super) fn lesson(&self, example: u32) -> Lesson {
        let example = example as usize;
        match example.checked_sub(self.users.len() * self.prompts_per_user) {
            None => Lesson::Choice(example % self.users.len()),
            Some(item) => Lesson::Item((item % self.catalogue.len()) as ItemIndex),
        }
    }

    pub(super) fn name(&self, example: u32) -> String {
        match self.lesson(example) {
            Lesson::Choice(user) => {
                format!("user {}", self.users.get(user).map_or("?", |user| &user.name))
            }
            Lesson::Item(item) => format!("item {}", self.catalogue.name(item)),
        }
    }

    /// The user at a place that is drawn, with what is answered there.
    pub(super) fn question(&self, user: usize, random: &mut Random) -> Result<Question> {
        let missing = || Error::Internal("mllm_srec: a lesson of nobody".into());
        let user = self.users.get(user).ok_or_else(missing)?;
        let places = user.liked.len() - MIN_HISTORY;
        let place = MIN_HISTORY + random.below(places as u64) as usize;
        let (history, next) = user.liked.split_at(place);
        let liked: Vec<ItemIndex> = next.iter().copied().take(self.targets).collect();
        let items = self.catalogue.len() as u64;
        let mut draw = || match user.disliked.len() as u64 {
            0 => loop {
                let item = random.below(items) as ItemIndex;
                if !user.touched.contains(&item) {
                    return item;
                }
            },
            disliked => {
                let drawn = random.below(disliked) as usize;
                user.disliked.get(drawn).copied().unwrap_or_default()
            }
        };
        let disliked = liked.iter().map(|_| draw()).collect();
        Ok(Question { history: history.to_vec(), liked, disliked })
    }
}
