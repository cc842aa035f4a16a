//! a b^T of two activations, by `similarity.wgsl`.

use super::shader::{SIMILARITY, SimilarityParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn similarity(gpu: &Gpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [rows, out] = check::similarity(a.shape, b.shape)?;
    if a.shape[1] == 0 {
        return Ok(Tensor::new([rows, out], gpu.recorder.zeros("similarity", rows * out)?));
    }
    let y = gpu.output("similarity", [rows, out])?;
    if !y.is_empty() {
        let params =
            SimilarityParams { rows: rows as u32, out: out as u32, cols: a.shape[1] as u32 };
        let groups = (rows * out).div_ceil(SIMILARITY.lanes as usize);
        let storages = [&*y.storage, &a.storage, &b.storage];
        gpu.recorder.dispatch(&SIMILARITY, &[], &params, &storages, groups)?;
    }
    Ok(y)
}
