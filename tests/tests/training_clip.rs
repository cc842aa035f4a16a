//! A small CLIP, trained on pictures of coloured shapes and sentences about them.

use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Rgb};
use pollster::block_on;
use serde_json::json;
use tributary::encode::read_picture;
use tributary::encoder;
use tributary::train::clip::{ClipReport, ClipTrainConfig, run};
use tributary::train::{CHECKPOINT, FitOptions, Stopped, WEIGHTS};
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_tests::files::{assert_refused, tensors};
use tributary_tests::folder::Folder;

const COLOURS: [(&str, [u8; 3]); 5] = [
    ("red", [220, 30, 30]),
    ("green", [30, 190, 60]),
    ("blue", [40, 60, 230]),
    ("yellow", [240, 220, 40]),
    ("white", [245, 245, 245]),
];
const SHAPES: [&str; 4] = ["stripe", "post", "square", "frame"];

/// 40 items: every colour and shape twice, the second a little darker; a picture that is none and
/// an item without one besides.
struct Shop(Folder);

impl Shop {
    fn new(name: &str) -> Self {
        let shop = Folder::new(name);
        std::fs::create_dir(shop.path().join("images")).unwrap();
        let mut lines = String::new();
        for item in 0..40 {
            let (colour, rgb) = COLOURS[item / 2 % 5];
            let shape = SHAPES[item / 10];
            let shade = if item % 2 == 0 { 1.0 } else { 0.8 };
            let image = ImageBuffer::from_fn(20, 20, |x, y| {
                let inside = match shape {
                    "stripe" => (8..12).contains(&y),
                    "post" => (8..12).contains(&x),
                    "square" => (5..15).contains(&x) && (5..15).contains(&y),
                    _ => !((3..17).contains(&x) && (3..17).contains(&y)),
                };
                Rgb(if inside { rgb.map(|c| (f32::from(c) * shade) as u8) } else { [90; 3] })
            });
            let name = format!("{item}.png");
            let path = shop.path().join("images").join(&name);
            DynamicImage::ImageRgb8(image).save_with_format(path, ImageFormat::Png).unwrap();
            let title = format!("A {colour} {shape}");
            lines += &json!({"id": format!("i{item}"), "title": title, "image": name}).to_string();
            lines += "\n";
        }
        std::fs::write(shop.path().join("images/bad.png"), "nothing").unwrap();
        lines += "{\"id\": \"bad\", \"title\": \"Bad\", \"image\": \"bad.png\"}\n";
        lines += "{\"id\": \"none\", \"title\": \"None\"}\n";
        shop.write("catalogue.jsonl", lines);
        Self(shop)
    }

    fn config(&self, change: &str) -> Result<ClipTrainConfig> {
        let file = format!("{}.toml", change.len());
        let path = self.0.write(
            &file,
            format!(
                "[model]\nkind = 'clip'\nprojection_dim = 16\n\
             [model.vision]\nhidden_size = 24\nintermediate_size = 48\nnum_hidden_layers = 2\n\
             num_attention_heads = 2\nimage_size = 20\npatch_size = 5\n\
             [model.text]\nhidden_size = 24\nintermediate_size = 48\nnum_hidden_layers = 1\n\
             num_attention_heads = 2\nvocab_size = 300\nmax_position_embeddings = 12\n\
             [data]\npath = '.'\nheld_out = 0.2\n\
             [optimizer]\nlearning_rate = 3e-3\n\
             [training]\nbatch_size = 16\npatience = 0\n{change}\n"
            ),
        );
        ClipTrainConfig::read(&path)
    }

    fn train(&self, out: &str, resume: bool, max_steps: Option<u64>) -> Result<ClipReport> {
        let options = FitOptions { out: self.out(out), resume, max_steps };
        run(&self.config("metric = 'recall@5'\nepochs = 40\nseed = 3")?, &options, &mut |_| {})
    }

    fn out(&self, out: &str) -> std::path::PathBuf {
        self.0.path().join(out)
    }
}

#[test]
fn a_trained_clip_finds_held_out_pictures_by_their_texts() {
    let shop = Shop::new("clip-train");
    let report = shop.train("out", false, None).unwrap();
    assert_eq!(report.fit.stopped, Stopped::Finished);
    let retrieval = &report.retrieval["title and description"];
    assert_eq!((report.items, report.left_out, retrieval.items), (32, 2, 8));
    // Of 8 pictures, 5 at random would hold the right one 62 times in 100.
    assert!(retrieval.text_to_image_recall_5 > 0.8, "{retrieval:?}");
    assert!(retrieval.image_to_text_recall_1 >= 0.25, "{retrieval:?}, chance is 0.125");
    assert!(report.parameters > 20_000 && report.parameters < 60_000, "{}", report.parameters);

    // The folder is an encoder: a red square is nearest to its own sentence among the colours'.
    let encoder = encoder::open(Cpu::new(), &shop.out("out")).unwrap();
    let picture = read_picture(&shop.0.path().join("images/20.png")).unwrap();
    let unit = |mut rows: Vec<Vec<f32>>| {
        rows.iter_mut().for_each(|row| tributary::encoder::normalize(row));
        rows
    };
    let image = unit(block_on(encoder.embed_pictures(&[picture])).unwrap()).remove(0);
    let sentences: Vec<String> = COLOURS.iter().map(|(c, _)| format!("A {c} square")).collect();
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let cosines: Vec<f32> = unit(block_on(encoder.embed_texts(&sentences)).unwrap())
        .iter()
        .map(|text| text.iter().zip(&image).map(|(a, b)| a * b).sum())
        .collect();
    assert!(cosines[1..].iter().all(|&other| other < cosines[0]), "{cosines:?}");
}

#[test]
fn a_resumed_clip_ends_with_the_same_weights_bit_for_bit() {
    let shop = Shop::new("clip-resume");
    shop.train("whole", false, Some(9)).unwrap();
    shop.train("parts", false, Some(4)).unwrap();
    shop.train("parts", true, Some(5)).unwrap();
    for file in [CHECKPOINT, WEIGHTS] {
        let read = |out: &str| tensors(&shop.out(out).join(file));
        assert!(!read("whole").is_empty() && read("whole") == read("parts"), "{file}");
    }
    // Another catalogue is another run.
    let catalogue = shop.0.path().join("catalogue.jsonl");
    let more = std::fs::read_to_string(&catalogue).unwrap().replace("A red", "A crimson");
    std::fs::write(catalogue, more).unwrap();
    let error = shop.train("parts", true, None).unwrap_err().to_string();
    assert!(error.contains("sha256"), "{error}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let shop = Shop::new("clip-refused");
    let train = |change: &str| {
        let options = FitOptions { out: shop.out("none"), resume: false, max_steps: None };
        run(&shop.config(change)?, &options, &mut |_| {})
    };
    for (change, words) in [
        ("", "training.metric"),
        ("metric = 'recall@7'", "recall@5"),
        ("metric = 'recall@1'\nepochs = 0", "training.epochs"),
        ("metric = 'recall@1'\nlearning_rate = 1", "learning_rate"),
    ] {
        assert_refused(change, train(change), &[words]);
    }
    let mut config = shop.config("metric = 'recall@1'").unwrap();
    let options = FitOptions { out: shop.out("none"), resume: false, max_steps: None };
    config.data.held_out = 0.02;
    assert_refused("held_out", run(&config, &options, &mut |_| {}), &["two to hold out"]);
    config.data.held_out = 1.0;
    assert_refused("held_out", run(&config, &options, &mut |_| {}), &["data.held_out"]);
    config.data.held_out = 0.2;
    config.model.vision.num_attention_heads = 5;
    assert_refused("heads", run(&config, &options, &mut |_| {}), &["num_attention_heads"]);
    config.model.vision.num_attention_heads = 2;
    config.data.caption = Some("nothing has this".into());
    assert_refused("caption", run(&config, &options, &mut |_| {}), &["two to hold out"]);
    config.data.path = Path::new("nowhere").into();
    assert_refused("path", run(&config, &options, &mut |_| {}), &["catalogue.jsonl"]);
}
