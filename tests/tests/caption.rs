//! Pictures in words: the answer of a whole model against full passes of its parts, `tributary caption`
//! over a folder and a catalogue, interrupted anywhere and resumed.

use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Rgb};
use pollster::block_on;
use serde_json::{Value, json};
use tributary::caption::{CaptionOptions, VisionLanguage, caption_all, open};
use tributary::encode::{Inputs, read_picture};
use tributary::encoder::Modality;
use tributary::files::open_model;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::llama::AxesRows;
use tributary_core::models::llava::{Llava, LlavaConfig};
use tributary_core::models::qwen2_vl::{Qwen2Vl, Qwen2VlConfig};
use tributary_core::nn::KvUse;
use tributary_core::preprocess::{PatchPreprocessor, Picture, PicturePreprocessor};
use tributary_core::session::{FinishReason, Sampling};
use tributary_core::weights::Weights;
use tributary_tests::files::assert_refused;
use tributary_tests::folder::Folder;
use tributary_tests::language::folder;
use tributary_tests::suite::read;
use tributary_tests::{nmse, on_each_backend, tributary};

const KINDS: [&str; 2] = ["llava", "qwen2-vl"];

/// A copy of a fixture with a tokenizer of whole words: `w7` is 7, what is no word is 0.
fn model(name: &str) -> Folder {
    let copy = Folder::new("caption-model");
    for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
        std::fs::copy(folder(name).join(file), copy.path().join(file)).unwrap();
    }
    let special: &[(u32, &str)] = match name {
        "llava" => &[(1, "<s>"), (2, "</s>"), (6, "<image>")],
        _ => &[
            (1, "<|im_start|>"),
            (2, "<|im_end|>"),
            (3, "<|vision_start|>"),
            (4, "<|vision_end|>"),
            (6, "<|image_pad|>"),
        ],
    };
    let mut vocab: serde_json::Map<String, Value> = serde_json::Map::new();
    for id in 0..67u32 {
        let token = special.iter().find(|(other, _)| *other == id).map(|(_, token)| *token);
        let word = if id == 0 { "?".into() } else { format!("w{id}") };
        vocab.insert(token.map_or(word, str::to_owned), id.into());
    }
    let added = special.iter().map(|(id, token)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    let tokenizer = json!({
        "version": "1.0",
        "model": {"type": "WordLevel", "unk_token": "?", "vocab": vocab},
        "pre_tokenizer": {"type": "Whitespace"},
        "added_tokens": added.collect::<Vec<_>>(),
    });
    copy.write("tokenizer.json", tokenizer.to_string());
    copy
}

fn save(path: &Path, width: u32, height: u32, seed: u32) {
    let image = ImageBuffer::from_fn(width, height, |x, y| {
        Rgb([(x * 8) as u8, (y * 12) as u8, (seed * 70 + x * y) as u8])
    });
    DynamicImage::ImageRgb8(image).save_with_format(path, ImageFormat::Png).unwrap();
}

/// Three pictures of different shapes and a file that is none.
fn pictures() -> Folder {
    let pictures = Folder::new("caption-pictures");
    for (n, (width, height)) in [(20, 20), (31, 12), (9, 26)].into_iter().enumerate() {
        save(&pictures.path().join(format!("{n}.png")), width, height, n as u32);
    }
    pictures.write("1b.png", "not a picture");
    pictures
}

fn options(max_new_tokens: usize) -> CaptionOptions {
    CaptionOptions { max_new_tokens, ..CaptionOptions::default() }
}

/// `count` greedy tokens from full passes of the model's parts, and the prompt's length.
fn truth<B: Backend>(b: &B, path: &Path, picture: &Picture, ids: &[u32], count: usize) -> Vec<u32> {
    let files = open_model(path).unwrap();
    let weights = Weights::new(b, &files.checkpoint);
    let rule = std::fs::read_to_string(path.join("preprocessor_config.json")).unwrap();
    let expand = |ids: &[u32], tokens: usize| -> Vec<u32> {
        ids.iter().flat_map(|&id| vec![id; if id == 6 { tokens } else { 1 }]).collect()
    };
    let (language, image, features, grid);
    let (mut llava, mut qwen) = (None, None);
    if files.config.contains("\"llava\"") {
        let model = Llava::load(&weights, LlavaConfig::parse("c", &files.config).unwrap()).unwrap();
        let values = PicturePreprocessor::parse("p", &rule, true).unwrap();
        features = model.image_features(b, &values.pixel_values(picture).unwrap(), None).unwrap();
        (language, grid) = (model.language_model().clone(), None);
        image = expand(ids, model.config().image_tokens());
        llava = Some(model);
    } else {
        let config = Qwen2VlConfig::parse("c", &files.config).unwrap();
        let patches = PatchPreprocessor::parse("p", &rule, &config.vision_config).unwrap();
        let patches = patches.patches(picture).unwrap();
        let model = Qwen2Vl::load(&weights, config).unwrap();
        features = model.image_features(b, &patches.values, &[patches.grid], None).unwrap();
        image = expand(ids, model.image_tokens(&patches.grid));
        (language, grid) = (model.language_model().clone(), Some(patches.grid));
        qwen = Some(model);
    }
    let mut ids = image.clone();
    for _ in 0..count {
        let (embeds, positions) = match (&llava, &qwen) {
            (Some(model), _) => (
                model.embed(b, &ids, &features).unwrap(),
                (0..ids.len() as u32).map(|place| [place; 3]).collect(),
            ),
            (None, Some(model)) => (
                model.embed(b, &ids, &features).unwrap(),
                model.positions(&ids, &[grid.unwrap()]).unwrap(),
            ),
            (None, None) => unreachable!(),
        };
        let segments = Segments::one(ids.len()).unwrap();
        let rows = AxesRows { segments: &segments, positions: &positions };
        let hidden = language.forward_axes(b, embeds, rows, KvUse::None, None).unwrap();
        let logits = read(b, &language.logits(b, &hidden).unwrap());
        let last = &logits[logits.len() - 67..];
        let best = (0..67).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
        ids.push(best as u32);
    }
    ids.split_off(image.len())
}

#[test]
fn a_caption_is_what_full_passes_of_the_parts_give() {
    let pictures = pictures();
    for kind in KINDS {
        let folder = model(kind);
        on_each_backend!(backend, b => {
            let model = open(b, folder.path()).unwrap();
            let b = model.backend();
            for file in ["0.png", "1.png", "2.png"] {
                let picture = read_picture(&pictures.path().join(file)).unwrap();
                let found = block_on(model.caption(&picture, "w7 w8 what", &options(5))).unwrap();
                let ids = model.prompt_ids("w7 w8 what").unwrap();
                let label = format!("{backend} {kind} {file}");
                let mut truth = truth(b, folder.path(), &picture, &ids, 5);
                if let Some(end) = truth.iter().position(|&id| id == 2) {
                    truth.truncate(end);
                }
                assert_eq!(found.token_ids, truth, "{label}");
                let seen = model.see(&picture).unwrap();
                assert_eq!(found.image_tokens, seen.tokens(), "{label}");
                assert_eq!(found.prompt_tokens, ids.len() - 1 + seen.tokens(), "{label}");
                for id in &found.token_ids {
                    let special = [1, 2, 3, 4, 6].contains(id);
                    assert!(special || *id == 0 || found.text.contains(&format!("w{id}")), "{label}");
                }
            }
        });
    }
}

#[test]
fn prompts_have_the_form_of_the_published_models() {
    for (kind, around) in [
        ("llava", (vec![0, 0, 6], vec![0, 0])),
        ("qwen2-vl", (vec![1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 3, 6, 4], vec![2, 1, 0])),
    ] {
        let folder = model(kind);
        let model = open(Cpu::new(), folder.path()).unwrap();
        let ids = model.prompt_ids("w9 w10").unwrap();
        assert_eq!(ids, [around.0, vec![9, 10], around.1].concat(), "{kind}");
        let picture = if kind == "llava" { "<image>" } else { "<|image_pad|>" };
        let own = model.prompt_ids(&format!("w30 {picture} w31")).unwrap();
        assert_eq!(own, [30, 6, 31], "{kind}: a prompt with its picture token is whole");
        let two = model.prompt_ids(&format!("{picture} w7 {picture}"));
        assert_refused(kind, two, &["prompt", "one picture token", "2"]);
    }
}

#[test]
fn answers_stop_sample_and_refuse() {
    let pictures = pictures();
    let picture = read_picture(&pictures.path().join("0.png")).unwrap();
    for kind in KINDS {
        let folder = model(kind);
        let open = || open(Cpu::new(), folder.path());
        let caption = |model: &VisionLanguage<Cpu>, options: &CaptionOptions| {
            block_on(model.caption(&picture, "w7", options)).unwrap()
        };
        let model = open().unwrap();
        let free = caption(&model, &options(8));
        assert_eq!(free.finish_reason, FinishReason::Length, "{kind}");
        let end = free.token_ids[3];
        let first = free.token_ids.iter().position(|&id| id == end).unwrap();
        folder.write("generation_config.json", json!({"eos_token_id": [66, end]}).to_string());
        let stopped = caption(&open().unwrap(), &options(8));
        assert_eq!(stopped.finish_reason, FinishReason::Stop, "{kind}");
        assert_eq!(stopped.token_ids, free.token_ids[..first], "{kind}");

        let drawn = |seed| {
            let sampling = Sampling::Random { temperature: 1.5, top_k: 0, top_p: 1.0, seed };
            caption(&model, &CaptionOptions { sampling, ..options(12) }).token_ids
        };
        assert_eq!(drawn(1), drawn(1), "{kind}");
        assert_ne!(drawn(1), drawn(2), "{kind}");

        let seen = || model.see(&picture).unwrap();
        let answer =
            |ids: &[u32], n: usize| block_on(model.answer(ids, &vec![seen(); n], &options(2)));
        assert_eq!(answer(&[7, 8], 0).unwrap().prompt_tokens, 2, "{kind}: a text alone");
        let two = answer(&[6, 9, 6, 8], 2).unwrap();
        assert_eq!(two.image_tokens, 2 * seen().tokens(), "{kind}: two pictures");
        assert_refused(kind, answer(&[7, 8], 1), &["picture tokens", "1 tokens 6"]);
        assert_refused(kind, answer(&[6, 6], 1), &["picture tokens"]);
        assert_refused(kind, answer(&[6; 65], 65), &["pictures", "64"]);
        let mut long = vec![7; 159];
        long.push(6);
        assert_refused(kind, answer(&long, 1), &["a prompt with pictures", "160"]);

        std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        assert_refused(kind, open().unwrap().prompt_ids("w7"), &["tokenizer.json"]);
        assert!(block_on(open().unwrap().answer(&[6, 7], &[seen()], &options(2))).is_ok());

        // Newer folders keep the rule for pictures inside another file.
        let rule = folder.path().join("preprocessor_config.json");
        let text = std::fs::read_to_string(&rule).unwrap();
        std::fs::remove_file(&rule).unwrap();
        let whole = format!(r#"{{"processor_class": "P", "image_processor": {text}}}"#);
        folder.write("processor_config.json", whole);
        assert_eq!(open().unwrap().see(&picture).unwrap(), seen(), "{kind}");
        folder
            .write("processor_config.json", r#"{"image_processor": {"patch_size": 5, "size": 9}}"#);
        assert_refused(kind, open(), &["processor_config.json", "size"]);
    }
    let other = folder("llama-gqa");
    assert_refused("llama", open(Cpu::new(), &other), &["model_type", "llava, qwen2_vl"]);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

#[test]
fn the_program_captions_a_folder_and_goes_on_where_it_stopped() {
    let (pictures, scratch) = (pictures(), Folder::new("caption-out"));
    save(&pictures.path().join("thin.png"), 420, 2, 1);
    for kind in KINDS {
        let model = model(kind);
        let out = scratch.path().join(format!("{kind}.jsonl"));
        let call = [
            "caption",
            "--model",
            text(model.path()),
            "--data",
            text(pictures.path()),
            "--prompt",
            "w7 w8",
            "--max-new-tokens",
            "6",
            "--out",
            text(&out),
            "--device",
            "cpu",
        ];
        let answer = tributary(&call).unwrap();
        // Qwen2-VL keeps a picture's shape, LLaVA makes a square of it.
        let failures = answer["failed"].as_array().unwrap();
        let thin = usize::from(kind == "qwen2-vl");
        assert_eq!(answer["rows"], 5, "{answer}");
        assert_eq!(answer["captioned"], 4 - thin, "{answer}");
        assert_eq!(failures.len(), 1 + thin, "{answer}");
        assert_eq!(failures[0]["name"], "1b.png");
        if thin == 1 {
            assert!(failures[1]["error"].as_str().unwrap().contains("ratio"), "{answer}");
        }
        let whole = std::fs::read_to_string(&out).unwrap();
        let lines: Vec<Value> =
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let name = lines[0]["model"].as_str().unwrap();
        assert!(name.starts_with(&format!("{} sha256:", kind.replace('-', "_"))), "{name}");
        assert_eq!(lines[0]["prompt"], "w7 w8");
        assert_eq!((&lines[1]["id"], lines.len()), (&json!("0.png"), 5 - thin));
        let one = ["caption", "--model", text(model.path()), "--image"];
        let picture = pictures.path().join("2.png");
        let rest = ["--prompt", "w7 w8", "--max-new-tokens", "6", "--device", "cpu"];
        let alone = tributary(&[&one, [text(&picture)].as_slice(), &rest].concat()).unwrap();
        assert_eq!(alone["caption"], lines[3]["caption"], "alone as among others");
        assert_eq!(tributary(&call).unwrap()["was_current"], true, "nothing is done twice");

        // Killed in the middle of a line: whole lines stay, the torn one is written again.
        let part = scratch.path().join(format!("{kind}.jsonl.part"));
        let kept: usize = whole.lines().take(2).map(|line| line.len() + 1).sum();
        std::fs::remove_file(&out).unwrap();
        std::fs::write(&part, &whole[..kept + 9]).unwrap();
        let answer = tributary(&call).unwrap();
        assert_eq!(answer["captioned"], 3 - thin, "{answer}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), whole, "{kind}");
        assert!(!part.exists());
    }
    let bad = tributary(&["caption", "--model", "none", "--data", text(pictures.path())]);
    assert!(bad.unwrap_err().contains("none"));
    assert!(tributary(&["caption", "--model", "none"]).unwrap_err().contains("--image"));
}

/// The parts below `Linear` know nothing of pictures, so a quantised folder is the same model.
#[test]
fn quantised_folders_caption_too() {
    let scratch = Folder::new("caption-quantised");
    let pictures = pictures();
    let picture = read_picture(&pictures.path().join("1.png")).unwrap();
    for (kind, format, bound) in
        [("llava", "q8", 0.02), ("qwen2-vl", "q8", 0.02), ("qwen2-vl", "q4", 0.5)]
    {
        let out = scratch.path().join(format!("{kind}-{format}"));
        let fixture = folder(kind);
        let call = ["quantize", text(&fixture), "--format", format, "--out", text(&out)];
        assert!(tributary(&call).is_ok());
        let features = |path: &Path| -> Vec<f32> {
            let (b, files) = (Cpu::new(), open_model(path).unwrap());
            let weights = Weights::new(&b, &files.checkpoint);
            let rule = std::fs::read_to_string(path.join("preprocessor_config.json")).unwrap();
            let features = if kind == "llava" {
                let config = LlavaConfig::parse("c", &files.config).unwrap();
                let rule = PicturePreprocessor::parse("p", &rule, true).unwrap();
                let values = rule.pixel_values(&picture).unwrap();
                Llava::load(&weights, config).unwrap().image_features(&b, &values, None)
            } else {
                let config = Qwen2VlConfig::parse("c", &files.config).unwrap();
                let rule = PatchPreprocessor::parse("p", &rule, &config.vision_config).unwrap();
                let patches = rule.patches(&picture).unwrap();
                let model = Qwen2Vl::load(&weights, config).unwrap();
                model.image_features(&b, &patches.values, &[patches.grid], None)
            };
            read(&b, &features.unwrap())
        };
        let truth: Vec<f64> = features(&fixture).into_iter().map(f64::from).collect();
        let error = nmse(&features(&out), &truth);
        assert!(error > 1e-9 && error < bound, "{kind} {format}: {error}");
        let model = open(Cpu::new(), &out).unwrap();
        let seen = model.see(&picture).unwrap();
        let answer = block_on(model.answer(&[7, 6, 8], &[seen], &options(4))).unwrap();
        assert!(!answer.token_ids.is_empty(), "{kind} {format}");
    }
}

/// Stopped after any number of bytes, a run with draws ends up the same.
#[test]
fn a_run_that_is_stopped_anywhere_ends_the_same() {
    let (folder, scratch) = (model("qwen2-vl"), Folder::new("caption-resume"));
    let images = scratch.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let mut lines = String::new();
    for item in 0..4u32 {
        let mut line = json!({"id": format!("i{item}"), "title": "Cup"});
        if item != 1 {
            line["image"] = format!("{item}.png").into();
            save(&images.join(format!("{item}.png")), 12 + item, 14, item);
        }
        lines += &format!("{line}\n");
    }
    scratch.write("catalogue.jsonl", lines);
    let inputs = Inputs::of_catalogue(scratch.path(), Modality::Image).unwrap();
    let model = open(Cpu::new(), folder.path()).unwrap();
    let sampling = Sampling::Random { temperature: 2.0, top_k: 0, top_p: 1.0, seed: 5 };
    let options = CaptionOptions { max_new_tokens: 5, sampling };
    let out = scratch.path().join("captions.jsonl");
    let part = scratch.path().join("captions.jsonl.part");
    let run = |prompt: &str| {
        let mut last = 0;
        let progress = &mut |done, _| last = done;
        let done = caption_all(&model, &inputs, prompt, &options, &out, progress).unwrap();
        assert!(done.was_current || last == 4);
        (done, std::fs::read(&out).unwrap())
    };
    let (done, whole) = run("w7");
    assert_eq!((done.rows, done.captioned, done.absent), (4, 3, 1));
    assert!(run("w7").0.was_current);
    for stop in (0..=whole.len()).step_by(7).chain([whole.len()]) {
        std::fs::remove_file(&out).unwrap();
        std::fs::write(&part, &whole[..stop]).unwrap();
        let (done, found) = run("w7");
        assert_eq!(found, whole, "stopped after {stop} bytes");
        let kept = whole[..stop].iter().filter(|&&byte| byte == b'\n').count().max(1) - 1;
        assert_eq!(done.captioned, 3 - kept, "stopped after {stop} bytes");
    }
    // Another question is another file, also where an unfinished one lies.
    std::fs::write(&part, &whole).unwrap();
    let (done, other) = run("w8");
    assert_eq!(done.captioned, 3);
    assert_ne!(other, whole);
    // So is another size of pictures.
    let smaller = open(Cpu::new(), folder.path()).unwrap().with_max_picture_tokens(2);
    let one = read_picture(&images.join("0.png")).unwrap();
    assert_eq!([&model, &smaller].map(|m| m.see(&one).unwrap().tokens()), [4, 1]);
    let done = caption_all(&smaller, &inputs, "w8", &options, &out, &mut |_, _| ()).unwrap();
    assert_eq!(done.captioned, 3);
    let rate = Sampling::Random { temperature: -1.0, top_k: 0, top_p: 1.0, seed: 5 };
    let options = CaptionOptions { sampling: rate, ..options };
    let refused = caption_all(&model, &inputs, "w9", &options, &out, &mut |_, _| ());
    assert_refused("temperature", refused, &["temperature"]);
}
