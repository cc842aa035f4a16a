//! Whether this machine's kernels compute what plain loops compute: asked before any download.

use tributary_core::backend::cpu::{Cpu, Level};
use tributary_core::backend::{Attend, Backend, HeadShape, Mask, MatrixData, Segments};
use tributary_core::dtype::Format;
use tributary_core::random::Random;
use tributary_core::weights::quantize;
use tributary_core::{Error, Result};

/// Largest nmse between two levels of instructions: they add in another order.
pub const CPU_BOUND: f64 = 1e-10;
/// Largest nmse between the GPU and plain loops: without packed dot products it multiplies the
/// activations of quantised products as they are.
pub const GPU_BOUND: f64 = 1e-3;

/// The worst nmse of `backend` against the scalar kernels, over a product in each format, attention
/// and a norm, at odd sizes.
///
/// # Errors
/// A backend that fails.
pub async fn worst<B: Backend>(backend: &B) -> Result<f64> {
    let scalar = Cpu::with_level(Level::Scalar)
        .ok_or_else(|| Error::Internal("the scalar level is always there".into()))?;
    let (fast, slow) = (outputs(backend).await?, outputs(&scalar).await?);
    let worst = fast.iter().zip(&slow).map(|(fast, slow)| nmse(fast, slow));
    // A NaN is worse than any number.
    Ok(worst.fold(0.0, |worst, nmse| if nmse <= worst { worst } else { nmse }))
}

async fn outputs<B: Backend>(b: &B) -> Result<Vec<Vec<f32>>> {
    let (rows, input, out) = (7, 70, 33);
    let mut random = Random::new(1);
    let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32).collect() };
    let x = b.upload(&values(rows * input), [rows, input])?;
    let weight = values(out * input);
    let mut outputs = Vec::new();
    for format in [Format::F32, Format::F16, Format::Q8, Format::Q4] {
        let data = match format {
            Format::F32 => MatrixData::from_f32("self_check", &weight, [out, input]),
            format => quantize("self_check", &weight, [out, input], format)?,
        };
        outputs.push(b.read(&b.linear(&x, &b.matrix(data)?, None)?).await?);
    }
    let heads = HeadShape { num_attention_heads: 4, num_key_value_heads: 2, head_dim: 10 };
    let segments = Segments::new(&[5, 2])?;
    let attend = Attend::new(&segments, Mask::Causal);
    let q = b.upload(&values(rows * heads.q_size()), [rows, heads.q_size()])?;
    let k = b.upload(&values(rows * heads.kv_size()), [rows, heads.kv_size()])?;
    outputs.push(b.read(&b.attention(&q, &k, &k, &attend, heads)?).await?);
    let norm = b.vector("self_check", &values(input))?;
    outputs.push(b.read(&b.rms_norm(&x, &norm, 1e-5)?).await?);
    Ok(outputs)
}

fn nmse(found: &[f32], truth: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let error: f64 = found.iter().zip(truth).map(|(f, t)| square(f64::from(f - t))).sum();
    error / truth.iter().map(|t| square(f64::from(*t))).sum::<f64>()
}
