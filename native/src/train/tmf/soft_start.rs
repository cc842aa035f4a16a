//! What a new fusion begins with: attention that adds nothing yet, and tokens as loud as words.

use burn::tensor::Tensor;
use tributary_core::Result;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::fusion::Fusion;
use tributary_core::models::llama::{Llama, TokenId};
use tributary_core::recommend::ItemIndex;

use super::induction;
use super::objective::{FUSION, Modalities};
use crate::train::burn_backend::{Burn, Parameter};

/// How loud pictures and texts are beside the graph at first.
const QUIET: f32 = 0.2;
/// Items and words whose loudness is measured.
const SAMPLE: usize = 256;

/// Overwrites weights that [`Initial::FanIn`](tributary_core::weights::Initial) has drawn.
///
/// Attention that adds to its query (`residual`) starts at zero, so that an item of a history and
/// the same item as a candidate are first the same token, and what is alike in the encoders is alike
/// here. The adaptors' outputs are scaled to the mean square of the language model's embeddings: a
/// louder row drowns what the first layers add to it.
pub(super) fn prepare(
    b: &Burn,
    model: &Llama<Burn>,
    fusion: &Fusion<Burn>,
    modalities: &Modalities,
    seed: u64,
) -> Result<()> {
    if fusion.config().residual {
        for name in ["amsa", "cma.text", "cma.image"] {
            for part in ["weight", "bias"] {
                scale(b, &format!("{name}.o_proj.{part}"), 0.0)?;
            }
        }
    }
    // What users did says more of what they will do than what things look like; pictures and texts
    // come in as far as they prove useful.
    if modalities.widths()[2] > 0 {
        for name in ["image_proj", "text_proj"] {
            scale(b, &format!("{name}.weight"), QUIET)?;
        }
    }
    let words = (0..model.config().vocab_size.min(SAMPLE)).map(|id| id as TokenId);
    let words = loudness(b, &model.embed(b, &words.collect::<Vec<_>>())?)?;
    let Some(items) = &modalities.items else { return Ok(()) };
    let sample: Vec<ItemIndex> = (0..items.image.len().min(SAMPLE) as ItemIndex).collect();
    let alone = Segments::new(&vec![1; sample.len()])?;
    let found = loudness(b, &items.tokens(b, fusion, &sample, &alone)?)?;
    scale(b, "item_adaptor.down.weight", words / found)?;
    let width = model.config().hidden_size;
    // The mean of all items becomes the mark and nothing else: what the rest tells is what an item
    // has of its own.
    let tokens = pollster::block_on(b.read(&items.tokens(b, fusion, &sample, &alone)?))?;
    let mut bias = induction::mark(width, seed);
    bias.iter_mut().for_each(|x| *x *= words * (width as f32).sqrt());
    for token in tokens.chunks_exact(width) {
        bias.iter_mut().zip(token).for_each(|(bias, x)| *bias -= x / sample.len() as f32);
    }
    edit(b, "item_adaptor.down.bias", |_| b.upload(&bias, [1, width]))?;
    let behaviours: Vec<u32> = (0..modalities.num_behaviours() as u32).collect();
    if modalities.behaviour_size() > 0 {
        let found = loudness(b, &fusion.behaviour_tokens(b, &behaviours)?)?;
        scale(b, "behaviour_adaptor.down.weight", words / found)?;
    }
    Ok(())
}

/// The root of the mean square.
fn loudness(b: &Burn, x: &<Burn as Backend>::Tensor) -> Result<f32> {
    let values = pollster::block_on(b.read(x))?;
    let squares: f32 = values.iter().map(|value| value * value).sum();
    let loudness = (squares / values.len().max(1) as f32).sqrt();
    // Silence stays silent.
    Ok(if loudness > 0.0 { loudness } else { 1.0 })
}

/// Multiplies a weight of the fusion by `factor`; one that is not there, or not trained, stays out.
fn scale(b: &Burn, name: &str, factor: f32) -> Result<()> {
    edit(b, name, |value| Ok(value * factor))
}

fn edit(b: &Burn, name: &str, change: impl FnOnce(Tensor<2>) -> Result<Tensor<2>>) -> Result<()> {
    let is_it = |parameter: &&std::sync::Arc<Parameter>| {
        parameter.name().strip_prefix(FUSION) == Some(name)
    };
    let parameters = b.parameters();
    let Some(parameter) = parameters.iter().find(is_it) else { return Ok(()) };
    parameter.set(change(parameter.constant())?);
    Ok(())
}
