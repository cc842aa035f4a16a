//! Floor 8, how good a ranking is: hit rate, ndcg, mrr, recall at k and auc, for one target per
//! user; what is recommended to everybody (`lists.rs`); whether two recommenders differ
//! (`paired.rs`).
//!
//! Ranks here are places counted from 0: how many items rank before the target. Every mean says
//! what it is a mean over ([`Denominator`]).

mod lists;
mod paired;

use std::collections::BTreeMap;
use std::fmt;

pub use lists::{EmbeddingOf, ListMetrics, self_information};
pub use paired::{BootstrapDistribution, Differences};

use crate::error::{Error, Result};
use crate::random::Random;

/// What a mean is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denominator {
    /// Every user; a target that was never ranked counts as a miss.
    OverAllUsers,
    /// Users whose target was among what the first stage retrieved.
    OverRetrievedUsers,
}

impl Denominator {
    /// The name used in answers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::OverAllUsers => "over_all_users",
            Self::OverRetrievedUsers => "over_retrieved_users",
        }
    }
}

/// The metrics of one user, or their expectation, at one k.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AtK {
    /// 1 when the target is among the first k.
    pub hit_rate: f64,
    /// 1 / log2(place + 2) when it is.
    pub ndcg: f64,
    /// 1 / (place + 1) when it is.
    pub mrr: f64,
}

impl AtK {
    /// The metrics of a target at `rank` (0 is the best).
    pub fn at(rank: usize, k: usize) -> Self {
        if rank >= k {
            return Self::default();
        }
        let place = rank as f64;
        Self { hit_rate: 1.0, ndcg: 1.0 / (place + 2.0).log2(), mrr: 1.0 / (place + 1.0) }
    }

    /// The expectation when the target competes with `draws` others drawn without replacement from
    /// `eligible` items, `better` of which rank before it: the number of better ones drawn is
    /// hypergeometric. No seed, no variance. More draws than eligible items draw them all.
    pub fn expected(better: usize, eligible: usize, draws: usize, k: usize) -> Self {
        let better = better.min(eligible);
        let draws = draws.min(eligible);
        let worse = eligible - better;
        // P(x) = C(better, x) C(worse, draws - x) / C(eligible, draws), in logarithms: the first
        // probability may underflow while the middle of the distribution does not. Then
        // P(x + 1) / P(x) = (better - x) (draws - x) / ((x + 1) (worse - draws + x + 1)).
        let first = draws.saturating_sub(worse);
        let last = better.min(draws);
        // x = first: all worse items are drawn, or none of the better ones.
        let mut log_probability = if first == 0 {
            log_share(worse, eligible, draws)
        } else {
            // Equivalently: the items *not* drawn are all better ones.
            log_share(better, eligible, eligible - draws)
        };
        let mut expected = Self::default();
        for drawn in first..=last {
            if drawn >= k {
                break;
            }
            let probability = log_probability.exp();
            let at = Self::at(drawn, k);
            expected.hit_rate += probability * at.hit_rate;
            expected.ndcg += probability * at.ndcg;
            expected.mrr += probability * at.mrr;
            let up = (better - drawn) as f64 * (draws - drawn) as f64;
            // worse - draws + drawn + 1 is positive for every drawn >= first.
            let down = (drawn + 1) as f64 * (worse + drawn + 1 - draws) as f64;
            log_probability += (up / down).ln();
        }
        expected
    }
}

/// ln of the probability that `draws` from `all` items are all among a chosen `part` of them:
/// sum of ln((part - i) / (all - i)). `draws` <= `part` <= `all`.
fn log_share(part: usize, all: usize, draws: usize) -> f64 {
    (0..draws).map(|i| ((part - i) as f64 / (all - i) as f64).ln()).sum()
}

/// A metric of one user that its target's rank decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankMetric {
    /// `hit_rate@k`; with one target per user also `recall@k`.
    HitRate(usize),
    /// `ndcg@k`
    Ndcg(usize),
    /// `mrr@k`
    Mrr(usize),
    /// `auc`, see [`auc_of_rank`].
    Auc,
}

impl RankMetric {
    /// By its name, such as `ndcg@10`.
    ///
    /// # Errors
    /// Another name, or a k of 0.
    pub fn parse(name: &str) -> Result<Self> {
        let (metric, k) = name.split_once('@').unwrap_or((name, ""));
        match (metric, k.parse().ok().filter(|&k| k > 0)) {
            ("hit_rate" | "recall", Some(k)) => Ok(Self::HitRate(k)),
            ("ndcg", Some(k)) => Ok(Self::Ndcg(k)),
            ("mrr", Some(k)) => Ok(Self::Mrr(k)),
            ("auc", None) if name == "auc" => Ok(Self::Auc),
            _ => {
                let expected = "hit_rate@k, recall@k, ndcg@k or mrr@k with a k above 0, or auc";
                Err(Error::argument("metrics", "metric", expected, name))
            }
        }
    }

    /// The metric of a target at `rank` (0 is the best) among `num_candidates`, itself included; 0
    /// where it was never ranked. With `draws` it is the expectation over so many competitors drawn
    /// from these, see [`AtK::expected`].
    pub fn of(self, rank: Option<usize>, num_candidates: usize, draws: Option<usize>) -> f64 {
        let Some(rank) = rank else { return 0.0 };
        let competitors = num_candidates.saturating_sub(1);
        let at = |k| match draws {
            Some(draws) => AtK::expected(rank, competitors, draws, k),
            None => AtK::at(rank, k),
        };
        match self {
            Self::HitRate(k) => at(k).hit_rate,
            Self::Ndcg(k) => at(k).ndcg,
            Self::Mrr(k) => at(k).mrr,
            // The expectation over draws is the same share.
            Self::Auc => auc_of_rank(rank, competitors),
        }
    }
}

impl fmt::Display for RankMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HitRate(k) => write!(f, "hit_rate@{k}"),
            Self::Ndcg(k) => write!(f, "ndcg@{k}"),
            Self::Mrr(k) => write!(f, "mrr@{k}"),
            Self::Auc => f.write_str("auc"),
        }
    }
}

/// One user's area under the ROC curve: the share of `competitors` that rank behind a target at
/// `rank` (0 is the best), equal scores in the order that the rank was made in; 1 without
/// competitors, as for [`AtK`]. Its mean over users is the AUC of BPR (Rendle et al., UAI 2009).
pub fn auc_of_rank(rank: usize, competitors: usize) -> f64 {
    if competitors == 0 {
        return 1.0;
    }
    1.0 - rank.min(competitors) as f64 / competitors as f64
}

/// The area under the ROC curve of scores with labels: the share of pairs of a positive and a
/// negative in which the positive scores higher, equal scores counting half (the statistic of Mann
/// and Whitney, by ranks; Hanley and McNeil 1982). For answers of yes or no. `None` where one of the
/// two is missing.
///
/// # Errors
/// A score that is NaN, naming its place.
pub fn auc(labelled: &[(f32, bool)]) -> Result<Option<f64>> {
    if let Some(place) = labelled.iter().position(|(score, _)| score.is_nan()) {
        return Err(Error::argument("auc", "score", "numbers", format!("NaN at {place}")));
    }
    let mut sorted = labelled.to_vec();
    // -0 and 0 are one score, as `==` has it.
    let score = |pair: &(f32, bool)| pair.0 + 0.0;
    sorted.sort_unstable_by(|a, b| score(a).total_cmp(&score(b)));
    let (mut negatives, mut positives, mut won) = (0.0, 0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let here = equal.iter().filter(|(_, positive)| *positive).count() as f64;
        let others = equal.len() as f64 - here;
        won += here * (negatives + others / 2.0);
        positives += here;
        negatives += others;
    }
    let pairs = positives * negatives;
    Ok((pairs > 0.0).then(|| won / pairs))
}

/// Sums over users, at several k.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingMetrics {
    ks: Vec<usize>,
    sums: Vec<AtK>, // (ks)
    users: usize,
    retrieved: usize,
}

impl RankingMetrics {
    /// Nothing yet, for these k.
    ///
    /// # Errors
    /// No k at all, or a k of 0.
    pub fn new(ks: &[usize]) -> Result<Self> {
        if ks.is_empty() || ks.contains(&0) {
            return Err(Error::argument(
                "metrics",
                "k",
                "at least one k above 0",
                format!("{ks:?}"),
            ));
        }
        Ok(Self { ks: ks.to_vec(), sums: vec![AtK::default(); ks.len()], users: 0, retrieved: 0 })
    }

    /// One user whose target is at `rank` (0 is the best).
    pub fn add(&mut self, rank: usize) {
        self.accumulate(|k| AtK::at(rank, k));
    }

    /// One user, the expectation over `draws` sampled competitors: see [`AtK::expected`].
    pub fn add_expected(&mut self, better: usize, eligible: usize, draws: usize) {
        self.accumulate(|k| AtK::expected(better, eligible, draws, k));
    }

    /// One user whose target was never ranked.
    pub fn add_missed(&mut self) {
        self.users += 1;
    }

    fn accumulate(&mut self, at: impl Fn(usize) -> AtK) {
        self.users += 1;
        self.retrieved += 1;
        for (&k, sum) in self.ks.iter().zip(&mut self.sums) {
            let AtK { hit_rate, ndcg, mrr } = at(k);
            sum.hit_rate += hit_rate;
            sum.ndcg += ndcg;
            sum.mrr += mrr;
        }
    }

    /// All users.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Users whose target was ranked.
    pub fn retrieved_users(&self) -> usize {
        self.retrieved
    }

    /// The means at each k, in the order of `new`; 0 without users.
    pub fn means(&self, over: Denominator) -> Vec<(usize, AtK)> {
        let users = match over {
            Denominator::OverAllUsers => self.users,
            Denominator::OverRetrievedUsers => self.retrieved,
        };
        let mean = |sum: f64| if users == 0 { 0.0 } else { sum / users as f64 };
        let mean = |sum: &AtK| AtK {
            hit_rate: mean(sum.hit_rate),
            ndcg: mean(sum.ndcg),
            mrr: mean(sum.mrr),
        };
        self.ks.iter().copied().zip(self.sums.iter().map(mean)).collect()
    }

    /// The means by name: `hit_rate@10`, `ndcg@10`, `mrr@10`, `recall@10` and so on. With one target
    /// per user recall is the hit rate.
    pub fn by_name(&self, over: Denominator) -> BTreeMap<String, f64> {
        let mut names = BTreeMap::new();
        for (k, AtK { hit_rate, ndcg, mrr }) in self.means(over) {
            names.insert(format!("hit_rate@{k}"), hit_rate);
            names.insert(format!("recall@{k}"), hit_rate);
            names.insert(format!("ndcg@{k}"), ndcg);
            names.insert(format!("mrr@{k}"), mrr);
        }
        names
    }
}

/// `draws` distinct items of `eligible` in the order drawn (all of them, shuffled, when there are
/// fewer): the same for the same state of `random` everywhere.
pub fn sample(random: &mut Random, eligible: &[u32], draws: usize) -> Vec<u32> {
    let mut items = eligible.to_vec();
    random.shuffle(&mut items, draws);
    items.truncate(draws);
    items
}
