//! Choosing the next token.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::llama::TokenId;
use crate::random::Random;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// The largest logit.
    Greedy,
    /// A draw from softmax(logits / temperature), cut to `top_k` and `top_p`.
    Random {
        /// Above 0; 1 leaves the model's distribution as it is.
        temperature: f32,
        /// Only the k most likely tokens; 0 for all.
        top_k: usize,
        /// Only the fewest most likely tokens whose probabilities reach this; 1 for all.
        top_p: f32,
        /// Equal seeds draw equal tokens from equal logits.
        seed: u64,
    },
}

/// A rule and its random state.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
}

impl Sampler {
    /// `Err` for a temperature or `top_p` out of range.
    pub fn new(sampling: Sampling) -> Result<Self> {
        let mut seed = 0;
        if let Sampling::Random { temperature, top_p, seed: s, .. } = sampling {
            if !(temperature.is_finite() && temperature > 0.0) {
                let expected = "a number above 0";
                return Err(Error::argument("sampler", "temperature", expected, temperature));
            }
            if !(top_p > 0.0 && top_p <= 1.0) {
                return Err(Error::argument("sampler", "top_p", "above 0 and at most 1", top_p));
            }
            seed = s;
        }
        Ok(Self { sampling, random: Random::new(seed) })
    }

    /// The next token from `logits` (1, vocab_size). Greedy and top-k read back their few values,
    /// not the vocabulary. Logits without a single finite value are an error.
    pub async fn next<B: Backend>(&mut self, b: &B, logits: &B::Tensor) -> Result<TokenId> {
        let vocab_size = b.shape(logits)[1];
        let Sampling::Random { temperature, top_k, top_p, .. } = self.sampling else {
            return Ok(most_likely(b, logits, 1).await?[0].1);
        };
        let mut choices = if top_k > 0 {
            most_likely(b, logits, top_k.min(vocab_size)).await?
        } else {
            let all = b.read(logits).await?;
            let mut all: Vec<_> =
                all.into_iter().zip(0..).filter(|(v, _)| v.is_finite()).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            all
        };
        let Some(&(peak, _)) = choices.first() else { return Err(not_finite()) };
        for (value, _) in &mut choices {
            *value = ((*value - peak) / temperature).exp();
        }
        let total: f32 = choices.iter().map(|(p, _)| p).sum();
        let mut kept = 0.0;
        let mut count = 0;
        while count < choices.len() && kept < top_p * total {
            kept += choices[count].0;
            count += 1;
        }
        choices.truncate(count.max(1));
        let mut left = self.random.unit() * choices.iter().map(|(p, _)| f64::from(*p)).sum::<f64>();
        for (p, token) in &choices {
            left -= f64::from(*p);
            if left < 0.0 {
                return Ok(*token);
            }
        }
        Ok(choices[choices.len() - 1].1)
    }
}

fn not_finite() -> Error {
    Error::argument("sampler", "logits", "at least one finite value", "none")
}

/// The `k` largest finite logits, largest first, with their tokens; at least one.
async fn most_likely<B: Backend>(
    b: &B,
    logits: &B::Tensor,
    k: usize,
) -> Result<Vec<(f32, TokenId)>> {
    let top = b.read(&b.top_k(logits, k)?).await?;
    let (values, tokens) = top.split_at(k);
    let pairs = values.iter().zip(tokens).map(|(&value, &token)| (value, token as TokenId));
    let pairs: Vec<_> = pairs.filter(|(value, _)| value.is_finite()).collect();
    if pairs.is_empty() { Err(not_finite()) } else { Ok(pairs) }
}
