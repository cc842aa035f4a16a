//! Qwen2-VL's vision transformer. Patches come in blocks of 2 x 2, which become one token each, so that
//! merging is joining rows that lie side by side.

use std::ops::RangeInclusive;

use crate::backend::{Activation, Backend, Mask, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{
    AxesPosition, CHANNELS, Encoder, EncoderConfig, EncoderPass, LayerNames, LayerNorm, Linear,
    NormOrder, QkvNames, Rope,
};
use crate::weights::{ConfigReader, Weights};

/// Patches of a picture along each axis: a row of Hugging Face's `image_grid_thw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatchGrid {
    /// Moments; 1 for a still picture.
    pub temporal: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl PatchGrid {
    /// Patches of all moments.
    pub fn patches(&self) -> usize {
        let sides = [self.temporal, self.height, self.width];
        sides.iter().fold(1usize, |product, &side| product.saturating_mul(side as usize))
    }
}

/// `vision_config` of a Qwen2-VL's `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Qwen2VlVisionConfig {
    /// The layers: `embed_dim`, `depth`, `num_heads`, `mlp_ratio` and `hidden_act` of the file.
    pub encoder: EncoderConfig,
    /// Width of a token that goes to the language model.
    pub hidden_size: usize,
    /// Height and width of a patch, pixels.
    pub patch_size: usize,
    /// Moments of a patch.
    pub temporal_patch_size: usize,
    /// Patches along each side of the block that becomes a token.
    pub spatial_merge_size: usize,
    /// Base of the rotary angles.
    pub rope_theta: f32,
}

/// Stabiliser of the norms, which no file says.
const LAYER_NORM_EPS: f32 = 1e-6;

impl Qwen2VlVisionConfig {
    /// Reads a `vision_config`; what it leaves out is the published models'.
    pub fn read(config: &ConfigReader) -> Result<Self> {
        const WIDTH: RangeInclusive<usize> = 1..=65_536;
        for name in ["in_channels", "in_chans"] {
            if config.usize_or(name, CHANNELS, 1..=1024)? != CHANNELS {
                return Err(config.unsupported(name, CHANNELS));
            }
        }
        let embed_dim = config.usize_or("embed_dim", 1280, WIDTH)?;
        let num_heads = config.usize_or("num_heads", 16, 1..=1024)?;
        if !embed_dim.is_multiple_of(num_heads * 4) {
            let expected =
                format!("heads whose width is a multiple of 4, of embed_dim {embed_dim}");
            return Err(config.wrong("num_heads", expected));
        }
        let act = config.str_or("hidden_act", "quick_gelu")?;
        let hidden_act = Activation::parse(act)
            .ok_or_else(|| config.unsupported("hidden_act", "quick_gelu, gelu, gelu_new, silu"))?;
        let rope = config.object("rope_parameters")?;
        if let Some(rope) = &rope
            && rope.str_or("rope_type", "axial")? != "axial"
        {
            return Err(rope.unsupported("rope_type", "axial"));
        }
        Ok(Self {
            encoder: EncoderConfig {
                hidden_size: embed_dim,
                intermediate_size: embed_dim * config.usize_or("mlp_ratio", 4, 1..=64)?,
                num_hidden_layers: config.usize_or("depth", 32, 1..=1024)?,
                num_attention_heads: num_heads,
                hidden_act,
                layer_norm_eps: LAYER_NORM_EPS,
                qkv_bias: true,
            },
            hidden_size: config.usize_or("hidden_size", 3584, WIDTH)?,
            patch_size: config.usize_or("patch_size", 14, 1..=256)?,
            temporal_patch_size: config.usize_or("temporal_patch_size", 2, 1..=16)?,
            spatial_merge_size: config.usize_or("spatial_merge_size", 2, 1..=16)?,
            rope_theta: match rope {
                Some(rope) => rope.f32_or("rope_theta", 10_000.0, 1.0..=1e12)?,
                None => 10_000.0,
            },
        })
    }

    /// Values of one patch.
    pub fn patch_values(&self) -> usize {
        CHANNELS * self.temporal_patch_size * self.patch_size * self.patch_size
    }
}

const LAYER: LayerNames = LayerNames {
    qkv: QkvNames::Stacked("attn.qkv"),
    out: "attn.proj",
    attention_norm: "norm1",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    mlp_norm: "norm2",
    order: NormOrder::Pre,
};

/// A block of patches to one token.
#[derive(Clone, Debug)]
struct PatchMerger<B: Backend> {
    ln_q: LayerNorm<B>,
    mlp_0: Linear<B>, // (block * embed_dim, block * embed_dim)
    mlp_2: Linear<B>, // (hidden_size, block * embed_dim)
    /// Patches of a block.
    block: usize,
}

impl<B: Backend> PatchMerger<B> {
    fn load(w: &Weights<'_, B>, config: &Qwen2VlVisionConfig) -> Result<Self> {
        let (embed_dim, block) = (config.encoder.hidden_size, config.spatial_merge_size.pow(2));
        let width = block * embed_dim;
        Ok(Self {
            ln_q: LayerNorm::load(&w.at("ln_q"), embed_dim, LAYER_NORM_EPS)?,
            mlp_0: Linear::load(&w.at("mlp.0"), [width, width], true)?,
            mlp_2: Linear::load(&w.at("mlp.2"), [config.hidden_size, width], true)?,
            block,
        })
    }

    /// (patches, embed_dim) -> (patches / block, hidden_size)
    fn forward(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        let rows = b.shape(hidden)[0] as u32;
        let normed = self.ln_q.forward(b, hidden)?;
        let members = (0..self.block as u32).map(|member| {
            let rows: Vec<u32> = (member..rows).step_by(self.block).collect();
            b.gather_rows(&normed, &rows)
        });
        let members = members.collect::<Result<Vec<_>>>()?;
        let joined = b.concat(&members.iter().collect::<Vec<_>>())?;
        let inner = b.activate(&self.mlp_0.forward(b, &joined)?, Activation::Gelu)?;
        self.mlp_2.forward(b, &inner)
    }
}

/// The vision transformer.
#[derive(Clone, Debug)]
pub struct Qwen2VlVision<B: Backend> {
    patch_embed: Linear<B>, // (embed_dim, 3 * temporal_patch_size * patch_size * patch_size)
    blocks: Encoder<B>,
    merger: PatchMerger<B>,
    rope: Rope,
    config: Qwen2VlVisionConfig,
}

impl<B: Backend> Qwen2VlVision<B> {
    /// Loads `patch_embed.proj`, `blocks` and `merger`.
    pub(super) fn load(w: &Weights<'_, B>, config: Qwen2VlVisionConfig) -> Result<Self> {
        let encoder = config.encoder;
        // A convolution whose stride is its size is a linear layer.
        let shape = [encoder.hidden_size, config.patch_values()];
        Ok(Self {
            patch_embed: Linear::load(&w.at("patch_embed.proj"), shape, false)?,
            blocks: Encoder::load(&w.at("blocks"), encoder, &LAYER)?,
            merger: PatchMerger::load(&w.at("merger"), &config)?,
            rope: Rope::axial(encoder.heads().head_dim, config.rope_theta)?,
            config,
        })
    }

    /// `patches` (patches, patch_values) of all pictures -> (tokens, hidden_size). The patches of a
    /// moment see each other and no others.
    pub(super) fn forward(
        &self,
        b: &B,
        patches: &[f32],
        grids: &[PatchGrid],
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        // Before anything is as large as the grids say.
        let count = grids.iter().fold(0usize, |sum, grid| sum.saturating_add(grid.patches()));
        let shape = [count, self.config.patch_values()];
        let values = count.saturating_mul(shape[1]);
        if count == 0 || patches.len() != values {
            let expected = "the values of the grids' patches, and at least one";
            let found = format!("{} values for {grids:?}", patches.len());
            return Err(Error::argument("visual", "patches", expected, found));
        }
        let (positions, lengths) = self.layout(grids)?;
        let hidden = self.patch_embed.forward(b, &b.upload(patches, shape)?)?;
        let segments = Segments::new(&lengths)?;
        let angles = Some(self.rope.angles_of_axes(b, &positions)?);
        let pass = EncoderPass { segments: &segments, mask: Mask::Bidirectional, angles };
        let hidden = self.blocks.forward_pass(b, hidden, &pass, trace)?;
        self.merger.forward(b, &hidden).at(|| "merger")
    }

    /// Where each patch stands, in the order of the blocks, and the patches of each moment.
    fn layout(&self, grids: &[PatchGrid]) -> Result<(Vec<AxesPosition>, Vec<usize>)> {
        let merge = self.config.spatial_merge_size as u32;
        let side = self.config.spatial_merge_size;
        let (mut positions, mut lengths) = (Vec::new(), Vec::new());
        for grid in grids {
            let PatchGrid { temporal, height, width } = *grid;
            if !height.is_multiple_of(merge) || !width.is_multiple_of(merge) {
                let expected = format!("multiples of {merge} rows and columns");
                return Err(Error::argument("visual", "grids", expected, format!("{grid:?}")));
            }
            for time in 0..temporal {
                for top in (0..height).step_by(side) {
                    for left in (0..width).step_by(side) {
                        for row in top..top + merge {
                            positions.extend((left..left + merge).map(|col| [time, row, col]));
                        }
                    }
                }
                lengths.push(height as usize * width as usize);
            }
        }
        Ok((positions, lengths))
    }
}
