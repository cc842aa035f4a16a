//! Pillow's resampling (`Image.resize`, libImaging/Resample.c), to the bit: coefficients in fixed
//! point with 22 bits, one pass along rows, one along columns, 8 bits in between. Pillow 13 takes
//! the columns first of some pictures that become lower, which moves values by at most one of 255.

use std::f64::consts::PI;

use super::Picture;
use crate::nn::CHANNELS;

/// How pixels are weighed. Each filter grows with the reduction, which is the antialiasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Three lobes of sinc, windowed.
    Lanczos,
    /// A triangle.
    Bilinear,
    /// Keys' cubic with a = -1/2.
    Bicubic,
}

impl Filter {
    /// By Pillow's number.
    pub fn from_pillow(number: usize) -> Option<Self> {
        match number {
            1 => Some(Self::Lanczos),
            2 => Some(Self::Bilinear),
            3 => Some(Self::Bicubic),
            _ => None,
        }
    }

    /// Half the width, in pixels of the smaller picture.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => 3.0,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match self {
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            _ => 0.0,
        }
    }
}

/// What a centre crop keeps of one axis, and where it lies in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// First pixel kept.
    pub(super) first: usize,
    /// Pixels kept.
    pub(super) len: usize,
    /// Pixels of padding before them.
    pub(super) padding: usize,
}

impl Region {
    /// The centre `kept` of `available` pixels; all of them, in the middle, where there are fewer.
    /// Both roundings are those of the original.
    pub(super) fn centre(available: usize, kept: usize) -> Self {
        match available >= kept {
            true => Self { first: (available - kept) / 2, len: kept, padding: 0 },
            false => {
                let padding = (kept - available).div_ceil(2);
                Self { first: 0, len: available, padding }
            }
        }
    }
}

/// Bits behind the point of a coefficient.
const PRECISION: u32 = 32 - 8 - 2;

/// The weights of one output pixel: of the input pixels from `first` on.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The windows of the output pixels in `region`, of an axis that goes from `input` to `output`
/// pixels.
fn windows(input: usize, output: usize, region: &Region, filter: Filter) -> Vec<Window> {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (region.first..region.first + region.len)
        .map(|at| {
            let centre = (at as f64 + 0.5) * scale;
            // Conversions of a float to an integer cut off, and stop at 0.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            let weight =
                |pixel: usize| filter.weight((pixel as f64 - centre + 0.5) * (1.0 / stretch));
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: f64| {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                (weight * f64::from(1 << PRECISION) + 0.5f64.copysign(weight)) as i32
            };
            Window { first, weights: weights.into_iter().map(fixed).collect() }
        })
        .collect()
}

/// The weighted sum, rounded, of every `step`-th byte from the window's first pixel on.
fn weighted(bytes: &[u8], window: &Window, step: usize) -> u8 {
    let half = 1 << (PRECISION - 1);
    let bytes = bytes.iter().step_by(step);
    let sum = bytes.zip(&window.weights).fold(half, |sum, (&b, &w)| sum + i32::from(b) * w);
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// `picture` resized to (height, width) `size`; of that, the `regions` of rows and columns.
pub(super) fn resize(
    picture: &Picture,
    size: [usize; 2],
    [rows, cols]: [&Region; 2],
    filter: Filter,
) -> Vec<u8> {
    let [height, width] = size;
    if height == 0 || width == 0 {
        return Vec::new();
    }
    let vertical =
        (height != picture.height).then(|| windows(picture.height, height, rows, filter));
    // The rows of the original that the kept ones need.
    let (first, end) = match &vertical {
        None => (rows.first, rows.first + rows.len),
        Some(windows) => (
            windows.iter().map(|w| w.first).min().unwrap_or(0),
            windows.iter().map(|w| w.first + w.weights.len()).max().unwrap_or(0),
        ),
    };
    let lines = picture.rgb.chunks_exact(picture.width * CHANNELS).take(end).skip(first);

    let mut narrow = Vec::with_capacity((end - first) * cols.len * CHANNELS);
    match (width != picture.width).then(|| windows(picture.width, width, cols, filter)) {
        None => {
            let kept = cols.first * CHANNELS..(cols.first + cols.len) * CHANNELS;
            lines.for_each(|line| narrow.extend_from_slice(&line[kept.clone()]));
        }
        Some(windows) => {
            for line in lines {
                for window in &windows {
                    let from = window.first * CHANNELS;
                    let pixel = |channel| weighted(&line[from + channel..], window, CHANNELS);
                    narrow.extend((0..CHANNELS).map(pixel));
                }
            }
        }
    }
    let Some(windows) = vertical else { return narrow };
    let stride = cols.len * CHANNELS;
    let mut out = Vec::with_capacity(rows.len * stride);
    for window in &windows {
        let from = (window.first - first) * stride;
        out.extend((0..stride).map(|at| weighted(&narrow[from + at..], window, stride)));
    }
    out
}
