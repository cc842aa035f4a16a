//! One user's life by the rules that `shop.rs` documents.

use super::catalogue::ItemTraits;
use super::look::{FAMILIES, Pattern};
use super::words::{AUDIENCES, BRANDS};
use super::{Behaviour, Event};
use crate::random::Random;

/// The rules' numbers: weights of a favourite and a second one beside 1 for all others; percents.
const FAVOURITE: u64 = 20;
const SECOND: u64 = 5;
const COMPLETE_PERCENT: u64 = 25;
const SEEK_PERCENT: u64 = 45;
const BUY_PERCENT: u64 = 70;
/// One percent of a distribution over the items, in integers: fine enough that rounding is nothing.
const ONE_PERCENT: u64 = 1 << 32;

/// 2025-01-01 00:00 UTC.
const OPENING: u64 = 1_735_689_600;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What somebody who guesses a user's next purchase knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Colours and patterns, of items and tastes: what pictures show.
    pub pictures: bool,
    /// Brands and audiences, of items and tastes: what titles and descriptions say.
    pub text: bool,
    /// Which items are companions, and which of them the user bought: what behaviour shows.
    pub companions: bool,
}

impl Knowledge {
    /// All there is to know.
    pub const EVERYTHING: Self = Self { pictures: true, text: true, companions: true };
}

/// What a user likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taste {
    family: usize,
    second_family: usize,
    pattern: usize,
    brand: usize,
    second_brand: usize,
    audience: usize,
}

impl Taste {
    fn draw(random: &mut Random) -> Self {
        let mut two = |n: usize| {
            let first = random.below(n as u64) as usize;
            (first, (first + 1 + random.below(n as u64 - 1) as usize) % n)
        };
        let (family, second_family) = two(FAMILIES.len());
        let (brand, second_brand) = two(BRANDS.len());
        let pattern = random.below(Pattern::ALL.len() as u64) as usize;
        let audience = random.below(AUDIENCES.len() as u64) as usize;
        Self { family, second_family, pattern, brand, second_brand, audience }
    }

    /// Liking of an item, as far as `knowledge` goes.
    fn liking(&self, item: &ItemTraits, knowledge: Knowledge) -> u64 {
        let one_of = |value: usize, favourite: usize, second: usize| match value {
            _ if value == favourite => FAVOURITE,
            _ if value == second => SECOND,
            _ => 1,
        };
        let mut liking = item.popularity;
        if knowledge.pictures {
            liking *= one_of(item.family, self.family, self.second_family);
            liking *= one_of(item.pattern, self.pattern, self.pattern);
        }
        if knowledge.text {
            liking *= one_of(item.brand, self.brand, self.second_brand);
            liking *= one_of(item.audience, self.audience, self.audience);
        }
        liking
    }

    /// How likely each item is the next one bought, up to a factor: 0 for items touched before.
    pub(super) fn next_buy(
        &self,
        items: &[ItemTraits],
        past: &Past,
        knowledge: Knowledge,
    ) -> Vec<u64> {
        let liking = |(item, &touched): (&ItemTraits, &bool)| match touched {
            true => 0,
            false => self.liking(item, knowledge),
        };
        let mut weights: Vec<u64> = items.iter().zip(&past.touched).map(liking).collect();
        let total = weights.iter().sum::<u64>().max(1);
        let open = past.open(items);
        let complete = if open.is_empty() { 0 } else { COMPLETE_PERCENT };
        let seek = (100 - complete) * SEEK_PERCENT * BUY_PERCENT * ONE_PERCENT / 100 / 100;
        // seek < 2^39 and a liking < 2^19: no overflow.
        weights.iter_mut().for_each(|weight| *weight = *weight * seek / total);
        if knowledge.companions {
            for &item in &open {
                weights[item] += complete * ONE_PERCENT / open.len() as u64;
            }
        }
        weights
    }
}

/// What a user has done, as far as the next step depends on it.
pub(super) struct Past {
    /// By item.
    pub(super) touched: Vec<bool>,
    bought: Vec<usize>,
}

impl Past {
    pub(super) fn new(items: usize) -> Self {
        Self { touched: vec![false; items], bought: Vec::new() }
    }

    pub(super) fn push(&mut self, event: &Event) {
        self.touched[event.item as usize] = true;
        if event.behaviour == Behaviour::Buy {
            self.bought.push(event.item as usize);
        }
    }

    /// Untouched companions of what was bought.
    fn open(&self, items: &[ItemTraits]) -> Vec<usize> {
        let companions = self.bought.iter().map(|&item| items[item].companion);
        companions.filter(|&companion| !self.touched[companion]).collect()
    }
}

/// A whole life: the taste and the events.
pub(super) fn live(items: &[ItemTraits], random: &mut Random) -> (Taste, Vec<Event>) {
    let taste = Taste::draw(random);
    let life = random.between(20, 40) as usize;
    let mut past = Past::new(items.len());
    let mut events = Events {
        time: OPENING + random.below(90 * DAY),
        until_break: random.between(4, 12),
        list: Vec::new(),
    };
    while events.list.len() < life {
        let open = past.open(items);
        let weigh = |liking: &dyn Fn(&ItemTraits) -> u64| -> Vec<u64> {
            let pairs = items.iter().zip(&past.touched);
            pairs.map(|(item, &touched)| if touched { 0 } else { liking(item) }).collect()
        };
        let (item, behaviours) = if !open.is_empty() && random.percent(COMPLETE_PERCENT) {
            let item = open[random.below(open.len() as u64) as usize];
            (Some(item), &Behaviour::ALL[..])
        } else if random.percent(SEEK_PERCENT) {
            let weights = weigh(&|item| taste.liking(item, Knowledge::EVERYTHING));
            let last = if random.percent(BUY_PERCENT) { 3 } else { 2 };
            (random.weighted(&weights), &Behaviour::ALL[..last])
        } else {
            (random.weighted(&weigh(&|item| item.popularity)), &Behaviour::ALL[..1])
        };
        let Some(item) = item else { break };
        for &behaviour in behaviours {
            past.push(&events.push(item as u32, behaviour, random));
        }
    }
    (taste, events.list)
}

/// Events as they come, with the clock that dates them.
struct Events {
    time: u64,
    until_break: u64,
    list: Vec<Event>,
}

impl Events {
    /// Half a minute to ten minutes after the one before; a session has 4 to 12 events, and the
    /// next one begins 4 hours to 5 days later.
    fn push(&mut self, item: u32, behaviour: Behaviour, random: &mut Random) -> Event {
        let event = Event { item, behaviour, time: self.time };
        self.list.push(event);
        self.until_break -= 1;
        self.time += match self.until_break {
            0 => random.between(4 * HOUR, 5 * DAY),
            _ => random.between(MINUTE / 2, 10 * MINUTE),
        };
        if self.until_break == 0 {
            self.until_break = random.between(4, 12);
        }
        event
    }
}
