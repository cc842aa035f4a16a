//! Weights on their way to the device: padded to whole words and groups of four columns, and split
//! by rows so that no binding exceeds the adapter's limit.

use std::borrow::Cow;
use std::sync::Arc;

use super::Gpu;
use super::tensor::{Chunk, Lora, Matrix, RowLayout, Rows};
use crate::backend::MatrixData;
use crate::dtype::Format;
use crate::error::{Error, Result};

pub(super) fn matrix(gpu: &Gpu, data: MatrixData) -> Result<Matrix> {
    data.check()?;
    let base = rows(gpu, &data.name, data.shape, data.format, &data.values, &data.scales)?;
    let lora = match &data.lora {
        None => None,
        Some(lora) => {
            let [out, input] = data.shape;
            let part = |values: &[f32], shape, what| {
                let name = format!("{}.{what}", data.name);
                rows(gpu, &name, shape, Format::F32, bytemuck::cast_slice(values), &[])
            };
            let a = part(&lora.a, [lora.r, input], "lora_A")?;
            let b = part(&lora.b, [out, lora.r], "lora_B")?;
            Some(Arc::new(Lora { a, b, scale: lora.scale }))
        }
    };
    Ok(Matrix { base, lora })
}

/// `values` and `scales` as [`MatrixData`] holds them, checked by the caller.
fn rows(
    gpu: &Gpu,
    name: &str,
    shape: [usize; 2],
    format: Format,
    values: &[u8],
    scales: &[u8],
) -> Result<Rows> {
    let [out, input] = shape;
    let layout = RowLayout::new(format, input);
    let (row_bytes, row_scales) = (format.row_bytes(input), format.row_scales(input) * 2);
    let widest = layout.value_words.max(layout.scale_words) * 4;
    let limit = gpu.recorder.limits.binding;
    let per_chunk = limit as usize / widest.max(4);
    if per_chunk == 0 {
        let what = format!("{name}: bytes of one row on this GPU");
        return Err(Error::Limit { what, limit, found: widest as u64 });
    }
    let mut chunks = Vec::new();
    for first in (0..out).step_by(per_chunk) {
        let count = per_chunk.min(out - first);
        let part = |bytes: &'_ [u8], stored: usize, words: usize| -> Result<_> {
            let rows = bytes.get(first * stored..(first + count) * stored).unwrap_or_default();
            gpu.recorder.weight(name, &padded(rows, stored, words * 4))
        };
        let values = part(values, row_bytes, layout.value_words)?;
        let scales = match layout.scale_words {
            0 => values.clone(),
            words => part(scales, row_scales, words)?,
        };
        chunks.push(Chunk { first, count, values, scales });
    }
    Ok(Rows { shape, format, layout, chunks: chunks.into() })
}

/// Rows of `stored` bytes as rows of `wanted` bytes, zeros behind each.
fn padded(rows: &[u8], stored: usize, wanted: usize) -> Cow<'_, [u8]> {
    if stored == wanted || stored == 0 {
        return Cow::Borrowed(rows);
    }
    let mut padded = vec![0; rows.len() / stored * wanted];
    for (to, from) in padded.chunks_exact_mut(wanted).zip(rows.chunks_exact(stored)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
    Cow::Owned(padded)
}
