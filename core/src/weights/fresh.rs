//! Values of a model that is trained from the start: seeded by tensor name, so that neither the
//! order of loading nor a new layer changes what the other tensors begin with.

use crate::random::Random;

/// Standard deviation of [`Initial::Fixed`], BERT's and GPT's, made for widths near a thousand.
pub const INITIAL_STD: f64 = 0.02;

/// How wide the values of a fresh matrix are spread: truncated normals, values beyond two standard
/// deviations drawn again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// [`INITIAL_STD`], whatever the width.
    #[default]
    Fixed,
    /// 1 / sqrt(in), LeCun's: a product leaves the size of what it multiplies as it is, at any
    /// width. In a narrow model several fixed ones in a row leave next to nothing.
    FanIn,
}

impl Initial {
    /// Of a matrix with `input` columns.
    fn std(self, input: usize) -> f64 {
        match self {
            Self::Fixed => INITIAL_STD,
            Self::FanIn => (input.max(1) as f64).sqrt().recip(),
        }
    }

    /// Values of a matrix (out, in) that `seed` and `name` choose.
    pub(super) fn values(self, seed: u64, name: &str, [out, input]: [usize; 2]) -> Vec<f32> {
        let (mut random, std) = (Random::named(seed, name), self.std(input));
        let value = || loop {
            let value = random.normal();
            if value.abs() <= 2.0 {
                return (value * std) as f32;
            }
        };
        std::iter::repeat_with(value).take(out * input).collect()
    }
}
