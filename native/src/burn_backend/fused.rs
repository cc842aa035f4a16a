//! Operations whose forward and backward pass are the CPU backend's own kernels, as single nodes of
//! burn's graph. Recorded step by step, attention alone walks a dozen times over its padded
//! weights; here it is one pass over what is really there, and so are norms, gates and rotations.
//!
//! Only for tensors of burn-flex. On other devices [`apply`] declines, and the caller composes
//! burn's operations.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use tributary_core::Result;
use tributary_core::backend::cpu::{self, Cpu};
use tributary_core::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};

/// An operation of N tensors.
pub(super) trait Operation<const N: usize>: Debug + Send + Sync + 'static {
    fn forward(&self, cpu: &Cpu, inputs: &[cpu::Tensor; N]) -> Result<cpu::Tensor>;

    /// The gradients by the inputs of a forward pass that went well.
    fn backward(
        &self,
        cpu: &Cpu,
        inputs: &[cpu::Tensor; N],
        dy: &cpu::Tensor,
    ) -> Result<[cpu::Tensor; N]>;
}

type Recorded = Autodiff<Flex, NoCheckpointing>;

/// `None` when the tensors are not burn-flex's.
pub(super) fn apply<const N: usize>(
    operation: impl Operation<N>,
    inputs: [&Tensor<2>; N],
) -> Option<Result<Tensor<2>>> {
    let cpu = Cpu::new();
    if !inputs.iter().any(|x| x.is_tracked()) {
        let value = |x: &Tensor<2>| x.clone().inner().try_into_primitive::<Flex>().ok();
        let values = collect(inputs.map(|x| to_cpu(&value(x)?)))?;
        let y = operation.forward(&cpu, &values);
        return Some(y.map(|y| Tensor::from_primitive::<Flex>(from_cpu(&cpu, y))));
    }
    let node = |x: &Tensor<2>| x.clone().autodiff().try_into_primitive::<Recorded>().ok();
    let tensors = collect(inputs.map(node))?;
    let values = collect(tensors.each_ref().map(|x| to_cpu(x.primitive())))?;
    let y = match operation.forward(&cpu, &values) {
        Ok(y) => from_cpu(&cpu, y),
        Err(error) => return Some(Err(error)),
    };
    let guards = tensors.each_ref().map(|x| x.node());
    let y = match Node.prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let operation: Arc<dyn Operation<N>> = Arc::new(operation);
            prepared.finish(Saved { operation, inputs: values }, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    };
    Some(Ok(Tensor::from_primitive::<Recorded>(y)))
}

/// What the backward pass of a node needs.
#[derive(Clone, Debug)]
struct Saved<const N: usize> {
    operation: Arc<dyn Operation<N>>,
    inputs: [cpu::Tensor; N],
}

#[derive(Debug)]
struct Node;

impl<const N: usize> Backward<Flex, N> for Node {
    type State = Saved<N>;

    fn backward(self, ops: Ops<Saved<N>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let cpu = Cpu::new();
        let Saved { operation, inputs } = ops.state;
        let dy = grads.consume::<Flex>(&ops.node);
        let gradients = to_cpu(&dy).and_then(|dy| operation.backward(&cpu, &inputs, &dy).ok());
        let gradients: Vec<FlexTensor> = match gradients {
            Some(gradients) => gradients.into_iter().map(|x| from_cpu(&cpu, x)).collect(),
            // Nothing fails here after a forward pass that went well. If it did, there would be
            // nobody to tell; the trainer stops at a gradient that is not a number.
            None => inputs.iter().map(|x| not_a_number(cpu.shape(x))).collect(),
        };
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

fn collect<T, const N: usize>(parts: [Option<T>; N]) -> Option<[T; N]> {
    let parts: Vec<T> = parts.into_iter().collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn to_cpu(x: &FlexTensor) -> Option<cpu::Tensor> {
    let shape = <[usize; 2]>::try_from(x.layout().shape().to_vec()).ok()?;
    let x = x.to_contiguous();
    Cpu::new().upload(x.as_slice::<f32>()?, shape).ok()
}

fn from_cpu(cpu: &Cpu, x: cpu::Tensor) -> FlexTensor {
    let shape = cpu.shape(&x);
    FlexTensor::from_data(TensorData::new(x.into_data(), shape))
}

fn not_a_number(shape: [usize; 2]) -> FlexTensor {
    let values = vec![f32::NAN; shape.iter().product()];
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// [`Backend::attention`] without prefix and dropout, by q, k and v.
#[derive(Debug)]
pub(super) struct Attention {
    segments: Segments,
    keys: Option<Segments>,
    mask: Mask,
    heads: HeadShape,
}

impl Attention {
    /// `None` for what the kernel does not do.
    pub(super) fn new<T>(attend: &Attend<'_, T>, heads: HeadShape, training: bool) -> Option<Self> {
        let is_plain = attend.prefix.is_none() && !(training && attend.dropout > 0.0);
        is_plain.then(|| Self {
            segments: attend.segments.clone(),
            keys: attend.keys.cloned(),
            mask: attend.mask,
            heads,
        })
    }

    fn attend(&self) -> Attend<'_, cpu::Tensor> {
        Attend { keys: self.keys.as_ref(), ..Attend::new(&self.segments, self.mask) }
    }
}

impl Operation<3> for Attention {
    fn forward(&self, cpu: &Cpu, [q, k, v]: &[cpu::Tensor; 3]) -> Result<cpu::Tensor> {
        cpu.attention(q, k, v, &self.attend(), self.heads)
    }

    fn backward(
        &self,
        cpu: &Cpu,
        [q, k, v]: &[cpu::Tensor; 3],
        dy: &cpu::Tensor,
    ) -> Result<[cpu::Tensor; 3]> {
        Ok(cpu.attention_gradient(q, k, v, &self.attend(), self.heads, dy))
    }
}

/// [`Backend::rms_norm`], by x and by the weight (1, cols).
#[derive(Debug)]
pub(super) struct RmsNorm {
    pub(super) eps: f32,
}

impl Operation<2> for RmsNorm {
    fn forward(&self, cpu: &Cpu, [x, weight]: &[cpu::Tensor; 2]) -> Result<cpu::Tensor> {
        cpu.rms_norm(x, &cpu.vector("rms_norm", weight.data())?, self.eps)
    }

    fn backward(
        &self,
        cpu: &Cpu,
        [x, weight]: &[cpu::Tensor; 2],
        dy: &cpu::Tensor,
    ) -> Result<[cpu::Tensor; 2]> {
        Ok(cpu.rms_norm_gradient(x, weight, self.eps, dy))
    }
}

/// silu(gate) * up, by both.
#[derive(Debug)]
pub(super) struct SiluGated;

impl Operation<2> for SiluGated {
    fn forward(&self, cpu: &Cpu, [gate, up]: &[cpu::Tensor; 2]) -> Result<cpu::Tensor> {
        cpu.gated(gate, up, Activation::Silu)
    }

    fn backward(
        &self,
        cpu: &Cpu,
        [gate, up]: &[cpu::Tensor; 2],
        dy: &cpu::Tensor,
    ) -> Result<[cpu::Tensor; 2]> {
        Ok(cpu.silu_gated_gradient(gate, up, dy))
    }
}

/// [`Backend::rope`], by x alone.
#[derive(Debug)]
pub(super) struct Rope {
    angles: cpu::Tensor,
    head_dim: usize,
}

impl Rope {
    /// `None` when the angles are not burn-flex's, or are to have a gradient.
    pub(super) fn new(angles: &Tensor<2>, head_dim: usize) -> Option<Self> {
        let angles = angles.clone().try_into_primitive::<Flex>().ok()?;
        Some(Self { angles: to_cpu(&angles)?, head_dim })
    }
}

impl Rope {
    /// The rotation back, which is also the gradient: the angles negated.
    fn back(&self, cpu: &Cpu) -> Result<cpu::Tensor> {
        let mut angles = self.angles.data().to_vec();
        for row in angles.chunks_exact_mut(self.head_dim) {
            row.iter_mut().skip(self.head_dim / 2).for_each(|sin| *sin = -*sin);
        }
        cpu.upload(&angles, cpu.shape(&self.angles))
    }
}

impl Operation<1> for Rope {
    fn forward(&self, cpu: &Cpu, [x]: &[cpu::Tensor; 1]) -> Result<cpu::Tensor> {
        cpu.rope(x, &self.angles, self.head_dim)
    }

    fn backward(
        &self,
        cpu: &Cpu,
        _: &[cpu::Tensor; 1],
        dy: &cpu::Tensor,
    ) -> Result<[cpu::Tensor; 1]> {
        Ok([cpu.rope(dy, &self.back(cpu)?, self.head_dim)?])
    }
}
