//! Evaluation of one behaviour: the target is the last item that a user, say, bought, and nothing
//! from the first event that touches it on may be known.

use std::collections::HashMap;

use tributary_core::recommend::ItemIndex;
use tributary_core::{Error, Result};

use super::{Dataset, Split, SplitRule, UserSequence};

/// One question: what was next, with the target behaviour, after the first `history` events?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetCase {
    /// Index into [`Dataset::users`].
    pub user: usize,
    /// Events before the first that touches `target`; at least 1.
    pub history: usize,
    /// The item; not in the history.
    pub target: ItemIndex,
}

impl Dataset {
    /// The row of a behaviour in [`Dataset::behaviours`].
    ///
    /// # Errors
    /// A behaviour that the data do not have, naming those they have.
    pub fn behaviour(&self, name: &str) -> Result<u16> {
        let row = self.behaviours.iter().position(|known| known == name);
        row.map(|row| row as u16).ok_or_else(|| {
            let expected = match self.behaviours.is_empty() {
                true => format!("a column with `{name}` among others"),
                false => format!("`{name}`, one of {}", self.behaviours.join(", ")),
            };
            Error::file(&self.name, "behaviours", expected, "another or none")
        })
    }

    /// The targets of one part of the split: for testing the user's last item with `behaviour`, for
    /// validation the last one among the events that are known when testing. A user whose target
    /// was the first thing touched has none.
    pub fn target_cases(&self, behaviour: u16, split: Split) -> Vec<TargetCase> {
        let case = |(user, sequence): (usize, &UserSequence)| {
            let (test, valid) = sequence.cuts(behaviour);
            let (history, target) = match split {
                Split::Test => test?,
                Split::Valid => valid?,
            };
            (history > 0).then_some(TargetCase { user, history, target })
        };
        self.users.iter().enumerate().filter_map(case).collect()
    }

    /// How many of each user's events may be trained on: those before the validation target is
    /// first touched. All of them where somebody split already.
    pub fn target_training(&self, behaviour: u16) -> Vec<usize> {
        let end = |sequence: &UserSequence| {
            let (test, valid) = sequence.cuts(behaviour);
            valid.or(test).map_or(sequence.items.len(), |(history, _)| history)
        };
        match self.split {
            SplitRule::Given => self.users.iter().map(|user| user.items.len()).collect(),
            SplitRule::LeaveOneOut => self.users.iter().map(end).collect(),
        }
    }
}

/// Events before the first touch of an item, and the item.
type Cut = (usize, ItemIndex);

impl UserSequence {
    /// Where testing and validation begin.
    fn cuts(&self, behaviour: u16) -> (Option<Cut>, Option<Cut>) {
        let test = self.last_with(behaviour, self.items.len());
        (test, test.and_then(|(end, _)| self.last_with(behaviour, end)))
    }

    fn last_with(&self, behaviour: u16, end: usize) -> Option<Cut> {
        let last = self.behaviours.iter().take(end).rposition(|&found| found == behaviour)?;
        let item = *self.items.get(last)?;
        Some((self.items.iter().position(|&other| other == item)?, item))
    }

    /// For each of the first `end` events, how many events come before the first touch of its item.
    pub fn first_touches(&self, end: usize) -> Vec<usize> {
        let mut first = HashMap::new();
        let events = self.items.iter().take(end).enumerate();
        events.map(|(place, &item)| *first.entry(item).or_insert(place)).collect()
    }
}
