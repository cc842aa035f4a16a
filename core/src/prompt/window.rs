//! How much of a history a prompt holds.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Entries of a history that are looked at, at most; half of them when more came.
const MAX_ENTRIES: usize = 4096;

/// Keeps a history up to `max`, then drops its oldest entries down to `keep`: the beginning of the
/// prompt stays the same for several events, and with it what the prefix cache holds. An
/// entry is kept whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Window {
    /// Most entries.
    pub max_items: usize,
    /// Entries that are left when one more came than fits; the newest in any case.
    pub keep_items: usize,
    /// Most tokens of the entries, soft tokens and separators included.
    pub max_tokens: usize,
    /// Tokens that are left at most when one more came than fits; more if the newest entry alone
    /// has more.
    pub keep_tokens: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { max_items: 30, keep_items: 20, max_tokens: 600, keep_tokens: 400 }
    }
}

impl Window {
    pub(super) fn check(&self) -> Result<()> {
        for (field, keep, max) in [
            ("window.keep_items", self.keep_items, self.max_items),
            ("window.keep_tokens", self.keep_tokens, self.max_tokens),
        ] {
            if keep > max {
                return Err(Error::argument("prompt", field, format!("at most {max}"), keep));
            }
        }
        Ok(())
    }

    /// The first of `interactions` that is looked at: it moves on in steps, too.
    pub(super) fn recent(interactions: usize) -> usize {
        let over = interactions.saturating_sub(MAX_ENTRIES);
        over.next_multiple_of(MAX_ENTRIES / 2).min(interactions)
    }

    /// The first entry that is kept when entries of these `tokens` came one by one, with room for
    /// `room` tokens: one entry more keeps the place or moves it on.
    pub(super) fn first(&self, tokens: &[usize], room: usize) -> usize {
        let max = self.max_tokens.min(room);
        let keep = self.keep_tokens.min(max);
        let (mut first, mut sum) = (0, 0usize);
        for (newest, count) in tokens.iter().enumerate() {
            sum += count;
            if sum <= max && newest + 1 - first <= self.max_items {
                continue;
            }
            let too_many = |first, sum| sum > keep || newest + 1 - first > self.keep_items;
            let fits_alone = *count <= max && self.max_items > 0;
            while first <= newest && too_many(first, sum) && (first < newest || !fits_alone) {
                sum -= tokens.get(first).unwrap_or(&0);
                first += 1;
            }
        }
        first
    }
}
