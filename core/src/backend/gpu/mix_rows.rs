//! Sparse weighted sums of rows, by `mix_rows.wgsl`.

use super::shader::{MIX_ROWS, MixParams};
use super::{Gpu, Tensor};
use crate::backend::{Mix, check};
use crate::error::Result;

pub(super) fn mix_rows(gpu: &Gpu, x: &Tensor, mix: &Mix) -> Result<Tensor> {
    let [rows, cols] = check::mix_rows(x.shape, mix)?;
    if mix.is_empty() {
        // An empty list cannot be bound.
        return Ok(Tensor::new([rows, cols], gpu.recorder.zeros("mix_rows", rows * cols)?));
    }
    let y = gpu.output("mix_rows", [rows, cols])?;
    if !y.is_empty() {
        let list = |what, list| gpu.recorder.list(what, list);
        let starts = list("mix_rows: starts", mix.starts())?;
        let columns = list("mix_rows: columns", mix.columns())?;
        let weights = list("mix_rows: weights", bytemuck::cast_slice(mix.weights()))?;
        let params = MixParams { rows: rows as u32, cols: cols as u32 };
        let storages = [&*y.storage, &x.storage, &starts, &columns, &weights];
        let groups = (rows * cols).div_ceil(MIX_ROWS.lanes as usize);
        gpu.recorder.dispatch(&MIX_ROWS, &[], &params, &storages, groups)?;
    }
    Ok(y)
}
