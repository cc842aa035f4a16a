//! What every model must beat: popularity and a first-order Markov chain.

use tributary_core::Result;
use tributary_core::models::sequence::RepeatedItems;
use tributary_core::recommend::{ItemIndex, Scorer};

/// How often each item occurs in the training data, for everybody.
#[derive(Clone, Debug, PartialEq)]
pub struct Popularity {
    counts: Vec<f32>, // (num_items)
    repeated_items: RepeatedItems,
}

/// How often each item followed the history's last item in the training data; popularity breaks
/// ties, and is all there is for an item that nothing followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Markov {
    /// By item, its followers with their counts.
    followers: Vec<Vec<(ItemIndex, u32)>>,
    popularity: Popularity,
}

impl Popularity {
    /// Counts `training`, whose items are below `num_items`.
    pub fn new(training: &[&[ItemIndex]], num_items: usize, repeated_items: RepeatedItems) -> Self {
        let mut counts = vec![0.0; num_items];
        for &item in training.iter().copied().flatten() {
            counts[item as usize] += 1.0;
        }
        Self { counts, repeated_items }
    }
}

impl Markov {
    /// Counts the pairs of `training`, whose items are below `num_items`.
    pub fn new(training: &[&[ItemIndex]], num_items: usize, repeated_items: RepeatedItems) -> Self {
        let mut followers: Vec<Vec<ItemIndex>> = vec![Vec::new(); num_items];
        for pair in training.iter().flat_map(|items| items.windows(2)) {
            followers[pair[0] as usize].push(pair[1]);
        }
        let counted = |mut items: Vec<ItemIndex>| {
            items.sort_unstable();
            items.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
        };
        let followers = followers.into_iter().map(counted).collect();
        Self { followers, popularity: Popularity::new(training, num_items, repeated_items) }
    }
}

impl Scorer for Popularity {
    fn num_items(&self) -> usize {
        self.counts.len()
    }

    fn repeated_items(&self) -> RepeatedItems {
        self.repeated_items
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        Ok(self.counts.repeat(histories.len()))
    }
}

impl Scorer for Markov {
    fn num_items(&self) -> usize {
        self.followers.len()
    }

    fn repeated_items(&self) -> RepeatedItems {
        self.popularity.repeated_items
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        let counts = &self.popularity.counts;
        let most = counts.iter().copied().fold(1.0, f32::max);
        // Popularity counts for less than one transition.
        let mut scores: Vec<f32> = counts.iter().map(|count| 0.5 * count / most).collect();
        scores = scores.repeat(histories.len());
        for (row, history) in scores.chunks_exact_mut(self.num_items().max(1)).zip(histories) {
            let Some(&last) = history.last() else { continue };
            for &(item, count) in &self.followers[last as usize] {
                row[item as usize] += count as f32;
            }
        }
        Ok(scores)
    }
}
