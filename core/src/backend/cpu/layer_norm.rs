//! y[r, c] = (x[r, c] - mean_c) / sqrt(var_c + eps) * weight[c] + bias[c], var biased.

use super::super::check;
use super::{Level, Tensor, Vector, math, threads};
use crate::error::Result;

pub(super) fn layer_norm(
    level: Level,
    x: &Tensor,
    weight: &Vector,
    bias: &Vector,
    eps: f32,
) -> Result<Tensor> {
    check::vector("layer_norm", "weight", x.shape, weight.0.len())?;
    check::vector("layer_norm", "bias", x.shape, bias.0.len())?;
    let cols = x.shape[1];
    let mut y = vec![0.0; x.data.len()];
    threads::rows(&mut y, cols, |first, y| {
        level.run(
            #[inline(always)]
            || {
                for (row, y) in y.chunks_exact_mut(cols).enumerate() {
                    let x = x.row(first + row);
                    let mean = math::sum(x, |v| v) / cols as f32;
                    // Two passes: the one-pass formula cancels when the mean is large.
                    let var = math::sum(x, |v| (v - mean) * (v - mean)) / cols as f32;
                    let scale = (var + eps).sqrt().recip();
                    let affine = weight.0.iter().zip(bias.0.iter());
                    for ((y, &x), (&w, &b)) in y.iter_mut().zip(x).zip(affine) {
                        *y = (x - mean) * scale * w + b;
                    }
                }
            },
        );
    });
    Ok(Tensor::new(y, x.shape))
}
