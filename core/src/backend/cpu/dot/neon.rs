//! NEON: widening multiplies, pairwise sums. Products of two codes reach 128 * 127, so two of them
//! fit 16 bits but no more: each product is widened before it is added.
#![expect(unsafe_code, reason = "NEON loads; always there on 64-bit Arm, slices give the bounds")]

use std::arch::aarch64::*;

use super::Row;
use crate::dtype::BLOCK;

/// See [`super::rows`], which checks the lengths.
pub(super) fn rows(codes: &[i8], scales: &[f32], x: Row<'_>, out: &mut [f32]) {
    let n = x.scales.len();
    for (i, y) in out.iter_mut().enumerate() {
        let (w, _) = codes[i * n * BLOCK..][..n * BLOCK].as_chunks::<BLOCK>();
        let (x_codes, _) = x.codes.as_chunks::<BLOCK>();
        // SAFETY: NEON is part of 64-bit Arm; both arrays hold 32 bytes.
        *y = unsafe {
            let mut total = vdupq_n_f32(0.0);
            let pairs = w.iter().zip(x_codes).zip(scales[i * n..][..n].iter().zip(x.scales));
            for ((w, x), (ws, xs)) in pairs {
                let mut dots = vdupq_n_s32(0);
                for half in [0, 16] {
                    let (w, x) = (vld1q_s8(w.as_ptr().add(half)), vld1q_s8(x.as_ptr().add(half)));
                    dots = vpadalq_s16(dots, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                    dots = vpadalq_s16(dots, vmull_high_s8(w, x));
                }
                total = vfmaq_n_f32(total, vcvtq_f32_s32(dots), ws * xs);
            }
            vaddvq_f32(total)
        };
    }
}
