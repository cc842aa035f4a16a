//! One user's life by the rules that `shop.rs` documents.

use super::catalogue::{BRANDS, ItemTraits, STAGES, WORLDS};
use super::{Behaviour, Event};
use crate::random::Random;

/// Weights by brand, price distance, in percent: the rules' numbers.
const FAVOURITE: u64 = 16;
const SECOND: u64 = 5;
const BAND_WEIGHT: [u64; 3] = [9, 2, 0];
const SAME_WORLD_PERCENT: u64 = 65;
const WANDER_PERCENT: u64 = 8;
const CART_PERCENT: u64 = 80;
const BUY_PERCENT: u64 = 75;
const DRIFT_PERCENT: u64 = 30;
/// One percent of a distribution over the items, in integers: fine enough that rounding is nothing.
const ONE_PERCENT: u64 = 1 << 32;

/// 2025-01-01 00:00 UTC.
const OPENING: u64 = 1_735_689_600;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A new item, and how many items were more likely by the user's true taste at that moment: the
/// best any model can know. 0 means the likeliest item was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Index into the catalogue.
    pub item: u32,
    /// Items with a higher probability, or the same and a lower index.
    pub oracle_rank: u32,
}

/// What a user wants: everything the distribution of the next new item depends on.
struct Taste<'a> {
    items: &'a [ItemTraits],
    favourite: usize,
    second: usize,
    band: u8,
    /// The two worlds followed, the one looked at last first.
    errands: [Errand; 2],
    seen: Vec<bool>,
}

/// Where in a world's chain a user is.
#[derive(Clone)]
struct Errand {
    world: usize,
    stage: usize,
    /// Items looked at in this category.
    looked: Vec<u32>,
    /// Looks until the decision.
    patience: usize,
}

impl Errand {
    fn new(world: usize, stage: usize, random: &mut Random) -> Self {
        Self { world, stage, looked: Vec::new(), patience: random.between(2, 3) as usize }
    }
}

impl Taste<'_> {
    /// Liking of an item by brand, price band and popularity.
    fn liking(&self, item: &ItemTraits) -> u64 {
        let brand = match item.brand {
            brand if brand == self.favourite => FAVOURITE,
            brand if brand == self.second => SECOND,
            _ => 1,
        };
        brand * BAND_WEIGHT[usize::from(self.band.abs_diff(item.band))] * item.popularity
    }

    /// The distribution of the next new item, in units of 1 / (100 * `ONE_PERCENT`).
    fn distribution(&self) -> Vec<u64> {
        let shares = [SAME_WORLD_PERCENT, 100 - SAME_WORLD_PERCENT];
        let mut weights = vec![0; self.items.len()];
        for (errand, share) in self.errands.iter().zip(shares) {
            let here = |item: &ItemTraits| item.world == errand.world && item.stage == errand.stage;
            let share = share * (100 - WANDER_PERCENT) * ONE_PERCENT / 100;
            self.add(&mut weights, share, |item| if here(item) { self.liking(item) } else { 0 });
        }
        self.add(&mut weights, WANDER_PERCENT * ONE_PERCENT, |item| item.popularity);
        weights
    }

    /// Adds `share`, spread over the items not seen yet in proportion to `weight`.
    fn add(&self, weights: &mut [u64], share: u64, weight: impl Fn(&ItemTraits) -> u64) {
        let weight = |(item, &seen): (&ItemTraits, &bool)| if seen { 0 } else { weight(item) };
        let own: Vec<u64> = self.items.iter().zip(&self.seen).map(weight).collect();
        let total: u64 = own.iter().sum();
        for (sum, own) in weights.iter_mut().zip(own).filter(|_| total > 0) {
            // share < 2^39 and own < 2^10: no overflow.
            *sum += share * own / total;
        }
    }
}

/// A whole life: events and looks.
pub(super) fn live(items: &[ItemTraits], random: &mut Random) -> (Vec<Event>, Vec<Look>) {
    let favourite = random.below(BRANDS as u64) as usize;
    let second = (favourite + 1 + random.below(BRANDS as u64 - 1) as usize) % BRANDS;
    // 40 % budget, 40 % standard, 20 % premium, as the items are.
    let band = [0, 0, 1, 1, 2][random.below(5) as usize];
    let first = random.below(WORLDS as u64) as usize;
    let other = (first + 1 + random.below(WORLDS as u64 - 1) as usize) % WORLDS;
    let mut errand = |world| Errand::new(world, random.below(STAGES as u64 - 1) as usize, random);
    let errands = [errand(first), errand(other)];
    let mut taste =
        Taste { items, favourite, second, band, errands, seen: vec![false; items.len()] };

    let drift_at = random.percent(DRIFT_PERCENT).then(|| random.between(10, 20));
    let life = random.between(14, 36);
    let mut events = Events {
        time: OPENING + random.below(90 * DAY),
        until_break: random.between(4, 12),
        list: Vec::new(),
    };
    let mut looks = Vec::new();
    for number in 0..life {
        if drift_at == Some(number) {
            (taste.favourite, taste.second) = (taste.second, taste.favourite);
        }
        let weights = taste.distribution();
        let Some(item) = random.weighted(&weights) else { break };
        let before = |(other, &weight): (usize, &u64)| {
            weight > weights[item] || weight == weights[item] && other < item
        };
        let oracle_rank = weights.iter().enumerate().filter(|&pair| before(pair)).count() as u32;
        looks.push(Look { item: item as u32, oracle_rank });
        taste.seen[item] = true;
        events.push(item as u32, Behaviour::View, random);

        let ItemTraits { world, stage, .. } = items[item];
        let at = |errand: &Errand| errand.world == world && errand.stage == stage;
        let Some(place) = taste.errands.iter().position(at) else { continue };
        taste.errands.swap(0, place);
        taste.errands[0].looked.push(item as u32);
        if taste.errands[0].looked.len() >= taste.errands[0].patience {
            decide(&taste, &mut events, random);
            advance(&mut taste, random);
        }
    }
    (events.list, looks)
}

/// The best liked of the items looked at: viewed again, maybe put into the cart, maybe bought.
fn decide(taste: &Taste<'_>, events: &mut Events, random: &mut Random) {
    let liking = |item: &&u32| taste.liking(&taste.items[**item as usize]);
    let Some(&best) = taste.errands[0].looked.iter().max_by_key(liking) else { return };
    events.push(best, Behaviour::View, random);
    if random.percent(CART_PERCENT) {
        events.push(best, Behaviour::Cart, random);
        if random.percent(BUY_PERCENT) {
            events.push(best, Behaviour::Buy, random);
        }
    }
}

/// On to the chain's next category, at its end to the world not followed.
fn advance(taste: &mut Taste<'_>, random: &mut Random) {
    let [Errand { world, stage, .. }, Errand { world: other, .. }] = taste.errands;
    let (world, stage) = match stage + 1 {
        // The three worlds are 0, 1 and 2: the third is what is missing from their sum.
        STAGES => (WORLDS - world - other, 0),
        next => (world, next),
    };
    taste.errands[0] = Errand::new(world, stage, random);
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
    fn push(&mut self, item: u32, behaviour: Behaviour, random: &mut Random) {
        self.list.push(Event { item, behaviour, time: self.time });
        self.until_break -= 1;
        self.time += match self.until_break {
            0 => random.between(4 * HOUR, 5 * DAY),
            _ => random.between(MINUTE / 2, 10 * MINUTE),
        };
        if self.until_break == 0 {
            self.until_break = random.between(4, 12);
        }
    }
}
