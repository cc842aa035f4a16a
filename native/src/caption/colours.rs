//! What can be said of a picture without any model: how bright and how colourful it is, and which
//! colours it has where. Less than a vision-language model sees, but measured, not imagined: captions
//! for a machine that has no such model, and a baseline for one that has.

use std::path::Path;

use tributary_core::Result;
use tributary_core::preprocess::Picture;

use super::{CaptionHeader, Captioned, write_captions};
use crate::encode::Inputs;

/// What takes the place of a folder's name on the command line, and of a model's in the header.
pub const COLOURS: &str = "colours";
/// The rules below; another number where they change.
const VERSION: &str = "colours 1";
/// Pixels of a side that are looked at.
const GRID: usize = 64;
/// A colour of a smaller share is not named.
const MIN_SHARE: f64 = 0.12;
/// Most colours of a picture that are named.
const MAX_COLOURS: usize = 3;

const NAMES: [&str; 11] = [
    "black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink",
];

/// Captions the pictures of `inputs` into the file at `out`; see
/// [`caption_all`](super::caption_all).
///
/// # Errors
/// A file that cannot be written; a picture that cannot be read is a failure in the answer.
pub fn caption_by_colours(
    inputs: &Inputs,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Captioned> {
    let header = CaptionHeader {
        model: VERSION.into(),
        data_sha256: inputs.sha256().to_owned(),
        prompt: String::new(),
        max_new_tokens: 0,
        max_picture_tokens: 0,
        temperature: 0.0,
        seed: 0,
    };
    write_captions(&header, inputs, out, progress, &mut |_, picture| Ok(describe(&picture)))
}

/// Such as "a dark, muted picture, mostly black with some brown and red; the top is grey".
pub fn describe(picture: &Picture) -> String {
    let (width, height) = (picture.width(), picture.height());
    let (columns, rows) = (width.min(GRID), height.min(GRID));
    let mut whole = Counts::default();
    let mut thirds: [Counts; 3] = Default::default();
    for row in 0..rows {
        let y = (2 * row + 1) * height / (2 * rows);
        for column in 0..columns {
            let x = (2 * column + 1) * width / (2 * columns);
            let at = (y * width + x) * 3;
            let Some(&[r, g, b]) = picture.rgb().get(at..at + 3) else { continue };
            whole.add([r, g, b]);
            if let Some(third) = thirds.get_mut(row * 3 / rows) {
                third.add([r, g, b]);
            }
        }
    }
    let colours = whole.colours();
    let Some((main, others)) = colours.split_first() else { return String::new() };
    let with = match others {
        [] => String::new(),
        others => format!(" with some {}", others.join(" and ")),
    };
    let looks = format!("{}, {}", whole.brightness(), whole.colourfulness());
    let mut text = format!("a {looks} picture, mostly {main}{with}");
    for (name, third) in ["top", "middle", "bottom"].into_iter().zip(&thirds) {
        let colours = third.colours();
        let Some(colour) = colours.first().filter(|colour| *colour != main) else { continue };
        text += &format!("; the {name} is {colour}");
    }
    text
}

/// What the pixels of a part of a picture are.
#[derive(Default)]
struct Counts {
    colours: [usize; NAMES.len()],
    pixels: usize,
    brightness: f64,
    chroma: f64,
}

impl Counts {
    fn add(&mut self, rgb: [u8; 3]) {
        let [r, g, b] = rgb.map(f64::from);
        if let Some(count) = self.colours.get_mut(colour(rgb)) {
            *count += 1;
        }
        self.pixels += 1;
        // Rec. 601, as in JPEG.
        self.brightness += 0.299 * r + 0.587 * g + 0.114 * b;
        self.chroma += r.max(g).max(b) - r.min(g).min(b);
    }

    /// The most frequent first, always one where there are pixels.
    fn colours(&self) -> Vec<&'static str> {
        let mut found: Vec<(usize, &str)> = self.colours.iter().copied().zip(NAMES).collect();
        found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let least = MIN_SHARE * self.pixels as f64;
        let first = found.first().map_or(0, |(count, _)| *count);
        let named = found.into_iter().take(MAX_COLOURS);
        named
            .filter(|(count, _)| *count > 0 && (*count == first || *count as f64 >= least))
            .map(|(_, name)| name)
            .collect()
    }

    fn brightness(&self) -> &'static str {
        match self.brightness / self.pixels.max(1) as f64 {
            ..45.0 => "very dark",
            ..90.0 => "dark",
            ..150.0 => "half-bright",
            ..200.0 => "bright",
            _ => "very bright",
        }
    }

    fn colourfulness(&self) -> &'static str {
        match self.chroma / self.pixels.max(1) as f64 {
            ..12.0 => "colourless",
            ..40.0 => "muted",
            ..80.0 => "coloured",
            _ => "colourful",
        }
    }
}

/// The place in [`NAMES`] of what a pixel is called, by its hue in degrees where it has one.
fn colour([r, g, b]: [u8; 3]) -> usize {
    let [r, g, b] = [r, g, b].map(f64::from);
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = most - least;
    if most < 50.0 {
        return 0;
    }
    if chroma < 0.18 * most || chroma < 20.0 {
        return if most > 200.0 { 2 } else { 1 };
    }
    let hue = if most == r {
        ((g - b) / chroma).rem_euclid(6.0)
    } else if most == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    match hue * 60.0 {
        ..15.0 | 345.0.. if most > 180.0 && chroma < 0.5 * most => 10,
        ..15.0 | 345.0.. => 3,
        ..45.0 if most < 170.0 || chroma < 0.5 * most => 5,
        ..45.0 => 4,
        ..70.0 => 6,
        ..170.0 => 7,
        ..260.0 => 8,
        ..300.0 => 9,
        _ if most < 120.0 => 9,
        _ => 10,
    }
}
