//! Normalisation of each row.

use crate::backend::Backend;
use crate::error::Result;
use crate::weights::Weights;

/// x * weight / sqrt(mean(x^2) + eps)
#[derive(Clone, Debug)]
pub struct RmsNorm<B: Backend> {
    weight: B::Vector,
    rms_norm_eps: f32,
}

impl<B: Backend> RmsNorm<B> {
    /// `weight` (hidden_size).
    pub fn load(w: &Weights<'_, B>, hidden_size: usize, rms_norm_eps: f32) -> Result<Self> {
        Ok(Self { weight: w.vector("weight", hidden_size)?, rms_norm_eps })
    }

    /// (rows, hidden_size) -> same
    pub fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        b.rms_norm(x, &self.weight, self.rms_norm_eps)
    }
}

/// (x - mean) / sqrt(var + eps) * weight + bias
#[derive(Clone, Debug)]
pub struct LayerNorm<B: Backend> {
    weight: B::Vector,
    bias: B::Vector,
    layer_norm_eps: f32,
}

impl<B: Backend> LayerNorm<B> {
    /// `weight` and `bias` (hidden_size).
    pub fn load(w: &Weights<'_, B>, hidden_size: usize, layer_norm_eps: f32) -> Result<Self> {
        let (weight, bias) = (w.vector("weight", hidden_size)?, w.vector("bias", hidden_size)?);
        Ok(Self { weight, bias, layer_norm_eps })
    }

    /// (rows, hidden_size) -> same
    pub fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        b.layer_norm(x, &self.weight, &self.bias, self.layer_norm_eps)
    }
}
