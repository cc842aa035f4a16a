//! Products of quantised weights: activations become int8 with one scale per 32 columns, blocks
//! are multiplied as integers and added up as f32.
//!
//! For each block: dot = sum of int8 * int8, exact; y += (activation scale * weight scale) * dot.

use super::dot::{self, PANEL, Row};
use super::matrix::Quantized;
use super::threads::{self, Shared};
use super::{Level, Tensor, math};
use crate::dtype::BLOCK;

/// From this many rows of x on, packing a panel of W pays.
const PANEL_ROWS: usize = 8;

/// Activations (rows, cols) as int8, each row padded with zeros to whole blocks.
#[derive(Debug)]
pub(super) struct QuantizedRows {
    rows: usize,
    blocks: usize,
    /// (rows, blocks * 32)
    codes: Vec<i8>,
    /// (rows, blocks): absmax / 127.
    scales: Vec<f32>,
    /// (rows, blocks): -128 * the sum of the block's codes, what the unsigned kernels add.
    offsets: Vec<i32>,
}

impl QuantizedRows {
    pub(super) fn new(level: Level, x: &[f32], [rows, cols]: [usize; 2]) -> Self {
        let blocks = cols.div_ceil(BLOCK);
        let mut codes = vec![0i8; rows * blocks * BLOCK];
        let mut scales = vec![0.0; rows * blocks];
        let mut offsets = vec![0; rows * blocks];
        if !codes.is_empty() {
            let per_task = threads::rows_per_task(rows, cols);
            let tasks = x
                .chunks(per_task * cols)
                .zip(codes.chunks_mut(per_task * blocks * BLOCK))
                .zip(scales.chunks_mut(per_task * blocks))
                .zip(offsets.chunks_mut(per_task * blocks));
            threads::each(tasks.collect(), |(((x, codes), scales), offsets)| {
                let rows = x
                    .chunks_exact(cols)
                    .zip(codes.chunks_exact_mut(blocks * BLOCK))
                    .zip(scales.chunks_exact_mut(blocks))
                    .zip(offsets.chunks_exact_mut(blocks));
                for (((x, codes), scales), offsets) in rows {
                    level.run(
                        #[inline(always)]
                        || quantize_row(x, codes, scales, offsets),
                    );
                }
            });
        }
        Self { rows, blocks, codes, scales, offsets }
    }

    fn row(&self, row: usize) -> Row<'_> {
        let n = self.blocks;
        Row {
            codes: &self.codes[row * n * BLOCK..][..n * BLOCK],
            scales: &self.scales[row * n..][..n],
            offsets: &self.offsets[row * n..][..n],
        }
    }
}

#[inline(always)]
fn quantize_row(x: &[f32], codes: &mut [i8], scales: &mut [f32], offsets: &mut [i32]) {
    let blocks = x.chunks(BLOCK).zip(codes.chunks_exact_mut(BLOCK));
    for (((x, codes), scale), offset) in blocks.zip(scales).zip(offsets) {
        let mut peaks = [0.0f32; 16];
        for x in x.chunks(16) {
            for (peak, v) in peaks.iter_mut().zip(x) {
                *peak = if v.abs() > *peak { v.abs() } else { *peak };
            }
        }
        let peak = math::max(&peaks);
        *scale = peak / 127.0;
        if *scale == 0.0 {
            continue;
        }
        // Rounds half to even, as the GPU's `round`; see `math::exp` for the constant.
        const ROUND: f32 = 12_582_912.0;
        for (code, &v) in codes.iter_mut().zip(x) {
            *code = ((v / *scale + ROUND) - ROUND) as i32 as i8;
        }
        *offset = codes.iter().map(|&c| i32::from(c)).sum::<i32>() * -128;
    }
}

/// y = x W^T.
pub(super) fn linear(level: Level, x: &QuantizedRows, w: &Quantized, y: &mut [f32], out: usize) {
    let y = Shared::new(y);
    // Enough tasks to even out the threads, each long enough to keep its scratch.
    let panels = out.div_ceil(PANEL);
    let per_task = panels.div_ceil(threads::count() * 4).max(1);
    threads::parallel(panels.div_ceil(per_task), |task| {
        let mut scratch = Scratch::default();
        for panel in task * per_task..panels.min((task + 1) * per_task) {
            let first = panel * PANEL;
            let count = PANEL.min(out - first);
            let codes = level.run(
                #[inline(always)]
                || w.codes(first, count, &mut scratch.codes),
            );
            let scales = w.scales(first, count);
            if x.rows >= PANEL_ROWS && level == Level::Avx512Vnni {
                dot::pack(codes, scales, x.blocks, &mut scratch.panel);
                dot::panel(
                    &scratch.panel,
                    x.rows,
                    |row| x.row(row),
                    |row, values| {
                        y.write(row * out + first, &values[..count]);
                    },
                );
                continue;
            }
            let mut values = [0.0; PANEL];
            dot::rows(
                level,
                (codes, scales),
                x.rows,
                |row| x.row(row),
                &mut values[..count],
                |row, values| y.write(row * out + first, values),
            );
        }
    });
}

/// y = x W^T for few rows of x that stay f32: codes become f32 on their way into a sum.
pub(super) fn linear_exact(level: Level, x: &Tensor, w: &Quantized, y: &mut [f32], out: usize) {
    let y = Shared::new(y);
    threads::parallel(out.div_ceil(PANEL * 4), |slab| {
        let first = slab * PANEL * 4;
        let count = (PANEL * 4).min(out - first);
        let mut codes = Vec::new();
        let codes = level.run(
            #[inline(always)]
            || w.codes(first, count, &mut codes),
        );
        let scales = w.float_scales(first, count);
        let mut values = [0.0; PANEL * 4];
        for row in 0..x.shape[0] {
            level.run(
                #[inline(always)]
                || float_dots(x.row(row), codes, &scales, &mut values[..count]),
            );
            y.write(row * out + first, &values[..count]);
        }
    });
}

/// out[i] = sum over blocks of w scale * dot(x, w codes), for each weight row.
#[inline(always)]
fn float_dots(x: &[f32], codes: &[i8], scales: &[f32], out: &mut [f32]) {
    const LANES: usize = 16;
    let blocks = x.len().div_ceil(BLOCK);
    let rows = codes.chunks_exact(blocks * BLOCK).zip(scales.chunks_exact(blocks));
    for (y, (codes, scales)) in out.iter_mut().zip(rows) {
        let mut totals = [0.0f32; LANES];
        let (whole, rest) = x.as_chunks::<BLOCK>();
        let (codes, _) = codes.as_chunks::<BLOCK>();
        for ((x, codes), scale) in whole.iter().zip(codes).zip(scales) {
            for (lane, total) in totals.iter_mut().enumerate() {
                let pair = x[lane] * f32::from(codes[lane])
                    + x[lane + LANES] * f32::from(codes[lane + LANES]);
                *total += pair * scale;
            }
        }
        let mut sum: f32 = totals.iter().sum();
        if let ([_, ..], Some(codes), Some(scale)) = (rest, codes.last(), scales.last()) {
            let dot: f32 = rest.iter().zip(codes).map(|(x, &code)| x * f32::from(code)).sum();
            sum += dot * scale;
        }
        *y = sum;
    }
}

#[derive(Default)]
struct Scratch {
    codes: Vec<i8>,
    panel: dot::Panel,
}

/// One column of x W^T: row `row` of W against every row of x.
pub(super) fn column(level: Level, x: &QuantizedRows, w: &Quantized, row: usize, out: &mut [f32]) {
    let mut codes = Vec::new();
    let codes = w.codes(row, 1, &mut codes);
    let scales = w.scales(row, 1);
    let column = |row, value: &[f32]| out[row] = value[0];
    dot::rows(level, (codes, scales), x.rows, |row| x.row(row), &mut [0.0], column);
}
