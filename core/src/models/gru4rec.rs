//! GRU4Rec: a gated recurrent unit over a user's items (Hidasi et al., ICLR 2016, arXiv
//! 1511.06939), in the form with tied scores that sequence recommenders are compared with today:
//! the last hidden state, brought to the width of an embedding, times the item embeddings.
//!
//! The unit is that of Cho et al. as torch has it: with r, z, n stacked in this order in the weights,
//! n = tanh(W_n x + b + r * (U_n h + c)), h' = (1 - z) n + z h.
//!
//! Unusual: it is composed of the operations of all models, a step of all sequences at a time. A
//! baseline needs no kernel of its own.

use serde_json::json;

use super::sequence_items::{DROPOUT, SequenceItems};
use crate::backend::{Activation, Backend, Mix, Segments};
use crate::error::{Context, Result};
use crate::nn::Linear;
use crate::weights::{ConfigReader, Weights};

/// `config.json` of a GRU4Rec folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Gru4RecConfig {
    /// Its items.
    pub items: SequenceItems,
    /// Width of an item embedding.
    pub embedding_size: usize,
    /// Width of a unit's state.
    pub hidden_size: usize,
    /// Units, one on top of the other.
    pub num_hidden_layers: usize,
    /// Dropout on embeddings, while training.
    pub hidden_dropout_prob: f32,
}

impl Gru4RecConfig {
    /// A new model over `num_items` items: embeddings of 64, one unit of 128.
    pub fn new(num_items: usize) -> Self {
        Self {
            items: SequenceItems::new(num_items, 50),
            embedding_size: 64,
            hidden_size: 128,
            num_hidden_layers: 1,
            hidden_dropout_prob: 0.3,
        }
    }

    /// Reads `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing, of the wrong type or out of range, by name; another model type.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        if reader.str("model_type")? != "gru4rec" {
            return Err(reader.unsupported("model_type", "gru4rec"));
        }
        Ok(Self {
            items: SequenceItems::parse(&reader, 0)?,
            embedding_size: reader.usize("embedding_size", 1..=8192)?,
            hidden_size: reader.usize("hidden_size", 1..=8192)?,
            num_hidden_layers: reader.usize("num_hidden_layers", 1..=64)?,
            hidden_dropout_prob: reader.f32_or("hidden_dropout_prob", 0.0, DROPOUT)?,
        })
    }

    /// The text of a `config.json` that [`Gru4RecConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        self.items.to_json(json!({
            "model_type": "gru4rec",
            "embedding_size": self.embedding_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "hidden_dropout_prob": self.hidden_dropout_prob,
        }))
    }
}

/// GRU4Rec.
#[derive(Debug)]
pub struct Gru4Rec<B: Backend> {
    config: Gru4RecConfig,
    item_embeddings: B::Matrix, // (num_embeddings, embedding_size)
    layer: Vec<Unit<B>>,
    dense: Linear<B>, // (embedding_size, hidden_size)
}

impl<B: Backend> Gru4Rec<B> {
    /// Reads the tensors at the root of the checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(weights: &Weights<'_, B>, config: Gru4RecConfig) -> Result<Self> {
        let Gru4RecConfig { embedding_size, hidden_size, .. } = config;
        let table = [config.items.num_embeddings, embedding_size];
        let layer = (0..config.num_hidden_layers)
            .map(|layer| {
                let input = if layer == 0 { embedding_size } else { hidden_size };
                Unit::load(&weights.at("layer").at(layer), input, hidden_size)
            })
            .collect::<Result<_>>()?;
        let dense = [embedding_size, hidden_size];
        Ok(Self {
            item_embeddings: weights.at("item_embeddings").matrix("weight", table)?,
            layer,
            dense: Linear::load(&weights.at("dense"), dense, true)?,
            config,
        })
    }

    /// Hidden state after each item; see [`super::sequence::SequenceModel::forward`].
    pub fn forward(&self, b: &B, items: &[u32], segments: &Segments) -> Result<B::Tensor> {
        self.config.items.check("gru4rec", items, segments)?;
        let embedded = b.embed(&self.item_embeddings, items).at(|| "item_embeddings")?;
        let mut hidden = b.dropout(&embedded, self.config.hidden_dropout_prob)?;
        for (index, unit) in self.layer.iter().enumerate() {
            hidden = unit.forward(b, &hidden, segments).at(|| format!("layer.{index}"))?;
        }
        self.dense.forward(b, &hidden)
    }

    /// Scores of every item; see [`super::sequence::SequenceModel::scores`].
    pub fn scores(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        b.linear(hidden, &self.item_embeddings, None)
    }
}

/// One unit: what of a gate comes from the input, and what from the state before.
#[derive(Debug)]
struct Unit<B: Backend> {
    hidden_size: usize,
    input: [Linear<B>; 3], // r, z, n: (hidden_size, in)
    state: [Linear<B>; 3], // r, z, n: (hidden_size, hidden_size)
}

impl<B: Backend> Unit<B> {
    fn load(weights: &Weights<'_, B>, input: usize, hidden_size: usize) -> Result<Self> {
        let gates = |of: &str, columns| -> Result<[Linear<B>; 3]> {
            let load =
                |gate: &str| Linear::load(&weights.at(of).at(gate), [hidden_size, columns], true);
            Ok([load("reset")?, load("update")?, load("new")?])
        };
        let (input, state) = (gates("input", input)?, gates("state", hidden_size)?);
        Ok(Self { hidden_size, input, state })
    }

    /// (rows, in) -> (rows, hidden_size)
    fn forward(&self, b: &B, x: &B::Tensor, segments: &Segments) -> Result<B::Tensor> {
        let mut y = b.zeros([segments.rows(), self.hidden_size])?;
        let [x_r, x_z, x_n] = &self.input;
        let inputs = [x_r.forward(b, x)?, x_z.forward(b, x)?, x_n.forward(b, x)?];
        // Longest first, so that the sequences that still go on are the first ones.
        let mut order: Vec<_> = segments.iter().filter(|rows| !rows.is_empty()).collect();
        order.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
        let longest = order.first().map_or(0, |rows| rows.len());
        let mut h = b.zeros([order.len(), self.hidden_size])?;
        for step in 0..longest {
            let active = order.partition_point(|rows| rows.len() > step);
            let rows: Vec<u32> =
                order.iter().take(active).map(|rows| (rows.start + step) as u32).collect();
            let still: Vec<u32> = (0..active as u32).collect();
            h = self.step(b, &inputs, &rows, &b.gather_rows(&h, &still)?)?;
            b.scatter_rows(&mut y, &rows, &h)?;
        }
        Ok(y)
    }

    /// The states (active, hidden_size) after the `rows` of the inputs.
    fn step(
        &self,
        b: &B,
        inputs: &[B::Tensor; 3],
        rows: &[u32],
        h: &B::Tensor,
    ) -> Result<B::Tensor> {
        let [x_r, x_z, x_n] = inputs;
        let [u_r, u_z, u_n] = &self.state;
        let gate =
            |x: &B::Tensor, u: &Linear<B>| b.add(&b.gather_rows(x, rows)?, &u.forward(b, h)?);
        let (r, z) = (gate(x_r, u_r)?, gate(x_z, u_z)?);
        let recalled = b.gated(&r, &u_n.forward(b, h)?, Activation::Sigmoid)?;
        let new = b.add(&b.gather_rows(x_n, rows)?, &recalled)?;
        let new = b.activate(&new, Activation::Tanh)?;
        // (1 - z) n + z h = n + z (h - n).
        let change = b.add(h, &b.mix_rows(&new, &negation(rows.len())?)?)?;
        b.add(&new, &b.gated(&z, &change, Activation::Sigmoid)?)
    }
}

/// Minus each of `rows` rows.
fn negation(rows: usize) -> Result<Mix> {
    Mix::new(rows, (0..rows as u32).map(|row| [(row, -1.0)]))
}
