//! A synthetic shop: 600 items, and users whose preferences are known, so that what a model must
//! learn is known too.
//!
//! # The rules
//! The catalogue has three *worlds* (photography, running, coffee) of four categories each. A world's
//! categories form a chain: whoever is done with cameras needs memory cards, then a tripod, then a
//! bag. Ten brands sell five items in every category: two budget, two standard, one premium.
//!
//! A user has a favourite brand, a second brand and a price band, and follows two worlds at once.
//! Each new item is drawn from a distribution that is explicit and exact:
//! 1. 92 % from the two categories the user is at (65 % the one looked at last, 35 % the other: the
//!    last item alone does not tell what comes next), 8 % wandering anywhere;
//! 2. within a category by brand (favourite 16, second 5, others 1), times price band (own 9,
//!    neighbouring 2, far 0), times the item's popularity (1 to 3);
//! 3. never an item seen before.
//!
//! After 2 or 3 items of a category the user decides: the best liked one is viewed again, in 80 % of
//! cases put into the cart, and of these bought in 75 %; then the chain goes on to its next
//! category. At a chain's end another world begins. Tastes drift: once, between the 10th and 20th
//! item, 30 % of the users make the second brand their favourite.
//!
//! Everything is drawn with integers from [`crate::random`]: the same on every machine. The
//! catalogue and the rules never change; another seed gives other users.

mod catalogue;
mod files;
mod user;

pub use catalogue::catalogue;
pub use files::{ShopFile, files, oracle_hit_rate};
pub use user::Look;

use crate::random::Random;

/// What a user did: an index into [`catalogue`], the behaviour, the time in seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Index into the catalogue.
    pub item: u32,
    /// What was done.
    pub behaviour: Behaviour,
    /// Seconds since 1970.
    pub time: u64,
}

/// The kinds of interaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Looked at.
    View,
    /// Put into the cart.
    Cart,
    /// Bought.
    Buy,
}

impl Behaviour {
    /// The word in the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Cart => "cart",
            Self::Buy => "buy",
        }
    }
}

/// One user's life in the shop.
#[derive(Clone, Debug, PartialEq)]
pub struct ShopUser {
    /// `s1u0007`: user 7 of seed 1.
    pub id: String,
    /// Oldest first; times never decrease.
    pub events: Vec<Event>,
    /// One per new item, in order: how well somebody who knows the user's taste would have guessed
    /// it.
    pub looks: Vec<Look>,
}

/// Users at first: what the demo is trained on.
pub const DEFAULT_USERS: usize = 2000;
/// Their seed.
pub const DEFAULT_USERS_SEED: u64 = 1;
/// Users of one shop at most.
pub const MAX_USERS: usize = 1_000_000;

/// The users of one seed. User n is the same however many there are.
pub fn users(count: usize, users_seed: u64) -> Vec<ShopUser> {
    let items = catalogue::items();
    (0..count.min(MAX_USERS))
        .map(|number| {
            let mut random = Random::stream(users_seed, number as u64);
            let (events, looks) = user::live(&items, &mut random);
            ShopUser { id: format!("s{users_seed}u{number:04}"), events, looks }
        })
        .collect()
}
