//! Rotary position embedding on halves: (a, b) -> (a cos - b sin, b cos + a sin).

use super::super::check;
use super::{Level, Tensor, threads};
use crate::error::Result;

pub(super) fn rope(level: Level, x: &Tensor, angles: &Tensor, head_dim: usize) -> Result<Tensor> {
    check::rope(x.shape, angles.shape, head_dim)?;
    let cols = x.shape[1];
    let mut y = x.data.to_vec();
    threads::rows(&mut y, cols, |first, y| {
        level.run(
            #[inline(always)]
            || {
                for (row, y) in y.chunks_exact_mut(cols).enumerate() {
                    let (cos, sin) = angles.row(first + row).split_at(head_dim / 2);
                    for head in y.chunks_exact_mut(head_dim) {
                        let (a, b) = head.split_at_mut(head_dim / 2);
                        for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                        }
                    }
                }
            },
        );
    });
    Ok(Tensor::new(y, x.shape))
}
