//! x * weight / sqrt(mean(x^2) + eps) per row, by `rms_norm.wgsl`.

use super::shader::{NormParams, RMS_NORM, RMS_NORM_SUBGROUPS};
use super::{Gpu, Tensor, Vector};
use crate::backend::check;
use crate::error::Result;

pub(super) fn rms_norm(gpu: &Gpu, x: &Tensor, weight: &Vector, eps: f32) -> Result<Tensor> {
    check::vector("rms_norm", "weight", x.shape, weight.len)?;
    let y = gpu.output("rms_norm", x.shape)?;
    if !y.is_empty() {
        let shader = if gpu.features.subgroups { &RMS_NORM_SUBGROUPS } else { &RMS_NORM };
        let [rows, cols] = x.shape;
        let params = NormParams { rows: rows as u32, cols: cols as u32, eps };
        let storages = [&*y.storage, &x.storage, &weight.storage];
        gpu.recorder.dispatch(shader, &[], &params, &storages, rows)?;
    }
    Ok(y)
}
