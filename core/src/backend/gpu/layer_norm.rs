//! (x - mean) / sqrt(var + eps) * weight + bias per row, by `layer_norm.wgsl`.

use super::shader::{LAYER_NORM, LAYER_NORM_SUBGROUPS, NormParams};
use super::{Gpu, Tensor, Vector};
use crate::backend::check;
use crate::error::Result;

pub(super) fn layer_norm(
    gpu: &Gpu,
    x: &Tensor,
    weight: &Vector,
    bias: &Vector,
    eps: f32,
) -> Result<Tensor> {
    check::vector("layer_norm", "weight", x.shape, weight.len)?;
    check::vector("layer_norm", "bias", x.shape, bias.len)?;
    let y = gpu.output("layer_norm", x.shape)?;
    if !y.is_empty() {
        let shader = if gpu.features.subgroups { &LAYER_NORM_SUBGROUPS } else { &LAYER_NORM };
        let [rows, cols] = x.shape;
        let params = NormParams { rows: rows as u32, cols: cols as u32, eps };
        let storages = [&*y.storage, &x.storage, &weight.storage, &bias.storage];
        gpu.recorder.dispatch(shader, &[], &params, &storages, rows)?;
    }
    Ok(y)
}
