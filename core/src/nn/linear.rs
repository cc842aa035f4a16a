//! y = W x + b

use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::weights::Weights;

/// A weight (out, in) with or without a bias (out). Whether it is quantised, low-rank updated or
/// trainable is the backend's business.
#[derive(Clone, Debug)]
pub struct Linear<B: Backend> {
    weight: B::Matrix,
    bias: Option<B::Vector>,
}

impl<B: Backend> Linear<B> {
    /// `weight` [out, in] and, if asked for, `bias` [out].
    pub fn load(w: &Weights<'_, B>, shape: [usize; 2], bias: bool) -> Result<Self> {
        let weight = w.matrix("weight", shape)?;
        let bias = if bias { Some(w.vector("bias", shape[0])?) } else { None };
        Ok(Self { weight, bias })
    }

    /// (rows, in) -> (rows, out)
    pub fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        b.linear(x, &self.weight, self.bias.as_ref()).at(|| "Linear")
    }
}
