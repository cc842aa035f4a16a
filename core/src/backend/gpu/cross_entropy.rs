//! -log softmax(logits)[target] per row, by `cross_entropy.wgsl`.

use super::shader::{CROSS_ENTROPY, CROSS_ENTROPY_SUBGROUPS, CrossEntropyParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn cross_entropy(gpu: &Gpu, logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    check::cross_entropy(logits.shape, targets)?;
    let [rows, cols] = logits.shape;
    let y = gpu.output("cross_entropy", [rows, 1])?;
    if !y.is_empty() {
        let shader = if gpu.features.subgroups { &CROSS_ENTROPY_SUBGROUPS } else { &CROSS_ENTROPY };
        let targets = gpu.recorder.list("cross_entropy: targets", targets)?;
        let params = CrossEntropyParams { rows: rows as u32, cols: cols as u32 };
        let storages = [&*y.storage, &logits.storage, &targets];
        gpu.recorder.dispatch(shader, &[], &params, &storages, rows)?;
    }
    Ok(y)
}
