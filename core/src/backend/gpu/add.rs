//! a + b, by `add.wgsl`.

use super::shader::{ADD, ElementParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn add(gpu: &Gpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check::pair("add", "b", a.shape, b.shape)?;
    let y = gpu.output("add", a.shape)?;
    if !y.is_empty() {
        let len = y.shape[0] * y.shape[1];
        let groups = len.div_ceil(ADD.lanes as usize);
        let params = ElementParams { len: len as u32 };
        let storages = [&*y.storage, &a.storage, &b.storage];
        gpu.recorder.dispatch(&ADD, &[], &params, &storages, groups)?;
    }
    Ok(y)
}
