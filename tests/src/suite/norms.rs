//! Operations that look at a whole row: norms, rope, cross_entropy, top_k.

use tributary_core::backend::Backend;

use super::{SHAPES, Subject, read};
use crate::{assert_parity, indices, twin, uniform};

/// RMS norm, with rows of zeros too.
pub fn rms_norm<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, cols] in SHAPES {
        let (mut x, weight) = (uniform(1, rows * cols), uniform(2, cols));
        if rows == 31 {
            x[..cols].fill(0.0);
        }
        let truth = twin::rms_norm(&twin::wide(&x), &twin::wide(&weight), f64::from(1e-5f32));
        let x = b.upload(&x, [rows, cols]).unwrap();
        let y = b.rms_norm(&x, &b.vector("weight", &weight).unwrap(), 1e-5).unwrap();
        let label = format!("{} rms_norm {rows}x{cols}", subject.name);
        assert_parity(&label, &read(b, &y), &truth, 1e-12);
    }
}

/// Layer norm, with a mean far from zero, where mean(x^2) - mean(x)^2 would cancel.
pub fn layer_norm<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for shift in [0.0, 100.0] {
        for [rows, cols] in SHAPES {
            let x: Vec<f32> = uniform(1, rows * cols).iter().map(|x| x + shift).collect();
            let (weight, bias) = (uniform(2, cols), uniform(3, cols));
            let (w, c) = (twin::wide(&weight), twin::wide(&bias));
            let truth = twin::layer_norm(&twin::wide(&x), &w, &c, f64::from(1e-5f32));
            let x = b.upload(&x, [rows, cols]).unwrap();
            let weight = b.vector("weight", &weight).unwrap();
            let bias = b.vector("bias", &bias).unwrap();
            let y = b.layer_norm(&x, &weight, &bias, 1e-5).unwrap();
            let label = format!("{} layer_norm {rows}x{cols} around {shift}", subject.name);
            // Subtracting a mean of 100 leaves that many digits fewer.
            let bound = if shift == 0.0 { 1e-12 } else { 1e-9 };
            assert_parity(&label, &read(b, &y), &truth, bound);
        }
    }
}

/// Whole heads, one and several.
pub fn rope<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, heads, head_dim] in [[1, 1, 2], [3, 5, 6], [7, 3, 64], [0, 1, 4], [70_000, 1, 2]] {
        let cols = heads * head_dim;
        let (x, angles) = (uniform(1, rows * cols), uniform(2, rows * head_dim));
        let truth = twin::rope(&twin::wide(&x), &twin::wide(&angles), cols, head_dim);
        let x = b.upload(&x, [rows, cols]).unwrap();
        let angles = b.upload(&angles, [rows, head_dim]).unwrap();
        let y = b.rope(&x, &angles, head_dim).unwrap();
        let label = format!("{} rope {rows} rows, {heads} heads of {head_dim}", subject.name);
        assert_parity(&label, &read(b, &y), &truth, 1e-13);
    }
}

/// Losses of logits near zero and far apart.
pub fn cross_entropy<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for scale in [1.0, 40.0] {
        for [rows, cols] in SHAPES {
            let x: Vec<f32> = uniform(1, rows * cols).iter().map(|x| x * scale).collect();
            let targets = indices(2, rows, cols);
            let truth = twin::cross_entropy(&twin::wide(&x), cols, &targets);
            let y = b.cross_entropy(&b.upload(&x, [rows, cols]).unwrap(), &targets).unwrap();
            assert_eq!(b.shape(&y), [rows, 1]);
            let label = format!("{} cross_entropy {rows}x{cols} scale {scale}", subject.name);
            assert_parity(&label, &read(b, &y), &truth, 1e-12);
        }
    }
}

/// Ties in column order, both zeros equal, NaN last, infinities in place.
pub fn top_k<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for ([rows, cols], k) in
        [([1, 1], 1), ([3, 7], 7), ([5, 257], 10), ([2, 4099], 300), ([0, 5], 2), ([70_000, 3], 2)]
    {
        let mut x = uniform(1, rows * cols);
        for (i, value) in x.iter_mut().enumerate() {
            match i % 11 {
                3 => *value = 0.25,
                5 => *value = -0.0,
                6 => *value = 0.0,
                8 => *value = f32::NAN,
                9 => *value = -f32::NAN,
                _ if i % 23 == 1 => *value = f32::INFINITY,
                _ if i % 29 == 1 => *value = f32::NEG_INFINITY,
                _ => {}
            }
        }
        let truth = twin::top_k(&x, cols, k);
        let y = b.top_k(&b.upload(&x, [rows, cols]).unwrap(), k).unwrap();
        assert_eq!(b.shape(&y), [rows, 2 * k]);
        let found = read(b, &y);
        let label = format!("{} top_k {k} of {rows}x{cols}", subject.name);
        assert_eq!(found.len(), truth.len(), "{label}");
        for (i, (found, truth)) in found.iter().zip(&truth).enumerate() {
            let same = found == truth || (found.is_nan() && truth.is_nan());
            assert!(same, "{label}: value {i} is {found}, expected {truth}");
        }
    }
}
