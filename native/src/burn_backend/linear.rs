//! Products with weights: y = W x + scale B (A dropout(x)), whatever W is held as.

use std::sync::Arc;

use burn::tensor::Tensor;
use tributary_core::Result;
use tributary_core::backend::{Backend, MatrixData, check};
use tributary_core::weights::{Nf4, dequantize, is_table};

use super::parameter::{Base, Lora};
use super::{Burn, FrozenWeights, Matrix, Vector, lock, nf4};

/// Quantised weights are dequantised; frozen ones then held as the options say.
pub(super) fn matrix(b: &Burn, data: &MatrixData) -> Result<Matrix> {
    let [out, input] = data.shape;
    let part = |part: &str| format!("{}.{part}", data.module());
    let values = dequantize(data)?;
    let options = &b.shared.options;
    let base = match options.frozen {
        FrozenWeights::Nf4 { double_quantization }
            if !options.trainable.includes(&data.name, false) && !is_table(&data.name) =>
        {
            let values = Nf4::quantize(&data.name, &values, data.shape, double_quantization)?;
            let (device, on_host) = (&b.shared.device, b.shared.on_host);
            Base::Nf4(Arc::new(nf4::Frozen::new(values, data.shape, device, on_host)))
        }
        _ => Base::Float(b.parameter(data.name.clone(), &[out, input], &values, false)?),
    };
    if let Base::Nf4(frozen) = &base {
        lock(&b.shared.frozen).insert(data.name.clone(), frozen.bytes());
    }
    let lora = match &data.lora {
        None => None,
        Some(lora) => Some(Lora {
            a: b.parameter(part("lora_A.weight"), &[lora.r, input], &lora.a, true)?,
            b: b.parameter(part("lora_B.weight"), &[out, lora.r], &lora.b, true)?,
            scale: lora.scale,
        }),
    };
    Ok(Matrix { base, lora })
}

pub(super) fn embed(b: &Burn, table: &Matrix, ids: &[u32]) -> Result<Tensor<2>> {
    let [n, cols] = table.shape();
    check::indices("embed", "ids", ids, n)?;
    if ids.is_empty() {
        return b.zeros([0, cols]);
    }
    Ok(base(b, table)?.select(0, b.indices(ids)))
}

pub(super) fn linear(
    b: &Burn,
    x: &Tensor<2>,
    weight: &Matrix,
    bias: Option<&Vector>,
) -> Result<Tensor<2>> {
    check::linear(x.dims(), weight.shape(), bias.map(Vector::len))?;
    if x.dims()[0] == 0 {
        return b.zeros([0, weight.shape()[0]]);
    }
    let mut y = match &weight.base {
        Base::Float(parameter) => x.clone().matmul(b.value(parameter).transpose()),
        Base::Nf4(frozen) => nf4::product(x, frozen)?,
    };
    if let Some(lora) = &weight.lora {
        y = y + down(b, x, lora)?.matmul(b.value(&lora.b).transpose()) * lora.scale;
    }
    Ok(match bias {
        Some(bias) => y + b.value(&bias.weight),
        None => y,
    })
}

pub(super) fn linear_rows(
    b: &Burn,
    x: &Tensor<2>,
    weight: &Matrix,
    asked: &[u32],
) -> Result<Tensor<2>> {
    check::linear_rows(x.dims(), weight.shape(), asked)?;
    if x.dims()[0] == 0 || asked.is_empty() {
        return b.zeros([x.dims()[0], asked.len()]);
    }
    let asked = b.indices(asked);
    let y = x.clone().matmul(base(b, weight)?.select(0, asked.clone()).transpose());
    Ok(match &weight.lora {
        Some(lora) => {
            let up = b.value(&lora.b).select(0, asked).transpose();
            y + down(b, x, lora)?.matmul(up) * lora.scale
        }
        None => y,
    })
}

/// A dropout(x): (rows, r).
fn down(b: &Burn, x: &Tensor<2>, lora: &Lora) -> Result<Tensor<2>> {
    let x = b.dropout(x, b.shared.options.lora_dropout)?;
    Ok(x.matmul(b.value(&lora.a).transpose()))
}

/// W as f32: for rows of tables and heads, which are never held as NF4 where names are usual.
fn base(b: &Burn, weight: &Matrix) -> Result<Tensor<2>> {
    match &weight.base {
        Base::Float(parameter) => Ok(b.value(parameter)),
        Base::Nf4(frozen) => frozen.dequantize(&b.shared.device),
    }
}
