//! Nonlinearities by burn's operations.

use burn::tensor::{Tensor, activation};
use tributary_core::backend::Activation;

/// f(x).
pub(super) fn activate(x: Tensor<2>, f: Activation) -> Tensor<2> {
    match f {
        // Not `activation::gelu`: its gradient is that of the tanh approximation.
        Activation::Gelu => {
            let phi = (x.clone() * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0;
            x * phi * 0.5
        }
        Activation::GeluTanh => {
            let cubed = x.clone() * x.clone() * x.clone();
            let inner = (x.clone() + cubed * 0.044_715) * SQRT_2_OVER_PI;
            x * (inner.tanh() + 1.0) * 0.5
        }
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::Relu => activation::relu(x),
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::Silu => activation::silu(x),
        Activation::Tanh => x.tanh(),
    }
}

/// sqrt(2 / pi) of GELU's tanh approximation.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
