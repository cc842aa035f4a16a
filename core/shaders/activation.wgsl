// activation: the nonlinearities
//
// grid      set by the kernel
// numerics  f32; erf by its complement with a relative error of 1.2e-7 everywhere (Numerical
//           Recipes, 3rd edition, section 6.2.2), so that the far negative side of GELU keeps its
//           digits
// baseline  no binding
//
// Arguments of exp and tanh are clamped: WGSL lets an implementation assume that no infinity occurs.

// 0 gelu, 1 gelu_tanh, 2 relu, 3 silu, 4 quick_gelu, 5 sigmoid, 6 tanh
override ACTIVATION: u32;

// 1 - erf(z) for z >= 0
fn erfc_positive(z: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * z);
    var p = 0.17087277;
    p = p * t - 0.82215223;
    p = p * t + 1.48851587;
    p = p * t - 1.13520398;
    p = p * t + 0.27886807;
    p = p * t - 0.18628806;
    p = p * t + 0.09678418;
    p = p * t + 0.37409196;
    p = p * t + 1.00002368;
    p = p * t - 1.26551223;
    return t * exp(max(p - z * z, -87.0));
}

fn activation(x: f32) -> f32 {
    switch ACTIVATION {
        case 0u: {
            // x Phi(x) = x erfc(-x / sqrt(2)) / 2
            let tail = erfc_positive(abs(x) * 0.70710678);
            return 0.5 * x * select(tail, 2.0 - tail, x > 0.0);
        }
        case 1u: {
            let inner = 0.7978845608 * (x + 0.044715 * x * x * x);
            return 0.5 * x * (1.0 + tanh(clamp(inner, -15.0, 15.0)));
        }
        case 2u: {
            return max(x, 0.0);
        }
        case 3u: {
            return x / (1.0 + exp(min(-x, 80.0)));
        }
        case 4u: {
            return x / (1.0 + exp(min(-1.702 * x, 80.0)));
        }
        case 5u: {
            return 1.0 / (1.0 + exp(min(-x, 80.0)));
        }
        default: {
            return tanh(clamp(x, -15.0, 15.0));
        }
    }
}
