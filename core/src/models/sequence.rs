//! Any sequence model: items in, hidden states and scores of all items out. Which one is what
//! `model_type` in `config.json` says.

pub use super::sequence_items::{RepeatedItems, SeenItems, SequenceItems};

use super::almost_rec::{AlmostRec, AlmostRecConfig};
use super::bpr::{Bpr, BprConfig};
use super::gru4rec::{Gru4Rec, Gru4RecConfig};
use super::lru_rec::{LruRec, LruRecConfig};
use super::sasrec::{SasRec, SasRecConfig};
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::weights::{ConfigReader, Weights};

/// `config.json` of a sequence model.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceConfig {
    /// Self-attention.
    SasRec(SasRecConfig),
    /// A linear recurrent unit.
    LruRec(LruRecConfig),
    /// A gated recurrent unit.
    Gru4Rec(Gru4RecConfig),
    /// Matrix factorisation.
    Bpr(BprConfig),
    /// A multimodal language model; read by [`AlmostRecConfig::parse`] from a file of its own.
    AlmostRec(AlmostRecConfig),
}

impl SequenceConfig {
    /// The values of `model_type` in `config.json`.
    pub const MODEL_TYPES: [&'static str; 4] = ["sasrec", "lru_rec", "gru4rec", "bpr"];

    /// Reads `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// Another `model_type`; whatever that model's own configuration refuses.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        match reader.str("model_type")? {
            "sasrec" => SasRecConfig::parse(file, text).map(Self::SasRec),
            "lru_rec" => LruRecConfig::parse(file, text).map(Self::LruRec),
            "gru4rec" => Gru4RecConfig::parse(file, text).map(Self::Gru4Rec),
            "bpr" => BprConfig::parse(file, text).map(Self::Bpr),
            _ => Err(reader.unsupported("model_type", Self::MODEL_TYPES.join(", "))),
        }
    }

    /// The text that [`SequenceConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        match self {
            Self::SasRec(config) => config.to_json(),
            Self::LruRec(config) => config.to_json(),
            Self::Gru4Rec(config) => config.to_json(),
            Self::Bpr(config) => config.to_json(),
            Self::AlmostRec(config) => config.to_json(),
        }
    }

    /// The value of `model_type`.
    pub fn model_type(&self) -> &'static str {
        match self {
            Self::SasRec(_) => "sasrec",
            Self::LruRec(_) => "lru_rec",
            Self::Gru4Rec(_) => "gru4rec",
            Self::Bpr(_) => "bpr",
            Self::AlmostRec(_) => "almostrec",
        }
    }

    /// Its items.
    pub fn items(&self) -> &SequenceItems {
        match self {
            Self::SasRec(config) => &config.items,
            Self::LruRec(config) => &config.items,
            Self::Gru4Rec(config) => &config.items,
            Self::Bpr(config) => &config.items,
            Self::AlmostRec(config) => &config.items,
        }
    }

    /// The column of [`SequenceModel::scores`] of the item with this dense index.
    pub fn column(&self, index: u32) -> u32 {
        if self.is_tied() { self.items().row(index) } else { index }
    }

    /// Columns of [`SequenceModel::scores`].
    pub fn num_columns(&self) -> usize {
        if self.is_tied() { self.items().num_embeddings } else { self.items().num_items }
    }

    /// Whether scores are products with the item embeddings.
    fn is_tied(&self) -> bool {
        match self {
            Self::SasRec(config) => config.tie_item_embeddings,
            Self::LruRec(_) | Self::Gru4Rec(_) => true,
            Self::Bpr(_) | Self::AlmostRec(_) => false,
        }
    }
}

impl From<SasRecConfig> for SequenceConfig {
    fn from(config: SasRecConfig) -> Self {
        Self::SasRec(config)
    }
}

/// A sequence model of any kind.
#[derive(Debug)]
pub struct SequenceModel<B: Backend> {
    config: SequenceConfig,
    layers: Layers<B>,
}

#[derive(Debug)]
enum Layers<B: Backend> {
    Attentive(SasRec<B>),
    Recurrent(LruRec<B>),
    Gated(Gru4Rec<B>),
    Factorised(Bpr<B>),
    Multimodal(Box<AlmostRec<B>>),
}

impl<B: Backend> SequenceModel<B> {
    /// Reads the model's tensors, at the root of the checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name; ALMOSTRec, which is more than its
    /// tensors: see [`SequenceModel::almost_rec`].
    pub fn load(weights: &Weights<'_, B>, config: SequenceConfig) -> Result<Self> {
        let layers = match config.clone() {
            SequenceConfig::SasRec(config) => Layers::Attentive(SasRec::load(weights, config)?),
            SequenceConfig::LruRec(config) => Layers::Recurrent(LruRec::load(weights, config)?),
            SequenceConfig::Gru4Rec(config) => Layers::Gated(Gru4Rec::load(weights, config)?),
            SequenceConfig::Bpr(config) => Layers::Factorised(Bpr::load(weights, config)?),
            SequenceConfig::AlmostRec(_) => {
                let expected = SequenceConfig::MODEL_TYPES.join(", ");
                return Err(Error::argument("load", "config", expected, config.model_type()));
            }
        };
        Ok(Self { config, layers })
    }

    /// ALMOSTRec as a sequence model.
    pub fn almost_rec(model: AlmostRec<B>) -> Self {
        let config = SequenceConfig::AlmostRec(model.config().clone());
        Self { config, layers: Layers::Multimodal(Box::new(model)) }
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &SequenceConfig {
        &self.config
    }

    /// Hidden state after each item: (rows, hidden_size). `items` are embedding rows
    /// ([`SequenceItems::row`]), oldest first, of all sequences that `segments` describes; row i
    /// depends on the items of its own segment up to i.
    ///
    /// # Errors
    /// A segment longer than `max_seq_len`, but of a recurrence; an item outside the table, a count that differs from
    /// the segments' rows.
    pub fn forward(&self, b: &B, items: &[u32], segments: &Segments) -> Result<B::Tensor> {
        match &self.layers {
            Layers::Attentive(model) => model.forward(b, items, segments),
            Layers::Recurrent(model) => model.forward(b, items, segments),
            Layers::Gated(model) => model.forward(b, items, segments),
            Layers::Factorised(model) => model.forward(b, items, segments),
            Layers::Multimodal(model) => model.forward(b, items, segments),
        }
    }

    /// Scores of every item as the next one: (rows, hidden_size) -> (rows, `num_columns`). Item
    /// `index` is in column [`SequenceConfig::column`]; columns of no item (padding, mask) mean
    /// nothing.
    pub fn scores(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        match &self.layers {
            Layers::Attentive(model) => model.scores(b, hidden),
            Layers::Recurrent(model) => model.scores(b, hidden),
            Layers::Gated(model) => model.scores(b, hidden),
            Layers::Factorised(model) => model.scores(b, hidden),
            Layers::Multimodal(model) => model.scores(b, hidden),
        }
    }

    /// Sequences of one pass at most: those of a language model are long.
    pub fn batch(&self) -> usize {
        match self.layers {
            Layers::Multimodal(_) => 16,
            _ => usize::MAX,
        }
    }

    /// The multimodal language model inside.
    pub fn multimodal(&self) -> Option<&AlmostRec<B>> {
        match &self.layers {
            Layers::Multimodal(model) => Some(model),
            _ => None,
        }
    }

    /// The linear recurrence inside, whose state one event moves by one step.
    pub fn recurrent(&self) -> Option<&LruRec<B>> {
        match &self.layers {
            Layers::Recurrent(model) => Some(model),
            _ => None,
        }
    }

    /// The factorisation inside, which is trained by pairs of items.
    pub fn factorised(&self) -> Option<&Bpr<B>> {
        match &self.layers {
            Layers::Factorised(model) => Some(model),
            _ => None,
        }
    }
}
