//! A synthetic shop: 600 items, and users whose tastes are known, so that what a model must learn,
//! and from which modality, is known too.
//!
//! Everything is drawn with integers from [`crate::random`]: the same on every machine. The
//! catalogue and the rules never change; another seed gives other users.
//!
//! # The rules
#![doc = include_str!("shop/rules.md")]

mod catalogue;
mod files;
mod look;
mod oracle;
mod user;
mod words;

pub use catalogue::{catalogue, looks, unsold};
pub use files::{ShopFile, files};
pub use look::{FAMILIES, Look, PALETTES, Palette, Pattern, Shape};
pub use oracle::{NUM_CANDIDATES, oracle_hit_rate, popularity_hit_rate};
pub use user::Knowledge;

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
    /// All of them, in the order in which they happen to an item.
    pub const ALL: [Self; 3] = [Self::View, Self::Cart, Self::Buy];

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
    /// What no model is told.
    taste: user::Taste,
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
            let (taste, events) = user::live(&items, &mut random);
            ShopUser { id: format!("s{users_seed}u{number:04}"), events, taste }
        })
        .collect()
}
