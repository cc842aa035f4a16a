//! The k largest of each row, by `top_k.wgsl`.

use super::shader::{TOP_K, TopKParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn top_k(gpu: &Gpu, x: &Tensor, k: usize) -> Result<Tensor> {
    check::top_k(x.shape, k)?;
    let [rows, cols] = x.shape;
    let y = gpu.output("top_k", [rows, 2 * k])?;
    if !y.is_empty() {
        let params = TopKParams { rows: rows as u32, cols: cols as u32, k: k as u32 };
        gpu.recorder.dispatch(&TOP_K, &[], &params, &[&*y.storage, &x.storage], rows)?;
    }
    Ok(y)
}
