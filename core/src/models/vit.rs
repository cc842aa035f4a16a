//! ViT, the vision transformer (Dosovitskiy et al., arXiv 2010.11929), by the names of timm or of
//! Hugging Face's ViTModel and ViTForImageClassification.
//!
//! The embedding of a picture is its class row after the last norm. Unusual: timm stores queries,
//! keys and values as one matrix, of which the three are rows.

use crate::backend::{Activation, Backend, Mask, Segments};
use crate::error::{Context, Result};
use crate::nn::{
    Encoder, EncoderConfig, LayerNames, LayerNorm, Linear, NormOrder, PatchConfig, PatchEmbedding,
    PatchNames, QkvNames,
};
use crate::weights::{ConfigReader, Weights};

/// What `config.json` says. Field names are the file's; what it leaves out is ViT-B/16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VitConfig {
    /// The layers.
    pub encoder: EncoderConfig,
    /// Pictures and patches.
    pub patches: PatchConfig,
    /// Classes of the classifier, where the checkpoint has one.
    pub num_labels: usize,
    /// Width of the pooler, where the checkpoint has one.
    pub pooler_output_size: usize,
    /// Nonlinearity of the pooler.
    pub pooler_act: Activation,
}

impl VitConfig {
    /// Reads a `config.json` of `model_type` vit or timm_vit.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config = ConfigReader::new(file, text)?;
        if !matches!(config.str("model_type")?, "vit" | "timm_vit") {
            return Err(config.unsupported("model_type", "vit, timm_vit"));
        }
        let default = EncoderConfig {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: Activation::Gelu,
            layer_norm_eps: if config.str("model_type")? == "vit" { 1e-12 } else { 1e-6 },
            qkv_bias: true,
        };
        let encoder = EncoderConfig::parse(&config, default)?;
        // Hugging Face names the classes instead of counting them; without names there are two.
        let labels = config.object("id2label")?.map_or(2, |labels| labels.names().count());
        let pooler_act = match config.has("pooler_act") {
            false => Activation::Tanh,
            true => Activation::parse(config.str("pooler_act")?)
                .ok_or_else(|| config.unsupported("pooler_act", "tanh, gelu, relu, sigmoid"))?,
        };
        Ok(Self {
            encoder,
            patches: PatchConfig::parse(&config, PatchConfig { image_size: 224, patch_size: 16 })?,
            num_labels: config.usize_or("num_labels", labels, 0..=1_048_576)?,
            pooler_output_size: config.usize_or(
                "pooler_output_size",
                encoder.hidden_size,
                1..=65_536,
            )?,
            pooler_act,
        })
    }
}

/// Where a dialect keeps the parts.
struct Names {
    class_embedding: &'static str,
    projection: &'static str,
    position_embedding: &'static str,
    layers: &'static str,
    layer: LayerNames,
    norm: &'static str,
    classifier: &'static str,
}

const TIMM: Names = Names {
    class_embedding: "cls_token",
    projection: "patch_embed.proj",
    position_embedding: "pos_embed",
    layers: "blocks",
    layer: LayerNames {
        qkv: QkvNames::Stacked("attn.qkv"),
        out: "attn.proj",
        attention_norm: "norm1",
        fc1: "mlp.fc1",
        fc2: "mlp.fc2",
        mlp_norm: "norm2",
        order: NormOrder::Pre,
    },
    norm: "norm",
    classifier: "head",
};

const HUGGING_FACE: Names = Names {
    class_embedding: "embeddings.cls_token",
    projection: "embeddings.patch_embeddings.projection",
    position_embedding: "embeddings.position_embeddings",
    layers: "encoder.layer",
    layer: LayerNames {
        qkv: QkvNames::Each([
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
        ]),
        out: "attention.output.dense",
        attention_norm: "layernorm_before",
        fc1: "intermediate.dense",
        fc2: "output.dense",
        mlp_norm: "layernorm_after",
        order: NormOrder::Pre,
    },
    norm: "layernorm",
    classifier: "classifier",
};

/// The model.
#[derive(Clone, Debug)]
pub struct Vit<B: Backend> {
    embeddings: PatchEmbedding<B>,
    encoder: Encoder<B>,
    layernorm: LayerNorm<B>,
    pooler: Option<Linear<B>>,     // (pooler_output_size, hidden_size)
    classifier: Option<Linear<B>>, // (num_labels, hidden_size)
    config: VitConfig,
}

impl<B: Backend> Vit<B> {
    /// Loads timm's names where `cls_token` is, else Hugging Face's, with the prefix `vit.` of its
    /// classifiers or without.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(root: &Weights<'_, B>, config: VitConfig) -> Result<Self> {
        let names = if root.has(TIMM.class_embedding) { TIMM } else { HUGGING_FACE };
        let prefixed = root.at("vit");
        let w = if prefixed.has(names.class_embedding) { &prefixed } else { root };
        let EncoderConfig { hidden_size, layer_norm_eps, .. } = config.encoder;
        let patch_names = PatchNames {
            class_embedding: (w, names.class_embedding),
            projection: (w, names.projection),
            position_embedding: (w, names.position_embedding),
            bias: true,
        };
        let optional = |w: Weights<'_, B>, rows| match w.has("weight") {
            true => Linear::load(&w, [rows, hidden_size], true).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            embeddings: PatchEmbedding::load(&patch_names, config.patches, hidden_size)?,
            encoder: Encoder::load(&w.at(names.layers), config.encoder, &names.layer)?,
            layernorm: LayerNorm::load(&w.at(names.norm), hidden_size, layer_norm_eps)?,
            pooler: optional(w.at("pooler.dense"), config.pooler_output_size)?,
            classifier: optional(root.at(names.classifier), config.num_labels)?,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// `pixel_values` (pictures, 3, image_size, image_size), normalised -> every row after the last
    /// norm, one segment per picture, its class row first. `trace` receives Hugging Face's
    /// `hidden_states`: what enters the first layer, and each layer's output.
    ///
    /// # Errors
    /// A number of values that is no whole number of pictures.
    pub fn forward(
        &self,
        b: &B,
        pixel_values: &[f32],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<(B::Tensor, Segments)> {
        let (hidden, segments) = self.embeddings.forward(b, pixel_values)?;
        let hidden = self.encoder.forward(b, hidden, &segments, Mask::Bidirectional, trace);
        let hidden = hidden.at(|| "encoder")?;
        Ok((self.layernorm.forward(b, &hidden)?, segments))
    }

    /// The class row of each picture: (pictures, hidden_size). Errors as [`Vit::forward`].
    pub fn image_embeds(&self, b: &B, pixel_values: &[f32]) -> Result<B::Tensor> {
        let (hidden, segments) = self.forward(b, pixel_values, None)?;
        let classes: Vec<u32> = segments.iter().map(|rows| rows.start as u32).collect();
        b.gather_rows(&hidden, &classes)
    }

    /// Hugging Face's `pooler_output` of (pictures, hidden_size); `None` without a pooler.
    pub fn pooled(&self, b: &B, image_embeds: &B::Tensor) -> Result<Option<B::Tensor>> {
        let Some(pooler) = &self.pooler else { return Ok(None) };
        b.activate(&pooler.forward(b, image_embeds)?, self.config.pooler_act).map(Some)
    }

    /// (pictures, hidden_size) -> (pictures, num_labels); `None` without a classifier.
    pub fn logits(&self, b: &B, image_embeds: &B::Tensor) -> Result<Option<B::Tensor>> {
        self.classifier.as_ref().map(|classifier| classifier.forward(b, image_embeds)).transpose()
    }
}
