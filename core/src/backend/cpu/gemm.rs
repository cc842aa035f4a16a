//! f32 matrix products by the `gemm` crate behind bounds-checked views.

use super::threads::Shared;

/// A matrix inside a slice: element (r, c) at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// Rows of `cols` values, `stride` values apart.
    pub(super) fn new(data: &'a [f32], shape: [usize; 2], stride: usize) -> Self {
        let [rows, cols] = shape;
        let used = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols };
        assert!(used <= data.len(), "a view outside its slice");
        Self { data, shape, strides: [stride, 1] }
    }

    /// The same values, rows as columns.
    pub(super) fn transposed(self) -> Self {
        let ([rows, cols], [row, col]) = (self.shape, self.strides);
        Self { data: self.data, shape: [cols, rows], strides: [col, row] }
    }
}

/// Where a product goes: rows of a shared matrix from element `at` on, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) matrix: &'a Shared,
    pub(super) at: usize,
    pub(super) stride: usize,
    /// Add to what is there instead of overwriting it.
    pub(super) accumulate: bool,
}

/// target = scale * a b (+ target): a (m, k), b (k, n).
#[expect(unsafe_code, reason = "the gemm crate takes pointers; the views are checked")]
pub(super) fn product(target: Target<'_>, scale: f32, a: View<'_>, b: View<'_>, threads: bool) {
    let ([m, k], [b_rows, n]) = (a.shape, b.shape);
    assert_eq!(k, b_rows, "inner axes of a product");
    if m == 0 || n == 0 {
        return;
    }
    let dst = target.matrix.pointer(target.at, [m, n], target.stride);
    #[cfg(feature = "threads")]
    let parallelism = if threads { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    #[cfg(not(feature = "threads"))]
    let parallelism = {
        let _ = threads;
        gemm::Parallelism::None
    };
    let strides = |view: View<'_>| view.strides.map(|stride| stride as isize);
    let ([a_rs, a_cs], [b_rs, b_cs]) = (strides(a), strides(b));
    // SAFETY: `View::new` and `Shared::pointer` checked that every element lies inside its
    // allocation; the target is not aliased by a or b, which are shared borrows of other slices.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            1,
            target.stride as isize,
            target.accumulate,
            a.data.as_ptr(),
            a_cs,
            a_rs,
            b.data.as_ptr(),
            b_cs,
            b_rs,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
