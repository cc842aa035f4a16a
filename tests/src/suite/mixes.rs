//! Operations that rearrange and mix: concat, transpose, mix_rows, similarity, l2_normalize.

use tributary_core::backend::{Backend, Mix, Segments};

use super::{SHAPES, Subject, read};
use crate::{assert_parity, indices, twin, uniform};

/// One part and several, of unequal widths, some empty.
pub fn concat<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for (rows, widths) in [
        (1, vec![1]),
        (3, vec![7, 1, 5]),
        (31, vec![33, 0, 130]),
        (5, vec![257, 257]),
        (0, vec![3, 4]),
        (4, vec![0]),
        (70_000, vec![2, 1]),
    ] {
        let parts: Vec<_> =
            widths.iter().map(|&cols| (uniform(cols as u64, rows * cols), cols)).collect();
        let wide: Vec<_> = parts.iter().map(|(x, cols)| (twin::wide(x), *cols)).collect();
        let wide: Vec<_> = wide.iter().map(|(x, cols)| (&x[..], *cols)).collect();
        let uploaded: Vec<_> =
            parts.iter().map(|(x, cols)| b.upload(x, [rows, *cols]).unwrap()).collect();
        let y = b.concat(&uploaded.iter().collect::<Vec<_>>()).unwrap();
        let label = format!("{} concat {rows} rows of {widths:?}", subject.name);
        assert_eq!(b.shape(&y), [rows, widths.iter().sum()], "{label}");
        assert_parity(&label, &read(b, &y), &twin::concat(&wide, rows), 0.0);
    }
}

/// Blocks of one row and of many; twice is where it began.
pub fn transpose<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [groups, n, cols] in [
        [1, 1, 1],
        [1, 3, 7],
        [5, 1, 33],
        [3, 50, 17],
        [2, 257, 2],
        [4, 0, 3],
        [3, 5, 0],
        [70_000, 3, 2],
    ] {
        let x = uniform(1, groups * n * cols);
        let truth = match x.is_empty() {
            true => Vec::new(),
            false => twin::transpose(&twin::wide(&x), cols, groups),
        };
        let x = b.upload(&x, [groups * n, cols]).unwrap();
        let y = b.transpose(&x, groups).unwrap();
        let label = format!("{} transpose {groups} of {n}x{cols}", subject.name);
        assert_eq!(b.shape(&y), [groups * cols, n], "{label}");
        assert_parity(&label, &read(b, &y), &truth, 0.0);
        if n > 0 && cols > 0 {
            let back = b.transpose(&y, groups).unwrap();
            assert_eq!(read(b, &back), read(b, &x), "{label}, and back");
        }
    }
}

/// `rows` rows of up to 6 entries, repeats and empty rows among them.
fn random_mix(seed: u64, rows: usize, from: usize) -> Mix {
    let columns = indices(seed, rows * 6, from.max(1));
    let weights = uniform(seed + 1, rows * 6);
    let row = |row: usize| {
        let entries = if from == 0 { 0 } else { (row * 5 + 2) % 7 };
        (0..entries).map(move |i| row * 6 + i)
    };
    let entry = |i: usize| (columns[i], weights[i]);
    Mix::new(from, (0..rows).map(|r| row(r).map(entry).collect::<Vec<_>>())).unwrap()
}

/// Sparse sums with repeated columns and empty rows; means of segments.
pub fn mix_rows<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, from, cols] in [
        [1, 1, 1],
        [7, 5, 33],
        [5, 257, 67],
        [257, 3, 130],
        [0, 5, 4],
        [3, 0, 4],
        [4, 4, 0],
        [70_000, 11, 3],
    ] {
        let x = uniform(1, from * cols);
        let mix = random_mix(2, rows, from);
        let truth = twin::mix_rows(&twin::wide(&x), cols, &mix);
        let y = b.mix_rows(&b.upload(&x, [from, cols]).unwrap(), &mix).unwrap();
        let label = format!("{} mix_rows {rows} of {from}x{cols}", subject.name);
        assert_eq!(b.shape(&y), [rows, cols], "{label}");
        assert_parity(&label, &read(b, &y), &truth, 1e-12);
    }
    let mix = Mix::mean(&Segments::new(&[2, 0, 1]).unwrap()).unwrap();
    let y = b.mix_rows(&b.upload(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]).unwrap(), &mix).unwrap();
    assert_eq!(read(b, &y), [2.0, 3.0, 0.0, 0.0, 5.0, 6.0], "{} means of segments", subject.name);
}

/// Few rows and many, widths that end inside a vector.
pub fn similarity<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, out, cols] in [
        [1, 1, 1],
        [3, 5, 7],
        [2, 9, 1030],
        [70, 129, 31],
        [130, 64, 96],
        [9, 67, 1],
        [0, 3, 4],
        [3, 0, 4],
        [2, 3, 0],
        [70_000, 2, 3],
    ] {
        let (x, y) = (uniform(1, rows * cols), uniform(2, out * cols));
        let truth = match cols {
            0 => vec![0.0; rows * out],
            _ => twin::linear(&twin::wide(&x), &twin::wide(&y), None, cols, out),
        };
        let x = b.upload(&x, [rows, cols]).unwrap();
        let y = b.upload(&y, [out, cols]).unwrap();
        let scores = b.similarity(&x, &y).unwrap();
        let label = format!("{} similarity {rows} with {out} of {cols}", subject.name);
        assert_eq!(b.shape(&scores), [rows, out], "{label}");
        assert_parity(&label, &read(b, &scores), &truth, 1e-12);
    }
}

/// Ordinary rows, a row of zeros, and one shorter than eps.
pub fn l2_normalize<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for eps in [1e-12, 0.3] {
        for [rows, cols] in SHAPES {
            let mut x = uniform(1, rows * cols);
            if rows > 3 {
                x[..cols].fill(0.0);
                x[cols..2 * cols].fill(0.01);
            }
            let truth = twin::l2_normalize(&twin::wide(&x), cols, f64::from(eps));
            let y = b.l2_normalize(&b.upload(&x, [rows, cols]).unwrap(), eps).unwrap();
            let label = format!("{} l2_normalize {rows}x{cols} eps {eps}", subject.name);
            assert_parity(&label, &read(b, &y), &truth, 1e-12);
        }
    }
}
