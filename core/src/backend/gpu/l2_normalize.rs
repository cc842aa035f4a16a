//! x / max(||x||, eps) per row, by `l2_normalize.wgsl`.

use super::shader::{L2_NORMALIZE, L2_NORMALIZE_SUBGROUPS, L2Params};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn l2_normalize(gpu: &Gpu, x: &Tensor, eps: f32) -> Result<Tensor> {
    check::l2_normalize(eps)?;
    let y = gpu.output("l2_normalize", x.shape)?;
    if !y.is_empty() {
        let shader = if gpu.features.subgroups { &L2_NORMALIZE_SUBGROUPS } else { &L2_NORMALIZE };
        let [rows, cols] = x.shape;
        let params = L2Params { rows: rows as u32, cols: cols as u32, eps };
        gpu.recorder.dispatch(shader, &[], &params, &[&*y.storage, &x.storage], rows)?;
    }
    Ok(y)
}
