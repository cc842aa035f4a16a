//! The transpose of each block of rows.

use super::super::check;
use super::{Tensor, threads};
use crate::error::Result;

pub(super) fn transpose(x: &Tensor, groups: usize) -> Result<Tensor> {
    let [rows, n] = check::transpose(x.shape, groups)?;
    let cols = x.shape[1];
    let mut y = vec![0.0; rows * n];
    threads::rows(&mut y, n, |first, y| {
        for (row, y) in y.chunks_exact_mut(n).enumerate() {
            let (group, col) = ((first + row) / cols, (first + row) % cols);
            let column = x.data[group * n * cols + col..].iter().step_by(cols);
            y.iter_mut().zip(column).for_each(|(y, x)| *y = *x);
        }
    });
    Ok(Tensor::new(y, [rows, n]))
}
