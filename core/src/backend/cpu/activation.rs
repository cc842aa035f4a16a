//! Operations on single elements: add, activate, gated.

use super::super::Activation;
use super::{Level, Tensor, math, threads};

/// y = f(a, b), element by element; the shapes are equal.
pub(super) fn zip(
    level: Level,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Tensor {
    let mut y = vec![0.0; a.data.len()];
    threads::rows(&mut y, 1, |at, y| {
        let (a, b) = (&a.data[at..][..y.len()], &b.data[at..][..y.len()]);
        level.run(
            #[inline(always)]
            || {
                for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                    *y = f(a, b);
                }
            },
        );
    });
    Tensor::new(y, a.shape)
}

/// y = f(x).
pub(super) fn activate(level: Level, x: &Tensor, f: Activation) -> Tensor {
    match f {
        Activation::Gelu => zip(level, x, x, |x, _| math::gelu(x)),
        Activation::GeluTanh => zip(level, x, x, |x, _| math::gelu_tanh(x)),
        Activation::Relu => zip(level, x, x, |x, _| x.max(0.0)),
        Activation::Silu => zip(level, x, x, |x, _| math::silu(x)),
    }
}

/// y = f(gate) * up; the shapes are equal.
pub(super) fn gated(level: Level, gate: &Tensor, up: &Tensor, f: Activation) -> Tensor {
    match f {
        Activation::Gelu => zip(level, gate, up, |g, u| math::gelu(g) * u),
        Activation::GeluTanh => zip(level, gate, up, |g, u| math::gelu_tanh(g) * u),
        Activation::Relu => zip(level, gate, up, |g, u| g.max(0.0) * u),
        Activation::Silu => zip(level, gate, up, |g, u| math::silu(g) * u),
    }
}
