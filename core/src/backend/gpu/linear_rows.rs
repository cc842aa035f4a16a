//! The product with asked rows of a weight only: the asked rows are copied as they are stored, in
//! any format, and multiplied like a small weight.

use std::sync::Arc;

use super::gather_rows::gather_words;
use super::linear::linear;
use super::tensor::{Chunk, Lora, Rows};
use super::{Gpu, Matrix, Tensor};
use crate::backend::{Backend as _, check};
use crate::error::Result;

pub(super) fn linear_rows(gpu: &Gpu, x: &Tensor, weight: &Matrix, asked: &[u32]) -> Result<Tensor> {
    check::linear_rows(x.shape, weight.base.shape, asked)?;
    if asked.is_empty() || x.is_empty() {
        return gpu.zeros([x.shape[0], asked.len()]);
    }
    let base = gathered(gpu, &weight.base, asked)?;
    let lora = match &weight.lora {
        None => None,
        Some(lora) => {
            let (a, b) = (lora.a.clone(), gathered(gpu, &lora.b, asked)?);
            Some(Arc::new(Lora { a, b, scale: lora.scale }))
        }
    };
    linear(gpu, x, &Matrix { base, lora }, None)
}

/// The asked rows of `weight` as a weight of its own.
fn gathered(gpu: &Gpu, weight: &Rows, asked: &[u32]) -> Result<Rows> {
    let part = |words: usize, of: fn(&Chunk) -> &Arc<super::tensor::Storage>| -> Result<_> {
        let target = gpu.recorder.output("linear_rows: asked rows", asked.len() * words)?;
        for chunk in weight.chunks.iter() {
            let held = chunk.first..chunk.first + chunk.count;
            gather_words(gpu, &target, of(chunk), asked, words, held)?;
        }
        Ok(target)
    };
    let values = part(weight.layout.value_words, |chunk| &chunk.values)?;
    let scales = match weight.layout.scale_words {
        0 => values.clone(),
        words => part(words, |chunk| &chunk.scales)?,
    };
    let chunk = Chunk { first: 0, count: asked.len(), values, scales };
    let shape = [asked.len(), weight.shape[1]];
    Ok(Rows { shape, chunks: [chunk].into(), ..weight.clone() })
}
