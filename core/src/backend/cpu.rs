//! The CPU backend: Rust SIMD chosen at run time, threads from the caller's rayon pool.
//!
//! It is a product, not a test double: most machines that run this have no usable GPU adapter.
//! Float products go through the `gemm` crate; `q8` and `q4` products quantise the activations to
//! int8 per 32 columns and multiply integers (`quantized.rs`).

mod activation;
mod attention;
mod concat;
mod cross_entropy;
mod dot;
mod gemm;
mod gradient;
mod l2_normalize;
mod layer_norm;
mod level;
mod linear;
mod linear_recurrence;
mod math;
mod matrix;
mod mix_rows;
mod quantized;
mod rms_norm;
mod rope;
mod rows;
mod similarity;
mod threads;
mod top_k;
mod transpose;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

pub use level::Level;
pub use matrix::Matrix;
use quantized::QuantizedRows;

use super::{
    Activation, Attend, Backend, BackendInfo, HeadShape, MatrixData, Mix, Recurrence, Segments,
    check,
};
use crate::error::Result;

/// An activation (rows, cols), shared until written.
#[derive(Clone, Debug)]
pub struct Tensor {
    data: Arc<Values>,
    shape: [usize; 2],
}

/// Row-major values and, once a quantised product has asked for them, the same as int8: q, k and v
/// share one quantisation of their input, gate and up another.
#[derive(Debug)]
struct Values {
    floats: Vec<f32>,
    int8: OnceLock<QuantizedRows>,
}

impl Deref for Values {
    type Target = Vec<f32>;

    fn deref(&self) -> &Vec<f32> {
        &self.floats
    }
}

/// A copy is made to be written, so it starts without int8 codes.
impl Clone for Values {
    fn clone(&self) -> Self {
        Self { floats: self.floats.clone(), int8: OnceLock::new() }
    }
}

impl Tensor {
    fn new(floats: Vec<f32>, shape: [usize; 2]) -> Self {
        debug_assert_eq!(floats.len(), shape[0] * shape[1]);
        Self { data: Arc::new(Values { floats, int8: OnceLock::new() }), shape }
    }

    /// The values, to be written; copied first if somebody else still holds the tensor.
    fn data_mut(&mut self) -> &mut [f32] {
        let values = Arc::make_mut(&mut self.data);
        values.int8.take();
        &mut values.floats
    }

    /// The values as int8.
    fn int8(&self, level: Level) -> &QuantizedRows {
        self.data.int8.get_or_init(|| QuantizedRows::new(level, &self.data, self.shape))
    }

    /// Row-major values.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values themselves, copied only if somebody else still holds the tensor.
    pub fn into_data(self) -> Vec<f32> {
        Arc::try_unwrap(self.data).map_or_else(|shared| shared.to_vec(), |values| values.floats)
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.shape[1]..][..self.shape[1]]
    }
}

/// A weight of one axis.
#[derive(Clone, Debug)]
pub struct Vector(Arc<[f32]>);

/// The CPU backend at one level of instructions.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    level: Level,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// The best level this machine has.
    pub fn new() -> Self {
        Self { level: Level::detect() }
    }

    /// A level of choice, for tests and comparisons; `None` where the machine lacks it.
    pub fn with_level(level: Level) -> Option<Self> {
        Level::available().contains(&level).then_some(Self { level })
    }

    /// The level in use.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type Vector = Vector;

    fn info(&self) -> BackendInfo {
        let adapter = match threads::count() {
            1 => format!("{}, 1 thread", self.level),
            threads => format!("{}, {threads} threads", self.level),
        };
        BackendInfo { device: "cpu", adapter }
    }

    fn upload(&self, data: &[f32], shape: [usize; 2]) -> Result<Tensor> {
        check::upload(data.len(), shape)?;
        Ok(Tensor::new(data.to_vec(), shape))
    }

    fn zeros(&self, shape: [usize; 2]) -> Result<Tensor> {
        Ok(Tensor::new(vec![0.0; check::elements("zeros", shape)?], shape))
    }

    fn matrix(&self, data: MatrixData) -> Result<Matrix> {
        Matrix::new(data)
    }

    fn vector(&self, _name: &str, data: &[f32]) -> Result<Vector> {
        Ok(Vector(data.into()))
    }

    fn shape(&self, x: &Tensor) -> [usize; 2] {
        x.shape
    }

    fn matrix_shape(&self, weight: &Matrix) -> [usize; 2] {
        weight.shape
    }

    async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.data.to_vec())
    }

    fn embed(&self, table: &Matrix, ids: &[u32]) -> Result<Tensor> {
        rows::embed(table, ids)
    }

    fn gather_rows(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        rows::gather_rows(x, rows)
    }

    fn scatter_rows(&self, x: &mut Tensor, rows: &[u32], source: &Tensor) -> Result<()> {
        rows::scatter_rows(x, rows, source)
    }

    fn concat(&self, parts: &[&Tensor]) -> Result<Tensor> {
        concat::concat(parts)
    }

    fn transpose(&self, x: &Tensor, groups: usize) -> Result<Tensor> {
        transpose::transpose(x, groups)
    }

    fn mix_rows(&self, x: &Tensor, mix: &Mix) -> Result<Tensor> {
        mix_rows::mix_rows(self.level, x, mix)
    }

    fn linear(&self, x: &Tensor, weight: &Matrix, bias: Option<&Vector>) -> Result<Tensor> {
        linear::linear(self.level, x, weight, bias)
    }

    fn linears<const N: usize>(
        &self,
        x: &Tensor,
        layers: [(&Matrix, Option<&Vector>); N],
    ) -> Result<[Tensor; N]> {
        linear::linears(self.level, x, layers)
    }

    fn linear_rows(&self, x: &Tensor, weight: &Matrix, asked: &[u32]) -> Result<Tensor> {
        linear::linear_rows(self.level, x, weight, asked)
    }

    fn similarity(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        similarity::similarity(self.level, a, b)
    }

    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        attend: &Attend<'_, Tensor>,
        heads: HeadShape,
    ) -> Result<Tensor> {
        attention::attention(self.level, q, k, v, attend, heads)
    }

    fn linear_recurrence(
        &self,
        x: &Tensor,
        recurrence: Recurrence<'_, Vector>,
        segments: &Segments,
        state: Option<&Tensor>,
    ) -> Result<Tensor> {
        linear_recurrence::linear_recurrence(self.level, x, recurrence, segments, state)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Vector, eps: f32) -> Result<Tensor> {
        rms_norm::rms_norm(self.level, x, weight, eps)
    }

    fn layer_norm(&self, x: &Tensor, weight: &Vector, bias: &Vector, eps: f32) -> Result<Tensor> {
        layer_norm::layer_norm(self.level, x, weight, bias, eps)
    }

    fn l2_normalize(&self, x: &Tensor, eps: f32) -> Result<Tensor> {
        l2_normalize::l2_normalize(self.level, x, eps)
    }

    fn rope(&self, x: &Tensor, angles: &Tensor, head_dim: usize) -> Result<Tensor> {
        rope::rope(self.level, x, angles, head_dim)
    }

    fn cross_entropy(&self, logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
        cross_entropy::cross_entropy(self.level, logits, targets)
    }

    fn top_k(&self, x: &Tensor, k: usize) -> Result<Tensor> {
        top_k::top_k(x, k)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        check::pair("add", "b", a.shape, b.shape)?;
        Ok(activation::zip(self.level, a, b, |a, b| a + b))
    }

    fn activate(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        Ok(activation::activate(self.level, x, f))
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
        check::pair("gated", "up", gate.shape, up.shape)?;
        Ok(activation::gated(self.level, gate, up, f))
    }

    fn dropout(&self, x: &Tensor, probability: f32) -> Result<Tensor> {
        check::dropout(probability)?;
        Ok(x.clone())
    }
}
