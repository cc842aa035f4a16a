//! a b^T of two activations: the product of `linear` with rows that are not a weight.

use super::super::check;
use super::{Level, Tensor, linear};
use crate::error::Result;

pub(super) fn similarity(level: Level, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let [rows, out] = check::similarity(a.shape, b.shape)?;
    let cols = a.shape[1];
    let mut y = vec![0.0; rows * out];
    if cols > 0 && rows > 0 {
        linear::float(level, a, &mut y, out, &|first, count, task| {
            task(&b.data[first * cols..][..count * cols]);
        });
    }
    Ok(Tensor::new(y, [rows, out]))
}
