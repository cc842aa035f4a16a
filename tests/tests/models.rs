//! Llama and Qwen2 against Hugging Face's own values: every hidden state, logits, greedy tokens.
#![expect(clippy::clone_on_copy, reason = "one body serves backends that are Copy and others")]

use std::ops::ControlFlow;
use std::sync::Arc;

use tributary_core::backend::{Backend, Segments};
use tributary_core::models::llama::{Llama, LlamaConfig, Rows};
use tributary_core::nn::KvUse;
use tributary_core::session::{Sampler, Sampling, Session, StopRules};
use tributary_core::weights::{Adapter, Weights};
use tributary_tests::files::fixtures;
use tributary_tests::language::{Expected, folder, open};
use tributary_tests::{assert_parity, npz, on_each_backend, shared};

/// f32 arithmetic against the f64 truth.
const BOUND: f64 = 1e-9;

fn load<B: Backend>(b: &B, name: &str, adapter: Option<&str>) -> Arc<Llama<B>> {
    let files = open(name);
    let config = LlamaConfig::parse("config.json", &files.config).unwrap();
    let adapter: Option<Adapter> = adapter
        .map(|name| tributary::files::open_adapter(&folder(name), &files.checkpoint).unwrap());
    let weights = Weights::new(b, &files.checkpoint);
    let weights = match &adapter {
        Some(adapter) => weights.with_adapter(adapter),
        None => weights,
    };
    let model = Llama::load(&weights, config).unwrap();
    assert_eq!(weights.unused(), Vec::<String>::new(), "{name}: every tensor is used");
    Arc::new(model)
}

fn read<B: Backend>(b: &B, x: &B::Tensor) -> Vec<f32> {
    pollster::block_on(b.read(x)).unwrap()
}

/// Both inputs of a fixture: alone with every hidden state, packed together, and generated from.
fn equals_the_original<B: Backend>(backend: &str, b: &B, model: &Arc<Llama<B>>, name: &str) {
    let expected = Expected::open(name);
    let inputs = [expected.ids("input_ids.0"), expected.ids("input_ids.1")];
    for (i, ids) in inputs.iter().enumerate() {
        let label = |what: &str| format!("{backend} {name} input {i} {what}");
        let segments = Segments::one(ids.len()).unwrap();
        let positions = segments.positions(0);
        let rows = Rows { segments: &segments, positions: &positions };
        let mut trace = Vec::new();
        let hidden = model.embed(b, ids).unwrap();
        let hidden = model.forward(b, hidden, rows, KvUse::None, Some(&mut trace)).unwrap();
        for (n, state) in trace.iter().enumerate() {
            let truth = expected.values(&format!("hidden_states.{i}.{n}"));
            assert_parity(&label(&format!("hidden state {n}")), &read(b, state), &truth, BOUND);
        }
        assert!(!expected.has(&format!("hidden_states.{i}.{}", trace.len())), "all were compared");
        let logits = read(b, &model.logits(b, &hidden).unwrap());
        assert_parity(&label("logits"), &logits, &expected.values(&format!("logits.{i}")), BOUND);

        let mut session = Session::new(b.clone(), model.clone(), 256).unwrap();
        session.prefill(ids).unwrap();
        let stop = StopRules {
            max_new_tokens: 24,
            stop_token_ids: Vec::new(),
            stop_sequences: Vec::new(),
        };
        let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
        let go_on = |_| ControlFlow::Continue(());
        let generated = pollster::block_on(session.generate(&mut greedy, &stop, go_on)).unwrap();
        assert_eq!(
            generated.token_ids,
            expected.ids(&format!("generated.{i}")),
            "{}",
            label("ids")
        );
    }
    let packed: Vec<u32> = inputs.concat();
    let segments = Segments::new(&inputs.each_ref().map(Vec::len)).unwrap();
    let positions = segments.positions(0);
    let rows = Rows { segments: &segments, positions: &positions };
    let hidden = model.embed(b, &packed).unwrap();
    let hidden = model.forward(b, hidden, rows, KvUse::None, None).unwrap();
    let truth = [expected.values("logits.0"), expected.values("logits.1")].concat();
    let logits = read(b, &model.logits(b, &hidden).unwrap());
    assert_parity(&format!("{backend} {name} packed"), &logits, &truth, BOUND);
}

macro_rules! fixtures_equal_the_original {
    ($($test:ident => $name:literal, $adapter:expr;)*) => {$(
        #[test]
        fn $test() {
            on_each_backend!(backend, b => {
                let adapter: Option<&str> = $adapter;
                let base = if adapter.is_some() { "llama-gqa" } else { $name };
                equals_the_original(backend, &b, &load(&b, base, adapter), $name);
            });
        }
    )*};
}

fixtures_equal_the_original! {
    grouped_queries_with_a_head_dim_of_their_own => "llama-gqa", None;
    llama3_rope_scaling => "llama3-rope", None;
    qwen2_with_biases_and_a_tied_head => "qwen2", None;
    biases_everywhere_and_f16_weights => "llama-mha-bias", None;
    bf16_shards_with_an_untied_head => "qwen2-bf16-sharded", None;
    an_adapter_on_a_list_of_modules => "adapter-lora", Some("adapter-lora");
    an_adapter_with_rslora_and_patterns => "adapter-rslora", Some("adapter-rslora");
    an_adapter_on_all_linears => "adapter-all-linear", Some("adapter-all-linear");
}

#[test]
fn both_spellings_of_rope_scaling_mean_one_model() {
    let text = |name: &str| std::fs::read_to_string(folder("llama3-rope").join(name)).unwrap();
    let new = LlamaConfig::parse("config.json", &text("config.json")).unwrap();
    let old = LlamaConfig::parse("config.v4.json", &text("config.v4.json")).unwrap();
    assert_eq!(new, old);
}

/// The real stories260k: its logits at every position, on three backends, and the same tokens.
#[test]
fn stories260k_equals_its_fixture() {
    let Some(path) = shared().map(|shared| shared.join("weights/stories260k")) else { return };
    let fixture = npz::read(&path.join("fixture_logits.npz"));
    let ids: Vec<u32> = fixture["ids"].values.iter().map(|&id| id as u32).collect();
    let truth = &fixture["logits"].values;
    let mut continued: Vec<(&str, Vec<u32>)> = Vec::new();
    on_each_backend!(backend, b => {
        let model = tributary::language::LanguageModel::open(b.clone(), &path, None).unwrap();
        let segments = Segments::one(ids.len()).unwrap();
        let positions = segments.positions(0);
        let rows = Rows { segments: &segments, positions: &positions };
        let hidden = model.model().embed(&b, &ids).unwrap();
        let hidden = model.model().forward(&b, hidden, rows, KvUse::None, None).unwrap();
        let logits = read(&b, &model.model().logits(&b, &hidden).unwrap());
        assert_parity(&format!("{backend} stories260k"), &logits, truth, BOUND);

        let mut session = model.session().unwrap();
        session.prefill(&model.tokenizer().unwrap().encode("Once upon a time", true).unwrap())
            .unwrap();
        let stop = StopRules {
            max_new_tokens: 100,
            stop_token_ids: Vec::new(),
            stop_sequences: Vec::new(),
        };
        let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
        let go_on = |_| ControlFlow::Continue(());
        let generated = pollster::block_on(session.generate(&mut greedy, &stop, go_on)).unwrap();
        continued.push((backend, generated.token_ids));
    });
    let (first, tokens) = &continued[0];
    for (backend, others) in &continued {
        assert_eq!(tokens, others, "{first} and {backend} continue alike");
    }
}

/// B5: configurations that ask for the impossible name the field.
#[test]
fn bad_configurations_name_their_field() {
    let good = std::fs::read_to_string(fixtures().join("llama-gqa/config.json")).unwrap();
    let good: serde_json::Value = serde_json::from_str(&good).unwrap();
    let cases: &[(&str, serde_json::Value, &str)] = &[
        ("hidden_size", 0.into(), "hidden_size"),
        ("hidden_size", (-4).into(), "hidden_size"),
        ("hidden_size", 1_000_000_000_u64.into(), "hidden_size"),
        ("hidden_size", "many".into(), "hidden_size"),
        ("num_hidden_layers", 1_000_000.into(), "num_hidden_layers"),
        ("num_hidden_layers", 0.into(), "num_hidden_layers"),
        ("num_attention_heads", 0.into(), "num_attention_heads"),
        ("num_key_value_heads", 4.into(), "num_key_value_heads"),
        ("head_dim", 9.into(), "head_dim"),
        ("head_dim", 0.into(), "head_dim"),
        ("vocab_size", 0.into(), "vocab_size"),
        ("intermediate_size", 2.5.into(), "intermediate_size"),
        ("rms_norm_eps", "small".into(), "rms_norm_eps"),
        ("hidden_act", "maxout".into(), "hidden_act"),
        ("model_type", "mamba".into(), "model_type"),
        ("quantization_config", serde_json::json!({"bits": 4}), "quantization_config"),
        ("rope_parameters", serde_json::json!({"rope_theta": 0}), "rope_theta"),
        ("rope_parameters", serde_json::json!({"rope_type": "yarn"}), "rope_type"),
        ("rope_parameters", 3.into(), "rope_parameters"),
    ];
    for (field, value, named) in cases {
        let mut config = good.clone();
        config[*field] = value.clone();
        let error = LlamaConfig::parse("config.json", &config.to_string()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("config.json") && text.contains(named),
            "{field} = {value}: `{text}` should name config.json and {named}"
        );
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(LlamaConfig::parse("config.json", &deep).is_err());
    assert!(LlamaConfig::parse("config.json", "").is_err());
}

/// B3 and B5: what the configuration asks for and what the file holds must agree.
#[test]
fn tensors_of_another_shape_are_named_with_both_shapes() {
    let b = tributary_core::backend::cpu::Cpu::new();
    let files = open("llama-gqa");
    let good = LlamaConfig::parse("config.json", &files.config).unwrap();
    let cases = [
        (LlamaConfig { vocab_size: 74, ..good.clone() }, "embed_tokens"),
        (LlamaConfig { intermediate_size: 47, ..good.clone() }, "mlp"),
        (LlamaConfig { num_hidden_layers: 4, ..good.clone() }, "layers.3"),
        (LlamaConfig { hidden_size: 32, ..good.clone() }, "embed_tokens"),
        (LlamaConfig { qkv_bias: true, ..good.clone() }, "q_proj.bias"),
    ];
    for (config, named) in cases {
        let error = Llama::load(&Weights::new(&b, &files.checkpoint), config).unwrap_err();
        assert!(error.to_string().contains(named), "`{error}` should name {named}");
    }
}
