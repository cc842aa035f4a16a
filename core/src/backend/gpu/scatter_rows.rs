//! Overwrites rows, by `scatter_rows.wgsl`.

use std::sync::Arc;

use super::shader::{SCATTER_ROWS, ScatterParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn scatter_rows(gpu: &Gpu, x: &mut Tensor, rows: &[u32], source: &Tensor) -> Result<()> {
    check::scatter_rows(x.shape, rows, source.shape)?;
    if source.is_empty() {
        return Ok(());
    }
    // Another tensor shares these values and must keep them; so does `source` when it is `x`.
    let shared = Arc::strong_count(&x.storage) > 1;
    let target = if shared {
        gpu.recorder.copy("scatter_rows", &x.storage, x.shape[0] * x.shape[1])?
    } else {
        x.storage.clone()
    };
    let list = gpu.recorder.list("scatter_rows: rows", rows)?;
    let [count, cols] = source.shape;
    let params = ScatterParams { rows: count as u32, cols: cols as u32 };
    let groups = (count * cols).div_ceil(SCATTER_ROWS.lanes as usize);
    let storages = [&*target, &source.storage, &list];
    gpu.recorder.dispatch(&SCATTER_ROWS, &[], &params, &storages, groups)?;
    // The int8 copy, if there was one, is out of date.
    *x = Tensor::new(x.shape, target);
    Ok(())
}
