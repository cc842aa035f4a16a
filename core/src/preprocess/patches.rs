//! Qwen2-VL's rule: a picture keeps its shape and becomes as many patches as its size asks for.

use std::ops::RangeInclusive;

use super::resize::{Filter, Region, resize};
use super::{CLIP, MAX_OUTPUT_SIDE, Picture, filter, numbers, tables};
use crate::error::{Error, Result};
use crate::models::qwen2_vl::{PatchGrid, Qwen2VlVisionConfig};
use crate::nn::CHANNELS;
use crate::weights::ConfigReader;

/// Most tokens a picture becomes unless the caller asks for more. Published folders allow 16,384, which
/// is a prompt of minutes; the processor's own default is this.
pub const MAX_PICTURE_TOKENS: usize = 1280;
/// A picture with a longer side more than this many times the shorter one is refused.
pub const MAX_ASPECT_RATIO: usize = 200;

/// A picture as patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// (patches, 3 * temporal_patch_size * patch_size * patch_size), in the order of blocks of
    /// `merge_size` x `merge_size` patches.
    pub values: Vec<f32>,
    /// Patches along each axis.
    pub grid: PatchGrid,
}

/// What a Qwen2-VL's `preprocessor_config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchPreprocessor {
    resize: Option<Filter>,
    min_pixels: usize,
    max_pixels: usize,
    patch_size: usize,
    temporal_patch_size: usize,
    merge_size: usize,
    rescale_factor: f32,
    normalize: Option<[[f32; CHANNELS]; 2]>,
}

impl PatchPreprocessor {
    /// The published rule for a model of `config`.
    pub fn new(config: &Qwen2VlVisionConfig) -> Self {
        let factor = config.patch_size * config.spatial_merge_size;
        Self {
            resize: Some(Filter::Bicubic),
            min_pixels: 4 * factor * factor,
            max_pixels: MAX_PICTURE_TOKENS.saturating_mul(factor * factor),
            patch_size: config.patch_size,
            temporal_patch_size: config.temporal_patch_size,
            merge_size: config.spatial_merge_size,
            rescale_factor: super::RESCALE_FACTOR,
            normalize: Some(CLIP),
        }
    }

    /// Reads a `preprocessor_config.json` in the older words (`min_pixels`, `max_pixels`) or the newer
    /// ones (`size`), for a model of `model`. More than [`MAX_PICTURE_TOKENS`] are cut to them.
    ///
    /// # Errors
    /// A value that is out of range or is not the model's, a kind of processor or a filter that is not
    /// known.
    pub fn parse(file: &str, text: &str, model: &Qwen2VlVisionConfig) -> Result<Self> {
        const PIXELS: RangeInclusive<usize> = 1..=u32::MAX as usize;
        let config = ConfigReader::new(file, text)?;
        let own = Self::new(model);
        const KIND: &str = "image_processor_type";
        if !config.str_or(KIND, "Qwen2VLImageProcessor")?.starts_with("Qwen2VLImageProcessor") {
            return Err(config.unsupported(KIND, "Qwen2VLImageProcessor"));
        }
        let same = [
            ("patch_size", model.patch_size),
            ("temporal_patch_size", model.temporal_patch_size),
            ("merge_size", model.spatial_merge_size),
        ];
        for (name, expected) in same {
            if config.usize_or(name, expected, 1..=4096)? != expected {
                return Err(config.wrong(name, format!("{expected}, config.json's")));
            }
        }
        let (mut min_pixels, mut max_pixels) = (own.min_pixels, own.max_pixels);
        if let Some(size) = config.object("size")? {
            min_pixels = size.usize_or("shortest_edge", min_pixels, PIXELS)?;
            max_pixels = size.usize_or("longest_edge", max_pixels, PIXELS)?;
        }
        min_pixels = config.usize_or("min_pixels", min_pixels, PIXELS)?;
        max_pixels = config.usize_or("max_pixels", max_pixels, PIXELS)?;
        if min_pixels > max_pixels {
            let name = if config.has("min_pixels") { "min_pixels" } else { "size" };
            return Err(config.wrong(name, format!("at most max_pixels, {max_pixels}")));
        }
        let (rescale_factor, normalize) = numbers(&config, CLIP)?;
        let max_pixels = max_pixels.min(own.max_pixels);
        Ok(Self {
            resize: match config.bool_or("do_resize", true)? {
                true => Some(filter(&config, Filter::Bicubic)?),
                false => None,
            },
            min_pixels: min_pixels.min(max_pixels),
            max_pixels,
            rescale_factor,
            normalize,
            ..own
        })
    }

    /// The same with at most `tokens` for a picture, whatever the file says.
    #[must_use]
    pub fn with_max_tokens(self, tokens: usize) -> Self {
        let factor = self.patch_size * self.merge_size;
        let max_pixels = tokens.max(1).saturating_mul(factor * factor);
        Self { max_pixels, min_pixels: self.min_pixels.min(max_pixels), ..self }
    }

    /// Most tokens of a picture.
    pub fn max_tokens(&self) -> usize {
        self.max_pixels / (self.patch_size * self.merge_size).pow(2)
    }

    /// (height, width) that a picture of `height` x `width` pixels is resized to: whole blocks, about
    /// its own shape, from `min_pixels` to `max_pixels` as far as whole blocks can.
    ///
    /// # Errors
    /// A longer side of more than [`MAX_ASPECT_RATIO`] times the shorter one.
    pub fn resized(&self, height: usize, width: usize) -> Result<[usize; 2]> {
        let factor = self.patch_size * self.merge_size;
        let sides = [height, width];
        let (shorter, longer) = (height.min(width), height.max(width));
        if shorter == 0 || longer > shorter.saturating_mul(MAX_ASPECT_RATIO) {
            let expected = format!("sides of a ratio of at most {MAX_ASPECT_RATIO}");
            let found = format!("{width}x{height} pixels");
            return Err(Error::argument("preprocessor", "picture", expected, found));
        }
        if self.resize.is_none() {
            if height.saturating_mul(width) > self.max_pixels {
                let found = height.saturating_mul(width) as u64;
                let limit = self.max_pixels as u64;
                let what = "preprocessor: pixels of a picture, with do_resize off".into();
                return Err(Error::Limit { what, limit, found });
            }
            return match sides.iter().all(|side| side.is_multiple_of(factor)) {
                true => Ok(sides),
                false => {
                    let expected =
                        format!("sides that are multiples of {factor}, with do_resize off");
                    let found = format!("{width}x{height} pixels");
                    Err(Error::argument("preprocessor", "picture", expected, found))
                }
            };
        }
        let blocks =
            |side: f64, round: fn(f64) -> f64| round(side / factor as f64) as usize * factor;
        let area = height as f64 * width as f64;
        let [h, w] = sides.map(|side| blocks(side as f64, f64::round_ties_even));
        let pixels = h.saturating_mul(w);
        let size = if pixels > self.max_pixels {
            let scale = (area / self.max_pixels as f64).sqrt();
            sides.map(|side| blocks(side as f64 / scale, f64::floor).max(factor))
        } else if pixels < self.min_pixels {
            let scale = (self.min_pixels as f64 / area).sqrt();
            sides.map(|side| blocks(side as f64 * scale, f64::ceil))
        } else {
            [h, w]
        };
        match size.iter().find(|&&side| side > MAX_SIDE) {
            None => Ok(size),
            Some(&side) => {
                let (limit, found) = (MAX_SIDE as u64, side as u64);
                let what = "preprocessor: pixels of a resized picture's side".into();
                Err(Error::Limit { what, limit, found })
            }
        }
    }

    /// The picture as patches: resized, normalised, each patch channel by channel and moment by
    /// moment; a still picture is the same at each moment.
    ///
    /// # Errors
    /// As for [`PatchPreprocessor::resized`].
    pub fn patches(&self, picture: &Picture) -> Result<Patches> {
        let [height, width] = self.resized(picture.height, picture.width)?;
        let whole = [Region::centre(height, height), Region::centre(width, width)];
        let filter = self.resize.unwrap_or(Filter::Bicubic);
        let pixels = resize(picture, [height, width], [&whole[0], &whole[1]], filter);
        let tables = tables(self.rescale_factor, self.normalize);

        let (patch, block) = (self.patch_size, self.patch_size * self.merge_size);
        let mut values = Vec::with_capacity(pixels.len() * self.temporal_patch_size);
        let corners = |len: usize, step: usize| (0..len).step_by(step);
        for (top, left) in
            corners(height, block).flat_map(|t| corners(width, block).map(move |l| (t, l)))
        {
            for (y, x) in
                corners(block, patch).flat_map(|y| corners(block, patch).map(move |x| (y, x)))
            {
                for (channel, table) in tables.iter().enumerate() {
                    let start = values.len();
                    for row in top + y..top + y + patch {
                        let from = (row * width + left + x) * CHANNELS;
                        let line = pixels.get(from..from + patch * CHANNELS).unwrap_or_default();
                        let line = line.iter().skip(channel).step_by(CHANNELS);
                        values.extend(line.map(|&byte| table[usize::from(byte)]));
                    }
                    let moment = start..values.len();
                    (1..self.temporal_patch_size)
                        .for_each(|_| values.extend_from_within(moment.clone()));
                }
            }
        }
        let side = |pixels: usize| (pixels / patch) as u32;
        Ok(Patches {
            values,
            grid: PatchGrid { temporal: 1, height: side(height), width: side(width) },
        })
    }
}

/// Longest side after resizing: a long and thin picture of as many tokens as may be.
const MAX_SIDE: usize = 4 * MAX_OUTPUT_SIDE;
