//! Values of a model that is trained from the start: seeded by tensor name, so that neither the
//! order of loading nor a new layer changes what the other tensors begin with.

use crate::random::Random;

/// Standard deviation of a fresh matrix; values beyond two of them are drawn again.
pub const INITIAL_STD: f64 = 0.02;

/// `len` values of the truncated normal distribution that `seed` and `name` choose.
pub(super) fn normal(seed: u64, name: &str, len: usize) -> Vec<f32> {
    let mut random = Random::named(seed, name);
    let value = || loop {
        let value = random.normal();
        if value.abs() <= 2.0 {
            return (value * INITIAL_STD) as f32;
        }
    };
    std::iter::repeat_with(value).take(len).collect()
}
