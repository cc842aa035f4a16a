//! AVX-512 VNNI: `vpdpbusd` multiplies unsigned by signed bytes, so weights go in as code + 128
//! and -128 * sum(x codes) of each block is added back.
#![expect(unsafe_code, reason = "AVX-512 loads; `Level` proves the instructions")]

use std::arch::x86_64::*;

use half::f16;

use super::{PANEL, Panel, Row};
use crate::dtype::BLOCK;

/// Rows of x that share the loads of a panel: 8 integer and 8 float accumulators and the 8 loads
/// of one block stay in the 32 registers.
const TILE: usize = 8;

/// Weights are asked of memory this many bytes before they are needed.
const AHEAD: usize = 16 << 10;

/// See [`super::rows`], which checks the lengths.
pub(super) fn rows(codes: &[i8], scales: &[f16], x: Row<'_>, out: &mut [f32]) {
    // SAFETY: called for `Level::Avx512Vnni` only, which exists where these were detected.
    unsafe { rows_vnni(codes, scales, x, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn rows_vnni(codes: &[i8], scales: &[f16], x: Row<'_>, out: &mut [f32]) {
    let n = x.scales.len();
    // One row after the other, so that memory is read in order.
    for (i, y) in out.iter_mut().enumerate() {
        *y = one_row(&codes[i * n * BLOCK..], &scales[i * n..], x);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn one_row(codes: &[i8], scales: &[f16], x: Row<'_>) -> f32 {
    let n = x.scales.len();
    assert!(codes.len() >= n * BLOCK && scales.len() >= n);
    assert!(x.codes.len() >= n * BLOCK && x.offsets.len() >= n);
    let mut total = _mm512_setzero_ps();
    for block in (0..n / 2 * 2).step_by(2) {
        // SAFETY: both blocks are inside the slices whose lengths were asserted.
        total = unsafe { two_blocks(codes, scales, x, block, u64::MAX, 0b11, total) };
    }
    if !n.is_multiple_of(2) {
        // SAFETY: the masks leave the last block, which is inside.
        total = unsafe { two_blocks(codes, scales, x, n - 1, u64::from(u32::MAX), 0b01, total) };
    }
    _mm512_reduce_add_ps(total)
}

/// Adds the products of blocks `block` and `block + 1`, as far as the masks over their bytes and
/// over the two let them.
///
/// # Safety
/// What the masks let is inside the slices.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn two_blocks(
    codes: &[i8],
    scales: &[f16],
    x: Row<'_>,
    block: usize,
    bytes: u64,
    floats: u8,
    total: __m512,
) -> __m512 {
    // SAFETY: by this function's own condition.
    unsafe {
        let at = codes.as_ptr().add(block * BLOCK);
        // Decode waits for memory; asked early, it comes at twice the speed (LOG.md).
        _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(AHEAD).cast());
        let w = _mm512_maskz_loadu_epi8(bytes, at);
        let x_codes = _mm512_maskz_loadu_epi8(bytes, x.codes.as_ptr().add(block * BLOCK));
        let offsets = _mm_maskz_loadu_epi32(floats, x.offsets.as_ptr().add(block));
        // Offset of the first block in lane 0, of the second in lane 8.
        let lanes = _mm512_setr_epi32(0, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2);
        let offsets = _mm512_permutexvar_epi32(lanes, _mm512_castsi128_si512(offsets));
        let w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
        let dots = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(offsets, w, x_codes));
        let w_scales = _mm_maskz_loadu_epi16(floats, scales.as_ptr().add(block).cast());
        let x_scales = _mm_maskz_loadu_ps(floats, x.scales.as_ptr().add(block));
        let scales = spread(_mm_mul_ps(_mm_cvtph_ps(w_scales), x_scales));
        _mm512_fmadd_ps(scales, dots, total)
    }
}

/// The first value in lanes 0 to 7, the second in lanes 8 to 15.
#[inline]
#[target_feature(enable = "avx512f")]
fn spread(pair: __m128) -> __m512 {
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    _mm512_permutexvar_ps(lanes, _mm512_castps128_ps512(pair))
}

/// See [`super::panel`].
pub(super) fn panel<'a>(
    panel: &Panel,
    rows: usize,
    row: impl Fn(usize) -> Row<'a>,
    mut write: impl FnMut(usize, &[f32; PANEL]),
) {
    let mut first = 0;
    while first + TILE <= rows {
        let x: [Row<'_>; TILE] = std::array::from_fn(|i| row(first + i));
        let mut out = [[0.0; PANEL]; TILE];
        // SAFETY: `quantized::linear` packs panels for `Level::Avx512Vnni` only.
        unsafe { tile(panel, &x, &mut out) };
        out.iter().enumerate().for_each(|(i, out)| write(first + i, out));
        first += TILE;
    }
    for last in first..rows {
        let mut out = [[0.0; PANEL]];
        // SAFETY: as above.
        unsafe { tile(panel, &[row(last)], &mut out) };
        write(last, &out[0]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile<const R: usize>(panel: &Panel, x: &[Row<'_>; R], out: &mut [[f32; PANEL]; R]) {
    const BYTES: usize = PANEL * BLOCK;
    let (codes, _) = panel.codes.as_chunks::<BYTES>();
    let (scales, _) = panel.scales.as_chunks::<PANEL>();
    for x in x {
        assert!(x.codes.len() == codes.len() * BLOCK && x.offsets.len() == codes.len());
        assert!(x.scales.len() == codes.len());
    }
    let mut totals = [_mm512_setzero_ps(); R];
    for (block, (codes, scales)) in codes.iter().zip(scales).enumerate() {
        // SAFETY: a panel's block holds 8 loads of 64 bytes and 16 scales; the rows' lengths were
        // asserted above.
        unsafe {
            let w: [__m512i; 8] =
                std::array::from_fn(|g| _mm512_loadu_si512(codes.as_ptr().add(g * 64).cast()));
            let w_scales = _mm512_loadu_ps(scales.as_ptr());
            for (x, total) in x.iter().zip(&mut totals) {
                let quads = x.codes.as_ptr().add(block * BLOCK).cast::<i32>();
                let mut dots = _mm512_set1_epi32(*x.offsets.get_unchecked(block));
                for (g, &w) in w.iter().enumerate() {
                    let quad = _mm512_set1_epi32(quads.add(g).read_unaligned());
                    dots = _mm512_dpbusd_epi32(dots, w, quad);
                }
                let x_scale = _mm512_set1_ps(*x.scales.get_unchecked(block));
                let scale = _mm512_mul_ps(w_scales, x_scale);
                *total = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots), *total);
            }
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        // SAFETY: 16 floats fit.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), total) };
    }
}
