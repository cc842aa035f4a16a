//! softmax(q k^T / sqrt(head_dim), masked) v, per head, over a shared prefix and own segments.

mod few_rows;

use std::ops::Range;

use super::super::{Attend, HeadShape, Mask, check};
use super::gemm::{Target, View, product};
use super::threads::{self, Shared};
use super::{Level, Tensor, math};
use crate::error::Result;

/// Query rows whose scores are held at a time.
const TILE: usize = 64;
/// Up to this many query rows, dot products over the keys beat a matrix product.
const FEW_ROWS: usize = 3;

/// Rows of one segment against everything they see.
struct Tile {
    rows: Range<usize>,
    /// Keys of its segment that some row of the tile sees.
    own: Range<usize>,
}

/// Keys or values in two parts: the prefix and the own segment, seen through one head.
#[derive(Clone, Copy)]
struct Parts<'a> {
    prefix: &'a [f32],
    own: &'a [f32],
}

pub(super) fn attention(
    level: Level,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    attend: &Attend<'_, Tensor>,
    heads: HeadShape,
) -> Result<Tensor> {
    check::attention(q.shape, k.shape, v.shape, attend, heads, |x| x.shape)?;
    let mut tiles = Vec::new();
    for (segment, keys) in attend.segments.iter().zip(attend.key_segments().iter()) {
        for start in segment.clone().step_by(TILE) {
            let rows = start..segment.end.min(start + TILE);
            let end = attend.keys_end(rows.end - 1, &segment, &keys);
            tiles.push(Tile { rows, own: keys.start..end });
        }
    }
    let mut y = vec![0.0; q.data.len()];
    // For few rows, and for plain Rust, a matrix product gains nothing over dot products.
    let (few, tiles): (Vec<Tile>, Vec<Tile>) =
        tiles.into_iter().partition(|tile| tile.rows.len() <= FEW_ROWS || level == Level::Scalar);
    few_rows::attention(level, [q, k, v], attend, heads, &few, &mut y);
    let out = Shared::new(&mut y);
    let work = tiles.len() * heads.num_attention_heads;
    // Small segments share a task, so that a thread's buffer serves many.
    let per_task = work.div_ceil(threads::count() * 8).max(1);
    threads::parallel(work.div_ceil(per_task), |task| {
        let mut scores = Vec::new();
        for i in task * per_task..work.min((task + 1) * per_task) {
            // Neighbouring tasks share a tile's keys; causal tiles grow, so heads go inside.
            let tile = &tiles[i / heads.num_attention_heads];
            let head = i % heads.num_attention_heads;
            one_head(level, [q, k, v], attend, heads, tile, head, &mut scores, &out);
        }
    });
    Ok(Tensor::new(y, q.shape))
}

/// Rows of `keys` scores become weights; row i sees its first `seen(i)` keys, the others weigh 0.
pub(super) fn softmax(
    level: Level,
    scores: &mut [f32],
    keys: usize,
    seen: impl Fn(usize) -> usize,
) {
    level.run(
        #[inline(always)]
        || {
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                let (seen, hidden) = scores.split_at_mut(seen(row));
                hidden.fill(0.0);
                let peak = math::max(seen);
                let scale = math::exp_sum(seen, peak).recip();
                seen.iter_mut().for_each(|p| *p *= scale);
            }
        },
    );
}

#[expect(clippy::too_many_arguments, reason = "the arguments of attention and its place in it")]
fn one_head(
    level: Level,
    [q, k, v]: [&Tensor; 3],
    attend: &Attend<'_, Tensor>,
    heads: HeadShape,
    tile: &Tile,
    head: usize,
    scores: &mut Vec<f32>,
    out: &Shared,
) {
    let (head_dim, q_size, kv_size) = (heads.head_dim, heads.q_size(), heads.kv_size());
    let kv_head = head / heads.group() * head_dim;
    let prefix = attend.prefix_len();
    let (rows, own) = (tile.rows.len(), tile.own.len());
    let keys = prefix + own;
    let q_at = tile.rows.start * q_size + head * head_dim;
    let queries = View::new(&q.data[q_at..], [rows, head_dim], q_size);
    let own_part = |x: &'_ Tensor| tile.own.start * kv_size + kv_head..x.data.len();
    let (k_prefix, v_prefix) = match &attend.prefix {
        Some(prefix) if prefix.len > 0 => (&prefix.k.data[kv_head..], &prefix.v.data[kv_head..]),
        _ => (&[][..], &[][..]),
    };
    let k = Parts { prefix: k_prefix, own: &k.data[own_part(k)] };
    let v = Parts { prefix: v_prefix, own: &v.data[own_part(v)] };

    scores.clear();
    scores.resize(rows * keys, 0.0);
    let target = Shared::new(scores);
    for (part, at, n) in [(k.prefix, 0, prefix), (k.own, prefix, own)] {
        if n > 0 {
            let target = Target { matrix: &target, at, stride: keys, accumulate: false };
            let part = View::new(part, [n, head_dim], kv_size).transposed();
            product(target, heads.scale(), queries, part, false);
        }
    }
    softmax(level, scores, keys, |row| match attend.mask {
        Mask::Causal => keys + row + 1 - rows,
        Mask::Bidirectional => keys,
    });
    for (part, at, n, accumulate) in
        [(v.prefix, 0, prefix, false), (v.own, prefix, own, prefix > 0)]
    {
        if n > 0 {
            let target = Target { matrix: out, at: q_at, stride: q_size, accumulate };
            let scores = View::new(&scores[at..], [rows, n], keys);
            product(target, 1.0, scores, View::new(part, [n, head_dim], kv_size), false);
        }
    }
}
