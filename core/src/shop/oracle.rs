//! What the rules allow anybody to know: bounds that no model passes in the mean.

use super::catalogue::{ItemTraits, items};
use super::user::{Knowledge, Past};
use super::{Behaviour, ShopUser};
use crate::metrics::AtK;

/// Items among which the target is to be found, itself included.
pub const NUM_CANDIDATES: usize = 11;

/// How often somebody of this `knowledge` finds a user's last bought item among [`NUM_CANDIDATES`],
/// from what came before the first event that touches it: the exact expectation over every draw of
/// the other candidates from the items that the user never touches, in the mean over the users who
/// buy anything.
pub fn oracle_hit_rate(users: &[ShopUser], knowledge: Knowledge) -> f64 {
    mean(users, |items, user, past| user.taste.next_buy(items, past, knowledge))
}

/// The same for somebody who knows how popular each item is, and nothing of the user.
pub fn popularity_hit_rate(users: &[ShopUser]) -> f64 {
    mean(users, |items, _, _| items.iter().map(|item| item.popularity).collect())
}

fn mean(users: &[ShopUser], weigh: impl Fn(&[ItemTraits], &ShopUser, &Past) -> Vec<u64>) -> f64 {
    let items = items();
    let hit_rate = |user: &ShopUser| -> Option<f64> {
        let last = user.events.iter().rfind(|event| event.behaviour == Behaviour::Buy)?;
        let target = last.item as usize;
        let mut past = Past::new(items.len());
        user.events.iter().take_while(|event| event.item != last.item).for_each(|e| past.push(e));
        let weights = weigh(&items, user, &past);
        let mut eligible = vec![true; items.len()];
        user.events.iter().for_each(|event| eligible[event.item as usize] = false);
        let competitors = (0..items.len()).filter(|&item| eligible[item]);
        let better =
            competitors.filter(|&item| (weights[item], target) > (weights[target], item)).count();
        let eligible = eligible.iter().filter(|&&eligible| eligible).count();
        Some(AtK::expected(better, eligible, NUM_CANDIDATES - 1, 1).hit_rate)
    };
    let rates: Vec<f64> = users.iter().filter_map(hit_rate).collect();
    rates.iter().sum::<f64>() / rates.len().max(1) as f64
}
