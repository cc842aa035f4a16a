//! Values of a model that is trained from the start: seeded by tensor name, so that neither the
//! order of loading nor a new layer changes what the other tensors begin with.

/// Standard deviation of a fresh matrix; values beyond two of them are drawn again.
pub const INITIAL_STD: f64 = 0.02;

/// `len` values of the truncated normal distribution that `seed` and `name` choose.
pub(super) fn normal(seed: u64, name: &str, len: usize) -> Vec<f32> {
    let mut random = Random::new(seed, name);
    (0..len).map(|_| random.truncated_normal() as f32).collect()
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), started by an FNV-1a hash of the name.
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = Self(seed);
        random.0 = random.next() ^ hash;
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Box-Muller, redrawn beyond two standard deviations.
    fn truncated_normal(&mut self) -> f64 {
        loop {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            let value = radius * (std::f64::consts::TAU * self.uniform()).cos();
            if value.abs() <= 2.0 {
                return value * INITIAL_STD;
            }
        }
    }
}
