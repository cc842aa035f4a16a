//! LLaVA and Qwen2-VL against Hugging Face's own values: every hidden state of the vision tower and of
//! the language model, logits, greedy tokens, the patches of pictures; on every backend.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use std::sync::Arc;

use tributary::files::{self, FolderSink, ModelFolder};
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::llama::{AxesRows, Llama, TokenId};
use tributary_core::models::llava::{Llava, LlavaConfig};
use tributary_core::models::qwen2_vl::{PatchGrid, Qwen2Vl, Qwen2VlConfig};
use tributary_core::nn::{AxesPosition, KvUse};
use tributary_core::preprocess::{MAX_PICTURE_TOKENS, PatchPreprocessor, Picture, decode};
use tributary_core::session::{Sampler, Sampling, Session, SoftTokens, StopRules};
use tributary_core::weights::{Checkpoint, NamedTensor, TensorSpec, Weights, save_safetensors};
use tributary_tests::files::assert_refused;
use tributary_tests::folder::Folder;
use tributary_tests::language::{Expected, folder, open};
use tributary_tests::suite::read;
use tributary_tests::{assert_parity, on_each_backend};

/// The bound that was asked for; f32 arithmetic stays a thousand times below it.
const BOUND: f64 = 1e-8;
const INPUTS: usize = 3;

fn floats(expected: &Expected, name: &str) -> Vec<f32> {
    expected.values(name).into_iter().map(|value| value as f32).collect()
}

fn grids(expected: &Expected, i: usize) -> Vec<PatchGrid> {
    let numbers = expected.ids(&format!("image_grid_thw.{i}"));
    let grid = |n: &[u32]| PatchGrid { temporal: n[0], height: n[1], width: n[2] };
    numbers.chunks_exact(3).map(grid).collect()
}

/// `trace` against the tensors `{name}.0`, `{name}.1` and so on; how many there are.
fn equal_states<B: Backend>(
    b: &B,
    label: &str,
    trace: &[B::Tensor],
    expected: &Expected,
    name: &str,
) {
    for (n, state) in trace.iter().enumerate() {
        let truth = expected.values(&format!("{name}.{n}"));
        assert_parity(&format!("{label} {name}.{n}"), &read(b, state), &truth, BOUND);
    }
}

/// The language model with the embeddings of input `i`: every state, logits, and a session that goes
/// on as the library does.
struct Prompt<'a, B: Backend> {
    ids: &'a [TokenId],
    positions: &'a [AxesPosition],
    embeds: B::Tensor,
    features: Option<B::Tensor>,
    image_token: TokenId,
}

fn language_equals<B: Backend>(
    b: &B,
    label: &str,
    model: &Arc<Llama<B>>,
    prompt: Prompt<'_, B>,
    (expected, i): (&Expected, usize),
) {
    let segments = Segments::one(prompt.ids.len()).unwrap();
    let rows = AxesRows { segments: &segments, positions: prompt.positions };
    let mut trace = Vec::new();
    let hidden = model.forward_axes(b, prompt.embeds, rows, KvUse::None, Some(&mut trace)).unwrap();
    equal_states(b, label, &trace, expected, &format!("hidden_states.{i}"));
    assert!(!expected.has(&format!("hidden_states.{i}.{}", trace.len())), "all were compared");
    let logits = read(b, &model.logits(b, &hidden).unwrap());
    let truth = expected.values(&format!("logits.{i}"));
    assert_parity(&format!("{label} logits.{i}"), &logits, &truth, BOUND);

    let mut session = Session::new(b.clone(), model.clone(), 160).unwrap();
    let places: Vec<u32> = (0..prompt.ids.len() as u32)
        .filter(|&at| prompt.ids[at as usize] == prompt.image_token)
        .collect();
    match &prompt.features {
        None => session.prefill(prompt.ids).unwrap(),
        Some(rows) => {
            let identities: Vec<u64> = places.iter().map(|&at| at.into()).collect();
            let soft = SoftTokens { positions: &places, identities: &identities, rows };
            session.prefill_axes(prompt.ids, prompt.positions, &soft).unwrap()
        }
    };
    let stop =
        StopRules { max_new_tokens: 24, stop_token_ids: Vec::new(), stop_sequences: Vec::new() };
    let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let generated = pollster::block_on(session.generate(&mut greedy, &stop, go_on)).unwrap();
    assert_eq!(generated.token_ids, expected.ids(&format!("generated.{i}")), "{label} input {i}");
}

fn llava<B: Backend>(b: &B, files: &ModelFolder) -> Llava<B> {
    let config = LlavaConfig::parse("config.json", &files.config).unwrap();
    let weights = Weights::new(b, &files.checkpoint);
    let model = Llava::load(&weights, config).unwrap();
    // Only the tower's layers behind those that are read stay where they are.
    let unused = weights.unused();
    assert!(unused.iter().all(|name| name.contains("vision_tower")), "{unused:?}");
    model
}

fn llava_equals<B: Backend>(b: &B, label: &str, files: &ModelFolder, expected: &Expected) {
    let model = llava(b, files);
    for i in 0..INPUTS {
        let ids = expected.ids(&format!("input_ids.{i}"));
        let positions: Vec<AxesPosition> = (0..ids.len() as u32).map(|at| [at; 3]).collect();
        let pixels = format!("pixel_values.{i}");
        let features = expected.has(&pixels).then(|| {
            let mut trace = Vec::new();
            let pixels = floats(expected, &pixels);
            let features = model.image_features(b, &pixels, Some(&mut trace)).unwrap();
            let last = model.config().vision_feature_layer.iter().max().unwrap();
            assert_eq!(trace.len(), last + 1, "{label}: the tower ends where it is read");
            equal_states(b, label, &trace, expected, &format!("image_hidden_states.{i}"));
            let truth = expected.values(&format!("image_features.{i}"));
            assert_parity(&format!("{label} features.{i}"), &read(b, &features), &truth, BOUND);
            features
        });
        let embeds = match &features {
            Some(features) => model.embed(b, &ids, features).unwrap(),
            None => model.language_model().embed(b, &ids).unwrap(),
        };
        let image_token = model.config().image_token_index;
        let prompt = Prompt { ids: &ids, positions: &positions, embeds, features, image_token };
        language_equals(b, label, model.language_model(), prompt, (expected, i));
    }
}

fn qwen2_vl<B: Backend>(b: &B, config: &str, checkpoint: &Checkpoint) -> Qwen2Vl<B> {
    let config = Qwen2VlConfig::parse("config.json", config).unwrap();
    let weights = Weights::new(b, checkpoint);
    let model = Qwen2Vl::load(&weights, config).unwrap();
    assert_eq!(weights.unused(), Vec::<String>::new(), "every tensor is used");
    model
}

fn qwen2_vl_equals<B: Backend>(b: &B, label: &str, model: &Qwen2Vl<B>, expected: &Expected) {
    for i in 0..INPUTS {
        let ids = expected.ids(&format!("input_ids.{i}"));
        let pixels = format!("pixel_values.{i}");
        let (mut grids_of_input, mut features) = (Vec::new(), None);
        if expected.has(&pixels) {
            grids_of_input = grids(expected, i);
            let mut trace = Vec::new();
            let rows = model
                .image_features(b, &floats(expected, &pixels), &grids_of_input, Some(&mut trace))
                .unwrap();
            let name = format!("image_hidden_states.{i}");
            equal_states(b, label, &trace, expected, &name);
            assert!(!expected.has(&format!("{name}.{}", trace.len())), "all were compared");
            let truth = expected.values(&format!("image_features.{i}"));
            assert_parity(&format!("{label} features.{i}"), &read(b, &rows), &truth, BOUND);
            features = Some(rows);
        }
        let positions = model.positions(&ids, &grids_of_input).unwrap();
        if features.is_some() {
            let truth = expected.ids(&format!("position_ids.{i}"));
            assert_eq!(positions.concat(), truth, "{label} positions of input {i}");
        }
        let embeds = match &features {
            Some(features) => model.embed(b, &ids, features).unwrap(),
            None => model.language_model().embed(b, &ids).unwrap(),
        };
        let image_token = model.config().image_token_id;
        let prompt = Prompt { ids: &ids, positions: &positions, embeds, features, image_token };
        language_equals(b, label, model.language_model(), prompt, (expected, i));
    }
}

#[test]
fn llava_equals_the_original() {
    for name in ["llava", "llava-full"] {
        let (files, expected) = (open(name), Expected::open(name));
        on_each_backend!(backend, b => {
            llava_equals(&b, &format!("{backend} {name}"), &files, &expected);
        });
    }
}

#[test]
fn qwen2_vl_equals_the_original() {
    let (files, expected) = (open("qwen2-vl"), Expected::open("qwen2-vl"));
    on_each_backend!(backend, b => {
        let model = qwen2_vl(&b, &files.config, &files.checkpoint);
        qwen2_vl_equals(&b, &format!("{backend} qwen2-vl"), &model, &expected);
    });
}

/// The tensors of `checkpoint` in a folder of their own, by other names and in shards.
fn renamed(checkpoint: &Checkpoint, rename: impl Fn(&str) -> String) -> (Folder, Checkpoint) {
    let scratch = Folder::new("vlm-renamed");
    let tensors: Vec<NamedTensor> = checkpoint
        .names()
        .map(|name| {
            let info = checkpoint.info(name).unwrap();
            let (dtype, shape) = (info.coding.dtype(), info.shape.clone());
            let spec = TensorSpec { name: rename(name), dtype, shape };
            NamedTensor { spec, bytes: checkpoint.raw(name).unwrap() }
        })
        .collect();
    let mut sink = FolderSink::create(scratch.path()).unwrap();
    save_safetensors(&tensors, &BTreeMap::new(), Some(40_000), &mut sink).unwrap();
    sink.finish().unwrap();
    assert!(scratch.path().join("model.safetensors.index.json").exists(), "in shards");
    let checkpoint = files::open_checkpoint(scratch.path()).unwrap();
    (scratch, checkpoint)
}

/// Every way in which some version of the library named the tensors, and the older configuration.
#[test]
fn older_and_newer_names_are_one_model() {
    let b = Cpu::new();
    let (files, expected) = (open("qwen2-vl"), Expected::open("qwen2-vl"));
    let old = std::fs::read_to_string(folder("qwen2-vl").join("config.v4.json")).unwrap();
    let parse = |text: &str| Qwen2VlConfig::parse("config.json", text).unwrap();
    assert_eq!(parse(&old), parse(&files.config), "one flat object, or one in the other");
    let (_scratch, newer) = renamed(&files.checkpoint, |name| match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None if name.starts_with("visual.") => format!("model.{name}"),
        None => name.to_owned(),
    });
    assert!(newer.has("model.visual.patch_embed.proj.weight"));
    qwen2_vl_equals(&b, "newer names", &qwen2_vl(&b, &old, &newer), &expected);

    let (files, expected) = (open("llava"), Expected::open("llava"));
    let tower = |name: &str| name.replace("vision_tower.", "vision_tower.vision_model.");
    let newer = |name: &str| match name.strip_prefix("language_model.model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None if name.starts_with("language_model.") => name.replace("language_model.", ""),
        None => format!("model.{name}"),
    };
    type Way<'a> = (&'a str, &'a dyn Fn(&str) -> String);
    let ways: [Way<'_>; 3] = [
        ("older tower", &tower),
        ("newer names", &newer),
        ("newer names, older tower", &|name| newer(&tower(name))),
    ];
    for (label, rename) in ways {
        let (scratch, _) = renamed(&files.checkpoint, rename);
        scratch.write("config.json", &files.config);
        llava_equals(&b, label, &files::open_model(scratch.path()).unwrap(), &expected);
    }
}

#[test]
fn pictures_become_the_patches_of_the_original() {
    let (files, expected) = (open("qwen2-vl"), Expected::open("qwen2-vl-pictures"));
    let model = Qwen2VlConfig::parse("config.json", &files.config).unwrap().vision_config;
    let text = folder("qwen2-vl-pictures").join("preprocessor_config.json");
    let text = std::fs::read_to_string(text).unwrap();
    let rule = PatchPreprocessor::parse("preprocessor_config.json", &text, &model).unwrap();
    for name in ["wide", "tall", "one", "grey"] {
        let file = folder("pictures").join(format!("{name}.png"));
        let picture = decode(name, &std::fs::read(file).unwrap()).unwrap();
        let found = rule.patches(&picture).unwrap();
        let n = expected.ids(&format!("image_grid_thw.{name}"));
        assert_eq!(found.grid, PatchGrid { temporal: n[0], height: n[1], width: n[2] }, "{name}");
        // Pillow may take the columns first, which moves a value by one of 255.
        let truth = expected.values(&format!("pixel_values.{name}"));
        assert_eq!(found.values.len(), truth.len(), "{name}");
        let far = |(f, t): (&f32, &f64)| (f64::from(*f) - t).abs();
        let worst = found.values.iter().zip(&truth).map(far).fold(0.0, f64::max);
        assert!(worst < 1.01 / 255.0 / 0.26, "{name}: {worst}");
        let moved = found.values.iter().zip(&truth).filter(|pair| far(*pair) > 1e-5).count();
        assert!(moved * 50 <= truth.len(), "{name}: {moved} of {} moved", truth.len());
    }
}

#[test]
fn sizes_are_those_of_the_original() {
    let text = std::fs::read_to_string(folder("qwen2-vl-pictures").join("sizes.json")).unwrap();
    let sizes: Vec<[usize; 6]> = serde_json::from_str(&text).unwrap();
    let config = r#"{"model_type": "qwen2_vl", "vision_config": {"hidden_size": 128},
        "hidden_size": 128, "num_attention_heads": 1, "num_hidden_layers": 1,
        "intermediate_size": 8, "vocab_size": 152000}"#;
    let model = Qwen2VlConfig::parse("config.json", config).unwrap().vision_config;
    let parse = |text: &str| PatchPreprocessor::parse("p.json", text, &model).unwrap();
    assert!(sizes.len() > 50);
    for [height, width, least, most, rows, cols] in sizes {
        let old = parse(&format!(r#"{{"min_pixels": {least}, "max_pixels": {most}}}"#));
        let new =
            parse(&format!(r#"{{"size": {{"shortest_edge": {least}, "longest_edge": {most}}}}}"#));
        assert_eq!(old, new);
        assert_eq!(old.resized(height, width).unwrap(), [rows, cols], "{height}x{width}");
    }
    // What published folders allow is cut, unless the caller says so.
    let published = parse(r#"{"min_pixels": 3136, "max_pixels": 12845056}"#);
    let tokens = |[rows, cols]: [usize; 2]| rows * cols / (28 * 28);
    let large = |rule: &PatchPreprocessor| tokens(rule.resized(4000, 4000).unwrap());
    assert!(large(&published) <= MAX_PICTURE_TOKENS && large(&published) > 1000);
    let all = published.clone().with_max_tokens(16_384);
    assert!(large(&all) > 16_000, "{}", large(&all));
    assert!(large(&published.with_max_tokens(100)) <= 100);
}

#[test]
fn pictures_of_extreme_shape_are_refused() {
    let files = open("qwen2-vl");
    let model = Qwen2VlConfig::parse("config.json", &files.config).unwrap().vision_config;
    let rule = PatchPreprocessor::new(&model);
    for (width, height) in [(1, 201), (4021, 20), (100_000, 1)] {
        let pixels = vec![7; width * height * 3];
        let picture = Picture::new("thin.png", width, height, pixels).unwrap();
        let size = format!("{width}x{height}");
        assert_refused(&size, rule.patches(&picture), &["picture", &size, "ratio of at most 200"]);
    }
    let fixed = r#"{"do_resize": false, "size": {"longest_edge": 512, "shortest_edge": 64}}"#;
    let fixed = PatchPreprocessor::parse("p.json", fixed, &model).unwrap();
    let picture = |side: usize| Picture::new("a", side, side, vec![1; side * side * 3]).unwrap();
    assert_refused("blocks", fixed.patches(&picture(12)), &["multiples of 8"]);
    assert_refused("large", fixed.patches(&picture(800)), &["do_resize"]);
    assert_eq!(fixed.patches(&picture(16)).unwrap().grid.patches(), 16);
    let cases = [
        (r#"{"image_processor_type": "SiglipImageProcessor"}"#, "image_processor_type"),
        (r#"{"patch_size": 14}"#, "patch_size"),
        (r#"{"merge_size": 3}"#, "merge_size"),
        (r#"{"min_pixels": 0}"#, "min_pixels"),
        (r#"{"size": {"longest_edge": 1e30}}"#, "size.longest_edge"),
        (r#"{"min_pixels": 9000, "max_pixels": 8000}"#, "min_pixels"),
        (r#"{"resample": 0}"#, "resample"),
    ];
    for (text, named) in cases {
        assert_refused(text, PatchPreprocessor::parse("p.json", text, &model), &["p.json", named]);
    }
}

#[test]
fn picture_tokens_that_do_not_fit_are_refused() {
    let b = Cpu::new();
    let files = open("llava");
    let model = llava(&b, &files);
    let features = b.zeros([9, 24]).unwrap();
    for tokens in [0, 8, 10] {
        let result = model.embed(&b, &vec![6; tokens], &features);
        assert_refused("llava", result, &["picture tokens", "9 tokens 6", &tokens.to_string()]);
    }
    assert_refused("pixels", model.image_features(&b, &[0.0; 7], None), &["pixel_values", "588"]);

    let files = open("qwen2-vl");
    let model = qwen2_vl(&b, &files.config, &files.checkpoint);
    let grid = |height, width| PatchGrid { temporal: 1, height, width };
    let features = b.zeros([4, 24]).unwrap();
    assert_refused("more", model.embed(&b, &[3, 6, 6, 6, 4], &features), &["4 tokens 6"]);
    assert_refused("fewer", model.positions(&[3, 6, 6, 4], &[grid(4, 4)]), &["4 tokens 6"]);
    let torn = model.positions(&[6, 6, 3, 6, 6], &[grid(4, 4)]);
    assert_refused("torn", torn, &["side by side"]);
    let patches = |n: usize| vec![0.5; n * 96];
    let cases: [(&str, Vec<f32>, &[PatchGrid], &str); 5] = [
        ("none", Vec::new(), &[], "at least one"),
        ("values", patches(15), &[grid(4, 4)], "values"),
        ("blocks", patches(15), &[grid(3, 5)], "multiples of 2"),
        ("empty", Vec::new(), &[grid(0, 4)], "at least one"),
        (
            "huge",
            patches(4),
            &[PatchGrid { temporal: 9, height: 1 << 31, width: 1 << 31 }],
            "values",
        ),
    ];
    for (case, patches, grids, words) in cases {
        assert_refused(case, model.image_features(&b, &patches, grids, None), &[words]);
    }
    let mut session = Session::new(b, model.language_model().clone(), 64).unwrap();
    let rows = b.zeros([1, 24]).unwrap();
    let soft = SoftTokens { positions: &[1], identities: &[7], rows: &rows };
    let far = session.prefill_axes(&[1, 6], &[[0; 3], [1, 9, 1]], &soft);
    assert_refused("far", far, &["positions", "below 2"]);
    assert_refused("short", session.prefill_axes(&[1, 6], &[[0; 3]], &soft), &["positions"]);
}

#[test]
fn bad_configurations_name_their_field() {
    type Parse = fn(&str) -> tributary_core::Result<()>;
    let llava: Parse = |text| LlavaConfig::parse("config.json", text).map(drop);
    let qwen: Parse = |text| Qwen2VlConfig::parse("config.json", text).map(drop);
    let with = |name: &str, edit: &dyn Fn(&mut serde_json::Value)| {
        let text = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
        let mut config = serde_json::from_str(&text).unwrap();
        edit(&mut config);
        config.to_string()
    };
    type Edit<'a> = (&'a str, Parse, &'a dyn Fn(&mut serde_json::Value), &'a str);
    let cases: &[Edit<'_>] = &[
        ("llava", llava, &|c| c["model_type"] = "llava_next".into(), "model_type"),
        ("llava", llava, &|c| c["vision_feature_layer"] = (-5).into(), "vision_feature_layer"),
        ("llava", llava, &|c| c["vision_feature_layer"] = 4.into(), "vision_feature_layer"),
        ("llava", llava, &|c| c["vision_feature_layer"] = [0; 0].as_slice().into(), "from -4 to 3"),
        (
            "llava",
            llava,
            &|c| c["vision_feature_select_strategy"] = "cls".into(),
            "vision_feature_select_strategy",
        ),
        ("llava", llava, &|c| c["image_token_index"] = 67.into(), "image_token_index"),
        ("llava", llava, &|c| c["projector_hidden_act"] = "maxout".into(), "projector_hidden_act"),
        ("llava", llava, &|c| c["text_config"]["model_type"] = "mistral".into(), "mistral"),
        (
            "llava",
            llava,
            &|c| c["vision_config"]["model_type"] = "siglip_vision_model".into(),
            "vision_config.model_type",
        ),
        ("llava", llava, &|c| c["text_config"] = 3.into(), "text_config"),
        ("llava", llava, &|c| c["quantization_config"] = "awq".into(), "quantization_config"),
        ("qwen2-vl", qwen, &|c| c["model_type"] = "qwen2_5_vl".into(), "qwen2_5_vl"),
        ("qwen2-vl", qwen, &|c| c["image_token_id"] = 67.into(), "image_token_id"),
        ("qwen2-vl", qwen, &|c| c["vision_config"]["num_heads"] = 3.into(), "num_heads"),
        ("qwen2-vl", qwen, &|c| c["vision_config"]["in_channels"] = 4.into(), "in_channels"),
        ("qwen2-vl", qwen, &|c| c["vision_config"]["hidden_size"] = 25.into(), "hidden_size"),
        ("qwen2-vl", qwen, &|c| c["vision_config"]["depth"] = 0.into(), "vision_config.depth"),
        (
            "qwen2-vl",
            qwen,
            &|c| c["text_config"]["rope_parameters"]["mrope_section"] = [1, 2, 4].as_slice().into(),
            "rope_parameters",
        ),
        (
            "qwen2-vl",
            qwen,
            &|c| c["text_config"]["rope_parameters"]["mrope_section"] = [1, 5].as_slice().into(),
            "mrope_section",
        ),
        ("qwen2-vl", qwen, &|c| c["vision_config"] = ().into(), "vision_config"),
        ("qwen2-vl", qwen, &|c| c["text_config"]["use_sliding_window"] = true.into(), "sliding"),
    ];
    for (name, parse, edit, named) in cases {
        let text = with(name, edit);
        assert_refused(&format!("{name} {named}"), parse(&text), &["config.json", named]);
    }
}

/// The published files say little of the parts; the rest is these sizes.
#[test]
fn the_published_sizes_are_understood() {
    let text = r#"{"model_type": "llava", "image_token_index": 32000,
        "text_config": {"model_type": "llama", "max_position_embeddings": 4096,
                        "rms_norm_eps": 1e-05, "vocab_size": 32064},
        "vision_config": {"model_type": "clip_vision_model", "projection_dim": 768}}"#;
    let config = LlavaConfig::parse("config.json", text).unwrap();
    let text = &config.text_config;
    assert_eq!((text.hidden_size, text.intermediate_size), (4096, 11_008));
    assert_eq!((text.num_hidden_layers, text.heads.head_dim), (32, 128));
    assert_eq!(text.eos_token_ids, [2]);
    assert_eq!((config.image_tokens(), config.vision_feature_layer.as_slice()), (576, &[23][..]));
    assert_eq!(config.vision_config.encoder.num_hidden_layers, 23, "the last is never read");

    let text = r#"{"model_type": "qwen2_vl", "hidden_size": 1536, "intermediate_size": 8960,
        "num_attention_heads": 12, "num_key_value_heads": 2, "num_hidden_layers": 28,
        "vocab_size": 151936, "rope_theta": 1000000.0, "tie_word_embeddings": true,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16,
                          "in_chans": 3, "hidden_size": 1536, "patch_size": 14,
                          "spatial_merge_size": 2, "temporal_patch_size": 2}}"#;
    let config = Qwen2VlConfig::parse("config.json", text).unwrap();
    assert_eq!(config.text_config.mrope_section, Some([16, 24, 24]));
    assert!(config.text_config.qkv_bias && config.text_config.tie_word_embeddings);
    assert_eq!((config.image_token_id, config.vision_config.patch_values()), (151_655, 1176));
    assert_eq!(config.vision_config.encoder.intermediate_size, 5120);
}
