//! The transpose of each block of rows, by `transpose.wgsl`.

use super::shader::{TRANSPOSE, TransposeParams};
use super::{Gpu, Tensor};
use crate::backend::check;
use crate::error::Result;

pub(super) fn transpose(gpu: &Gpu, x: &Tensor, groups: usize) -> Result<Tensor> {
    let [rows, n] = check::transpose(x.shape, groups)?;
    let y = gpu.output("transpose", [rows, n])?;
    if !y.is_empty() {
        let params =
            TransposeParams { len: (rows * n) as u32, cols: x.shape[1] as u32, n: n as u32 };
        let groups = (rows * n).div_ceil(TRANSPOSE.lanes as usize);
        let storages = [&*y.storage, &x.storage];
        gpu.recorder.dispatch(&TRANSPOSE, &[], &params, &storages, groups)?;
    }
    Ok(y)
}
