//! The shape rules of every operation, once: each backend calls these before it computes.

use std::ops::Range;

use super::{Attend, HeadShape, Mask, Mix, Segments};
use crate::error::{Error, Result};

/// Columns that [`super::Backend::top_k`] can name exactly in an f32.
pub const TOP_K_COLUMNS: usize = 1 << 24;
/// Smallest `eps` of [`super::Backend::l2_normalize`]: its square must not vanish in f32.
pub const MIN_NORM: f32 = 1e-18;

fn same(
    operation: &'static str,
    argument: &'static str,
    expected: &[usize],
    found: &[usize],
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(operation, argument, expected, found))
}

/// Values of a tensor of this shape, `Err` when the product overflows.
pub fn elements(operation: &'static str, shape: [usize; 2]) -> Result<usize> {
    shape[0].checked_mul(shape[1]).filter(|&n| n <= isize::MAX as usize / 4).ok_or_else(|| {
        Error::argument(operation, "shape", "a size that can be allocated", format!("{shape:?}"))
    })
}

/// `upload`: as many values as the shape says.
pub fn upload(len: usize, shape: [usize; 2]) -> Result<()> {
    same("upload", "data", &[elements("upload", shape)?], &[len])
}

/// Every index below `limit`.
pub fn indices(
    operation: &'static str,
    argument: &'static str,
    indices: &[u32],
    limit: usize,
) -> Result<()> {
    match indices.iter().find(|&&i| i as usize >= limit) {
        None => Ok(()),
        Some(i) => Err(Error::argument(operation, argument, format!("an index below {limit}"), i)),
    }
}

/// `scatter_rows`: distinct rows inside `x`, one row of `source` each, equal widths.
pub fn scatter_rows(x: [usize; 2], rows: &[u32], source: [usize; 2]) -> Result<()> {
    same("scatter_rows", "source", &[rows.len(), x[1]], &source)?;
    indices("scatter_rows", "rows", rows, x[0])?;
    // Ascending rows, the common case, are distinct without a set.
    if !rows.is_sorted_by(|a, b| a < b) {
        let mut seen = std::collections::HashSet::with_capacity(rows.len());
        if let Some(row) = rows.iter().find(|row| !seen.insert(**row)) {
            return Err(Error::argument("scatter_rows", "rows", "distinct rows", row));
        }
    }
    Ok(())
}

/// `concat`: one part or more, equal rows. Gives the shape of the result.
pub fn concat(parts: &[[usize; 2]]) -> Result<[usize; 2]> {
    let Some(&[rows, _]) = parts.first() else {
        return Err(Error::argument("concat", "parts", "at least one part", "none"));
    };
    let mut cols = 0usize;
    for part in parts {
        same("concat", "parts", &[rows, part[1]], part)?;
        cols = cols.saturating_add(part[1]);
    }
    elements("concat", [rows, cols])?;
    Ok([rows, cols])
}

/// `transpose`: the rows of `x` in `groups` equal blocks. Gives the shape of the result.
pub fn transpose(x: [usize; 2], groups: usize) -> Result<[usize; 2]> {
    if groups == 0 || !x[0].is_multiple_of(groups) {
        let expected = format!("a divisor of the {} rows of x", x[0]);
        return Err(Error::argument("transpose", "groups", expected, groups));
    }
    let shape = [groups.saturating_mul(x[1]), x[0] / groups];
    elements("transpose", shape)?;
    Ok(shape)
}

/// `mix_rows`: x has the rows that the mix draws from. Gives the shape of the result.
pub fn mix_rows(x: [usize; 2], mix: &Mix) -> Result<[usize; 2]> {
    let [rows, from] = mix.shape();
    same("mix_rows", "x", &[from, x[1]], &x)?;
    elements("mix_rows", [rows, x[1]])?;
    Ok([rows, x[1]])
}

/// `similarity`: a (rows_a, cols), b (rows_b, cols). Gives the shape of the result.
pub fn similarity(a: [usize; 2], b: [usize; 2]) -> Result<[usize; 2]> {
    same("similarity", "b", &[b[0], a[1]], &b)?;
    elements("similarity", [a[0], b[0]])?;
    Ok([a[0], b[0]])
}

/// `l2_normalize`: an eps whose square f32 can hold.
pub fn l2_normalize(eps: f32) -> Result<()> {
    if eps.is_finite() && eps >= MIN_NORM {
        return Ok(());
    }
    let expected = format!("finite and at least {MIN_NORM:e}");
    Err(Error::argument("l2_normalize", "eps", expected, eps))
}

/// `linear`: x (rows, in), weight (out, in), bias (out).
pub fn linear(x: [usize; 2], weight: [usize; 2], bias: Option<usize>) -> Result<()> {
    same("linear", "x", &[x[0], weight[1]], &x)?;
    match bias {
        Some(len) => same("linear", "bias", &[weight[0]], &[len]),
        None => Ok(()),
    }
}

/// `linear_rows`: x (rows, in), weight (out, in), asked below out.
pub fn linear_rows(x: [usize; 2], weight: [usize; 2], asked: &[u32]) -> Result<()> {
    same("linear_rows", "x", &[x[0], weight[1]], &x)?;
    indices("linear_rows", "asked", asked, weight[0])
}

/// `linear_recurrence`: x (rows, 2 * channels), the three parameters (channels), state
/// (segments, 2 * channels). Gives the channels.
pub fn linear_recurrence(
    x: [usize; 2],
    [nu_log, theta_log, gamma_log]: [usize; 3],
    segments: &Segments,
    state: Option<[usize; 2]>,
) -> Result<usize> {
    const OPERATION: &str = "linear_recurrence";
    let channels = nu_log;
    same(OPERATION, "theta_log", &[channels], &[theta_log])?;
    same(OPERATION, "gamma_log", &[channels], &[gamma_log])?;
    same(OPERATION, "x", &[segments.rows(), channels.saturating_mul(2)], &x)?;
    if let Some(state) = state {
        same(OPERATION, "state", &[segments.len(), x[1]], &state)?;
    }
    Ok(channels)
}

/// `attention`: see [`super::Backend::attention`]. `shape` gives a tensor's shape.
pub fn attention<T>(
    q: [usize; 2],
    k: [usize; 2],
    v: [usize; 2],
    attend: &Attend<'_, T>,
    heads: HeadShape,
    shape: impl Fn(&T) -> [usize; 2],
) -> Result<()> {
    let HeadShape { num_attention_heads, num_key_value_heads, head_dim } = heads;
    if num_key_value_heads == 0
        || head_dim == 0
        || num_attention_heads == 0
        || !num_attention_heads.is_multiple_of(num_key_value_heads)
    {
        let expected = "query heads a multiple of key heads, none of them zero";
        return Err(Error::argument("attention", "heads", expected, format!("{heads:?}")));
    }
    let rows = attend.segments.rows();
    same("attention", "q", &[rows, heads.q_size()], &q)?;
    if let Some(keys) = attend.keys {
        same("attention", "attend.keys", &[attend.segments.len()], &[keys.len()])?;
        let mut pairs = attend.segments.iter().zip(keys.iter());
        let lacks = |(rows, keys): (Range<usize>, Range<usize>)| match attend.mask {
            Mask::Causal => keys.len() < rows.len(),
            Mask::Bidirectional => keys.is_empty() && !rows.is_empty(),
        };
        if pairs.any(lacks) {
            let expected =
                "a key for every segment with rows, and under a causal mask for each row";
            return Err(Error::argument("attention", "attend.keys", expected, "others"));
        }
    }
    let keys = attend.key_segments().rows();
    same("attention", "k", &[keys, heads.kv_size()], &k)?;
    same("attention", "v", &[keys, heads.kv_size()], &v)?;
    let Some(prefix) = &attend.prefix else { return Ok(()) };
    for (argument, [capacity, cols]) in
        [("prefix.k", shape(prefix.k)), ("prefix.v", shape(prefix.v))]
    {
        same("attention", argument, &[capacity, heads.kv_size()], &[capacity, cols])?;
        if prefix.len > capacity {
            let expected = format!("at most {capacity}, the rows of `{argument}`");
            return Err(Error::argument("attention", "prefix.len", expected, prefix.len));
        }
    }
    Ok(())
}

/// A weight of one axis as wide as `x`.
pub fn vector(
    operation: &'static str,
    argument: &'static str,
    x: [usize; 2],
    len: usize,
) -> Result<()> {
    same(operation, argument, &[x[1]], &[len])
}

/// `rope`: whole heads of an even width, one row of angles per row of `x`.
pub fn rope(x: [usize; 2], angles: [usize; 2], head_dim: usize) -> Result<()> {
    if head_dim == 0 || !head_dim.is_multiple_of(2) || !x[1].is_multiple_of(head_dim) {
        let expected = format!("an even divisor of the {} columns of x", x[1]);
        return Err(Error::argument("rope", "head_dim", expected, head_dim));
    }
    same("rope", "angles", &[x[0], head_dim], &angles)
}

/// `cross_entropy`: one target below cols per row.
pub fn cross_entropy(logits: [usize; 2], targets: &[u32]) -> Result<()> {
    same("cross_entropy", "targets", &[logits[0]], &[targets.len()])?;
    indices("cross_entropy", "targets", targets, logits[1])
}

/// `top_k`: 1 <= k <= cols <= 2^24.
pub fn top_k(x: [usize; 2], k: usize) -> Result<()> {
    if x[1] > TOP_K_COLUMNS {
        let (limit, found) = (TOP_K_COLUMNS as u64, x[1] as u64);
        return Err(Error::Limit { what: "top_k: columns".into(), limit, found });
    }
    if k == 0 || k > x[1] {
        return Err(Error::argument("top_k", "k", format!("1 to {}, the columns", x[1]), k));
    }
    Ok(())
}

/// Two tensors of one shape.
pub fn pair(
    operation: &'static str,
    argument: &'static str,
    expected: [usize; 2],
    found: [usize; 2],
) -> Result<()> {
    same(operation, argument, &expected, &found)
}

/// A probability of dropout: 0 <= p < 1.
pub fn dropout(probability: f32) -> Result<()> {
    if (0.0..1.0).contains(&probability) {
        return Ok(());
    }
    Err(Error::argument("dropout", "probability", "at least 0 and below 1", probability))
}
