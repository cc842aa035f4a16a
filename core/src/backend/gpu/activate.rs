//! f(x), by `activate.wgsl`.

use super::shader::{ACTIVATE, ElementParams};
use super::{Gpu, Tensor};
use crate::backend::Activation;
use crate::error::Result;

pub(super) fn activate(gpu: &Gpu, x: &Tensor, f: Activation) -> Result<Tensor> {
    let y = gpu.output("activate", x.shape)?;
    if !x.is_empty() {
        let len = x.shape[0] * x.shape[1];
        let groups = len.div_ceil(ACTIVATE.lanes as usize);
        let params = ElementParams { len: len as u32 };
        gpu.recorder.dispatch(&ACTIVATE, &[code(f)], &params, &[&y.storage, &x.storage], groups)?;
    }
    Ok(y)
}

/// The number of `f` in `activation.wgsl`.
pub(super) fn code(f: Activation) -> f64 {
    match f {
        Activation::Gelu => 0.0,
        Activation::GeluTanh => 1.0,
        Activation::Relu => 2.0,
        Activation::Silu => 3.0,
        Activation::QuickGelu => 4.0,
        Activation::Sigmoid => 5.0,
        Activation::Tanh => 6.0,
    }
}
