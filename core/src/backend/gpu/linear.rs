//! x W^T + bias, by `linear_tile.wgsl.template` for many rows and `linear_vec.wgsl` for a few, each
//! in a form for f32 activations and one for int8 activations.

use super::quantize_rows::quantize_rows;
use super::shader::{self, LinearParams, Shader};
use super::tensor::{Quantised, Rows};
use super::{Gpu, Matrix, Needs, Tensor, Vector};
use crate::backend::{check, rounds_activations};
use crate::dtype::Format;
use crate::error::Result;

/// Rows up to which a weight is streamed once per four rows instead of tiled: below a tile's 64
/// rows most of a tile is idle.
const VEC_ROWS: usize = 8;
/// Rows and outs of a tile of `linear_tile`, and of a workgroup of `linear_vec`.
const TILE: usize = 64;
const VEC: usize = 4;

pub(super) fn linear(
    gpu: &Gpu,
    x: &Tensor,
    weight: &Matrix,
    bias: Option<&Vector>,
) -> Result<Tensor> {
    check::linear(x.shape, weight.base.shape, bias.map(|bias| bias.len))?;
    let y = gpu.output("linear", [x.shape[0], weight.base.shape[0]])?;
    if y.is_empty() {
        return Ok(y);
    }
    product(gpu, &y, x, &weight.base, Finish { bias, ..Finish::default() })?;
    if let Some(lora) = &weight.lora {
        let low = gpu.output("linear", [x.shape[0], lora.a.shape[0]])?;
        if !low.is_empty() {
            product(gpu, &low, x, &lora.a, Finish::default())?;
            let finish = Finish { bias: None, accumulate: true, scale: lora.scale };
            product(gpu, &y, &low, &lora.b, finish)?;
        }
    }
    Ok(y)
}

/// What happens to a product on its way into `y`: y (+)= product * scale + bias.
pub(super) struct Finish<'a> {
    pub(super) bias: Option<&'a Vector>,
    pub(super) accumulate: bool,
    pub(super) scale: f32,
}

impl Default for Finish<'_> {
    fn default() -> Self {
        Self { bias: None, accumulate: false, scale: 1.0 }
    }
}

/// One dispatch per chunk of the weight; `y` is not empty.
fn product(gpu: &Gpu, y: &Tensor, x: &Tensor, weight: &Rows, finish: Finish<'_>) -> Result<()> {
    let [rows, input] = x.shape;
    let few = rows <= VEC_ROWS;
    let quantised = match weight.format {
        Format::Q8 | Format::Q4 if gpu.features.dot4 && rounds_activations(input) => {
            Some(quantize_rows(gpu, x)?)
        }
        _ => None,
    };
    let shader = choose(weight.format, quantised.is_some(), few, gpu.features);
    for chunk in weight.chunks.iter() {
        let params = LinearParams {
            rows: rows as u32,
            in_size: input as u32,
            in4: weight.layout.in4 as u32,
            scale_words: weight.layout.scale_words as u32,
            out_count: chunk.count as u32,
            out_first: chunk.first as u32,
            out_size: weight.shape[0] as u32,
            has_bias: u32::from(finish.bias.is_some()),
            accumulate: u32::from(finish.accumulate),
            scale: finish.scale,
        };
        // A binding cannot stay empty; has_bias says that the weight is not a bias.
        let bias = finish.bias.map_or(&chunk.values, |bias| &bias.storage);
        let mut storages = vec![&*y.storage, bias];
        match &quantised {
            Some(Quantised { values, .. }) => storages.push(values),
            None => storages.push(&x.storage),
        }
        storages.push(&chunk.values);
        if weight.layout.scale_words > 0 {
            storages.push(&chunk.scales);
        }
        if let Some(Quantised { scales, .. }) = &quantised {
            storages.push(scales);
        }
        let side = if few { VEC } else { TILE };
        let groups = rows.div_ceil(side) * chunk.count.div_ceil(side);
        gpu.recorder.dispatch(shader, &[], &params, &storages, groups)?;
    }
    Ok(())
}

/// The variant for a stored format, integer activations or not, few rows or many.
fn choose(format: Format, integer: bool, few: bool, features: Needs) -> &'static Shader {
    use shader::*;
    match (format, integer, few, features.subgroups) {
        (Format::F32, _, false, _) => &LINEAR_TILE_F32,
        (Format::F16, _, false, _) if features.f16 => &LINEAR_TILE_F16_NATIVE,
        (Format::F16, _, false, _) => &LINEAR_TILE_F16,
        (Format::Q8, false, false, _) => &LINEAR_TILE_Q8,
        (Format::Q4, false, false, _) => &LINEAR_TILE_Q4,
        (Format::Q8, true, false, _) => &LINEAR_TILE_Q8_DOT4,
        (Format::Q4, true, false, _) => &LINEAR_TILE_Q4_DOT4,
        (Format::F32, _, true, false) => &LINEAR_VEC_F32,
        (Format::F16, _, true, false) => &LINEAR_VEC_F16,
        (Format::Q8, false, true, false) => &LINEAR_VEC_Q8,
        (Format::Q4, false, true, false) => &LINEAR_VEC_Q4,
        (Format::Q8, true, true, false) => &LINEAR_VEC_Q8_DOT4,
        (Format::Q4, true, true, false) => &LINEAR_VEC_Q4_DOT4,
        (Format::F32, _, true, true) => &LINEAR_VEC_F32_SUBGROUPS,
        (Format::F16, _, true, true) => &LINEAR_VEC_F16_SUBGROUPS,
        (Format::Q8, false, true, true) => &LINEAR_VEC_Q8_SUBGROUPS,
        (Format::Q4, false, true, true) => &LINEAR_VEC_Q4_SUBGROUPS,
        (Format::Q8, true, true, true) => &LINEAR_VEC_Q8_DOT4_SUBGROUPS,
        (Format::Q4, true, true, true) => &LINEAR_VEC_Q4_DOT4_SUBGROUPS,
    }
}
