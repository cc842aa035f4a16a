//! Rows in the order asked, by `gather_rows.wgsl`: activations, and stored rows of weights.

use super::shader::{GATHER_ROWS, GatherParams};
use super::tensor::Storage;
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn gather_rows(gpu: &Gpu, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    check::indices("gather_rows", "rows", rows, x.shape[0])?;
    let y = gpu.output("gather_rows", [rows.len(), x.shape[1]])?;
    gather_words(gpu, &y.storage, &x.storage, rows, x.shape[1], 0..x.shape[0])?;
    Ok(y)
}

/// Copies those `rows` that `source` holds (it holds the rows `held`) to their places in `y`, rows
/// of `words` words each.
pub(super) fn gather_words(
    gpu: &Gpu,
    y: &Storage,
    source: &Storage,
    rows: &[u32],
    words: usize,
    held: std::ops::Range<usize>,
) -> Result<()> {
    if rows.is_empty() || words == 0 {
        return Ok(());
    }
    let list = gpu.recorder.list("gather_rows: rows", rows)?;
    let params = GatherParams {
        rows: rows.len() as u32,
        words: words as u32,
        first: held.start as u32,
        count: held.len() as u32,
    };
    let groups = (rows.len() * words).div_ceil(GATHER_ROWS.lanes as usize);
    gpu.recorder.dispatch(&GATHER_ROWS, &[], &params, &[y, source, &list], groups)
}
