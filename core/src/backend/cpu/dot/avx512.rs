//! AVX-512 VNNI: `vpdpbusd` multiplies unsigned by signed bytes, so weights go in as code + 128
//! and -128 * sum(x codes) of each block is added back.
#![expect(unsafe_code, reason = "AVX-512 loads; `Level` proves the instructions")]

use std::arch::x86_64::*;

use super::{Panel, Row};
use crate::backend::cpu::quantized::PANEL;
use crate::dtype::BLOCK;

/// Rows of x that share the loads of a panel: 8 integer and 8 float accumulators and the 8 loads
/// of one block stay in the 32 registers.
const TILE: usize = 8;

/// Weights are asked of memory this many bytes before they are needed.
const AHEAD: usize = 16 << 10;

/// See [`super::rows`], which checks the lengths.
pub(super) fn rows(codes: &[i8], scales: &[f32], x: Row<'_>, out: &mut [f32]) {
    // SAFETY: called for `Level::Avx512Vnni` only, which exists where these were detected.
    unsafe { rows_vnni(codes, scales, x, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn rows_vnni(codes: &[i8], scales: &[f32], x: Row<'_>, out: &mut [f32]) {
    let n = x.scales.len();
    let (fours, rest) = out.as_chunks_mut::<4>();
    let done = fours.len() * 4;
    for (i, out) in fours.iter_mut().enumerate() {
        some_rows(&codes[i * 4 * n * BLOCK..], &scales[i * 4 * n..], x, out);
    }
    for (i, out) in rest.iter_mut().enumerate() {
        let at = done + i;
        some_rows(&codes[at * n * BLOCK..], &scales[at * n..], x, std::array::from_mut(out));
    }
}

/// R weight rows side by side: their sums are independent, which hides the latency of one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn some_rows<const R: usize>(codes: &[i8], scales: &[f32], x: Row<'_>, out: &mut [f32; R]) {
    let n = x.scales.len();
    assert!(codes.len() >= R * n * BLOCK && scales.len() >= R * n && x.offsets.len() >= n);
    let flip = _mm512_set1_epi8(-128);
    let mut totals = [_mm512_setzero_ps(); R];
    let mut block = 0;
    while block < n {
        // One load covers two blocks; the last may be alone.
        let (bytes, floats) =
            if block + 1 < n { (u64::MAX, 0b11) } else { (u64::from(u32::MAX), 0b01) };
        // SAFETY: the masks keep every load inside the slices whose lengths were asserted.
        unsafe {
            let x_codes = _mm512_maskz_loadu_epi8(bytes, x.codes.as_ptr().add(block * BLOCK));
            let offsets = _mm512_castsi128_si512(_mm_maskz_loadu_epi32(
                floats,
                x.offsets.as_ptr().add(block),
            ));
            // Offset of the first block in lane 0, of the second in lane 8.
            let at = _mm512_setr_epi32(0, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2);
            let offsets = _mm512_permutexvar_epi32(at, offsets);
            let x_scales = pair(x.scales.as_ptr().add(block), floats);
            for (r, total) in totals.iter_mut().enumerate() {
                let at = codes.as_ptr().add((r * n + block) * BLOCK);
                // Decode waits for memory: without this four streams reach a sixth of its
                // 34 GB/s (LOG.md).
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                let w = _mm512_xor_si512(_mm512_maskz_loadu_epi8(bytes, at), flip);
                let dots = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(offsets, w, x_codes));
                let w_scales = pair(scales.as_ptr().add(r * n + block), floats);
                *total = _mm512_fmadd_ps(_mm512_mul_ps(w_scales, x_scales), dots, *total);
            }
        }
        block += 2;
    }
    for (y, total) in out.iter_mut().zip(totals) {
        *y = _mm512_reduce_add_ps(total);
    }
}

/// Two scales, the first in lanes 0 to 7, the second in lanes 8 to 15.
///
/// # Safety
/// `at` is readable for as many values as `mask` has bits.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn pair(at: *const f32, mask: u8) -> __m512 {
    // SAFETY: masked lanes are not read.
    let scales = unsafe { _mm512_castps128_ps512(_mm_maskz_loadu_ps(mask, at)) };
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    _mm512_permutexvar_ps(lanes, scales)
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
