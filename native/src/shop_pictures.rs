//! Pictures of the synthetic shop's items: drawn, not photographed, the same on every machine that
//! rounds alike. A picture shows an item's [`Look`] (shape, palette, pattern) and nothing else.

mod canvas;
mod pattern;
mod shapes;

use std::io::Cursor;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use tributary_core::shop::Look;
use tributary_core::{Error, Result};

use canvas::Canvas;
use shapes::layers;

/// Width and height of a picture in pixels.
pub const PICTURE_SIZE: u32 = 128;
/// Pictures in one row of a contact sheet.
const SHEET_COLUMNS: usize = 25;
/// Width and height of a picture on a contact sheet, in pixels.
const SHEET_SIZE: u32 = 64;

/// The picture of an item that looks so, as a PNG file of [`PICTURE_SIZE`] squared.
///
/// # Errors
/// Memory for the picture could not be had.
pub fn picture(look: &Look) -> Result<Vec<u8>> {
    png(&pixels(look, PICTURE_SIZE)?, [PICTURE_SIZE; 2])
}

/// All these items on one sheet, in rows, as a PNG file.
///
/// # Errors
/// Memory for the picture could not be had.
pub fn contact_sheet(looks: &[Look]) -> Result<Vec<u8>> {
    let side = SHEET_SIZE as usize;
    let columns = SHEET_COLUMNS.min(looks.len()).max(1);
    let mut sheet = Vec::with_capacity(looks.len().div_ceil(columns) * columns * side * side * 3);
    for row in looks.chunks(columns) {
        let pictures: Vec<Vec<u8>> =
            row.iter().map(|look| pixels(look, SHEET_SIZE)).collect::<Result<_>>()?;
        for line in 0..side {
            let part = line * side * 3..(line + 1) * side * 3;
            pictures.iter().for_each(|picture| sheet.extend_from_slice(&picture[part.clone()]));
            let missing = columns - row.len();
            sheet.resize(sheet.len() + missing * side * 3, u8::MAX);
        }
    }
    let height = sheet.len() / (columns * side * 3);
    png(&sheet, [(columns * side) as u32, height as u32])
}

/// (size, size, 3) bytes, red first.
fn pixels(look: &Look, size: u32) -> Result<Vec<u8>> {
    let drawn = Canvas::new(size).and_then(|mut canvas| {
        canvas.backdrop()?;
        for layer in layers(look.shape) {
            canvas.draw(layer, look)?;
        }
        Some(canvas.rgb())
    });
    drawn.ok_or_else(|| Error::Internal(format!("a picture of {} cannot be drawn", look.caption())))
}

fn png(rgb: &[u8], [width, height]: [u32; 2]) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    PngEncoder::new_with_quality(&mut file, CompressionType::Best, FilterType::NoFilter)
        .write_image(rgb, width, height, ExtendedColorType::Rgb8)
        .map_err(|e| Error::Internal(format!("a picture cannot be written: {e}")))?;
    Ok(file.into_inner())
}
