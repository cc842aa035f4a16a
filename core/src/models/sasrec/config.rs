//! `config.json` of a SASRec folder: its fields, their ranges, their words.

use serde_json::json;

use crate::error::Result;
use crate::models::sequence_items::{DROPOUT, SequenceItems, choice, name_of};
use crate::weights::ConfigReader;

/// Which published block a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Post-norm, erf-GELU, tied scores (ICLRec).
    Bert,
    /// LLaRA's: normalised queries, ReLU, scores from `s_fc`.
    Llara,
}

/// On which side the original implementation pads, which decides the positions of a short sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaddingSide {
    /// Positions max_seq_len - seq_len .. max_seq_len.
    Left,
    /// Positions 0 .. seq_len.
    Right,
}

// The words of config.json.
const BLOCKS: [(&str, Block); 2] = [("bert", Block::Bert), ("llara", Block::Llara)];
const PADDING_SIDES: [(&str, PaddingSide); 2] =
    [("left", PaddingSide::Left), ("right", PaddingSide::Right)];

/// `config.json` of a SASRec folder.
#[derive(Clone, Debug, PartialEq)]
pub struct SasRecConfig {
    /// The published block.
    pub block: Block,
    /// Its items. Where the file is silent there are num_items + 2 embeddings for `bert`, + 1 for
    /// `llara`.
    pub items: SequenceItems,
    /// Embedding row the original pads with; packed sequences never use it.
    pub pad_item_id: Option<usize>,
    /// Where the original pads.
    pub padding_side: PaddingSide,
    /// Width of an item embedding.
    pub hidden_size: usize,
    /// Depth; 1 for `llara`.
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Stabilizer of every layer norm.
    pub layer_norm_eps: f32,
    /// Scores from the item embeddings themselves (`bert`) or from `s_fc` (`llara`).
    pub tie_item_embeddings: bool,
    /// Dropout on embeddings and after each sublayer, while training.
    pub hidden_dropout_prob: f32,
    /// Dropout on attention weights, while training.
    pub attention_probs_dropout_prob: f32,
}

impl SasRecConfig {
    /// A new `bert` model over `num_items` items with the sizes ICLRec published for Beauty; rows
    /// are items and nothing else.
    pub fn new(num_items: usize) -> Self {
        Self {
            block: Block::Bert,
            items: SequenceItems::new(num_items, 50),
            pad_item_id: None,
            padding_side: PaddingSide::Left,
            hidden_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 256,
            layer_norm_eps: 1e-12,
            tie_item_embeddings: true,
            hidden_dropout_prob: 0.5,
            attention_probs_dropout_prob: 0.5,
        }
    }

    /// Reads `config.json`; `file` names it in errors. Every size is within the documented limits
    /// before anything is computed from it.
    ///
    /// # Errors
    /// A field that is missing, of the wrong type or out of range, by name; a model type, block or
    /// activation that is not one of ours.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        if reader.str("model_type")? != "sasrec" {
            return Err(reader.unsupported("model_type", "sasrec"));
        }
        let block = choice(&reader, "block", None, &BLOCKS)?;
        let (extra_rows, hidden_act, padding_side) = match block {
            Block::Bert => (2, "gelu", PaddingSide::Left),
            Block::Llara => (1, "relu", PaddingSide::Right),
        };
        if reader.str_or("hidden_act", hidden_act)? != hidden_act {
            return Err(reader.unsupported("hidden_act", hidden_act));
        }
        let items = SequenceItems::parse(&reader, extra_rows)?;
        let pad_item_id = match reader.has("pad_item_id") {
            true => Some(reader.usize("pad_item_id", 0..=items.num_embeddings - 1)?),
            false => None,
        };
        let rows = items.first_item_id..items.first_item_id + items.num_items;
        if pad_item_id.is_some_and(|id| rows.contains(&id)) {
            return Err(reader.wrong("pad_item_id", format!("an id outside the items {rows:?}")));
        }
        let hidden_size = reader.usize("hidden_size", 1..=8192)?;
        let num_attention_heads = reader.usize("num_attention_heads", 1..=hidden_size)?;
        if hidden_size % num_attention_heads != 0 {
            let expected = format!("a divisor of hidden_size {hidden_size}");
            return Err(reader.wrong("num_attention_heads", expected));
        }
        let layers = match block {
            Block::Bert => 1..=64,
            Block::Llara => 1..=1,
        };
        let tie_item_embeddings = reader.bool_or("tie_item_embeddings", block == Block::Bert)?;
        if tie_item_embeddings != (block == Block::Bert) {
            let supported = "true for `bert`, false for `llara`";
            return Err(reader.unsupported("tie_item_embeddings", supported));
        }
        Ok(Self {
            block,
            items,
            pad_item_id,
            padding_side: choice(&reader, "padding_side", Some(padding_side), &PADDING_SIDES)?,
            hidden_size,
            num_hidden_layers: reader.usize_or("num_hidden_layers", 1, layers)?,
            num_attention_heads,
            intermediate_size: reader.usize("intermediate_size", 1..=65_536)?,
            layer_norm_eps: reader.f32("layer_norm_eps", 0.0..=1.0)?,
            tie_item_embeddings,
            hidden_dropout_prob: reader.f32_or("hidden_dropout_prob", 0.0, DROPOUT)?,
            attention_probs_dropout_prob: reader.f32_or(
                "attention_probs_dropout_prob",
                0.0,
                DROPOUT,
            )?,
        })
    }

    /// The text of a `config.json` that [`SasRecConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        let hidden_act = match self.block {
            Block::Bert => "gelu",
            Block::Llara => "relu",
        };
        self.items.to_json(json!({
            "model_type": "sasrec",
            "block": name_of(self.block, &BLOCKS),
            "pad_item_id": self.pad_item_id,
            "padding_side": name_of(self.padding_side, &PADDING_SIDES),
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": hidden_act,
            "layer_norm_eps": self.layer_norm_eps,
            "tie_item_embeddings": self.tie_item_embeddings,
            "hidden_dropout_prob": self.hidden_dropout_prob,
            "attention_probs_dropout_prob": self.attention_probs_dropout_prob,
        }))
    }
}
