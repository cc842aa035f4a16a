//! What is recommended to everybody, whether or not it is what came: coverage, novelty, diversity.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// An item's embedding by its index, `None` where it has none.
pub type EmbeddingOf<'a> = Box<dyn Fn(u32) -> Option<&'a [f32]> + 'a>;

/// Metrics of the best items of every user, at several k. Nothing of a user is kept but sums.
pub struct ListMetrics<'a> {
    ks: Vec<usize>,
    information: Vec<f64>, // (num_items), bits
    embedding: Option<EmbeddingOf<'a>>,
    /// The best place that each item ever had; `usize::MAX` for none.
    best_place: Vec<usize>, // (num_items)
    novelty: Vec<Mean>,   // (ks)
    diversity: Vec<Mean>, // (ks)
}

/// A sum over users with its number of users.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    users: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.users += 1;
    }
}

impl<'a> ListMetrics<'a> {
    /// Nothing yet. `information` (num_items) is each item's [`self_information`]; without
    /// `embedding` there is no diversity.
    pub fn new(ks: &[usize], information: Vec<f64>, embedding: Option<EmbeddingOf<'a>>) -> Self {
        Self {
            ks: ks.to_vec(),
            best_place: vec![usize::MAX; information.len()],
            information,
            embedding,
            novelty: vec![Mean::default(); ks.len()],
            diversity: vec![Mean::default(); ks.len()],
        }
    }

    /// One user's items, best first: at least as many as the largest k where there are that many.
    ///
    /// # Errors
    /// An item that is none of the catalogue's.
    pub fn add(&mut self, top: &[u32]) -> Result<()> {
        let mut bits = 0.0;
        let (mut novelty, mut diversity) = (Vec::new(), Vec::new()); // at k = 1, 2, ...
        let mut directions = Directions::default();
        for (place, &item) in top.iter().enumerate() {
            let known = self.best_place.get_mut(item as usize);
            let (Some(best), Some(own)) = (known, self.information.get(item as usize)) else {
                let expected = format!("items below {}", self.information.len());
                return Err(Error::argument("metrics", "top", expected, item));
            };
            *best = place.min(*best);
            bits += own;
            novelty.push(bits / (place + 1) as f64);
            if let Some(row) = self.embedding.as_ref().and_then(|embedding| embedding(item)) {
                directions.add(row);
            }
            diversity.push(directions.diversity());
        }
        let sums = self.novelty.iter_mut().zip(&mut self.diversity);
        for (&k, (novel, diverse)) in self.ks.iter().zip(sums) {
            let Some(last) = k.min(top.len()).checked_sub(1) else { continue };
            novelty.get(last).into_iter().for_each(|&value| novel.add(value));
            diversity.get(last).into_iter().flatten().for_each(|&value| diverse.add(value));
        }
        Ok(())
    }

    /// By name, for each k:
    ///
    /// - `catalogue_coverage@k`: the share of the catalogue that is among the first k of any user
    ///   (Ge, Delgado-Battenfeld, Jannach: "Beyond accuracy", RecSys 2010).
    /// - `novelty@k`: the mean self-information of the first k, in bits, averaged over users whose
    ///   list is not empty (Zhou et al., PNAS 2010; the MSI of Vargas and Castells, RecSys 2011).
    /// - `intra_list_diversity@k`: the mean of 1 - cosine over the pairs of the first k, averaged
    ///   over users with a pair (Ziegler et al., WWW 2005; Vargas and Castells). Items without an
    ///   embedding, or with one of zeros, form no pair.
    ///
    /// What has nothing to be a mean of is absent.
    pub fn by_name(&self) -> BTreeMap<String, f64> {
        let mut names = BTreeMap::new();
        let means = self.novelty.iter().zip(&self.diversity);
        for (k, (novelty, diversity)) in self.ks.iter().zip(means) {
            if !self.best_place.is_empty() {
                let covered = self.best_place.iter().filter(|place| *place < k).count();
                let share = covered as f64 / self.best_place.len() as f64;
                names.insert(format!("catalogue_coverage@{k}"), share);
            }
            for (name, Mean { sum, users }) in
                [("novelty", novelty), ("intra_list_diversity", diversity)]
            {
                if *users > 0 {
                    names.insert(format!("{name}@{k}"), sum / *users as f64);
                }
            }
        }
        names
    }
}

/// Each item's self-information -log2(p) in bits, p the share of the training `users` that have
/// it: log2(users / its users) (Zhou et al., PNAS 2010, Eq. 5). An item that nobody has gets
/// p = 1 / (users + 1), as if one user more had come and taken it.
pub fn self_information(users_of_item: &[u64], users: u64) -> Vec<f64> {
    let bits = |&own: &u64| match own {
        0 => (users as f64 + 1.0).log2(),
        own => (users.max(own) as f64 / own as f64).log2(),
    };
    users_of_item.iter().map(bits).collect()
}

/// Unit vectors and their sum, whose square tells the sum of all pairs' cosines without looking at
/// the pairs: |sum of u|^2 = n + 2 * (sum of cosines).
#[derive(Debug, Default)]
struct Directions {
    sum: Vec<f64>,
    len: f64,
}

impl Directions {
    fn add(&mut self, row: &[f32]) {
        let norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            self.sum.resize(row.len(), 0.0);
            self.sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value) / norm);
            self.len += 1.0;
        }
    }

    /// `None` without a pair.
    fn diversity(&self) -> Option<f64> {
        let square: f64 = self.sum.iter().map(|sum| sum * sum).sum();
        let pairs = self.len * (self.len - 1.0);
        // Rounding may leave equal directions at -1e-16.
        (self.len > 1.0).then(|| (1.0 - (square - self.len) / pairs).max(0.0))
    }
}
