//! Training a graph encoder, MBHT or LightGCN, from users' events with behaviours. Beside its
//! weights the run writes `graph.safetensors`, the tables that a fusion of modalities reads.
//!
//! The task is the one of the evaluation: which item comes next with the target behaviour, when
//! nothing from the first event that touches it on is known. Training sees each user's events before
//! the validation target is first touched, and asks there for the items met earlier, each from what
//! came before its own first touch.

mod lightgcn;
mod mbht;
mod sequences;
pub(super) mod table;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::Table;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::lightgcn::{LightGcn, LightGcnConfig};
use tributary_core::models::mbht::{Mbht, MbhtConfig, check_behaviours};
use tributary_core::weights::{Checkpoint, Initial, Weights};
use tributary_core::{Error, Result};

use super::config::{self, FitConfig, TrainingConfig};
use super::optimizer::OptimizerConfig;
use super::progress::Event;
use super::schedule::Schedule;
use super::trainer::{FitOptions, TrainReport, fit};
use crate::bundle::GRAPH_TABLE;
use crate::burn_backend::{Burn, BurnOptions, Trainable};
use crate::data::{Dataset, SplitRule};
use lightgcn::LightGcnObjective;
use mbht::MbhtObjective;
use sequences::Sequences;

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum GraphModelConfig {
    /// The multi-behaviour hypergraph-enhanced transformer.
    Mbht(MbhtOptions),
    /// Propagation over the item-behaviour-user graph.
    LightGcn(LightGcnOptions),
}

/// `[model]` with `kind = "mbht"`: the fields of its `config.json` that are not found in the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MbhtOptions {
    /// Width of an item embedding.
    pub hidden_size: usize,
    /// Depth of the transformer.
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part; 4 * hidden_size where the file is silent.
    pub intermediate_size: Option<usize>,
    /// Longest sequence, in events, the asked one included.
    pub max_seq_len: usize,
    /// Keys that low-rank attention keeps.
    pub low_rank: usize,
    /// Events averaged into one, per further scale.
    pub pool_sizes: Vec<usize>,
    /// Similar items that a hyperedge joins.
    pub hyperedge_size: usize,
    /// Depth of the hypergraph's convolution.
    pub num_hypergraph_layers: usize,
    /// Events before an asked one that stand for it in the hypergraph.
    pub window_before: usize,
    /// As many after it.
    pub window_after: usize,
    /// Dropout on embeddings and after each sublayer.
    pub hidden_dropout_prob: f32,
    /// Dropout on attention weights.
    pub attention_probs_dropout_prob: f32,
    /// Dropout between layers of the hypergraph.
    pub hypergraph_dropout_prob: f32,
    /// Share of a sequence's items that are masked, all events of an item at once, besides the last.
    pub mask_ratio: f32,
}

impl Default for MbhtOptions {
    fn default() -> Self {
        let new = MbhtConfig::new(0, Vec::new(), String::new());
        Self {
            hidden_size: new.hidden_size,
            num_hidden_layers: new.num_hidden_layers,
            num_attention_heads: new.num_attention_heads,
            intermediate_size: None,
            max_seq_len: new.max_seq_len,
            low_rank: new.low_rank,
            pool_sizes: new.pool_sizes,
            hyperedge_size: new.hyperedge_size,
            num_hypergraph_layers: new.num_hypergraph_layers,
            window_before: new.window_before,
            window_after: new.window_after,
            hidden_dropout_prob: 0.2,
            attention_probs_dropout_prob: 0.2,
            hypergraph_dropout_prob: new.hypergraph_dropout_prob,
            mask_ratio: 0.2,
        }
    }
}

/// `[model]` with `kind = "lightgcn"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LightGcnOptions {
    /// Width of an embedding.
    pub hidden_size: usize,
    /// Layers of propagation, each from items to users and back.
    pub num_hidden_layers: usize,
    /// Share of the questions that ask for the target behaviour; the others ask for whatever
    /// behaviour the item was met with, so that every behaviour is learned.
    pub target_share: f64,
}

impl Default for LightGcnOptions {
    fn default() -> Self {
        Self { hidden_size: 64, num_hidden_layers: 1, target_share: 0.5 }
    }
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphDataConfig {
    /// A data file or folder with behaviours; relative to the folder of the configuration file.
    pub path: PathBuf,
    /// The behaviour that is predicted.
    #[serde(default = "target_behaviour")]
    pub target_behaviour: String,
    /// Validate on the first so many users; all where the file is silent.
    pub validation_users: Option<usize>,
    /// Validate by the expectation over all draws of so many candidates, the target among them, from
    /// the items a user never touches; by the whole catalogue where the file is silent.
    pub validation_candidates: Option<usize>,
    /// Terms under which what is trained from this data may be used.
    pub licence: Option<String>,
}

fn target_behaviour() -> String {
    "buy".into()
}

/// A training configuration file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphTrainConfig {
    /// `[model]`.
    pub model: GraphModelConfig,
    /// `[data]`.
    pub data: GraphDataConfig,
    /// `[training]`.
    #[serde(default)]
    pub training: TrainingConfig,
    /// `[optimizer]`.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// `[schedule]`.
    #[serde(default)]
    pub schedule: Schedule,
}

impl GraphTrainConfig {
    /// From the `text` of a configuration file at `path`.
    ///
    /// # Errors
    /// The first unknown key, missing key or wrong type, with its line.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        if let Some(folder) = path.parent() {
            config.data.path = folder.join(&config.data.path);
        }
        Ok(config)
    }

    fn mbht(&self, options: &MbhtOptions, data: &Dataset) -> Result<MbhtConfig> {
        let target = self.data.target_behaviour.clone();
        let config = MbhtConfig {
            max_seq_len: options.max_seq_len,
            hidden_size: options.hidden_size,
            num_hidden_layers: options.num_hidden_layers,
            num_attention_heads: options.num_attention_heads,
            intermediate_size: options.intermediate_size.unwrap_or(4 * options.hidden_size),
            low_rank: options.low_rank,
            pool_sizes: options.pool_sizes.clone(),
            hyperedge_size: options.hyperedge_size,
            num_hypergraph_layers: options.num_hypergraph_layers,
            window_before: options.window_before,
            window_after: options.window_after,
            hidden_dropout_prob: options.hidden_dropout_prob,
            attention_probs_dropout_prob: options.attention_probs_dropout_prob,
            hypergraph_dropout_prob: options.hypergraph_dropout_prob,
            ..MbhtConfig::new(data.catalogue.len(), data.behaviours.clone(), target)
        };
        // Its ranges are those of a config.json.
        MbhtConfig::parse("model", &config.to_json())
    }

    fn lightgcn(&self, options: &LightGcnOptions, data: &Dataset) -> Result<LightGcnConfig> {
        let config = LightGcnConfig {
            num_items: data.catalogue.len(),
            behaviours: data.behaviours.clone(),
            target_behaviour: self.data.target_behaviour.clone(),
            hidden_size: options.hidden_size,
            num_hidden_layers: options.num_hidden_layers,
        };
        LightGcnConfig::parse("model", &config.to_json())
    }
}

/// Trains what `config` describes; see [`fit`] for what is written and how it resumes. Beside the
/// weights, `options.out` gets `config.json`, `catalogue.jsonl` and, from the best weights, the
/// tables in [`GRAPH_TABLE`]: `item_embedding.weight` (items, hidden_size) in catalogue order,
/// `behaviour_embedding.weight` (behaviours, hidden_size) and `present` U8 (items), 0 for an item
/// that no training event names, whose row is zeros.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; data that cannot be read or have
/// no such behaviour.
pub fn run(
    config: &GraphTrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    let GraphTrainConfig { model, data, training, optimizer, schedule } = config;
    let fit_config = FitConfig::checked(training, optimizer, schedule)?;
    let mut dataset = Dataset::read(&data.path)?;
    if dataset.split != SplitRule::Given {
        dataset.hold_out(&data.target_behaviour)?;
    }
    check_behaviours(&dataset.behaviours)?;
    let target = dataset.behaviours.iter().position(|name| *name == data.target_behaviour);
    let target = target.ok_or_else(|| {
        let known = format!("one of {}", dataset.behaviours.join(", "));
        Error::file(&dataset.name, "target behaviour", known, &data.target_behaviour)
    })?;
    let identity = identity(config, &dataset)?;
    let sequences = Sequences::new(&dataset, target as u32, &fit_config, data)?;

    let seed = u64::from(config.training.seed);
    let trainable = Trainable::Everything;
    let b = Burn::new(
        config.training.device,
        BurnOptions { trainable, seed, ..BurnOptions::default() },
    )?;
    let initial = match model {
        GraphModelConfig::Mbht(_) => Initial::FanIn,
        GraphModelConfig::LightGcn(_) => Initial::Fixed,
    };
    let weights = Weights::fresh(&b, seed).with_initial(initial);
    let open = |report: &TrainReport| -> Result<Checkpoint> {
        let bytes =
            std::fs::read(&report.weights).map_err(|e| Error::io(report.weights.display(), e))?;
        Checkpoint::from_bytes(super::WEIGHTS, bytes)
    };
    let cpu = Cpu::new();
    let (report, items, behaviours) = match model {
        GraphModelConfig::Mbht(mbht) => {
            if !(0.0..=1.0).contains(&mbht.mask_ratio) {
                let expected = "from 0 to 1";
                let field = "model.mask_ratio";
                return Err(Error::file("configuration", field, expected, mbht.mask_ratio));
            }
            let model_config = config.mbht(mbht, &dataset)?;
            let encoder = Mbht::load(&weights, model_config)?;
            let objective = MbhtObjective::new(encoder, &sequences, mbht.mask_ratio, seed);
            let report = fit(&b, &objective, &fit_config, identity, options, progress)?;
            let tables = open(&report)?;
            (
                report,
                table::values(&tables, table::ITEMS)?,
                table::values(&tables, table::BEHAVIOURS)?,
            )
        }
        GraphModelConfig::LightGcn(lightgcn) => {
            let model_config = config.lightgcn(lightgcn, &dataset)?;
            let encoder = LightGcn::load(&weights, model_config.clone())?;
            let objective = LightGcnObjective::new(encoder, &sequences, lightgcn, seed)?;
            let report = fit(&b, &objective, &fit_config, identity, options, progress)?;
            let tables = open(&report)?;
            let best = LightGcn::load(&Weights::new(&cpu, &tables), model_config)?;
            let items = best.propagated(&cpu, objective.graph())?;
            (report, items.data().to_vec(), table::values(&tables, table::BEHAVIOURS)?)
        }
    };
    let encoder = match model {
        GraphModelConfig::Mbht(_) => "mbht",
        GraphModelConfig::LightGcn(_) => "lightgcn",
    };
    table::write(
        &options.out.join(GRAPH_TABLE),
        &table::Tables { encoder, items, behaviours, present: sequences.present() },
        &dataset,
        &data.path,
    )?;
    Ok(report)
}

/// What decides the weights besides the trainer's own configuration.
fn identity(config: &GraphTrainConfig, dataset: &Dataset) -> Result<Table> {
    let mut hash = Sha256::new();
    dataset.digest(&mut hash);
    config::identity(&config.model, &config.data, hash)
}
