//! Training a small CLIP from the start on the pictures and texts of a catalogue: the symmetric
//! contrastive loss of CLIP (arXiv 2103.00020, figure 3), validated by retrieval among items that
//! were held out.

mod config;
mod data;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use serde::Serialize;
use toml::Table;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::clip::{Clip, ClipConfig};
use tributary_core::models::llama::TokenId;
use tributary_core::weights::Weights;
use tributary_core::{Error, Result};

use super::config::{self as shared, FitConfig};
use super::progress::Event;
use super::trainer::{FitOptions, Losses, Objective, TrainReport, fit};
use crate::burn_backend::{Burn, BurnOptions, Trainable};
use crate::files::write_atomically;
pub use config::{ClipDataConfig, ClipModelConfig, ClipTrainConfig, TextTower, VisionTower};
use data::Pairs;

/// Largest logarithm of the scale, of a factor of 100: beyond it the loss only hunts noise.
const MAX_LOGIT_SCALE: f64 = 4.605_170_185_988_092;
/// An embedding shorter than this is no direction.
const MIN_LENGTH: f32 = 1e-6;
/// Pictures or texts in one pass of a validation.
const BATCH: usize = 32;

/// How well items that were held out are found, each among all of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retrieval {
    /// Items held out.
    pub items: usize,
    /// The share of texts whose own picture is the nearest.
    pub text_to_image_recall_1: f64,
    /// ... is among the five nearest.
    pub text_to_image_recall_5: f64,
    /// The share of pictures whose own text is the nearest.
    pub image_to_text_recall_1: f64,
    /// ... is among the five nearest.
    pub image_to_text_recall_5: f64,
}

impl Retrieval {
    /// The mean of both directions at 1 or at 5.
    fn recall(&self, k: usize) -> f64 {
        match k {
            1 => (self.text_to_image_recall_1 + self.image_to_text_recall_1) / 2.0,
            _ => (self.text_to_image_recall_5 + self.image_to_text_recall_5) / 2.0,
        }
    }
}

/// What a run did, and how the best weights do on the held-out items.
#[derive(Clone, Debug)]
pub struct ClipReport {
    /// Of the trainer.
    pub fit: TrainReport,
    /// Of the best weights, zero-shot, by kind of text.
    pub retrieval: BTreeMap<String, Retrieval>,
    /// Values of all weights.
    pub parameters: usize,
    /// Items trained on.
    pub items: usize,
    /// Items without a picture, with a bad one or without a text, which are left out.
    pub left_out: usize,
}

/// Trains what `config` describes; see [`fit`] for what is written and how it resumes. Beside the
/// weights, `options.out` gets `config.json`, `tokenizer.json` and `preprocessor_config.json`: a
/// folder that every backend loads as an encoder.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; a catalogue that cannot be read or
/// has no two items to hold out.
pub fn run(
    config: &ClipTrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<ClipReport> {
    let fit_config = FitConfig::checked(&config.training, &config.optimizer, &config.schedule)?;
    let k = config.recall_at()?;
    let pairs = Pairs::read(config)?;
    let text = config.model.to_json(pairs.vocab_size);
    let clip_config = ClipConfig::parse("model", &text)?;
    let seed = u64::from(config.training.seed);
    let trainable = Trainable::Everything;
    let b = Burn::new(
        config.training.device,
        BurnOptions { trainable, seed, ..BurnOptions::default() },
    )?;
    let clip = Clip::load(&Weights::fresh(&b, seed), clip_config)?;
    let parameters =
        b.parameters().iter().map(|p| p.axes().iter().product::<usize>()).sum::<usize>();
    let objective = ClipObjective { clip, pairs, k, config_json: text };
    let identity = identity(config, &fit_config, &objective.pairs)?;
    let fit = fit(&b, &objective, &fit_config, identity, options, progress)?;

    // The best weights, which are not always the last.
    let folder = crate::files::open_model(&options.out)?;
    let cpu = tributary_core::backend::cpu::Cpu::new();
    let best = Clip::load(&Weights::new(&cpu, &folder.checkpoint), clip_config)?;
    let Pairs { kinds, train, left_out, .. } = &objective.pairs;
    let retrieval = kinds
        .iter()
        .enumerate()
        .map(|(kind, name)| Ok((name.clone(), retrieval(&cpu, &best, &objective.pairs, kind)?)));
    let (retrieval, items) = (retrieval.collect::<Result<_>>()?, train.len());
    Ok(ClipReport { fit, retrieval, parameters, items, left_out: *left_out })
}

/// What decides the weights besides the trainer's own configuration.
fn identity(config: &ClipTrainConfig, fit: &FitConfig, pairs: &Pairs) -> Result<Table> {
    let mut table = shared::table(config)?;
    shared::table(fit)?.keys().for_each(|key| {
        table.remove(key);
    });
    if let Some(data) = table.get_mut("data").and_then(|data| data.as_table_mut()) {
        data.remove("path");
        data.insert("sha256".into(), pairs.sha256.clone().into());
    }
    Ok(table)
}

struct ClipObjective {
    clip: Clip<Burn>,
    pairs: Pairs,
    /// The recall that validation reports.
    k: usize,
    config_json: String,
}

impl ClipObjective {
    /// The mean of both directions' cross-entropies, row i of one being the partner of row i of the
    /// other: (rows, size) twice -> (rows, 1).
    fn contrast(&self, b: &Burn, one: &Tensor<2>, other: &Tensor<2>) -> Result<Tensor<2>> {
        let scale = b.vector_value(self.clip.logit_scale()).clamp_max(MAX_LOGIT_SCALE).exp();
        let logits = b.similarity(one, other)? * scale;
        let own: Vec<u32> = (0..logits.dims()[0] as u32).collect();
        let forth = b.cross_entropy(&logits, &own)?;
        let back = b.cross_entropy(&b.transpose(&logits, 1)?, &own)?;
        Ok((forth + back) * 0.5)
    }
}

impl Objective for ClipObjective {
    fn examples(&self) -> usize {
        self.pairs.train.len()
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let items = examples.iter().filter_map(|&i| self.pairs.train.get(i as usize));
        let items: Vec<usize> = items.copied().collect();
        let (pixels, texts) = self.pairs.batch(&items, 0);
        let images = b.l2_normalize(&self.clip.image_embeds(b, &pixels, None)?, MIN_LENGTH)?;
        let texts = b.l2_normalize(&self.clip.text_embeds(b, &texts, None)?, MIN_LENGTH)?;
        let mut rows = self.contrast(b, &images, &texts)?;
        if let Some(sides) = &self.pairs.sides {
            let embeds = |side: &Vec<Vec<TokenId>>| {
                let texts: Vec<&[TokenId]> =
                    items.iter().map(|&item| side[item].as_slice()).collect();
                b.l2_normalize(&self.clip.text_embeds(b, &texts, None)?, MIN_LENGTH)
            };
            let [titles, descriptions] = sides.each_ref().map(embeds);
            rows = rows + self.contrast(b, &titles?, &descriptions?)?;
        }
        Ok(Losses { rows, segments: Segments::new(&vec![1; examples.len()])? })
    }

    fn example_name(&self, example: u32) -> String {
        let item = self.pairs.train.get(example as usize).and_then(|&i| self.pairs.ids.get(i));
        format!("item {}", item.map_or("?", String::as_str))
    }

    fn metric(&self) -> &str {
        if self.k == 1 { "recall@1" } else { "recall@5" }
    }

    fn validate(&self, b: &Burn) -> Result<Option<f64>> {
        Ok(Some(retrieval(b, &self.clip, &self.pairs, 0)?.recall(self.k)))
    }

    fn describe(&self, folder: &Path) -> Result<()> {
        let files = [
            ("config.json", &self.config_json),
            ("tokenizer.json", &self.pairs.tokenizer),
            ("preprocessor_config.json", &self.pairs.preprocessor),
        ];
        files
            .iter()
            .try_for_each(|(name, text)| write_atomically(&folder.join(name), text.as_bytes()))
    }
}

/// Ranks every held-out picture for every held-out text of a kind, and the other way round.
fn retrieval<B: Backend>(b: &B, clip: &Clip<B>, pairs: &Pairs, kind: usize) -> Result<Retrieval> {
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    for batch in pairs.held_out.chunks(BATCH) {
        let (pixels, ids) = pairs.batch(batch, kind);
        let read = |embeds| -> Result<Vec<Vec<f32>>> {
            let values = pollster::block_on(b.read(&b.l2_normalize(&embeds, MIN_LENGTH)?))?;
            let size = clip.config().projection_dim;
            Ok(values.chunks_exact(size).map(<[f32]>::to_vec).collect())
        };
        images.extend(read(clip.image_embeds(b, &pixels, None)?)?);
        texts.extend(read(clip.text_embeds(b, &ids, None)?)?);
    }
    let [text_1, text_5] = recalls(&texts, &images)?;
    let [image_1, image_5] = recalls(&images, &texts)?;
    Ok(Retrieval {
        items: images.len(),
        text_to_image_recall_1: text_1,
        text_to_image_recall_5: text_5,
        image_to_text_recall_1: image_1,
        image_to_text_recall_5: image_5,
    })
}

/// The shares of queries whose own target has the best score, and one of the five best; a target
/// that ties counts as behind.
fn recalls(queries: &[Vec<f32>], targets: &[Vec<f32>]) -> Result<[f64; 2]> {
    let mut hits = [0usize; 2];
    for (i, query) in queries.iter().enumerate() {
        let score =
            |target: &Vec<f32>| -> f32 { query.iter().zip(target).map(|(a, b)| a * b).sum() };
        let Some(own) = targets.get(i).map(score).filter(|own| own.is_finite()) else {
            return Err(Error::argument("retrieval", "score", "a finite number", "NaN"));
        };
        let others = targets.iter().enumerate().filter(|&(other, _)| other != i);
        let ahead = others.filter(|(_, target)| score(target) >= own).count();
        hits[0] += usize::from(ahead < 1);
        hits[1] += usize::from(ahead < 5);
    }
    Ok(hits.map(|hits| hits as f64 / queries.len().max(1) as f64))
}

/// A batch: pixel values of the pictures, tokens of the texts.
type Batch<'p> = (Vec<f32>, Vec<&'p [TokenId]>);
