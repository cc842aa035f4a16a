//! f32 -> f16, q8 and q4: one matrix, or a whole checkpoint tensor by tensor.
//!
//! Both block formats share one f16 scale per [`BLOCK`] input columns. `q8` takes the scale from the
//! largest magnitude; `q4` has so few values that the scale is searched for.

use bytes::Bytes;
use half::f16;
use safetensors::Dtype;

use super::checkpoint::{Checkpoint, Coding, QUANTIZED_KEY, SCALES_SUFFIX, rows_and_rest};
use super::save::{Sink, TensorSpec, Writer};
use crate::backend::MatrixData;
use crate::dtype::{BLOCK, DType, Format, Q4_BLOCK_BYTES};
use crate::error::{Error, Result};

/// Matrices of fewer values stay `f16` in a quantised model: their scales and their share of the
/// error would cost more than their bytes save.
pub const MIN_QUANTIZED_VALUES: usize = 1024;

/// `values` (out, in), row-major, in `format`. `name` is the tensor's, for messages. `Err` when a
/// value is not finite or too large for the format's f16.
pub fn quantize(
    name: &str,
    values: &[f32],
    shape: [usize; 2],
    format: Format,
) -> Result<MatrixData> {
    check_finite(name, values, shape)?;
    let [_, input] = shape;
    let mut data = MatrixData::from_f32(name, &[], shape);
    data.format = format;
    data.values = match format {
        Format::F32 => Bytes::copy_from_slice(bytemuck::cast_slice(values)),
        Format::F16 => {
            let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
            if let Some(at) = halves.iter().position(|half| half.is_infinite()) {
                return Err(bad_value(name, at, input, "values within f16's +-65504", values[at]));
            }
            Bytes::copy_from_slice(bytemuck::cast_slice(&halves))
        }
        Format::Q8 | Format::Q4 => {
            let mut blocks = Blocks::with_capacity(values.len(), shape, format);
            // Width 0 has no blocks, and no chunk may be empty.
            for row in values.chunks_exact(input.max(1)) {
                for block in row.chunks(BLOCK) {
                    blocks.push(block, format);
                }
            }
            if let Some(at) = blocks.scales.iter().position(|scale| scale.is_infinite()) {
                let per_row = format.row_scales(input).max(1);
                let at = at / per_row * input + at % per_row * BLOCK;
                let expected = format!("values whose {format} scale is within f16's +-65504");
                return Err(bad_value(name, at, input, &expected, values[at]));
            }
            data.scales = Bytes::copy_from_slice(bytemuck::cast_slice(&blocks.scales));
            Bytes::from(blocks.values)
        }
    };
    Ok(data)
}

/// `Err` unless `values` are as many as `shape` (out, in) says, and finite.
pub(super) fn check_finite(name: &str, values: &[f32], [out, input]: [usize; 2]) -> Result<()> {
    if out.checked_mul(input) != Some(values.len()) {
        return Err(Error::shape("quantize", "values", &[out, input], &[values.len()]));
    }
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((at, &value)) => Err(bad_value(name, at, input, "finite values", value)),
        None => Ok(()),
    }
}

fn bad_value(name: &str, at: usize, input: usize, expected: &str, found: f32) -> Error {
    let place = format!("tensor `{name}` [{}, {}]", at / input, at % input);
    Error::file("quantize", place, expected, found)
}

struct Blocks {
    values: Vec<u8>,
    scales: Vec<f16>,
}

impl Blocks {
    fn with_capacity(values: usize, [out, input]: [usize; 2], format: Format) -> Self {
        let bytes = if format == Format::Q4 { out * format.row_bytes(input) } else { values };
        let scales = out * format.row_scales(input);
        Self { values: Vec::with_capacity(bytes), scales: Vec::with_capacity(scales) }
    }

    /// One block of 1 to [`BLOCK`] values.
    fn push(&mut self, block: &[f32], format: Format) {
        let mut values = [0.0; BLOCK];
        values[..block.len()].copy_from_slice(block);
        if format == Format::Q8 {
            let (scale, quants) = q8_block(&values);
            self.scales.push(scale);
            self.values.extend(quants[..block.len()].iter().map(|&quant| quant as i8 as u8));
            return;
        }
        let (scale, quants) = q4_block(&values);
        self.scales.push(scale);
        let nibble = |i: usize| (quants[i] + 8.0) as u8;
        self.values
            .extend((0..Q4_BLOCK_BYTES).map(|i| nibble(i) | nibble(i + Q4_BLOCK_BYTES) << 4));
    }
}

/// Scale absmax / 127 as f16, then the nearest multiples of that f16.
fn q8_block(block: &[f32; BLOCK]) -> (f16, [f32; BLOCK]) {
    let absmax = block.iter().fold(0.0f32, |max, value| max.max(value.abs()));
    let scale = f16::from_f32(absmax / 127.0);
    (scale, nearest(block, scale, -127.0, 127.0))
}

/// The scale of least squared error among: the largest magnitude at 7 or at 8 of either sign, and
/// around -8 19 steps, each improved by the least squares fit to the values it rounds to.
fn q4_block(block: &[f32; BLOCK]) -> (f16, [f32; BLOCK]) {
    // Of the largest magnitude, with its sign: it goes to -8, the side with one more value.
    let largest = block.iter().copied().fold(0.0f32, |a, b| if b.abs() > a.abs() { b } else { a });
    let mut best = Candidate::new(block, f16::from_f32(largest / -8.0));
    for scale in [largest / 8.0, largest / 7.0, largest / -7.0] {
        best.improve(block, f16::from_f32(scale));
    }
    for step in -9..=9 {
        let first = f16::from_f32(largest / -(8.0 + 0.1 * step as f32));
        let quants = nearest(block, first, -8.0, 7.0);
        let products = sum(|i| block[i] * quants[i]);
        let squares = sum(|i| quants[i] * quants[i]);
        if squares > 0.0 {
            best.improve(block, f16::from_f32(products / squares));
        }
    }
    (best.scale, best.quants)
}

/// Sum over a block, in eight lanes so that the compiler may use them.
fn sum(value: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    for i in 0..BLOCK {
        lanes[i % 8] += value(i);
    }
    lanes.iter().sum()
}

struct Candidate {
    scale: f16,
    quants: [f32; BLOCK],
    error: f32,
}

impl Candidate {
    fn new(block: &[f32; BLOCK], scale: f16) -> Self {
        let quants = nearest(block, scale, -8.0, 7.0);
        let value = scale.to_f32();
        let error = sum(|i| {
            let difference = block[i] - quants[i] * value;
            difference * difference
        });
        Self { scale, quants, error }
    }

    fn improve(&mut self, block: &[f32; BLOCK], scale: f16) {
        let other = Self::new(block, scale);
        if other.error < self.error {
            *self = other;
        }
    }
}

/// The nearest multiples of `scale` between `low` and `high`; all zero when the scale is too small
/// for f16.
fn nearest(block: &[f32; BLOCK], scale: f16, low: f32, high: f32) -> [f32; BLOCK] {
    // 1.5 * 2^23: f32 has no fraction there, so that adding it rounds. `round` is a function call
    // where the target has no SSE 4.1; without it the search for q4 runs twice as fast (measured).
    const ROUND: f32 = 12_582_912.0;
    let scale = scale.to_f32();
    if scale == 0.0 {
        return [0.0; BLOCK];
    }
    block.map(|value| ((value / scale).clamp(low, high) + ROUND) - ROUND)
}

/// How [`quantize_checkpoint`] stores a tensor of this name and shape in a model of `format`:
///
/// - vectors, norms and biases: `f32`;
/// - matrices and convolutions: `format`, except
/// - embedding tables and heads ([`is_table`]): `q8` in a `q4` model;
/// - `v_proj`, `o_proj` and `down_proj`, whose errors go straight into the residual stream, and
///   `k_proj`, small and shared by several query heads: `q8` in a `q4` model;
/// - position tables (`position`, `pos_embed`, `wpe`) and matrices with fewer than
///   [`MIN_QUANTIZED_VALUES`] values or [`BLOCK`] columns: `f16` in a quantised model.
pub fn format_of(name: &str, shape: &[usize], format: Format) -> Format {
    let wide = shape.iter().filter(|&&axis| axis > 1).count();
    if wide < 2 || matches!(format, Format::F32) {
        return Format::F32;
    }
    let last = last_name(name);
    let is_position = last.contains("position") || matches!(last, "pos_embed" | "wpe");
    let [out, input] = rows_and_rest(leading_ones_dropped(shape));
    if is_position || input < BLOCK || out.saturating_mul(input) < MIN_QUANTIZED_VALUES {
        return Format::F16;
    }
    let is_sensitive = matches!(last, "k_proj" | "v_proj" | "o_proj" | "down_proj");
    if format == Format::Q4 && (is_table(name) || is_sensitive) { Format::Q8 } else { format }
}

/// Whether the matrix of this name is an embedding table or a head, each of whose rows is one token
/// or item: its last name has `embed` in it or is `lm_head`, `wte`, `shared`, `table` (frozen
/// embeddings), `transformation` (ALMOSTRec's head) or `item_factors` (BPR's).
pub fn is_table(name: &str) -> bool {
    const TABLES: [&str; 6] =
        ["lm_head", "wte", "shared", "table", "transformation", "item_factors"];
    let last = last_name(name);
    last.contains("embed") || TABLES.contains(&last)
}

/// The name of the module that the tensor belongs to.
fn last_name(name: &str) -> &str {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    module.rsplit('.').next().unwrap_or(module)
}

fn leading_ones_dropped(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().take_while(|&&axis| axis == 1).count();
    shape.get(ones..).unwrap_or_default()
}

/// Work done, after each tensor: bytes read so far, bytes in all, the tensor's name.
pub type Progress<'p> = &'p mut dyn FnMut(u64, u64, &str);

/// Writes `checkpoint` with each tensor in the format that `rule` (usually [`format_of`]) gives its
/// name and shape; one tensor is in memory at a time. Tensors of integer dtypes are copied. `Err`
/// when the checkpoint is quantised already, or holds a value that the format cannot.
pub fn quantize_checkpoint(
    checkpoint: &Checkpoint,
    rule: &dyn Fn(&str, &[usize]) -> Format,
    max_shard_bytes: Option<u64>,
    sink: &mut dyn Sink,
    progress: Progress<'_>,
) -> Result<()> {
    let mut specs = Vec::new();
    let mut metadata = checkpoint.metadata().clone();
    let mut formats = Vec::new();
    for name in checkpoint.names() {
        let Some(info) = checkpoint.info(name) else { continue };
        let format = match info.coding {
            Coding::Plain(DType::F32 | DType::F16 | DType::Bf16) => Some(rule(name, &info.shape)),
            Coding::Blocks(format) => {
                let field = format!("tensor `{name}`");
                let expected = "a float checkpoint: quantise from the original";
                return Err(Error::file(checkpoint.file(), field, expected, format));
            }
            Coding::Plain(_) | Coding::Other(_) => None,
        };
        let [out, input] = rows_and_rest(leading_ones_dropped(&info.shape));
        let spec = |dtype, shape: &[usize]| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
        };
        match format {
            None => specs.push(spec(info.coding.dtype(), &info.shape)),
            Some(Format::F32) => specs.push(spec(Dtype::F32, &info.shape)),
            Some(Format::F16) => specs.push(spec(Dtype::F16, &info.shape)),
            Some(format @ (Format::Q8 | Format::Q4)) => {
                let dtype = if format == Format::Q8 { Dtype::I8 } else { Dtype::U8 };
                specs.push(spec(dtype, &[out, format.row_bytes(input)]));
                let mut scales = spec(Dtype::F16, &[out, format.row_scales(input)]);
                scales.name.push_str(SCALES_SUFFIX);
                specs.push(scales);
                metadata
                    .insert(format!("{QUANTIZED_KEY}{name}"), format!("{format} {out}x{input}"));
            }
        }
        formats.push((name, [out, input], format, info.bytes));
    }
    let total = formats.iter().map(|(.., bytes)| bytes).sum();
    let mut writer = Writer::new(specs, &metadata, max_shard_bytes, sink)?;
    let mut done = 0;
    for (name, shape, format, bytes) in formats {
        match format {
            None => writer.write(name, &checkpoint.raw(name)?)?,
            // Values of any number are kept where nothing is computed from them.
            Some(Format::F32) => {
                writer.write(name, bytemuck::cast_slice(&checkpoint.values(name)?))?;
            }
            Some(format) => {
                let data = quantize(name, &checkpoint.values(name)?, shape, format)?;
                writer.write(name, &data.values)?;
                if matches!(format, Format::Q8 | Format::Q4) {
                    writer.write(&format!("{name}{SCALES_SUFFIX}"), &data.scales)?;
                }
            }
        }
        done += bytes;
        progress(done, total, name);
    }
    writer.finish()
}
