//! The truth of every operation: plain loops in f64, as close to the formula as they come. Slow on
//! purpose.

use half::f16;
use tributary_core::backend::{Activation, HeadShape, LoraData, Mask, MatrixData, Mix, Segments};
use tributary_core::dtype::{BLOCK, Format};

/// f32 values, exactly.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The values a stored matrix stands for, (out, in).
pub fn dequantize(data: &MatrixData) -> Vec<f64> {
    let [out, cols] = data.shape;
    let (row_bytes, row_scales) = (data.format.row_bytes(cols), data.format.row_scales(cols));
    let half_at =
        |bytes: &[u8], i: usize| f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f64();
    let mut values = Vec::with_capacity(out * cols);
    for row in 0..out {
        let bytes = &data.values[row * row_bytes..(row + 1) * row_bytes];
        for col in 0..cols {
            let scale = || half_at(&data.scales, row * row_scales + col / BLOCK);
            values.push(match data.format {
                Format::F32 => {
                    let four = &bytes[4 * col..4 * col + 4];
                    f64::from(f32::from_le_bytes(four.try_into().unwrap()))
                }
                Format::F16 => half_at(bytes, col),
                Format::Q8 => f64::from(bytes[col] as i8) * scale(),
                Format::Q4 => {
                    // A block is 16 bytes: its first 16 columns in the low nibbles.
                    let (block, i) = (col / BLOCK, col % BLOCK);
                    let byte = bytes[block * 16 + i % 16];
                    let nibble = if i < 16 { byte & 15 } else { byte >> 4 };
                    (f64::from(nibble) - 8.0) * scale()
                }
            });
        }
    }
    values
}

/// Rows of `table` (n, cols).
pub fn rows(table: &[f64], cols: usize, asked: &[u32]) -> Vec<f64> {
    asked.iter().flat_map(|&row| table[row as usize * cols..][..cols].to_vec()).collect()
}

/// Parts (rows, cols_i) side by side.
pub fn concat(parts: &[(&[f64], usize)], rows: usize) -> Vec<f64> {
    let row = |row| parts.iter().flat_map(move |(x, cols)| x[row * cols..][..*cols].to_vec());
    (0..rows).flat_map(row).collect()
}

/// Each of `groups` blocks of x (rows, cols) transposed.
pub fn transpose(x: &[f64], cols: usize, groups: usize) -> Vec<f64> {
    let n = x.len() / cols / groups;
    let mut y = vec![0.0; x.len()];
    for group in 0..groups {
        for row in 0..n {
            for col in 0..cols {
                y[(group * cols + col) * n + row] = x[(group * n + row) * cols + col];
            }
        }
    }
    y
}

/// y[i] = sum_j weight_ij x[j].
pub fn mix_rows(x: &[f64], cols: usize, mix: &Mix) -> Vec<f64> {
    let mut y = vec![0.0; mix.shape()[0] * cols];
    for (row, ends) in mix.starts().windows(2).enumerate() {
        for entry in ends[0] as usize..ends[1] as usize {
            for col in 0..cols {
                let value = x[mix.columns()[entry] as usize * cols + col];
                y[row * cols + col] += f64::from(mix.weights()[entry]) * value;
            }
        }
    }
    y
}

/// x / max(||x||, eps), per row.
pub fn l2_normalize(x: &[f64], cols: usize, eps: f64) -> Vec<f64> {
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt().max(eps);
    x.chunks(cols).flat_map(|row| row.iter().map(|x| x / norm(row)).collect::<Vec<_>>()).collect()
}

/// x W^T + bias: x (rows, in), w (out, in).
pub fn linear(x: &[f64], w: &[f64], bias: Option<&[f32]>, input: usize, out: usize) -> Vec<f64> {
    let rows = x.len() / input;
    let mut y = Vec::with_capacity(rows * out);
    for row in 0..rows {
        for o in 0..out {
            let dot: f64 = (0..input).map(|k| x[row * input + k] * w[o * input + k]).sum();
            y.push(dot + bias.map_or(0.0, |bias| f64::from(bias[o])));
        }
    }
    y
}

/// What a product with int8 activations sees of `x` (rows, cols): every block of 32 columns rounded
/// to absmax / 127 steps, halves to even. The rounding is the rule, so it is done in f32.
pub fn int8_activations(x: &[f32], cols: usize) -> Vec<f64> {
    let mut rounded = Vec::with_capacity(x.len());
    for row in x.chunks(cols) {
        for block in row.chunks(BLOCK) {
            let scale = block.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
            rounded.extend(block.iter().map(|x| match scale {
                0.0 => 0.0,
                _ => f64::from((x / scale).round_ties_even()) * f64::from(scale),
            }));
        }
    }
    rounded
}

/// Adds scale * B (A x) to `y` (rows, out).
pub fn add_lora(y: &mut [f64], x: &[f64], lora: &LoraData, input: usize, out: usize) {
    let low = linear(x, &wide(&lora.a), None, input, lora.r);
    let update = linear(&low, &wide(&lora.b), None, lora.r, out);
    for (y, update) in y.iter_mut().zip(update) {
        *y += f64::from(lora.scale) * update;
    }
}

/// Keys and values before all segments: (k, v), each (len, kv_size).
pub type Prefix<'a> = Option<(&'a [f64], &'a [f64])>;

/// softmax(q k^T / sqrt(head_dim), masked) v, per head; `segments` of q, and of k and v.
pub fn attention(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    segments: [&Segments; 2],
    mask: Mask,
    prefix: Prefix<'_>,
    heads: HeadShape,
) -> Vec<f64> {
    let (head_dim, q_size, kv_size) = (heads.head_dim, heads.q_size(), heads.kv_size());
    let mut y = vec![0.0; q.len()];
    let [of_q, of_k] = segments;
    for (segment, seen) in of_q.iter().zip(of_k.iter()) {
        for row in segment.clone() {
            let end = match mask {
                // The segment's rows are the last of what it sees.
                Mask::Causal => seen.end - (segment.end - 1 - row),
                Mask::Bidirectional => seen.end,
            };
            for head in 0..heads.num_attention_heads {
                let at = head / heads.group() * head_dim;
                let mut keys: Vec<(&[f64], &[f64])> = Vec::new();
                if let Some((k, v)) = prefix {
                    keys.extend(k.chunks(kv_size).zip(v.chunks(kv_size)));
                }
                let own = seen.start * kv_size..end * kv_size;
                keys.extend(k[own.clone()].chunks(kv_size).zip(v[own].chunks(kv_size)));
                let q = &q[row * q_size + head * head_dim..][..head_dim];
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|(k, _)| {
                        let dot: f64 = (0..head_dim).map(|d| q[d] * k[at + d]).sum();
                        dot / (head_dim as f64).sqrt()
                    })
                    .collect();
                let weights = softmax(&scores);
                for (weight, (_, v)) in weights.iter().zip(&keys) {
                    for d in 0..head_dim {
                        y[row * q_size + head * head_dim + d] += weight * v[at + d];
                    }
                }
            }
        }
    }
    y
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|exponential| exponential / sum).collect()
}

/// x * weight / sqrt(mean(x^2) + eps), per row.
pub fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let cols = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(cols) {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / cols as f64;
        y.extend(row.iter().zip(weight).map(|(x, w)| x * w / (mean + eps).sqrt()));
    }
    y
}

/// (x - mean) / sqrt(var + eps) * weight + bias, per row.
pub fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let cols = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(cols) {
        let mean = row.iter().sum::<f64>() / cols as f64;
        let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
        let scale = 1.0 / (var + eps).sqrt();
        y.extend((0..cols).map(|c| (row[c] - mean) * scale * weight[c] + bias[c]));
    }
    y
}

/// Rotary embedding, half-split: x (rows, cols), angles (rows, head_dim).
pub fn rope(x: &[f64], angles: &[f64], cols: usize, head_dim: usize) -> Vec<f64> {
    let half = head_dim / 2;
    let mut y = Vec::with_capacity(x.len());
    for (row, angles) in x.chunks(cols).zip(angles.chunks(head_dim)) {
        for head in row.chunks(head_dim) {
            y.extend((0..half).map(|i| head[i] * angles[i] - head[half + i] * angles[half + i]));
            y.extend((0..half).map(|i| head[half + i] * angles[i] + head[i] * angles[half + i]));
        }
    }
    y
}

/// -log softmax(logits)[target], per row.
pub fn cross_entropy(logits: &[f64], cols: usize, targets: &[u32]) -> Vec<f64> {
    let rows = logits.chunks(cols).zip(targets);
    rows.map(|(row, &target)| -softmax(row)[target as usize].ln()).collect()
}

/// The k largest of each row and their columns: NaN last, equal values in column order.
pub fn top_k(x: &[f32], cols: usize, k: usize) -> Vec<f32> {
    let mut y = Vec::new();
    for row in x.chunks(cols) {
        let mut order: Vec<usize> = (0..cols).collect();
        // The sort is stable, so equal values stay in column order.
        order.sort_by(|&a, &b| match (row[a].is_nan(), row[b].is_nan()) {
            (false, false) => row[b].partial_cmp(&row[a]).unwrap(),
            (a, b) => a.cmp(&b),
        });
        y.extend(order[..k].iter().map(|&column| row[column]));
        y.extend(order[..k].iter().map(|&column| column as f32));
    }
    y
}

/// f(x).
pub fn activation(x: f64, f: Activation) -> f64 {
    match f {
        Activation::Gelu => x * normal_cdf(x),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

/// The normal distribution's share below `x`: by the power series of erf near zero, by the continued
/// fraction of erfc beyond (Abramowitz and Stegun 7.1.5 and 7.1.14), both to f64's last digits.
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let root_pi = std::f64::consts::PI.sqrt();
    let tail = if z < 2.5 {
        let mut term = z;
        let mut sum = z;
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        1.0 - 2.0 / root_pi * sum
    } else {
        let fraction = (1..200).rev().fold(z, |tail, n| z + f64::from(n) / 2.0 / tail);
        (-z * z).exp() / root_pi / fraction
    };
    if x > 0.0 { 1.0 - tail / 2.0 } else { tail / 2.0 }
}

/// h_t = lambda * h_(t-1) + gamma * x_t, complex; parameters (channels), `state` (segments, width)
/// or nothing.
pub fn linear_recurrence(
    x: &[f64],
    [nu_log, theta_log, gamma_log]: [&[f64]; 3],
    segments: &Segments,
    state: &[f64],
) -> Vec<f64> {
    let (n, width) = (nu_log.len(), 2 * nu_log.len());
    let mut y = vec![0.0; x.len()];
    for (segment, rows) in segments.iter().enumerate() {
        for c in 0..n {
            let at = |values: &[f64], row: usize| match values.is_empty() {
                true => (0.0, 0.0),
                false => (values[row * width + c], values[row * width + n + c]),
            };
            let (size, angle) = ((-nu_log[c].exp()).exp(), theta_log[c].exp());
            let (a, b) = (size * angle.cos(), size * angle.sin());
            let mut h = at(state, segment);
            for row in rows.clone() {
                let (re, im) = at(x, row);
                let gamma = gamma_log[c].exp();
                h = (a * h.0 - b * h.1 + gamma * re, a * h.1 + b * h.0 + gamma * im);
                (y[row * width + c], y[row * width + n + c]) = h;
            }
        }
    }
    y
}
