//! y = x W^T (+ bias) (+ scale * (x A^T) B^T), for every stored format.

use half::slice::HalfFloatSliceExt;

use super::super::{LoraData, check};
use super::gemm::{Target, View, product};
use super::matrix::{Values, float_dots};
use super::quantized;
use super::threads::{self, Shared};
use super::{Level, Matrix, Tensor, Vector};
use crate::error::Result;

/// Output columns one task computes at a time; a multiple of the quantised kernels' 16.
const SLAB: usize = 64;
/// Up to this many rows of x a product is bound by reading W: plain dot products do.
const FEW_ROWS: usize = 4;

pub(super) fn linear(
    level: Level,
    x: &Tensor,
    weight: &Matrix,
    bias: Option<&Vector>,
) -> Result<Tensor> {
    let [y] = linears(level, x, [(weight, bias)])?;
    Ok(y)
}

/// Products of one x by several weights, their tasks side by side: a thread that has finished one
/// helps with the next, where waiting would cost as much as a product of one row.
pub(super) fn linears<const N: usize>(
    level: Level,
    x: &Tensor,
    layers: [(&Matrix, Option<&Vector>); N],
) -> Result<[Tensor; N]> {
    let rows = x.shape[0];
    let mut results = layers.map(|_| Vec::new());
    for (y, (weight, bias)) in results.iter_mut().zip(layers) {
        check::linear(x.shape, weight.shape, bias.map(|bias| bias.0.len()))?;
        *y = vec![0.0; check::elements("linear", [rows, weight.shape[0]])?];
    }
    if layers.iter().any(|(weight, _)| weight.values.rounds_activations()) {
        // Not inside the tasks, where all would wait for the first.
        x.int8(level);
    }
    threads::each(results.iter_mut().zip(layers).collect(), |(y, (weight, bias))| {
        if !y.is_empty() {
            fill(level, x, weight, bias, y);
        }
    });
    Ok(std::array::from_fn(|i| {
        Tensor::new(std::mem::take(&mut results[i]), [rows, layers[i].0.shape[0]])
    }))
}

/// Writes y (rows, out), shapes checked.
fn fill(level: Level, x: &Tensor, weight: &Matrix, bias: Option<&Vector>, y: &mut [f32]) {
    let ([rows, cols], out) = (x.shape, weight.shape[0]);
    match &weight.values {
        Values::F32(values) => float(level, x, y, out, &|first, count, task| {
            task(&values.get()[first * cols..][..count * cols]);
        }),
        Values::F16(values) => float(level, x, y, out, &|first, count, task| {
            let mut scratch = vec![0.0; count * cols];
            values.get()[first * cols..][..count * cols].convert_to_f32_slice(&mut scratch);
            task(&scratch);
        }),
        Values::Quantized(values) if values.rounds_activations() => {
            quantized::linear(level, x.int8(level), values, y, out);
        }
        Values::Quantized(values) if rows <= FEW_ROWS => {
            quantized::linear_exact(level, x, values, y, out);
        }
        Values::Quantized(values) => float(level, x, y, out, &|first, count, task| {
            let mut scratch = vec![0.0; count * cols];
            level.run(
                #[inline(always)]
                || values.dequantize(first, &mut scratch),
            );
            task(&scratch);
        }),
    }
    if let Some(bias) = bias {
        threads::rows(y, out, |_, y| {
            for y in y.chunks_exact_mut(out) {
                y.iter_mut().zip(bias.0.iter()).for_each(|(y, b)| *y += b);
            }
        });
    }
    if let Some(lora) = &weight.lora {
        add_lora(x, lora, y, out);
    }
}

/// Hands out rows of a weight as f32: `(first, count, task)` calls `task` with them.
pub(super) type FloatRows<'a> = &'a (dyn Fn(usize, usize, &mut dyn FnMut(&[f32])) + Sync);

/// y (rows, out) = x times the rows of `weight`.
pub(super) fn float(level: Level, x: &Tensor, y: &mut [f32], out: usize, weight: FloatRows<'_>) {
    let [rows, cols] = x.shape;
    let y = Shared::new(y);
    threads::parallel(out.div_ceil(SLAB), |slab| {
        let first = slab * SLAB;
        let count = SLAB.min(out - first);
        weight(first, count, &mut |w| {
            if rows > FEW_ROWS && level != Level::Scalar {
                let target = Target { matrix: &y, at: first, stride: out, accumulate: false };
                let w = View::new(w, [count, cols], cols).transposed();
                return product(target, 1.0, View::new(&x.data, x.shape, cols), w, false);
            }
            let mut part = [0.0; SLAB];
            for row in 0..rows {
                level.run(
                    #[inline(always)]
                    || float_dots(x.row(row), w, &mut part[..count]),
                );
                y.write(row * out + first, &part[..count]);
            }
        });
    });
}

/// y += scale * (x A^T) B^T
fn add_lora(x: &Tensor, lora: &LoraData, y: &mut [f32], out: usize) {
    let [rows, cols] = x.shape;
    if lora.r == 0 {
        return;
    }
    let mut low = vec![0.0; rows * lora.r];
    let target =
        Target { matrix: &Shared::new(&mut low), at: 0, stride: lora.r, accumulate: false };
    let a = View::new(&lora.a, [lora.r, cols], cols).transposed();
    product(target, 1.0, View::new(&x.data, x.shape, cols), a, true);
    let target = Target { matrix: &Shared::new(y), at: 0, stride: out, accumulate: true };
    let b = View::new(&lora.b, [out, lora.r], lora.r).transposed();
    product(target, lora.scale, View::new(&low, [rows, lora.r], lora.r), b, true);
}

pub(super) fn linear_rows(
    level: Level,
    x: &Tensor,
    weight: &Matrix,
    asked: &[u32],
) -> Result<Tensor> {
    check::linear_rows(x.shape, weight.shape, asked)?;
    let ([rows, cols], out) = (x.shape, asked.len());
    let mut y = vec![0.0; check::elements("linear_rows", [rows, out])?];
    let shared = Shared::new(&mut y);
    // The same arithmetic as `linear`: an asked logit equals its place in the whole row.
    let quantized = match &weight.values {
        Values::Quantized(values) if values.rounds_activations() => Some((x.int8(level), values)),
        _ => None,
    };
    threads::parallel(out, |i| {
        let row = asked[i] as usize;
        let mut column = vec![0.0; rows];
        match &quantized {
            Some((x, values)) => quantized::column(level, x, values, row, &mut column),
            None => {
                let mut w = vec![0.0; cols];
                weight.values.row(row, &mut w);
                level.run(
                    #[inline(always)]
                    || float_dots(&w, &x.data, &mut column),
                );
            }
        }
        for (r, value) in column.iter().enumerate() {
            shared.write(r * out + i, std::slice::from_ref(value));
        }
    });
    if let Some(lora) = &weight.lora {
        let b = asked.iter().flat_map(|&row| &lora.b[row as usize * lora.r..][..lora.r]);
        let lora = LoraData { b: b.copied().collect(), ..lora.as_ref().clone() };
        add_lora(x, &lora, &mut y, out);
    }
    Ok(Tensor::new(y, [rows, out]))
}
