//! AVX2: `maddubs` on |w| and sign(w) x. Codes reach 128 in size, so a pair sums to at most
//! 2 * 128 * 127 = 32512 and never saturates 16 bits.
#![expect(unsafe_code, reason = "AVX2 loads; `Level` proves the instructions, slices the bounds")]

use std::arch::x86_64::*;

use super::Row;
use crate::dtype::BLOCK;

/// See [`super::rows`], which checks the lengths.
pub(super) fn rows(codes: &[i8], scales: &[f32], x: Row<'_>, out: &mut [f32]) {
    // SAFETY: called for `Level::Avx2` only, which exists where AVX2 and FMA were detected.
    unsafe { rows_avx2(codes, scales, x, out) }
}

#[target_feature(enable = "avx2,fma")]
fn rows_avx2(codes: &[i8], scales: &[f32], x: Row<'_>, out: &mut [f32]) {
    let n = x.scales.len();
    for (i, y) in out.iter_mut().enumerate() {
        let (w, _) = codes[i * n * BLOCK..][..n * BLOCK].as_chunks::<BLOCK>();
        let (x_codes, _) = x.codes.as_chunks::<BLOCK>();
        let mut total = _mm256_setzero_ps();
        let pairs = w.iter().zip(x_codes).zip(scales[i * n..][..n].iter().zip(x.scales));
        for ((w, x), (ws, xs)) in pairs {
            // SAFETY: both arrays hold 32 bytes.
            let (w, x) = unsafe {
                (_mm256_loadu_si256(w.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().cast()))
            };
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
            let dots = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            total = _mm256_fmadd_ps(_mm256_set1_ps(ws * xs), _mm256_cvtepi32_ps(dots), total);
        }
        let half = _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps(total, 1));
        let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
        *y = _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
    }
}
