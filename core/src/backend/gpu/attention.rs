//! Attention with online softmax, by `attention.wgsl`.

use super::shader::{ATTENTION, ATTENTION_SUBGROUPS, ATTENTION_WIDE, AttentionParams};
use super::{Gpu, Tensor};
use crate::backend::{Attend, HeadShape, check};
use crate::error::{Error, Result};

/// Widest head of the kernels of 64 lanes (`head_256.wgsl`) and of the wide one (`head_2048.wgsl`).
const NARROW_HEAD_DIM: usize = 256;
const MAX_HEAD_DIM: usize = 2048;

pub(super) fn attention(
    gpu: &Gpu,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    attend: &Attend<'_, Tensor>,
    heads: HeadShape,
) -> Result<Tensor> {
    check::attention(q.shape, k.shape, v.shape, attend, heads, |x| x.shape)?;
    check::dropout(attend.dropout)?;
    if heads.head_dim > MAX_HEAD_DIM {
        let (limit, found) = (MAX_HEAD_DIM as u64, heads.head_dim as u64);
        return Err(Error::Limit { what: "attention: head_dim on a GPU".into(), limit, found });
    }
    let y = gpu.output("attention", q.shape)?;
    if y.is_empty() {
        return Ok(y);
    }
    let visible = attend.visible();
    let visible = gpu.recorder.list("attention: visible rows", visible.as_flattened())?;
    // Without a prefix nothing is read through its bindings.
    let (prefix_k, prefix_v, prefix_len) = match &attend.prefix {
        Some(prefix) => (prefix.k, prefix.v, prefix.len),
        None => (k, v, 0),
    };
    let rows = q.shape[0];
    let params = AttentionParams {
        rows: rows as u32,
        num_attention_heads: heads.num_attention_heads as u32,
        num_key_value_heads: heads.num_key_value_heads as u32,
        head_dim: heads.head_dim as u32,
        prefix_len: prefix_len as u32,
        scale: heads.scale(),
    };
    let storages = [
        &*y.storage,
        &q.storage,
        &k.storage,
        &v.storage,
        &prefix_k.storage,
        &prefix_v.storage,
        &visible,
    ];
    let shader = match heads.head_dim > NARROW_HEAD_DIM {
        true => &ATTENTION_WIDE,
        false if gpu.features.subgroups => &ATTENTION_SUBGROUPS,
        false => &ATTENTION,
    };
    let groups = rows * heads.num_attention_heads;
    gpu.recorder.dispatch(shader, &[], &params, &storages, groups)?;
    Ok(y)
}
