//! Pictures to rows: square patches through one linear layer, a class row before them, a learned
//! position on each.

use super::Linear;
use crate::backend::{Backend, Segments};
use crate::error::{Context, Error, Result};
use crate::weights::{ConfigReader, Weights};

/// Channels of a picture: red, green, blue.
pub const CHANNELS: usize = 3;

/// The sizes of a vision model's input. Field names are those of `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchConfig {
    /// Height and width of a picture, pixels.
    pub image_size: usize,
    /// Height and width of a patch, pixels.
    pub patch_size: usize,
}

impl PatchConfig {
    /// Reads the fields of `config`, those of `default` where it is silent. Pixels that fill no
    /// whole patch are left out, as by the convolution.
    pub fn parse(config: &ConfigReader, default: Self) -> Result<Self> {
        if config.usize_or("num_channels", CHANNELS, 1..=1024)? != CHANNELS {
            return Err(config.unsupported("num_channels", CHANNELS));
        }
        let image_size = config.usize_or("image_size", default.image_size, 1..=4096)?;
        let patch_size = config.usize_or("patch_size", default.patch_size, 1..=4096)?;
        if patch_size > image_size {
            let expected = format!("at most image_size {image_size}");
            return Err(config.wrong("patch_size", expected));
        }
        Ok(Self { image_size, patch_size })
    }

    /// Values of one picture: channel by channel, row by row.
    pub fn pixels(&self) -> usize {
        CHANNELS * self.image_size * self.image_size
    }

    /// Patches of one picture.
    pub fn num_patches(&self) -> usize {
        let grid = self.image_size / self.patch_size;
        grid * grid
    }

    /// Values of one patch.
    fn patch_pixels(&self) -> usize {
        CHANNELS * self.patch_size * self.patch_size
    }

    /// `pixel_values` (pictures, 3, image_size, image_size) -> (pictures * num_patches,
    /// 3 * patch_size * patch_size), in the order of a convolution's weights.
    fn patches(&self, pixel_values: &[f32]) -> Vec<f32> {
        let Self { image_size, patch_size } = *self;
        let grid = image_size / patch_size;
        let pictures = pixel_values.len() / self.pixels();
        let mut patches = Vec::with_capacity(pictures * self.num_patches() * self.patch_pixels());
        for picture in pixel_values.chunks_exact(self.pixels()) {
            for (row, col) in (0..grid).flat_map(|row| (0..grid).map(move |col| (row, col))) {
                for channel in picture.chunks_exact(image_size * image_size) {
                    let lines = channel.chunks_exact(image_size).skip(row * patch_size);
                    for line in lines.take(patch_size) {
                        patches.extend_from_slice(&line[col * patch_size..][..patch_size]);
                    }
                }
            }
        }
        patches
    }
}

/// Where a checkpoint keeps the parts: a place and the tensor's name there.
#[derive(Debug)]
pub struct PatchNames<'n, 'a, B: Backend> {
    /// (hidden_size), with leading axes of 1 or without.
    pub class_embedding: (&'n Weights<'a, B>, &'n str),
    /// `weight` (hidden_size, 3, patch_size, patch_size), `bias` (hidden_size).
    pub projection: (&'n Weights<'a, B>, &'n str),
    /// (num_patches + 1, hidden_size), with leading axes of 1 or without.
    pub position_embedding: (&'n Weights<'a, B>, &'n str),
    /// Whether the projection has a bias.
    pub bias: bool,
}

/// The first layer of a vision transformer.
#[derive(Clone, Debug)]
pub struct PatchEmbedding<B: Backend> {
    class_embedding: B::Matrix,    // (1, hidden_size)
    projection: Linear<B>,         // (hidden_size, 3 * patch_size * patch_size)
    position_embedding: B::Matrix, // (num_patches + 1, hidden_size)
    config: PatchConfig,
}

impl<B: Backend> PatchEmbedding<B> {
    /// Loads the parts from where `names` says.
    pub fn load(
        names: &PatchNames<'_, '_, B>,
        config: PatchConfig,
        hidden_size: usize,
    ) -> Result<Self> {
        let (w, leaf) = names.class_embedding;
        let class_embedding = w.matrix(leaf, [1, hidden_size])?;
        let (w, place) = names.projection;
        let shape = [hidden_size, config.patch_pixels()];
        let projection = Linear::load(&w.at(place), shape, names.bias)?;
        let (w, leaf) = names.position_embedding;
        let position_embedding = w.matrix(leaf, [config.num_patches() + 1, hidden_size])?;
        Ok(Self { class_embedding, projection, position_embedding, config })
    }

    /// `pixel_values` (pictures, 3, image_size, image_size), normalised as the model was trained ->
    /// (pictures * (num_patches + 1), hidden_size), one segment per picture, the class row first.
    ///
    /// # Errors
    /// A number of values that is no whole number of pictures.
    pub fn forward(&self, b: &B, pixel_values: &[f32]) -> Result<(B::Tensor, Segments)> {
        let (config, pixels) = (&self.config, self.config.pixels());
        if pixel_values.is_empty() || !pixel_values.len().is_multiple_of(pixels) {
            let size = config.image_size;
            let expected = format!("a multiple of {pixels} values, {CHANNELS}x{size}x{size}");
            let found = pixel_values.len();
            return Err(Error::argument("patch_embedding", "pixel_values", expected, found));
        }
        let pictures = pixel_values.len() / pixels;
        let (num_patches, rows) = (config.num_patches(), config.num_patches() + 1);
        let segments = Segments::new(&vec![rows; pictures])?;

        let shape = [pictures * num_patches, config.patch_pixels()];
        let patches = b.upload(&config.patches(pixel_values), shape)?;
        let patches = self.projection.forward(b, &patches).at(|| "patch embedding")?;
        let classes = b.embed(&self.class_embedding, &vec![0; pictures])?;

        let starts: Vec<u32> = segments.iter().map(|rows| rows.start as u32).collect();
        let of_patches: Vec<u32> =
            starts.iter().flat_map(|&start| start + 1..start + rows as u32).collect();
        let positions = b.embed(&self.position_embedding, &segments.positions(0))?;
        let mut content = b.zeros(b.shape(&positions))?;
        b.scatter_rows(&mut content, &of_patches, &patches)?;
        b.scatter_rows(&mut content, &starts, &classes)?;
        Ok((b.add(&positions, &content)?, segments))
    }
}
