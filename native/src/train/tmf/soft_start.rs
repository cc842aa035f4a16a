//! What a new fusion begins with: tokens that keep what is alike in the encoders alike.
//!
//! From random weights a two-layer adaptor halves what the cosines of a graph's embeddings say of
//! what users do next (LOG.md); training would first have to undo that.

use burn::tensor::Tensor;
use tributary_core::Result;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::fusion::Fusion;
use tributary_core::models::llama::{Llama, TokenId};
use tributary_core::prompt::Level;
use tributary_core::recommend::ItemIndex;

use super::modalities::{FUSION, Modalities};
use crate::burn_backend::{Burn, Parameter};
use crate::train::induction::{Mark, mark, rotation};

/// How loud the differences between behaviours are beside their mark.
const BEHAVIOUR: f32 = 0.3;
/// How loud items are beside words. What the written-down heads add to an item's row must not drown
/// the item: its final state is compared with candidates.
const LOUD: f32 = 3.0;
/// Items and words whose loudness is measured.
const SAMPLE: usize = 256;

/// Overwrites weights that [`Initial::FanIn`](tributary_core::weights::Initial) has drawn.
///
/// Attention that adds to its query (`residual`) starts at zero, so that an item of a history and
/// the same item as a candidate are first the same token. What leads from an embedding to a token
/// starts as a chain of rotations.
pub(super) fn prepare(
    b: &Burn,
    model: &Llama<Burn>,
    fusion: &Fusion<Burn>,
    modalities: &Modalities,
    level: Level,
    seed: u64,
) -> Result<()> {
    let config = fusion.config();
    if config.residual {
        for name in ["amsa", "cma.text", "cma.image"] {
            for part in ["weight", "bias"] {
                edit(b, &format!("{name}.o_proj.{part}"), |values, _| values.fill(0.0))?;
            }
        }
    }
    let rotate = |name: &str| {
        edit(b, &format!("{name}.weight"), |values, [rows, columns]| {
            values.copy_from_slice(&rotation(rows, columns, seed, name));
        })
    };
    for name in ["image", "text", "graph"] {
        rotate(&format!("{name}_proj"))?;
        // An item of which nothing is known is like the mean of all.
        edit(b, &format!("absent.{name}.weight"), |values, _| values.fill(0.0))?;
    }
    // Eq. 7's query holds every modality, each turned its own way.
    edit(b, "cma.query.weight", |values, [rows, columns]| {
        for block in 0..columns / rows.max(1) {
            let turned = rotation(rows, rows, seed, &format!("cma.query {block}"));
            for (row, turned) in values.chunks_exact_mut(columns).zip(turned.chunks_exact(rows)) {
                row[block * rows..(block + 1) * rows].copy_from_slice(turned);
            }
        }
    })?;
    straighten(b, "item_adaptor", config.hidden_size, seed)?;

    let words = (0..model.config().vocab_size.min(SAMPLE)).map(|id| id as TokenId);
    // Among words, behaviours are no louder than those.
    let gain = if level >= Level::Item { LOUD } else { 1.0 };
    let loud = gain * loudness(b, &model.embed(b, &words.collect::<Vec<_>>())?)?;
    let Some(items) = &modalities.items else { return Ok(()) };
    let sample: Vec<ItemIndex> = (0..items.image.len().min(SAMPLE) as ItemIndex).collect();
    let alone = Segments::new(&vec![1; sample.len()])?;
    let width = config.hidden_size;
    let [item, event] = [Mark::Item, Mark::Event].map(|which| mark(width, seed, which));
    // The marks are no part of what an item is.
    edit(b, "item_adaptor.down.weight", |values, [_, columns]| {
        for mark in [&item, &event] {
            for column in 0..columns {
                let rows = || (column..).step_by(columns).zip(mark);
                let along: f32 = rows().map(|(place, m)| m * values[place]).sum();
                rows().for_each(|(place, m)| values[place] -= along * m);
            }
        }
    })?;
    // Nor is their mean: what is left tells items apart.
    let center = |bias: &[f32]| -> Result<f32> {
        edit(b, "item_adaptor.down.bias", |values, _| values.copy_from_slice(bias))?;
        let tokens = items.tokens(b, fusion, &sample, &alone)?;
        let mean = pollster::block_on(b.read(&tokens.clone().mean_dim(0)))?;
        let bias: Vec<f32> = mean.iter().zip(bias).map(|(mean, bias)| bias - mean).collect();
        edit(b, "item_adaptor.down.bias", |values, _| values.copy_from_slice(&bias))?;
        loudness(b, &items.tokens(b, fusion, &sample, &alone)?)
    };
    let gain = loud / center(&vec![0.0; width])?;
    edit(b, "item_adaptor.down.weight", |values, _| values.iter_mut().for_each(|x| *x *= gain))?;
    center(&vec![0.0; width])?;
    let marked = loud * (width as f32).sqrt();
    add(b, "item_adaptor.down.bias", &item, marked)?;
    let behaviours: Vec<u32> = (0..modalities.num_behaviours() as u32).collect();
    if modalities.behaviour_size() > 0 {
        let found = loudness(b, &fusion.behaviour_tokens(b, &behaviours)?)?;
        let gain = BEHAVIOUR * loud / found;
        edit(b, "behaviour_adaptor.down.weight", |values, _| {
            values.iter_mut().for_each(|x| *x *= gain);
        })?;
        add(b, "behaviour_adaptor.down.bias", &event, marked)?;
    }
    Ok(())
}

/// An adaptor of two layers becomes a rotation: with hidden units in pairs of opposite signs,
/// gelu(x) - gelu(-x) = x.
fn straighten(b: &Burn, name: &str, hidden_size: usize, seed: u64) -> Result<()> {
    let mut pairs = 0;
    edit(b, &format!("{name}.up.weight"), |values, [inner, input]| {
        pairs = (inner / 2).min(hidden_size);
        let turned = rotation(pairs, input, seed, name);
        let (plus, rest) = values.split_at_mut(pairs * input);
        plus.copy_from_slice(&turned);
        rest.iter_mut().zip(turned).for_each(|(value, x)| *value = -x);
    })?;
    edit(b, &format!("{name}.down.weight"), |values, [hidden, inner]| {
        let turned = rotation(hidden, pairs, seed, &format!("{name}.down"));
        for (row, turned) in values.chunks_exact_mut(inner).zip(turned.chunks_exact(pairs)) {
            row.fill(0.0);
            for (pair, x) in turned.iter().enumerate() {
                (row[pair], row[pairs + pair]) = (*x, -x);
            }
        }
    })
}

/// The root of the mean square.
fn loudness(b: &Burn, x: &<Burn as Backend>::Tensor) -> Result<f32> {
    let values = pollster::block_on(b.read(x))?;
    let squares: f32 = values.iter().map(|value| value * value).sum();
    let loudness = (squares / values.len().max(1) as f32).sqrt();
    // Silence stays silent.
    Ok(if loudness > 0.0 { loudness } else { 1.0 })
}

fn add(b: &Burn, name: &str, direction: &[f32], gain: f32) -> Result<()> {
    edit(b, name, |values, _| values.iter_mut().zip(direction).for_each(|(x, d)| *x += gain * d))
}

/// Changes the values (rows, columns) of a weight of the fusion; one that is not there, or not
/// trained, stays out.
fn edit(b: &Burn, name: &str, change: impl FnOnce(&mut [f32], [usize; 2])) -> Result<()> {
    let is_it = |parameter: &&std::sync::Arc<Parameter>| {
        parameter.name().strip_prefix(FUSION) == Some(name)
    };
    let parameters = b.parameters();
    let Some(parameter) = parameters.iter().find(is_it) else { return Ok(()) };
    let value: Tensor<2> = parameter.constant();
    let shape = value.dims();
    let mut values = pollster::block_on(b.read(&value))?;
    change(&mut values, shape);
    parameter.set(b.upload(&values, shape)?);
    Ok(())
}
