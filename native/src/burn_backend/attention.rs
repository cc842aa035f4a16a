//! Attention over packed segments as a few batched products.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData, activation};
use tributary_core::backend::{Attend, HeadShape, Mask};

use super::Burn;

/// Attention weights of one batched product: 256 MiB of f32.
const MAX_WEIGHTS: usize = 1 << 26;
/// What masked scores get added: far below any score, and finite, so that no gradient is NaN.
const MASKED: f32 = -1e30;

/// `q`, `k`, `v` have passed the checks and have rows.
pub(super) fn attention(
    b: &Burn,
    [q, k, v]: [&Tensor<2>; 3],
    attend: &Attend<'_, Tensor<2>>,
    heads: HeadShape,
) -> Tensor<2> {
    let rows = attend.segments.rows();
    let mut contexts = Vec::new();
    // Where each packed row ends up in the concatenated groups.
    let mut place = vec![0u32; rows];
    let mut offset = 0;
    for group in groups(attend, heads) {
        for (i, segment) in group.segments.iter().enumerate() {
            for row in segment.clone() {
                place[row] = (offset + i * group.longest + row - segment.start) as u32;
            }
        }
        offset += group.segments.len() * group.longest;
        contexts.push(group.forward(b, [q, k, v], attend, heads));
    }
    let context = Tensor::cat(contexts, 0);
    if is_identity(&place, offset) { context } else { context.select(0, b.indices(&place)) }
}

fn is_identity(indices: &[u32], len: usize) -> bool {
    indices.len() == len && indices.iter().zip(0..).all(|(&index, i)| index == i)
}

/// Segments that are computed together, each padded to the longest by repeats of its first row.
struct Group {
    segments: Vec<Range<usize>>,
    longest: usize,
    /// Rows of k and v, a range for each segment.
    keys: Vec<Range<usize>>,
    most_keys: usize,
}

/// Segments of similar length together: no segment is padded beyond twice its length.
fn groups(attend: &Attend<'_, Tensor<2>>, heads: HeadShape) -> Vec<Group> {
    let pairs = attend.segments.iter().zip(attend.key_segments().iter());
    let mut pairs: Vec<_> = pairs.filter(|(rows, _)| !rows.is_empty()).collect();
    // Stable: equal lengths, the common case, stay in order and need no gather.
    pairs.sort_by_key(|(rows, _)| std::cmp::Reverse(rows.len()));
    let prefix = attend.prefix_len();
    let mut groups: Vec<Group> = Vec::new();
    for (segment, keys) in pairs {
        match groups.last_mut() {
            Some(group)
                if segment.len() * 2 >= group.longest
                    && (group.segments.len() + 1)
                        * heads.num_attention_heads
                        * group.longest
                        * (prefix + group.most_keys.max(keys.len()))
                        <= MAX_WEIGHTS =>
            {
                group.most_keys = group.most_keys.max(keys.len());
                group.segments.push(segment);
                group.keys.push(keys);
            }
            _ => groups.push(Group {
                longest: segment.len(),
                most_keys: keys.len(),
                segments: vec![segment],
                keys: vec![keys],
            }),
        }
    }
    groups
}

/// The rows of all ranges, each padded to `n` by repeats of its first row.
fn padded(ranges: &[Range<usize>], n: usize) -> Vec<u32> {
    let rows = |rows: &Range<usize>| {
        let padding = std::iter::repeat_n(rows.start as u32, n - rows.len());
        (rows.start as u32..rows.end as u32).chain(padding)
    };
    ranges.iter().flat_map(rows).collect()
}

impl Group {
    /// (segments * longest, num_attention_heads * head_dim). Query heads that share a key head are
    /// rows of one product, so keys are never repeated.
    fn forward(
        &self,
        b: &Burn,
        [q, k, v]: [&Tensor<2>; 3],
        attend: &Attend<'_, Tensor<2>>,
        heads: HeadShape,
    ) -> Tensor<2> {
        let HeadShape { num_attention_heads, num_key_value_heads: kv, head_dim } = heads;
        let (count, n, shared) = (self.segments.len(), self.longest, heads.group());
        let own = self.most_keys;
        let gathered = |x: &Tensor<2>, index: &[u32]| {
            if is_identity(index, x.dims()[0]) {
                x.clone()
            } else {
                x.clone().select(0, b.indices(index))
            }
        };

        let q = (gathered(q, &padded(&self.segments, n)) * heads.scale())
            .reshape([count, n, kv, shared, head_dim])
            .permute([0, 2, 3, 1, 4])
            .reshape([count * kv, shared * n, head_dim]);
        let index = padded(&self.keys, own);
        let per_head = |x: &Tensor<2>| {
            gathered(x, &index).reshape([count, own, kv, head_dim]).permute([0, 2, 1, 3]).reshape([
                count * kv,
                own,
                head_dim,
            ])
        };
        let (k, v) = (per_head(k), per_head(v));

        let all_heads = [count, num_attention_heads, n, own];
        let mut scores = q.clone().matmul(k.swap_dims(1, 2)).reshape(all_heads);
        if let Some(mask) = self.mask(b, attend) {
            scores = scores + mask;
        }
        let Some(prefix) = attend.prefix.as_ref().filter(|prefix| prefix.len > 0) else {
            let weights = dropped(b, activation::softmax(scores, 3), attend.dropout);
            let context = weights.reshape([count * kv, shared * n, own]).matmul(v);
            return self.rows(context, heads);
        };

        // The prefix is one, so its part is one product over the rows of all segments.
        let cached = |x: &Tensor<2>| {
            let x = x.clone().narrow(0, 0, prefix.len);
            x.reshape([prefix.len, kv, head_dim]).permute([1, 0, 2])
        };
        let across = |x: Tensor<3>, cols: usize| {
            x.reshape([count, kv, shared * n, cols]).permute([1, 0, 2, 3]).reshape([
                kv,
                count * shared * n,
                cols,
            ])
        };
        let back = |x: Tensor<3>, cols: usize| {
            x.reshape([kv, count, shared * n, cols]).permute([1, 0, 2, 3]).reshape([
                count * kv,
                shared * n,
                cols,
            ])
        };
        let before = across(q, head_dim).matmul(cached(prefix.k).swap_dims(1, 2));
        let before = back(before, prefix.len).reshape([count, num_attention_heads, n, prefix.len]);
        let weights = activation::softmax(Tensor::cat(vec![before, scores], 3), 3);
        let weights =
            dropped(b, weights, attend.dropout).reshape([count * kv, shared * n, prefix.len + own]);
        let own = weights.clone().narrow(2, prefix.len, own).matmul(v);
        let before = across(weights.narrow(2, 0, prefix.len), prefix.len).matmul(cached(prefix.v));
        self.rows(own + back(before, head_dim), heads)
    }

    /// (count * kv, shared * n, head_dim) -> (count * n, num_attention_heads * head_dim).
    fn rows(&self, context: Tensor<3>, heads: HeadShape) -> Tensor<2> {
        let (count, n) = (self.segments.len(), self.longest);
        context
            .reshape([count, heads.num_key_value_heads, heads.group(), n, heads.head_dim])
            .permute([0, 3, 1, 2, 4])
            .reshape([count * n, heads.q_size()])
    }

    /// What scores (count, heads, n, keys) get added; `None` when every row sees every column.
    fn mask(&self, b: &Burn, attend: &Attend<'_, Tensor<2>>) -> Option<Tensor<4>> {
        let (n, most) = (self.longest, self.most_keys);
        let is_full = self.keys.iter().all(|keys| keys.len() == most);
        let (rows, mut values) = match attend.mask {
            Mask::Causal if n == 1 && is_full => return None,
            Mask::Bidirectional if is_full => return None,
            Mask::Causal => (n, Vec::new()),
            Mask::Bidirectional => (1, Vec::new()),
        };
        // The longest, which comes first, serves them all where a row sees its own segment only.
        let alike = attend.keys.is_none() && attend.mask == Mask::Causal;
        let distinct = if alike { 1 } else { self.keys.len() };
        for (segment, keys) in self.segments.iter().zip(&self.keys).take(distinct) {
            for row in 0..rows {
                // What stands in the rows that pad a segment is not read.
                let row = (segment.start + row).min(segment.end - 1);
                let seen = attend.keys_end(row, segment, keys) - keys.start;
                values.extend((0..most).map(|key| if key < seen { 0.0 } else { MASKED }));
            }
        }
        let shape = [distinct, 1, rows, most];
        Some(Tensor::from_data(TensorData::new(values, shape), &b.shared.device))
    }
}

fn dropped(b: &Burn, weights: Tensor<4>, probability: f32) -> Tensor<4> {
    match b.dropout_mask(weights.dims(), probability) {
        Some(mask) => weights * mask,
        None => weights,
    }
}
