//! What is kept of earlier requests: states of a recurrence, by the items that led to them, and the
//! session of a language model.

use std::collections::VecDeque;

use crate::backend::Backend;
use crate::models::lru_rec::LruState;
use crate::recommend::ItemIndex;
use crate::session::Session;

/// Histories whose states are kept; each is some kilobytes.
const KEPT: usize = 64;

/// What is kept of earlier requests.
#[derive(Debug)]
pub(super) struct States<B: Backend> {
    /// Oldest first.
    kept: VecDeque<(Vec<ItemIndex>, LruState<B>)>,
    /// Of the last request, taken by the next.
    pub(super) session: Option<Session<B>>,
}

impl<B: Backend> Default for States<B> {
    fn default() -> Self {
        Self { kept: VecDeque::new(), session: None }
    }
}

impl<B: Backend> States<B> {
    /// The state after as many of the first `items` as there is one for, and how many those are.
    pub(super) fn longest(&self, items: &[ItemIndex]) -> Option<(usize, LruState<B>)> {
        let known = self.kept.iter().filter(|(known, _)| items.starts_with(known));
        let (known, state) = known.max_by_key(|(known, _)| known.len())?;
        Some((known.len(), state.clone()))
    }

    /// Keeps the state after `items` instead of the oldest one.
    pub(super) fn keep(&mut self, items: Vec<ItemIndex>, state: LruState<B>) {
        self.kept.retain(|(known, _)| *known != items);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((items, state));
    }
}
