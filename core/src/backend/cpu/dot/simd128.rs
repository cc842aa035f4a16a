//! WebAssembly: widen to 16 bits, multiply and add pairs into 32.

use std::arch::wasm32::*;

use super::Row;
use crate::dtype::BLOCK;

/// See [`super::rows`], which checks the lengths.
pub(super) fn rows(codes: &[i8], scales: &[f32], x: Row<'_>, out: &mut [f32]) {
    super::each_row(codes, scales, x, out, block);
}

#[inline(always)]
fn block(w: &[i8; BLOCK], x: &[i8; BLOCK]) -> i32 {
    let mut dots = i32x4_splat(0);
    let (w, x) = (w.as_chunks::<8>().0, x.as_chunks::<8>().0);
    for (w, x) in w.iter().zip(x) {
        let widen = |v: &[i8; 8]| {
            i16x8(
                v[0].into(),
                v[1].into(),
                v[2].into(),
                v[3].into(),
                v[4].into(),
                v[5].into(),
                v[6].into(),
                v[7].into(),
            )
        };
        dots = i32x4_add(dots, i32x4_dot_i16x8(widen(w), widen(x)));
    }
    i32x4_extract_lane::<0>(dots)
        + i32x4_extract_lane::<1>(dots)
        + i32x4_extract_lane::<2>(dots)
        + i32x4_extract_lane::<3>(dots)
}
