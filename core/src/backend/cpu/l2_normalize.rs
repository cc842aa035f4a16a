//! y[r] = x[r] / max(||x[r]||, eps)

use super::super::check;
use super::{Level, Tensor, math, threads};
use crate::error::Result;

pub(super) fn l2_normalize(level: Level, x: &Tensor, eps: f32) -> Result<Tensor> {
    check::l2_normalize(eps)?;
    let cols = x.shape[1];
    let mut y = vec![0.0; x.data.len()];
    threads::rows(&mut y, cols, |first, y| {
        level.run(
            #[inline(always)]
            || {
                for (row, y) in y.chunks_exact_mut(cols).enumerate() {
                    let x = x.row(first + row);
                    let scale = math::sum(x, |v| v * v).sqrt().max(eps).recip();
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = x * scale);
                }
            },
        );
    });
    Ok(Tensor::new(y, x.shape))
}
