//! `config.json` of an MBHT folder: its fields and their ranges.

use std::ops::RangeInclusive;

use serde_json::json;

use crate::backend::check::TOP_K_COLUMNS;
use crate::error::{Error, Result};
use crate::weights::ConfigReader;

/// Longest sequence, in slots: the linears over positions grow with its square.
pub const MAX_POSITIONS: usize = 4096;
/// Most kinds of behaviour.
pub const MAX_BEHAVIOURS: usize = 256;
const DROPOUT: RangeInclusive<f32> = 0.0..=0.99;

/// `config.json` of an MBHT folder.
#[derive(Clone, Debug, PartialEq)]
pub struct MbhtConfig {
    /// Items that can be scored.
    pub num_items: usize,
    /// Names of the behaviours, in the order of their rows.
    pub behaviours: Vec<String>,
    /// The behaviour that is predicted where nothing else is asked; one of `behaviours`.
    pub target_behaviour: String,
    /// Longest sequence, in events, the asked slot included.
    pub max_seq_len: usize,
    /// Width of an item embedding.
    pub hidden_size: usize,
    /// Depth of the transformer.
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Keys that low-rank attention keeps of a sequence (the paper's first scale).
    pub low_rank: usize,
    /// Neighbouring slots that are averaged into one, for each further scale of attention.
    pub pool_sizes: Vec<usize>,
    /// Other items that a hyperedge joins with an item: those most similar.
    pub hyperedge_size: usize,
    /// Depth of the hypergraph's convolution; the output is the mean of all layers.
    pub num_hypergraph_layers: usize,
    /// Events before an asked slot whose hypergraph embeddings stand for it.
    pub window_before: usize,
    /// As many after it; while recommending there are none.
    pub window_after: usize,
    /// Stabilizer of every layer norm.
    pub layer_norm_eps: f32,
    /// Dropout on embeddings and after each sublayer, while training.
    pub hidden_dropout_prob: f32,
    /// Dropout on attention weights, while training.
    pub attention_probs_dropout_prob: f32,
    /// Dropout between layers of the hypergraph, while training.
    pub hypergraph_dropout_prob: f32,
}

impl MbhtConfig {
    /// A new model with the sizes published for Retailrocket, but sequences of 50.
    pub fn new(num_items: usize, behaviours: Vec<String>, target_behaviour: String) -> Self {
        Self {
            num_items,
            behaviours,
            target_behaviour,
            max_seq_len: 50,
            hidden_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 256,
            low_rank: 10,
            pool_sizes: vec![4, 20],
            hyperedge_size: 6,
            num_hypergraph_layers: 2,
            window_before: 10,
            window_after: 6,
            layer_norm_eps: 1e-12,
            hidden_dropout_prob: 0.5,
            attention_probs_dropout_prob: 0.5,
            hypergraph_dropout_prob: 0.2,
        }
    }

    /// Reads `config.json`; `file` names it in errors. Every size is within the documented limits
    /// before anything is computed from it.
    ///
    /// # Errors
    /// A field that is missing, of the wrong type or out of range, by name; another model type.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        if reader.str("model_type")? != "mbht" {
            return Err(reader.unsupported("model_type", "mbht"));
        }
        let new = Self::new(0, Vec::new(), String::new());
        let (behaviours, target_behaviour) = behaviours(&reader)?;
        let hidden_size = reader.usize("hidden_size", 1..=8192)?;
        let num_attention_heads = reader.usize("num_attention_heads", 1..=hidden_size)?;
        if hidden_size % num_attention_heads != 0 {
            let expected = format!("a divisor of hidden_size {hidden_size}");
            return Err(reader.wrong("num_attention_heads", expected));
        }
        let dropout = |name, default| reader.f32_or(name, default, DROPOUT);
        Ok(Self {
            num_items: reader.usize("num_items", 1..=TOP_K_COLUMNS)?,
            behaviours,
            target_behaviour,
            max_seq_len: reader.usize("max_seq_len", 1..=MAX_POSITIONS)?,
            hidden_size,
            num_hidden_layers: reader.usize("num_hidden_layers", 1..=64)?,
            num_attention_heads,
            intermediate_size: reader.usize("intermediate_size", 1..=65_536)?,
            low_rank: reader.usize_or("low_rank", new.low_rank, 1..=MAX_POSITIONS)?,
            pool_sizes: reader.usizes("pool_sizes", 1..=MAX_POSITIONS)?,
            hyperedge_size: reader.usize_or("hyperedge_size", new.hyperedge_size, 0..=64)?,
            num_hypergraph_layers: reader.usize_or(
                "num_hypergraph_layers",
                new.num_hypergraph_layers,
                1..=16,
            )?,
            window_before: reader.usize_or(
                "window_before",
                new.window_before,
                0..=MAX_POSITIONS,
            )?,
            window_after: reader.usize_or("window_after", new.window_after, 0..=MAX_POSITIONS)?,
            layer_norm_eps: reader.f32_or("layer_norm_eps", new.layer_norm_eps, 0.0..=1.0)?,
            hidden_dropout_prob: dropout("hidden_dropout_prob", 0.0)?,
            attention_probs_dropout_prob: dropout("attention_probs_dropout_prob", 0.0)?,
            hypergraph_dropout_prob: dropout("hypergraph_dropout_prob", 0.0)?,
        })
    }

    /// The text of a `config.json` that [`MbhtConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        let text = json!({
            "model_type": "mbht",
            "num_items": self.num_items,
            "behaviours": self.behaviours,
            "target_behaviour": self.target_behaviour,
            "max_seq_len": self.max_seq_len,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "low_rank": self.low_rank,
            "pool_sizes": self.pool_sizes,
            "hyperedge_size": self.hyperedge_size,
            "num_hypergraph_layers": self.num_hypergraph_layers,
            "window_before": self.window_before,
            "window_after": self.window_after,
            "layer_norm_eps": self.layer_norm_eps,
            "hidden_dropout_prob": self.hidden_dropout_prob,
            "attention_probs_dropout_prob": self.attention_probs_dropout_prob,
            "hypergraph_dropout_prob": self.hypergraph_dropout_prob,
        });
        format!("{text:#}\n")
    }
}

/// The names in `behaviours`: 1 to [`MAX_BEHAVIOURS`], distinct, without a comma, since graph
/// tables join them by commas; and `target_behaviour`, one of them.
pub(in super::super) fn behaviours(reader: &ConfigReader) -> Result<(Vec<String>, String)> {
    let names = reader.texts("behaviours")?;
    check_behaviours(&names)
        .map_err(|_| reader.wrong("behaviours", "1 to 256 distinct names without commas"))?;
    let target = reader.str("target_behaviour")?.to_owned();
    match names.contains(&target) {
        true => Ok((names, target)),
        false => Err(reader.wrong("target_behaviour", format!("one of {}", names.join(", ")))),
    }
}

/// The rule of behaviour names, for whoever makes a configuration.
///
/// # Errors
/// No name, more than [`MAX_BEHAVIOURS`], an empty one, one with a comma, one that comes twice.
pub fn check_behaviours(names: &[String]) -> Result<()> {
    let is_wrong = |(i, name): (usize, &String)| {
        name.is_empty() || name.contains(',') || names.iter().take(i).any(|known| known == name)
    };
    let found = match names.len() {
        0 => "none".to_owned(),
        n if n > MAX_BEHAVIOURS => n.to_string(),
        _ => match names.iter().enumerate().find(|&pair| is_wrong(pair)) {
            Some((_, name)) => format!("`{name}`"),
            None => return Ok(()),
        },
    };
    let expected = format!("1 to {MAX_BEHAVIOURS} distinct names without commas");
    Err(Error::argument("graph", "behaviours", expected, found))
}
