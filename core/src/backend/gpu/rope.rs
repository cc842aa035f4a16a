//! Rotary position embedding, by `rope.wgsl`.

use super::shader::{ROPE, RopeParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn rope(gpu: &Gpu, x: &Tensor, angles: &Tensor, head_dim: usize) -> Result<Tensor> {
    check::rope(x.shape, angles.shape, head_dim)?;
    let y = gpu.output("rope", x.shape)?;
    if !y.is_empty() {
        let [rows, cols] = x.shape;
        // A lane turns one pair.
        let pairs = rows * cols / 2;
        let groups = pairs.div_ceil(ROPE.lanes as usize);
        let params =
            RopeParams { pairs: pairs as u32, cols: cols as u32, head_dim: head_dim as u32 };
        let storages = [&*y.storage, &x.storage, &angles.storage];
        gpu.recorder.dispatch(&ROPE, &[], &params, &storages, groups)?;
    }
    Ok(y)
}
