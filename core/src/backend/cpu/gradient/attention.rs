//! With P = softmax(scale q k^T) and y = P v: dv = P^T dy, dP = dy v^T,
//! dS = P * (dP - rowsum(P * dP)), dq = scale dS k, dk = scale dS^T q.

use std::ops::Range;

use super::super::super::{Attend, HeadShape, Mask};
use super::super::attention::softmax;
use super::super::gemm::{Target, View, product};
use super::super::threads::{self, Shared};
use super::super::{Level, Tensor, math};

/// Query rows whose weights are held at a time.
const TILE: usize = 64;

/// Where the three gradients go.
struct Targets {
    dq: Shared,
    dk: Shared,
    dv: Shared,
}

pub(super) fn gradient(
    level: Level,
    [q, k, v]: [&Tensor; 3],
    attend: &Attend<'_, Tensor>,
    heads: HeadShape,
    dy: &Tensor,
) -> [Tensor; 3] {
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| vec![0.0; x.data.len()]);
    let targets =
        Targets { dq: Shared::new(&mut dq), dk: Shared::new(&mut dk), dv: Shared::new(&mut dv) };
    let pairs: Vec<_> = attend.segments.iter().zip(attend.key_segments().iter()).collect();
    // A key head of a segment is one task: query heads that share it add to the same gradients.
    threads::parallel(pairs.len() * heads.num_key_value_heads, |task| {
        let (rows, keys) = &pairs[task / heads.num_key_value_heads];
        let kv_head = task % heads.num_key_value_heads;
        let mut buffers = [const { Vec::new() }; 2];
        for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
            for start in rows.clone().step_by(TILE) {
                let tile = start..rows.end.min(start + TILE);
                let seen_keys = keys.start..attend.keys_end(tile.end - 1, rows, keys);
                let seen = |row: usize| match attend.mask {
                    Mask::Causal => seen_keys.len() + row + 1 - tile.len(),
                    Mask::Bidirectional => seen_keys.len(),
                };
                let place = Place { rows: tile.clone(), keys: seen_keys.clone(), head };
                place.add(level, [q, k, v, dy], heads, seen, &mut buffers, &targets);
            }
        }
    });
    [Tensor::new(dq, q.shape), Tensor::new(dk, k.shape), Tensor::new(dv, v.shape)]
}

/// Rows of one segment and head against the keys that some of them see.
struct Place {
    rows: Range<usize>,
    keys: Range<usize>,
    head: usize,
}

impl Place {
    fn add(
        &self,
        level: Level,
        [q, k, v, dy]: [&Tensor; 4],
        heads: HeadShape,
        seen: impl Fn(usize) -> usize,
        [weights, slopes]: &mut [Vec<f32>; 2],
        targets: &Targets,
    ) {
        let (head_dim, q_size, kv_size) = (heads.head_dim, heads.q_size(), heads.kv_size());
        let (rows, keys) = (self.rows.len(), self.keys.len());
        if keys == 0 {
            return;
        }
        let q_at = self.rows.start * q_size + self.head * head_dim;
        let kv_at = self.keys.start * kv_size + self.head / heads.group() * head_dim;
        let of_rows = |x: &'_ Tensor| q_at..x.data.len();
        let of_keys = |x: &'_ Tensor| kv_at..x.data.len();
        let q = View::new(&q.data[of_rows(q)], [rows, head_dim], q_size);
        let dy = View::new(&dy.data[of_rows(dy)], [rows, head_dim], q_size);
        let k = View::new(&k.data[of_keys(k)], [keys, head_dim], kv_size);
        let v = View::new(&v.data[of_keys(v)], [keys, head_dim], kv_size);
        for (buffer, scale, a, b) in
            [(&mut *weights, heads.scale(), q, k), (&mut *slopes, 1.0, dy, v)]
        {
            buffer.clear();
            buffer.resize(rows * keys, 0.0);
            let matrix = &Shared::new(buffer);
            let target = Target { matrix, at: 0, stride: keys, accumulate: false };
            product(target, scale, a, b.transposed(), false);
        }
        softmax(level, weights, keys, seen);
        let weights_view = View::new(weights, [rows, keys], keys).transposed();
        let target = Target { matrix: &targets.dv, at: kv_at, stride: kv_size, accumulate: true };
        product(target, 1.0, weights_view, dy, false);
        level.run(
            #[inline(always)]
            || {
                let rows = weights.chunks_exact(keys).zip(slopes.chunks_exact_mut(keys));
                for (weights, slopes) in rows {
                    let along = math::dot(weights, slopes);
                    slopes.iter_mut().zip(weights).for_each(|(s, &p)| *s = p * (*s - along));
                }
            },
        );
        let slopes = View::new(slopes, [rows, keys], keys);
        let target = Target { matrix: &targets.dq, at: q_at, stride: q_size, accumulate: false };
        product(target, heads.scale(), slopes, k, false);
        let target = Target { matrix: &targets.dk, at: kv_at, stride: kv_size, accumulate: true };
        product(target, heads.scale(), slopes.transposed(), q, false);
    }
}
