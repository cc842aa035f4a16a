//! f(gate) * up, by `gated.wgsl`.

use super::activate::code;
use super::shader::{ElementParams, GATED};
use super::{Gpu, Tensor};
use crate::backend::{Activation, check};
use crate::error::Result;

pub(super) fn gated(gpu: &Gpu, gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
    check::pair("gated", "up", gate.shape, up.shape)?;
    let y = gpu.output("gated", gate.shape)?;
    if !y.is_empty() {
        let len = y.shape[0] * y.shape[1];
        let groups = len.div_ceil(GATED.lanes as usize);
        let params = ElementParams { len: len as u32 };
        let storages = [&*y.storage, &gate.storage, &up.storage];
        gpu.recorder.dispatch(&GATED, &[code(f)], &params, &storages, groups)?;
    }
    Ok(y)
}
