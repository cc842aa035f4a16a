//! linear and linear_rows in every stored format.

use tributary_core::backend::{Backend, LoraData, MatrixData, rounds_activations};
use tributary_core::dtype::Format;

use super::{Subject, read, stored};
use crate::{assert_parity, indices, twin, uniform};

const FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::Q8, Format::Q4];

/// (rows, in, out): few rows and many, widths that end inside a vector, a block and a tile.
const SIZES: [[usize; 3]; 15] = [
    [1, 1, 1],
    [3, 7, 5],
    [1, 33, 65],
    [8, 130, 6],
    [9, 257, 67],
    [70, 31, 129],
    [130, 96, 64],
    [1, 1024, 17],
    [2, 1030, 9],
    [7, 515, 33],
    [9, 769, 67],
    [70, 545, 129],
    [130, 576, 64],
    [0, 8, 4],
    [70_000, 3, 2],
];

/// What the product must be, and how near: int8 activations are rounded by a rule of their own, so
/// the twin rounds them too.
fn truth<B>(
    subject: &Subject<B>,
    x: &[f32],
    data: &MatrixData,
    bias: Option<&[f32]>,
) -> (Vec<f64>, f64) {
    let [out, input] = data.shape;
    let quantised = matches!(data.format, Format::Q8 | Format::Q4);
    let (seen, bound) = if quantised && subject.int8_activations && rounds_activations(input) {
        (twin::int8_activations(x, input), 1e-6)
    } else {
        (twin::wide(x), 1e-12)
    };
    let mut y = twin::linear(&seen, &twin::dequantize(data), bias, input, out);
    if let Some(lora) = &data.lora {
        twin::add_lora(&mut y, &twin::wide(x), lora, input, out);
    }
    (y, bound)
}

/// Every format at every size, with and without bias.
pub fn linear<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for format in FORMATS {
        for (i, [rows, input, out]) in SIZES.into_iter().enumerate() {
            let (x, bias) = (uniform(5, rows * input), uniform(6, out));
            let bias = (i % 2 == 1).then_some(&bias[..]);
            let data = stored(7, [out, input], format);
            let (truth, bound) = truth(subject, &x, &data, bias);
            let weight = b.matrix(data).unwrap();
            let bias = bias.map(|bias| b.vector("bias", bias).unwrap());
            let x = b.upload(&x, [rows, input]).unwrap();
            let y = b.linear(&x, &weight, bias.as_ref()).unwrap();
            assert_eq!(b.shape(&y), [rows, out]);
            let label = format!("{} linear {format} {rows}x{input} to {out}", subject.name);
            assert_parity(&label, &read(b, &y), &truth, bound);
        }
    }
}

/// Several weights with one input give what each alone gives, in every mixture of formats.
pub fn linears<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, input] in [[0, 8], [1, 576], [3, 33], [70, 545]] {
        let x = b.upload(&uniform(5, rows * input), [rows, input]).unwrap();
        let layers = [(Format::F32, 65, true), (Format::Q8, 1, false), (Format::Q4, 130, true)];
        let layers = layers.map(|(format, out, has_bias)| {
            let bias = has_bias.then(|| b.vector("bias", &uniform(6, out)).unwrap());
            (b.matrix(stored(7, [out, input], format)).unwrap(), bias)
        });
        let all = layers.each_ref().map(|(weight, bias)| (weight, bias.as_ref()));
        for ((weight, bias), y) in all.iter().zip(b.linears(&x, all).unwrap()) {
            let alone = b.linear(&x, weight, *bias).unwrap();
            assert_eq!(b.shape(&y), b.shape(&alone), "{} {rows}x{input}", subject.name);
            assert_eq!(read(b, &y), read(b, &alone), "{} {rows}x{input}", subject.name);
        }
    }
    let x = b.upload(&uniform(5, 8), [1, 8]).unwrap();
    let [fits, other] = [8, 9].map(|input| b.matrix(stored(7, [2, input], Format::F32)).unwrap());
    assert!(b.linears(&x, [(&fits, None), (&other, None)]).is_err(), "{}", subject.name);
}

/// Rounding activations to int8 costs little: a bound against the product of the unrounded ones.
pub fn quantised_linear_is_near_the_float_product<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for format in [Format::Q8, Format::Q4] {
        for rows in [1, 40] {
            let (input, out) = (600, 30);
            let x = uniform(5, rows * input);
            let data = stored(7, [out, input], format);
            let truth = twin::linear(&twin::wide(&x), &twin::dequantize(&data), None, input, out);
            let weight = b.matrix(data).unwrap();
            let y = b.linear(&b.upload(&x, [rows, input]).unwrap(), &weight, None).unwrap();
            let label = format!("{} linear {format}, {rows} rows, f32 truth", subject.name);
            assert_parity(&label, &read(b, &y), &truth, 1e-4);
        }
    }
}

/// Blocks of zeros, tiny and huge activations: no NaN, no wrong scale.
pub fn quantised_linear_survives_odd_blocks<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    let (rows, input, out) = (11, 608, 5);
    let mut x = uniform(5, rows * input);
    for (block, values) in x.chunks_mut(32).enumerate() {
        let factor = [0.0, 1.0, 1e-6, 1e6][block % 4];
        values.iter_mut().for_each(|value| *value *= factor);
    }
    for format in [Format::Q8, Format::Q4] {
        let data = stored(7, [out, input], format);
        let (truth, bound) = truth(subject, &x, &data, None);
        let weight = b.matrix(data).unwrap();
        let y = b.linear(&b.upload(&x, [rows, input]).unwrap(), &weight, None).unwrap();
        let label = format!("{} linear {format} with odd blocks", subject.name);
        assert_parity(&label, &read(b, &y), &truth, bound);
    }
}

/// y = W x + scale * B (A x), in every format.
pub fn lora<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for format in FORMATS {
        for [rows, input, out, r] in [[1, 33, 7, 3], [70, 64, 65, 8], [5, 31, 9, 1]] {
            let x = uniform(5, rows * input);
            let (a, low) = (uniform(8, r * input), uniform(9, out * r));
            let lora = Some(LoraData { r, a, b: low, scale: 1.75 });
            let data = MatrixData { lora, ..stored(7, [out, input], format) };
            let asked = indices(3, 4, out);
            let (truth, bound) = truth(subject, &x, &data, None);
            let weight = b.matrix(data).unwrap();
            let x = b.upload(&x, [rows, input]).unwrap();
            let label = format!("{} lora {format} {rows}x{input} to {out} r {r}", subject.name);
            let y = b.linear(&x, &weight, None).unwrap();
            assert_parity(&label, &read(b, &y), &truth, bound);
            let y = b.linear_rows(&x, &weight, &asked).unwrap();
            let truth = columns(&truth, out, &asked);
            assert_parity(&format!("{label}, asked rows"), &read(b, &y), &truth, bound);
        }
    }
}

/// Asked rows of the weight, repeated, in any order, and none.
pub fn linear_rows<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for format in FORMATS {
        for [rows, input, out, asked] in
            [[1, 1, 1, 1], [3, 7, 50, 4], [1, 33, 300, 77], [20, 64, 9, 30], [2, 5, 3, 0]]
        {
            let x = uniform(5, rows * input);
            let data = stored(7, [out, input], format);
            let asked = indices(8, asked, out);
            let (full, bound) = truth(subject, &x, &data, None);
            let truth = columns(&full, out, &asked);
            let weight = b.matrix(data).unwrap();
            let x = b.upload(&x, [rows, input]).unwrap();
            let y = b.linear_rows(&x, &weight, &asked).unwrap();
            assert_eq!(b.shape(&y), [rows, asked.len()]);
            let size = format!("{rows}x{input}, {} of {out}", asked.len());
            let label = format!("{} linear_rows {format} {size}", subject.name);
            assert_parity(&label, &read(b, &y), &truth, bound);
        }
    }
}

fn columns(y: &[f64], cols: usize, asked: &[u32]) -> Vec<f64> {
    y.chunks(cols).flat_map(|row| asked.iter().map(|&c| row[c as usize])).collect()
}
