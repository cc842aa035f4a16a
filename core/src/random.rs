//! Seeded randomness that is the same on every machine: SplitMix64 (Steele, Lea, Flood: "Fast
//! splittable pseudorandom number generators", OOPSLA 2014).
//!
//! The integer draws (the synthetic shop, sampled candidates) do not depend on a platform's floating
//! point. Not for secrets.

/// A SplitMix64 generator: 64 bits of state, period 2^64.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The sequence of one `stream` of `seed`: streams are independent of each other, so that user
    /// 7 is the same user whether 10 or 10,000 users are drawn.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut outer = Self::new(seed);
        let base = outer.next_u64();
        let mut inner = Self::new(base ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        inner.next_u64();
        inner
    }

    /// The sequence of a `name` under `seed` (FNV-1a hash).
    pub fn named(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::stream(seed, hash)
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal with mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Uniform in 0..n; 0 for n = 0. The upper half of a 128-bit product: its bias is below
    /// n / 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in low..=high; `low` when the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `percent` of 100 draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Fills the first `draws` places by a draw without replacement, in the order drawn (a partial
    /// Fisher-Yates shuffle); `items.len()` draws shuffle all.
    pub fn shuffle<T>(&mut self, items: &mut [T], draws: usize) {
        for place in 0..draws.min(items.len()) {
            let other = place + self.below((items.len() - place) as u64) as usize;
            items.swap(place, other);
        }
    }

    /// An index with probability proportional to its weight; `None` when all weights are 0.
    pub fn weighted(&mut self, weights: &[u64]) -> Option<usize> {
        let mut left = self.below(weights.iter().sum());
        weights.iter().position(|&weight| {
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        })
    }
}
