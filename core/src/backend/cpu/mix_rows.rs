//! y[i] = sum_j weight_ij x[j], over the entries of a sparse matrix.

use super::super::{Mix, check};
use super::{Level, Tensor, threads};
use crate::error::Result;

pub(super) fn mix_rows(level: Level, x: &Tensor, mix: &Mix) -> Result<Tensor> {
    let [rows, cols] = check::mix_rows(x.shape, mix)?;
    let mut y = vec![0.0; rows * cols];
    threads::rows(&mut y, cols, |first, y| {
        level.run(
            #[inline(always)]
            || {
                for (row, y) in y.chunks_exact_mut(cols).enumerate() {
                    for (column, weight) in mix.row(first + row) {
                        let x = x.row(column as usize);
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
                    }
                }
            },
        );
    });
    Ok(Tensor::new(y, [rows, cols]))
}
