//! PEFT adapters: the fixtures that PEFT saved, its matching rules, and every refusal (B8).

use std::collections::BTreeMap;

use safetensors::Dtype;
use tributary::files;
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::weights::{Adapter, Checkpoint, Weights, merge};
use tributary_tests::files::{assert_refused, f32_bytes, fixtures, safetensors};
use tributary_tests::uniform;

/// Modules of a small model: (name, out, in).
const MODULES: [(&str, usize, usize); 6] = [
    ("lm_head", 9, 4),
    ("model.embed_tokens", 9, 4),
    ("model.layers.0.q_proj", 6, 4),
    ("model.layers.0.v_proj", 2, 4),
    ("model.layers.1.q_proj", 6, 4),
    ("model.layers.1.v_proj", 2, 4),
];

fn base() -> Checkpoint {
    let names: Vec<String> = MODULES.iter().map(|(name, ..)| format!("{name}.weight")).collect();
    let shapes: Vec<[usize; 2]> = MODULES.iter().map(|&(_, out, input)| [out, input]).collect();
    let mut tensors: Vec<_> = names
        .iter()
        .zip(&shapes)
        .map(|(name, s)| (name.as_str(), Dtype::F32, &s[..], f32_bytes(&uniform(5, s[0] * s[1]))))
        .collect();
    tensors.push(("model.norm.weight", Dtype::F32, &[4], f32_bytes(&[1.0; 4])));
    Checkpoint::from_bytes("model.safetensors", safetensors(&tensors, &[])).unwrap()
}

/// A, B pairs of rank `r` for these modules, under PEFT's names.
fn tensors(modules: &[&str], r: usize) -> Checkpoint {
    let sizes = |name: &str| *MODULES.iter().find(|(module, ..)| *module == name).unwrap();
    let pairs = modules.iter().flat_map(|name| {
        let (_, out, input) = sizes(name);
        [("lora_A", [r, input]), ("lora_B", [out, r])]
            .map(|(part, shape)| (format!("base_model.model.{name}.{part}.weight"), shape))
    });
    custom(&pairs.collect::<Vec<_>>())
}

fn custom(entries: &[(String, [usize; 2])]) -> Checkpoint {
    let tensors: Vec<_> = entries
        .iter()
        .map(|(name, s)| (name.as_str(), Dtype::F32, &s[..], f32_bytes(&uniform(9, s[0] * s[1]))))
        .collect();
    Checkpoint::from_bytes("adapter_model.safetensors", safetensors(&tensors, &[])).unwrap()
}

const Q: [&str; 2] = ["model.layers.0.q_proj", "model.layers.1.q_proj"];

/// A configuration of these fields besides PEFT's kind.
fn config(fields: &str) -> String {
    format!(r#"{{"peft_type": "LORA", {fields}}}"#)
}

/// An adapter of rank 2 on both q_proj, with these fields besides.
fn on_q(fields: &str) -> Result<Adapter> {
    let json = config(&format!(r#""r": 2, "target_modules": ["q_proj"], {fields}"#));
    Adapter::load(&json, &tensors(&Q, 2), &base())
}

#[test]
fn fixtures_load_with_the_scales_of_their_configuration() {
    let base = files::open_checkpoint(&fixtures().join("llama-gqa")).unwrap();
    let load = |name: &str| files::open_adapter(&fixtures().join(name), &base).unwrap();
    let plain = load("adapter-lora");
    assert_eq!(plain.modules().count(), 6);
    let lora = plain.lora("model.layers.2.self_attn.v_proj").unwrap();
    assert_eq!((lora.r, lora.scale), (4, 2.0));
    let all = load("adapter-all-linear");
    assert_eq!(all.modules().count(), 21);
    assert!(all.modules().all(|module| all.lora(module).unwrap().scale == 1.5));
    let rslora = load("adapter-rslora");
    let of = |module: &str| rslora.lora(module).map(|lora| (lora.r, lora.scale)).unwrap();
    assert_eq!(of("model.layers.0.self_attn.q_proj"), (3, (6.0 / 3f64.sqrt()) as f32));
    assert_eq!(of("model.layers.0.mlp.down_proj"), (5, (6.0 / 5f64.sqrt()) as f32));
    assert_eq!(of("model.layers.2.mlp.down_proj"), (5, (9.0 / 5f64.sqrt()) as f32));
    assert_eq!(rslora.modules().count(), 8);
}

#[test]
fn the_smallest_configuration_takes_the_defaults() {
    let adapter = Adapter::load(
        r#"{"peft_type":"LORA","target_modules":["q_proj"]}"#,
        &tensors(&Q, 8),
        &base(),
    );
    let adapter = adapter.unwrap();
    let lora = adapter.lora(Q[0]).unwrap();
    assert_eq!((lora.r, lora.scale, lora.a.len(), lora.b.len()), (8, 1.0, 32, 48));
}

#[test]
fn targets_are_matched_as_peft_does() {
    let all_but_tables = [
        "model.layers.0.q_proj",
        "model.layers.0.v_proj",
        "model.layers.1.q_proj",
        "model.layers.1.v_proj",
    ];
    let cases: [(&str, &[&str]); 12] = [
        (r#""target_modules": ["q_proj"]"#, &Q),
        (r#""target_modules": ["layers.0.q_proj"]"#, &Q[..1]),
        (r#""target_modules": ["lm_head"]"#, &["lm_head"]),
        (r#""target_modules": ".*q_proj""#, &Q),
        (r#""target_modules": "q_proj|.*\\.1\\.q_proj""#, &Q[1..]),
        (r#""target_modules": "all-linear""#, &all_but_tables),
        (r#""target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]"#, &Q),
        (r#""target_modules": ["q_proj"], "exclude_modules": ".*\\.0\\..*""#, &Q[1..]),
        (r#""target_modules": ["q_proj"], "layers_to_transform": 1"#, &Q[1..]),
        (r#""target_modules": ["q_proj"], "layers_to_transform": [0]"#, &Q[..1]),
        (
            r#""target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers""#,
            &Q[..1],
        ),
        // Named in full: hit whatever the layers say.
        (
            r#""target_modules": ["model.layers.1.q_proj", "q_proj"], "layers_to_transform": [0]"#,
            &Q,
        ),
    ];
    for (fields, expected) in cases {
        let json = config(&format!(r#""r": 2, {fields}"#));
        let adapter = Adapter::load(&json, &tensors(expected, 2), &base());
        let adapter = adapter.unwrap_or_else(|e| panic!("{fields}: {e}"));
        assert_eq!(adapter.modules().collect::<Vec<_>>(), expected, "{fields}");
    }
}

#[test]
fn the_first_pattern_in_the_file_counts() {
    // Sorted by name, `[0-9]...` would come first and win both.
    let json = config(
        r#""r": 2, "target_modules": ["q_proj"],
           "alpha_pattern": {"layers.1.q_proj": 6, "[0-9].q_proj": 10}"#,
    );
    let adapter = Adapter::load(&json, &tensors(&Q, 2), &base()).unwrap();
    assert_eq!(adapter.lora(Q[0]).unwrap().scale, 5.0);
    assert_eq!(adapter.lora(Q[1]).unwrap().scale, 3.0);
}

#[test]
fn harmless_keys_are_accepted() {
    let harmless = [
        r#""lora_alpha": 4.5"#,
        r#""inference_mode": true, "task_type": "CAUSAL_LM", "revision": "main""#,
        r#""auto_mapping": {"base_model_class": "X", "parent_library": "os.system"}"#,
        r#""kasa_config": null, "use_dora": false, "modules_to_save": [], "loftq_config": {}"#,
        r#""brand_new": "", "newer": [], "newest": {}, "off": false"#,
        r#""qalora_group_size": 16, "megatron_core": "megatron.core""#,
        r#""init_lora_weights": "gaussian""#,
    ];
    for fields in harmless {
        on_q(fields).unwrap_or_else(|e| panic!("{fields}: {e}"));
    }
}

#[test]
fn configurations_that_are_not_understood_are_refused_by_name() {
    let cases = [
        (r#""use_dora": true"#, "use_dora"),
        (r#""kasa_config": {"beta": 1}"#, "kasa_config"),
        (r#""brand_new": 1"#, "brand_new"),
        (r#""brand_new": 0"#, "brand_new"),
        (r#""modules_to_save": ["lm_head"]"#, "modules_to_save"),
        (r#""bias": "all""#, "bias"),
        (r#""lora_bias": true"#, "lora_bias"),
        (r#""fan_in_fan_out": true"#, "fan_in_fan_out"),
        (r#""init_lora_weights": "pissa""#, "init_lora_weights"),
        (r#""layer_replication": [[0, 1]]"#, "layer_replication"),
        (r#""target_parameters": ["x"]"#, "target_parameters"),
        (r#""alora_invocation_tokens": [1]"#, "alora_invocation_tokens"),
        (r#""lora_alpha": "8""#, "lora_alpha"),
        (r#""lora_alpha": 1e300"#, "lora_alpha"),
        (r#""use_rslora": 1"#, "use_rslora"),
        (r#""rank_pattern": {"q_proj": 0}"#, "rank_pattern"),
        (r#""rank_pattern": {"q_proj": 1.5}"#, "rank_pattern"),
        (r#""rank_pattern": ["q_proj"]"#, "rank_pattern"),
        (r#""alpha_pattern": {"(": 4}"#, "alpha_pattern"),
        (r#""exclude_modules": {"a": 1}"#, "exclude_modules"),
        (r#""exclude_modules": [1]"#, "exclude_modules"),
        (r#""layers_to_transform": [-1]"#, "layers_to_transform"),
    ];
    for (fields, word) in cases {
        assert_refused(fields, on_q(fields), &["adapter_config.json", word, "expected", "found"]);
    }
    let bare = |json: &str| Adapter::load(json, &tensors(&Q, 8), &base());
    let cases = [
        (r#"{"target_modules": ["q_proj"], "peft_type": "LOHA"}"#, "peft_type"),
        (r#"{"peft_type": "LORA"}"#, "target_modules"),
        (r#"{"peft_type": "LORA", "target_modules": []}"#, "target_modules"),
        (r#"{"peft_type": "LORA", "target_modules": 5}"#, "target_modules"),
        (r#"{"target_modules": ["q_proj"], "r": 0}"#, "r:"),
        (r#"{"target_modules": ["q_proj"], "r": -4}"#, "r:"),
        (r#"{"target_modules": ["q_proj"], "r": 1000000}"#, "r:"),
        (r#"{"target_modules": "q_proj", "layers_to_transform": [1]}"#, "layers_to_transform"),
        ("[]", "content"),
        ("{", "content"),
        ("", "content"),
    ];
    for (json, word) in cases {
        assert_refused(json, bare(json), &["adapter_config.json", word, "expected", "found"]);
    }
}

#[test]
fn hostile_patterns_are_refused_or_linear() {
    let target = |pattern: &str| {
        let pattern = serde_json::to_string(pattern).unwrap();
        let json = config(&format!(r#""r": 2, "target_modules": {pattern}"#));
        Adapter::load(&json, &tensors(&Q, 2), &base())
    };
    let long = "a".repeat(5000);
    let deep = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    let refused = [
        r"(?!q).*",
        r"(?<=a)b",
        r"(a)\1",
        r"(",
        r"a)|(b",
        r"((a{1000}){1000}){1000}",
        &long,
        &deep,
    ];
    for pattern in refused {
        assert_refused(pattern, target(pattern), &["target_modules", "regular expression"]);
    }
    // Exponential for a backtracking matcher; here it just hits nothing.
    let result = target(r"(([a-z._0-9])+)+!");
    assert_refused("bomb", result, &["target_modules", "hits none"]);
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let config = config(r#""r": 2, "target_modules": ["q_proj"]"#);
    let good: Vec<(String, [usize; 2])> = Q
        .iter()
        .flat_map(|m| {
            [
                (format!("base_model.model.{m}.lora_A.weight"), [2, 4]),
                (format!("base_model.model.{m}.lora_B.weight"), [6, 2]),
            ]
        })
        .collect();
    assert!(Adapter::load(&config, &custom(&good), &base()).is_ok());
    type Change = fn(&mut Vec<(String, [usize; 2])>);
    let cases: [(&str, Change, &[&str]); 11] = [
        ("r of A", |t| t[0].1 = [3, 4], &["layers.0.q_proj.lora_A", "[2, 4]", "[3, 4]"]),
        ("r of B", |t| t[1].1 = [6, 3], &["layers.0.q_proj.lora_B", "[6, 2]", "[6, 3]"]),
        ("r of both", |t| (t[0].1, t[1].1) = ([3, 4], [6, 3]), &["r 2 of adapter_config.json"]),
        ("in", |t| t[0].1 = [2, 5], &["lora_A", "base 6x4", "[2, 5]"]),
        ("out", |t| t[3].1 = [7, 2], &["layers.1.q_proj.lora_B", "[7, 2]"]),
        ("no B", |t| drop(t.remove(1)), &["layers.0.q_proj.lora_B", "partner", "none"]),
        ("no A", |t| drop(t.remove(2)), &["layers.1.q_proj.lora_A", "partner", "none"]),
        ("no module", |t| t.truncate(2), &["layers.1.q_proj", "target_modules"]),
        (
            "prefix",
            |t| t[0].0 = "model.q.lora_A.weight".into(),
            &["model.q.lora_A", "base_model.model."],
        ),
        (
            "unknown module",
            |t| {
                t.push(("base_model.model.model.layers.0.q_prj.lora_A.weight".into(), [2, 4]));
                t.push(("base_model.model.model.layers.0.q_prj.lora_B.weight".into(), [6, 2]));
            },
            &["q_prj", "model.safetensors", "did you mean `model.layers.0.q_proj.weight`"],
        ),
        (
            "module that is not targeted",
            |t| {
                t.push(("base_model.model.model.layers.0.v_proj.lora_A.weight".into(), [2, 4]));
                t.push(("base_model.model.model.layers.0.v_proj.lora_B.weight".into(), [2, 2]));
            },
            &["v_proj", "target_modules"],
        ),
    ];
    for (case, change, words) in cases {
        let mut entries = good.clone();
        change(&mut entries);
        let result = Adapter::load(&config, &custom(&entries), &base());
        assert_refused(
            case,
            result,
            &[&["adapter_model.safetensors", "expected", "found"], words].concat(),
        );
    }
    for (end, word) in [
        ("lora_magnitude_vector", "DoRA"),
        ("lora_embedding_A", "embedding"),
        ("lora_embedding_B", "embedding"),
        ("weight", "unknown"),
        ("lora_A.bias", "unknown"),
        ("lora_A.default.weight", "unknown"),
    ] {
        let mut entries = good.clone();
        entries.push((format!("base_model.model.{}.{end}", Q[0]), [1, 1]));
        assert_refused(end, Adapter::load(&config, &custom(&entries), &base()), &[end, word]);
    }
    let nothing = r#"{"r": 2, "target_modules": ["query"]}"#;
    let result = Adapter::load(nothing, &custom(&good), &base());
    assert_refused(
        "unknown base",
        result,
        &["target_modules", "query", "hits none", "model.safetensors"],
    );
}

#[test]
fn an_adapter_goes_beside_its_matrices() {
    let (base, adapter) = (base(), on_q(r#""lora_alpha": 4"#).unwrap());
    let cpu = Cpu::default();
    let weights = Weights::new(&cpu, &base).with_adapter(&adapter);
    assert_eq!(weights.unused_adapter_modules(), Q);
    let layer = weights.at("model").at("layers").at(1).at("q_proj");
    layer.matrix("weight", [6, 4]).unwrap();
    assert_eq!(weights.unused_adapter_modules(), Q[..1]);
}

#[test]
fn merging_adds_the_scaled_product() {
    let base = base();
    let adapter = on_q(r#""lora_alpha": 5"#).unwrap();
    let mut sink = BTreeMap::new();
    let mut calls = 0;
    merge(&base, &adapter, None, &mut sink, &mut |_, _, _| calls += 1).unwrap();
    assert_eq!(calls, 7);
    let merged =
        Checkpoint::from_bytes("model.safetensors", sink.remove("model.safetensors").unwrap())
            .unwrap();
    assert_eq!(merged.names().collect::<Vec<_>>(), base.names().collect::<Vec<_>>());
    // An update that is no number is told here, not by the model that it is in.
    let nan = f32_bytes(&[f32::NAN; 12]);
    let [a, b] = ["lora_A", "lora_B"].map(|p| format!("base_model.model.{}.{p}.weight", Q[0]));
    let size = MODULES.iter().find(|(name, ..)| *name == Q[0]).unwrap();
    let tensors = [
        (a.as_str(), Dtype::F32, &[2, size.2][..], nan[..2 * size.2 * 4].to_vec()),
        (b.as_str(), Dtype::F32, &[size.1, 2][..], nan[..2 * size.1 * 4].to_vec()),
    ];
    let file =
        Checkpoint::from_bytes("adapter_model.safetensors", safetensors(&tensors, &[])).unwrap();
    let json = config(&format!(r#""r": 2, "target_modules": ["{}"]"#, Q[0]));
    let broken = Adapter::load(&json, &file, &base).unwrap();
    let refused = merge(&base, &broken, None, &mut BTreeMap::new(), &mut |_, _, _| ());
    assert_refused("nan", refused, &["layers.0.q_proj", "finite values"]);
    for name in base.names() {
        let (before, after) = (base.values(name).unwrap(), merged.values(name).unwrap());
        let Some(lora) = adapter.lora(name.trim_end_matches(".weight")) else {
            assert_eq!(before, after, "{name}");
            continue;
        };
        for (i, (before, after)) in before.iter().zip(after).enumerate() {
            let (row, col) = (i / 4, i % 4);
            let product: f64 = (0..2)
                .map(|k| f64::from(lora.b[row * 2 + k]) * f64::from(lora.a[k * 4 + col]))
                .sum();
            let expected = f64::from(*before) + 2.5 * product;
            assert!((f64::from(after) - expected).abs() < 1e-6, "{name} {i}: {after}, {expected}");
        }
    }
}
