//! A caller's mistake is an error that names the operation and the argument, never a panic.

use std::fmt::Debug;

use tributary_core::backend::{
    Activation, Attend, Backend, HeadShape, Mask, MatrixData, Mix, Recurrence, Segments,
};
use tributary_core::error::{ErrorKind, Result};

use super::{Subject, stored};
use crate::uniform;
use tributary_core::dtype::Format;

#[track_caller]
fn refused<T>(result: Result<T>, kind: ErrorKind, words: &[&str]) {
    let Err(error) = result else { panic!("accepted, expected an error with {words:?}") };
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "`{text}` does not name `{word}`");
    }
}

/// Every operation with every argument that cannot fit.
pub fn wrong_arguments<B: Backend>(subject: &Subject<B>)
where
    B::Tensor: Debug,
{
    use ErrorKind::InvalidArgument as Invalid;
    let b = &subject.backend;
    let tensor =
        |rows: usize, cols: usize| b.upload(&uniform(1, rows * cols), [rows, cols]).unwrap();
    let vector = |len: usize| b.vector("weight", &uniform(1, len)).unwrap();
    let x = tensor(3, 4);

    refused(b.upload(&[1.0], [1, 2]), Invalid, &["upload", "data"]);
    refused(b.upload(&[], [usize::MAX, 2]), Invalid, &["upload", "shape"]);
    refused(b.zeros([usize::MAX, 2]), Invalid, &["zeros", "shape"]);
    refused(b.gather_rows(&x, &[0, 3]), Invalid, &["gather_rows", "rows", "3"]);
    refused(
        b.scatter_rows(&mut x.clone(), &[0], &tensor(2, 4)),
        Invalid,
        &["scatter_rows", "source"],
    );
    refused(
        b.scatter_rows(&mut x.clone(), &[3], &tensor(1, 4)),
        Invalid,
        &["scatter_rows", "rows"],
    );
    refused(
        b.scatter_rows(&mut x.clone(), &[1, 1], &tensor(2, 4)),
        Invalid,
        &["scatter_rows", "rows"],
    );

    refused(b.concat(&[]), Invalid, &["concat", "parts", "none"]);
    refused(b.concat(&[&x, &tensor(2, 4)]), Invalid, &["concat", "parts"]);
    refused(b.transpose(&x, 2), Invalid, &["transpose", "groups", "2"]);
    refused(b.transpose(&x, 0), Invalid, &["transpose", "groups", "0"]);
    refused(b.similarity(&x, &tensor(4, 3)), Invalid, &["similarity", "`b`"]);
    for eps in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(b.l2_normalize(&x, eps), Invalid, &["l2_normalize", "eps"]);
    }
    let mix = Mix::new(4, [[(3, 1.0)]]).unwrap();
    refused(b.mix_rows(&x, &mix), Invalid, &["mix_rows", "`x`"]);
    refused(Mix::new(3, [[(3, 1.0)]]), Invalid, &["mix", "column", "3"]);
    refused(Mix::new(3, [[(2, f32::NAN)]]), Invalid, &["mix", "weight", "NaN"]);

    let weight = b.matrix(stored(1, [5, 4], Format::F32)).unwrap();
    let wide = b.matrix(stored(1, [5, 6], Format::F32)).unwrap();
    refused(b.embed(&weight, &[5]), Invalid, &["embed", "ids", "5"]);
    refused(b.linear(&x, &wide, None), Invalid, &["linear", "`x`"]);
    refused(b.linear(&x, &weight, Some(&vector(4))), Invalid, &["linear", "bias"]);
    refused(b.linear_rows(&x, &wide, &[0]), Invalid, &["linear_rows", "`x`"]);
    refused(b.linear_rows(&x, &weight, &[5]), Invalid, &["linear_rows", "asked"]);

    refused(b.rms_norm(&x, &vector(3), 1e-5), Invalid, &["rms_norm", "weight"]);
    refused(b.layer_norm(&x, &vector(3), &vector(4), 1e-5), Invalid, &["layer_norm", "weight"]);
    refused(b.layer_norm(&x, &vector(4), &vector(3), 1e-5), Invalid, &["layer_norm", "bias"]);
    let (two, three) = (&vector(2), &vector(3));
    let fits = Recurrence { nu_log: two, theta_log: two, gamma_log: two };
    let rows = Segments::one(3).unwrap();
    for (recurrence, x, state, word) in [
        (Recurrence { theta_log: three, ..fits }, &x, None, "theta_log"),
        (Recurrence { gamma_log: three, ..fits }, &x, None, "gamma_log"),
        (fits, &tensor(2, 4), None, "`x`"),
        (fits, &tensor(3, 2), None, "`x`"),
        (fits, &x, Some(&tensor(2, 4)), "state"),
    ] {
        let result = b.linear_recurrence(x, recurrence, &rows, state);
        refused(result, Invalid, &["linear_recurrence", word]);
    }
    refused(b.rope(&x, &tensor(3, 3), 3), Invalid, &["rope", "head_dim"]);
    refused(b.rope(&x, &tensor(2, 2), 2), Invalid, &["rope", "angles"]);
    refused(b.cross_entropy(&x, &[0, 1]), Invalid, &["cross_entropy", "targets"]);
    refused(b.cross_entropy(&x, &[0, 1, 4]), Invalid, &["cross_entropy", "targets", "4"]);
    refused(b.top_k(&x, 0), Invalid, &["top_k", "`k`"]);
    refused(b.top_k(&x, 5), Invalid, &["top_k", "`k`"]);
    refused(b.add(&x, &tensor(4, 3)), Invalid, &["add", "`b`"]);
    refused(b.gated(&x, &tensor(3, 3), Activation::Silu), Invalid, &["gated", "up"]);
    refused(b.dropout(&x, 1.0), Invalid, &["dropout", "probability"]);

    let segments = Segments::new(&[1, 2]).unwrap();
    let attend = Attend::new(&segments, Mask::Causal);
    let heads =
        |q, kv, head_dim| HeadShape { num_attention_heads: q, num_key_value_heads: kv, head_dim };
    let attention =
        |q: &B::Tensor, k: &B::Tensor, v: &B::Tensor, heads| b.attention(q, k, v, &attend, heads);
    let narrow = tensor(3, 2);
    refused(attention(&x, &x, &x, heads(3, 2, 2)), Invalid, &["attention", "heads"]);
    refused(attention(&x, &x, &x, heads(2, 0, 2)), Invalid, &["attention", "heads"]);
    refused(attention(&narrow, &narrow, &narrow, heads(2, 1, 2)), Invalid, &["attention", "`q`"]);
    refused(attention(&x, &x, &narrow, heads(2, 1, 2)), Invalid, &["attention", "`k`"]);
    refused(attention(&x, &narrow, &x, heads(2, 1, 2)), Invalid, &["attention", "`v`"]);

    let (two, empty) = (Segments::new(&[2, 1]).unwrap(), Segments::new(&[3, 0]).unwrap());
    for (keys, mask) in [
        (&Segments::one(3).unwrap(), Mask::Bidirectional),
        (&two, Mask::Causal), // one key for two rows
        (&empty, Mask::Bidirectional),
    ] {
        let attend = Attend { keys: Some(keys), ..Attend::new(&segments, mask) };
        let y = b.attention(&x, &narrow, &narrow, &attend, heads(2, 1, 2));
        refused(y, Invalid, &["attention", "attend.keys"]);
    }
}

/// A matrix whose bytes do not fit its shape.
pub fn wrong_matrices<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for format in [Format::F32, Format::F16, Format::Q8, Format::Q4] {
        let good = stored(1, [5, 40], format);
        let values = good.values.slice(1..);
        let cut = MatrixData { values, ..good.clone() };
        refused(b.matrix(cut).map(|_| ()), ErrorKind::ModelInvalid, &["weight", "values"]);
        if !good.scales.is_empty() {
            let scales = good.scales.slice(2..);
            let cut = MatrixData { scales, ..good };
            refused(b.matrix(cut).map(|_| ()), ErrorKind::ModelInvalid, &["weight", "scales"]);
        }
    }
}
