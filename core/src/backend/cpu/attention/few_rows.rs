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
/// Chunks whose parts are held at a time, but for a tile that has more: many candidates behind a long
/// prompt would need more memory for parts than for everything else.
const MAX_CHUNKS: usize = 256;
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
    qkv: [&Tensor; 3],
    attend: &Attend<'_, Tensor>,
    heads: HeadShape,
    mut tiles: &[Tile],
    out: &mut [f32],
) {
    let prefix = attend.prefix_len();
    while !tiles.is_empty() {
        let (mut chunks, mut count, mut len) = (Vec::new(), 0, 0);
        for tile in tiles {
            let end = prefix + tile.own.len();
            if count > 0 && chunks.len() + end.div_ceil(CHUNK) > MAX_CHUNKS {
                break;
            }
            count += 1;
            for start in (0..end).step_by(CHUNK) {
                chunks.push(Chunk { tile, keys: start..end.min(start + CHUNK), parts: len });
                len += tile.rows.len() * heads.num_attention_heads * (SUMMARY + heads.head_dim);
            }
        }
        let parts = weigh(level, qkv, attend, heads, &chunks, len);
        for chunks in chunks.chunk_by(|a, b| std::ptr::eq(a.tile, b.tile)) {
            add_up(chunks, &parts, heads, out);
        }
        tiles = &tiles[count..];
    }
}

/// The parts of all chunks, `len` numbers.
fn weigh(
    level: Level,
    [q, k, v]: [&Tensor; 3],
    attend: &Attend<'_, Tensor>,
    heads: HeadShape,
    chunks: &[Chunk<'_>],
    len: usize,
) -> Vec<f32> {
    let mut parts = vec![0.0; len];
    let shared = Shared::new(&mut parts);
    // Small chunks share a task.
    let per_task = chunks.len().div_ceil(threads::count() * 8).max(1);
    threads::parallel(chunks.len().div_ceil(per_task), |task| {
        let of_task = task * per_task..chunks.len().min((task + 1) * per_task);
        for chunk in &chunks[of_task] {
            let of_row = heads.num_attention_heads * (SUMMARY + heads.head_dim);
            let mut parts = vec![0.0; chunk.tile.rows.len() * of_row];
            level.with_simd(Weigh { q, k, v, attend, heads, chunk, parts: &mut parts });
            shared.write(chunk.parts, &parts);
        }
    });
    parts
}

/// The parts of one tile's chunks -> its rows of `out`, which were zeros and stay so where a row sees
/// nothing.
fn add_up(chunks: &[Chunk<'_>], parts: &[f32], heads: HeadShape, out: &mut [f32]) {
    let Some(Chunk { tile, .. }) = chunks.first() else { return };
    let len = SUMMARY + heads.head_dim;
    let rows = &mut out[tile.rows.start * heads.q_size()..tile.rows.end * heads.q_size()];
    for (i, y) in rows.chunks_exact_mut(heads.head_dim).enumerate() {
        let parts = chunks.iter().map(|chunk| &parts[chunk.parts + i * len..][..len]);
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
}

/// Computes the parts of one chunk.
struct Weigh<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    attend: &'a Attend<'a, Tensor>,
    heads: HeadShape,
    chunk: &'a Chunk<'a>,
    parts: &'a mut [f32],
}

impl Weigh<'_> {
    /// The rows of the chunk's keys: those of the prefix, then those of the own segment.
    fn rows<'b>(
        &self,
        cached: Option<&'b Tensor>,
        own: &'b Tensor,
    ) -> impl Iterator<Item = &'b [f32]> + Clone + use<'b> {
        let (keys, kv_size, prefix) =
            (&self.chunk.keys, self.heads.kv_size(), self.attend.prefix_len());
        let own_at = |key: usize| self.chunk.tile.own.start + key.saturating_sub(prefix);
        let cached_at = |key: usize| key.min(prefix);
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
        let all = self.attend.prefix_len() + tile.own.len();
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
