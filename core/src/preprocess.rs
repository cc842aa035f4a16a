//! Floor 6: a picture to the pixel values a vision model was trained on, exactly as its
//! `preprocessor_config.json` says.
//!
//! Resizing follows Pillow to the bit: an antialiased filter, first along rows and then along
//! columns, rounded to 8 bits in between. Only what the centre crop keeps is computed, so a picture
//! of 1 x 100,000 pixels costs no more than its crop.

#[cfg(feature = "images")]
mod decode;
#[cfg(feature = "images")]
mod jpeg;
mod patches;
mod resize;

#[cfg(feature = "images")]
pub use decode::{MAX_PICTURE_BYTES, decode};
pub use patches::{MAX_ASPECT_RATIO, MAX_PICTURE_TOKENS, PatchPreprocessor, Patches};
pub use resize::Filter;

use crate::error::{Error, Result};
use crate::nn::CHANNELS;
use crate::weights::ConfigReader;
use resize::{Region, resize};

/// Longest side of a picture, pixels.
pub const MAX_PICTURE_SIDE: usize = 1 << 17;
/// Most pixels of a picture: 64 Mi, above what phones take.
pub const MAX_PICTURE_PIXELS: usize = 1 << 26;
/// Most bytes that decoding a picture allocates for pixels.
pub const MAX_DECODED_BYTES: u64 = 512 << 20;
/// Longest side of what a model is given, pixels.
pub const MAX_OUTPUT_SIDE: usize = 4096;

/// A decoded picture: 8 bits of red, green and blue per pixel, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// `rgb` is height * width * 3 bytes. `name` says in errors which picture it is.
    ///
    /// # Errors
    /// No pixels, more than [`MAX_PICTURE_PIXELS`], or another number of bytes.
    pub fn new(name: &str, width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        check_size(name, width, height)?;
        let expected = width * height * CHANNELS;
        if rgb.len() != expected {
            let expected = format!("{expected} bytes for {width}x{height} pixels");
            return Err(Error::file(name, "pixels", expected, rgb.len()));
        }
        Ok(Self { width, height, rgb })
    }

    /// As a page hands pixels over: four bytes each, of which the fourth, alpha, is dropped.
    ///
    /// # Errors
    /// As for [`Picture::new`].
    pub fn from_rgba(name: &str, width: usize, height: usize, rgba: &[u8]) -> Result<Self> {
        check_size(name, width, height)?;
        let (pixels, rest) = rgba.as_chunks::<4>();
        if pixels.len() != width * height || !rest.is_empty() {
            let expected = format!("{} bytes for {width}x{height} pixels", width * height * 4);
            return Err(Error::file(name, "pixels", expected, rgba.len()));
        }
        let rgb = pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
        Ok(Self { width, height, rgb })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// height * width * 3 bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// `Err` for no pixels or too many; called before they are allocated.
fn check_size(name: &str, width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 {
        let found = format!("{width}x{height}");
        return Err(Error::file(name, "size", "at least one pixel", found));
    }
    let limits = [
        ("pixels of a side", width.max(height), MAX_PICTURE_SIDE),
        ("pixels", width.saturating_mul(height), MAX_PICTURE_PIXELS),
    ];
    match limits.iter().find(|(_, found, limit)| found > limit) {
        None => Ok(()),
        Some((what, found, limit)) => {
            let (limit, found) = (*limit as u64, *found as u64);
            Err(Error::Limit { what: format!("{name}: {what}"), limit, found })
        }
    }
}

/// The size after resizing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// The shorter side; the longer one keeps the picture's shape.
    ShortestEdge(usize),
    /// Whatever the picture's shape.
    Exact { height: usize, width: usize },
}

/// What a `preprocessor_config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct PicturePreprocessor {
    resize: Option<(Size, Filter)>,
    /// (height, width); a smaller picture is surrounded by black.
    center_crop: Option<[usize; 2]>,
    /// 1 without rescaling.
    rescale_factor: f32,
    /// Mean and standard deviation of each channel.
    normalize: Option<[[f32; CHANNELS]; 2]>,
}

/// What a kind of processor does where its file is silent.
struct Defaults {
    size: Size,
    filter: Filter,
    center_crop: Option<usize>,
    statistics: [[f32; CHANNELS]; 2],
    /// An old file's `size` of one number means the shorter side.
    number_is_shortest_edge: bool,
}

const HALF: [[f32; CHANNELS]; 2] = [[0.5; CHANNELS]; 2];
/// Of the pictures that CLIP was trained on.
const CLIP: [[f32; CHANNELS]; 2] =
    [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]];

fn clip_defaults(image_size: usize) -> Defaults {
    Defaults {
        size: Size::ShortestEdge(image_size),
        filter: Filter::Bicubic,
        center_crop: Some(image_size),
        statistics: CLIP,
        number_is_shortest_edge: true,
    }
}

fn vit_defaults(image_size: usize) -> Defaults {
    Defaults {
        size: Size::Exact { height: image_size, width: image_size },
        filter: Filter::Bilinear,
        center_crop: None,
        statistics: HALF,
        number_is_shortest_edge: false,
    }
}

impl PicturePreprocessor {
    /// CLIP's own rule: the shorter side to `image_size` by bicubic, the centre, its statistics.
    pub fn clip(image_size: usize) -> Self {
        Self::from_defaults(&clip_defaults(image_size))
    }

    /// ViT's own rule: to a square by bilinear, from 0..255 to -1..1.
    pub fn vit(image_size: usize) -> Self {
        Self::from_defaults(&vit_defaults(image_size))
    }

    fn from_defaults(defaults: &Defaults) -> Self {
        Self {
            resize: Some((defaults.size, defaults.filter)),
            center_crop: defaults.center_crop.map(|size| [size; 2]),
            rescale_factor: RESCALE_FACTOR,
            normalize: Some(defaults.statistics),
        }
    }

    /// Reads a `preprocessor_config.json` of a CLIP or ViT processor, in the older words or the
    /// newer ones. A file that does not name its kind is ViT's unless `model_is_clip`.
    ///
    /// # Errors
    /// A value that is out of range, a kind of processor or a filter that is not known.
    pub fn parse(file: &str, text: &str, model_is_clip: bool) -> Result<Self> {
        let config = ConfigReader::new(file, text)?;
        let kind = ["image_processor_type", "feature_extractor_type"]
            .into_iter()
            .find(|name| config.has(name));
        let is_clip = match kind.map(|name| config.str(name)).transpose()? {
            None => model_is_clip,
            Some(kind) if kind.starts_with("CLIP") => true,
            Some(kind) if kind.starts_with("ViT") => false,
            Some(_) => {
                let supported = "those of CLIP and ViT";
                return Err(config.unsupported(kind.unwrap_or_default(), supported));
            }
        };
        let defaults = if is_clip { clip_defaults(224) } else { vit_defaults(224) };
        let filter = filter(&config, defaults.filter)?;
        let resize = match config.bool_or("do_resize", true)? {
            true => Some((size(&config, &defaults)?, filter)),
            false => None,
        };
        let crops = config.bool_or("do_center_crop", defaults.center_crop.is_some())?;
        let center_crop = match (crops, defaults.center_crop) {
            (false, _) => None,
            (true, default) => Some(crop(&config, default)?),
        };
        let (rescale_factor, normalize) = numbers(&config, defaults.statistics)?;
        Ok(Self { resize, center_crop, rescale_factor, normalize })
    }

    /// The same rule with the statistics of `config` (`image_mean`, `image_std`) where it has them:
    /// timm's folders keep them in `config.json`.
    ///
    /// # Errors
    /// Values that are not three numbers in range.
    pub fn with_statistics(mut self, config: &ConfigReader) -> Result<Self> {
        let [mean, std] = self.normalize.unwrap_or(HALF);
        if config.has("image_mean") || config.has("image_std") {
            let mean = channels(config, "image_mean", mean, -1e6..=1e6)?;
            self.normalize = Some([mean, channels(config, "image_std", std, 1e-6..=1e6)?]);
        }
        Ok(self)
    }

    /// (height, width) of what every picture becomes; `None` where that depends on the picture.
    pub fn output_size(&self) -> Option<[usize; 2]> {
        match (self.center_crop, self.resize) {
            (Some(size), _) => Some(size),
            (None, Some((Size::Exact { height, width }, _))) => Some([height, width]),
            _ => None,
        }
    }

    /// Pixel values (3, height, width): channel by channel, row by row, as a model takes them.
    ///
    /// # Errors
    /// Without a centre crop, an output above [`MAX_OUTPUT_SIDE`].
    pub fn pixel_values(&self, picture: &Picture) -> Result<Vec<f32>> {
        let (resized, filter) = match self.resize {
            None => ([picture.height, picture.width], Filter::Bicubic),
            Some((Size::Exact { height, width }, filter)) => ([height, width], filter),
            Some((Size::ShortestEdge(edge), filter)) => (shortest_edge(picture, edge), filter),
        };
        let [height, width] = self.center_crop.unwrap_or(resized);
        if height.max(width) > MAX_OUTPUT_SIDE {
            let (limit, found) = (MAX_OUTPUT_SIDE as u64, height.max(width) as u64);
            let what = "preprocessor: pixels of a resized picture's side".into();
            return Err(Error::Limit { what, limit, found });
        }
        let [rows, cols] = [Region::centre(resized[0], height), Region::centre(resized[1], width)];
        let kept = resize(picture, resized, [&rows, &cols], filter);

        // Black where a picture is smaller than the crop; then one table per channel.
        let tables = tables(self.rescale_factor, self.normalize);
        let mut values = Vec::with_capacity(CHANNELS * height * width);
        for (channel, table) in tables.iter().enumerate() {
            let start = values.len();
            values.resize(start + height * width, table[0]);
            let plane = values.get_mut(start..).unwrap_or_default();
            if kept.is_empty() {
                continue;
            }
            let lines = plane.chunks_exact_mut(width).skip(rows.padding);
            for (line, kept) in lines.zip(kept.chunks_exact(cols.len * CHANNELS)) {
                let pixels = kept.iter().skip(channel).step_by(CHANNELS);
                for (value, &byte) in line.iter_mut().skip(cols.padding).zip(pixels) {
                    *value = table[usize::from(byte)];
                }
            }
        }
        Ok(values)
    }
}

/// What each byte becomes, per channel: (byte * rescale_factor - mean) / std, in f32 as the original
/// computes it.
fn tables(rescale_factor: f32, normalize: Option<[[f32; CHANNELS]; 2]>) -> [[f32; 256]; CHANNELS] {
    std::array::from_fn(|channel| {
        std::array::from_fn(|byte| {
            let value = byte as f32 * rescale_factor;
            match &normalize {
                Some([mean, std]) => (value - mean[channel]) / std[channel],
                None => value,
            }
        })
    })
}

/// 1 / 255.
const RESCALE_FACTOR: f32 = 1.0 / 255.0;

/// `resample`.
fn filter(config: &ConfigReader, default: Filter) -> Result<Filter> {
    if !config.has("resample") {
        return Ok(default);
    }
    Filter::from_pillow(config.usize("resample", 0..=5)?)
        .ok_or_else(|| config.unsupported("resample", "1 lanczos, 2 bilinear, 3 bicubic"))
}

/// `rescale_factor`, 1 without; mean and standard deviation of each channel, if they are used.
fn numbers(
    config: &ConfigReader,
    [mean, std]: [[f32; CHANNELS]; 2],
) -> Result<(f32, Option<[[f32; CHANNELS]; 2]>)> {
    let rescale_factor = match config.bool_or("do_rescale", true)? {
        true => config.f32_or("rescale_factor", RESCALE_FACTOR, 1e-9..=1e6)?,
        false => 1.0,
    };
    let normalize = match config.bool_or("do_normalize", true)? {
        true => Some([
            channels(config, "image_mean", mean, -1e6..=1e6)?,
            channels(config, "image_std", std, 1e-6..=1e6)?,
        ]),
        false => None,
    };
    Ok((rescale_factor, normalize))
}

/// (height, width) with the shorter side `edge`; the longer one is rounded down.
fn shortest_edge(picture: &Picture, edge: usize) -> [usize; 2] {
    let (height, width) = (picture.height, picture.width);
    let longer = |long: usize, short: usize| ((edge * long) as f64 / short as f64) as usize;
    match width <= height {
        true => [longer(height, width), edge],
        false => [edge, longer(width, height)],
    }
}

/// `size`: an object, or one number in older files.
fn size(config: &ConfigReader, defaults: &Defaults) -> Result<Size> {
    const SIDE: std::ops::RangeInclusive<usize> = 1..=MAX_OUTPUT_SIDE;
    if !config.has("size") {
        return Ok(defaults.size);
    }
    if config.value("size").is_some_and(|size| size.is_number()) {
        let side = config.usize("size", SIDE)?;
        return Ok(match defaults.number_is_shortest_edge {
            true => Size::ShortestEdge(side),
            false => Size::Exact { height: side, width: side },
        });
    }
    let Some(size) = config.object("size")? else { return Ok(defaults.size) };
    if size.has("longest_edge") || size.has("max_height") {
        return Err(config.unsupported("size", "shortest_edge, or height and width"));
    }
    match size.has("shortest_edge") {
        true => Ok(Size::ShortestEdge(size.usize("shortest_edge", SIDE)?)),
        false => Ok(Size::Exact {
            height: size.usize("height", SIDE)?,
            width: size.usize("width", SIDE)?,
        }),
    }
}

/// `crop_size`: an object, or one number in older files. (height, width)
fn crop(config: &ConfigReader, default: Option<usize>) -> Result<[usize; 2]> {
    const SIDE: std::ops::RangeInclusive<usize> = 1..=MAX_OUTPUT_SIDE;
    if config.value("crop_size").is_some_and(|size| size.is_number()) {
        return Ok([config.usize("crop_size", SIDE)?; 2]);
    }
    match (config.object("crop_size")?, default) {
        (Some(size), _) => Ok([size.usize("height", SIDE)?, size.usize("width", SIDE)?]),
        (None, Some(default)) => Ok([default; 2]),
        (None, None) => Err(config.wrong("crop_size", "a height and a width")),
    }
}

/// Three numbers, or one for all.
fn channels(
    config: &ConfigReader,
    name: &str,
    default: [f32; CHANNELS],
    range: std::ops::RangeInclusive<f32>,
) -> Result<[f32; CHANNELS]> {
    if !config.has(name) {
        return Ok(default);
    }
    let number =
        |value: &serde_json::Value| value.as_f64().map(|n| n as f32).filter(|n| range.contains(n));
    let wrong =
        || config.wrong(name, format!("three numbers from {} to {}", range.start(), range.end()));
    match config.value(name) {
        Some(serde_json::Value::Array(list)) => {
            let numbers: Vec<f32> =
                list.iter().map(number).collect::<Option<_>>().ok_or_else(wrong)?;
            <[f32; CHANNELS]>::try_from(numbers).map_err(|_| wrong())
        }
        Some(value) => number(value).map(|n| [n; CHANNELS]).ok_or_else(wrong),
        None => Ok(default),
    }
}
