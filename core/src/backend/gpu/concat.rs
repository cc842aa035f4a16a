//! Columns side by side, by `concat.wgsl`: one dispatch per part.

use super::shader::{CONCAT, ConcatParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn concat(gpu: &Gpu, parts: &[&Tensor]) -> Result<Tensor> {
    let shapes: Vec<_> = parts.iter().map(|part| part.shape).collect();
    let [rows, cols] = check::concat(&shapes)?;
    let y = gpu.output("concat", [rows, cols])?;
    let mut first = 0;
    for part in parts {
        if !part.is_empty() {
            let params = ConcatParams {
                rows: rows as u32,
                cols: cols as u32,
                part_cols: part.shape[1] as u32,
                first: first as u32,
            };
            let groups = (rows * part.shape[1]).div_ceil(CONCAT.lanes as usize);
            let storages = [&*y.storage, &part.storage];
            gpu.recorder.dispatch(&CONCAT, &[], &params, &storages, groups)?;
        }
        first += part.shape[1];
    }
    Ok(y)
}
