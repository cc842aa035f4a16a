//! Attention of few rows, as decoding has them: all its time is reading keys and values.
//!
//! They are read once and in order, for all heads together, a chunk of keys per task. A chunk
//! gives each row and head its largest score, the sum of e^(score - largest) and the values
//! weighed so; chunks are then brought to one largest score and added up (Dao and others,
//! Flash-Decoding, 2023). Chunks have a fixed length, so results do not depend on the threads.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::threads::{self, Shared};
use super::super::{Level, Tensor, math};
use super::{Attend, HeadShape, Mask, Tile};

/// Keys of one task.
const CHUNK: usize = 64;
/// Numbers before the weighed values in a part: the largest score, the sum of the weights.
const SUMMARY: usize = 2;

/// Some keys of a tile.
struct Chunk<'a> {
    tile: &'a Tile,
    /// Counted from the first key of the prefix.
    keys: Range<usize>,
    /// Where its parts start: (rows, heads, SUMMARY + head_dim).
    parts: usize,
}

/// Fills `out` (rows, q_size) for the rows of all tiles.
pub(super) fn attention(
    level: Level,
    [q, k, v]: [&Tensor; 3],
    attend: &Attend<'_, Tensor>,
    heads: HeadShape,
    tiles: &[Tile],
    out: &mut [f32],
) {
    let prefix = attend.prefix.as_ref().map_or(0, |prefix| prefix.len);
    let part = SUMMARY + heads.head_dim;
    let (mut chunks, mut len) = (Vec::new(), 0);
    for tile in tiles {
        let end = prefix + tile.own.len();
        for start in (0..end).step_by(CHUNK) {
            chunks.push(Chunk { tile, keys: start..end.min(start + CHUNK), parts: len });
            len += tile.rows.len() * heads.num_attention_heads * part;
        }
    }
    let mut parts = vec![0.0; len];
    let shared = Shared::new(&mut parts);
    // Small chunks share a task.
    let per_task = chunks.len().div_ceil(threads::count() * 8).max(1);
    threads::parallel(chunks.len().div_ceil(per_task), |task| {
        let of_task = task * per_task..chunks.len().min((task + 1) * per_task);
        for chunk in &chunks[of_task] {
            let rows = chunk.tile.rows.len();
            let mut parts = vec![0.0; rows * heads.num_attention_heads * part];
            level.with_simd(Weigh { q, k, v, attend, heads, chunk, prefix, parts: &mut parts });
            shared.write(chunk.parts, &parts);
        }
    });
    let mut chunks = chunks.as_slice();
    for tile in tiles {
        let count = (prefix + tile.own.len()).div_ceil(CHUNK);
        let (of_tile, rest) = chunks.split_at(count);
        chunks = rest;
        let heads_of_rows = tile.rows.len() * heads.num_attention_heads;
        let y = &mut out[tile.rows.start * heads.q_size()..][..heads_of_rows * heads.head_dim];
        for (i, y) in y.chunks_exact_mut(heads.head_dim).enumerate() {
            add_up(of_tile.iter().map(|chunk| &parts[chunk.parts + i * part..][..part]), y);
        }
    }
}

/// The parts of one row and head -> its context; zeros where it sees nothing.
fn add_up<'a>(parts: impl Iterator<Item = &'a [f32]> + Clone, y: &mut [f32]) {
    let peak = parts.clone().map(|part| part[0]).fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for part in parts.filter(|part| part[1] != 0.0) {
        let weight = (part[0] - peak).exp();
        total += weight * part[1];
        y.iter_mut().zip(&part[SUMMARY..]).for_each(|(y, v)| *y += weight * v);
    }
    if total != 0.0 {
        y.iter_mut().for_each(|y| *y /= total);
    }
}

/// Computes the parts of one chunk.
struct Weigh<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    attend: &'a Attend<'a, Tensor>,
    heads: HeadShape,
    chunk: &'a Chunk<'a>,
    prefix: usize,
    parts: &'a mut [f32],
}

impl Weigh<'_> {
    /// The rows of the chunk's keys: those of the prefix, then those of the own segment.
    fn rows<'b>(
        &self,
        cached: Option<&'b Tensor>,
        own: &'b Tensor,
    ) -> impl Iterator<Item = &'b [f32]> + Clone + use<'b> {
        let (keys, kv_size) = (&self.chunk.keys, self.heads.kv_size());
        let own_at = |key: usize| self.chunk.tile.own.start + key.saturating_sub(self.prefix);
        let cached_at = |key: usize| key.min(self.prefix);
        let cached = cached.map_or(&[][..], |x| {
            &x.data[cached_at(keys.start) * kv_size..cached_at(keys.end) * kv_size]
        });
        let own = &own.data[own_at(keys.start) * kv_size..own_at(keys.end) * kv_size];
        cached.chunks_exact(kv_size).chain(own.chunks_exact(kv_size))
    }
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let HeadShape { num_attention_heads, head_dim, .. } = self.heads;
        let group = self.heads.group();
        let cached = self.attend.prefix.as_ref();
        let keys = self.rows(cached.map(|prefix| prefix.k), self.k);
        let values = self.rows(cached.map(|prefix| prefix.v), self.v);
        let (tile, range) = (self.chunk.tile, &self.chunk.keys);
        let all = self.prefix + tile.own.len();
        // (heads, CHUNK)
        let mut scores = vec![[0.0; CHUNK]; num_attention_heads];
        let per_row = num_attention_heads * (SUMMARY + head_dim);
        for (row, parts) in self.parts.chunks_exact_mut(per_row).enumerate() {
            let query = self.q.row(tile.rows.start + row);
            let seen = match self.attend.mask {
                Mask::Causal => all + row + 1 - tile.rows.len(),
                Mask::Bidirectional => all,
            };
            let seen = seen.clamp(range.start, range.end) - range.start;
            for (i, key) in keys.clone().take(seen).enumerate() {
                for (head, scores) in scores.iter_mut().enumerate() {
                    let key = &key[head / group * head_dim..][..head_dim];
                    let query = &query[head * head_dim..][..head_dim];
                    scores[i] = self.heads.scale() * dot(simd, query, key);
                }
            }
            for (part, scores) in parts.chunks_exact_mut(SUMMARY + head_dim).zip(&mut scores) {
                let scores = &mut scores[..seen];
                part[0] = math::max(scores);
                part[1] = math::exp_sum(scores, part[0]);
            }
            for (i, value) in values.clone().take(seen).enumerate() {
                let parts = parts.chunks_exact_mut(SUMMARY + head_dim).zip(&scores);
                for (head, (part, scores)) in parts.enumerate() {
                    let value = &value[head / group * head_dim..][..head_dim];
                    part[SUMMARY..].iter_mut().zip(value).for_each(|(y, v)| *y += scores[i] * v);
                }
            }
        }
    }
}

/// The dot product of rows of one length.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sums = simd.splat_f32s(0.0);
    for (&a, &b) in a.iter().zip(b) {
        sums = simd.mul_add_f32s(a, b, sums);
    }
    simd.reduce_sum_f32s(sums) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}
