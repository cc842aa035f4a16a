//! `config.json` of a SASRec folder: its fields, their ranges, their words.

use std::ops::RangeInclusive;

use serde_json::json;

use crate::backend::check::TOP_K_COLUMNS;
use crate::error::Result;
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

/// What happens to the scores of items the user has interacted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenItems {
    /// Never recommended.
    Exclude,
    /// Score set to 0 before ranking: ICLRec's published protocol. An item with a negative score
    /// ranks below them.
    ScoreZero,
}

/// What happens to an item's second and later interactions in a user's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatedItems {
    /// The sequence keeps them.
    Keep,
    /// Only an item's first interaction counts: what a model needs whose task is the next *new*
    /// item (view, cart and buy of one item are one step).
    First,
}

/// Items of one model at most: what `top_k` can name.
const MAX_ITEMS: usize = TOP_K_COLUMNS;
const DROPOUT: RangeInclusive<f32> = 0.0..=0.99;

// The words of config.json.
const BLOCKS: [(&str, Block); 2] = [("bert", Block::Bert), ("llara", Block::Llara)];
const PADDING_SIDES: [(&str, PaddingSide); 2] =
    [("left", PaddingSide::Left), ("right", PaddingSide::Right)];
const SEEN_ITEMS: [(&str, SeenItems); 2] =
    [("exclude", SeenItems::Exclude), ("score_zero", SeenItems::ScoreZero)];
const REPEATED_ITEMS: [(&str, RepeatedItems); 2] =
    [("keep", RepeatedItems::Keep), ("first", RepeatedItems::First)];

/// The value whose word the field holds; `default` when it is missing.
fn choice<T: Copy>(
    reader: &ConfigReader,
    name: &str,
    default: Option<T>,
    words: &[(&str, T)],
) -> Result<T> {
    if let Some(default) = default.filter(|_| !reader.has(name)) {
        return Ok(default);
    }
    let found = reader.str(name)?;
    let choice = words.iter().find(|(word, _)| *word == found);
    choice.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        reader.unsupported(name, words.join(", "))
    })
}

fn name_of<T: Copy + PartialEq>(value: T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

/// `config.json` of a SASRec folder.
#[derive(Clone, Debug, PartialEq)]
pub struct SasRecConfig {
    /// The published block.
    pub block: Block,
    /// Items that can be scored.
    pub num_items: usize,
    /// Embedding row of the first item; the others follow.
    pub first_item_id: usize,
    /// Embedding row the original pads with; packed sequences never use it.
    pub pad_item_id: Option<usize>,
    /// Rows of the item embedding table: items, and whatever the original keeps there besides
    /// (padding, mask). Where the file is silent: num_items + 2 for `bert`, + 1 for `llara`.
    pub num_embeddings: usize,
    /// Longest sequence, in items.
    pub max_seq_len: usize,
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
    /// Treatment of seen items in ranking.
    pub seen_items: SeenItems,
    /// Treatment of repeated items in a sequence.
    pub repeated_items: RepeatedItems,
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
            num_items,
            first_item_id: 0,
            pad_item_id: None,
            num_embeddings: num_items,
            max_seq_len: 50,
            padding_side: PaddingSide::Left,
            hidden_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 256,
            layer_norm_eps: 1e-12,
            tie_item_embeddings: true,
            seen_items: SeenItems::Exclude,
            repeated_items: RepeatedItems::Keep,
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
        let num_items = reader.usize("num_items", 1..=MAX_ITEMS)?;
        let first_item_id = reader.usize_or("first_item_id", 0, 0..=MAX_ITEMS)?;
        let num_embeddings = reader.usize_or(
            "num_embeddings",
            num_items + extra_rows,
            first_item_id + num_items..=2 * MAX_ITEMS + extra_rows,
        )?;
        if first_item_id + num_items > num_embeddings {
            let expected = format!(
                "at most {}, so that every item has an embedding row",
                num_embeddings - num_items
            );
            return Err(reader.wrong("first_item_id", expected));
        }
        let items = first_item_id..first_item_id + num_items;
        let pad_item_id = match reader.has("pad_item_id") {
            true => Some(reader.usize("pad_item_id", 0..=num_embeddings - 1)?),
            false => None,
        };
        if pad_item_id.is_some_and(|id| items.contains(&id)) {
            return Err(reader.wrong("pad_item_id", format!("an id outside the items {items:?}")));
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
            num_items,
            first_item_id,
            pad_item_id,
            num_embeddings,
            max_seq_len: reader.usize("max_seq_len", 1..=65_536)?,
            padding_side: choice(&reader, "padding_side", Some(padding_side), &PADDING_SIDES)?,
            hidden_size,
            num_hidden_layers: reader.usize_or("num_hidden_layers", 1, layers)?,
            num_attention_heads,
            intermediate_size: reader.usize("intermediate_size", 1..=65_536)?,
            layer_norm_eps: reader.f32("layer_norm_eps", 0.0..=1.0)?,
            tie_item_embeddings,
            seen_items: choice(&reader, "seen_items", Some(SeenItems::Exclude), &SEEN_ITEMS)?,
            repeated_items: choice(
                &reader,
                "repeated_items",
                Some(RepeatedItems::Keep),
                &REPEATED_ITEMS,
            )?,
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
        let text = json!({
            "model_type": "sasrec",
            "block": name_of(self.block, &BLOCKS),
            "num_items": self.num_items,
            "first_item_id": self.first_item_id,
            "pad_item_id": self.pad_item_id,
            "num_embeddings": self.num_embeddings,
            "max_seq_len": self.max_seq_len,
            "padding_side": name_of(self.padding_side, &PADDING_SIDES),
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": hidden_act,
            "layer_norm_eps": self.layer_norm_eps,
            "tie_item_embeddings": self.tie_item_embeddings,
            "seen_items": name_of(self.seen_items, &SEEN_ITEMS),
            "repeated_items": name_of(self.repeated_items, &REPEATED_ITEMS),
            "hidden_dropout_prob": self.hidden_dropout_prob,
            "attention_probs_dropout_prob": self.attention_probs_dropout_prob,
        });
        format!("{text:#}\n")
    }

    /// The embedding row of the item with this dense index, below `num_items`.
    pub fn row(&self, index: u32) -> u32 {
        index + self.first_item_id as u32
    }

    /// The column of [`SasRec::scores`] of the item with this dense index.
    pub fn column(&self, index: u32) -> u32 {
        if self.tie_item_embeddings { self.row(index) } else { index }
    }

    /// Columns of [`SasRec::scores`].
    pub fn num_columns(&self) -> usize {
        if self.tie_item_embeddings { self.num_embeddings } else { self.num_items }
    }
}
