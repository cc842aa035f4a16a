//! `kind = "clip"`: the configuration file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tributary_core::{Error, Result};

use super::super::config::{self, TrainingConfig};
use super::super::optimizer::OptimizerConfig;
use super::super::schedule::Schedule;

/// The picture tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VisionTower {
    /// Width.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Height and width of a picture, pixels.
    pub image_size: usize,
    /// Height and width of a patch, pixels.
    pub patch_size: usize,
}

impl Default for VisionTower {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            image_size: 64,
            patch_size: 8,
        }
    }
}

/// The text tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextTower {
    /// Width.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Most tokens of the vocabulary that is learned from the texts.
    pub vocab_size: usize,
    /// Longest text, tokens.
    pub max_position_embeddings: usize,
}

impl Default for TextTower {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            vocab_size: 1024,
            max_position_embeddings: 64,
        }
    }
}

/// Must be there, so that a file says what it trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipKind {
    /// Pictures and texts in one space.
    Clip,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipModelConfig {
    /// `clip`.
    pub kind: ClipKind,
    /// Width of the common space.
    #[serde(default = "projection_dim")]
    pub projection_dim: usize,
    /// `[model.vision]`.
    #[serde(default)]
    pub vision: VisionTower,
    /// `[model.text]`.
    #[serde(default)]
    pub text: TextTower,
}

fn projection_dim() -> usize {
    64
}

/// Ids of the special tokens of the vocabulary that is learned.
pub(super) const SPECIAL_TOKENS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];

impl ClipModelConfig {
    /// The `config.json` of this model over a vocabulary of `vocab_size` tokens.
    pub(super) fn to_json(&self, vocab_size: usize) -> String {
        let Self { vision, text, projection_dim, .. } = self;
        let config = json!({
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": projection_dim,
            "logit_scale_init_value": 2.6592,
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": vision.hidden_size,
                "intermediate_size": vision.intermediate_size,
                "num_hidden_layers": vision.num_hidden_layers,
                "num_attention_heads": vision.num_attention_heads,
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "hidden_act": "quick_gelu",
            },
            "text_config": {
                "model_type": "clip_text_model",
                "hidden_size": text.hidden_size,
                "intermediate_size": text.intermediate_size,
                "num_hidden_layers": text.num_hidden_layers,
                "num_attention_heads": text.num_attention_heads,
                "vocab_size": vocab_size,
                "max_position_embeddings": text.max_position_embeddings,
                "hidden_act": "quick_gelu",
                "bos_token_id": 0,
                "eos_token_id": 1,
            },
        });
        format!("{config:#}\n")
    }

    /// The `preprocessor_config.json`: the whole picture, from 0..255 to -1..1.
    pub(super) fn preprocessor_json(&self) -> String {
        let size = self.vision.image_size;
        let config = json!({
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": true,
            "size": {"height": size, "width": size},
            "resample": 3,
            "do_center_crop": false,
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "do_convert_rgb": true,
        });
        format!("{config:#}\n")
    }
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipDataConfig {
    /// A prepared folder: `catalogue.jsonl` and `images`; relative to the configuration's folder.
    pub path: PathBuf,
    /// An attribute of the items that describes their picture, such as `caption`: the text that goes
    /// with it in place of title and description. What these tell and no picture shows, such as the
    /// brand, the picture tower could only learn by heart, item by item.
    pub caption: Option<String>,
    /// Also tell each title from the others by its description, and the reverse: without it a text's
    /// embedding drops what no picture shows, such as the brand.
    #[serde(default)]
    pub pair_texts: bool,
    /// Share of the items that is never trained on and validates.
    #[serde(default = "held_out")]
    pub held_out: f64,
}

fn held_out() -> f64 {
    0.15
}

/// A training configuration file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipTrainConfig {
    /// `[model]`.
    pub model: ClipModelConfig,
    /// `[data]`.
    pub data: ClipDataConfig,
    /// `[training]`; `metric` is `recall@1` or `recall@5`.
    pub training: TrainingConfig,
    /// `[optimizer]`.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// `[schedule]`.
    #[serde(default)]
    pub schedule: Schedule,
}

impl ClipTrainConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// A file that cannot be read; the first unknown key, missing key or wrong type, with its line.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &config::text(path, &[])?)
    }

    /// The same from the `text` of the file.
    pub(in crate::train) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        if let Some(folder) = path.parent() {
            config.data.path = folder.join(&config.data.path);
        }
        Ok(config)
    }

    /// The k of the recall that validates.
    pub(super) fn recall_at(&self) -> Result<usize> {
        match self.training.metric.as_str() {
            "recall@1" => Ok(1),
            "recall@5" => Ok(5),
            found => {
                let expected = "recall@1 or recall@5";
                Err(Error::file("configuration", "training.metric", expected, found))
            }
        }
    }
}
