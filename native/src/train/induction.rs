//! What a new language model begins with: heads that repeat what stands before, and heads that gather
//! the items before a row.
//!
//! An answer is a name of the prompt, so the model must first learn to copy: one layer that tells
//! each row what stood before it, and a later one that looks for rows that followed the same token
//! (Olsson et al., arXiv 2209.11895). From random weights the pair is found by luck, after more
//! steps than a processor has time for. Here it is written down roughly, as random projections, and
//! training sharpens it; everything else that writes into the residual stream begins at zero.
//!
//! Pointing asks for one thing more: what a user's items have in common. The other heads of the first
//! layer attend to the soft tokens of events, which bear marks, and write their mean; below the level of
//! items, to the words of a name.

use std::ops::Range;

use tributary_core::backend::Backend;
use tributary_core::models::llama::LlamaConfig;
use tributary_core::prompt::Level;
use tributary_core::random::Random;
use tributary_core::{Error, Result};

use crate::burn_backend::Burn;

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
const MARKED: f32 = 8.0;
const GATHERED: f32 = 0.5;
/// How many rows back the middle of a name lies, by which pairs and how sharply it is found, and how
/// loudly it is told.
const NAME_OFFSET: f32 = 3.0;
const NAME_PAIRS: Range<usize> = 2..4;
const NAME_BIAS: f32 = 3.0;
const NAMED: f32 = 3.0;

/// Overwrites the weights of a model that [`Initial::FanIn`](tributary_core::weights::Initial) has
/// drawn. `gathers`: the level of a model that points. One layer, or one head, is too few; such a
/// model stays as it is.
pub(in crate::train) fn prepare(
    b: &Burn,
    config: &LlamaConfig,
    gathers: Option<Level>,
    seed: u64,
) -> Result<()> {
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
        look_back(b, config, head, offset, 0..FAST_PAIRS, BIAS)?;
        read(b, 0, "v_proj", kv_head(head), [size, width], &token, 1.0, 0)?;
        write(b, 0, head, [size, width], heads.q_size(), told, TOLD)?;
    }
    // Slow pairs hardly turn within a prompt: only content decides there.
    let fast = size / 4;
    read(b, 1, "q_proj", 0, [size, width], &token, SOUGHT, fast)?;
    read(b, 1, "k_proj", 0, [size, width], &last, SOUGHT, fast)?;
    read(b, 1, "v_proj", 0, [size, width], &copied, 1.0, 0)?;
    write(b, 1, 0, [size, width], heads.q_size(), &copied, FOUND)?;
    gathers.map_or(Ok(()), |level| gather(b, config, level, seed))
}

/// A head of the first layer attends to the row `offset` before, by place alone: the slower the
/// `pairs` and the smaller the `bias`, the more of its neighbours share in it.
fn look_back(
    b: &Burn,
    config: &LlamaConfig,
    head: usize,
    offset: f32,
    pairs: Range<usize>,
    bias: f32,
) -> Result<()> {
    let (width, size) = (config.hidden_size, config.heads.head_dim);
    let kv_head = head / config.heads.group();
    let zeros = vec![0.0; size * width];
    read(b, 0, "q_proj", head, [size, width], &zeros, 1.0, 0)?;
    read(b, 0, "k_proj", kv_head, [size, width], &zeros, 1.0, 0)?;
    // The key at n turned by n, the query at m by m: most alike where n = m - offset.
    edit(b, 0, "self_attn.k_proj.bias", |values| {
        values[kv_head * size..][pairs.clone()].fill(bias);
    })?;
    edit(b, 0, "self_attn.q_proj.bias", |values| {
        let (real, imaginary) = values[head * size..][..size].split_at_mut(size / 2);
        for (pair, (re, im)) in real.iter_mut().zip(imaginary).enumerate().take(pairs.end) {
            if pairs.contains(&pair) {
                let angle = offset * config.rope_theta.powf(-2.0 * pair as f32 / size as f32);
                (*re, *im) = (bias * angle.cos(), -bias * angle.sin());
            }
        }
    })
}

/// The other heads of the first layer gather what the events before a row are about, whatever the row
/// is: the token of an event bears two marks, those of a candidate or a behaviour one. Below the level
/// of items there are no such tokens; there they gather the words before a row, which behind a name
/// are the name.
fn gather(b: &Burn, config: &LlamaConfig, level: Level, seed: u64) -> Result<()> {
    let heads = config.heads;
    let (width, size) = (config.hidden_size, heads.head_dim);
    let marks = [Mark::Item, Mark::Event].map(|which| mark(width, seed, which));
    // The slowest pair, which stays as it is over a prompt.
    let row = size / 2 - 1;
    let gathering = heads.num_attention_heads - 2;
    let directions = rotation((gathering * size).min(width), width, seed, "gathered");
    for head in 2..heads.num_attention_heads {
        let kv_head = head / heads.group();
        if kv_head <= 1 / heads.group() {
            continue; // a copying head's
        }
        // Each head's share of all directions.
        let share = directions.chunks(size * width).nth(head - 2);
        let mut gathered = share.unwrap_or_default().to_vec();
        gathered.resize(size * width, 0.0);
        let gain = if level >= Level::Item {
            let zeros = vec![0.0; size * width];
            read(b, 0, "q_proj", head, [size, width], &zeros, 1.0, 0)?;
            let mut key = zeros;
            for mark in &marks {
                key[row * width..][..width].iter_mut().zip(mark).for_each(|(k, m)| *k += m);
            }
            read(b, 0, "k_proj", kv_head, [size, width], &key, 1.0, 0)?;
            edit(b, 0, "self_attn.q_proj.bias", |bias| bias[head * size + row] = MARKED)?;
            // That it is an item is not what an item is.
            for row in gathered.chunks_exact_mut(width) {
                for mark in &marks {
                    let along: f32 = row.iter().zip(mark).map(|(x, m)| x * m).sum();
                    row.iter_mut().zip(mark).for_each(|(x, m)| *x -= along * m);
                }
            }
            GATHERED
        } else {
            look_back(b, config, head, NAME_OFFSET, NAME_PAIRS, NAME_BIAS)?;
            NAMED
        };
        read(b, 0, "v_proj", kv_head, [size, width], &gathered, 1.0, 0)?;
        write(b, 0, head, [size, width], heads.q_size(), &gathered, gain)?;
    }
    Ok(())
}

/// By what a new language model knows a soft token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// An item's.
    Item,
    /// That of something done; an item of a history bears both.
    Event,
}

/// A direction of length 1.
pub(super) fn mark(width: usize, seed: u64, which: Mark) -> Vec<f32> {
    let mut random = Random::named(seed, &format!("mark {which:?}"));
    let mark: Vec<f32> = (0..width).map(|_| random.normal() as f32).collect();
    let length = mark.iter().map(|x| x * x).sum::<f32>().sqrt();
    mark.into_iter().map(|x| x / length).collect()
}

/// A random matrix whose rows, or columns where those are fewer, have length 1 and right angles
/// between them.
pub(super) fn rotation(rows: usize, columns: usize, seed: u64, name: &str) -> Vec<f32> {
    let (count, width) = (rows.min(columns), rows.max(columns));
    let mut random = Random::named(seed, name);
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut vector: Vec<f64> = (0..width).map(|_| random.normal()).collect();
        for other in &basis {
            let along: f64 = vector.iter().zip(other).map(|(x, y)| x * y).sum();
            vector.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
        }
        let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        vector.iter_mut().for_each(|x| *x /= length);
        basis.push(vector);
    }
    let at = |row: usize, column: usize| match rows <= columns {
        true => basis[row][column],
        false => basis[column][row],
    };
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    places.map(|(row, column)| at(row, column) as f32).collect()
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
