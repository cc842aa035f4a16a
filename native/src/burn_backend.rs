//! [`Backend`] on burn tensors: gradients flow through whatever a model does.
//!
//! Weights are slots ([`Parameter`]): a model loaded once sees every update of the optimiser. What
//! is not trainable is a constant, so inference builds no graph. Quantised weights are dequantised
//! when they are loaded; frozen ones may then be held as NF4.

mod activate;
mod attention;
mod dropout;
mod fused;
mod linear;
mod loss;
mod nf4;
mod parameter;
mod recurrence;
mod rows;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Int, Tensor, TensorData};
use tributary_core::backend::{
    Activation, Attend, Backend, BackendInfo, HeadShape, MatrixData, Mix, Recurrence, Segments,
    check,
};
use tributary_core::{Error, Result};

pub use parameter::{Gradients, Matrix, Parameter, Trainable, Vector};

/// Where burn computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BurnDevice {
    /// burn-flex on the processor.
    #[default]
    Cpu,
    /// burn-wgpu, in builds with the cargo feature `train-gpu`.
    Gpu,
    /// burn-cuda, in builds with the cargo feature `train-cuda`.
    Cuda,
}

impl BurnDevice {
    fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "train-gpu")]
            Self::Gpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "train-cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[cfg(not(feature = "train-gpu"))]
            Self::Gpu => Err(Self::missing("gpu", "train-gpu")),
            #[cfg(not(feature = "train-cuda"))]
            Self::Cuda => Err(Self::missing("cuda", "train-cuda")),
        }
    }

    #[cfg(not(all(feature = "train-gpu", feature = "train-cuda")))]
    fn missing(device: &str, feature: &str) -> Error {
        let expected = format!("cpu, or a build with the cargo feature `{feature}`");
        Error::argument("burn", "device", expected, device)
    }
}

/// How weights are held that get no gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrozenWeights {
    /// As f32.
    #[default]
    F32,
    /// Matrices, but no tables and heads ([`tributary_core::weights::is_table`]), as
    /// [`tributary_core::weights::Nf4`]; the others as f32.
    Nf4 {
        /// See [`tributary_core::weights::Absmax`].
        double_quantization: bool,
    },
}

/// What a [`Burn`] trains and which random numbers it draws.
#[derive(Clone, Debug, Default)]
pub struct BurnOptions {
    /// Which weights get gradients.
    pub trainable: Trainable,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Compose every operation of burn's own, as on a GPU, where the processor has kernels with a
    /// backward pass of their own. For tests and comparisons.
    pub composed: bool,
    /// What is not trainable.
    pub frozen: FrozenWeights,
    /// Dropout on what enters the A of a LoRA, while training.
    pub lora_dropout: f32,
}

/// The burn backend. Clones share weights and state; one `Burn` trains one model.
#[derive(Clone, Debug)]
pub struct Burn {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: Device,
    adapter: String,
    options: BurnOptions,
    /// NF4 is decoded by the host, since the device's memory is its own.
    on_host: bool,
    parameters: Mutex<Vec<Arc<Parameter>>>,
    /// Bytes by name.
    frozen: Mutex<BTreeMap<String, usize>>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    training: bool,
    step: u64,
    dropout_calls: u64,
}

/// A lock whose holder panicked still guards whole values: nothing here is changed in two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Burn {
    /// `Err` when this build has no such device. Starts in inference mode.
    pub fn new(device: BurnDevice, options: BurnOptions) -> Result<Self> {
        check::dropout(options.lora_dropout)?;
        let on_host = device == BurnDevice::Cpu && !options.composed;
        let device = device.open()?;
        let shared = Shared {
            adapter: format!("{device:?}"),
            device,
            options,
            on_host,
            parameters: Mutex::default(),
            frozen: Mutex::default(),
            state: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// From here on: gradients are recorded and dropout is active, with the masks of `step`.
    /// The same seed and step give the same masks on every device.
    pub fn training(&self, step: u64) {
        *lock(&self.shared.state) = State { training: true, step, dropout_calls: 0 };
    }

    /// The step that [`Burn::training`] was last told, for whoever draws random numbers per step.
    pub fn step(&self) -> u64 {
        lock(&self.shared.state).step
    }

    /// From here on: no graph, no dropout.
    pub fn inference(&self) {
        lock(&self.shared.state).training = false;
    }

    fn is_training(&self) -> bool {
        lock(&self.shared.state).training
    }

    fn fused(&self) -> bool {
        !self.shared.options.composed
    }

    /// The trainable weights loaded so far, by name.
    pub fn parameters(&self) -> Vec<Arc<Parameter>> {
        let mut parameters = lock(&self.shared.parameters).clone();
        parameters.sort_by(|a, b| a.name().cmp(b.name()));
        parameters
    }

    /// Bytes of the frozen weights loaded so far, by name.
    pub fn frozen_bytes(&self) -> BTreeMap<String, usize> {
        lock(&self.shared.frozen).clone()
    }

    /// [`Backend::upload`] of an activation whose gradient can be asked for.
    pub fn variable(&self, data: &[f32], shape: [usize; 2]) -> Result<Tensor<2>> {
        Ok(self.upload(data, shape)?.autodiff().require_grad())
    }

    /// The gradients of the sum of `loss`; consumes its graph. `Err` when nothing trainable led
    /// to it.
    pub fn backward(&self, loss: &Tensor<2>) -> Result<Gradients> {
        if !loss.is_tracked() {
            let found = "one that no trainable weight led to";
            return Err(Error::argument("backward", "loss", "a loss under training", found));
        }
        Ok(Gradients::new(loss.backward()))
    }

    /// The value of a weight: with its graph while training, a constant otherwise.
    fn value(&self, parameter: &Parameter) -> Tensor<2> {
        if self.is_training() { parameter.tracked() } else { parameter.constant() }
    }

    /// A vector (1, len), with its graph while training.
    pub(crate) fn vector_value(&self, vector: &Vector) -> Tensor<2> {
        self.value(&vector.weight)
    }

    /// A weight of this name and these axes; trainable ones are registered, and a trainable name
    /// asked for twice is one parameter (tied weights).
    fn parameter(
        &self,
        name: String,
        axes: &[usize],
        data: &[f32],
        is_lora: bool,
    ) -> Result<Arc<Parameter>> {
        let trainable = self.shared.options.trainable.includes(&name, is_lora);
        let mut parameters = lock(&self.shared.parameters);
        if let Some(known) = parameters.iter().find(|p| trainable && p.name() == name) {
            return match known.axes() == axes {
                true => Ok(known.clone()),
                false => Err(Error::file(name, "shape", format!("{:?}", known.axes()), {
                    format!("{axes:?}")
                })),
            };
        }
        let shape = [axes.iter().rev().skip(1).product(), axes.last().copied().unwrap_or(1)];
        let value = self.upload(data, shape)?;
        let parameter = Arc::new(Parameter::new(name, axes.to_vec(), value, trainable));
        if trainable {
            parameters.push(parameter.clone());
        } else {
            lock(&self.shared.frozen).insert(parameter.name().to_owned(), size_of_val(data));
        }
        Ok(parameter)
    }

    fn indices(&self, indices: &[u32]) -> Tensor<1, Int> {
        // Checked to be below a number of rows, and `upload` bounds those far below 2^31.
        let indices: Vec<i32> = indices.iter().map(|&i| i as i32).collect();
        let len = indices.len();
        Tensor::from_data(TensorData::new(indices, [len]), &self.shared.device)
    }

    /// Zero with `probability`, 1 / (1 - probability) elsewhere; `None` when nothing is dropped.
    fn dropout_mask<const D: usize>(
        &self,
        shape: [usize; D],
        probability: f32,
    ) -> Option<Tensor<D>> {
        let mut state = lock(&self.shared.state);
        if !state.training || probability == 0.0 {
            return None;
        }
        let key = [self.shared.options.seed, state.step, state.dropout_calls];
        state.dropout_calls += 1;
        let mask = dropout::mask(key, shape.iter().product(), probability);
        Some(Tensor::from_data(TensorData::new(mask, shape), &self.shared.device))
    }
}

impl Backend for Burn {
    type Tensor = Tensor<2>;
    type Matrix = Matrix;
    type Vector = Vector;

    fn info(&self) -> BackendInfo {
        BackendInfo { device: "burn", adapter: self.shared.adapter.clone() }
    }

    fn upload(&self, data: &[f32], shape: [usize; 2]) -> Result<Tensor<2>> {
        check::upload(data.len(), shape)?;
        Ok(Tensor::from_data(TensorData::new(data.to_vec(), shape), &self.shared.device))
    }

    fn zeros(&self, shape: [usize; 2]) -> Result<Tensor<2>> {
        check::elements("zeros", shape)?;
        Ok(Tensor::zeros(shape, &self.shared.device))
    }

    fn matrix(&self, data: MatrixData) -> Result<Matrix> {
        linear::matrix(self, &data)
    }

    fn vector(&self, name: &str, data: &[f32]) -> Result<Vector> {
        Ok(Vector { weight: self.parameter(name.into(), &[data.len()], data, false)? })
    }

    fn shape(&self, x: &Tensor<2>) -> [usize; 2] {
        x.dims()
    }

    fn matrix_shape(&self, weight: &Matrix) -> [usize; 2] {
        weight.shape()
    }

    async fn read(&self, x: &Tensor<2>) -> Result<Vec<f32>> {
        let data = x.clone().inner().into_data_async().await;
        let data = data.map_err(|e| Error::Internal(format!("burn: read: {e:?}")))?;
        data.try_into_vec().map_err(|e| Error::Internal(format!("burn: read: {e:?}")))
    }

    fn embed(&self, table: &Matrix, ids: &[u32]) -> Result<Tensor<2>> {
        linear::embed(self, table, ids)
    }

    fn gather_rows(&self, x: &Tensor<2>, rows: &[u32]) -> Result<Tensor<2>> {
        let [n, cols] = x.dims();
        check::indices("gather_rows", "rows", rows, n)?;
        if rows.is_empty() {
            return self.zeros([0, cols]);
        }
        Ok(x.clone().select(0, self.indices(rows)))
    }

    fn scatter_rows(&self, x: &mut Tensor<2>, rows: &[u32], source: &Tensor<2>) -> Result<()> {
        let [n, cols] = x.dims();
        check::scatter_rows([n, cols], rows, source.dims())?;
        let Some(&first) = rows.first() else { return Ok(()) };
        if rows.iter().zip(first..).all(|(&row, expected)| row == expected) {
            // One block, the way a cache grows: written where it stands.
            let block = first as usize..first as usize + rows.len();
            x.inplace(|x| x.slice_assign([block, 0..cols], source.clone()));
        } else {
            // burn has no gradient of a scattered assignment; of a gather it has.
            let mut from: Vec<u32> = (0..n as u32).collect();
            for (&row, i) in rows.iter().zip(n as u32..) {
                from[row as usize] = i;
            }
            let from = self.indices(&from);
            x.inplace(|x| Tensor::cat(vec![x, source.clone()], 0).select(0, from));
        }
        Ok(())
    }

    fn concat(&self, parts: &[&Tensor<2>]) -> Result<Tensor<2>> {
        rows::concat(parts)
    }

    fn transpose(&self, x: &Tensor<2>, groups: usize) -> Result<Tensor<2>> {
        rows::transpose(self, x, groups)
    }

    fn mix_rows(&self, x: &Tensor<2>, mix: &Mix) -> Result<Tensor<2>> {
        rows::mix_rows(self, x, mix)
    }

    fn linear(&self, x: &Tensor<2>, weight: &Matrix, bias: Option<&Vector>) -> Result<Tensor<2>> {
        linear::linear(self, x, weight, bias)
    }

    fn linear_rows(&self, x: &Tensor<2>, weight: &Matrix, asked: &[u32]) -> Result<Tensor<2>> {
        linear::linear_rows(self, x, weight, asked)
    }

    fn similarity(&self, a: &Tensor<2>, b: &Tensor<2>) -> Result<Tensor<2>> {
        rows::similarity(self, a, b)
    }

    fn attention(
        &self,
        q: &Tensor<2>,
        k: &Tensor<2>,
        v: &Tensor<2>,
        attend: &Attend<'_, Tensor<2>>,
        heads: HeadShape,
    ) -> Result<Tensor<2>> {
        check::attention(q.dims(), k.dims(), v.dims(), attend, heads, |x| x.dims())?;
        check::dropout(attend.dropout)?;
        if q.dims()[0] == 0 {
            return self.zeros([0, heads.q_size()]);
        }
        let fused = self.fused().then(|| fused::Attention::new(attend, heads, self.is_training()));
        match fused.flatten().and_then(|operation| fused::apply(operation, [q, k, v])) {
            Some(y) => y,
            None => Ok(attention::attention(self, [q, k, v], attend, heads)),
        }
    }

    fn linear_recurrence(
        &self,
        x: &Tensor<2>,
        recurrence: Recurrence<'_, Vector>,
        segments: &Segments,
        state: Option<&Tensor<2>>,
    ) -> Result<Tensor<2>> {
        recurrence::linear_recurrence(self, x, recurrence, segments, state)
    }

    fn rms_norm(&self, x: &Tensor<2>, weight: &Vector, eps: f32) -> Result<Tensor<2>> {
        check::vector("rms_norm", "weight", x.dims(), weight.len())?;
        let value = self.value(&weight.weight);
        if self.fused()
            && let Some(y) = fused::apply(fused::RmsNorm { eps }, [x, &value])
        {
            return y;
        }
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        Ok(x.clone() / (mean_square + eps).sqrt() * value)
    }

    fn layer_norm(
        &self,
        x: &Tensor<2>,
        weight: &Vector,
        bias: &Vector,
        eps: f32,
    ) -> Result<Tensor<2>> {
        check::vector("layer_norm", "weight", x.dims(), weight.len())?;
        check::vector("layer_norm", "bias", x.dims(), bias.len())?;
        let centred = x.clone() - x.clone().mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        let normal = centred / (variance + eps).sqrt();
        Ok(normal * self.value(&weight.weight) + self.value(&bias.weight))
    }

    fn l2_normalize(&self, x: &Tensor<2>, eps: f32) -> Result<Tensor<2>> {
        rows::l2_normalize(x, eps)
    }

    fn rope(&self, x: &Tensor<2>, angles: &Tensor<2>, head_dim: usize) -> Result<Tensor<2>> {
        check::rope(x.dims(), angles.dims(), head_dim)?;
        if self.fused()
            && let Some(rope) = fused::Rope::new(angles, head_dim)
            && let Some(y) = fused::apply(rope, [x])
        {
            return y;
        }
        let ([rows, cols], half) = (x.dims(), head_dim / 2);
        let angles = angles.clone().reshape([rows, 1, head_dim]);
        let (cos, sin) = (angles.clone().narrow(2, 0, half), angles.narrow(2, half, half));
        let x = x.clone().reshape([rows, cols / head_dim, head_dim]);
        let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        Ok(Tensor::cat(vec![first, b * cos + a * sin], 2).reshape([rows, cols]))
    }

    fn cross_entropy(&self, logits: &Tensor<2>, targets: &[u32]) -> Result<Tensor<2>> {
        check::cross_entropy(logits.dims(), targets)?;
        if targets.is_empty() {
            return self.zeros([0, 1]);
        }
        Ok(loss::cross_entropy(logits, self.indices(targets)))
    }

    /// The values carry no gradient. Sorts on the host: the only operation here besides
    /// [`Backend::read`] that waits.
    fn top_k(&self, x: &Tensor<2>, k: usize) -> Result<Tensor<2>> {
        let [rows, cols] = x.dims();
        check::top_k([rows, cols], k)?;
        let values: Vec<f32> = x
            .clone()
            .inner()
            .into_data()
            .try_into_vec()
            .map_err(|e| Error::Internal(format!("burn: top_k: {e:?}")))?;
        let mut best = Vec::with_capacity(rows * 2 * k);
        for row in values.chunks_exact(cols) {
            let mut columns: Vec<usize> = (0..cols).collect();
            columns.sort_by(|&a, &b| {
                let (a, b) = (row[a], row[b]);
                a.is_nan().cmp(&b.is_nan()).then(b.partial_cmp(&a).unwrap_or(Ordering::Equal))
            });
            best.extend(columns[..k].iter().map(|&column| row[column]));
            best.extend(columns[..k].iter().map(|&column| column as f32));
        }
        self.upload(&best, [rows, 2 * k])
    }

    fn add(&self, a: &Tensor<2>, b: &Tensor<2>) -> Result<Tensor<2>> {
        check::pair("add", "b", a.dims(), b.dims())?;
        Ok(a.clone() + b.clone())
    }

    fn activate(&self, x: &Tensor<2>, f: Activation) -> Result<Tensor<2>> {
        Ok(activate::activate(x.clone(), f))
    }

    fn gated(&self, gate: &Tensor<2>, up: &Tensor<2>, f: Activation) -> Result<Tensor<2>> {
        check::pair("gated", "up", gate.dims(), up.dims())?;
        if self.fused()
            && f == Activation::Silu
            && let Some(y) = fused::apply(fused::SiluGated, [gate, up])
        {
            return y;
        }
        Ok(self.activate(gate, f)? * up.clone())
    }

    fn dropout(&self, x: &Tensor<2>, probability: f32) -> Result<Tensor<2>> {
        check::dropout(probability)?;
        Ok(match self.dropout_mask(x.dims(), probability) {
            Some(mask) => x.clone() * mask,
            None => x.clone(),
        })
    }
}
