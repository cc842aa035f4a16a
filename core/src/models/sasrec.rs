//! SASRec: self-attention over a user's item sequence (Kang & McAuley, arXiv 1808.09781).
//!
//! Two published dialects, chosen by `block` in `config.json`:
//! - `bert`: post-norm blocks as in BERT; ICLRec's checkpoints (arXiv 2202.02519). Scores are the
//!   hidden state times the item embeddings (tied).
//! - `llara`: LLaRA's single block (arXiv 2312.02445). Only the queries are normalised, and the
//!   attention's residual adds the *normalised* query; scores come from a linear layer of its own.
//!
//! Unusual: sequences are packed without padding. Where the original pads on the left, a sequence's
//! last item always has the last position, so a short sequence starts late in the position table.

mod config;

pub use config::{Block, PaddingSide, SasRecConfig};

use crate::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};
use crate::error::{Context, Result};
use crate::nn::{LayerNorm, Linear};
use crate::weights::Weights;

/// SASRec of either dialect.
#[derive(Debug)]
pub struct SasRec<B: Backend> {
    config: SasRecConfig,
    item_embeddings: B::Matrix,     // (num_embeddings, hidden_size)
    position_embeddings: B::Matrix, // (max_seq_len, hidden_size)
    layers: Layers<B>,
}

#[derive(Debug)]
enum Layers<B: Backend> {
    Bert { layer_norm: LayerNorm<B>, layer: Vec<BertLayer<B>> },
    Llara { block: Box<LlaraBlock<B>>, s_fc: Linear<B> }, // s_fc (num_items, hidden_size)
}

impl<B: Backend> SasRec<B> {
    /// Reads the tensors of `config.block` from `weights`, at the root of the checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(weights: &Weights<'_, B>, config: SasRecConfig) -> Result<Self> {
        let hidden_size = config.hidden_size;
        let (num_embeddings, max_seq_len) = (config.items.num_embeddings, config.items.max_seq_len);
        let table = |name: &str, rows| weights.at(name).matrix("weight", [rows, hidden_size]);
        let item_embeddings = table("item_embeddings", num_embeddings)?;
        let (position_embeddings, layers) = match config.block {
            Block::Bert => {
                let layer = (0..config.num_hidden_layers)
                    .map(|layer| {
                        let at = weights.at("item_encoder.layer").at(layer);
                        BertLayer::load(&at, &config)
                    })
                    .collect::<Result<_>>()?;
                let eps = config.layer_norm_eps;
                let layer_norm = LayerNorm::load(&weights.at("LayerNorm"), hidden_size, eps)?;
                (table("position_embeddings", max_seq_len)?, Layers::Bert { layer_norm, layer })
            }
            Block::Llara => {
                let shape = [config.items.num_items, hidden_size];
                let s_fc = Linear::load(&weights.at("s_fc"), shape, true)?;
                let block = Box::new(LlaraBlock::load(weights, &config)?);
                (table("positional_embeddings", max_seq_len)?, Layers::Llara { block, s_fc })
            }
        };
        Ok(Self { config, item_embeddings, position_embeddings, layers })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &SasRecConfig {
        &self.config
    }

    /// Hidden state after each item; see [`super::sequence::SequenceModel::forward`].
    pub fn forward(&self, b: &B, items: &[u32], segments: &Segments) -> Result<B::Tensor> {
        let config = &self.config;
        config.items.check("sasrec", items, segments)?;
        let positions = config.positions(segments);
        let embedded = b.add(
            &b.embed(&self.item_embeddings, items).at(|| "item_embeddings")?,
            &b.embed(&self.position_embeddings, &positions)?,
        )?;
        match &self.layers {
            Layers::Bert { layer_norm, layer } => {
                let hidden = layer_norm.forward(b, &embedded)?;
                let mut hidden = b.dropout(&hidden, config.hidden_dropout_prob)?;
                for (index, layer) in layer.iter().enumerate() {
                    let place = || format!("item_encoder.layer.{index}");
                    hidden = layer.forward(b, &hidden, segments, config).at(place)?;
                }
                Ok(hidden)
            }
            Layers::Llara { block, .. } => {
                let hidden = b.dropout(&embedded, config.hidden_dropout_prob)?;
                block.forward(b, &hidden, segments, config)
            }
        }
    }

    /// Scores of every item; see [`super::sequence::SequenceModel::scores`].
    pub fn scores(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        match &self.layers {
            Layers::Bert { .. } => b.linear(hidden, &self.item_embeddings, None),
            Layers::Llara { s_fc, .. } => s_fc.forward(b, hidden),
        }
    }
}

/// One `bert` layer: attention, then a feed-forward part, each normalised after its residual.
#[derive(Debug)]
struct BertLayer<B: Backend> {
    query: Linear<B>,                   // (hidden_size, hidden_size)
    key: Linear<B>,                     // (hidden_size, hidden_size)
    value: Linear<B>,                   // (hidden_size, hidden_size)
    dense: Linear<B>,                   // (hidden_size, hidden_size)
    attention_layer_norm: LayerNorm<B>, // attention.LayerNorm (hidden_size)
    dense_1: Linear<B>,                 // (intermediate_size, hidden_size)
    dense_2: Linear<B>,                 // (hidden_size, intermediate_size)
    layer_norm: LayerNorm<B>,           // intermediate.LayerNorm (hidden_size)
}

impl<B: Backend> BertLayer<B> {
    fn load(weights: &Weights<'_, B>, config: &SasRecConfig) -> Result<Self> {
        let SasRecConfig { hidden_size, intermediate_size, layer_norm_eps: eps, .. } = *config;
        let (attention, mlp) = (weights.at("attention"), weights.at("intermediate"));
        let square = |name: &str| Linear::load(&attention.at(name), [hidden_size; 2], true);
        Ok(Self {
            query: square("query")?,
            key: square("key")?,
            value: square("value")?,
            dense: square("dense")?,
            attention_layer_norm: LayerNorm::load(&attention.at("LayerNorm"), hidden_size, eps)?,
            dense_1: Linear::load(&mlp.at("dense_1"), [intermediate_size, hidden_size], true)?,
            dense_2: Linear::load(&mlp.at("dense_2"), [hidden_size, intermediate_size], true)?,
            layer_norm: LayerNorm::load(&mlp.at("LayerNorm"), hidden_size, eps)?,
        })
    }

    /// (rows, hidden_size) -> same.
    fn forward(
        &self,
        b: &B,
        hidden: &B::Tensor,
        segments: &Segments,
        config: &SasRecConfig,
    ) -> Result<B::Tensor> {
        let q = self.query.forward(b, hidden)?;
        let k = self.key.forward(b, hidden)?;
        let v = self.value.forward(b, hidden)?;
        let context = b.attention(&q, &k, &v, &config.attend(segments), config.heads())?;
        let context = self.dense.forward(b, &context)?;
        let context = b.dropout(&context, config.hidden_dropout_prob)?;
        let hidden = self.attention_layer_norm.forward(b, &b.add(&context, hidden)?)?;

        let inner = b.activate(&self.dense_1.forward(b, &hidden)?, Activation::Gelu)?;
        let outer = self.dense_2.forward(b, &inner)?;
        let outer = b.dropout(&outer, config.hidden_dropout_prob)?;
        self.layer_norm.forward(b, &b.add(&outer, &hidden)?)
    }
}

/// LLaRA's only block.
#[derive(Debug)]
struct LlaraBlock<B: Backend> {
    ln_1: LayerNorm<B>,       // of the queries (hidden_size)
    linear_q: Linear<B>,      // mh_attn.linear_q (hidden_size, hidden_size)
    linear_k: Linear<B>,      // mh_attn.linear_k (hidden_size, hidden_size)
    linear_v: Linear<B>,      // mh_attn.linear_v (hidden_size, hidden_size)
    ln_2: LayerNorm<B>,       // (hidden_size)
    w_1: Linear<B>,           // a convolution of width 1 (intermediate_size, hidden_size, 1)
    w_2: Linear<B>,           // a convolution of width 1 (hidden_size, intermediate_size, 1)
    layer_norm: LayerNorm<B>, // feed_forward.layer_norm (hidden_size)
    ln_3: LayerNorm<B>,       // (hidden_size)
}

impl<B: Backend> LlaraBlock<B> {
    fn load(weights: &Weights<'_, B>, config: &SasRecConfig) -> Result<Self> {
        let SasRecConfig { hidden_size, intermediate_size, layer_norm_eps: eps, .. } = *config;
        let (attention, mlp) = (weights.at("mh_attn"), weights.at("feed_forward"));
        let square = |name: &str| Linear::load(&attention.at(name), [hidden_size; 2], true);
        let norm = |at: Weights<'_, B>| LayerNorm::load(&at, hidden_size, eps);
        Ok(Self {
            ln_1: norm(weights.at("ln_1"))?,
            linear_q: square("linear_q")?,
            linear_k: square("linear_k")?,
            linear_v: square("linear_v")?,
            ln_2: norm(weights.at("ln_2"))?,
            w_1: Linear::load(&mlp.at("w_1"), [intermediate_size, hidden_size], true)?,
            w_2: Linear::load(&mlp.at("w_2"), [hidden_size, intermediate_size], true)?,
            layer_norm: norm(mlp.at("layer_norm"))?,
            ln_3: norm(weights.at("ln_3"))?,
        })
    }

    /// (rows, hidden_size) -> same.
    fn forward(
        &self,
        b: &B,
        embedded: &B::Tensor,
        segments: &Segments,
        config: &SasRecConfig,
    ) -> Result<B::Tensor> {
        let normalised = self.ln_1.forward(b, embedded)?;
        let q = self.linear_q.forward(b, &normalised)?;
        let k = self.linear_k.forward(b, embedded)?;
        let v = self.linear_v.forward(b, embedded)?;
        let context = b.attention(&q, &k, &v, &config.attend(segments), config.heads())?;
        let hidden = self.ln_2.forward(b, &b.add(&context, &normalised)?)?;

        let inner = b.activate(&self.w_1.forward(b, &hidden)?, Activation::Relu)?;
        let outer = b.dropout(&self.w_2.forward(b, &inner)?, config.hidden_dropout_prob)?;
        let hidden = self.layer_norm.forward(b, &b.add(&outer, &hidden)?)?;
        self.ln_3.forward(b, &hidden)
    }
}

impl SasRecConfig {
    fn heads(&self) -> HeadShape {
        HeadShape {
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_attention_heads,
            head_dim: self.hidden_size / self.num_attention_heads,
        }
    }

    fn attend<'a, T>(&self, segments: &'a Segments) -> Attend<'a, T> {
        let dropout = self.attention_probs_dropout_prob;
        Attend { dropout, ..Attend::new(segments, Mask::Causal) }
    }

    /// The position of each row, as the original's padded input gives it, of segments that fit.
    fn positions(&self, segments: &Segments) -> Vec<u32> {
        let positions = segments.iter().flat_map(|rows| {
            let first = match self.padding_side {
                PaddingSide::Left => self.items.max_seq_len.saturating_sub(rows.len()) as u32,
                PaddingSide::Right => 0,
            };
            first..first + rows.len() as u32
        });
        positions.collect()
    }
}
