//! y[r, c] = x[r, c] * weight[c] / sqrt(mean_c(x[r, c]^2) + eps)

use super::super::check;
use super::{Level, Tensor, Vector, math, threads};
use crate::error::Result;

pub(super) fn rms_norm(level: Level, x: &Tensor, weight: &Vector, eps: f32) -> Result<Tensor> {
    check::vector("rms_norm", "weight", x.shape, weight.0.len())?;
    let cols = x.shape[1];
    let mut y = vec![0.0; x.data.len()];
    threads::rows(&mut y, cols, |first, y| {
        level.run(
            #[inline(always)]
            || {
                for (row, y) in y.chunks_exact_mut(cols).enumerate() {
                    let x = x.row(first + row);
                    let mean = math::sum(x, |v| v * v) / cols as f32;
                    let scale = (mean + eps).sqrt().recip();
                    for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight.0.iter()) {
                        *y = x * scale * w;
                    }
                }
            },
        );
    });
    Ok(Tensor::new(y, x.shape))
}
