//! Operations that move and mix rows and columns.

use burn::tensor::{IndexingUpdateOp, Tensor, TensorData};
use tributary_core::Result;
use tributary_core::backend::{Backend, Mix, check};

use super::Burn;

pub(super) fn concat(parts: &[&Tensor<2>]) -> Result<Tensor<2>> {
    let shapes: Vec<_> = parts.iter().map(|part| part.dims()).collect();
    check::concat(&shapes)?;
    Ok(Tensor::cat(parts.iter().map(|&part| part.clone()).collect(), 1))
}

pub(super) fn transpose(b: &Burn, x: &Tensor<2>, groups: usize) -> Result<Tensor<2>> {
    let [rows, n] = check::transpose(x.dims(), groups)?;
    if rows == 0 || n == 0 {
        return b.zeros([rows, n]);
    }
    let cols = x.dims()[1];
    Ok(x.clone().reshape([groups, n, cols]).swap_dims(1, 2).reshape([rows, n]))
}

pub(super) fn mix_rows(b: &Burn, x: &Tensor<2>, mix: &Mix) -> Result<Tensor<2>> {
    let [rows, cols] = check::mix_rows(x.dims(), mix)?;
    let zeros = b.zeros([rows, cols])?;
    if mix.is_empty() || cols == 0 {
        return Ok(zeros);
    }
    let weights = TensorData::new(mix.weights().to_vec(), [mix.len(), 1]);
    let weights: Tensor<2> = Tensor::from_data(weights, &b.shared.device);
    let drawn = x.clone().select(0, b.indices(mix.columns())) * weights;
    let ends = mix.starts().windows(2).zip(0u32..);
    let into: Vec<u32> = ends
        .flat_map(|(ends, row)| std::iter::repeat_n(row, (ends[1] - ends[0]) as usize))
        .collect();
    Ok(zeros.select_assign(0, b.indices(&into), drawn, IndexingUpdateOp::Add))
}

pub(super) fn similarity(b: &Burn, a: &Tensor<2>, other: &Tensor<2>) -> Result<Tensor<2>> {
    let [rows, out] = check::similarity(a.dims(), other.dims())?;
    if rows == 0 || out == 0 || a.dims()[1] == 0 {
        return b.zeros([rows, out]);
    }
    Ok(a.clone().matmul(other.clone().transpose()))
}

pub(super) fn l2_normalize(x: &Tensor<2>, eps: f32) -> Result<Tensor<2>> {
    check::l2_normalize(eps)?;
    // Clamped before the root, whose gradient at zero is infinite.
    let squares = (x.clone() * x.clone()).sum_dim(1).clamp_min(eps * eps);
    Ok(x.clone() / squares.sqrt())
}
