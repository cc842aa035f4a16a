//! Activations as int8 blocks for products with quantised weights, by `quantize_rows.wgsl`.

use std::sync::PoisonError;

use super::shader::{QUANTIZE_ROWS, QuantizeParams};
use super::tensor::Quantised;
use super::{Gpu, Tensor};
use crate::dtype::BLOCK;
use crate::error::Result;

/// The int8 form of `x`, computed once for all products that read it.
pub(super) fn quantize_rows(gpu: &Gpu, x: &Tensor) -> Result<Quantised> {
    let mut known = x.quantised.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(quantised) = &*known {
        return Ok(quantised.clone());
    }
    let [rows, cols] = x.shape;
    let blocks = cols.div_ceil(BLOCK);
    let values = gpu.recorder.output("quantize_rows: values", rows * blocks * (BLOCK / 4))?;
    let scales = gpu.recorder.output("quantize_rows: scales", rows * blocks)?;
    let params = QuantizeParams { rows: rows as u32, cols: cols as u32, blocks: blocks as u32 };
    let groups = (rows * blocks).div_ceil(QUANTIZE_ROWS.lanes as usize);
    let storages = [&*values, &scales, &x.storage];
    gpu.recorder.dispatch(&QUANTIZE_ROWS, &[], &params, &storages, groups)?;
    Ok(known.insert(Quantised { values, scales }).clone())
}
