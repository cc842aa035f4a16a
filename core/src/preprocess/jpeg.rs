//! JPEG to pixels as libjpeg-turbo has them, to the byte: the models were trained on pictures read by Pillow,
//! which uses it. Decoders with another transform or chroma filter are up to 12 of 255 away.

use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use super::{MAX_DECODED_BYTES, MAX_PICTURE_PIXELS, MAX_PICTURE_SIDE, Picture, check_size};
use crate::error::{Error, Result};

/// Most scans of a progressive file. Encoders write about ten; each costs a pass over all coefficients.
const MAX_SCANS: usize = 100;

/// The pixels of a JPEG file, upright. A file that ends early is refused: a picture that is half grey is no
/// answer.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Picture> {
    // Of 40,000 damaged files one, whose header `pixels` refuses now, made the decoder panic. Should another do
    // so, it costs its picture and not the program.
    std::panic::catch_unwind(|| pixels(name, bytes)).unwrap_or_else(|_| {
        Err(Error::file(
            name,
            "picture",
            "a JPEG that can be decoded",
            "one that stops the decoder",
        ))
    })
}

fn pixels(name: &str, bytes: &[u8]) -> Result<Picture> {
    let limits = DecodeLimits {
        max_width: MAX_PICTURE_SIDE,
        max_height: MAX_PICTURE_SIDE,
        max_pixels: MAX_PICTURE_PIXELS as u64,
        max_scans: MAX_SCANS,
        max_memory: Some(MAX_DECODED_BYTES),
    };
    let decoder = Decoder::new_with_limits(bytes, limits).map_err(|e| broken(name, e))?;
    let header = decoder.header();
    check_size(name, header.width(), header.height())?;
    for component in &header.components {
        for factor in [component.horizontal_sampling, component.vertical_sampling] {
            if !(1..=4).contains(&factor) {
                return Err(Error::file(name, "sampling factor", "1 to 4", factor));
            }
        }
    }
    let decoder = decoder.with_output_format(PixelFormat::Rgb);
    let image = decoder.decode_image().map_err(|e| broken(name, e))?.apply_orientation();
    Picture::new(name, image.width, image.height, image.data)
}

fn broken(name: &str, error: JpegError) -> Error {
    match error {
        JpegError::LimitExceeded { what, actual, limit } => {
            Error::Limit { what: format!("{name}: {what}"), limit, found: actual }
        }
        error => Error::file(name, "picture", "a JPEG that can be decoded", error),
    }
}
