//! upload, read, zeros, embed, gather_rows, scatter_rows: nothing may change on the way.

use tributary_core::backend::Backend;
use tributary_core::dtype::Format;

use super::{SHAPES, Subject, read, stored};
use crate::{assert_parity, indices, twin, uniform};

/// What is uploaded is read back, bit for bit.
pub fn upload<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, cols] in SHAPES {
        let data = uniform(1, rows * cols);
        let x = b.upload(&data, [rows, cols]).unwrap();
        assert_eq!(b.shape(&x), [rows, cols]);
        assert_eq!(read(b, &x), data, "{} upload {rows}x{cols}", subject.name);
    }
}

/// Zeros are zeros, also in memory used before.
pub fn zeros<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, cols] in SHAPES {
        drop(b.upload(&uniform(1, rows * cols), [rows, cols]).unwrap());
        let x = b.zeros([rows, cols]).unwrap();
        assert_eq!(read(b, &x), vec![0.0; rows * cols], "{} zeros {rows}x{cols}", subject.name);
    }
}

/// Rows of tables in every format, ids repeated.
pub fn embed<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for format in [Format::F32, Format::F16, Format::Q8, Format::Q4] {
        for [n, cols, asked] in
            [[1, 1, 1], [7, 5, 20], [11, 33, 4], [3, 130, 2], [5, 64, 0], [9, 3, 70_000]]
        {
            let data = stored(3, [n, cols], format);
            let ids = indices(4, asked, n);
            let truth = twin::rows(&twin::dequantize(&data), cols, &ids);
            let table = b.matrix(data).unwrap();
            assert_eq!(b.matrix_shape(&table), [n, cols]);
            let y = b.embed(&table, &ids).unwrap();
            assert_eq!(b.shape(&y), [asked, cols]);
            let label = format!("{} embed {format} {asked} of {n}x{cols}", subject.name);
            assert_parity(&label, &read(b, &y), &truth, 1e-13);
        }
    }
}

/// Rows in any order, repeated, and none.
pub fn gather_rows<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for [rows, cols, asked] in [[1, 1, 1], [5, 7, 11], [257, 3, 0], [70_000, 3, 70_001]] {
        let data = uniform(1, rows * cols);
        let asked = indices(2, asked, rows);
        let x = b.upload(&data, [rows, cols]).unwrap();
        let y = b.gather_rows(&x, &asked).unwrap();
        let truth: Vec<f32> =
            asked.iter().flat_map(|&row| data[row as usize * cols..][..cols].to_vec()).collect();
        let label = format!("{} gather_rows {} of {rows}x{cols}", subject.name, asked.len());
        assert_eq!(read(b, &y), truth, "{label}");
    }
}

/// Overwritten rows change, the others and earlier clones do not.
pub fn scatter_rows<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for (rows, cols, at) in [
        (1, 1, vec![0]),
        (7, 5, vec![6, 0, 3]),
        (9, 33, vec![]),
        (70_000, 3, (0..70_000).rev().collect()),
    ] {
        let (before, new) = (uniform(1, rows * cols), uniform(2, at.len() * cols));
        let mut x = b.upload(&before, [rows, cols]).unwrap();
        let earlier = x.clone();
        let source = b.upload(&new, [at.len(), cols]).unwrap();
        b.scatter_rows(&mut x, &at, &source).unwrap();
        let mut truth = before.clone();
        for (row, new) in at.iter().zip(new.chunks(cols)) {
            truth[*row as usize * cols..][..cols].copy_from_slice(new);
        }
        let label = format!("{} scatter_rows {} into {rows}x{cols}", subject.name, at.len());
        assert_eq!(read(b, &x), truth, "{label}");
        assert_eq!(read(b, &earlier), before, "{label}: a clone taken before");

        // Again without a clone: in place.
        drop(earlier);
        b.scatter_rows(&mut x, &at, &source).unwrap();
        assert_eq!(read(b, &x), truth, "{label}, in place");
    }
}
