//! Tributary in WebAssembly. So far the self-check that comes before any download: the kernels of
//! this machine's vectors against plain loops.

use tributary_core::backend::cpu::{Cpu, Level};
use tributary_core::backend::{Attend, Backend, HeadShape, Mask, MatrixData, Segments};
use tributary_core::dtype::Format;
use tributary_core::random::Random;
use tributary_core::weights::quantize;
use tributary_core::{Error, Result};

/// Largest nmse between two levels of instructions: they add in another order.
const BOUND: f64 = 1e-10;

/// 0 when every kernel agrees with the scalar one; else 1 for a mismatch, 2 for an error.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "an exported symbol is unsafe by nature; it takes no arguments")]
pub extern "C" fn tributary_self_check() -> u32 {
    match self_check() {
        Ok(worst) if worst <= BOUND => 0,
        Ok(_) => 1,
        Err(_) => 2,
    }
}

/// The level of instructions in use: 0 scalar, 1 simd128, 2 another.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "an exported symbol is unsafe by nature; it takes no arguments")]
pub extern "C" fn tributary_level() -> u32 {
    match Cpu::new().level() {
        Level::Scalar => 0,
        Level::Simd128 => 1,
        _ => 2,
    }
}

/// The worst nmse between the fastest level and the scalar one, over a product in each format,
/// attention and a norm, at odd sizes.
pub fn self_check() -> Result<f64> {
    let scalar = Cpu::with_level(Level::Scalar)
        .ok_or_else(|| Error::Internal("the scalar level is always there".into()))?;
    let (fast, slow) = (outputs(Cpu::new())?, outputs(scalar)?);
    let worst = fast.iter().zip(&slow).map(|(fast, slow)| nmse(fast, slow));
    Ok(worst.fold(0.0, |worst, nmse| if nmse <= worst { worst } else { nmse }))
}

fn outputs(b: Cpu) -> Result<Vec<Vec<f32>>> {
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
        outputs.push(b.linear(&x, &b.matrix(data)?, None)?.data().to_vec());
    }
    let heads = HeadShape { num_attention_heads: 4, num_key_value_heads: 2, head_dim: 10 };
    let segments = Segments::new(&[5, 2])?;
    let attend = Attend::new(&segments, Mask::Causal);
    let q = b.upload(&values(rows * heads.q_size()), [rows, heads.q_size()])?;
    let k = b.upload(&values(rows * heads.kv_size()), [rows, heads.kv_size()])?;
    outputs.push(b.attention(&q, &k, &k, &attend, heads)?.data().to_vec());
    let norm = b.vector("self_check", &values(input))?;
    outputs.push(b.rms_norm(&x, &norm, 1e-5)?.data().to_vec());
    Ok(outputs)
}

fn nmse(found: &[f32], truth: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let error: f64 = found.iter().zip(truth).map(|(f, t)| square(f64::from(f - t))).sum();
    error / truth.iter().map(|t| square(f64::from(*t))).sum::<f64>()
}
