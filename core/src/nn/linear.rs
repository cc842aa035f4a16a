//! y = W x + b

use std::ops::Range;

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
    /// `weight` (out, in) and, if asked for, `bias` (out).
    pub fn load(w: &Weights<'_, B>, shape: [usize; 2], bias: bool) -> Result<Self> {
        let weight = w.matrix("weight", shape)?;
        let bias = if bias { Some(w.vector("bias", shape[0])?) } else { None };
        Ok(Self { weight, bias })
    }

    /// The rows `rows` of `weight` (out, in) and `bias` (out): one of several layers that a file
    /// holds as one.
    pub fn load_rows(
        w: &Weights<'_, B>,
        shape: [usize; 2],
        bias: bool,
        rows: Range<usize>,
    ) -> Result<Self> {
        let weight = w.matrix_rows("weight", shape, rows.clone())?;
        let bias = if bias { Some(w.vector_rows("bias", shape[0], rows)?) } else { None };
        Ok(Self { weight, bias })
    }

    /// (rows, in) -> (rows, out)
    pub fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        b.linear(x, &self.weight, self.bias.as_ref()).at(|| "Linear")
    }

    /// [`Linear::forward`] of several layers with the same input.
    pub fn forward_all<const N: usize>(
        layers: [&Self; N],
        b: &B,
        x: &B::Tensor,
    ) -> Result<[B::Tensor; N]> {
        let layers = layers.map(|layer| (&layer.weight, layer.bias.as_ref()));
        b.linears(x, layers).at(|| "Linear")
    }
}
