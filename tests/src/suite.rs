//! The same cases for every backend: each function runs one operation at odd, prime and unequal
//! sizes against its twin.

pub mod attention;
pub mod elements;
pub mod errors;
pub mod mixes;
pub mod norms;
pub mod products;
pub mod recurrences;
pub mod rows;

use bytes::Bytes;
use half::f16;
use tributary_core::backend::{Backend, MatrixData};
use tributary_core::dtype::{BLOCK, Format};

use crate::uniform;

/// A backend under test.
#[derive(Debug)]
pub struct Subject<B> {
    /// For messages.
    pub name: &'static str,
    /// The backend.
    pub backend: B,
    /// q8 and q4 products round their activations to int8 blocks.
    pub int8_activations: bool,
}

/// Row counts and widths of operations on rows; 70,000 rows are more than a dispatch axis holds.
pub const SHAPES: [[usize; 2]; 7] =
    [[1, 1], [3, 7], [5, 257], [2, 4099], [31, 32], [0, 5], [70_000, 3]];

/// The values of a tensor.
pub fn read<B: Backend>(backend: &B, x: &B::Tensor) -> Vec<f32> {
    pollster::block_on(backend.read(x)).unwrap()
}

/// A stored matrix of seeded values: for q8 and q4 seeded integers and scales, all codes in use.
pub fn stored(seed: u64, [out, cols]: [usize; 2], format: Format) -> MatrixData {
    let values = uniform(seed, out * cols);
    let f16_bytes = |values: &[f32]| -> Vec<u8> {
        values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
    };
    let bytes: Vec<u8> = match format {
        Format::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Format::F16 => f16_bytes(&values),
        Format::Q8 => values.iter().map(|value| (value * 127.0).round() as i8 as u8).collect(),
        Format::Q4 => values.chunks(cols.max(1)).flat_map(q4_row).collect(),
    };
    let scales = uniform(seed + 1, out * format.row_scales(cols));
    let scales: Vec<f32> = scales.iter().map(|scale| (scale + 1.5) / 64.0).collect();
    MatrixData {
        name: format!("a {format} weight"),
        shape: [out, cols],
        format,
        values: Bytes::from(bytes),
        scales: Bytes::from(f16_bytes(&scales)),
        lora: None,
    }
}

/// Whole blocks of nibbles; those behind the last column hold 8, which is zero.
fn q4_row(row: &[f32]) -> Vec<u8> {
    let nibbles: Vec<u8> = row.iter().map(|value| ((value + 1.0) * 8.0) as u8 & 15).collect();
    let mut bytes = Vec::new();
    for block in nibbles.chunks(BLOCK) {
        let at = |i: usize| block.get(i).copied().unwrap_or(8);
        bytes.extend((0..BLOCK / 2).map(|i| at(i) | at(i + BLOCK / 2) << 4));
    }
    bytes
}
