//! LRURec: linear recurrent units over a user's items (Yue et al., WSDM 2024, arXiv 2310.02367).
//!
//! A block is a diagonal complex recurrence with a residual, then a feed-forward part; both are
//! normalised after their residual. Scores are products with the item embeddings plus a bias per
//! item.
//!
//! Unusual: the order of items is in the recurrence alone, there are no positions. So all that came
//! before is one row per block, a new event costs one step ([`LruRec::step`]), and no sequence is too
//! long: `max_seq_len` is how much of one was seen in training.
//!
//! Tensors: the complex projections of the publication are real ones here, with the real parts of
//! the channels first: `in_proj` (2 * channels, hidden_size), `out_proj` (hidden_size, 2 * channels)
//! whose right half is the negated imaginary part.

use serde_json::json;

use super::sequence_items::{DROPOUT, SequenceItems, one_per_row};
use crate::backend::{Activation, Backend, Recurrence, Segments};
use crate::error::{Context, Result};
use crate::nn::{LayerNorm, Linear};
use crate::random::Random;
use crate::weights::{ConfigReader, Weights};

/// |lambda| of a new model lies between these, uniform in its square.
const RADIUS: [f64; 2] = [0.8, 0.99];

/// `config.json` of an LRURec folder.
#[derive(Clone, Debug, PartialEq)]
pub struct LruRecConfig {
    /// Its items.
    pub items: SequenceItems,
    /// Width of an item embedding.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Complex channels of a recurrence.
    pub num_channels: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Stabilizer of every layer norm.
    pub layer_norm_eps: f32,
    /// Dropout on embeddings, after each sublayer and inside the feed-forward part, while training.
    pub hidden_dropout_prob: f32,
}

impl LruRecConfig {
    /// A new model over `num_items` items with the published sizes.
    pub fn new(num_items: usize) -> Self {
        Self {
            items: SequenceItems::new(num_items, 50),
            hidden_size: 64,
            num_hidden_layers: 2,
            num_channels: 128,
            intermediate_size: 256,
            layer_norm_eps: 1e-5,
            hidden_dropout_prob: 0.2,
        }
    }

    /// Reads `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing, of the wrong type or out of range, by name; another model type.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        if reader.str("model_type")? != "lru_rec" {
            return Err(reader.unsupported("model_type", "lru_rec"));
        }
        Ok(Self {
            items: SequenceItems::parse(&reader, 0)?,
            hidden_size: reader.usize("hidden_size", 1..=8192)?,
            num_hidden_layers: reader.usize("num_hidden_layers", 1..=64)?,
            num_channels: reader.usize("num_channels", 1..=16_384)?,
            intermediate_size: reader.usize("intermediate_size", 1..=65_536)?,
            layer_norm_eps: reader.f32("layer_norm_eps", 0.0..=1.0)?,
            hidden_dropout_prob: reader.f32_or("hidden_dropout_prob", 0.0, DROPOUT)?,
        })
    }

    /// The text of a `config.json` that [`LruRecConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        self.items.to_json(json!({
            "model_type": "lru_rec",
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_channels": self.num_channels,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": self.layer_norm_eps,
            "hidden_dropout_prob": self.hidden_dropout_prob,
        }))
    }
}

/// LRURec.
#[derive(Debug)]
pub struct LruRec<B: Backend> {
    config: LruRecConfig,
    item_embeddings: B::Matrix, // (num_embeddings, hidden_size)
    item_bias: B::Vector,       // (num_embeddings)
    layer_norm: LayerNorm<B>,   // (hidden_size)
    layer: Vec<Block<B>>,
}

/// What sequences have left behind.
#[derive(Clone, Debug)]
pub struct LruState<B: Backend> {
    /// Hidden state after the last item: (sequences, hidden_size).
    pub hidden: B::Tensor,
    layer: Vec<B::Tensor>, // for each block (sequences, 2 * channels)
}

impl<B: Backend> LruRec<B> {
    /// Reads the tensors at the root of the checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(weights: &Weights<'_, B>, config: LruRecConfig) -> Result<Self> {
        let (rows, hidden_size) = (config.items.num_embeddings, config.hidden_size);
        let layer = (0..config.num_hidden_layers)
            .map(|layer| Block::load(&weights.at("layer").at(layer), &config))
            .collect::<Result<_>>()?;
        let norm = weights.at("layer_norm");
        Ok(Self {
            item_embeddings: weights.at("item_embeddings").matrix("weight", [rows, hidden_size])?,
            item_bias: weights.at("item_scores").vector("bias", rows)?,
            layer_norm: LayerNorm::load(&norm, hidden_size, config.layer_norm_eps)?,
            layer,
            config,
        })
    }

    /// Hidden state after each item; see [`super::sequence::SequenceModel::forward`].
    pub fn forward(&self, b: &B, items: &[u32], segments: &Segments) -> Result<B::Tensor> {
        self.run(b, items, segments, None).map(|(hidden, _)| hidden)
    }

    /// What is left behind by the items that come after `state`, however many those were; `None`
    /// where there was nothing. No segment may be empty.
    pub fn step(
        &self,
        b: &B,
        items: &[u32],
        segments: &Segments,
        state: Option<&LruState<B>>,
    ) -> Result<LruState<B>> {
        let (hidden, recurrent) = self.run(b, items, segments, state)?;
        let last = segments.last_rows();
        let layer = recurrent.iter().map(|h| b.gather_rows(h, &last)).collect::<Result<_>>()?;
        Ok(LruState { hidden: b.gather_rows(&hidden, &last)?, layer })
    }

    fn run(
        &self,
        b: &B,
        items: &[u32],
        segments: &Segments,
        state: Option<&LruState<B>>,
    ) -> Result<(B::Tensor, Vec<B::Tensor>)> {
        one_per_row("lru_rec", items, segments)?;
        let probability = self.config.hidden_dropout_prob;
        let embedded = b.embed(&self.item_embeddings, items).at(|| "item_embeddings")?;
        let mut hidden = self.layer_norm.forward(b, &b.dropout(&embedded, probability)?)?;
        let mut recurrent = Vec::with_capacity(self.layer.len());
        for (index, layer) in self.layer.iter().enumerate() {
            let before = state.and_then(|state| state.layer.get(index));
            let (next, h) = layer
                .forward(b, &hidden, segments, before, probability)
                .at(|| format!("layer.{index}"))?;
            hidden = next;
            recurrent.push(h);
        }
        Ok((hidden, recurrent))
    }

    /// Scores of every item; see [`super::sequence::SequenceModel::scores`].
    pub fn scores(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        b.linear(hidden, &self.item_embeddings, Some(&self.item_bias))
    }
}

#[derive(Debug)]
struct Block<B: Backend> {
    in_proj: Linear<B>,              // (2 * channels, hidden_size)
    nu_log: B::Vector,               // (channels)
    theta_log: B::Vector,            // (channels)
    gamma_log: B::Vector,            // (channels)
    out_proj: Linear<B>,             // (hidden_size, 2 * channels)
    recurrence_norm: LayerNorm<B>,   // lru.layer_norm (hidden_size)
    w_1: Linear<B>,                  // (intermediate_size, hidden_size)
    w_2: Linear<B>,                  // (hidden_size, intermediate_size)
    feed_forward_norm: LayerNorm<B>, // feed_forward.layer_norm (hidden_size)
}

impl<B: Backend> Block<B> {
    fn load(weights: &Weights<'_, B>, config: &LruRecConfig) -> Result<Self> {
        let LruRecConfig { hidden_size, num_channels, intermediate_size, .. } = *config;
        let (lru, mlp) = (weights.at("lru"), weights.at("feed_forward"));
        let norm = |at: &Weights<'_, B>| {
            LayerNorm::load(&at.at("layer_norm"), hidden_size, config.layer_norm_eps)
        };
        let (wide, inner) = (2 * num_channels, intermediate_size);
        // The vectors of one recurrence are drawn together: gamma goes with |lambda|.
        let drawn = |name, value: fn(Ring) -> f64| {
            lru.vector_drawn(name, num_channels, |random| value(Ring::draw(random)) as f32)
        };
        Ok(Self {
            in_proj: Linear::load(&lru.at("in_proj"), [wide, hidden_size], true)?,
            nu_log: drawn("nu_log", |ring| (-0.5 * ring.square.ln()).ln())?,
            theta_log: drawn("theta_log", |ring| (std::f64::consts::TAU * ring.turn).ln())?,
            gamma_log: drawn("gamma_log", |ring| 0.5 * (1.0 - ring.square).ln())?,
            out_proj: Linear::load(&lru.at("out_proj"), [hidden_size, wide], true)?,
            recurrence_norm: norm(&lru)?,
            w_1: Linear::load(&mlp.at("w_1"), [inner, hidden_size], true)?,
            w_2: Linear::load(&mlp.at("w_2"), [hidden_size, inner], true)?,
            feed_forward_norm: norm(&mlp)?,
        })
    }

    /// (rows, hidden_size) -> the same and the recurrence's rows (rows, 2 * channels).
    fn forward(
        &self,
        b: &B,
        x: &B::Tensor,
        segments: &Segments,
        before: Option<&B::Tensor>,
        dropout: f32,
    ) -> Result<(B::Tensor, B::Tensor)> {
        let Self { nu_log, theta_log, gamma_log, .. } = self;
        let recurrence = Recurrence { nu_log, theta_log, gamma_log };
        let input = self.in_proj.forward(b, x)?;
        let h = b.linear_recurrence(&input, recurrence, segments, before)?;
        let y = b.dropout(&self.out_proj.forward(b, &h)?, dropout)?;
        let x = self.recurrence_norm.forward(b, &b.add(&y, x)?)?;

        let inner = b.activate(&self.w_1.forward(b, &x)?, Activation::Gelu)?;
        let outer = self.w_2.forward(b, &b.dropout(&inner, dropout)?)?;
        let outer = b.dropout(&outer, dropout)?;
        Ok((self.feed_forward_norm.forward(b, &b.add(&outer, &x)?)?, h))
    }
}

/// A point of the ring that a new lambda lies on: its squared size, and its angle in turns.
struct Ring {
    square: f64,
    turn: f64,
}

impl Ring {
    fn draw(random: &mut Random) -> Self {
        let [least, most] = RADIUS.map(|radius| radius * radius);
        let square = least + (most - least) * random.unit();
        // A turn of exactly 0 has no logarithm.
        Self { square, turn: random.unit().max(f64::EPSILON) }
    }
}
