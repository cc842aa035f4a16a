//! attention: packed segments, both masks, shared prefixes, grouped heads.

use tributary_core::backend::{Attend, Backend, HeadShape, Mask, Prefix, Segments};

use super::{Subject, read};
use crate::{assert_parity, twin, uniform};

struct Case {
    lengths: &'static [usize],
    /// Lengths of the key segments, where they are not those of q.
    keys: Option<&'static [usize]>,
    /// (num_attention_heads, num_key_value_heads, head_dim)
    heads: [usize; 3],
    /// (len, capacity) of a prefix.
    prefix: Option<[usize; 2]>,
}

const CASES: [Case; 12] = [
    Case { lengths: &[1], keys: None, heads: [1, 1, 1], prefix: None },
    Case { lengths: &[5], keys: None, heads: [3, 1, 7], prefix: None },
    Case { lengths: &[2, 0, 67, 1, 3], keys: None, heads: [4, 2, 8], prefix: None },
    Case { lengths: &[1], keys: None, heads: [9, 3, 64], prefix: Some([130, 131]) },
    Case { lengths: &[3, 1, 4, 1, 5], keys: None, heads: [2, 2, 33], prefix: Some([17, 17]) },
    Case { lengths: &[100], keys: None, heads: [2, 1, 80], prefix: Some([0, 4]) },
    Case { lengths: &[19], keys: None, heads: [1, 1, 256], prefix: Some([65, 70]) },
    Case { lengths: &[3, 2], keys: None, heads: [1, 1, 257], prefix: None },
    Case { lengths: &[5, 1], keys: None, heads: [2, 1, 1537], prefix: Some([3, 4]) },
    Case { lengths: &[], keys: None, heads: [2, 1, 4], prefix: Some([3, 3]) },
    Case { lengths: &[64, 65, 63], keys: None, heads: [6, 2, 16], prefix: Some([64, 64]) },
    Case { lengths: &[3, 2], keys: None, heads: [4, 2, 20], prefix: Some([63, 64]) },
];

/// Every case under both masks.
pub fn attention<B: Backend>(subject: &Subject<B>) {
    for case in &CASES {
        for mask in [Mask::Causal, Mask::Bidirectional] {
            check(subject, case, mask, 1.0);
        }
    }
}

/// Rows that see other rows than their own: few and many keys, heads of all widths.
pub fn other_rows<B: Backend>(subject: &Subject<B>) {
    for (lengths, keys, heads) in [
        (&[1][..], &[1][..], [1, 1, 4]),
        (&[2], &[3], [1, 1, 5]),
        (&[5, 0, 2], &[1, 4, 67], [2, 1, 8]),
        (&[70, 1, 3], &[2, 2, 2], [4, 2, 33]),
        (&[3, 65, 64], &[100, 1, 7], [1, 1, 257]),
    ] {
        for prefix in [None, Some([3, 5])] {
            let case = Case { lengths, keys: Some(keys), heads, prefix };
            check(subject, &case, Mask::Bidirectional, 1.0);
        }
    }
    // As the last of what they see: a name behind its prompt.
    for (lengths, keys, heads) in [
        (&[1][..], &[3][..], [1, 1, 4]),
        (&[5, 0, 2, 1], &[9, 0, 67, 1], [2, 1, 8]),
        (&[70, 3], &[71, 200], [4, 2, 33]),
    ] {
        for prefix in [None, Some([3, 5])] {
            let case = Case { lengths, keys: Some(keys), heads, prefix };
            check(subject, &case, Mask::Causal, 1.0);
        }
    }
}

/// Scores far apart must not overflow the softmax: all weight on one key, or spread evenly.
pub fn extreme_scores<B: Backend>(subject: &Subject<B>) {
    let case = Case { lengths: &[70, 3], keys: None, heads: [2, 1, 16], prefix: Some([5, 9]) };
    for scale in [0.0, 30.0] {
        check(subject, &case, Mask::Causal, scale);
    }
}

/// More rows than a dispatch axis holds, in short segments.
pub fn many_rows<B: Backend>(subject: &Subject<B>) {
    let lengths = vec![2; 35_000].leak();
    let case = Case { lengths, keys: None, heads: [1, 1, 2], prefix: None };
    check(subject, &case, Mask::Causal, 1.0);
}

fn check<B: Backend>(subject: &Subject<B>, case: &Case, mask: Mask, scale: f32) {
    let b = &subject.backend;
    let [num_attention_heads, num_key_value_heads, head_dim] = case.heads;
    let heads = HeadShape { num_attention_heads, num_key_value_heads, head_dim };
    let segments = Segments::new(case.lengths).unwrap();
    let keys = case.keys.map(|lengths| Segments::new(lengths).unwrap());
    let of_k = keys.as_ref().unwrap_or(&segments);
    let (rows, seen_rows, kv_size) = (segments.rows(), of_k.rows(), heads.kv_size());
    let scaled = |seed, n| -> Vec<f32> { uniform(seed, n).iter().map(|x| x * scale).collect() };
    let (q, k) = (scaled(1, rows * heads.q_size()), scaled(2, seen_rows * kv_size));
    let v = uniform(3, seen_rows * kv_size);
    let [len, capacity] = case.prefix.unwrap_or_default();
    let (prefix_k, prefix_v) = (scaled(4, capacity * kv_size), uniform(5, capacity * kv_size));
    let (wide_k, wide_v) =
        (twin::wide(&prefix_k[..len * kv_size]), twin::wide(&prefix_v[..len * kv_size]));
    let seen = case.prefix.map(|_| (&wide_k[..], &wide_v[..]));
    let (wq, wk, wv) = (twin::wide(&q), twin::wide(&k), twin::wide(&v));
    let truth = twin::attention(&wq, &wk, &wv, [&segments, of_k], mask, seen, heads);

    let q = b.upload(&q, [rows, heads.q_size()]).unwrap();
    let k = b.upload(&k, [seen_rows, kv_size]).unwrap();
    let v = b.upload(&v, [seen_rows, kv_size]).unwrap();
    let prefix_k = b.upload(&prefix_k, [capacity, kv_size]).unwrap();
    let prefix_v = b.upload(&prefix_v, [capacity, kv_size]).unwrap();
    let prefix = case.prefix.map(|_| Prefix { k: &prefix_k, v: &prefix_v, len });
    let attend = Attend { prefix, keys: keys.as_ref(), ..Attend::new(&segments, mask) };
    let y = b.attention(&q, &k, &v, &attend, heads).unwrap();
    assert_eq!(b.shape(&y), [rows, heads.q_size()]);
    let segments = case.lengths.len();
    let label = format!(
        "{} attention {rows} rows in {segments} segments, keys {:?}, {:?}, prefix {:?}, {mask:?}, scale {scale}",
        subject.name, case.keys, case.heads, case.prefix
    );
    assert_parity(&label, &read(b, &y), &truth, 1e-11);
}
