//! A weight as the CPU holds it: the file's own bytes wherever they are aligned, so that a mapped
//! file costs no copy.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::{LoraData, MatrixData, rounds_activations};
use super::math;
use crate::dtype::{BLOCK, Format, Q4_BLOCK_BYTES};
use crate::error::Result;

/// A weight (out, in) in one of the stored formats, with or without a low-rank update.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub(super) shape: [usize; 2],
    pub(super) values: Values,
    pub(super) lora: Option<Arc<LoraData>>,
}

#[derive(Clone, Debug)]
pub(super) enum Values {
    F32(Slice<f32>),
    F16(Slice<f16>),
    Quantized(Quantized),
}

/// Bytes known to be aligned for, and a whole number of, `T`.
#[derive(Clone, Debug)]
pub(super) struct Slice<T> {
    bytes: Bytes,
    element: PhantomData<T>,
}

/// Storage aligned for every element type, for the rare file whose tensors are not.
struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

impl<T: bytemuck::AnyBitPattern> Slice<T> {
    fn new(bytes: Bytes) -> Self {
        let bytes = if bytemuck::try_cast_slice::<u8, T>(&bytes).is_ok() {
            bytes
        } else {
            let mut words = vec![0u64; bytes.len().div_ceil(8)];
            bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
            Bytes::from_owner(Aligned { words, len: bytes.len() })
        };
        Self { bytes, element: PhantomData }
    }

    pub(super) fn get(&self) -> &[T] {
        bytemuck::cast_slice(&self.bytes)
    }
}

/// A `q8` or `q4` matrix.
#[derive(Clone, Debug)]
pub(super) struct Quantized {
    pub(super) q4: bool,
    pub(super) cols: usize,
    values: Bytes,
    scales: Slice<f16>,
}

impl Matrix {
    pub(super) fn new(data: MatrixData) -> Result<Self> {
        data.check()?;
        let values = match data.format {
            Format::F32 => Values::F32(Slice::new(data.values)),
            Format::F16 => Values::F16(Slice::new(data.values)),
            Format::Q8 | Format::Q4 => Values::Quantized(Quantized {
                q4: data.format == Format::Q4,
                cols: data.shape[1],
                values: data.values,
                scales: Slice::new(data.scales),
            }),
        };
        Ok(Self { shape: data.shape, values, lora: data.lora.map(Arc::new) })
    }
}

impl Values {
    /// True where products round the activations to int8.
    pub(super) fn rounds_activations(&self) -> bool {
        matches!(self, Self::Quantized(quantized) if quantized.rounds_activations())
    }

    /// Writes row `row` of the stored values as f32.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let at = row * out.len()..(row + 1) * out.len();
        match self {
            Self::F32(values) => out.copy_from_slice(&values.get()[at]),
            Self::F16(values) => values.get()[at].convert_to_f32_slice(out),
            Self::Quantized(quantized) => quantized.dequantize(row, out),
        }
    }
}

impl Quantized {
    /// See [`rounds_activations`].
    pub(super) fn rounds_activations(&self) -> bool {
        rounds_activations(self.cols)
    }

    /// Blocks of one row.
    pub(super) fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// The int8 codes of `rows` rows from `first` on, each row padded with zeros to whole blocks;
    /// borrowed from the file where it already looks like that.
    #[inline(always)]
    pub(super) fn codes<'a>(
        &'a self,
        first: usize,
        rows: usize,
        scratch: &'a mut Vec<i8>,
    ) -> &'a [i8] {
        let (cols, stride) = (self.cols, self.blocks() * BLOCK);
        if !self.q4 && cols == stride {
            return bytemuck::cast_slice(&self.values[first * cols..][..rows * cols]);
        }
        scratch.clear();
        scratch.resize(rows * stride, 0);
        if cols == 0 {
            return scratch;
        }
        for (i, out) in scratch.chunks_exact_mut(stride).enumerate() {
            if self.q4 {
                let bytes = self.blocks() * Q4_BLOCK_BYTES;
                unpack_q4(&self.values[(first + i) * bytes..][..bytes], out);
                // A file may hold anything in the nibbles past the last column.
                out[cols..].fill(0);
            } else {
                let row = &self.values[(first + i) * cols..][..cols];
                out[..cols].copy_from_slice(bytemuck::cast_slice(row));
            }
        }
        scratch
    }

    /// The scales of `rows` rows from `first` on, (rows, blocks).
    pub(super) fn scales(&self, first: usize, rows: usize) -> &[f16] {
        let blocks = self.blocks();
        &self.scales.get()[first * blocks..][..rows * blocks]
    }

    /// The same as f32.
    pub(super) fn float_scales(&self, first: usize, rows: usize) -> Vec<f32> {
        self.scales(first, rows).to_f32_vec()
    }

    /// Whole rows from `first` on as f32.
    #[inline(always)]
    pub(super) fn dequantize(&self, first: usize, out: &mut [f32]) {
        if self.cols == 0 {
            return;
        }
        let mut codes = Vec::new();
        let rows = out.len() / self.cols;
        let codes = self.codes(first, rows, &mut codes);
        let scales = self.float_scales(first, rows);
        let rows =
            codes.chunks_exact(self.blocks() * BLOCK).zip(scales.chunks_exact(self.blocks()));
        for (out, (codes, scales)) in out.chunks_exact_mut(self.cols).zip(rows) {
            let blocks = out.chunks_mut(BLOCK).zip(codes.chunks_exact(BLOCK)).zip(scales);
            for ((out, codes), scale) in blocks {
                out.iter_mut().zip(codes).for_each(|(y, &code)| *y = f32::from(code) * scale);
            }
        }
    }
}

/// Nibbles minus 8: element i from the low nibble of byte i, element i + 16 from the high one.
#[inline(always)]
fn unpack_q4(bytes: &[u8], out: &mut [i8]) {
    // Eight codes in one word: adding 0x78 and flipping 0x80 takes 8 off each, without a carry.
    let minus_8 = |nibbles: u64| (nibbles + 0x7878_7878_7878_7878) ^ 0x8080_8080_8080_8080;
    const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    let (blocks, _) = bytes.as_chunks::<Q4_BLOCK_BYTES>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for (block, out) in blocks.iter().zip(out) {
        let (low, high) = out.split_at_mut(Q4_BLOCK_BYTES);
        let (words, _) = block.as_chunks::<8>();
        for ((word, low), high) in words.iter().zip(low.chunks_mut(8)).zip(high.chunks_mut(8)) {
            let word = u64::from_le_bytes(*word);
            let codes = |nibbles| minus_8(nibbles & LOW).to_le_bytes();
            low.copy_from_slice(bytemuck::cast_slice(&codes(word)));
            high.copy_from_slice(bytemuck::cast_slice(&codes(word >> 4)));
        }
    }
}

/// x W^T for few rows of x against rows of floats: out[i] = dot(x, rows[i]).
#[inline(always)]
pub(super) fn float_dots(x: &[f32], rows: &[f32], out: &mut [f32]) {
    for (y, row) in out.iter_mut().zip(rows.chunks_exact(x.len().max(1))) {
        *y = math::dot(x, row);
    }
}
