//! Pictures: pixel values against the original processors, and files that must be refused or read
//! with care (group B11 of the bad inputs).

use std::collections::BTreeMap;
use std::io::Cursor;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};
use sha2::{Digest, Sha256};
use tributary_core::ErrorKind;
use tributary_core::preprocess::{MAX_PICTURE_BYTES, Picture, PicturePreprocessor, decode};
use tributary_core::weights::ConfigReader;
use tributary_tests::files::assert_refused;
use tributary_tests::language::{Expected, folder};
use tributary_tests::shared;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder("pictures").join(name)).expect("a committed picture")
}

fn processor(name: &str) -> PicturePreprocessor {
    let text = String::from_utf8(fixture(name)).unwrap();
    PicturePreprocessor::parse("preprocessor_config.json", &text, false).unwrap()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// The largest difference of two lists of one length.
fn furthest(found: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len(), "number of values");
    let far = found.iter().zip(truth).map(|(f, t)| (f64::from(*f) - t).abs());
    far.fold(0.0, f64::max)
}

/// The same bytes as Pillow's, so the same pixel values but for the last bit of an f32. Pillow 13
/// takes columns first for some that become lower; there, one level of the 8 bits may differ.
#[test]
fn pixel_values_are_those_of_the_original_processors() {
    let expected = Expected::open("pictures");
    let pictures = ["wide", "tall", "one", "thin", "transparent", "grey", "palette"];
    let mut exact = 0;
    for (kind, level) in [("clip", 0.0151), ("vit", 0.0079), ("pad", 0.0), ("lanczos", 0.004)] {
        let processor = processor(&format!("{kind}.json"));
        for name in pictures {
            let picture = decode(name, &fixture(&format!("{name}.png"))).unwrap();
            let found = processor.pixel_values(&picture).unwrap();
            let far = furthest(&found, &expected.values(&format!("{kind}.{name}")));
            let shrinks = kind != "clip" && picture.height() > 12;
            let bound = if shrinks { f64::max(level, 2e-6) } else { 2e-6 };
            assert!(far <= bound, "{kind} {name}: {far:e}");
            exact += usize::from(far <= 2e-6);
        }
    }
    assert!(exact >= 20, "only {exact} of 28 are the same to the bit");
}

/// To the byte, JPEG included; of CMYK the conversion to RGB may round otherwise.
#[test]
fn files_are_decoded_as_pillow_decodes_them() {
    let expected = Expected::open("pictures");
    let cases = [
        ("animated.webp", 0.0),
        ("turned.png", 0.0),
        ("transparent.png", 0.0),
        ("photo.jpg", 0.0),
        ("cmyk.jpg", 1.0),
    ];
    for (name, bound) in cases {
        let picture = decode(name, &fixture(name)).unwrap();
        let found: Vec<f32> = picture.rgb().iter().map(|&byte| f32::from(byte)).collect();
        let far = furthest(&found, &expected.values(&format!("decoded.{name}")));
        assert!(far <= bound, "{name}: {far} of 255");
    }
    let turned = decode("turned.png", &fixture("turned.png")).unwrap();
    assert_eq!((turned.width(), turned.height()), (21, 53), "EXIF says: a quarter turn");
}

#[test]
fn a_wrong_extension_does_not_matter() {
    let right = decode("photo.jpg", &fixture("photo.jpg")).unwrap();
    assert_eq!(right, decode("photo.png", &fixture("photo.jpg")).unwrap());
}

#[test]
fn sixteen_bits_grey_and_alpha_become_eight_bits_of_three_channels() {
    let grey16 = ImageBuffer::from_fn(5, 3, |x, y| Luma([(x * 9000 + y * 3000) as u16]));
    let rgb16 = ImageBuffer::from_fn(5, 3, |x, y| Rgb([(x * 9000) as u16, (y * 9000) as u16, 77]));
    let rgba8 = ImageBuffer::from_fn(5, 3, |x, y| Rgba([(x * 50) as u8, (y * 80) as u8, 9, 0]));
    let cases = [
        (DynamicImage::ImageLuma16(grey16), [141, 141, 141]),
        (DynamicImage::ImageRgb16(rgb16), [140, 35, 0]),
        (DynamicImage::ImageRgba8(rgba8), [200, 80, 9]),
    ];
    for (image, pixel) in cases {
        let picture = decode("a.png", &encoded(&image, ImageFormat::Png)).unwrap();
        let at = 3 * (5 + 4); // row 1, column 4
        let found = &picture.rgb()[at..at + 3];
        let near = found.iter().zip(pixel).all(|(&f, p)| i32::from(f).abs_diff(p) <= 12);
        assert!(near, "{:?}: {found:?} should be about {pixel:?}", image.color());
    }
}

/// A PNG that claims a size; its data is that of another.
fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut png = fixture("one.png");
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    let step =
        |crc: u32| (0..8).fold(crc, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ c >> 1 } else { c >> 1 });
    !bytes.iter().fold(!0u32, |crc, &byte| step((crc ^ u32::from(byte)) & 0xff) ^ crc >> 8)
}

#[test]
fn bombs_and_empty_pictures_are_refused_before_they_are_decoded() {
    assert!(decode("one.png", &claims(1, 1)).is_ok(), "the checksum is right");
    let cases: [(u32, u32, &[&str]); 5] = [
        (0, 0, &["bomb.png"]),
        (0, 7, &["bomb.png"]),
        (10_000, 10_000, &["bomb.png", "67108864", "100000000"]),
        (1, 200_000, &["bomb.png", "131072"]),
        (u32::MAX >> 1, u32::MAX >> 1, &["bomb.png"]),
    ];
    for (width, height, words) in cases {
        assert_refused(
            &format!("{width}x{height}"),
            decode("bomb.png", &claims(width, height)),
            words,
        );
    }
    let error = decode("bomb.png", &claims(10_000, 10_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_refused("large", decode("a.png", &vec![0; MAX_PICTURE_BYTES + 1]), &["a.png", "bytes"]);
}

#[test]
fn other_files_are_refused_by_their_kind() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "an empty file"),
        (b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "image/gif"),
        (b"BM\x1e\x00\x00\x00\x00\x00", "image/bmp"),
        (b"\x00\x01\x02\x03 nothing", "no picture"),
    ];
    for (bytes, found) in cases {
        assert_refused(found, decode("a.jpg", bytes), &["a.jpg", found, "PNG, JPEG, WebP"]);
    }
}

/// Cut or damaged at every 64th of its length: an error, or the same picture where only the end of
/// the file was lost.
#[test]
fn truncated_and_damaged_files_never_panic() {
    for name in ["photo.jpg", "cmyk.jpg", "wide.png", "palette.png", "animated.webp"] {
        let whole = fixture(name);
        let picture = decode(name, &whole).unwrap();
        let mut refused = 0;
        for part in 0..64 {
            let cut = whole.len() * part / 64;
            match decode(name, &whole[..cut]) {
                Err(_) => refused += 1,
                Ok(found) => assert_eq!(found, picture, "{name} cut at {cut} of {}", whole.len()),
            }
            let mut damaged = whole.clone();
            damaged[cut] ^= 0x5a;
            // Wrong colours cannot be told from right ones; a result has the right size or is none.
            if let Ok(found) = decode(name, &damaged) {
                assert_eq!(
                    found.rgb().len(),
                    found.width() * found.height() * 3,
                    "{name} at {cut}"
                );
            }
        }
        // An animation's later frames may be lost without loss.
        let least = if name == "animated.webp" { 30 } else { 54 };
        assert!(refused >= least, "{name}: only {refused} of 64 cuts were refused");
    }
}

/// No sampling at all in the first of four colours, which the decoder would divide by.
#[test]
fn a_jpeg_without_sampling_is_refused() {
    let mut jpeg = fixture("cmyk.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    assert_eq!(jpeg[frame + 9], 4, "components");
    jpeg[frame + 11] = 0;
    assert_refused("no sampling", decode("cmyk.jpg", &jpeg), &["cmyk.jpg", "sampling"]);
}

#[test]
fn junk_beside_the_pixels_is_passed_over() {
    let jpeg = fixture("photo.jpg");
    let picture = decode("photo.jpg", &jpeg).unwrap();
    let junk = [b"\xff\xe2\x00\x14ICC_PROFILE\0\x01\x01".as_slice(), &[0xee; 4]].concat();
    let with_profile = [&jpeg[..2], &junk, &jpeg[2..]].concat();
    assert_eq!(decode("icc.jpg", &with_profile).unwrap(), picture);
    let with_tail = [&jpeg[..], b"something else"].concat();
    assert_eq!(decode("tail.jpg", &with_tail).unwrap(), picture);
}

/// Only the crop is computed, so the longest picture costs no more than another.
#[test]
fn the_thinnest_and_the_largest_pictures_become_what_the_model_takes() {
    for (width, height) in [(1, 100_000), (100_000, 1), (1, 1), (2, 3), (5000, 4000)] {
        let rgb = (0..width * height * 3).map(|i| (i / 7 % 256) as u8).collect();
        let picture = Picture::new("generated", width, height, rgb).unwrap();
        for processor in [PicturePreprocessor::clip(224), PicturePreprocessor::vit(224)] {
            assert_eq!(processor.output_size(), Some([224, 224]));
            let values = processor.pixel_values(&picture).unwrap();
            assert_eq!(values.len(), 3 * 224 * 224, "{width}x{height}");
            assert!(values.iter().all(|value| value.is_finite() && value.abs() < 3.0));
        }
    }
    let uncropped = r#"{"size": {"shortest_edge": 224}, "do_center_crop": false}"#;
    let uncropped = PicturePreprocessor::parse("p.json", uncropped, true).unwrap();
    assert_eq!(uncropped.output_size(), None);
    let thin = Picture::new("thin", 1, 1000, vec![0; 3000]).unwrap();
    assert_refused("uncropped", uncropped.pixel_values(&thin), &["224000", "4096"]);
}

#[test]
fn pixels_of_a_page_are_those_of_a_file() {
    let picture = decode("transparent.png", &fixture("transparent.png")).unwrap();
    let rgba: Vec<u8> = picture.rgb().chunks(3).flat_map(|p| [p[0], p[1], p[2], 7]).collect();
    assert_eq!(Picture::from_rgba("page", 16, 16, &rgba).unwrap(), picture);
    let cases = [(16, 15), (0, 16), (1 << 20, 1), (usize::MAX, 2)];
    for (width, height) in cases {
        assert_refused("size", Picture::from_rgba("page", width, height, &rgba), &["page"]);
        assert_refused("size", Picture::new("page", width, height, rgba.clone()), &["page"]);
    }
}

/// Older files say `size: 224`, which means the shorter side to CLIP and a square to ViT.
#[test]
fn older_configurations_mean_the_same() {
    let old = r#"{"crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 224,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]}"#;
    let parse = |text: &str, clip| PicturePreprocessor::parse("p.json", text, clip).unwrap();
    assert_eq!(parse(old, false), PicturePreprocessor::clip(224));
    assert_eq!(parse(r#"{"size": 224}"#, false), PicturePreprocessor::vit(224));
    assert_eq!(parse("{}", true), PicturePreprocessor::clip(224));
    let timm = ConfigReader::new("config.json", r#"{"image_mean": [0, 1, 2], "image_std": 2}"#);
    let timm = PicturePreprocessor::vit(8).with_statistics(&timm.unwrap()).unwrap();
    let black = Picture::new("black", 1, 1, vec![0; 3]).unwrap();
    let values = timm.pixel_values(&black).unwrap();
    assert_eq!([values[0], values[64], values[128]], [0.0, -0.5, -1.0]);
}

#[test]
fn bad_configurations_name_their_field() {
    let cases = [
        (r#"{"image_processor_type": "SiglipImageProcessor"}"#, "image_processor_type"),
        (r#"{"resample": 0}"#, "resample"),
        (r#"{"resample": "cubic"}"#, "resample"),
        (r#"{"size": {"longest_edge": 9}}"#, "size"),
        (r#"{"size": {"height": 9}}"#, "size.width"),
        (r#"{"size": 100000}"#, "size"),
        (r#"{"size": "large"}"#, "size"),
        (r#"{"do_center_crop": true}"#, "crop_size"),
        (r#"{"crop_size": {"height": 0, "width": 1}, "do_center_crop": true}"#, "crop_size.height"),
        (r#"{"image_mean": [1, 2]}"#, "image_mean"),
        (r#"{"image_std": [1, 0, 1]}"#, "image_std"),
        (r#"{"rescale_factor": 0}"#, "rescale_factor"),
        (r#"{"do_resize": 1}"#, "do_resize"),
        ("[]", "JSON object"),
    ];
    for (text, named) in cases {
        assert_refused(text, PicturePreprocessor::parse("p.json", text, false), &["p.json", named]);
    }
}

/// 200 real JPEG files, to the byte as libjpeg-turbo gives them to Pillow.
#[test]
fn posters_have_the_pixels_of_libjpeg() {
    let Some(posters) = shared().map(|shared| shared.join("data/ml-latest-small/posters")) else {
        return;
    };
    let digests = String::from_utf8(fixture("posters.json")).unwrap();
    let digests: BTreeMap<String, String> = serde_json::from_str(&digests).unwrap();
    assert_eq!(digests.len(), 200);
    for (name, digest) in digests {
        let picture = decode(&name, &std::fs::read(posters.join(&name)).unwrap()).unwrap();
        let found = Sha256::digest(picture.rgb());
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest, "{name}");
    }
}

/// Real posters against the original processors: TRIBUTARY_PIXELS names a file of their values, made
/// by `make_encoder_fixtures.py POSTERS FILE`.
#[test]
fn posters_have_the_pixel_values_of_the_original_processors() {
    let Some(expected) = std::env::var_os("TRIBUTARY_PIXELS") else {
        println!("skipped: TRIBUTARY_PIXELS names no file of expected values");
        return;
    };
    let Some(posters) = shared().map(|shared| shared.join("data/ml-latest-small/posters")) else {
        return;
    };
    let expected = tributary::files::open_checkpoint(expected.as_ref()).unwrap();
    let rules = [
        ("clip", PicturePreprocessor::clip(224), [0.268_629_54, 0.261_302_6, 0.275_777_1]),
        ("vit", PicturePreprocessor::vit(224), [0.5; 3]),
    ];
    let values = |name: &str| -> Vec<f32> { expected.values(name).unwrap() };
    let mut names: Vec<&str> = expected.names().filter_map(|n| n.strip_prefix("clip.")).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 20);
    let (mut resized, mut whole) = (0f32, 0f32);
    for name in names {
        let decoded_name = format!("decoded.{name}");
        let shape = expected.info(&decoded_name).unwrap().shape.clone();
        let theirs: Vec<u8> = values(&decoded_name).iter().map(|&v| v as u8).collect();
        let ours = decode(name, &std::fs::read(posters.join(name)).unwrap()).unwrap();
        let theirs = Picture::new(name, shape[1], shape[0], theirs).unwrap();
        for (kind, rule, std) in &rules {
            let truth = values(&format!("{kind}.{name}"));
            // In units of a pixel value from 0 to 255.
            let apart = |found: Vec<f32>| {
                let plane = found.len() / 3;
                let levels = found.iter().zip(&truth).enumerate();
                let levels = levels.map(|(i, (a, b))| (a - b).abs() * std[i / plane] * 255.0);
                levels.fold(0f32, f32::max)
            };
            resized = resized.max(apart(rule.pixel_values(&theirs).unwrap()));
            whole = whole.max(apart(rule.pixel_values(&ours).unwrap()));
        }
    }
    println!(
        "20 posters, levels of 255 apart at most: {resized:.4} from the same decoded pixels, \
         {whole:.4} from file to pixel values"
    );
    assert!(resized.max(whole) <= 1.01, "{resized} and {whole} levels of 255");
}
