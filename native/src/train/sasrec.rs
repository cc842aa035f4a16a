//! Training SASRec from a data set: full softmax cross-entropy over all items at every position of
//! every user's sequence, validated on the leave-one-out split.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::Table;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::sasrec::{RepeatedItems, SasRecConfig};
use tributary_core::recommend::{ItemIndex, Recommender, SequenceRecommender, first_occurrences};
use tributary_core::weights::Weights;
use tributary_core::{Context, Error, Result};

use super::burn_backend::{Burn, BurnOptions, Trainable};
use super::checkpoint::write_atomically;
use super::config::{self, FitConfig, TrainingConfig};
use super::optimizer::OptimizerConfig;
use super::progress::Event;
use super::schedule::Schedule;
use super::trainer::{FitOptions, Losses, Objective, TrainReport, fit};
use crate::data::{CATALOGUE_FILE, Dataset, Split, SplitRule, UserSequence};
use crate::evaluate::{Candidates, EvaluateOptions, evaluate};

/// What a configuration file trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Self-attention over a user's items.
    Sasrec,
}

/// `[model]`: the fields of SASRec's `config.json` that are not found in the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// `sasrec`.
    pub kind: ModelKind,
    /// Width of an item embedding.
    #[serde(default = "hidden_size")]
    pub hidden_size: usize,
    /// Depth.
    #[serde(default = "num_hidden_layers")]
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    #[serde(default = "num_attention_heads")]
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part; 4 * hidden_size where the file is silent.
    pub intermediate_size: Option<usize>,
    /// Longest sequence, in items.
    #[serde(default = "max_seq_len")]
    pub max_seq_len: usize,
    /// Dropout on embeddings and after each sublayer.
    #[serde(default = "dropout")]
    pub hidden_dropout_prob: f32,
    /// Dropout on attention weights.
    #[serde(default = "dropout")]
    pub attention_probs_dropout_prob: f32,
    /// Only an item's first interaction counts: the task is the next *new* item.
    #[serde(default)]
    pub first_occurrences: bool,
}

fn hidden_size() -> usize {
    64
}
fn num_hidden_layers() -> usize {
    2
}
fn num_attention_heads() -> usize {
    2
}
fn max_seq_len() -> usize {
    50
}
fn dropout() -> f32 {
    0.2
}

impl ModelConfig {
    /// The `config.json` of this model over `num_items` items, its ranges checked.
    fn sasrec(&self, file: &str, num_items: usize) -> Result<SasRecConfig> {
        let config = SasRecConfig {
            max_seq_len: self.max_seq_len,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size.unwrap_or(4 * self.hidden_size),
            hidden_dropout_prob: self.hidden_dropout_prob,
            attention_probs_dropout_prob: self.attention_probs_dropout_prob,
            repeated_items: match self.first_occurrences {
                true => RepeatedItems::First,
                false => RepeatedItems::Keep,
            },
            ..SasRecConfig::new(num_items)
        };
        SasRecConfig::parse(file, &config.to_json())
    }
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A data file or folder; relative to the folder of the configuration file.
    pub path: PathBuf,
    /// Users with fewer items to train on are left out; at least 2.
    #[serde(default = "min_sequence_length")]
    pub min_sequence_length: usize,
    /// What is to be predicted is the next item that a user does this to (`buy`): what the data
    /// holds out for validation and test, and what precedes it, is chosen by it.
    pub target_behaviour: Option<String>,
    /// Among how many candidates validation targets are ranked; all items where the file is silent.
    pub validation_candidates: Option<usize>,
    /// Validate on the first so many users; all where the file is silent.
    pub validation_users: Option<usize>,
    /// Terms under which what is trained from this data may be used; written into the bundle.
    pub licence: Option<String>,
}

fn min_sequence_length() -> usize {
    2
}

/// A training configuration file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// `[model]`.
    pub model: ModelConfig,
    /// `[data]`.
    pub data: DataConfig,
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

impl TrainConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// A file that cannot be read; the first unknown key, missing key or wrong type, with its line.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &config::text(path, &[])?)
    }

    /// The same from the `text` of the file.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        if let Some(folder) = path.parent() {
            config.data.path = folder.join(&config.data.path);
        }
        Ok(config)
    }
}

/// Trains what `config` describes; see [`fit`] for what is written and how it resumes. Beside the
/// weights, `options.out` gets `config.json` and `catalogue.jsonl`: a folder that every backend
/// loads.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; data that cannot be read.
pub fn run(
    config: &TrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    let TrainConfig { model, data, training, optimizer, schedule } = config;
    let fit_config = FitConfig::checked(training, optimizer, schedule)?;
    if data.min_sequence_length < 2 {
        let expected = "at least 2: an item and its successor";
        let found = data.min_sequence_length;
        return Err(Error::file("configuration", "data.min_sequence_length", expected, found));
    }
    let ModelKind::Sasrec = model.kind;
    let mut dataset = Dataset::read(&data.path)?;
    if let Some(behaviour) = &data.target_behaviour {
        dataset.hold_out(behaviour)?;
    }
    let dataset = if model.first_occurrences { dataset.without_repeats() } else { dataset };
    let sasrec = model.sasrec("model", dataset.catalogue.len())?;

    let seed = u64::from(config.training.seed);
    let trainable = Trainable::Everything;
    let b = Burn::new(
        config.training.device,
        BurnOptions { trainable, seed, ..BurnOptions::default() },
    )?;
    let mut catalogue = dataset.catalogue.clone();
    catalogue.set_popularity(&dataset.popularity())?;
    let weights = Weights::fresh(&b, seed);
    let recommender = SequenceRecommender::load(&weights, sasrec, Some(catalogue))?;
    let objective = SasRecObjective::new(recommender, &dataset, config, &fit_config)?;

    fit(&b, &objective, &fit_config, identity(config, &dataset)?, options, progress)
}

/// What decides the weights besides the trainer's own configuration. A data set is what it holds,
/// not where it lies.
fn identity(config: &TrainConfig, dataset: &Dataset) -> Result<Table> {
    let mut hash = Sha256::new();
    hash.update((dataset.catalogue.len() as u64).to_le_bytes());
    for user in &dataset.users {
        hash.update((user.items.len() as u64).to_le_bytes());
        user.items.iter().for_each(|item| hash.update(item.to_le_bytes()));
        user.behaviours.iter().for_each(|behaviour| hash.update(behaviour.to_le_bytes()));
    }
    config::identity(&config.model, &config.data, hash)
}

/// One user's items to train on.
struct Example {
    /// Index into the data set's users.
    user: usize,
    items: Vec<ItemIndex>,
    /// Places in `items` whose successor is to be predicted.
    asked: Vec<u32>,
}

/// Where something is to be predicted in `items`, which are of this user: everywhere, or where the
/// targets are of one behaviour, before each item's first event if the user did that to it.
fn asked(dataset: &Dataset, sequence: &UserSequence, items: &[ItemIndex]) -> Vec<u32> {
    let places = 0..items.len().saturating_sub(1);
    let Some(target) = dataset.target_behaviour() else {
        return places.map(|at| at as u32).collect();
    };
    let held_out = dataset.training_len(sequence);
    let pairs = sequence.items.iter().zip(&sequence.behaviours).take(held_out);
    let wanted: HashSet<ItemIndex> = pairs
        .filter(|&(_, &behaviour)| dataset.behaviours[usize::from(behaviour)] == target)
        .map(|(&item, _)| item)
        .collect();
    let mut seen: HashSet<ItemIndex> = items.first().copied().into_iter().collect();
    let new = places.filter(|&at| seen.insert(items[at + 1]));
    new.filter(|&at| wanted.contains(&items[at + 1])).map(|at| at as u32).collect()
}

struct SasRecObjective<'a> {
    recommender: SequenceRecommender<Burn>,
    dataset: &'a Dataset,
    examples: Vec<Example>,
    metric: String,
    validation: EvaluateOptions,
}

impl<'a> SasRecObjective<'a> {
    fn new(
        recommender: SequenceRecommender<Burn>,
        dataset: &'a Dataset,
        config: &TrainConfig,
        fit_config: &FitConfig,
    ) -> Result<Self> {
        let longest = config.model.max_seq_len + 1;
        let examples = dataset.users.iter().enumerate().filter_map(|(user, sequence)| {
            let items = &sequence.items[..dataset.training_len(sequence)];
            let items = match config.model.first_occurrences {
                true => first_occurrences(items),
                false => items.to_vec(),
            };
            if items.len() < config.data.min_sequence_length {
                return None;
            }
            let items = items[items.len().saturating_sub(longest)..].to_vec();
            let asked = asked(dataset, sequence, &items);
            (!asked.is_empty()).then_some(Example { user, items, asked })
        });
        let examples = examples.collect();
        let metric = config.training.metric.clone();
        let candidates = match config.data.validation_candidates {
            Some(num_candidates) => Candidates::Exact { num_candidates },
            None => Candidates::All,
        };
        let validation = EvaluateOptions {
            split: Split::Valid,
            candidates,
            k: vec![fit_config.metric_k()?],
            users: config.data.validation_users,
            ..EvaluateOptions::default()
        };
        Ok(Self { recommender, dataset, examples, metric, validation })
    }
}

impl Objective for SasRecObjective<'_> {
    fn examples(&self) -> usize {
        self.examples.len()
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let model = self.recommender.model();
        let config = model.config();
        let examples = || examples.iter().map(|&example| &self.examples[example as usize]);
        let lengths: Vec<usize> = examples().map(|example| example.items.len() - 1).collect();
        let segments = Segments::new(&lengths)?;
        let inputs: Vec<u32> = examples()
            .flat_map(|example| &example.items[..example.items.len() - 1])
            .map(|&item| config.row(item))
            .collect();
        let hidden = model.forward(b, &inputs, &segments)?;
        let successors = examples()
            .flat_map(|example| example.asked.iter().map(|&at| example.items[at as usize + 1]));
        let targets: Vec<u32> = successors.map(|item| config.column(item)).collect();
        let asked: Vec<u32> = examples()
            .zip(segments.iter())
            .flat_map(|(example, rows)| example.asked.iter().map(move |at| rows.start as u32 + at))
            .collect();
        let hidden = match asked.len() == inputs.len() {
            true => hidden,
            false => b.gather_rows(&hidden, &asked)?,
        };
        let scores = model.scores(b, &hidden)?;
        let lengths: Vec<usize> = examples().map(|example| example.asked.len()).collect();
        let segments = Segments::new(&lengths)?;
        Ok(Losses { rows: b.cross_entropy(&scores, &targets)?, segments })
    }

    fn example_name(&self, example: u32) -> String {
        let user = self.examples.get(example as usize).map(|example| example.user);
        let name = user.and_then(|user| self.dataset.users.get(user)).map(|user| &user.user);
        format!("user {}", name.map_or("?", String::as_str))
    }

    fn metric(&self) -> &str {
        &self.metric
    }

    fn validate(&self, _b: &Burn) -> Result<Option<f64>> {
        if self.dataset.split == SplitRule::Given {
            // Somebody split already and kept the validation part elsewhere.
            return Ok(None);
        }
        let catalogue = self.recommender.catalogue();
        let evaluation =
            evaluate(&self.recommender, catalogue, self.dataset, &self.validation, |_, _| ())
                .at(|| "validation")?;
        Ok(evaluation.metrics.get(&self.metric).copied())
    }

    fn describe(&self, folder: &Path) -> Result<()> {
        let config_json = self.recommender.model().config().to_json();
        write_atomically(&folder.join("config.json"), config_json.as_bytes())?;
        let catalogue = self.recommender.catalogue().to_jsonl()?;
        write_atomically(&folder.join(CATALOGUE_FILE), catalogue.as_bytes())
    }
}
