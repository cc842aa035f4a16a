//! Frozen matrices in NF4, the base under QLoRA's adapters: held as bytes and dequantised where a
//! product needs them, once forward and once backward, so that neither the model nor the graph keeps
//! them as f32.
//!
//! On the processor the host decodes. On other devices the bytes lie in integer tensors and burn's
//! operations decode them there: burn has no NF4, and a matrix that crossed the bus for every
//! product would cost more than the product.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor, Flex};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use tributary_core::Result;
use tributary_core::weights::{ABSMAX_BLOCK, ABSMAX_CODE, Absmax, NF4_BLOCK, NF4_CODE, Nf4};

/// Values that one task decodes: whole blocks.
const TASK: usize = 512 * NF4_BLOCK;

/// A frozen matrix (out, in).
#[derive(Debug)]
pub(super) struct Frozen {
    pub shape: [usize; 2],
    bytes: usize,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Host(Nf4),
    Device(Box<OnDevice>),
}

impl Frozen {
    /// For a device whose memory is the host's, or for another one.
    pub(super) fn new(values: Nf4, shape: [usize; 2], device: &Device, on_host: bool) -> Self {
        let bytes = values.bytes();
        let held = match on_host {
            true => Held::Host(values),
            false => Held::Device(Box::new(OnDevice::new(&values, device))),
        };
        Self { shape, bytes, held }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// (out, in) as f32, without a graph.
    pub(super) fn dequantize(&self, device: &Device) -> Result<Tensor<2>> {
        let [out, input] = self.shape;
        match &self.held {
            Held::Host(nf4) => {
                let mut values = vec![0.0; out * input];
                let tasks = values.par_chunks_mut(TASK).enumerate();
                tasks.try_for_each(|(i, values)| nf4.read(i * TASK, values))?;
                Ok(Tensor::from_data(TensorData::new(values, self.shape), device))
            }
            Held::Device(matrix) => {
                let values = matrix.dequantize(device);
                Ok(values.slice(0..out * input).reshape(self.shape))
            }
        }
    }
}

/// What a device holds: four bytes an integer.
#[derive(Debug)]
struct OnDevice {
    codes: Tensor<1, Int>,
    blocks: usize,
    /// Of each block; under double quantisation of each block of these.
    scales: Tensor<1>,
    /// Codes and mean of the magnitudes under double quantisation.
    absmax: Option<(Tensor<1, Int>, f32)>,
}

impl OnDevice {
    fn new(values: &Nf4, device: &Device) -> Self {
        let (blocks, scales, absmax) = match values.absmax() {
            Absmax::Plain(absmax) => (absmax.len(), absmax, None),
            Absmax::Coded { codes, scales, mean } => {
                let words = words(codes, scales.len() * ABSMAX_BLOCK, device);
                (codes.len(), scales, Some((words, *mean)))
            }
        };
        let scales = Tensor::from_data(scales.as_slice(), device);
        let codes = words(values.codes(), blocks * NF4_BLOCK / 2, device);
        Self { codes, blocks, scales, absmax }
    }

    /// All values, those that fill the last block among them.
    fn dequantize(&self, device: &Device) -> Tensor<1> {
        let absmax = match &self.absmax {
            None => self.scales.clone(),
            Some((codes, mean)) => {
                let codes = unpack(codes, 8, [0, 8, 16, 24]);
                let values = look_up(ABSMAX_CODE.as_slice(), codes, device);
                let absmax = scaled(values, self.scales.clone(), ABSMAX_BLOCK) + *mean;
                absmax.slice(0..self.blocks)
            }
        };
        // The first of a byte's two is in its high bits.
        let codes = unpack(&self.codes, 4, [4, 0, 12, 8, 20, 16, 28, 24]);
        scaled(look_up(&NF4_CODE, codes, device), absmax, NF4_BLOCK)
    }
}

/// `bytes` and zeros up to `len`, a multiple of four.
fn words(bytes: &[u8], len: usize, device: &Device) -> Tensor<1, Int> {
    let mut bytes = bytes.to_vec();
    bytes.resize(len, 0);
    let words: Vec<i32> = bytes.as_chunks::<4>().0.iter().map(|&w| i32::from_le_bytes(w)).collect();
    let shape = [words.len()];
    Tensor::from_data(TensorData::new(words, shape), device)
}

/// N codes of so many `bits` from each word, at these places.
fn unpack<const N: usize>(words: &Tensor<1, Int>, bits: u32, shifts: [i32; N]) -> Tensor<1, Int> {
    let mask = (1i32 << bits) - 1;
    let part = |shift| words.clone().bitwise_right_shift_scalar(shift).bitwise_and_scalar(mask);
    let len = words.dims()[0] * N;
    Tensor::stack::<2>(shifts.map(part).into(), 1).reshape([len])
}

fn look_up(code: &[f32], codes: Tensor<1, Int>, device: &Device) -> Tensor<1> {
    Tensor::<1>::from_data(code, device).select(0, codes)
}

/// Each `block` of values times its scale.
fn scaled(values: Tensor<1>, scales: Tensor<1>, block: usize) -> Tensor<1> {
    let (len, blocks) = (values.dims()[0], scales.dims()[0]);
    (values.reshape([blocks, block]) * scales.reshape([blocks, 1])).reshape([len])
}

/// x W^T: (rows, in) -> (rows, out), rows > 0. The gradient goes to `x`.
pub(super) fn product(x: &Tensor<2>, weight: &Arc<Frozen>) -> Result<Tensor<2>> {
    match recorded(x, weight) {
        Some(y) => y,
        None => Ok(x.clone().matmul(weight.dequantize(&x.device())?.transpose())),
    }
}

/// `None` where there is no graph.
fn recorded(x: &Tensor<2>, weight: &Arc<Frozen>) -> Option<Result<Tensor<2>>> {
    if !x.is_tracked() {
        return None;
    }
    #[cfg(any(feature = "train-gpu", feature = "train-cuda"))]
    if let Some(y) = node::<burn::backend::Cube>(x, weight) {
        return Some(y);
    }
    node::<Flex>(x, weight)
}

/// As one node of burn's graph; `None` for tensors of another backend.
fn node<B: Backend>(x: &Tensor<2>, weight: &Arc<Frozen>) -> Option<Result<Tensor<2>>>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Recorded<B>>,
{
    let tracked = x.clone().try_into_primitive::<Recorded<B>>().ok()?;
    let x = Tensor::<2>::from_primitive::<B>(tracked.primitive().clone());
    let y = match weight.dequantize(&x.device()) {
        Ok(values) => x.matmul(values.transpose()).try_into_primitive::<B>().ok()?,
        Err(error) => return Some(Err(error)),
    };
    let y = match Product.prepare::<NoCheckpointing>([tracked.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(weight.clone(), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    };
    Some(Ok(Tensor::from_primitive::<Recorded<B>>(y)))
}

type Recorded<B> = Autodiff<B, NoCheckpointing>;

#[derive(Debug)]
struct Product;

impl<B: Backend> Backward<B, 1> for Product
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Arc<Frozen>;

    /// dx = dy W.
    fn backward(self, ops: Ops<Arc<Frozen>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = Tensor::<2>::from_primitive::<B>(grads.consume::<B>(&ops.node));
        let dx = match ops.state.dequantize(&dy.device()) {
            Ok(values) => dy.matmul(values),
            // As in `fused`: nobody to tell but the trainer, which stops at what is not a number.
            Err(_) => Tensor::full([dy.dims()[0], ops.state.shape[1]], f32::NAN, &dy.device()),
        };
        let [parent] = ops.parents;
        if let (Some(parent), Ok(dx)) = (parent, dx.try_into_primitive::<B>()) {
            grads.register::<B>(parent.id, dx);
        }
    }
}
