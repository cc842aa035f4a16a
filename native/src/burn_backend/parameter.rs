//! Weights as slots that a model and the optimiser share.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use burn::tensor::Tensor;

use super::nf4::Frozen;

/// Which weights get gradients.
#[derive(Clone, Default)]
pub enum Trainable {
    /// None: inference.
    #[default]
    Nothing,
    /// All of them.
    Everything,
    /// The A and B of every LoRA; what they are added to stays frozen.
    Adapters,
    /// Those whose full name this accepts.
    Named(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl fmt::Debug for Trainable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Everything => "Everything",
            Self::Adapters => "Adapters",
            Self::Named(_) => "Named",
        })
    }
}

impl Trainable {
    pub(super) fn includes(&self, name: &str, is_lora: bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Adapters => is_lora,
            Self::Named(accepts) => accepts(name),
        }
    }
}

/// One named weight, shared by the model that uses it and the optimiser that changes it.
pub struct Parameter {
    name: String,
    axes: Vec<usize>,
    /// One axis is held as (1, len).
    value: RwLock<Tensor<2>>,
}

impl Parameter {
    pub(super) fn new(name: String, axes: Vec<usize>, value: Tensor<2>, trainable: bool) -> Self {
        let value = if trainable { value.autodiff().require_grad() } else { value };
        Self { name, axes, value: RwLock::new(value) }
    }

    /// Full name, as a checkpoint has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Axes as a checkpoint has them: one for a bias or a norm, two for a matrix.
    pub fn axes(&self) -> &[usize] {
        &self.axes
    }

    /// The value as a leaf of the graph; a frozen weight is a constant here too.
    pub(super) fn tracked(&self) -> Tensor<2> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The value without a graph: (1, len) for one axis.
    pub(crate) fn constant(&self) -> Tensor<2> {
        self.tracked().inner()
    }

    /// Replaces the value of a trainable weight by one of the same shape.
    pub(crate) fn set(&self, value: Tensor<2>) {
        let mut slot = self.value.write().unwrap_or_else(PoisonError::into_inner);
        *slot = value.inner().autodiff().require_grad();
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.axes)
    }
}

/// A weight (out, in), perhaps with a low-rank update.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub(super) base: Base,
    pub(super) lora: Option<Lora>,
}

/// What a low-rank update is added to.
#[derive(Clone, Debug)]
pub(super) enum Base {
    Float(Arc<Parameter>),
    Nf4(Arc<Frozen>),
}

#[derive(Clone, Debug)]
pub(super) struct Lora {
    pub a: Arc<Parameter>, // (r, in)
    pub b: Arc<Parameter>, // (out, r)
    pub scale: f32,
}

impl Matrix {
    pub(super) fn shape(&self) -> [usize; 2] {
        match &self.base {
            Base::Float(parameter) => [parameter.axes[0], parameter.axes[1]],
            Base::Nf4(frozen) => frozen.shape,
        }
    }
}

/// A weight of one axis.
#[derive(Clone, Debug)]
pub struct Vector {
    pub(super) weight: Arc<Parameter>,
}

impl Vector {
    pub(super) fn len(&self) -> usize {
        self.weight.axes[0]
    }
}

/// What [`super::Burn::backward`] found.
pub struct Gradients {
    gradients: burn::tensor::Gradients,
}

impl Gradients {
    pub(super) fn new(gradients: burn::tensor::Gradients) -> Self {
        Self { gradients }
    }

    /// Of a [`super::Burn::variable`]; `None` when the loss does not depend on it.
    pub fn of(&self, variable: &Tensor<2>) -> Option<Tensor<2>> {
        variable.grad(&self.gradients)
    }

    /// Of a trainable weight, (1, len) for one axis; `None` when the loss does not depend on it.
    pub fn of_parameter(&self, parameter: &Parameter) -> Option<Tensor<2>> {
        parameter.tracked().grad(&self.gradients)
    }
}
