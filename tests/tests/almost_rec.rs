//! ALMOSTRec: what its prompts hold, on three backends, and from a configuration to a bundle that
//! answers.

use std::path::Path;

use tributary::bundle;
use tributary::burn_backend::{Burn, BurnDevice, BurnOptions};
use tributary::data::Dataset;
use tributary::device::Device;
use tributary::evaluate::{EvaluateOptions, evaluate};
use tributary::recommender::AnyRecommender;
use tributary::train::{AnyConfig, FitOptions, TrainReport};
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::almost_rec::{AlmostRec, AlmostRecConfig, AlmostRecParts, FrozenTable};
use tributary_core::models::llama::{Llama, LlamaConfig};
use tributary_core::models::sequence::{SequenceItems, SequenceModel};
use tributary_core::recommend::{Recommender, Request, SequenceRecommender, Usage};
use tributary_core::weights::{Initial, Weights};
use tributary_tests::folder::Folder;
use tributary_tests::suite::read;
use tributary_tests::tiny_sasrec::{ask, catalogue, history, ids};
use tributary_tests::{assert_parity, gpu, twin, uniform};

const ITEMS: usize = 7;

fn config() -> AlmostRecConfig {
    AlmostRecConfig {
        items: SequenceItems::new(ITEMS, 6),
        item_size: 5,
        image_size: 3,
        max_title_tokens: 4,
        prompt: "in order:".into(),
    }
}

fn llama_config() -> LlamaConfig {
    let json = r#"{
        "model_type": "qwen2", "vocab_size": 40, "hidden_size": 12, "intermediate_size": 20,
        "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 4,
        "max_position_embeddings": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": true, "eos_token_id": 1}"#;
    LlamaConfig::parse("config.json", json).expect("a valid tiny model")
}

/// Item 2 has no title, item 3 no picture, item 4 no row of the sequence recommender, item 5 none of
/// the three.
fn parts<B: Backend>(b: &B) -> AlmostRecParts<B> {
    let weights = Weights::fresh(b, 5).with_initial(Initial::FanIn);
    let title = |item: usize| -> Vec<u32> {
        let tokens = if matches!(item, 2 | 5) { 0 } else { 1 + item % 4 };
        (0..tokens).map(|i| (3 + item * 5 + i) as u32 % 40).collect()
    };
    let table = |seed, width, absent: [usize; 2]| FrozenTable {
        values: uniform(seed, ITEMS * width),
        present: (0..ITEMS).map(|item| !absent.contains(&item)).collect(),
    };
    AlmostRecParts {
        llama: Llama::load(&weights, llama_config()).expect("a tiny model"),
        prompt: vec![7, 8, 9],
        titles: (0..ITEMS).map(title).collect(),
        items: table(1, 5, [4, 5]),
        images: table(2, 3, [3, 5]),
    }
}

fn model<B: Backend>(b: &B, config: AlmostRecConfig) -> Result<AlmostRec<B>> {
    let weights = Weights::fresh(b, 5).with_initial(Initial::FanIn);
    AlmostRec::load(&weights, config, parts(b))
}

fn scores<B: Backend>(b: &B, items: &[u32], lengths: &[usize]) -> Vec<f32> {
    let model = model(b, config()).expect("a tiny model");
    let segments = Segments::new(lengths).unwrap();
    let hidden = model.forward(b, items, &segments).unwrap();
    assert_eq!(b.shape(&hidden), [items.len(), 12]);
    read(b, &model.scores(b, &hidden).unwrap())
}

const HISTORY: [u32; 9] = [0, 2, 3, 5, 4, 1, 6, 6, 3];

#[test]
fn all_backends_score_alike() {
    let lengths = [6, 0, 1, 2];
    let truth = twin::wide(&scores(&Cpu::new(), &HISTORY, &lengths));
    let burn = Burn::new(BurnDevice::Cpu, BurnOptions::default()).expect("burn-flex");
    assert_parity("almost_rec burn", &scores(&burn, &HISTORY, &lengths), &truth, 1e-10);
    for subject in gpu::subjects() {
        let found = scores(&subject.backend, &HISTORY, &lengths);
        assert_parity(&format!("almost_rec {}", subject.name), &found, &truth, 1e-10);
    }
}

#[test]
fn what_comes_later_changes_nothing_and_neighbours_neither() {
    let cpu = Cpu::new();
    let together = scores(&cpu, &HISTORY, &[6, 0, 1, 2]);
    for (first, lengths) in [(0, 6), (6, 1), (7, 2)] {
        for taken in 1..=lengths {
            let alone = scores(&cpu, &HISTORY[first..first + taken], &[taken]);
            let truth = twin::wide(&together[first * ITEMS..(first + taken) * ITEMS]);
            assert_parity(&format!("{taken} items from {first}"), &alone, &truth, 1e-11);
        }
    }
}

#[test]
fn every_part_of_an_item_is_read() {
    let cpu = Cpu::new();
    let segments = Segments::one(3).unwrap();
    let hidden = |config: AlmostRecConfig| {
        let model = model(&cpu, config).expect("a tiny model");
        read(&cpu, &model.forward(&cpu, &[0, 6, 1], &segments).unwrap())
    };
    let whole = hidden(config());
    for less in [
        AlmostRecConfig { item_size: 0, ..config() },
        AlmostRecConfig { image_size: 0, ..config() },
        AlmostRecConfig { max_title_tokens: 0, ..config() },
    ] {
        assert_ne!(hidden(less.clone()), whole, "{less:?}");
    }
}

#[test]
fn a_new_event_costs_its_own_tokens_and_the_window_moves_in_steps() {
    let recommender = || {
        let model = model(&Cpu::new(), config()).expect("a tiny model");
        let model = SequenceModel::almost_rec(model);
        SequenceRecommender::new(Cpu::new(), model, Some(catalogue(ITEMS))).expect("it fits")
    };
    let kept = recommender();
    let events = ["i0", "i2", "i3", "i5", "i4", "i1", "i6", "i6", "i3"];
    let mut read = Vec::new();
    for taken in 1..=events.len() {
        let history = history(&events[..taken]);
        let request = Request { history, exclude_seen: false, ..Request::default() };
        let answer = ask(&kept, request.clone()).unwrap();
        let afresh = ask(&recommender(), request).unwrap();
        assert_eq!(ids(&answer), ids(&afresh));
        for (a, b) in answer.items.iter().zip(&afresh.items) {
            assert!((a.score - b.score).abs() < 1e-5, "{taken}: {a:?} {b:?}");
        }
        let usage = answer.usage;
        assert_eq!(afresh.usage, Usage { cached_tokens: 0, ..usage });
        // At most six tokens of a new item: four words, a picture, a row.
        if (2..=6).contains(&taken) {
            assert!(usage.prompt_tokens - usage.cached_tokens <= 6, "{taken}: {usage:?}");
        }
        read.push(usage.history_items);
    }
    assert_eq!(read, [1, 2, 3, 4, 5, 6, 6, 6, 6], "a step of six over four is one item");
    let long = SequenceItems::new(ITEMS, 8);
    let model = model(&Cpu::new(), AlmostRecConfig { items: long, ..config() }).unwrap();
    let model = SequenceModel::almost_rec(model);
    let stepping = SequenceRecommender::new(Cpu::new(), model, Some(catalogue(ITEMS))).unwrap();
    let read = (7..=9).map(|taken| {
        let request = Request { history: history(&events[..taken]), ..Request::default() };
        ask(&stepping, request).unwrap().usage.history_items
    });
    assert_eq!(read.collect::<Vec<_>>(), [7, 8, 7], "two are dropped at once");
}

#[test]
fn what_does_not_fit_is_refused() {
    let cpu = Cpu::new();
    let refused = |config: AlmostRecConfig, says: &str| {
        let error = model(&cpu, config).expect_err(says).to_string();
        assert!(error.contains(says), "`{says}` is not in: {error}");
    };
    refused(AlmostRecConfig { item_size: 6, ..config() }, "content_behavior");
    refused(AlmostRecConfig { items: SequenceItems::new(8, 6), ..config() }, "titles");
    let long = SequenceItems::new(ITEMS, 60);
    refused(AlmostRecConfig { items: long, ..config() }, "tokens of the longest history");
    let model = model(&cpu, config()).unwrap();
    assert!(model.forward(&cpu, &[0, 7], &Segments::one(2).unwrap()).is_err(), "no such item");
    assert!(model.forward(&cpu, &[0; 7], &Segments::one(7).unwrap()).is_err(), "too many items");

    let text = config().to_json();
    assert_eq!(AlmostRecConfig::parse("almost_rec.json", &text).unwrap(), config());
    for (field, value, says) in [
        ("model_type", serde_json::json!("sasrec"), "almostrec"),
        ("item_size", serde_json::json!(-1), "item_size"),
        ("prompt", serde_json::json!("x".repeat(70_000)), "65536 bytes"),
        ("max_title_tokens", serde_json::json!(1e9), "max_title_tokens"),
    ] {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[field] = value;
        let error = AlmostRecConfig::parse("a.json", &json.to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{field}: {error}");
    }
    let nothing = AlmostRecConfig { item_size: 0, image_size: 0, max_title_tokens: 0, ..config() };
    assert!(AlmostRecConfig::parse("a.json", &nothing.to_json()).is_err(), "sees nothing");
}

/// Users walk a circle of twelve items, so the last item says what is next.
fn circle(folder: &Folder) {
    let mut rows = String::from("user,item\n");
    for user in 0..60 {
        for i in 0..6 + user % 3 {
            rows += &format!("u{user},i{}\n", (user * 5 + i) % 12);
        }
    }
    folder.write("events.csv", rows);
    let item = |n: usize| format!("{{\"id\":\"i{n}\",\"title\":\"thing number {n}\"}}\n");
    folder.write("catalogue.jsonl", (0..12).map(item).collect::<String>());
}

fn train(folder: &Folder, text: &str, out: &str) -> Result<TrainReport> {
    let config = AnyConfig::read(&folder.write("config.toml", text))?;
    let out = folder.path().join(out);
    config.run(&FitOptions { out, resume: false, max_steps: None }, &mut |_| {})
}

fn hit_rate(model: &Path, folder: &Folder) -> f64 {
    let bundle = bundle::from_model(model).expect("a folder that serves");
    let recommender = AnyRecommender::load(&bundle, Device::Cpu).expect("a recommender");
    let data = Dataset::read(&folder.path().join("events.csv")).expect("ours");
    let AnyRecommender::Cpu(r) = &recommender else { panic!("not on the CPU") };
    let request = Request { history: history(&["i3", "i4"]), k: 3, ..Request::default() };
    let answer = pollster::block_on(r.recommend(&request)).expect("an answer");
    assert_eq!(answer.items.len(), 3);
    assert_eq!(r.name(), "almostrec");
    let found = evaluate(r, r.catalogue(), &data, &EvaluateOptions::default(), |_, _| ());
    found.expect("an evaluation").metrics["hit_rate@1"]
}

#[test]
fn it_is_trained_over_a_sequence_recommender_and_served_as_a_folder() {
    let folder = Folder::new("almost-rec");
    circle(&folder);
    let sasrec = "[model]\nkind = 'sasrec'\nhidden_size = 16\nnum_hidden_layers = 1\n\
                  [data]\npath = 'events.csv'\n[training]\nbatch_size = 16\nepochs = 40\n\
                  [optimizer]\nlearning_rate = 0.004\n";
    train(&folder, sasrec, "sasrec").expect("a sequence recommender");
    let text = "[model]\nkind = 'almostrec'\nsequence = 'sasrec'\nmax_items = 4\n\
                max_title_tokens = 3\nprompt = 'In order:'\n\
                [language]\nvocab_size = 300\nhidden_size = 32\nintermediate_size = 48\n\
                num_hidden_layers = 1\nhead_dim = 16\nnum_attention_heads = 2\n\
                num_key_value_heads = 1\n\
                [data]\npath = 'events.csv'\n\
                [training]\nbatch_size = 16\nepochs = 40\npatience = 0\nmetric = 'hit_rate@1'\n\
                [optimizer]\nlearning_rate = 0.004\n";
    let report = train(&folder, text, "almost").expect("a run");
    let out = folder.path().join("almost");
    let found = hit_rate(&out, &folder);
    assert!(found > 0.9, "hit_rate@1 {found}, validation {:?}", report.best.map(|b| b.metric));
    let other = text.replace("sequence = 'sasrec'", "sequence = 'other'");
    train(&folder, &sasrec.replace("events", "fewer"), "other").expect_err("no such data");
    assert!(train(&folder, &other, "none").is_err(), "no such folder");
    // With a LoRA on the language model that was just trained, held in f32 and in four bits.
    let text = text.replace("max_items", "language = 'almost'\nmax_items")
        + "[adapter]\nr = 2\nlora_alpha = 4.0\n";
    for base in ["", "quantization = 'nf4'\nlora_dropout = 0.05\n"] {
        let text = text.replace("epochs = 40", "epochs = 20") + base;
        train(&folder, &text, "adapted").expect("a LoRA run");
        let found = hit_rate(&folder.path().join("adapted"), &folder);
        assert!(found > 0.9, "hit_rate@1 {found} with a LoRA folded in; {base}");
    }
}
