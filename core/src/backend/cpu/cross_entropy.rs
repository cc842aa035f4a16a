//! y[r] = log(sum_c e^(x[r, c] - max)) + max - x[r, target[r]]

use super::super::check;
use super::{Level, Tensor, math, threads};
use crate::error::Result;

pub(super) fn cross_entropy(level: Level, logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    check::cross_entropy(logits.shape, targets)?;
    let rows = logits.shape[0];
    let mut y = vec![0.0; rows];
    let shared = threads::Shared::new(&mut y);
    threads::parallel(rows, |row| {
        let x = logits.row(row);
        let loss = level.run(
            #[inline(always)]
            || {
                let peak = math::max(x);
                math::sum(x, |v| math::exp(v - peak)).ln() + peak - x[targets[row] as usize]
            },
        );
        shared.write(row, &[loss]);
    });
    Ok(Tensor::new(y, [rows, 1]))
}
