//! TMF from a prepared shop to a bundle that ranks, on data small enough for a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tributary::bundle;
use tributary::data::{Dataset, Split, prepare_shop};
use tributary::evaluate::{Candidates, EvaluateOptions, evaluate};
use tributary::files::{open_adapter, open_checkpoint, open_model};
use tributary::train::{AnyConfig, CHECKPOINT, FitOptions, Stopped, TrainReport};
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::llama::{Llama, LlamaConfig, Rows};
use tributary_core::nn::KvUse;
use tributary_core::prompt::{AnswerRule, Level};
use tributary_core::random::Random;
use tributary_core::recommend::{Decoding, Interaction, Recommender, Request, TmfRecommender};
use tributary_core::weights::{NamedTensor, Weights, save_safetensors};
use tributary_tests::files::tensors;
use tributary_tests::folder::Folder;
use tributary_tests::{nmse, uniform};

const ITEMS: usize = 600;
/// Drawn once for all tests.
fn prepared() -> &'static Path {
    static SHOP: OnceLock<Folder> = OnceLock::new();
    SHOP.get_or_init(|| {
        let folder = Folder::new("tmf-shop");
        prepare_shop(folder.path(), 12, 1).unwrap();
        folder
    })
    .path()
}

const BASE: &str = "[model]\nkind = 'tmf'\nlevel = 'text'\n\
    [language]\nvocab_size = 600\nhidden_size = 32\nintermediate_size = 64\n\
    num_hidden_layers = 2\nnum_attention_heads = 2\nnum_key_value_heads = 1\n\
    [data]\npath = 'SHOP'\nusers = 8\nvalidation_users = 4\n";
const TMF: &str = "[model]\nkind = 'tmf'\nlanguage = 'base'\n\
    [adapter]\nr = 4\nlora_alpha = 8.0\ntarget_modules = ['q_proj', 'v_proj']\n\
    [fusion]\nmodality_size = 8\nintermediate_size = 16\nnum_attention_heads = 2\n\
    [tables]\nimage = 'image.safetensors'\ngraph = 'graph.safetensors'\n\
    [data]\npath = 'SHOP'\nusers = 8\nvalidation_users = 4\n";
const TRAINING: &str = "[training]\nepochs = 1\nbatch_size = 4\nmetric = 'hit_rate@1'\n\
    checkpoint_every = 2\n[optimizer]\nlearning_rate = 0.003\n";

/// A shop of few users, with tables of random embeddings and a base model trained for `steps`.
struct Shop(Folder);

impl Shop {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let this = Self(folder);
        this.table("image.safetensors", 12, None);
        this.table("graph.safetensors", 6, Some("view,cart,buy"));
        this
    }

    fn table(&self, name: &str, width: usize, behaviours: Option<&str>) {
        let items = uniform(width as u64, ITEMS * width);
        let mut tensors = vec![NamedTensor::f32("item_embedding.weight", &[ITEMS, width], &items)];
        let mut metadata = BTreeMap::new();
        if name == "other.safetensors" {
            metadata.insert("catalogue_sha256".to_owned(), "00".to_owned());
        }
        if let Some(names) = behaviours {
            let table = uniform(5, 3 * width);
            tensors.push(NamedTensor::f32("behaviour_embedding.weight", &[3, width], &table));
            metadata.insert("behaviours".to_owned(), names.to_owned());
        }
        let mut files = BTreeMap::new();
        save_safetensors(&tensors, &metadata, None, &mut files).unwrap();
        self.0.write(name, &files["model.safetensors"]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn train(
        &self,
        config: &str,
        out: &str,
        resume: bool,
        steps: Option<u64>,
    ) -> Result<TrainReport> {
        let config = config.replace("SHOP", &prepared().display().to_string());
        let config = self.0.write("config.toml", config);
        let options = FitOptions { out: self.path(out), resume, max_steps: steps };
        AnyConfig::read(&config)?.run(&options, &mut |_| {})
    }

    /// The first and the last point of a run's curve.
    fn losses(&self, run: &str) -> [f64; 2] {
        let curve = std::fs::read_to_string(self.path(run).join("run/curve.csv")).unwrap();
        let loss = |line: &str| line.split(',').nth(2).unwrap().parse().unwrap();
        [curve.lines().nth(1), curve.lines().last()].map(|line| loss(line.unwrap()))
    }

    fn base(&self) {
        self.train(&format!("{BASE}{TRAINING}"), "base", false, Some(4)).unwrap();
    }
}

fn request(data: &Dataset) -> Request {
    let case = data.cases(Split::Test)[0];
    let id = |item: &u32| data.catalogue.get(*item).unwrap().id.clone();
    let history = case.history.iter().zip(case.behaviours).map(|(item, behaviour)| Interaction {
        behaviour: Some(data.behaviours[usize::from(*behaviour)].clone()),
        ..Interaction::new(id(item))
    });
    Request {
        history: history.collect(),
        candidates: Some([case.target, 5, 77, 301].iter().map(id).collect()),
        ..Request::default()
    }
}

#[test]
fn a_trained_folder_serves_what_training_validated() {
    let shop = Shop::new("tmf-serves");
    shop.base();
    let report = shop.train(&format!("{TMF}{TRAINING}"), "tmf", false, Some(6)).unwrap();
    assert_eq!(report.stopped, Stopped::Paused);
    assert_eq!(report.steps, 6);

    let bundle = bundle::from_model(&shop.path("tmf")).unwrap();
    let tmf = bundle.tmf_recommender(&Cpu::new()).unwrap();
    let mut data = Dataset::read(prepared()).unwrap();
    data.hold_out("buy").unwrap();
    let answer = pollster::block_on(tmf.recommend(&request(&data))).unwrap();
    assert_eq!(answer.items.len(), 4);
    assert!(answer.usage.image_tokens > 0, "soft tokens of items: {:?}", answer.usage);

    let options = EvaluateOptions {
        candidates: Candidates::Sampled { num_candidates: 11, seed: 1 },
        k: vec![1],
        users: Some(3),
        ..EvaluateOptions::default()
    };
    let evaluation = evaluate(&tmf, tmf.catalogue(), &data, &options, |_, _| ()).unwrap();
    assert_eq!((evaluation.users, evaluation.valid_ratio), (3, 1.0));
}

/// The folder `out` holds `base` with the adapter folded in that lies beside it.
fn merged_is_base_and_adapter(shop: &Shop, out: &str) {
    let base = open_model(&shop.path("base")).unwrap().checkpoint;
    let merged = open_checkpoint(&shop.path(out)).unwrap();
    let adapter = open_adapter(&shop.path(out).join("adapter"), &base).unwrap();
    let name = "model.layers.1.self_attn.q_proj";
    let lora = adapter.lora(name).unwrap();
    assert!(lora.b.iter().any(|&b| b != 0.0), "trained");
    let mut truth: Vec<f64> =
        base.values(&format!("{name}.weight")).unwrap().into_iter().map(f64::from).collect();
    for (o, row) in truth.chunks_mut(32).enumerate() {
        for (i, value) in row.iter_mut().enumerate() {
            let sum: f32 = (0..lora.r).map(|r| lora.b[o * lora.r + r] * lora.a[r * 32 + i]).sum();
            *value += f64::from(lora.scale * sum);
        }
    }
    let found = merged.values(&format!("{name}.weight")).unwrap();
    assert!(nmse(&found, &truth) < 1e-12, "{}", nmse(&found, &truth));
}

#[test]
fn the_adapter_is_saved_under_pefts_names_and_folded_into_the_model() {
    let shop = Shop::new("tmf-adapter");
    shop.base();
    shop.train(&format!("{TMF}{TRAINING}"), "tmf", false, Some(6)).unwrap();
    merged_is_base_and_adapter(&shop, "tmf");
    let base = open_checkpoint(&shop.path("base")).unwrap();
    let merged = open_checkpoint(&shop.path("tmf")).unwrap();
    // What no adapter hits is the base's own.
    let norm = "model.layers.0.input_layernorm.weight";
    assert_eq!(base.values(norm).unwrap(), merged.values(norm).unwrap());
}

#[test]
fn a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one() {
    let shop = Shop::new("tmf-resume");
    shop.base();
    let config = format!("{TMF}{TRAINING}");
    shop.train(&config, "whole", false, Some(5)).unwrap();
    shop.train(&config, "parts", false, Some(2)).unwrap();
    assert!(shop.path("parts/run").join(CHECKPOINT).is_file());
    shop.train(&config, "parts", true, Some(3)).unwrap();
    let weights = |out: &str| tensors(&Path::new(&shop.path(out)).join("run/model.safetensors"));
    assert_eq!(weights("whole"), weights("parts"));

    let other = config.replace("modality_size = 8", "modality_size = 4");
    let error = shop.train(&other, "parts", true, Some(1)).unwrap_err().to_string();
    assert!(error.contains("modality_size"), "{error}");
}

/// QLoRA: four bits under the adapter while it is trained, the base as it was opened afterwards.
#[test]
fn a_run_over_nf4_learns_resumes_exactly_and_is_folded_into_the_base_itself() {
    let shop = Shop::new("tmf-nf4");
    shop.base();
    let nf4 = "[adapter]\nquantization = 'nf4'\nlora_dropout = 0.1\n";
    let config = format!("{TMF}{TRAINING}").replace("[adapter]\n", nf4);
    shop.train(&config, "whole", false, Some(5)).unwrap();
    shop.train(&config, "parts", false, Some(2)).unwrap();
    shop.train(&config, "parts", true, Some(3)).unwrap();
    let weights = |out: &str| tensors(&shop.path(out).join("run/model.safetensors"));
    assert_eq!(weights("whole"), weights("parts"));
    merged_is_base_and_adapter(&shop, "whole");
    let adapter = std::fs::read_to_string(shop.path("whole/adapter/adapter_config.json")).unwrap();
    assert!(adapter.contains("\"lora_dropout\": 0.1"), "{adapter}");
    let float = config.replace("quantization = 'nf4'\n", "");
    let error = shop.train(&float, "parts", true, Some(1)).unwrap_err().to_string();
    assert!(error.contains("quantization"), "{error}");

    let users = "users = 8\nvalidation_users = 4";
    let config = config.replace(users, "users = 2\nvalidation_users = 0");
    let config = config.replace("epochs = 1", "epochs = 40\nlog_every = 5");
    let config = config.replace("learning_rate = 0.003", "learning_rate = 0.01");
    shop.train(&config, "learned", false, None).unwrap();
    let [first, last] = shop.losses("learned");
    println!("loss of 2 users over an NF4 base: {first} ... {last}");
    assert!(last < 0.8 * first, "{first} ... {last}");
}

/// What a piece of noise costs, in nats a token, when it comes for the
/// first and for the second time.
fn cost_of_noise(folder: &Path) -> [f32; 2] {
    let (cpu, model) = (Cpu::new(), open_model(folder).unwrap());
    let config = LlamaConfig::parse("config.json", &model.config).unwrap();
    let vocabulary = config.vocab_size as u64;
    let llama = Llama::load(&Weights::new(&cpu, &model.checkpoint), config).unwrap();
    let mut random = Random::new(9);
    let noise: Vec<u32> = (0..40).map(|_| random.below(vocabulary) as u32).collect();
    let ids = noise.repeat(2);
    let segments = Segments::new(&[ids.len() - 1]).unwrap();
    let positions = segments.positions(0);
    let rows = Rows { segments: &segments, positions: &positions };
    let hidden = llama.embed(&cpu, &ids[..79]).unwrap();
    let hidden = llama.forward(&cpu, hidden, rows, KvUse::None, None).unwrap();
    let logits = llama.logits(&cpu, &hidden).unwrap();
    let costs = cpu.cross_entropy(&logits, &ids[1..]).unwrap();
    let costs = costs.data();
    let mean = |costs: &[f32]| costs.iter().sum::<f32>() / costs.len() as f32;
    [mean(&costs[..39]), mean(&costs[40..])]
}

#[test]
fn a_new_language_model_copies_before_it_has_learned_anything() {
    let shop = Shop::new("tmf-copies");
    let wide = "hidden_size = 96\nintermediate_size = 64\nnum_hidden_layers = 2\n\
        num_attention_heads = 4\nnum_key_value_heads = 2\nhead_dim = 48\n";
    let narrow = BASE.split_once("hidden_size").unwrap().0;
    let data = BASE.split_once("[data]").unwrap().1;
    let config = format!("{narrow}{wide}[data]{data}{TRAINING}");
    let config = config.replace("learning_rate = 0.003", "learning_rate = 1e-9");
    shop.train(&config, "base", false, Some(1)).unwrap();
    let [first, second] = cost_of_noise(&shop.path("base"));
    assert!(second < first - 1.0, "{first} nats a token of noise, repeated {second}");
}

#[test]
fn a_base_model_learns_from_texts_and_a_fusion_goes_on_from_another_run() {
    let shop = Shop::new("tmf-texts");
    let texts = "users = 8\nquestions = false\nstories = 1\nname_lists = 4\n\
        catalogue_lessons = 1\n";
    let config = format!("{BASE}{TRAINING}").replace("users = 8\n", texts);
    let report = shop.train(&config, "base", false, Some(6)).unwrap();
    // 8 stories, 600 lines, 4 lists, in batches of 4.
    assert_eq!(report.total_steps, (8 + 600 + 4) / 4);
    let optimizer = "kind = 'muon'\nlearning_rate = 0.003\n";
    let config = format!("{TMF}{TRAINING}").replace("learning_rate = 0.003\n", optimizer);
    shop.train(&config, "first", false, Some(3)).unwrap();
    let still = config.replace("learning_rate = 0.003", "learning_rate = 1e-30");
    let from = |config: &str| config.replace("[fusion]\n", "[fusion]\nfrom = 'first'\n");
    shop.train(&from(&still), "second", false, Some(1)).unwrap();
    shop.train(&still, "third", false, Some(1)).unwrap();
    let fusion = |out: &str| tensors(&shop.path(out).join("fusion.safetensors"));
    assert_eq!(fusion("first"), fusion("second"));
    assert_ne!(fusion("first"), fusion("third"));
    let other = from(&config).replace("modality_size = 8", "modality_size = 4");
    let error = shop.train(&other, "out", false, Some(1)).unwrap_err().to_string();
    assert!(error.contains("as [fusion] says"), "{error}");
}

#[test]
fn a_quantised_folder_still_serves_and_writes_names() {
    let shop = Shop::new("tmf-q8");
    shop.base();
    shop.train(&format!("{TMF}{TRAINING}"), "tmf", false, Some(6)).unwrap();
    let path = |name: &str| shop.path(name).display().to_string();
    for format in ["q8", "q4"] {
        let quantized = Command::new(tributary_tests::program())
            .args(["quantize", &path("tmf"), "--format", format, "--out", &path(format)])
            .output()
            .unwrap();
        assert!(quantized.status.success(), "{}", String::from_utf8_lossy(&quantized.stderr));
    }
    let stored = |folder: &str, name: &str| std::fs::read(shop.path(folder).join(name)).unwrap();
    assert_ne!(stored("q4", "model.safetensors"), stored("q8", "model.safetensors"));
    // Candidates are scored by their fused tokens.
    assert_eq!(stored("q4", "fusion.safetensors"), stored("q8", "fusion.safetensors"));
    let open = |name: &str| {
        let bundle = bundle::from_model(&shop.path(name)).unwrap();
        bundle.tmf_recommender(&Cpu::new()).unwrap()
    };
    let (exact, rounded) = (open("tmf"), open("q8"));
    let mut data = Dataset::read(prepared()).unwrap();
    data.hold_out("buy").unwrap();
    let scores = |tmf: &TmfRecommender<Cpu>| {
        let mut items = pollster::block_on(tmf.recommend(&request(&data))).unwrap().items;
        items.sort_by(|a, b| a.id.cmp(&b.id));
        items.iter().map(|item| item.score).collect::<Vec<f32>>()
    };
    for (a, b) in scores(&exact).iter().zip(scores(&rounded)) {
        assert!(a != &b && (a - b).abs() < 0.1 * a.abs(), "{a} in f32, {b} in q8");
    }

    let options = EvaluateOptions {
        candidates: Candidates::Sampled { num_candidates: 11, seed: 1 },
        k: vec![1],
        ..EvaluateOptions::default()
    };
    let written = |decoding| {
        let written = rounded.written(decoding);
        evaluate(&written, rounded.catalogue(), &data, &options, |_, _| ()).unwrap()
    };
    let constrained = written(Decoding::Constrained);
    assert_eq!(constrained.valid_ratio, 1.0);
    let right = constrained.ranks().iter().filter(|rank| **rank == Some(0)).count();
    let hit_rate = right as f64 / constrained.users as f64;
    assert!((constrained.metrics["hit_rate@1"] - hit_rate).abs() < 1e-9);
    // A model of six steps hardly writes a name by itself, and what it writes is no hit.
    let free = written(Decoding::Free(AnswerRule::Exact));
    assert!(free.valid_ratio < 1.0, "{}", free.valid_ratio);
    assert!(free.ranks().iter().filter(|rank| rank.is_none()).count() > 0);
}

/// The choice loss asks for no more than that the right candidate outweighs the others, so a few
/// users' answers are learned by heart long before their names are.
#[test]
fn a_choice_among_candidates_is_learned() {
    let shop = Shop::new("tmf-choice");
    let data = "[loss]\nanswer = 0.0\nchoice = 1.0\n[data]\nnum_candidates = 3\n";
    let config = format!("{BASE}{TRAINING}").replace("[data]\n", data);
    let config =
        config.replace("users = 8\nvalidation_users = 4", "users = 2\nvalidation_users = 0");
    let config = config.replace("epochs = 1", "epochs = 60\nlog_every = 5");
    shop.train(&config, "choice", false, None).unwrap();
    let [first, last] = shop.losses("choice");
    assert!(first > 0.5 && last < 0.3, "{first} ... {last}");
}

/// What training validates is what the folder serves: the same rows, scaled alike.
#[test]
fn pointing_is_learned_and_served() {
    let shop = Shop::new("tmf-pointer");
    let tmf = TMF.replace("language = 'base'\n", "[model.prompt]\npointer = true\n");
    let tmf = tmf.replace(
        "[adapter]\nr = 4\nlora_alpha = 8.0\n",
        "[language]\nvocab_size = 600\n\
        hidden_size = 32\nintermediate_size = 64\nnum_hidden_layers = 2\nnum_attention_heads = 4\n\
        num_key_value_heads = 4\nhead_dim = 16\n\
        [loss]\nchoice = 1.0\nanswer = 0.0\nhistory = 0.5\n\
        [curriculum]\nhardest_only = 1.0\n",
    );
    let tmf = tmf.replace("target_modules = ['q_proj', 'v_proj']\n", "");
    let users = "users = 8\nvalidation_users = 4";
    let config = format!("{tmf}{TRAINING}").replace(users, "users = 2\nvalidation_users = 12");
    let config = config.replace("epochs = 1", "epochs = 40\neval_every = 10\nlog_every = 5");
    shop.train(&config, "point", false, None).unwrap();
    let [first, last] = shop.losses("point");
    // ln(11) times the mean weight at first.
    assert!(first > 0.9 && last < 0.7 * first, "{first} ... {last}");

    let bundle = bundle::from_model(&shop.path("point")).unwrap();
    let tmf = bundle.tmf_recommender(&Cpu::new()).unwrap();
    assert!(tmf.config().prompt.pointer);
    let mut data = Dataset::read(prepared()).unwrap();
    data.hold_out("buy").unwrap();
    let answer = pollster::block_on(tmf.recommend(&request(&data))).unwrap();
    let sum: f32 = answer.items.iter().map(|item| item.score.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");

    let silent = config.replace("choice = 1.0\n", "");
    let error = shop.train(&silent, "out", false, Some(1)).unwrap_err().to_string();
    assert!(error.contains("pointer"), "{error}");
}

/// Below the level of items a candidate's token is its name.
#[test]
fn names_are_pointed_at_too() {
    let shop = Shop::new("tmf-pointed-names");
    let pointer = "level = 'text'\n[model.prompt]\npointer = true\n";
    let loss = "[loss]\nanswer = 0.0\nchoice = 1.0\nhistory = 0.5\n[data]\nlisted = 0.0\n";
    let config = format!("{BASE}{TRAINING}").replace("level = 'text'\n", pointer);
    let config =
        config.replace("[data]\n", loss).replace("epochs = 1", "epochs = 40\nlog_every = 5");
    let users = "users = 8\nvalidation_users = 4";
    let config = config.replace(users, "users = 2\nvalidation_users = 0");
    shop.train(&config, "names", false, None).unwrap();
    let [first, last] = shop.losses("names");
    assert!(last < 0.8 * first, "{first} ... {last}");
    let bundle = bundle::from_model(&shop.path("names")).unwrap();
    let tmf = bundle.tmf_recommender(&Cpu::new()).unwrap();
    let mut data = Dataset::read(prepared()).unwrap();
    data.hold_out("buy").unwrap();
    let answer = pollster::block_on(tmf.recommend(&request(&data))).unwrap();
    let sum: f32 = answer.items.iter().map(|item| item.score.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
}

/// Where all names are equal nothing is known, and the right one is no more likely than another.
#[test]
fn a_tie_is_no_hit() {
    let shop = Shop::new("tmf-ties");
    let data = shop.path("shop");
    prepare_shop(&data, 12, 1).unwrap();
    let catalogue = std::fs::read_to_string(data.join("catalogue.jsonl")).unwrap();
    let same = catalogue.lines().map(|line| {
        let mut item: serde_json::Value = serde_json::from_str(line).unwrap();
        item["title"] = "same".into();
        format!("{item}\n")
    });
    shop.0.write("shop/catalogue.jsonl", same.collect::<String>());
    let config = format!("{BASE}{TRAINING}[model.prompt]\npointer = false\n");
    let config = config.replace("SHOP", &data.display().to_string());
    let config = config.replace("checkpoint_every", "eval_every = 2\ncheckpoint_every");
    let report = shop.train(&config, "ties", false, Some(2)).unwrap();
    let best = report.best.unwrap();
    assert!(best.metric < 1.0, "all of 4 users' targets are first of 11 equal ones");
}

#[test]
fn keys_of_a_configuration_are_set_and_left_out() {
    let shop = Shop::new("tmf-set");
    let path = shop.0.write("config.toml", format!("{TMF}{TRAINING}"));
    let read = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|setting| (*setting).to_owned()).collect();
        AnyConfig::read_with(&path, &set)
    };
    let set = ["training.seed=7", "model.level=behaviour", "tables.image=", "loss.choice=0.5"];
    let AnyConfig::Tmf(config) = read(&set).unwrap() else { panic!("another kind") };
    assert_eq!((config.training.seed, config.loss.choice), (7, 0.5));
    assert_eq!(config.model.level, Level::Behaviour);
    assert!(config.tables.image.is_none() && config.tables.graph.is_some());
    for (setting, expected) in [
        ("training.seed", "key=value"),
        ("model.kind.x=1", "key=value"),
        ("loss.chance=1", "chance"),
    ] {
        let error = read(&[setting]).unwrap_err().to_string();
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

#[test]
fn configurations_that_make_no_sense_are_refused_by_key() {
    let shop = Shop::new("tmf-refused");
    shop.table("other.safetensors", 12, None);
    for (from, to, key) in [
        ("language = 'base'\n", "", "model.language"),
        ("users = 8", "users = 8\nnum_candidates = 1", "data.num_candidates"),
        ("users = 8", "users = 8\ntarget_behaviour = 'rate'", "rate"),
        ("users = 8", "users = 8\nasked_behaviours = ['rate']", "rate"),
        ("kind = 'tmf'", "kind = 'tmff'", "tmff"),
        ("image = 'image.safetensors'", "image = 'other.safetensors'", "catalogue_sha256"),
        ("users = 8", "user = 8", "user"),
        ("[tables]", "[loss]\nchoice = -1.0\n[tables]", "loss"),
        ("users = 8", "users = 8\nlisted = 1.5", "data.listed"),
        ("users = 8", "users = 8\ncold = -0.1", "data.cold"),
        ("[adapter]\n", "[adapter]\nquantization = 'nf3'\n", "nf3"),
        ("[adapter]\n", "[adapter]\ndouble_quantization = false\n", "adapter.quantization"),
        ("[adapter]\n", "[adapter]\nlora_dropout = 1.0\n", "adapter.lora_dropout"),
    ] {
        let config = format!("{TMF}{TRAINING}").replace(from, to);
        let error = shop.train(&config, "out", false, Some(1)).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}
