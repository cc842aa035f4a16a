//! Qwen2-VL: pictures at their own resolution, a vision transformer with rotary positions in two axes,
//! and a Qwen2 whose positions have three (Wang et al., arXiv 2409.12191).
//!
//! Names are those of the Hugging Face checkpoints, the older (`visual`, `model`) and the newer ones
//! (`model.visual`, `model.language_model`). Still pictures only: a picture fills the two moments of a
//! patch by itself.

mod vision;

use std::sync::Arc;

pub use vision::{PatchGrid, Qwen2VlVision, Qwen2VlVisionConfig};

use crate::backend::Backend;
use crate::error::{Context, Error, Result};
use crate::nn::AxesPosition;
use crate::weights::{ConfigReader, Weights};

use super::llama::{Llama, LlamaConfig, TokenId};
use super::llava::picture_rows;

/// What `config.json` says. Field names are the file's.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen2VlConfig {
    /// The language model; older files have its fields outside, beside `vision_config`.
    pub text_config: LlamaConfig,
    /// The vision transformer.
    pub vision_config: Qwen2VlVisionConfig,
    /// The token that stands for four patches of a picture.
    pub image_token_id: TokenId,
}

/// What a file without `mrope_section` means.
const MROPE_SECTION: [usize; 3] = [16, 24, 24];

impl Qwen2VlConfig {
    /// Reads a `config.json` of `model_type` qwen2_vl.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config = ConfigReader::new(file, text)?;
        if config.str("model_type")? != "qwen2_vl" {
            return Err(config.unsupported("model_type", "qwen2_vl"));
        }
        if config.has("quantization_config") {
            return Err(config.unsupported("quantization_config", "float weights"));
        }
        let text = config.object("text_config")?.unwrap_or_else(|| config.clone());
        let mut text_config = LlamaConfig::read(&text, true)?;
        text_config.tie_word_embeddings |= config.bool_or("tie_word_embeddings", false)?;
        let sections = text_config.mrope_section.unwrap_or(MROPE_SECTION);
        let pairs = text_config.heads.head_dim / 2;
        if sections.iter().sum::<usize>() != pairs {
            let name = if text.has("rope_scaling") { "rope_scaling" } else { "rope_parameters" };
            let expected = format!("an mrope_section of sum {pairs}, half of head_dim");
            return Err(text.wrong(name, expected));
        }
        text_config.mrope_section = Some(sections);
        let vision = config
            .object("vision_config")?
            .ok_or_else(|| config.wrong("vision_config", "an object"))?;
        let vision_config = Qwen2VlVisionConfig::read(&vision)?;
        if vision_config.hidden_size != text_config.hidden_size {
            let expected = format!("{}, the language model's", text_config.hidden_size);
            return Err(vision.wrong("hidden_size", expected));
        }
        let image_token_id = config.usize_or("image_token_id", 151_655, 0..=u32::MAX as usize)?;
        if image_token_id >= text_config.vocab_size {
            let expected = format!("an id below vocab_size {}", text_config.vocab_size);
            return Err(config.wrong("image_token_id", expected));
        }
        Ok(Self { text_config, vision_config, image_token_id: image_token_id as TokenId })
    }
}

/// Vision transformer and language model.
#[derive(Clone, Debug)]
pub struct Qwen2Vl<B: Backend> {
    visual: Qwen2VlVision<B>,
    language_model: Arc<Llama<B>>,
    config: Qwen2VlConfig,
}

impl<B: Backend> Qwen2Vl<B> {
    /// Loads both parts by their older or newer names.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(w: &Weights<'_, B>, config: Qwen2VlConfig) -> Result<Self> {
        let visual = w.at_first(&["visual", "model.visual"], "patch_embed.proj.weight");
        let language = w.at_first(&["model", "model.language_model"], "embed_tokens.weight");
        let text_config = config.text_config.clone();
        Ok(Self {
            visual: Qwen2VlVision::load(&visual, config.vision_config)?,
            language_model: Arc::new(Llama::load_parts(&language, &w.at("lm_head"), text_config)?),
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &Qwen2VlConfig {
        &self.config
    }

    /// The language model, which a session runs.
    pub fn language_model(&self) -> &Arc<Llama<B>> {
        &self.language_model
    }

    /// `patches` (patches of all pictures, 3 * temporal_patch_size * patch_size * patch_size) ->
    /// (tokens of all pictures, hidden_size), the rows that take the places of picture tokens.
    /// `trace` receives what enters the first layer and each layer's output.
    ///
    /// # Errors
    /// Grids that are not whole blocks, another number of values than the grids ask for.
    pub fn image_features(
        &self,
        b: &B,
        patches: &[f32],
        grids: &[PatchGrid],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        self.visual.forward(b, patches, grids, trace).at(|| "visual")
    }

    /// Tokens that a picture takes.
    pub fn image_tokens(&self, grid: &PatchGrid) -> usize {
        grid.patches() / self.config.vision_config.spatial_merge_size.pow(2)
    }

    /// The embeddings of a prompt with picture tokens, which `features` (picture tokens, hidden_size)
    /// overwrite: (ids, hidden_size).
    ///
    /// # Errors
    /// Another number of picture tokens than of features.
    pub fn embed(&self, b: &B, ids: &[TokenId], features: &B::Tensor) -> Result<B::Tensor> {
        let rows = picture_rows(ids, self.config.image_token_id, b.shape(features)[0])?;
        self.language_model.embed_soft(b, ids, &rows, features)
    }

    /// Where each token stands. A text counts on in all three axes at once; a picture's tokens begin
    /// where the text before ends, and count frames, rows and columns; the text behind it begins
    /// after the picture's longest side.
    ///
    /// # Errors
    /// Picture tokens that are not those of `grids`, in their order.
    pub fn positions(&self, ids: &[TokenId], grids: &[PatchGrid]) -> Result<Vec<AxesPosition>> {
        let merge = self.config.vision_config.spatial_merge_size as u32;
        let tokens: usize = grids.iter().map(|grid| self.image_tokens(grid)).sum();
        picture_rows(ids, self.config.image_token_id, tokens)?;
        let (mut positions, mut next) = (Vec::with_capacity(ids.len()), 0);
        let (mut rest, mut grids) = (ids, grids.iter());
        while let Some((&id, behind)) = rest.split_first() {
            if id != self.config.image_token_id {
                positions.push([next; 3]);
                next += 1;
                rest = behind;
                continue;
            }
            let missing = || Error::Internal("a picture token without a picture".into());
            let grid = grids.next().ok_or_else(missing)?;
            let tokens = self.image_tokens(grid);
            let run = rest.iter().take_while(|&&id| id == self.config.image_token_id).count();
            if run < tokens {
                let expected = format!("{tokens} picture tokens side by side for {grid:?}");
                return Err(Error::argument("positions", "ids", expected, run));
            }
            let (rows, cols) = (grid.height / merge, grid.width / merge);
            for time in 0..grid.temporal {
                for row in 0..rows {
                    positions.extend((0..cols).map(|col| [next + time, next + row, next + col]));
                }
            }
            next += rows.max(cols);
            rest = rest.get(tokens..).unwrap_or_default();
        }
        Ok(positions)
    }
}
