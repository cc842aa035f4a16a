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

/// `$body` with `$f` bound to the function of an [`Activation`]: a loop of its own for each, so that
/// it is vectorised.
macro_rules! with_function {
    ($activation:expr, $f:ident => $body:expr) => {
        with_function!($activation, $f => $body,
            Gelu = math::gelu,
            GeluTanh = math::gelu_tanh,
            QuickGelu = math::quick_gelu,
            Relu = math::relu,
            Sigmoid = math::sigmoid,
            Silu = math::silu,
            Tanh = math::tanh,
        )
    };
    ($activation:expr, $f:ident => $body:expr, $($name:ident = $function:path,)*) => {
        match $activation {
            $(Activation::$name => {
                let $f = $function;
                $body
            })*
        }
    };
}

/// y = f(x).
pub(super) fn activate(level: Level, x: &Tensor, f: Activation) -> Tensor {
    with_function!(f, f => zip(level, x, x, |x, _| f(x)))
}

/// y = f(gate) * up; the shapes are equal.
pub(super) fn gated(level: Level, gate: &Tensor, up: &Tensor, f: Activation) -> Tensor {
    with_function!(f, f => zip(level, gate, up, |gate, up| f(gate) * up))
}
