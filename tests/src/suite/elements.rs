//! Operations on single values: add, activate, gated, dropout.

use tributary_core::backend::{Activation, Backend};

use super::{SHAPES, Subject, read};
use crate::{assert_parity, twin, uniform};

/// All of them.
pub const ACTIVATIONS: [Activation; 7] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Tanh,
];

/// a + b.
pub fn add<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, cols] in SHAPES {
        let (x, y) = (uniform(1, rows * cols), uniform(2, rows * cols));
        let truth: Vec<f64> = x.iter().zip(&y).map(|(x, y)| f64::from(x + y)).collect();
        let x = b.upload(&x, [rows, cols]).unwrap();
        let y = b.upload(&y, [rows, cols]).unwrap();
        let label = format!("{} add {rows}x{cols}", subject.name);
        assert_parity(&label, &read(b, &b.add(&x, &y).unwrap()), &truth, 0.0);
        let twice: Vec<f64> = read(b, &x).iter().map(|&x| f64::from(x + x)).collect();
        assert_parity(&label, &read(b, &b.add(&x, &x).unwrap()), &twice, 0.0);
    }
}

/// Every nonlinearity, over the range where it bends and far outside.
pub fn activate<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for f in ACTIVATIONS {
        // The rounding of a far exponent is a share of the result: e^66 has a relative error of 4e-6.
        for (scale, bound) in [(6.0, 1e-12), (300.0, 2e-11)] {
            for [rows, cols] in SHAPES {
                let x: Vec<f32> = uniform(1, rows * cols).iter().map(|x| x * scale).collect();
                let truth: Vec<f64> =
                    x.iter().map(|&x| twin::activation(f64::from(x), f)).collect();
                let y = b.activate(&b.upload(&x, [rows, cols]).unwrap(), f).unwrap();
                let label = format!("{} {f:?} {rows}x{cols} scale {scale}", subject.name);
                assert_parity(&label, &read(b, &y), &truth, bound);
            }
        }
    }
}

/// The negative side alone, where GELU is small: its digits must not drown in those of the
/// positive side.
pub fn gelu_keeps_its_negative_side<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for f in [Activation::Gelu, Activation::QuickGelu, Activation::Silu, Activation::Sigmoid] {
        let x: Vec<f32> = uniform(1, 501).iter().map(|x| -2.0 - x.abs() * 2.0).collect();
        let truth: Vec<f64> = x.iter().map(|&x| twin::activation(f64::from(x), f)).collect();
        let y = b.activate(&b.upload(&x, [3, 167]).unwrap(), f).unwrap();
        let label = format!("{} {f:?} from -4 to -2", subject.name);
        assert_parity(&label, &read(b, &y), &truth, 1e-9);
    }
}

/// f(gate) * up.
pub fn gated<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for f in ACTIVATIONS {
        for [rows, cols] in SHAPES {
            let gate: Vec<f32> = uniform(1, rows * cols).iter().map(|x| x * 5.0).collect();
            let up = uniform(2, rows * cols);
            let truth: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(&gate, &up)| twin::activation(f64::from(gate), f) * f64::from(up))
                .collect();
            let gate = b.upload(&gate, [rows, cols]).unwrap();
            let up = b.upload(&up, [rows, cols]).unwrap();
            let label = format!("{} gated {f:?} {rows}x{cols}", subject.name);
            let y = b.gated(&gate, &up, f).unwrap();
            assert_parity(&label, &read(b, &y), &truth, 1e-12);
        }
    }
}

/// Outside training, dropout changes nothing.
pub fn dropout<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    let x = uniform(1, 35);
    let y = b.dropout(&b.upload(&x, [5, 7]).unwrap(), 0.5).unwrap();
    assert_eq!(read(b, &y), x, "{} dropout", subject.name);
}
