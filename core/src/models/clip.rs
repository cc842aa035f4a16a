//! CLIP: a picture tower and a text tower that meet in one space (Radford et al., arXiv 2103.00020).
//!
//! Names are those of the Hugging Face checkpoints, `pre_layrnorm` included. Unusual here: texts are
//! packed without padding, which their causal attention cannot tell from padding on the right.
//! Embeddings are projected and not normalised; [`Clip::logit_scale`] is the logarithm of the scale.

use crate::backend::{Activation, Backend, Mask, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{
    Encoder, EncoderConfig, LayerNames, LayerNorm, Linear, NormOrder, PatchConfig, PatchEmbedding,
    PatchNames, QkvNames,
};
use crate::weights::{ConfigReader, Weights};

use super::llama::TokenId;

/// `vision_config` of a CLIP's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipVisionConfig {
    /// The layers.
    pub encoder: EncoderConfig,
    /// Pictures and patches.
    pub patches: PatchConfig,
}

/// `text_config` of a CLIP's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipTextConfig {
    /// The layers.
    pub encoder: EncoderConfig,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Longest text, tokens.
    pub max_position_embeddings: usize,
    /// The token whose row is the text's. The value 2, wrong in files of before 2023, stands for
    /// the largest id of a text.
    pub eos_token_id: TokenId,
}

/// What `config.json` says. Field names are the file's; what it leaves out is ViT-B/32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipConfig {
    /// The picture tower.
    pub vision_config: ClipVisionConfig,
    /// The text tower.
    pub text_config: ClipTextConfig,
    /// Width of the common space.
    pub projection_dim: usize,
    /// Logarithm of the scale that training starts with.
    pub logit_scale_init_value: f32,
}

/// Sizes of ViT-B/32's picture tower, the defaults of Hugging Face's configuration.
const VISION: EncoderConfig = EncoderConfig {
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    hidden_act: Activation::QuickGelu,
    layer_norm_eps: 1e-5,
    qkv_bias: true,
};
/// Sizes of its text tower.
const TEXT: EncoderConfig =
    EncoderConfig { hidden_size: 512, intermediate_size: 2048, num_attention_heads: 8, ..VISION };

impl ClipVisionConfig {
    /// Reads a `vision_config`: of a CLIP, or of a model that sees with one.
    pub fn read(config: &ConfigReader) -> Result<Self> {
        let patches = PatchConfig { image_size: 224, patch_size: 32 };
        Ok(Self {
            encoder: EncoderConfig::parse(config, VISION)?,
            patches: PatchConfig::parse(config, patches)?,
        })
    }
}

impl ClipConfig {
    /// Reads a `config.json` of `model_type` clip.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config = ConfigReader::new(file, text)?;
        if config.str("model_type")? != "clip" {
            return Err(config.unsupported("model_type", "clip"));
        }
        let empty = || ConfigReader::new(file, "{}");
        let vision = config.object("vision_config")?.map_or_else(empty, Ok)?;
        let text = config.object("text_config")?.map_or_else(empty, Ok)?;
        let vocab_size = text.usize_or("vocab_size", 49_408, 1..=4_194_304)?;
        Ok(Self {
            vision_config: ClipVisionConfig::read(&vision)?,
            text_config: ClipTextConfig {
                encoder: EncoderConfig::parse(&text, TEXT)?,
                vocab_size,
                max_position_embeddings: text.usize_or(
                    "max_position_embeddings",
                    77,
                    1..=1_048_576,
                )?,
                eos_token_id: text.usize_or("eos_token_id", 49_407, 0..=u32::MAX as usize)? as u32,
            },
            projection_dim: config.usize_or("projection_dim", 512, 1..=65_536)?,
            logit_scale_init_value: config.f32_or(
                "logit_scale_init_value",
                2.6592,
                -100.0..=100.0,
            )?,
        })
    }
}

const LAYER: LayerNames = LayerNames {
    qkv: QkvNames::Each(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    out: "self_attn.out_proj",
    attention_norm: "layer_norm1",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    mlp_norm: "layer_norm2",
    order: NormOrder::Pre,
};

/// The picture tower.
#[derive(Clone, Debug)]
pub struct ClipVision<B: Backend> {
    embeddings: PatchEmbedding<B>,
    pre_layrnorm: LayerNorm<B>, // the checkpoint's own spelling
    encoder: Encoder<B>,
    post_layernorm: LayerNorm<B>,
}

impl<B: Backend> ClipVision<B> {
    pub(super) fn load(w: &Weights<'_, B>, config: &ClipVisionConfig) -> Result<Self> {
        let ClipVisionConfig { encoder, patches } = *config;
        let embeddings = w.at("embeddings");
        let names = PatchNames {
            class_embedding: (&embeddings, "class_embedding"),
            projection: (&embeddings, "patch_embedding"),
            position_embedding: (&embeddings, "position_embedding.weight"),
            bias: false,
        };
        let norm = |name| LayerNorm::load(&w.at(name), encoder.hidden_size, encoder.layer_norm_eps);
        Ok(Self {
            embeddings: PatchEmbedding::load(&names, patches, encoder.hidden_size)?,
            pre_layrnorm: norm("pre_layrnorm")?,
            encoder: Encoder::load(&w.at("encoder.layers"), encoder, &LAYER)?,
            post_layernorm: norm("post_layernorm")?,
        })
    }

    /// `pixel_values` (pictures, 3, image_size, image_size) -> the last hidden states, before
    /// `post_layernorm`, one segment per picture with its class row first.
    pub(super) fn hidden(
        &self,
        b: &B,
        pixel_values: &[f32],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<(B::Tensor, Segments)> {
        let (hidden, segments) = self.embeddings.forward(b, pixel_values)?;
        let hidden = self.pre_layrnorm.forward(b, &hidden)?;
        let hidden = self.encoder.forward(b, hidden, &segments, Mask::Bidirectional, trace)?;
        Ok((hidden, segments))
    }

    /// The class rows after the last norm: (pictures, hidden_size).
    fn pooled(&self, b: &B, hidden: &B::Tensor, segments: &Segments) -> Result<B::Tensor> {
        let classes: Vec<u32> = segments.iter().map(|rows| rows.start as u32).collect();
        self.post_layernorm.forward(b, &b.gather_rows(hidden, &classes)?)
    }
}

/// The text tower.
#[derive(Clone, Debug)]
pub struct ClipText<B: Backend> {
    token_embedding: B::Matrix,    // (vocab_size, hidden_size)
    position_embedding: B::Matrix, // (max_position_embeddings, hidden_size)
    encoder: Encoder<B>,
    final_layer_norm: LayerNorm<B>,
    config: ClipTextConfig,
}

impl<B: Backend> ClipText<B> {
    fn load(w: &Weights<'_, B>, config: ClipTextConfig) -> Result<Self> {
        let EncoderConfig { hidden_size, layer_norm_eps, .. } = config.encoder;
        let table =
            |name: &str, rows| w.at("embeddings").at(name).matrix("weight", [rows, hidden_size]);
        Ok(Self {
            token_embedding: table("token_embedding", config.vocab_size)?,
            position_embedding: table("position_embedding", config.max_position_embeddings)?,
            encoder: Encoder::load(&w.at("encoder.layers"), config.encoder, &LAYER)?,
            final_layer_norm: LayerNorm::load(
                &w.at("final_layer_norm"),
                hidden_size,
                layer_norm_eps,
            )?,
            config,
        })
    }

    /// The last hidden states, normalised, one segment per text.
    fn hidden(
        &self,
        b: &B,
        texts: &[&[TokenId]],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<(B::Tensor, Segments)> {
        let segments = text_segments(texts, self.config.max_position_embeddings)?;
        let tokens = b.embed(&self.token_embedding, &texts.concat()).at(|| "token_embedding")?;
        let positions = b.embed(&self.position_embedding, &segments.positions(0))?;
        let hidden = b.add(&tokens, &positions)?;
        let hidden = self.encoder.forward(b, hidden, &segments, Mask::Causal, trace)?;
        Ok((self.final_layer_norm.forward(b, &hidden)?, segments))
    }

    /// The row of each text's end token: (texts, hidden_size).
    fn pooled(
        &self,
        b: &B,
        hidden: &B::Tensor,
        texts: &[&[TokenId]],
        segments: &Segments,
    ) -> Result<B::Tensor> {
        let rows: Vec<u32> = texts
            .iter()
            .zip(segments.iter())
            .map(|(ids, rows)| rows.start as u32 + self.end_of(ids))
            .collect();
        b.gather_rows(hidden, &rows)
    }

    /// Where the text's row is, as transformers finds it: the first end token, the first row when
    /// there is none; where the configuration has the old, wrong id 2, the first of the largest id.
    fn end_of(&self, ids: &[TokenId]) -> u32 {
        let end = match self.config.eos_token_id {
            2 => ids.iter().copied().max().unwrap_or_default(),
            id => id,
        };
        ids.iter().position(|&id| id == end).unwrap_or_default() as u32
    }
}

/// One segment per text, none of them empty or longer than `limit` tokens.
pub(super) fn text_segments(texts: &[&[TokenId]], limit: usize) -> Result<Segments> {
    let lengths: Vec<usize> = texts.iter().map(|ids| ids.len()).collect();
    if let Some(&found) = lengths.iter().find(|&&len| len > limit) {
        return Err(Error::InputTooLong { what: "text encoder", limit, found });
    }
    if lengths.is_empty() || lengths.contains(&0) {
        let expected = "at least one text, and at least one token in each";
        return Err(Error::argument("text encoder", "ids", expected, "none"));
    }
    Segments::new(&lengths)
}

/// Both towers and their projections.
#[derive(Clone, Debug)]
pub struct Clip<B: Backend> {
    vision_model: ClipVision<B>,
    text_model: ClipText<B>,
    visual_projection: Linear<B>, // (projection_dim, vision hidden_size)
    text_projection: Linear<B>,   // (projection_dim, text hidden_size)
    logit_scale: B::Vector,       // one number
    config: ClipConfig,
}

impl<B: Backend> Clip<B> {
    /// Loads `vision_model`, `text_model`, their projections and `logit_scale`.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(w: &Weights<'_, B>, config: ClipConfig) -> Result<Self> {
        let ClipConfig { vision_config, text_config, projection_dim, .. } = config;
        let projection = |name, hidden| Linear::load(&w.at(name), [projection_dim, hidden], false);
        let (vision, text) = (vision_config.encoder.hidden_size, text_config.encoder.hidden_size);
        Ok(Self {
            vision_model: ClipVision::load(&w.at("vision_model"), &vision_config)?,
            text_model: ClipText::load(&w.at("text_model"), text_config)?,
            visual_projection: projection("visual_projection", vision)?,
            text_projection: projection("text_projection", text)?,
            logit_scale: w.scalar("logit_scale", config.logit_scale_init_value)?,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Logarithm of the factor between cosines and logits.
    pub fn logit_scale(&self) -> &B::Vector {
        &self.logit_scale
    }

    /// `pixel_values` (pictures, 3, image_size, image_size), normalised -> (pictures,
    /// projection_dim), not normalised. `trace` receives Hugging Face's `hidden_states`: what enters
    /// the first layer, and each layer's output.
    ///
    /// # Errors
    /// A number of values that is no whole number of pictures.
    pub fn image_embeds(
        &self,
        b: &B,
        pixel_values: &[f32],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        let vision = &self.vision_model;
        let (hidden, segments) = vision.hidden(b, pixel_values, trace).at(|| "vision_model")?;
        self.visual_projection.forward(b, &vision.pooled(b, &hidden, &segments)?)
    }

    /// Token ids of each text, with the special tokens -> (texts, projection_dim), not normalised.
    /// `trace` as for [`Clip::image_embeds`].
    ///
    /// # Errors
    /// A text without tokens or longer than `max_position_embeddings`, an id outside the vocabulary.
    pub fn text_embeds(
        &self,
        b: &B,
        texts: &[&[TokenId]],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        let text = &self.text_model;
        let (hidden, segments) = text.hidden(b, texts, trace).at(|| "text_model")?;
        self.text_projection.forward(b, &text.pooled(b, &hidden, texts, &segments)?)
    }
}
