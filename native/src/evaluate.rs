//! How good a recommender is on a data set: ranks of held-out items, in packed batches.

mod baselines;

use std::collections::BTreeMap;
use std::time::Instant;

pub use baselines::{Markov, Popularity};
use serde::Serialize;
use tributary_core::metrics::{Denominator, RankingMetrics, sample};
use tributary_core::models::sasrec::{RepeatedItems, SeenItems};
use tributary_core::random::Random;
use tributary_core::recommend::{Catalogue, ItemIndex, Scorer, rank_of};
use tributary_core::{Error, Result};

use crate::data::{Case, Dataset, Split, SplitRule};

/// What the target is ranked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidates {
    /// Every item, seen ones as the scorer's protocol has it (never recommended, or score 0).
    All,
    /// `num_candidates` items: the target, and others drawn without replacement from the items that
    /// are neither in the history nor the target.
    Sampled {
        /// With the target.
        num_candidates: usize,
        /// The same seed draws the same candidates.
        seed: u64,
    },
    /// The expectation of [`Candidates::Sampled`] over all draws, exactly: no seed can move it.
    Exact {
        /// With the target.
        num_candidates: usize,
    },
}

/// How to evaluate.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateOptions {
    /// Which targets.
    pub split: Split,
    /// Against what.
    pub candidates: Candidates,
    /// Metrics at each of these.
    pub k: Vec<usize>,
    /// At most this many users, from the first on.
    pub users: Option<usize>,
    /// Instead of the scorer's own protocol.
    pub seen_items: Option<SeenItems>,
    /// Users per batch.
    pub batch: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            split: Split::Test,
            candidates: Candidates::All,
            k: vec![1, 5, 10, 20],
            users: None,
            seen_items: None,
            batch: 256,
        }
    }
}

/// What came out. Its JSON has at least `metrics`, `users` and `denominator`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// `hit_rate@10`, `ndcg@10`, `mrr@10`, `recall@10` and so on.
    pub metrics: BTreeMap<String, f64>,
    /// Users evaluated.
    pub users: usize,
    /// What the means are over: always `over_all_users` here, where everything is ranked.
    pub denominator: &'static str,
    /// Items the scorer knows.
    pub items: usize,
    /// Users whose target the scorer does not know: misses.
    pub unknown_targets: usize,
    /// How the candidates were chosen, in words.
    pub candidates: String,
    /// Wall clock, reading not counted.
    pub seconds: f64,
    /// The place of each user's target, 0 the best, in order of the users; `None` where it is
    /// unknown. Empty for expectations.
    #[serde(skip)]
    pub ranks: Vec<Option<usize>>,
    /// The drawn candidates of each user without the target, in the scorer's indices; empty unless
    /// they were sampled.
    #[serde(skip)]
    pub drawn: Vec<Vec<ItemIndex>>,
}

/// Ranks the held-out items of `data` by the scores of `scorer`, whose items are `catalogue`'s.
/// `progress` is told the users done and the users in all, after each batch.
///
/// Where the scorer counts only first interactions ([`RepeatedItems::First`]), so does the split:
/// see [`Dataset::without_repeats`].
///
/// # Errors
/// No user to evaluate, options that mean nothing, a score that is NaN.
pub fn evaluate(
    scorer: &impl Scorer,
    catalogue: &Catalogue,
    data: &Dataset,
    options: &EvaluateOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Evaluation> {
    let started = Instant::now();
    options.check()?;
    if catalogue.len() != scorer.num_items() {
        let expected = format!("{} items", scorer.num_items());
        return Err(Error::argument("evaluate", "catalogue", expected, catalogue.len()));
    }
    let without_repeats;
    let data = match scorer.repeated_items() {
        RepeatedItems::Keep => data,
        RepeatedItems::First => {
            without_repeats = data.without_repeats();
            &without_repeats
        }
    };
    let index = scorer_indices(data, catalogue);
    let mut cases = data.cases(options.split);
    cases.truncate(options.users.unwrap_or(usize::MAX));
    if cases.is_empty() {
        let expected = "users with at least 3 interactions";
        return Err(Error::file(&data.name, "users", expected, "none"));
    }
    if !cases.iter().any(|case| index[case.target as usize].is_some()) {
        let expected = "items of the recommender's catalogue";
        let found = data.catalogue.name(cases[0].target);
        return Err(Error::file(&data.name, "items", expected, format!("none, such as {found}")));
    }

    let seen_items = options.seen_items.unwrap_or_else(|| scorer.seen_items());
    let mut ranking = Ranking {
        candidates: options.candidates,
        seen_items,
        metrics: RankingMetrics::new(&options.k)?,
        ranks: Vec::new(),
        drawn: Vec::new(),
        seen: vec![false; catalogue.len()],
    };
    let mut done = 0;
    for batch in cases.chunks(options.batch) {
        let histories: Vec<Vec<ItemIndex>> =
            batch.iter().map(|case| known(case.history, &index)).collect();
        let slices: Vec<_> = histories.iter().map(Vec::as_slice).collect();
        let mut scores = pollster::block_on(scorer.score_batch(&slices))?;
        let rows = scores.chunks_exact_mut(catalogue.len());
        for ((case, history), row) in batch.iter().zip(&histories).zip(rows) {
            ranking.rank(case, history, index[case.target as usize], row)?;
        }
        done += batch.len();
        progress(done, cases.len());
    }
    let over = Denominator::OverAllUsers;
    let metrics = &ranking.metrics;
    Ok(Evaluation {
        metrics: metrics.by_name(over),
        users: metrics.users(),
        denominator: over.name(),
        items: catalogue.len(),
        unknown_targets: metrics.users() - metrics.retrieved_users(),
        candidates: options.candidates.describe(seen_items),
        seconds: started.elapsed().as_secs_f64(),
        ranks: ranking.ranks,
        drawn: ranking.drawn,
    })
}

/// Popularity and a first-order Markov chain on the same users, by name: what a model must beat.
/// They learn from the training part of `data`, as a model does, or from the histories where the
/// split was given. Options as for [`evaluate`]; `scorer` is the model
/// to compare with, whose protocol they follow.
///
/// # Errors
/// As for [`evaluate`].
pub fn evaluate_baselines(
    scorer: &impl Scorer,
    catalogue: &Catalogue,
    data: &Dataset,
    options: &EvaluateOptions,
) -> Result<Vec<(&'static str, Evaluation)>> {
    let repeated_items = scorer.repeated_items();
    let without_repeats = matches!(repeated_items, RepeatedItems::First);
    let reduced = without_repeats.then(|| data.without_repeats());
    let training: Vec<Vec<ItemIndex>> = {
        let data = reduced.as_ref().unwrap_or(data);
        let index = scorer_indices(data, catalogue);
        let sequences = match data.split {
            SplitRule::LeaveOneOut => data.training(),
            SplitRule::Given => {
                data.cases(options.split).into_iter().map(|case| case.history).collect()
            }
        };
        sequences.into_iter().map(|items| known(items, &index)).collect()
    };
    let training: Vec<_> = training.iter().map(Vec::as_slice).collect();
    // A baseline's own protocol is to exclude what was seen; the model's may differ.
    let seen_items = options.seen_items.unwrap_or_else(|| scorer.seen_items());
    let options = EvaluateOptions { seen_items: Some(seen_items), ..options.clone() };
    let popularity = Popularity::new(&training, catalogue.len(), repeated_items);
    let markov = Markov::new(&training, catalogue.len(), repeated_items);
    Ok(vec![
        ("popularity", evaluate(&popularity, catalogue, data, &options, |_, _| ())?),
        ("markov", evaluate(&markov, catalogue, data, &options, |_, _| ())?),
    ])
}

/// From the data's items to the scorer's, by raw id.
fn scorer_indices(data: &Dataset, catalogue: &Catalogue) -> Vec<Option<ItemIndex>> {
    data.catalogue.items().iter().map(|item| catalogue.index_of(&item.id)).collect()
}

/// The items that the scorer knows.
fn known(items: &[ItemIndex], index: &[Option<ItemIndex>]) -> Vec<ItemIndex> {
    items.iter().filter_map(|&item| index[item as usize]).collect()
}

impl EvaluateOptions {
    fn check(&self) -> Result<()> {
        let at_least = |argument, minimum: usize, found: usize| match found < minimum {
            true => Err(Error::argument("evaluate", argument, format!("{minimum} or more"), found)),
            false => Ok(()),
        };
        at_least("batch", 1, self.batch)?;
        match self.candidates {
            Candidates::All => Ok(()),
            Candidates::Sampled { num_candidates, .. } | Candidates::Exact { num_candidates } => {
                at_least("candidates", 2, num_candidates)
            }
        }
    }
}

impl Candidates {
    fn describe(self, seen_items: SeenItems) -> String {
        match self {
            Self::All => match seen_items {
                SeenItems::Exclude => "all items, seen ones excluded".into(),
                SeenItems::ScoreZero => "all items, seen ones with score 0".into(),
            },
            Self::Sampled { num_candidates, seed } => {
                format!("{num_candidates} with the target, drawn with seed {seed}")
            }
            Self::Exact { num_candidates } => {
                format!("{num_candidates} with the target, exact expectation over all draws")
            }
        }
    }
}

/// Collects the users' ranks.
struct Ranking {
    candidates: Candidates,
    seen_items: SeenItems,
    metrics: RankingMetrics,
    ranks: Vec<Option<usize>>,
    drawn: Vec<Vec<ItemIndex>>,
    /// By item, all false between users.
    seen: Vec<bool>,
}

impl Ranking {
    fn rank(
        &mut self,
        case: &Case<'_>,
        history: &[ItemIndex],
        target: Option<ItemIndex>,
        scores: &mut [f32],
    ) -> Result<()> {
        let Some(target) = target else {
            self.metrics.add_missed();
            self.ranks.push(None);
            return Ok(());
        };
        history.iter().for_each(|&item| self.seen[item as usize] = true);
        let all = 0..scores.len() as ItemIndex;
        let competitors = |seen: &[bool]| -> Vec<ItemIndex> {
            all.clone().filter(|&item| item != target && !seen[item as usize]).collect()
        };
        match self.candidates {
            Candidates::All => {
                let rank = match self.seen_items {
                    SeenItems::Exclude => rank_of(scores, target, competitors(&self.seen))?,
                    SeenItems::ScoreZero => {
                        // The target keeps its score even when it is a repeated item, as in the
                        // published code's ranking of what came next.
                        for &item in history.iter().filter(|&&item| item != target) {
                            scores[item as usize] = 0.0;
                        }
                        rank_of(scores, target, all)?
                    }
                };
                self.add(rank);
            }
            Candidates::Sampled { num_candidates, seed } => {
                let mut random = Random::stream(seed, case.user as u64);
                let drawn = sample(&mut random, &competitors(&self.seen), num_candidates - 1);
                let rank = rank_of(scores, target, drawn.iter().copied())?;
                self.add(rank);
                self.drawn.push(drawn);
            }
            Candidates::Exact { num_candidates } => {
                let competitors = competitors(&self.seen);
                let eligible = competitors.len();
                let better = rank_of(scores, target, competitors)?;
                self.metrics.add_expected(better, eligible, num_candidates - 1);
            }
        }
        history.iter().for_each(|&item| self.seen[item as usize] = false);
        Ok(())
    }

    fn add(&mut self, rank: usize) {
        self.metrics.add(rank);
        self.ranks.push(Some(rank));
    }
}
