//! LLaVA-1.5: CLIP's picture tower, a projector, and a Llama that reads pictures as tokens (Liu et al.,
//! arXiv 2310.03744).
//!
//! Names are those of the Hugging Face checkpoints, the older (`language_model.model`,
//! `vision_tower.vision_model`) and the newer ones (`model.language_model`, `model.vision_tower`).
//! Unusual here: the tower ends with the last layer that is read, so of a published folder its last
//! layer is not loaded.

use std::sync::Arc;

use crate::backend::{Activation, Backend, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::Linear;
use crate::weights::{ConfigReader, Weights};

use super::clip::{ClipVision, ClipVisionConfig};
use super::llama::{Llama, LlamaConfig, TokenId};

/// Which rows of a picture become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectStrategy {
    /// The patches, without the class row.
    Default,
    /// All.
    Full,
}

/// What `config.json` says. Field names are the file's.
#[derive(Clone, Debug, PartialEq)]
pub struct LlavaConfig {
    /// The language model.
    pub text_config: LlamaConfig,
    /// The picture tower, as many layers of it as are read.
    pub vision_config: ClipVisionConfig,
    /// The token that stands for a row of a picture; `image_token_id` in newer files.
    pub image_token_index: TokenId,
    /// The hidden states of the tower that are read, side by side: 0 is what enters its first layer, n
    /// what the n-th layer gives. A file counts negative ones from the end.
    pub vision_feature_layer: Vec<usize>,
    /// Which rows of them.
    pub vision_feature_select_strategy: SelectStrategy,
    /// Nonlinearity of the projector.
    pub projector_hidden_act: Activation,
    /// Biases of the projector.
    pub multimodal_projector_bias: bool,
}

/// Sizes of the Llama 2 of 7 billion weights, which published files leave out.
const TEXT: &[(&str, usize)] = &[
    ("vocab_size", 32_000),
    ("hidden_size", 4096),
    ("intermediate_size", 11_008),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("bos_token_id", 1),
    ("eos_token_id", 2),
];
/// Sizes of CLIP's ViT-L/14 at 336 pixels, the defaults of Hugging Face's configuration.
const VISION: &[(&str, usize)] = &[
    ("hidden_size", 1024),
    ("intermediate_size", 4096),
    ("num_hidden_layers", 24),
    ("num_attention_heads", 16),
    ("image_size", 336),
    ("patch_size", 14),
];
/// Most layers that are read side by side.
const MAX_FEATURE_LAYERS: usize = 16;

impl LlavaConfig {
    /// Reads a `config.json` of `model_type` llava, with a Llama or Qwen2 and a CLIP inside.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config = ConfigReader::new(file, text)?;
        if config.str("model_type")? != "llava" {
            return Err(config.unsupported("model_type", "llava"));
        }
        if config.has("quantization_config") {
            return Err(config.unsupported("quantization_config", "float weights"));
        }
        let empty = || ConfigReader::new(file, "{}");
        let part = |name| config.object(name)?.map_or_else(empty, Ok);
        let text = part("text_config")?;
        let qwen2 = match text.str_or("model_type", "llama")? {
            "llama" => false,
            "qwen2" => true,
            _ => return Err(text.unsupported("model_type", "llama, qwen2")),
        };
        let mut text_config = LlamaConfig::read(&text.with_defaults(TEXT), qwen2)?;
        // Newer files say it outside, older ones inside.
        text_config.tie_word_embeddings |= config.bool_or("tie_word_embeddings", false)?;
        let vision = part("vision_config")?;
        if vision.str_or("model_type", "clip_vision_model")? != "clip_vision_model" {
            return Err(vision.unsupported("model_type", "clip_vision_model"));
        }
        let mut vision_config = ClipVisionConfig::read(&vision.with_defaults(VISION))?;

        let vision_feature_layer = layers(&config, vision_config.encoder.num_hidden_layers)?;
        vision_config.encoder.num_hidden_layers =
            vision_feature_layer.iter().copied().max().unwrap_or_default();
        let token = ["image_token_index", "image_token_id"].into_iter().find(|&n| config.has(n));
        let image_token_index =
            config.usize_or(token.unwrap_or_default(), 32_000, 0..=u32::MAX as usize)?;
        if image_token_index >= text_config.vocab_size {
            let expected = format!("an id below vocab_size {}", text_config.vocab_size);
            return Err(config.wrong(token.unwrap_or("image_token_index"), expected));
        }
        let act = config.str_or("projector_hidden_act", "gelu")?;
        Ok(Self {
            text_config,
            vision_config,
            image_token_index: image_token_index as TokenId,
            vision_feature_layer,
            vision_feature_select_strategy: match config
                .str_or("vision_feature_select_strategy", "default")?
            {
                "default" => SelectStrategy::Default,
                "full" => SelectStrategy::Full,
                _ => {
                    let supported = "default, full";
                    return Err(config.unsupported("vision_feature_select_strategy", supported));
                }
            },
            projector_hidden_act: Activation::parse(act).ok_or_else(|| {
                config.unsupported("projector_hidden_act", "gelu, gelu_new, quick_gelu, relu, silu")
            })?,
            multimodal_projector_bias: config.bool_or("multimodal_projector_bias", true)?,
        })
    }

    /// Tokens that a picture takes.
    pub fn image_tokens(&self) -> usize {
        let patches = self.vision_config.patches.num_patches();
        match self.vision_feature_select_strategy {
            SelectStrategy::Default => patches,
            SelectStrategy::Full => patches + 1,
        }
    }
}

/// `vision_feature_layer`: one layer or a list, as numbers of hidden states.
fn layers(config: &ConfigReader, depth: usize) -> Result<Vec<usize>> {
    const FIELD: &str = "vision_feature_layer";
    let wrong = || {
        let states = depth as i64 + 1;
        let expected = format!("layers from -{states} to {depth}, at most {MAX_FEATURE_LAYERS}");
        config.wrong(FIELD, expected)
    };
    let layer = |value: &serde_json::Value| {
        let number = value.as_i64()?;
        let from_end = if number < 0 { depth as i64 + 1 } else { 0 };
        let state = usize::try_from(number.checked_add(from_end)?).ok()?;
        (state <= depth).then_some(state)
    };
    let layers: Option<Vec<usize>> = match config.value(FIELD) {
        None => Some(vec![depth.saturating_sub(1)]),
        Some(serde_json::Value::Array(list)) => list.iter().map(layer).collect(),
        Some(value) => layer(value).map(|layer| vec![layer]),
    };
    layers.filter(|l| (1..=MAX_FEATURE_LAYERS).contains(&l.len())).ok_or_else(wrong)
}

/// From the tower's width to the language model's.
#[derive(Clone, Debug)]
struct MultiModalProjector<B: Backend> {
    linear_1: Linear<B>, // (text hidden_size, feature layers * vision hidden_size)
    linear_2: Linear<B>, // (text hidden_size, text hidden_size)
    act: Activation,
}

impl<B: Backend> MultiModalProjector<B> {
    fn load(w: &Weights<'_, B>, config: &LlavaConfig) -> Result<Self> {
        let width = config.vision_config.encoder.hidden_size * config.vision_feature_layer.len();
        let (hidden, bias) = (config.text_config.hidden_size, config.multimodal_projector_bias);
        Ok(Self {
            linear_1: Linear::load(&w.at("linear_1"), [hidden, width], bias)?,
            linear_2: Linear::load(&w.at("linear_2"), [hidden, hidden], bias)?,
            act: config.projector_hidden_act,
        })
    }

    /// (rows, feature layers * vision hidden_size) -> (rows, text hidden_size)
    fn forward(&self, b: &B, features: &B::Tensor) -> Result<B::Tensor> {
        let inner = b.activate(&self.linear_1.forward(b, features)?, self.act)?;
        self.linear_2.forward(b, &inner)
    }
}

/// Tower, projector and language model.
#[derive(Clone, Debug)]
pub struct Llava<B: Backend> {
    vision_tower: ClipVision<B>,
    multi_modal_projector: MultiModalProjector<B>,
    language_model: Arc<Llama<B>>,
    config: LlavaConfig,
}

impl<B: Backend> Llava<B> {
    /// Loads the three parts by their older or newer names.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(w: &Weights<'_, B>, config: LlavaConfig) -> Result<Self> {
        const TOWER: &[&str] = &[
            "vision_tower.vision_model",
            "vision_tower",
            "model.vision_tower.vision_model",
            "model.vision_tower",
        ];
        const PROJECTOR: &[&str] = &["multi_modal_projector", "model.multi_modal_projector"];
        let tower = w.at_first(TOWER, "embeddings.class_embedding");
        let projector = w.at_first(PROJECTOR, "linear_1.weight");
        let language = ["language_model.model", "model.language_model"];
        let language = w.at_first(&language, "embed_tokens.weight");
        let lm_head = w.at_first(&["language_model.lm_head", "lm_head"], "weight");
        let text_config = config.text_config.clone();
        Ok(Self {
            vision_tower: ClipVision::load(&tower, &config.vision_config)?,
            multi_modal_projector: MultiModalProjector::load(&projector, &config)?,
            language_model: Arc::new(Llama::load_parts(&language, &lm_head, text_config)?),
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &LlavaConfig {
        &self.config
    }

    /// The language model, which a session runs.
    pub fn language_model(&self) -> &Arc<Llama<B>> {
        &self.language_model
    }

    /// `pixel_values` (pictures, 3, image_size, image_size), normalised -> (pictures * image_tokens,
    /// text hidden_size), the rows that take the places of picture tokens. `trace` receives the
    /// tower's `hidden_states`: what enters its first layer, and the output of each layer that is
    /// loaded.
    ///
    /// # Errors
    /// A number of values that is no whole number of pictures.
    pub fn image_features(
        &self,
        b: &B,
        pixel_values: &[f32],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        let mut states = Vec::new();
        let tower = &self.vision_tower;
        let (_, segments) =
            tower.hidden(b, pixel_values, Some(&mut states)).at(|| "vision_tower")?;
        let rows = self.selected(&segments);
        let layers =
            self.config.vision_feature_layer.iter().map(|&layer| match states.get(layer) {
                Some(state) => b.gather_rows(state, &rows),
                None => Err(Error::Internal(format!("no hidden state {layer} of the tower"))),
            });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        if let Some(trace) = trace {
            trace.append(&mut states);
        }
        let features = b.concat(&layers.iter().collect::<Vec<_>>())?;
        self.multi_modal_projector.forward(b, &features).at(|| "multi_modal_projector")
    }

    /// The rows of all pictures that become tokens.
    fn selected(&self, segments: &Segments) -> Vec<u32> {
        let class_rows = match self.config.vision_feature_select_strategy {
            SelectStrategy::Default => 1,
            SelectStrategy::Full => 0,
        };
        segments.iter().flat_map(|rows| rows.start as u32 + class_rows..rows.end as u32).collect()
    }

    /// The embeddings of a prompt with picture tokens, which `features` (picture tokens, hidden_size)
    /// overwrite: (ids, hidden_size).
    ///
    /// # Errors
    /// Another number of picture tokens than of features.
    pub fn embed(&self, b: &B, ids: &[TokenId], features: &B::Tensor) -> Result<B::Tensor> {
        let rows = picture_rows(ids, self.config.image_token_index, b.shape(features)[0])?;
        self.language_model.embed_soft(b, ids, &rows, features)
    }
}

/// Where `ids` have the token `image_token_id`.
///
/// # Errors
/// Not as often as there are `features`.
pub fn picture_rows(ids: &[TokenId], image_token_id: TokenId, features: usize) -> Result<Vec<u32>> {
    let places = ids.iter().zip(0u32..).filter(|(id, _)| **id == image_token_id);
    let rows: Vec<u32> = places.map(|(_, row)| row).collect();
    if rows.len() != features {
        let expected = format!("{features} tokens {image_token_id}, one for each row of a picture");
        return Err(Error::argument("picture tokens", "ids", expected, rows.len()));
    }
    Ok(rows)
}
