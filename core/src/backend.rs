//! Floor 1, what every model stands on: fused operations over packed rows.
//!
//! Activations are matrices `(rows, cols)`, row-major f32: rows are the tokens, patches or items of
//! *all* sequences of a batch, packed without padding. A [`Segments`] says which rows belong
//! together; only attention needs it, everything else sees one big matrix, which is also the
//! fastest shape.
//!
//! Operations are coarse, so that a backend can fuse and quantise inside them. Precision,
//! quantisation and LoRA live inside [`Backend::Matrix`]; a model cannot tell.

pub mod check;
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
mod mix;
mod recurrence;
mod segments;
mod weight;

pub use mix::Mix;
pub use recurrence::Recurrence;
pub use segments::{Attend, HeadShape, Mask, Prefix, Segments};
pub use weight::{LoraData, MatrixData, rounds_activations};

use std::fmt::Debug;

use crate::error::Result;

/// A nonlinearity, of an MLP, a gate or a pooler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * Phi(x), exact by erf.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// x * sigmoid(1.702 x), CLIP's approximation of GELU.
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// x * sigmoid(x).
    Silu,
    /// tanh(x), of the poolers of BERT and ViT.
    Tanh,
}

impl Activation {
    /// By the name `config.json` uses for it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "quick_gelu" => Some(Self::QuickGelu),
            "relu" => Some(Self::Relu),
            "sigmoid" => Some(Self::Sigmoid),
            "silu" | "swish" => Some(Self::Silu),
            "tanh" => Some(Self::Tanh),
            _ => None,
        }
    }
}

/// What runs the operations, for the answer's `backend` field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// `cpu`, `gpu` or `burn`.
    pub device: &'static str,
    /// Instruction set, adapter and driver, or burn's device.
    pub adapter: String,
}

/// The operations of all models. Implemented by `cpu` (always there), `gpu` (wgpu) and, in the
/// native package, burn (gradients).
///
/// Every operation returns `Err` when shapes or indices do not fit; none panics. An operation with
/// no rows gives a tensor with no rows.
#[expect(
    async_fn_in_trait,
    reason = "no caller needs the future to be Send: pollster or the page's loop waits"
)]
pub trait Backend: Clone + Debug {
    /// An activation (rows, cols), f32.
    type Tensor: Clone + Debug;
    /// A weight (out, in) as this backend stores it: float or quantised, with or without LoRA.
    type Matrix: Clone + Debug;
    /// A weight of one axis, f32: a norm's weight or a bias.
    type Vector: Clone + Debug;

    /// What this backend runs on.
    fn info(&self) -> BackendInfo;

    // ---- host <-> device ----

    /// `data` (rows * cols) -> (rows, cols).
    fn upload(&self, data: &[f32], shape: [usize; 2]) -> Result<Self::Tensor>;
    /// A tensor of zeros: the storage of a cache.
    fn zeros(&self, shape: [usize; 2]) -> Result<Self::Tensor>;
    /// A weight in the form this backend multiplies it. The data must have passed
    /// [`MatrixData::check`].
    fn matrix(&self, data: MatrixData) -> Result<Self::Matrix>;
    /// A weight of one axis.
    fn vector(&self, name: &str, data: &[f32]) -> Result<Self::Vector>;
    /// (rows, cols) of an activation.
    fn shape(&self, x: &Self::Tensor) -> [usize; 2];
    /// (out, in) of a weight.
    fn matrix_shape(&self, weight: &Self::Matrix) -> [usize; 2];
    /// Row-major values. The only place that waits.
    async fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>>;

    // ---- rows ----

    /// Rows of `table` (n, cols) as stored: (ids, cols). Every id must be below n. A low-rank update
    /// belongs to products and is not part of a row.
    fn embed(&self, table: &Self::Matrix, ids: &[u32]) -> Result<Self::Tensor>;
    /// The rows of `x` in the order asked, repeats allowed: (asked, cols).
    fn gather_rows(&self, x: &Self::Tensor, rows: &[u32]) -> Result<Self::Tensor>;
    /// Overwrites rows of `x` by the rows of `source`, in place; `rows` must be distinct.
    fn scatter_rows(&self, x: &mut Self::Tensor, rows: &[u32], source: &Self::Tensor)
    -> Result<()>;
    /// The columns of all parts side by side: parts (rows, cols_i) -> (rows, sum of cols_i). At
    /// least one part.
    fn concat(&self, parts: &[&Self::Tensor]) -> Result<Self::Tensor>;
    /// The transpose of each of `groups` equal blocks of rows: (groups * n, cols) ->
    /// (groups * cols, n). Between two of these a linear works over positions instead of columns.
    fn transpose(&self, x: &Self::Tensor, groups: usize) -> Result<Self::Tensor>;
    /// Weighted sums of rows: `y[i]` = sum over the entries of row i of `weight * x[column]`; `x`
    /// (from, cols), `mix` (rows, from) -> (rows, cols).
    fn mix_rows(&self, x: &Self::Tensor, mix: &Mix) -> Result<Self::Tensor>;

    // ---- products ----

    /// x W^T (+ bias): (rows, in) -> (rows, out). W (out, in), bias (out).
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Matrix,
        bias: Option<&Self::Vector>,
    ) -> Result<Self::Tensor>;
    /// [`Backend::linear`] of one input by several weights, which a backend may compute side by side.
    fn linears<const N: usize>(
        &self,
        x: &Self::Tensor,
        layers: [(&Self::Matrix, Option<&Self::Vector>); N],
    ) -> Result<[Self::Tensor; N]> {
        // Anything of the type: all are overwritten.
        let mut results = layers.map(|_| x.clone());
        for (y, (weight, bias)) in results.iter_mut().zip(layers) {
            *y = self.linear(x, weight, bias)?;
        }
        Ok(results)
    }
    /// [`Backend::linear`] for the asked rows of `weight` only: (rows, in) -> (rows, asked).
    /// A language model's head is asked for a few of its many tokens.
    fn linear_rows(
        &self,
        x: &Self::Tensor,
        weight: &Self::Matrix,
        asked: &[u32],
    ) -> Result<Self::Tensor>;
    /// a b^T, both activations: (rows_a, cols), (rows_b, cols) -> (rows_a, rows_b). With a column of
    /// ones as `b` it repeats a column.
    fn similarity(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// softmax(q k^T / sqrt(head_dim), masked) v, per head: (rows, num_attention_heads * head_dim).
    /// `q` as the result; `k`, `v` (rows, num_key_value_heads * head_dim), or as many rows as
    /// [`Attend::keys`] has. See [`Attend`] for who sees whom.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        attend: &Attend<'_, Self::Tensor>,
        heads: HeadShape,
    ) -> Result<Self::Tensor>;

    /// h_t = lambda * h_(t-1) + gamma * x_t over the rows of each segment, complex, by channel
    /// ([`Recurrence`]). `x` (rows, 2 * channels): the real parts, then the imaginary ones; the
    /// result has the same form. `state` (segments, 2 * channels) is what came before each
    /// segment's first row; nothing where it is `None`.
    fn linear_recurrence(
        &self,
        x: &Self::Tensor,
        recurrence: Recurrence<'_, Self::Vector>,
        segments: &Segments,
        state: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;

    // ---- per row ----

    /// x * weight / sqrt(mean(x^2) + eps), per row.
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Result<Self::Tensor>;
    /// (x - mean) / sqrt(var + eps) * weight + bias, per row; the variance is the biased one.
    fn layer_norm(
        &self,
        x: &Self::Tensor,
        weight: &Self::Vector,
        bias: &Self::Vector,
        eps: f32,
    ) -> Result<Self::Tensor>;
    /// x / max(||x||, eps), per row: rows of length 1, rows of zeros stay zeros. `eps` is at least
    /// [`check::MIN_NORM`].
    fn l2_normalize(&self, x: &Self::Tensor, eps: f32) -> Result<Self::Tensor>;
    /// Rotary position embedding, the half-split form of Hugging Face: with a, b the halves of each
    /// head, (a cos - b sin, b cos + a sin). `angles` (rows, head_dim): head_dim / 2 cosines, then
    /// as many sines, of each row's position.
    fn rope(
        &self,
        x: &Self::Tensor,
        angles: &Self::Tensor,
        head_dim: usize,
    ) -> Result<Self::Tensor>;
    /// `-log softmax(logits)[target]`, per row: (rows, cols) -> (rows, 1).
    fn cross_entropy(&self, logits: &Self::Tensor, targets: &[u32]) -> Result<Self::Tensor>;
    /// The k largest of each row, largest first, equal values in column order:
    /// (rows, cols) -> (rows, 2k), the values and then their columns, as exact f32 integers.
    /// Columns are limited to 2^24; NaN ranks last.
    fn top_k(&self, x: &Self::Tensor, k: usize) -> Result<Self::Tensor>;

    // ---- per element ----

    /// a + b.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// f(x).
    fn activate(&self, x: &Self::Tensor, f: Activation) -> Result<Self::Tensor>;
    /// f(gate) * up.
    fn gated(&self, gate: &Self::Tensor, up: &Self::Tensor, f: Activation) -> Result<Self::Tensor>;
    /// While training: zero with `probability`, else divided by 1 - probability. Elsewhere `x`.
    fn dropout(&self, x: &Self::Tensor, probability: f32) -> Result<Self::Tensor>;
}
