//! Two saved runs side by side, on the users of both.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;
use tributary_core::metrics::{BootstrapDistribution, Denominator, Differences, RankMetric};
use tributary_core::{Error, Result};

use super::{Run, UserResult};

/// Most samples of a bootstrap.
pub const MAX_SAMPLES: usize = 1_000_000;

/// How to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareOptions {
    /// What to compare, each once.
    pub metrics: Vec<RankMetric>,
    /// Bootstrap samples.
    pub samples: usize,
    /// The same seed draws the same samples.
    pub seed: u64,
    /// Share of the samples that the interval holds, such as 0.95.
    pub confidence: f64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        let metrics = vec![RankMetric::HitRate(10), RankMetric::Ndcg(10), RankMetric::Mrr(10)];
        Self { metrics, samples: 10_000, seed: 1, confidence: 0.95 }
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Users of both runs: what all means are over.
    pub users: usize,
    /// Users of the first run that the second does not have; they are left out.
    pub only_a: usize,
    /// Users of the second run that the first does not have; they are left out.
    pub only_b: usize,
    /// A target that was never ranked counts as a miss: `over_all_users`, of those in both.
    pub denominator: &'static str,
    /// In what the runs say to differ by more than the recommender: `candidates: 10, 100`.
    pub differs: Vec<String>,
    /// Bootstrap samples.
    pub samples: usize,
    /// Draws them.
    pub seed: u64,
    /// Share of the samples that the intervals hold.
    pub confidence: f64,
    /// One per metric.
    #[serde(skip)]
    pub metrics: Vec<Compared>,
}

/// One metric of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Its name, such as `hit_rate@10`.
    #[serde(skip)]
    pub metric: String,
    /// Mean of the first run.
    pub a: f64,
    /// Mean of the second.
    pub b: f64,
    /// First minus second: above 0 the first is better.
    pub difference: f64,
    /// The percentile bootstrap interval of the difference.
    pub interval: [f64; 2],
    /// Two-sided, see [`BootstrapDistribution::p_value`].
    pub p_value: f64,
    /// Users for whom the first run is better.
    pub a_better: usize,
    /// Users for whom both are the same.
    pub equal: usize,
    /// Users for whom the second run is better.
    pub b_better: usize,
    /// The mean difference of every bootstrap sample.
    #[serde(skip)]
    pub distribution: BootstrapDistribution,
}

/// Compares run `a` with run `b`, user by user. `progress` is called after each sample, from any
/// thread.
///
/// # Errors
/// Options that mean nothing; a user that is in a run twice, or whose target is another one in the
/// other run; no user in both.
pub fn compare(
    a: &Run,
    b: &Run,
    options: &CompareOptions,
    progress: impl Fn() + Sync,
) -> Result<Comparison> {
    let &CompareOptions { ref metrics, samples, seed, confidence } = options;
    if !(1..=MAX_SAMPLES).contains(&samples) {
        let expected = format!("1 to {MAX_SAMPLES}");
        return Err(Error::argument("compare", "samples", expected, samples));
    }
    let pairs = pairs(a, b)?;
    let mut differences = Vec::with_capacity(pairs.len() * metrics.len());
    let mut sums = vec![[0.0; 2]; metrics.len()];
    for (of_a, of_b) in &pairs {
        for (metric, sum) in metrics.iter().zip(&mut sums) {
            let values = [a.metric(*metric, of_a), b.metric(*metric, of_b)];
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            differences.push(values[0] - values[1]);
        }
    }
    let signs: Vec<[usize; 3]> =
        (0..metrics.len()).map(|metric| signs(&differences, metric, metrics.len())).collect();
    let differences = Differences::new(differences, metrics.len())?;
    let sampled: Vec<Vec<f64>> = (0..samples as u64)
        .into_par_iter()
        .map(|sample| {
            let means = differences.resample(seed, sample);
            progress();
            means
        })
        .collect();
    let compared = metrics.iter().enumerate().map(|(place, metric)| {
        let means = sampled.iter().filter_map(|means| means.get(place).copied());
        let distribution = BootstrapDistribution::new(means.collect())?;
        let [a, b] = sums[place].map(|sum| sum / pairs.len() as f64);
        let [a_better, equal, b_better] = signs[place];
        Ok(Compared {
            metric: metric.to_string(),
            a,
            b,
            difference: a - b,
            interval: distribution.interval(confidence)?,
            p_value: distribution.p_value(),
            a_better,
            equal,
            b_better,
            distribution,
        })
    });
    Ok(Comparison {
        users: pairs.len(),
        only_a: a.users.len() - pairs.len(),
        only_b: b.users.len() - pairs.len(),
        denominator: Denominator::OverAllUsers.name(),
        differs: differs(a, b),
        samples,
        seed,
        confidence,
        metrics: compared.collect::<Result<_>>()?,
    })
}

/// The users of both, in the order of `a`.
fn pairs<'a>(a: &'a Run, b: &'a Run) -> Result<Vec<(&'a UserResult, &'a UserResult)>> {
    let users_of_a = by_name(a)?;
    let users_of_b = by_name(b)?;
    let mut pairs = Vec::with_capacity(users_of_a.len().min(users_of_b.len()));
    for user in &a.users {
        let Some(&other) = users_of_b.get(user.user.as_str()) else { continue };
        if user.target != other.target {
            let field = format!("target of user {}", user.user);
            let expected = format!("{} as in {}", user.target, a.file);
            return Err(Error::file(&b.file, field, expected, &other.target));
        }
        pairs.push((user, other));
    }
    match pairs.is_empty() {
        true => Err(Error::file(&b.file, "users", format!("some of those of {}", a.file), "none")),
        false => Ok(pairs),
    }
}

fn by_name(run: &Run) -> Result<HashMap<&str, &UserResult>> {
    let mut users = HashMap::with_capacity(run.users.len());
    for user in &run.users {
        if users.insert(user.user.as_str(), user).is_some() {
            return Err(Error::file(&run.file, "users", "each user once", &user.user));
        }
    }
    Ok(users)
}

/// How many differences of a metric are above, at and below 0; `differences` are (users, metrics).
fn signs(differences: &[f64], metric: usize, metrics: usize) -> [usize; 3] {
    let mut signs = [0; 3];
    for &difference in differences.iter().skip(metric).step_by(metrics) {
        let place = if difference > 0.0 { 0 } else { 1 + usize::from(difference < 0.0) };
        signs[place] += 1;
    }
    signs
}

/// What two runs should have in common and say they have not.
fn differs(a: &Run, b: &Run) -> Vec<String> {
    let mut differs = Vec::new();
    for key in ["data", "data_sha256", "split", "target_behaviour", "candidates"] {
        let [a, b] = [a, b].map(|run| run.about.get(key).map_or("nothing", String::as_str));
        if a != b {
            differs.push(format!("{key}: {a} / {b}"));
        }
    }
    differs
}
