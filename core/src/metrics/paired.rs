//! Whether two recommenders differ on the same users: the paired bootstrap.
//!
//! Users are drawn with replacement, as many as there are, and a sample's mean difference is
//! noted; the noted differences are the distribution that intervals and p-values are read from
//! (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 15). Both values
//! of a user are drawn together, which is what makes it paired.

use crate::error::{Error, Result};
use crate::random::Random;

/// What the same users' metrics differ by.
#[derive(Clone, Debug, PartialEq)]
pub struct Differences {
    values: Vec<f64>, // (users, metrics)
    metrics: usize,
}

impl Differences {
    /// `values` (users, metrics), row-major.
    ///
    /// # Errors
    /// No user, no metric, rows that are not whole, a value that is not finite.
    pub fn new(values: Vec<f64>, metrics: usize) -> Result<Self> {
        if values.is_empty() || metrics == 0 || !values.len().is_multiple_of(metrics) {
            let expected = format!("users times {metrics} metrics, and neither of them 0");
            return Err(Error::argument("bootstrap", "differences", expected, values.len()));
        }
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let found = format!("{} of user {}", values[place], place / metrics);
            return Err(Error::argument("bootstrap", "differences", "finite values", found));
        }
        Ok(Self { values, metrics })
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.values.len() / self.metrics
    }

    /// The mean difference of each metric over one bootstrap sample: (metrics). The same users for
    /// all metrics; the same for the same seed and number of the sample, whoever draws it.
    pub fn resample(&self, seed: u64, sample: u64) -> Vec<f64> {
        let mut random = Random::stream(seed, sample);
        let mut sums = vec![0.0; self.metrics];
        let users = self.users();
        for _ in 0..users {
            let row = random.below(users as u64) as usize * self.metrics;
            let row = self.values.get(row..row + self.metrics).unwrap_or_default();
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        sums.iter_mut().for_each(|sum| *sum /= users as f64);
        sums
    }
}

/// The mean differences of all samples of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapDistribution {
    sorted: Vec<f64>, // (samples)
}

impl BootstrapDistribution {
    /// From each sample's mean difference, in any order.
    ///
    /// # Errors
    /// No sample; one that is not finite.
    pub fn new(mut means: Vec<f64>) -> Result<Self> {
        if means.is_empty() {
            return Err(Error::argument("bootstrap", "samples", "at least 1", 0));
        }
        if let Some(found) = means.iter().find(|mean| !mean.is_finite()) {
            return Err(Error::argument("bootstrap", "samples", "finite differences", found));
        }
        means.sort_unstable_by(f64::total_cmp);
        Ok(Self { sorted: means })
    }

    /// The samples' mean differences, ascending.
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// The percentile interval that holds the middle `confidence` of the samples, linear between
    /// neighbours.
    ///
    /// # Errors
    /// A confidence that is not between 0 and 1.
    pub fn interval(&self, confidence: f64) -> Result<[f64; 2]> {
        if !(confidence > 0.0 && confidence < 1.0) {
            let expected = "a share between 0 and 1, such as 0.95";
            return Err(Error::argument("bootstrap", "confidence", expected, confidence));
        }
        let tail = (1.0 - confidence) / 2.0;
        Ok([self.quantile(tail), self.quantile(1.0 - tail)])
    }

    fn quantile(&self, share: f64) -> f64 {
        let last = self.sorted.len() - 1;
        let place = share * last as f64;
        let low = (place.floor() as usize).min(last);
        let (below, above) = (self.sorted[low], self.sorted[(low + 1).min(last)]);
        below + (above - below) * (place - low as f64)
    }

    /// The two-sided p-value of no difference: twice the smaller share of samples on one side of 0,
    /// which is 1 - the confidence of the widest interval that leaves 0 out. Samples at 0 count half
    /// on each side, and one sample more on the smaller, so that no finite number of samples says 0
    /// (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2).
    pub fn p_value(&self) -> f64 {
        let below = self.sorted.partition_point(|&mean| mean < 0.0) as f64;
        let above = (self.sorted.len() - self.sorted.partition_point(|&mean| mean <= 0.0)) as f64;
        let ties = self.sorted.len() as f64 - below - above;
        let smaller = below.min(above) + ties / 2.0;
        (2.0 * (smaller + 1.0) / (self.sorted.len() as f64 + 1.0)).min(1.0)
    }
}
