//! Columns of several activations side by side.

use super::super::check;
use super::{Tensor, threads};
use crate::error::Result;

pub(super) fn concat(parts: &[&Tensor]) -> Result<Tensor> {
    let shapes: Vec<_> = parts.iter().map(|part| part.shape).collect();
    let [rows, cols] = check::concat(&shapes)?;
    let mut y = vec![0.0; rows * cols];
    threads::rows(&mut y, cols, |first, y| {
        for (row, mut y) in y.chunks_exact_mut(cols).enumerate() {
            for part in parts {
                let (own, rest) = y.split_at_mut(part.shape[1]);
                own.copy_from_slice(part.row(first + row));
                y = rest;
            }
        }
    });
    Ok(Tensor::new(y, [rows, cols]))
}
