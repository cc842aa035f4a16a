//! What a new language model begins with: heads that repeat what stands before, and heads that gather
//! the items before a row.
//!
//! An answer is a name of the prompt, so the model must first learn to copy: one layer that tells
//! each row what stood before it, and a later one that looks for rows that followed the same token
//! (Olsson et al., arXiv 2209.11895). From random weights the pair is found by luck, after more
//! steps than a processor has time for. Here it is written down roughly, as random projections, and
//! training sharpens it; everything else that writes into the residual stream begins at zero.
//!
//! Choosing among items asks for one thing more: what a user's items have in common. The other heads
//! of the first layer attend to the soft tokens of items, which bear a mark, and write their mean;
//! behind the prompt it is most alike to the token of the candidate that is most like the history.
//! A model of words alone has nothing to gather, and goes without.

use tributary_core::backend::Backend;
use tributary_core::models::llama::LlamaConfig;
use tributary_core::prompt::Level;
use tributary_core::random::Random;
use tributary_core::{Error, Result};

use crate::train::burn_backend::Burn;

/// Pairs of a head, fast ones first, by which a row finds a neighbour: turning angles that differ
/// most from row to row.
const FAST_PAIRS: usize = 3;
/// Size of those biases: with three pairs, 0.7 to 0.95 of the attention falls on the neighbour.
const BIAS: f32 = 6.0;
/// How loudly a row is told what stood before it.
const TOLD: f32 = 0.1;
/// Sharpness of the search, and how loudly its result is written.
const SOUGHT: f32 = 2.0;
const FOUND: f32 = 0.5;
/// How much louder items are than words where they are gathered, and how loudly they are told.
const MARKED: f32 = 5.0;
const GATHERED: f32 = 2.0;

/// Overwrites the weights of a model that [`Initial::FanIn`](tributary_core::weights::Initial) has
/// drawn. One layer, or one head, is too few; such a model stays as it is.
pub(super) fn prepare(b: &Burn, config: &LlamaConfig, level: Level, seed: u64) -> Result<()> {
    let heads = config.heads;
    let (layers, width, size) = (config.num_hidden_layers, config.hidden_size, heads.head_dim);
    if layers < 2 || heads.num_attention_heads < 2 || size < 4 * FAST_PAIRS || !config.qkv_bias {
        return Ok(());
    }
    let draw = |name: &str| -> Vec<f32> {
        let mut random = Random::named(seed, name);
        let std = (width as f64).sqrt().recip();
        (0..size * width).map(|_| (random.normal() * std) as f32).collect()
    };
    // Projections (head_dim, hidden_size): of a token, of the last and the second last token as a
    // row is told them, and of what is copied.
    let [token, last, second_last, copied] = ["token", "last", "second last", "copied"].map(draw);
    for layer in 0..layers {
        for name in ["self_attn.o_proj", "mlp.down_proj"] {
            edit(b, layer, &format!("{name}.weight"), |values| values.fill(0.0))?;
        }
    }
    let kv_head = |head: usize| head / heads.group();
    for (head, (offset, told)) in [(1.0, &last), (2.0, &second_last)].into_iter().enumerate() {
        for (name, head) in [("q_proj", head), ("k_proj", kv_head(head))] {
            let rows = head * size * width..(head + 1) * size * width;
            edit(b, 0, &format!("self_attn.{name}.weight"), |w| w[rows].fill(0.0))?;
        }
        // The key at n turned by n, the query at m by m: most alike where n = m - offset.
        edit(b, 0, "self_attn.k_proj.bias", |bias| {
            bias[kv_head(head) * size..][..FAST_PAIRS].fill(BIAS);
        })?;
        edit(b, 0, "self_attn.q_proj.bias", |bias| {
            let (real, imaginary) = bias[head * size..][..size].split_at_mut(size / 2);
            for (pair, (re, im)) in real.iter_mut().zip(imaginary).take(FAST_PAIRS).enumerate() {
                let angle = offset * config.rope_theta.powf(-2.0 * pair as f32 / size as f32);
                (*re, *im) = (BIAS * angle.cos(), -BIAS * angle.sin());
            }
        })?;
        read(b, 0, "v_proj", kv_head(head), [size, width], &token, 1.0, 0)?;
        write(b, 0, head, [size, width], heads.q_size(), told, TOLD)?;
    }
    // Slow pairs hardly turn within a prompt: only content decides there.
    let fast = size / 4;
    read(b, 1, "q_proj", 0, [size, width], &token, SOUGHT, fast)?;
    read(b, 1, "k_proj", 0, [size, width], &last, SOUGHT, fast)?;
    read(b, 1, "v_proj", 0, [size, width], &copied, 1.0, 0)?;
    write(b, 1, 0, [size, width], heads.q_size(), &copied, FOUND)?;
    if level >= Level::Item { gather(b, config, seed) } else { Ok(()) }
}

/// The other heads of the first layer gather what the items before a row are, whatever the row is.
fn gather(b: &Burn, config: &LlamaConfig, seed: u64) -> Result<()> {
    let heads = config.heads;
    let (width, size) = (config.hidden_size, heads.head_dim);
    let mark = mark(width, seed);
    // The slowest pair, which stays as it is over a prompt.
    let row = size / 2 - 1;
    for head in 2..heads.num_attention_heads {
        let kv_head = head / heads.group();
        if kv_head <= 1 / heads.group() {
            continue; // a copying head's
        }
        let zeros = vec![0.0; size * width];
        read(b, 0, "q_proj", head, [size, width], &zeros, 1.0, 0)?;
        let mut key = zeros;
        key[row * width..(row + 1) * width].copy_from_slice(&mark);
        read(b, 0, "k_proj", kv_head, [size, width], &key, 1.0, 0)?;
        edit(b, 0, "self_attn.q_proj.bias", |bias| bias[head * size + row] = MARKED)?;
        let mut random = Random::named(seed, &format!("gathered {head}"));
        let std = (width as f64).sqrt().recip();
        let mut gathered: Vec<f32> =
            (0..size * width).map(|_| (random.normal() * std) as f32).collect();
        // That it is an item is not what an item is.
        for row in gathered.chunks_exact_mut(width) {
            let along: f32 = row.iter().zip(&mark).map(|(x, m)| x * m).sum();
            row.iter_mut().zip(&mark).for_each(|(x, m)| *x -= along * m);
        }
        read(b, 0, "v_proj", kv_head, [size, width], &gathered, 1.0, 0)?;
        write(b, 0, head, [size, width], heads.q_size(), &gathered, GATHERED)?;
    }
    Ok(())
}

/// The direction, of length 1, by which a new language model knows the soft tokens of items.
pub(super) fn mark(width: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::named(seed, "mark");
    let mark: Vec<f32> = (0..width).map(|_| random.normal() as f32).collect();
    let length = mark.iter().map(|x| x * x).sum::<f32>().sqrt();
    mark.into_iter().map(|x| x / length).collect()
}

/// The rows of a head become `projection` times `gain`, those of its first `fast` pairs zero.
#[expect(clippy::too_many_arguments, reason = "which head of what, and what becomes of it")]
fn read(
    b: &Burn,
    layer: usize,
    name: &str,
    head: usize,
    [size, width]: [usize; 2],
    projection: &[f32],
    gain: f32,
    fast: usize,
) -> Result<()> {
    edit(b, layer, &format!("self_attn.{name}.weight"), |weight| {
        let rows = weight.chunks_exact_mut(width).skip(head * size).take(size);
        for (row, (weight, values)) in rows.zip(projection.chunks_exact(width)).enumerate() {
            let gain = if row % (size / 2) < fast { 0.0 } else { gain };
            weight.iter_mut().zip(values).for_each(|(w, value)| *w = gain * value);
        }
    })
}

/// The columns of a head of o_proj (hidden_size, q_size) become the transpose of `projection`.
fn write(
    b: &Burn,
    layer: usize,
    head: usize,
    [size, width]: [usize; 2],
    q_size: usize,
    projection: &[f32],
    gain: f32,
) -> Result<()> {
    edit(b, layer, "self_attn.o_proj.weight", |weight| {
        for (column, values) in projection.chunks_exact(width).enumerate() {
            for (row, value) in values.iter().enumerate() {
                weight[row * q_size + head * size + column] = gain * value;
            }
        }
    })
}

/// Changes the values of a trainable weight of one layer.
fn edit(b: &Burn, layer: usize, name: &str, change: impl FnOnce(&mut [f32])) -> Result<()> {
    let name = format!("model.layers.{layer}.{name}");
    let parameters = b.parameters();
    let Some(parameter) = parameters.iter().find(|parameter| parameter.name() == name) else {
        return Err(Error::Internal(format!("a new model has no {name}")));
    };
    let value = parameter.constant();
    let shape = b.shape(&value);
    let mut values = pollster::block_on(b.read(&value))?;
    change(&mut values);
    parameter.set(b.upload(&values, shape)?);
    Ok(())
}
