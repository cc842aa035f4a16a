//! Stored values -> f32, the one place that knows how each format is coded.

use half::{bf16, f16};

use crate::backend::MatrixData;
use crate::dtype::{BLOCK, DType, Format, Q4_BLOCK_BYTES};
use crate::error::Result;

/// Values of a float dtype; `I8` and `U8` give their numbers.
pub(super) fn plain(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DType::F32 => words(bytes, f32::from_le_bytes),
        DType::F16 => words(bytes, |b| f16::from_le_bytes(b).to_f32()),
        DType::Bf16 => words(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        DType::I8 => bytes.iter().map(|&b| f32::from(b as i8)).collect(),
        DType::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
    }
}

fn words<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|&word| value(word)).collect()
}

/// The values of a matrix (out * in), whatever its format; a LoRA update is not included.
/// `Err` when byte counts do not fit the shape.
pub fn matrix(data: &MatrixData) -> Result<Vec<f32>> {
    data.check()?;
    let [out, input] = data.shape;
    match data.format {
        Format::F32 => return Ok(plain(DType::F32, &data.values)),
        Format::F16 => return Ok(plain(DType::F16, &data.values)),
        Format::Q8 | Format::Q4 => {}
    }
    let scales = plain(DType::F16, &data.scales);
    let mut result = Vec::with_capacity(out * input);
    if input == 0 {
        return Ok(result);
    }
    let rows = data.values.chunks_exact(data.format.row_bytes(input));
    for (row, scales) in rows.zip(scales.chunks_exact(data.format.row_scales(input))) {
        for (block, scale) in scales.iter().enumerate() {
            let cols = BLOCK.min(input - block * BLOCK);
            let value = |i: usize| match data.format {
                Format::Q4 => {
                    let byte = row[block * Q4_BLOCK_BYTES + i % Q4_BLOCK_BYTES];
                    let nibble = if i < Q4_BLOCK_BYTES { byte & 15 } else { byte >> 4 };
                    f32::from(nibble) - 8.0
                }
                _ => f32::from(row[block * BLOCK + i] as i8),
            };
            result.extend((0..cols).map(|i| value(i) * scale));
        }
    }
    Ok(result)
}
