//! Folding an adapter into its base: W + scale * B A, once, so that serving costs nothing more.

use safetensors::Dtype;

use super::adapter::Adapter;
use super::checkpoint::{Checkpoint, Coding};
use super::quantize::{Progress, quantize};
use super::save::{Sink, TensorSpec, Writer};
use crate::backend::LoraData;
use crate::dtype::{DType, Format};
use crate::error::{Error, Result};

/// Writes `checkpoint` with `adapter` folded in; one tensor is in memory at a time. The sum is
/// computed in f32. A matrix of f16 stays f16; one of bf16 becomes f32, because a small update is
/// lost in bf16's eight bits. All other tensors are copied. `Err` for a quantised matrix: merge
/// first, then quantise.
pub fn merge(
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    max_shard_bytes: Option<u64>,
    sink: &mut dyn Sink,
    progress: Progress<'_>,
) -> Result<()> {
    let lora = |name: &str| adapter.lora(name.strip_suffix(".weight")?);
    let mut specs = Vec::new();
    let mut total = 0;
    for name in checkpoint.names() {
        let Some(info) = checkpoint.info(name) else { continue };
        if let Coding::Blocks(format) = info.coding {
            let field = format!("tensor `{name}`");
            let expected = "a float checkpoint: merge first, then quantise";
            return Err(Error::file(checkpoint.file(), field, expected, format));
        }
        let dtype = match info.coding {
            Coding::Plain(DType::Bf16) if lora(name).is_some() => Dtype::F32,
            coding => coding.dtype(),
        };
        specs.push(TensorSpec { name: name.to_owned(), dtype, shape: info.shape.clone() });
        total += info.bytes;
    }
    let mut writer = Writer::new(specs, checkpoint.metadata(), max_shard_bytes, sink)?;
    let mut done = 0;
    for name in checkpoint.names() {
        let Some(info) = checkpoint.info(name) else { continue };
        match (lora(name), info.shape.as_slice()) {
            (Some(lora), &[out, input]) => {
                let mut values = checkpoint.values(name)?;
                add(&mut values, lora, [out, input]);
                if !values.iter().all(|value| value.is_finite()) {
                    let field = format!("tensor `{name}` with the adapter's update");
                    let found = "NaN or infinity";
                    return Err(Error::file(checkpoint.file(), field, "finite values", found));
                }
                if info.coding == Coding::Plain(DType::F16) {
                    let data = quantize(name, &values, [out, input], Format::F16)?;
                    writer.write(name, &data.values)?;
                } else {
                    writer.write(name, bytemuck::cast_slice(&values))?;
                }
            }
            _ => writer.write(name, &checkpoint.raw(name)?)?,
        }
        done += info.bytes;
        progress(done, total, name);
    }
    writer.finish()
}

/// values (out, in) += scale * B (out, r) A (r, in).
fn add(values: &mut [f32], lora: &LoraData, [_, input]: [usize; 2]) {
    // Neither width is 0 where there is a value: the adapter's shapes were checked.
    for (row, b) in values.chunks_exact_mut(input.max(1)).zip(lora.b.chunks_exact(lora.r.max(1))) {
        for (&b, a) in b.iter().zip(lora.a.chunks_exact(input.max(1))) {
            let factor = lora.scale * b;
            row.iter_mut().zip(a).for_each(|(value, &a)| *value += factor * a);
        }
    }
}
