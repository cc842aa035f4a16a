//! Work shared over the caller's rayon pool; a plain loop without the `threads` feature.

/// Below this many elements a thread costs more than it saves.
const MIN_ELEMENTS: usize = 1 << 15;

/// Threads that [`parallel`] uses.
pub(super) fn count() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    1
}

/// `f(0)` to `f(tasks - 1)`, in any order, at once where there are threads.
pub(super) fn parallel(tasks: usize, f: impl Fn(usize) + Sync) {
    #[cfg(feature = "threads")]
    if tasks > 1 && count() > 1 {
        use rayon::prelude::*;
        return (0..tasks).into_par_iter().with_max_len(1).for_each(&f);
    }
    (0..tasks).for_each(&f);
}

/// Rows of `cols` columns that are worth a task of their own.
pub(super) fn rows_per_task(rows: usize, cols: usize) -> usize {
    (MIN_ELEMENTS / 2).div_ceil(cols.max(1)).min(rows).max(1)
}

/// `f` of every task, in any order, at once where there are threads.
pub(super) fn each<T: Send>(tasks: Vec<T>, f: impl Fn(T) + Sync) {
    #[cfg(feature = "threads")]
    if tasks.len() > 1 && count() > 1 {
        use rayon::prelude::*;
        return tasks.into_par_iter().for_each(&f);
    }
    tasks.into_iter().for_each(f);
}

/// Fills `out` (rows, cols) in chunks of whole rows: `f(first row, chunk)`.
pub(super) fn rows(out: &mut [f32], cols: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if cols == 0 || out.is_empty() {
        return;
    }
    #[cfg(feature = "threads")]
    if out.len() >= MIN_ELEMENTS && count() > 1 {
        use rayon::prelude::*;
        let rows = rows_per_task(out.len() / cols, cols);
        let chunks = out.par_chunks_mut(rows * cols).enumerate();
        return chunks.for_each(|(i, chunk)| f(i * rows, chunk));
    }
    f(0, out);
}

/// A matrix that tasks of [`parallel`] fill side by side, each its own elements.
pub(super) struct Shared {
    start: *mut f32,
    len: usize,
}

#[expect(unsafe_code, reason = "tasks write disjoint elements of one matrix; see `Shared::write`")]
mod shared {
    use super::Shared;

    // SAFETY: the pointer is only written through `write` and `pointer`, whose callers promise
    // disjoint elements; the borrow that made it outlives the tasks (`parallel` returns after all).
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}

    impl Shared {
        /// Borrows `out` for the tasks of one `parallel` call.
        pub(in super::super) fn new(out: &mut [f32]) -> Self {
            Self { start: out.as_mut_ptr(), len: out.len() }
        }

        /// Writes `values` from element `at` on. Each element has one writing task.
        #[inline(always)]
        pub(in super::super) fn write(&self, at: usize, values: &[f32]) {
            assert!(at + values.len() <= self.len, "a task writes outside its matrix");
            // SAFETY: inside the allocation by the assertion; disjoint by the caller's split.
            unsafe {
                std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(at), values.len());
            }
        }

        /// Address of the `rows` rows of `cols` columns that start at element `at`, `stride`
        /// elements apart.
        #[inline(always)]
        pub(in super::super) fn pointer(
            &self,
            at: usize,
            [rows, cols]: [usize; 2],
            stride: usize,
        ) -> *mut f32 {
            let end = at + rows.saturating_sub(1) * stride + cols;
            assert!(end <= self.len, "a task writes outside its matrix");
            // SAFETY: inside the allocation by the assertion.
            unsafe { self.start.add(at) }
        }
    }
}
