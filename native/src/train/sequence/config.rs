//! The configuration file of a sequence model's training.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tributary_core::models::bpr::BprConfig;
use tributary_core::models::gru4rec::Gru4RecConfig;
use tributary_core::models::lru_rec::LruRecConfig;
use tributary_core::models::sasrec::SasRecConfig;
use tributary_core::models::sequence::{RepeatedItems, SequenceConfig, SequenceItems};
use tributary_core::weights::Initial;
use tributary_core::{Error, Result};

use crate::data::Dataset;
use crate::train::config::{self, TrainingConfig};
use crate::train::optimizer::OptimizerConfig;
use crate::train::schedule::Schedule;

/// `[model]`: the fields of a model's `config.json` that are not found in the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Self-attention.
    Sasrec(SasRecOptions),
    /// A linear recurrent unit.
    LruRec(LruRecOptions),
    /// A gated recurrent unit.
    Gru4rec(Gru4RecOptions),
    /// Matrix factorisation.
    Bpr(BprOptions),
}

/// SASRec in ICLRec's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SasRecOptions {
    /// Width of an item embedding.
    pub hidden_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part; 4 * hidden_size where the file is silent.
    pub intermediate_size: Option<usize>,
    /// Longest sequence, in items.
    pub max_seq_len: usize,
    /// Dropout on embeddings and after each sublayer.
    pub hidden_dropout_prob: f32,
    /// Dropout on attention weights.
    pub attention_probs_dropout_prob: f32,
    /// Only an item's first interaction counts: the task is the next *new* item.
    pub first_occurrences: bool,
}

impl Default for SasRecOptions {
    fn default() -> Self {
        Self {
            hidden_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: None,
            max_seq_len: 50,
            hidden_dropout_prob: 0.2,
            attention_probs_dropout_prob: 0.2,
            first_occurrences: false,
        }
    }
}

/// LRURec with the published sizes where the file is silent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LruRecOptions {
    /// Width of an item embedding.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Complex channels of a recurrence; 2 * hidden_size where the file is silent.
    pub num_channels: Option<usize>,
    /// Width inside the feed-forward part; 4 * hidden_size where the file is silent.
    pub intermediate_size: Option<usize>,
    /// Longest sequence, in items.
    pub max_seq_len: usize,
    /// Dropout on embeddings, after each sublayer and inside the feed-forward part.
    pub hidden_dropout_prob: f32,
    /// Only an item's first interaction counts: the task is the next *new* item.
    pub first_occurrences: bool,
}

impl Default for LruRecOptions {
    fn default() -> Self {
        Self {
            hidden_size: 64,
            num_hidden_layers: 2,
            num_channels: None,
            intermediate_size: None,
            max_seq_len: 50,
            hidden_dropout_prob: 0.2,
            first_occurrences: false,
        }
    }
}

/// GRU4Rec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gru4RecOptions {
    /// Width of an item embedding.
    pub embedding_size: usize,
    /// Width of a unit's state.
    pub hidden_size: usize,
    /// Units, one on top of the other.
    pub num_hidden_layers: usize,
    /// Longest sequence, in items.
    pub max_seq_len: usize,
    /// Dropout on embeddings.
    pub hidden_dropout_prob: f32,
    /// Only an item's first interaction counts: the task is the next *new* item.
    pub first_occurrences: bool,
}

impl Default for Gru4RecOptions {
    fn default() -> Self {
        Self {
            embedding_size: 64,
            hidden_size: 128,
            num_hidden_layers: 1,
            max_seq_len: 50,
            hidden_dropout_prob: 0.3,
            first_occurrences: false,
        }
    }
}

/// BPR over the means of histories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BprOptions {
    /// Number of factors.
    pub hidden_size: usize,
    /// Longest history, in items.
    pub max_seq_len: usize,
    /// Dropout on the users' factors.
    pub hidden_dropout_prob: f32,
    /// Only an item's first interaction counts: the task is the next *new* item.
    pub first_occurrences: bool,
}

impl Default for BprOptions {
    fn default() -> Self {
        Self {
            hidden_size: 64,
            max_seq_len: 50,
            hidden_dropout_prob: 0.0,
            first_occurrences: false,
        }
    }
}

impl ModelConfig {
    /// The `config.json` of this model over `num_items` items, its ranges checked.
    pub(super) fn over(&self, file: &str, num_items: usize) -> Result<SequenceConfig> {
        let items = SequenceItems {
            repeated_items: match self.first_occurrences() {
                true => RepeatedItems::First,
                false => RepeatedItems::Keep,
            },
            ..SequenceItems::new(num_items, self.max_seq_len())
        };
        let config = match self {
            Self::Sasrec(options) => SequenceConfig::SasRec(SasRecConfig {
                items,
                hidden_size: options.hidden_size,
                num_hidden_layers: options.num_hidden_layers,
                num_attention_heads: options.num_attention_heads,
                intermediate_size: options.intermediate_size.unwrap_or(4 * options.hidden_size),
                hidden_dropout_prob: options.hidden_dropout_prob,
                attention_probs_dropout_prob: options.attention_probs_dropout_prob,
                ..SasRecConfig::new(num_items)
            }),
            Self::LruRec(options) => SequenceConfig::LruRec(LruRecConfig {
                items,
                hidden_size: options.hidden_size,
                num_hidden_layers: options.num_hidden_layers,
                num_channels: options.num_channels.unwrap_or(2 * options.hidden_size),
                intermediate_size: options.intermediate_size.unwrap_or(4 * options.hidden_size),
                hidden_dropout_prob: options.hidden_dropout_prob,
                ..LruRecConfig::new(num_items)
            }),
            Self::Gru4rec(options) => SequenceConfig::Gru4Rec(Gru4RecConfig {
                items,
                embedding_size: options.embedding_size,
                hidden_size: options.hidden_size,
                num_hidden_layers: options.num_hidden_layers,
                hidden_dropout_prob: options.hidden_dropout_prob,
            }),
            Self::Bpr(options) => SequenceConfig::Bpr(BprConfig {
                items,
                hidden_size: options.hidden_size,
                hidden_dropout_prob: options.hidden_dropout_prob,
            }),
        };
        SequenceConfig::parse(file, &config.to_json())
    }

    /// Published recipes draw SASRec and LRURec small; a unit whose gates begin closed to its input
    /// does not learn (LOG.md).
    pub(super) fn initial(&self) -> Initial {
        match self {
            Self::Sasrec(_) | Self::LruRec(_) | Self::Bpr(_) => Initial::Fixed,
            Self::Gru4rec(_) => Initial::FanIn,
        }
    }

    /// Longest sequence, in items.
    pub fn max_seq_len(&self) -> usize {
        match self {
            Self::Sasrec(options) => options.max_seq_len,
            Self::LruRec(options) => options.max_seq_len,
            Self::Gru4rec(options) => options.max_seq_len,
            Self::Bpr(options) => options.max_seq_len,
        }
    }

    /// Whether only an item's first interaction counts.
    pub fn first_occurrences(&self) -> bool {
        match self {
            Self::Sasrec(options) => options.first_occurrences,
            Self::LruRec(options) => options.first_occurrences,
            Self::Gru4rec(options) => options.first_occurrences,
            Self::Bpr(options) => options.first_occurrences,
        }
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

impl DataConfig {
    /// The data set, with what is held out chosen.
    pub(in crate::train) fn read(&self, first_occurrences: bool) -> Result<Dataset> {
        let mut dataset = Dataset::read(&self.path)?;
        if let Some(behaviour) = &self.target_behaviour {
            dataset.hold_out(behaviour)?;
        }
        Ok(if first_occurrences { dataset.without_repeats() } else { dataset })
    }

    pub(in crate::train) fn check(&self) -> Result<()> {
        if self.min_sequence_length >= 2 {
            return Ok(());
        }
        let expected = "at least 2: an item and its successor";
        let found = self.min_sequence_length;
        Err(Error::file("configuration", "data.min_sequence_length", expected, found))
    }
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
    pub(in crate::train) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        if let Some(folder) = path.parent() {
            config.data.path = folder.join(&config.data.path);
        }
        Ok(config)
    }
}
