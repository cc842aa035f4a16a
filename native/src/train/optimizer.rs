//! Adam and AdamW on burn tensors. burn has both; ours keeps its moments by parameter name, so that
//! a checkpoint restores them exactly.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use tributary_core::backend::Backend;
use tributary_core::{Error, Result};

use crate::burn_backend::{Burn, Gradients, Parameter};

/// How weight decay enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Kingma and Ba, arXiv 1412.6980; weight decay is added to the gradient.
    Adam,
    /// Loshchilov and Hutter, arXiv 1711.05101; weight decay shrinks the weight itself.
    #[default]
    AdamW,
    /// Muon (Jordan et al. 2024) for the matrices between embeddings and head, with the step size
    /// of AdamW (Liu et al., arXiv 2502.16982): momentum made orthogonal, so that every direction of
    /// a matrix learns at one speed. AdamW for everything else.
    Muon,
}

/// `[optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// `adam`, `adamw` or `muon`.
    pub kind: OptimizerKind,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients and of their squares.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Applies to matrices; biases and norms are never decayed.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm over all parameters; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            learning_rate: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
        }
    }
}

/// The optimiser's state: two moments per parameter.
pub struct Optimizer {
    config: OptimizerConfig,
    /// First and second moment by parameter name; (1, len) for one axis.
    moments: BTreeMap<String, [Tensor<2>; 2]>,
}

impl Optimizer {
    /// Without history.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, moments: BTreeMap::new() }
    }

    /// Moments of a checkpoint.
    pub(super) fn restore(&mut self, moments: BTreeMap<String, [Tensor<2>; 2]>) {
        self.moments = moments;
    }

    /// First and second moment by parameter name.
    pub(super) fn moments(&self) -> &BTreeMap<String, [Tensor<2>; 2]> {
        &self.moments
    }

    /// One update, `step` from 0. Parameters without a gradient stay. Returns the norm of all
    /// gradients before clipping; when it is not finite, nothing has been changed.
    pub fn update(
        &mut self,
        b: &Burn,
        parameters: &[Arc<Parameter>],
        gradients: &Gradients,
        step: u64,
        learning_rate: f64,
    ) -> Result<f64> {
        let with_gradient: Vec<_> = parameters
            .iter()
            .filter_map(|parameter| Some((parameter, gradients.of_parameter(parameter)?)))
            .collect();
        if with_gradient.is_empty() {
            let expected = "a loss that depends on a trainable weight";
            return Err(Error::argument("optimizer", "gradients", expected, "none"));
        }
        // By rows first: a full sum of a large tensor would depend on how threads share it.
        let squares = with_gradient
            .iter()
            .map(|(_, gradient)| (gradient.clone() * gradient.clone()).sum_dim(1).sum_dim(0));
        let squares = pollster::block_on(b.read(&Tensor::cat(squares.collect(), 0)))?;
        let norm = squares.iter().map(|&square| f64::from(square)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }

        let OptimizerConfig { kind, betas: [beta1, beta2], eps, .. } = self.config;
        let limit = self.config.max_grad_norm;
        let scale = if limit > 0.0 && norm > limit { limit / norm } else { 1.0 };
        let done = step as i32 + 1;
        let (correction1, correction2) = (1.0 - beta1.powi(done), 1.0 - beta2.powi(done));
        for (parameter, gradient) in with_gradient {
            let decay = if parameter.axes().len() > 1 { self.config.weight_decay } else { 0.0 };
            let mut weight = parameter.constant();
            let mut gradient = if scale == 1.0 { gradient } else { gradient * scale };
            match kind {
                _ if decay == 0.0 => {}
                OptimizerKind::Adam => gradient = gradient + weight.clone() * decay,
                OptimizerKind::AdamW | OptimizerKind::Muon => {
                    weight = weight * (1.0 - learning_rate * decay)
                }
            }
            let (mean, square) = match self.moments.remove(parameter.name()) {
                Some([mean, square]) => (mean * beta1, square * beta2),
                None => (gradient.zeros_like(), gradient.zeros_like()),
            };
            if self.config.kind == OptimizerKind::Muon && is_hidden(parameter) {
                // `mean` is a sum with decay here; what comes of it has no size of its own.
                let mean = mean + gradient.clone();
                let change = orthogonal(gradient + mean.clone() * beta1);
                parameter.set(weight - change * learning_rate);
                self.moments.insert(parameter.name().to_owned(), [mean, square]);
                continue;
            }
            let mean = mean + gradient.clone() * (1.0 - beta1);
            let square = square + gradient.clone() * gradient * (1.0 - beta2);
            let root = (square.clone() / correction2).sqrt() + eps;
            let change = mean.clone() / root * (learning_rate / correction1);
            parameter.set(weight - change);
            self.moments.insert(parameter.name().to_owned(), [mean, square]);
        }
        Ok(norm)
    }
}

/// A matrix between embeddings and head.
fn is_hidden(parameter: &Parameter) -> bool {
    let name = parameter.name();
    parameter.axes().len() == 2 && !name.contains("embed") && !name.contains("lm_head")
}

/// The nearest matrix whose singular values are all near one, by five steps of Newton and Schulz,
/// times 0.2 sqrt(larger axis): the size of AdamW's steps.
fn orthogonal(x: Tensor<2>) -> Tensor<2> {
    const STEPS: usize = 5;
    // Coefficients of the quintic by which Muon's authors drive singular values near one.
    const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
    let [rows, cols] = x.dims();
    let norm = (x.clone() * x.clone()).sum_dim(1).sum_dim(0).sqrt() + 1e-7;
    let is_tall = rows > cols;
    let mut x = x / norm;
    if is_tall {
        x = x.transpose();
    }
    let [a, b, c] = QUINTIC;
    for _ in 0..STEPS {
        let gram = x.clone().matmul(x.clone().transpose());
        let terms = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + terms.matmul(x);
    }
    if is_tall {
        x = x.transpose();
    }
    x * (0.2 * (rows.max(cols) as f64).sqrt())
}
