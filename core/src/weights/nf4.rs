//! NF4, the four bits of QLoRA (Dettmers et al. 2023, arXiv 2305.14314, section 3), as
//! bitsandbytes codes them: a frozen matrix under a LoRA that is trained.
//!
//! Blocks of [`NF4_BLOCK`] values along the flattened tensor share their largest magnitude; a value
//! over it is one of the 16 of [`NF4_CODE`], which a normal distribution hits equally often. With
//! double quantisation the magnitudes are coded too: less their mean, in blocks of
//! [`ABSMAX_BLOCK`], by the 256 values of a dynamic code (Dettmers 2015, arXiv 1511.04561). A
//! weight takes 4.127 bits instead of 4.5.
//!
//! Not a [`crate::dtype::Format`]: no file holds it and no model serves it. `q4` is of the same size
//! and multiplies in integers; training needs what other QLoRA runs have trained on.

use std::sync::LazyLock;

use super::quantize::check_finite;
use crate::error::{Error, Result};

/// Values that share a magnitude.
pub const NF4_BLOCK: usize = 64;
/// Magnitudes that share a scale under double quantisation.
pub const ABSMAX_BLOCK: usize = 256;

/// What the four bits mean, as published: quantiles of the normal distribution up to 0.9677083,
/// eight below zero, seven above and zero itself, over the largest.
pub const NF4_CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// bitsandbytes' `create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8)`, ascending:
/// of either sign, the middles of 2^i equal parts of 0.1 to 1, times 10^(i - 6), for i of 0 to 6;
/// zero and one. There is no minus one.
pub static ABSMAX_CODE: LazyLock<[f32; 256]> = LazyLock::new(|| {
    let mut code = [0.0f32; 256];
    let decades = (0..7).flat_map(|i| {
        let parts = 1u32 << i;
        let step = 0.9 / f64::from(parts);
        let middle = move |part: u32| 0.1 + step * (f64::from(part) + 0.5);
        (0..parts).map(move |part| (middle(part) * 10f64.powi(i - 6)) as f32)
    });
    let values = decades.flat_map(|value| [value, -value]).chain([0.0, 1.0]);
    code.iter_mut().zip(values).for_each(|(code, value)| *code = value);
    code.sort_by(f32::total_cmp);
    code
});

/// A matrix in NF4.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4 {
    len: usize,
    codes: Vec<u8>,
    absmax: Absmax,
}

/// The largest magnitude of each block.
#[derive(Clone, Debug, PartialEq)]
pub enum Absmax {
    /// As they are.
    Plain(Vec<f32>),
    /// Under double quantisation: [`ABSMAX_CODE`] of the code, times its block's scale, plus `mean`.
    Coded {
        /// One per block.
        codes: Vec<u8>,
        /// One per [`ABSMAX_BLOCK`] of these.
        scales: Vec<f32>,
        /// Of all magnitudes.
        mean: f32,
    },
}

impl Nf4 {
    /// `values` (out, in), row-major. `name` is the tensor's, for messages. `Err` when the number of
    /// values is not the shape's or one is not finite.
    pub fn quantize(
        name: &str,
        values: &[f32],
        shape: [usize; 2],
        double_quantization: bool,
    ) -> Result<Self> {
        check_finite(name, values, shape)?;
        let mut codes = Vec::with_capacity(values.len().div_ceil(2));
        let mut absmax = Vec::with_capacity(values.len().div_ceil(NF4_BLOCK));
        for block in values.chunks(NF4_BLOCK) {
            let largest = largest(block);
            absmax.push(largest);
            let factor = largest.max(SMALLEST).recip();
            let code = |value: f32| nearest(&NF4_CODE, (value * factor).clamp(-1.0, 1.0));
            codes.extend(block.chunks(2).map(|pair| match *pair {
                [first, second] => code(first) << 4 | code(second),
                // bitsandbytes fills the last byte with a zero.
                _ => pair.first().map_or(0, |&first| code(first) << 4 | ZERO),
            }));
        }
        let absmax = if double_quantization { code_absmax(&absmax) } else { Absmax::Plain(absmax) };
        Ok(Self { len: values.len(), codes, absmax })
    }

    /// The values, as many as were quantised.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        self.decode(0, &mut values);
        values
    }

    /// The values from `first` on, as many as `out` takes. `Err` when there are not so many.
    pub fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        match first.checked_add(out.len()) {
            Some(end) if end <= self.len => {
                self.decode(first, out);
                Ok(())
            }
            _ => {
                let expected = format!("at most the {} values there are", self.len);
                let found = format!("{} from {first} on", out.len());
                Err(Error::argument("nf4", "values", expected, found))
            }
        }
    }

    /// `first` and what follows must be there.
    fn decode(&self, mut first: usize, mut out: &mut [f32]) {
        while !out.is_empty() {
            let block = first / NF4_BLOCK;
            let here = ((block + 1) * NF4_BLOCK - first).min(out.len());
            let (values, rest) = std::mem::take(&mut out).split_at_mut(here);
            let absmax = self.absmax.of(block);
            let scaled = NF4_CODE.map(|value| value * absmax);
            let value = |code: u8| scaled[usize::from(code)];
            // A row of an odd width begins in the middle of a byte.
            let (odd, pairs) = values.split_at_mut(first % 2);
            odd.iter_mut().for_each(|v| *v = value(self.codes[first / 2] & 15));
            let bytes = &self.codes[first.div_ceil(2)..];
            for (pair, &byte) in pairs.chunks_mut(2).zip(bytes) {
                pair.iter_mut().zip([byte >> 4, byte & 15]).for_each(|(v, code)| *v = value(code));
            }
            (first, out) = (first + here, rest);
        }
    }

    /// Two values a byte, the first in the high nibble.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The magnitudes.
    pub fn absmax(&self) -> &Absmax {
        &self.absmax
    }

    /// Bytes of codes and magnitudes.
    pub fn bytes(&self) -> usize {
        let absmax = match &self.absmax {
            Absmax::Plain(absmax) => size_of_val(absmax.as_slice()),
            Absmax::Coded { codes, scales, mean } => {
                codes.len() + size_of_val(scales.as_slice()) + size_of_val(mean)
            }
        };
        self.codes.len() + absmax
    }
}

impl Absmax {
    /// Of a block that is there.
    fn of(&self, block: usize) -> f32 {
        match self {
            Self::Plain(absmax) => absmax[block],
            Self::Coded { codes, scales, mean } => {
                ABSMAX_CODE[usize::from(codes[block])] * scales[block / ABSMAX_BLOCK] + mean
            }
        }
    }
}

/// Magnitudes below this count as this one: its inverse is still finite.
const SMALLEST: f32 = 1e-38;
/// The code of zero.
const ZERO: u8 = 7;

fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()))
}

/// The place of the nearest value of an ascending code; of two equally near ones the lower.
fn nearest(code: &[f32], value: f32) -> u8 {
    let upper = code.partition_point(|&code| code < value).clamp(1, code.len() - 1);
    let middle = (code[upper - 1] + code[upper]) / 2.0;
    (if value > middle { upper } else { upper - 1 }) as u8
}

fn code_absmax(absmax: &[f32]) -> Absmax {
    let sum: f64 = absmax.iter().copied().map(f64::from).sum();
    let mean = (sum / absmax.len().max(1) as f64) as f32;
    let centred: Vec<f32> = absmax.iter().map(|absmax| absmax - mean).collect();
    let mut codes = Vec::with_capacity(absmax.len());
    let mut scales = Vec::with_capacity(absmax.len().div_ceil(ABSMAX_BLOCK));
    for block in centred.chunks(ABSMAX_BLOCK) {
        let scale = largest(block);
        let factor = scale.max(SMALLEST).recip();
        codes.extend(block.iter().map(|value| nearest(ABSMAX_CODE.as_slice(), value * factor)));
        scales.push(scale);
    }
    Absmax::Coded { codes, scales, mean }
}
