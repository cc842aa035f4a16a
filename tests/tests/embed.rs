//! `tributary embed` and the library below it: one input, a catalogue, a folder; interrupted,
//! damaged, quantised.

use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageFormat, Rgb};
use pollster::block_on;
use serde_json::{Value, json};
use tributary::device::Device;
use tributary::embedding_table::{TableHeader, TableWriter};
use tributary::encode::{Inputs, encode};
use tributary::encoder::{self, AnyEncoder, Modality};
use tributary::files::open_checkpoint;
use tributary_core::backend::cpu::Cpu;
use tributary_core::recommend::EmbeddingTable;
use tributary_core::tokenizer::{Tokenizer, Vocabulary};
use tributary_tests::files::assert_refused;
use tributary_tests::folder::Folder;
use tributary_tests::language::{Expected, folder, with_tokenizer};
use tributary_tests::{assert_parity, nmse, shared, tributary};

fn embedding(arguments: &[&str]) -> Vec<f32> {
    let answer = tributary(arguments).unwrap();
    let values = answer["embedding"].as_array().expect("an embedding").iter();
    values.map(|value| value.as_f64().expect("a number") as f32).collect()
}

/// A finished table.
fn read_table(path: &Path) -> EmbeddingTable {
    EmbeddingTable::load(&open_checkpoint(path).unwrap()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

fn ids(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn the_program_embeds_ids_and_pixel_values() {
    let scratch = Folder::new("embed-one");
    let (name, model) = ("clip-gelu", folder("clip-gelu"));
    let expected = Expected::open(name);
    let tokens = ids(&expected.ids("input_ids.1"));
    for device in ["cpu", "burn"] {
        let found =
            embedding(&["embed", "--model", text(&model), "--ids", &tokens, "--device", device]);
        assert_parity(device, &found, &expected.values("text_embeds.1"), 1e-8);
    }
    let pixels = expected.values("pixel_values");
    let one = &pixels[..pixels.len() / 2];
    let file = scratch.write("pixels.json", json!(one).to_string());
    let call = ["embed", "--model", text(&model), "--pixel-values", text(&file), "--device", "cpu"];
    let truth = expected.values("image_embeds");
    let truth = &truth[..truth.len() / 2];
    assert_parity("pixel values", &embedding(&call), truth, 1e-8);

    let unit = embedding(&[call.as_slice(), &["--normalize"]].concat());
    let length = truth.iter().map(|x| x * x).sum::<f64>().sqrt();
    let truth: Vec<f64> = truth.iter().map(|x| x / length).collect();
    assert_parity("normalised", &unit, &truth, 1e-8);

    // A sentence encoder is pooled as its folder says: the mean, at length 1; or the first token.
    for (name, unit) in [("bert-mean", true), ("bert-cls", false)] {
        let (expected, model) = (Expected::open(name), folder(name));
        let tokens = ids(&expected.ids("input_ids.0"));
        let found = embedding(&["embed", "--model", text(&model), "--ids", &tokens]);
        let truth = expected.values("sentence.0");
        let length = truth.iter().map(|x| x * x).sum::<f64>().sqrt();
        let truth: Vec<f64> = truth.iter().map(|x| if unit { x / length } else { *x }).collect();
        assert_parity(name, &found, &truth, 1e-8);
    }
}

#[test]
fn what_cannot_be_embedded_is_refused_by_name() {
    let scratch = Folder::new("embed-refused");
    let (clip, vit) = (folder("clip-gelu"), folder("vit-pooler"));
    let svg = scratch.write("a.png", "<svg xmlns='http://www.w3.org/2000/svg'/>");
    let nan = scratch.write("nan.json", "[1, 2, null]");
    let two = scratch.write("two.json", json!(vec![0.5; 2 * 3 * 24 * 24]).to_string());
    let llama = folder("llama-gqa");
    let cases: [(&[&str], &str); 8] = [
        (&["--model", text(&clip), "--text", "no tokenizer"], "tokenizer.json"),
        (&["--model", text(&vit), "--ids", "1,2"], "texts"),
        (&["--model", text(&clip), "--image", text(&svg)], "SVG"),
        (&["--model", text(&clip), "--image", "missing.png"], "missing.png"),
        (&["--model", text(&clip), "--pixel-values", text(&nan)], "nan.json"),
        (&["--model", text(&clip), "--pixel-values", text(&two)], "one picture"),
        (&["--model", text(&clip), "--ids", "61"], "below 61"),
        (&["--model", text(&llama), "--ids", "1"], "model_type"),
    ];
    for (arguments, words) in cases {
        let error = tributary(&[&["embed"], arguments].concat()).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in {error}");
    }
}

fn save(path: &Path, seed: u32) {
    let image = ImageBuffer::from_fn(30, 20, |x, y| {
        Rgb([(x * 8) as u8, (y * 12) as u8, (seed * 40 + x * y) as u8])
    });
    DynamicImage::ImageRgb8(image).save_with_format(path, ImageFormat::Png).unwrap();
}

/// A prepared folder of 21 items: 20 pictures of which one is none, an item without a picture, one
/// without any text.
fn shop(name: &str) -> Folder {
    let shop = Folder::new(name);
    std::fs::create_dir(shop.path().join("images")).unwrap();
    let mut lines = String::new();
    for item in 0..21 {
        let mut line = json!({"id": format!("i{item}"), "title": format!("Blue cup {item}"),
                              "description": "Holds tea."});
        if item != 9 {
            line["image"] = format!("{item}.png").into();
            save(&shop.path().join("images").join(format!("{item}.png")), item);
        } else {
            line["title"] = "".into();
            line["description"] = Value::Null;
        }
        lines += &format!("{line}\n");
    }
    shop.write("catalogue.jsonl", lines);
    std::fs::write(shop.path().join("images/4.png"), "not a picture").unwrap();
    shop
}

#[test]
fn a_catalogue_becomes_a_table_and_bad_pictures_are_skipped() {
    let (shop, model) = (shop("embed-table"), folder("clip-gelu"));
    let out = shop.path().join("image.safetensors");
    let call = [
        "embed",
        "--model",
        text(&model),
        "--catalogue",
        text(shop.path()),
        "--modality",
        "image",
        "--out",
        text(&out),
        "--device",
        "cpu",
    ];
    let answer = tributary(&call).unwrap();
    assert_eq!((&answer["rows"], &answer["absent"]), (&json!(21), &json!(1)));
    let failed = answer["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1, "{answer}");
    assert_eq!(failed[0]["name"], "i4");
    assert!(failed[0]["error"].as_str().unwrap().contains("4.png"), "{answer}");
    assert_eq!(tributary(&call).unwrap()["was_current"], true, "nothing is done twice");

    let table = read_table(&out);
    assert_eq!((table.len(), table.width()), (21, 33));
    let encoder = open_checkpoint(&out).unwrap().metadata()["encoder"].clone();
    assert!(encoder.starts_with("clip sha256:"), "{encoder}");
    for item in 0..21 {
        let picture = shop.path().join(format!("images/{item}.png"));
        match table.row(item) {
            None => assert!([4, 9].contains(&item), "item {item} is absent"),
            Some(row) if item % 7 == 0 => {
                let alone = embedding(&[
                    "embed",
                    "--model",
                    text(&model),
                    "--image",
                    text(&picture),
                    "--device",
                    "cpu",
                ]);
                let truth: Vec<f64> = alone.iter().map(|&x| x.into()).collect();
                assert_parity(&format!("item {item}"), row, &truth, 1e-10);
            }
            Some(_) => {}
        }
    }
    assert_eq!(table.gather(&[4]).unwrap(), (vec![0.0; 33], vec![false]), "no picture, no values");

    // A picture that came later is another input; a text is no picture, whatever the file holds.
    std::fs::copy(shop.path().join("images/3.png"), shop.path().join("images/4.png")).unwrap();
    assert_eq!(tributary(&call).unwrap()["was_current"], false);
    let mended = read_table(&out);
    let truth: Vec<f64> = table.row(3).unwrap().iter().map(|&x| x.into()).collect();
    assert!(nmse(mended.row(4).unwrap(), &truth) < 1e-10, "4.png is 3.png now");
    let file = open_checkpoint(&out).unwrap();
    assert!(EmbeddingTable::load_as(&file, "image").is_ok());
    assert_refused("no text", EmbeddingTable::load_as(&file, "text"), &["modality", "image"]);

    // A folder of pictures: the same rows, in the order of the names.
    let images = shop.path().join("images");
    let out = shop.path().join("folder.safetensors");
    let call = ["embed", "--model", text(&model), "--images", text(&images), "--out", text(&out)];
    assert_eq!(tributary(&call).unwrap()["rows"], 20);
    let by_name = read_table(&out);
    for (row, item) in [(1, 1), (2, 10)] {
        let truth: Vec<f64> = table.row(item).unwrap().iter().map(|&x| x.into()).collect();
        assert!(nmse(by_name.row(row).unwrap(), &truth) < 1e-10, "1.png, then 10.png: {item}");
    }
}

#[test]
fn a_catalogue_of_texts_is_cut_to_what_the_model_takes() {
    let (shop, model) = (shop("embed-texts"), with_tokenizer("clip-gelu"));
    let encoder = encoder::open(Cpu::new(), model.path()).unwrap();
    let long = "blue cup ".repeat(200);
    let tokens = encoder.tokens(&long).unwrap();
    assert_eq!((tokens.len(), tokens[0], tokens[18]), (19, 5, 60), "{tokens:?}");
    assert_eq!(encoder.tokens("").unwrap(), [5, 60], "an empty text is its special tokens");
    for odd in ["\0", "\u{202e}abc\u{200d}", "🦀", &"\u{0301}".repeat(1 << 20)] {
        let row = block_on(encoder.embed_texts(&[odd])).unwrap().remove(0);
        assert!(row.iter().all(|x| x.is_finite()), "{odd:.10?}");
    }
    model.write("tokenizer_config.json", r#"{"model_max_length": 5}"#);
    let short = encoder::open(Cpu::new(), model.path()).unwrap();
    assert_eq!(short.tokens(&long).unwrap(), [5, 2, 3, 2, 60]);

    let inputs = Inputs::of_catalogue(shop.path(), Modality::Text).unwrap();
    let out = shop.path().join("text.safetensors");
    let done = encode(&encoder, &inputs, &out, &mut |_, _| ()).unwrap();
    assert_eq!((done.encoded, done.absent, done.failures.len()), (21, 1, 0));
    let table = read_table(&out);
    assert!(table.row(9).is_none() && table.row(8).is_some());
}

/// Stopped after any number of rows, the table ends up the same.
#[test]
fn an_interrupted_table_goes_on_where_it_stopped() {
    let scratch = Folder::new("embed-resume");
    let out = scratch.path().join("table.safetensors");
    let header = |encoder: &str| TableHeader {
        encoder: encoder.into(),
        modality: "image".into(),
        catalogue_sha256: "00".into(),
        inputs_sha256: "11".into(),
        items: 5,
        embedding_size: 3,
    };
    let row = |item: usize| [item as f32, 0.5, -1.0];
    let mut first = TableWriter::open(&out, header("a")).unwrap();
    first.write(3, Some(&row(3))).unwrap();
    first.write(1, None).unwrap();
    assert_refused("short", first.write(0, Some(&[1.0])), &["row of 3"]);
    assert_refused("outside", first.write(5, None), &["item 5"]);
    assert_refused("unfinished", first.finish(), &["item 0 is open"]);
    assert!(!out.exists() && !header("a").is_current(&out));

    let mut second = TableWriter::open(&out, header("a")).unwrap();
    assert_eq!(second.open_items(), [0, 2, 4]);
    for item in second.open_items() {
        second.write(item, Some(&row(item))).unwrap();
    }
    second.finish().unwrap();
    let table = read_table(&out);
    let present: Vec<bool> = (0..5).map(|item| table.row(item).is_some()).collect();
    assert_eq!(present, [true, false, true, true, true]);
    assert_eq!(table.row(3), Some(row(3).as_slice()));
    assert!(header("a").is_current(&out) && !header("b").is_current(&out));
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the table: {left:?}");

    // Of another encoder, all is open again.
    TableWriter::open(&out, header("a")).unwrap().write(0, None).unwrap();
    let other = TableWriter::open(&out, header("b")).unwrap();
    assert_eq!(other.open_items().len(), 5);
    let much = TableHeader { items: 1 << 40, ..header("a") };
    assert_refused("too large", TableWriter::open(&out, much), &["limit"]);
}

/// B2: weights that are no numbers load, and what comes of them is refused.
#[test]
fn an_embedding_that_is_not_finite_is_an_error() {
    let model = with_tokenizer("clip-gelu");
    let path = model.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    // The file's last value, of either tower.
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
    let encoder = encoder::open(Cpu::new(), model.path()).unwrap();
    let results = [
        block_on(encoder.embed_texts(&["a cup"])),
        block_on(encoder.embed_pixel_values(&[0.5; 3 * 24 * 24])),
    ];
    let errors: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    assert!(errors.iter().any(|error| error.contains("finite")), "{errors:?}");
}

#[test]
fn a_quantised_encoder_gives_nearly_the_same_vectors() {
    let scratch = Folder::new("embed-q8");
    for (name, input) in [("clip-gelu", "input_ids.3"), ("bert-mean", "input_ids.2")] {
        let out = scratch.path().join(name);
        // q8 where nothing is said.
        tributary(&["quantize", text(&folder(name)), "--out", text(&out)]).unwrap();
        let tokens = ids(&Expected::open(name).ids(input));
        let [float, quantised] = [&folder(name), &out]
            .map(|model: &PathBuf| embedding(&["embed", "--model", text(model), "--ids", &tokens]));
        let truth: Vec<f64> = float.iter().map(|&x| x.into()).collect();
        let error = nmse(&quantised, &truth);
        assert!(error > 0.0 && error < 2e-3, "{name}: nmse {error:e}");
    }
    assert!(scratch.path().join("bert-mean/1_Pooling/config.json").is_file());
}

/// CLIP's tokenizer files that lack a post-processor get start and end from their vocabulary.
#[test]
fn the_real_clip_tokenizer_gets_its_special_tokens() {
    let Some(shared) = shared() else { return };
    let file = shared.join("weights/tokenizers/clip/tokenizer.derived.json");
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", &std::fs::read(file).unwrap()).unwrap();
    let (start, end) = ("<|startoftext|>", "<|endoftext|>");
    assert_eq!([start, end].map(|t| tokenizer.token_id(t)), [Some(49_406), Some(49_407)]);
    assert_eq!(tokenizer.encode_truncated("a photo of a cat", 3).unwrap(), [320, 1125, 539]);
}

/// The real all-MiniLM-L6-v2, whose folder TRIBUTARY_MINILM names, against its authors' library.
#[test]
fn all_minilm_l6_v2_gives_the_sentences_of_its_library() {
    let named = std::env::var_os("TRIBUTARY_MINILM").map(PathBuf::from);
    let Some(model) = named.or_else(|| Some(shared()?.join("weights/all-minilm-l6-v2"))) else {
        return;
    };
    if !model.join("config.json").is_file() {
        println!("skipped: no {}; TRIBUTARY_MINILM can name a folder", model.display());
        return;
    }
    let expected = std::fs::read_to_string(folder("minilm").join("sentences.json")).unwrap();
    let expected: Vec<(String, Vec<f64>)> = serde_json::from_str(&expected).unwrap();
    let AnyEncoder::Cpu(encoder) = AnyEncoder::open(&model, Device::Cpu).unwrap() else {
        panic!("the CPU was asked for");
    };
    let sentences: Vec<&str> = expected.iter().map(|(sentence, _)| sentence.as_str()).collect();
    let found = block_on(encoder.embed_texts(&sentences)).unwrap();
    let mut worst = 1.0f64;
    for ((sentence, truth), row) in expected.iter().zip(found) {
        assert_eq!(row.len(), truth.len(), "{sentence}");
        let length: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "the folder asks for length 1: {length}");
        // Both have length 1.
        let cosine: f64 = row.iter().zip(truth).map(|(&f, t)| f64::from(f) * t).sum();
        assert!(cosine >= 0.9999, "{sentence:.40}: cosine {cosine}");
        worst = worst.min(cosine);
    }
    println!("all-MiniLM-L6-v2: least cosine {worst:.7}");
}

#[test]
fn a_vocabulary_is_learned_from_texts() {
    let texts = ["blue cup for tea", "red cup for tea", "Blue teapot"].repeat(3);
    let vocabulary = Vocabulary {
        size: 300,
        special_tokens: vec!["<|startoftext|>".into(), "<|endoftext|>".into()],
        around: (Some("<|startoftext|>".into()), Some("<|endoftext|>".into())),
        lowercase: true,
        across_words: false,
    };
    let file = vocabulary.learn(texts.iter().copied()).unwrap();
    assert_eq!(file, vocabulary.learn(texts.iter().copied()).unwrap(), "the same each time");
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", file.as_bytes()).unwrap();
    assert!(tokenizer.vocab_size() > 270 && tokenizer.vocab_size() <= 300);
    let ids = tokenizer.encode("Blue cup 🦀 for tea", true).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1]), (0, 1));
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "blue cup 🦀 for tea");
    let plain = tokenizer.encode("blue cup", false).unwrap();
    assert!(plain.len() <= 4, "words that were seen are few tokens: {plain:?}");

    let across = Vocabulary { across_words: true, ..vocabulary.clone() };
    let file = across.learn(texts.iter().copied()).unwrap();
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", file.as_bytes()).unwrap();
    let ids = tokenizer.encode("blue cup for tea 🦀 red", false).unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "blue cup for tea 🦀 red");
    let phrase = tokenizer.encode("blue cup for tea", false).unwrap();
    assert_eq!(phrase.len(), 1, "a text that came often is one token: {phrase:?}");

    let small = Vocabulary { size: 257, ..vocabulary.clone() };
    assert_refused("small", small.learn(["a"].into_iter()), &["258"]);
    let twice = Vocabulary { special_tokens: vec!["<s>".into(); 2], ..vocabulary.clone() };
    assert_refused("twice", twice.learn(["a"].into_iter()), &["special_tokens"]);
    let unknown = Vocabulary { around: (Some("<s>".into()), None), ..vocabulary };
    assert_refused("unknown", unknown.learn(["a"].into_iter()), &["around"]);
}
