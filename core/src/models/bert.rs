//! BERT as a sentence encoder (Devlin et al., arXiv 1810.04805; Reimers & Gurevych, arXiv
//! 1908.10084): the names of Hugging Face's BertModel, pooled as a sentence-transformers folder says.
//!
//! Unusual: texts are packed without padding, so no mask and no length enters the mean.

mod pooling;

pub use pooling::{PoolingMode, SentencePooling};

use crate::backend::{Activation, Backend, Mask, Mix, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{Encoder, EncoderConfig, LayerNames, LayerNorm, Linear, NormOrder, QkvNames};
use crate::weights::{ConfigReader, Weights};

use super::clip::text_segments;
use super::llama::TokenId;

/// What `config.json` says. Field names are the file's; what it leaves out is bert-base-uncased.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BertConfig {
    /// The layers.
    pub encoder: EncoderConfig,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Longest text, tokens.
    pub max_position_embeddings: usize,
    /// Rows of the table of text parts; only the first is used.
    pub type_vocab_size: usize,
}

impl BertConfig {
    /// Reads a `config.json` of `model_type` bert.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config = ConfigReader::new(file, text)?;
        if config.str("model_type")? != "bert" {
            return Err(config.unsupported("model_type", "bert"));
        }
        if config.str_or("position_embedding_type", "absolute")? != "absolute" {
            return Err(config.unsupported("position_embedding_type", "absolute"));
        }
        if config.bool_or("is_decoder", false)? {
            return Err(config.unsupported("is_decoder", "false"));
        }
        let default = EncoderConfig {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            qkv_bias: true,
        };
        Ok(Self {
            encoder: EncoderConfig::parse(&config, default)?,
            vocab_size: config.usize_or("vocab_size", 30_522, 1..=4_194_304)?,
            max_position_embeddings: config.usize_or(
                "max_position_embeddings",
                512,
                1..=1_048_576,
            )?,
            type_vocab_size: config.usize_or("type_vocab_size", 2, 1..=1024)?,
        })
    }
}

const LAYER: LayerNames = LayerNames {
    qkv: QkvNames::Each(["attention.self.query", "attention.self.key", "attention.self.value"]),
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    fc1: "intermediate.dense",
    fc2: "output.dense",
    mlp_norm: "output.LayerNorm",
    order: NormOrder::Post,
};

/// The model.
#[derive(Clone, Debug)]
pub struct Bert<B: Backend> {
    word_embeddings: B::Matrix,       // (vocab_size, hidden_size)
    position_embeddings: B::Matrix,   // (max_position_embeddings, hidden_size)
    token_type_embeddings: B::Matrix, // (type_vocab_size, hidden_size)
    layer_norm: LayerNorm<B>,         // embeddings.LayerNorm (hidden_size)
    encoder: Encoder<B>,
    pooler: Option<Linear<B>>, // (hidden_size, hidden_size)
    config: BertConfig,
}

impl<B: Backend> Bert<B> {
    /// Loads the tensors below `bert.` where they are, else at the root.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(root: &Weights<'_, B>, config: BertConfig) -> Result<Self> {
        let prefixed = root.at("bert");
        let word_embeddings = "embeddings.word_embeddings.weight";
        let w = if prefixed.has(word_embeddings) { &prefixed } else { root };
        let EncoderConfig { hidden_size, layer_norm_eps, .. } = config.encoder;
        let embeddings = w.at("embeddings");
        let table = |name: &str, rows| embeddings.at(name).matrix("weight", [rows, hidden_size]);
        let pooler = w.at("pooler.dense");
        Ok(Self {
            word_embeddings: table("word_embeddings", config.vocab_size)?,
            position_embeddings: table("position_embeddings", config.max_position_embeddings)?,
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size)?,
            layer_norm: LayerNorm::load(&embeddings.at("LayerNorm"), hidden_size, layer_norm_eps)?,
            encoder: Encoder::load(&w.at("encoder.layer"), config.encoder, &LAYER)?,
            pooler: match pooler.has("weight") {
                true => Some(Linear::load(&pooler, [hidden_size; 2], true)?),
                false => None,
            },
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Token ids of each text, with the special tokens -> the last hidden states (rows,
    /// hidden_size), one segment per text. `trace` receives Hugging Face's `hidden_states`: what
    /// enters the first layer, and each layer's output.
    ///
    /// # Errors
    /// A text without tokens or longer than `max_position_embeddings`, an id outside the vocabulary.
    pub fn forward(
        &self,
        b: &B,
        texts: &[&[TokenId]],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<(B::Tensor, Segments)> {
        let segments = text_segments(texts, self.config.max_position_embeddings)?;
        let tokens = b.embed(&self.word_embeddings, &texts.concat()).at(|| "word_embeddings")?;
        let types = b.embed(&self.token_type_embeddings, &vec![0; segments.rows()])?;
        let positions = b.embed(&self.position_embeddings, &segments.positions(0))?;
        let hidden = b.add(&b.add(&tokens, &types)?, &positions)?;
        let hidden = self.layer_norm.forward(b, &hidden)?;
        let hidden = self.encoder.forward(b, hidden, &segments, Mask::Bidirectional, trace);
        Ok((hidden.at(|| "encoder")?, segments))
    }

    /// Hidden states (rows, hidden_size) -> one row per text (texts, hidden_size).
    pub fn pool(
        &self,
        b: &B,
        hidden: &B::Tensor,
        segments: &Segments,
        mode: PoolingMode,
    ) -> Result<B::Tensor> {
        let first: Vec<u32> = segments.iter().map(|rows| rows.start as u32).collect();
        match mode {
            PoolingMode::Cls => b.gather_rows(hidden, &first),
            PoolingMode::Mean => b.mix_rows(hidden, &Mix::mean(segments)?),
        }
    }

    /// Hugging Face's `pooler_output` of the first rows (texts, hidden_size); `Err` for a checkpoint
    /// without a pooler.
    pub fn pooled(&self, b: &B, first: &B::Tensor) -> Result<B::Tensor> {
        let Some(pooler) = &self.pooler else {
            let expected = "a checkpoint with `pooler.dense`";
            return Err(Error::argument("bert", "pooler", expected, "none"));
        };
        b.activate(&pooler.forward(b, first)?, Activation::Tanh)
    }
}
