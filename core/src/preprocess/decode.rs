//! Files to pixels, within limits: PNG and WebP by the `image` crate, JPEG by `libjpeg-turbo-rs`, whatever
//! the file's name.

use std::io::Cursor;

use image::error::{ImageError, LimitErrorKind};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{MAX_DECODED_BYTES, MAX_PICTURE_SIDE, Picture, check_size, jpeg};
use crate::error::{Error, Result};

/// Largest file of a picture.
pub const MAX_PICTURE_BYTES: usize = 64 << 20;

/// The pixels of a PNG, JPEG or WebP file, upright as its EXIF orientation says; those of a JPEG are
/// libjpeg-turbo's to the byte, which Pillow reads with. Of an animation the first frame; grey becomes three equal channels, 16 bits become 8, and alpha is dropped, as by
/// Pillow's `convert("RGB")`. `name` is the file's, for errors.
///
/// # Errors
/// Another kind of file, whatever its name ends in; a file that is damaged or cut short; one over
/// [`MAX_PICTURE_BYTES`], [`super::MAX_PICTURE_PIXELS`] or [`MAX_DECODED_BYTES`].
pub fn decode(name: &str, bytes: &[u8]) -> Result<Picture> {
    if bytes.len() > MAX_PICTURE_BYTES {
        let (limit, found) = (MAX_PICTURE_BYTES as u64, bytes.len() as u64);
        return Err(Error::Limit { what: format!("{name}: bytes"), limit, found });
    }
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        Ok(other) => return Err(unsupported(name, other.to_mime_type())),
        Err(_) => return Err(unsupported(name, kind_of(bytes))),
    };
    if format == ImageFormat::Jpeg {
        return jpeg::decode(name, bytes);
    }
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_PICTURE_SIDE as u32);
    limits.max_image_height = Some(MAX_PICTURE_SIDE as u32);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| broken(name, e))?;
    let (width, height) = decoder.dimensions();
    check_size(name, width as usize, height as usize)?;
    let orientation = decoder.orientation().map_err(|e| broken(name, e))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| broken(name, e))?;
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    Picture::new(name, width, height, image.into_raw())
}

fn unsupported(name: &str, found: &str) -> Error {
    Error::Unsupported {
        file: name.to_owned(),
        field: "picture".into(),
        found: found.to_owned(),
        supported: "PNG, JPEG, WebP".into(),
    }
}

/// A word for files that are no picture we know.
fn kind_of(bytes: &[u8]) -> &'static str {
    let start = bytes.get(..bytes.len().min(1024)).unwrap_or_default().to_ascii_lowercase();
    let holds = |what: &[u8]| start.windows(what.len()).any(|part| part == what);
    match () {
        () if bytes.is_empty() => "an empty file",
        () if holds(b"<svg") => "SVG",
        () if holds(b"<html") || holds(b"<!doctype html") => "an HTML page",
        () => "no picture",
    }
}

fn broken(name: &str, error: ImageError) -> Error {
    if let ImageError::Limits(limit) = &error {
        let (what, limit) = match limit.kind() {
            LimitErrorKind::DimensionError => ("pixels of a side", MAX_PICTURE_SIDE as u64),
            _ => ("bytes of decoded pixels", MAX_DECODED_BYTES),
        };
        let expected = format!("at most {limit} {what}");
        return Error::file(name, "size", expected, "more");
    }
    Error::file(name, "picture", "a file that can be decoded", error)
}
