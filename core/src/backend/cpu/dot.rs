//! Integer dot products of quantised blocks, one file per instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Level;
use crate::dtype::BLOCK;

/// Weight rows a kernel takes at a time.
pub(super) const PANEL: usize = 16;

/// One row of activations as int8, padded with zeros to whole blocks.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// (blocks * 32)
    pub(super) codes: &'a [i8],
    /// (blocks)
    pub(super) scales: &'a [f32],
    /// (blocks): -128 * the sum of the block's codes.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX-512 only"))]
    pub(super) offsets: &'a [i32],
}

/// `PANEL` weight rows, reordered so that one 64-byte load holds four columns of each.
#[derive(Default)]
pub(super) struct Panel {
    /// (blocks, 8 groups of 4 columns, 16 rows, 4 columns): codes + 128.
    codes: Vec<u8>,
    /// (blocks, 16 rows)
    scales: Vec<f32>,
}

/// out[i] = sum over blocks of (w scale * x scale) * dot(w codes, x codes), for each weight row:
/// every one of `rows` rows of x, `write(row, out)`. `codes` (out.len(), blocks * 32), `scales`
/// (out.len(), blocks).
#[inline]
pub(super) fn rows<'a>(
    level: Level,
    (codes, scales): (&[i8], &[f16]),
    rows: usize,
    row: impl Fn(usize) -> Row<'a>,
    out: &mut [f32],
    mut write: impl FnMut(usize, &[f32]),
) {
    // AVX-512 reads the halves as they are.
    let floats = if level == Level::Avx512Vnni { Vec::new() } else { scales.to_f32_vec() };
    for i in 0..rows {
        let x = row(i);
        assert_eq!(codes.len(), out.len() * x.codes.len(), "codes of every weight row");
        assert_eq!(scales.len(), out.len() * x.scales.len(), "scales of every weight row");
        assert_eq!(x.codes.len(), x.scales.len() * BLOCK, "whole blocks");
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => avx512::rows(codes, scales, x, out),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::rows(codes, &floats, x, out),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => neon::rows(codes, &floats, x, out),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Level::Simd128 => simd128::rows(codes, &floats, x, out),
            _ => each_row(codes, &floats, x, out, scalar),
        }
        write(i, out);
    }
}

/// Calls `block` for every block of every weight row and adds up.
#[inline(always)]
fn each_row(
    codes: &[i8],
    scales: &[f32],
    x: Row<'_>,
    out: &mut [f32],
    block: impl Fn(&[i8; BLOCK], &[i8; BLOCK]) -> i32,
) {
    let n = x.scales.len();
    for (i, y) in out.iter_mut().enumerate() {
        let (w, _) = codes[i * n * BLOCK..][..n * BLOCK].as_chunks::<BLOCK>();
        let (codes, _) = x.codes.as_chunks::<BLOCK>();
        let pairs = w.iter().zip(codes).zip(scales[i * n..][..n].iter().zip(x.scales));
        *y = pairs.map(|((w, x), (ws, xs))| (ws * xs) * block(w, x) as f32).sum();
    }
}

fn scalar(w: &[i8; BLOCK], x: &[i8; BLOCK]) -> i32 {
    w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum()
}

/// Reorders up to [`PANEL`] weight rows for [`panel`]; missing rows are zero.
pub(super) fn pack(codes: &[i8], scales: &[f16], blocks: usize, panel: &mut Panel) {
    let stride = blocks * BLOCK;
    // 128 is the code 0.
    panel.codes.clear();
    panel.codes.resize(PANEL * stride, 128);
    panel.scales.clear();
    panel.scales.resize(PANEL * blocks, 0.0);
    if stride == 0 {
        return;
    }
    let (groups, _) = panel.codes.as_chunks_mut::<{ 4 * PANEL }>();
    for (row, (codes, scales)) in
        codes.chunks_exact(stride).zip(scales.chunks_exact(blocks)).enumerate()
    {
        let (quads, _) = codes.as_chunks::<4>();
        for (group, quad) in groups.iter_mut().zip(quads) {
            let packed = quad.map(|code| code as u8 ^ 0x80);
            group[row * 4..][..4].copy_from_slice(&packed);
        }
        for (block, scale) in scales.iter().enumerate() {
            panel.scales[block * PANEL + row] = scale.to_f32();
        }
    }
}

/// Every row of x against a packed panel: `write(row, its 16 products)`. AVX-512 only.
#[inline]
pub(super) fn panel<'a>(
    panel: &Panel,
    rows: usize,
    row: impl Fn(usize) -> Row<'a>,
    write: impl FnMut(usize, &[f32; PANEL]),
) {
    #[cfg(target_arch = "x86_64")]
    avx512::panel(panel, rows, row, write);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (&panel.codes, &panel.scales, rows, row, write);
}
