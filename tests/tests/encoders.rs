//! CLIP, ViT and BERT against Hugging Face's own values: every hidden state and every embedding, one
//! input alone and all packed, on every backend.

use tributary_core::backend::Backend;
use tributary_core::models::bert::{Bert, BertConfig, PoolingMode, SentencePooling};
use tributary_core::models::clip::{Clip, ClipConfig};
use tributary_core::models::vit::{Vit, VitConfig};
use tributary_core::weights::Weights;
use tributary_tests::language::{Expected, folder, open};
use tributary_tests::suite::read;
use tributary_tests::{assert_parity, npz, on_each_backend, shared};

/// The bound that was asked for; f32 arithmetic stays a thousand times below it.
const BOUND: f64 = 1e-8;

/// The texts of a fixture.
fn texts(expected: &Expected) -> Vec<Vec<u32>> {
    let name = |i: usize| format!("input_ids.{i}");
    (0..).take_while(|&i| expected.has(&name(i))).map(|i| expected.ids(&name(i))).collect()
}

fn pixel_values(expected: &Expected) -> Vec<f32> {
    expected.values("pixel_values").into_iter().map(|value| value as f32).collect()
}

/// `trace` against the tensors `{name}.0`, `{name}.1` and so on, none left out.
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
    assert!(!expected.has(&format!("{name}.{}", trace.len())), "{label}: all were compared");
}

#[test]
fn clip_equals_the_original() {
    for name in ["clip-quick-gelu", "clip-gelu"] {
        let (files, expected) = (open(name), Expected::open(name));
        let config = ClipConfig::parse("config.json", &files.config).unwrap();
        let (texts, pixels) = (texts(&expected), pixel_values(&expected));
        on_each_backend!(backend, b => {
            let weights = Weights::new(&b, &files.checkpoint);
            let clip = Clip::load(&weights, config).unwrap();
            assert_eq!(weights.unused(), Vec::<String>::new(), "{name}: every tensor is used");
            let label = format!("{backend} {name}");

            let mut trace = Vec::new();
            let embeds = clip.image_embeds(&b, &pixels, Some(&mut trace)).unwrap();
            equal_states(&b, &label, &trace, &expected, "image_hidden_states");
            let truth = expected.values("image_embeds");
            assert_parity(&format!("{label} image_embeds"), &read(&b, &embeds), &truth, BOUND);

            let mut all = Vec::new();
            for (i, ids) in texts.iter().enumerate() {
                let mut trace = Vec::new();
                let embeds = clip.text_embeds(&b, &[ids], Some(&mut trace)).unwrap();
                equal_states(&b, &label, &trace, &expected, &format!("hidden_states.{i}"));
                let truth = expected.values(&format!("text_embeds.{i}"));
                let label = format!("{label} text_embeds.{i}");
                assert_parity(&label, &read(&b, &embeds), &truth, BOUND);
                all.extend(truth);
            }
            let packed: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let embeds = clip.text_embeds(&b, &packed, None).unwrap();
            assert_parity(&format!("{label} packed texts"), &read(&b, &embeds), &all, BOUND);
        });
    }
}

#[test]
fn vit_equals_the_original() {
    for name in ["vit-pooler", "vit-classifier"] {
        let (files, expected) = (open(name), Expected::open(name));
        let config = VitConfig::parse("config.json", &files.config).unwrap();
        let pixels = pixel_values(&expected);
        on_each_backend!(backend, b => {
            let weights = Weights::new(&b, &files.checkpoint);
            let vit = Vit::load(&weights, config).unwrap();
            assert_eq!(weights.unused(), Vec::<String>::new(), "{name}: every tensor is used");
            let label = |what: &str| format!("{backend} {name} {what}");
            let mut trace = Vec::new();
            let (hidden, _) = vit.forward(&b, &pixels, Some(&mut trace)).unwrap();
            equal_states(&b, &label("trace"), &trace, &expected, "image_hidden_states");
            let embeds = vit.image_embeds(&b, &pixels).unwrap();
            if expected.has("last_hidden_state") {
                let truth = expected.values("last_hidden_state");
                assert_parity(&label("last_hidden_state"), &read(&b, &hidden), &truth, BOUND);
                let pooled = vit.pooled(&b, &embeds).unwrap().expect("a pooler");
                let truth = expected.values("pooler_output");
                assert_parity(&label("pooler_output"), &read(&b, &pooled), &truth, BOUND);
                assert!(vit.logits(&b, &embeds).unwrap().is_none(), "{name} has no classifier");
            } else {
                let logits = vit.logits(&b, &embeds).unwrap().expect("a classifier");
                let truth = expected.values("logits");
                assert_parity(&label("logits"), &read(&b, &logits), &truth, BOUND);
                assert!(vit.pooled(&b, &embeds).unwrap().is_none(), "{name} has no pooler");
            }
        });
    }
}

#[test]
fn bert_equals_the_original() {
    let fixtures = [("bert-mean", PoolingMode::Mean, true), ("bert-cls", PoolingMode::Cls, false)];
    for (name, mode, normalize) in fixtures {
        let (files, expected) = (open(name), Expected::open(name));
        let modules = std::fs::read_to_string(folder(name).join("modules.json")).unwrap();
        let pooling = SentencePooling::parse("modules.json", &modules, |path| {
            Ok(std::fs::read_to_string(folder(name).join(path).join("config.json")).unwrap())
        });
        assert_eq!(pooling.unwrap(), SentencePooling { mode, normalize });
        let config = BertConfig::parse("config.json", &files.config).unwrap();
        let texts = texts(&expected);
        on_each_backend!(backend, b => {
            let weights = Weights::new(&b, &files.checkpoint);
            let bert = Bert::load(&weights, config).unwrap();
            assert_eq!(weights.unused(), Vec::<String>::new(), "{name}: every tensor is used");
            let label = |what: &str| format!("{backend} {name} {what}");
            let mut all = Vec::new();
            for (i, ids) in texts.iter().enumerate() {
                let mut trace = Vec::new();
                let (hidden, segments) = bert.forward(&b, &[ids], Some(&mut trace)).unwrap();
                equal_states(&b, &label("text"), &trace, &expected, &format!("hidden_states.{i}"));
                let first = bert.pool(&b, &hidden, &segments, PoolingMode::Cls).unwrap();
                let pooled = read(&b, &bert.pooled(&b, &first).unwrap());
                let truth = expected.values(&format!("pooler_output.{i}"));
                assert_parity(&label("pooler_output"), &pooled, &truth, BOUND);
                all.extend(expected.values(&format!("sentence.{i}")));
            }
            let packed: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let (hidden, segments) = bert.forward(&b, &packed, None).unwrap();
            let sentences = bert.pool(&b, &hidden, &segments, mode).unwrap();
            assert_parity(&label("packed sentences"), &read(&b, &sentences), &all, BOUND);
        });
    }
}

/// The real ViT-Tiny by timm's names, against a reference in f64.
#[test]
fn vit_tiny_equals_its_fixture() {
    let Some(path) = shared().map(|shared| shared.join("weights/vit-tiny")) else { return };
    let files = tributary::files::open_model(&path).unwrap();
    let fixture = npz::read(&path.join("fixture_synthetic.npz"));
    let config = VitConfig::parse("config.json", &files.config).unwrap();
    let pixels: Vec<f32> = fixture["input"].values.iter().map(|&value| value as f32).collect();
    on_each_backend!(backend, b => {
        let weights = Weights::new(&b, &files.checkpoint);
        let vit = Vit::load(&weights, config).unwrap();
        assert_eq!(weights.unused(), Vec::<String>::new(), "every tensor is used");
        let mut trace = Vec::new();
        let (hidden, _) = vit.forward(&b, &pixels, Some(&mut trace)).unwrap();
        let states = [(0, "embed"), (1, "block0"), (6, "block5"), (12, "block11")];
        for (at, name) in states {
            let label = format!("{backend} vit-tiny {name}");
            assert_parity(&label, &read(&b, &trace[at]), &fixture[name].values, BOUND);
        }
        let label = format!("{backend} vit-tiny norm");
        assert_parity(&label, &read(&b, &hidden), &fixture["norm"].values, BOUND);
        let embeds = vit.image_embeds(&b, &pixels).unwrap();
        let logits = vit.logits(&b, &embeds).unwrap().expect("a head");
        let label = format!("{backend} vit-tiny logits");
        assert_parity(&label, &read(&b, &logits), &fixture["logits"].values, BOUND);
    });
}

/// The published sizes, from configurations that say no more than they must.
#[test]
fn the_published_clip_sizes_are_understood() {
    let vision = |size: &str| {
        let text = format!(r#"{{"model_type": "clip", "vision_config": {{{size}}}}}"#);
        ClipConfig::parse("config.json", &text).unwrap().vision_config
    };
    let large = r#""hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                   "num_attention_heads": 16, "patch_size": 14"#;
    let cases = [
        ("".to_owned(), 49, 64),
        (r#""patch_size": 16"#.to_owned(), 196, 64),
        (large.to_owned(), 256, 64),
        (format!(r#"{large}, "image_size": 336"#), 576, 64),
    ];
    for (size, patches, head_dim) in cases {
        let config = vision(&size);
        assert_eq!(config.patches.num_patches(), patches, "{size}");
        assert_eq!(config.encoder.heads().head_dim, head_dim, "{size}");
    }
}

/// B5: configurations that ask for the impossible name the field.
#[test]
fn bad_configurations_name_their_field() {
    type Parse = fn(&str) -> tributary_core::Result<()>;
    let clip: Parse = |text| ClipConfig::parse("config.json", text).map(drop);
    let vit: Parse = |text| VitConfig::parse("config.json", text).map(drop);
    let bert: Parse = |text| BertConfig::parse("config.json", text).map(drop);
    let cases: &[(Parse, &str, &str)] = &[
        (clip, r#"{}"#, "model_type"),
        (clip, r#"{"model_type": "siglip"}"#, "siglip"),
        (clip, r#"{"model_type": "clip", "vision_config": 3}"#, "vision_config"),
        (
            clip,
            r#"{"model_type": "clip", "vision_config": {"patch_size": 0}}"#,
            "vision_config.patch_size",
        ),
        (clip, r#"{"model_type": "clip", "vision_config": {"patch_size": 225}}"#, "patch_size"),
        (clip, r#"{"model_type": "clip", "vision_config": {"image_size": 1e9}}"#, "image_size"),
        (clip, r#"{"model_type": "clip", "vision_config": {"num_channels": 4}}"#, "num_channels"),
        (
            clip,
            r#"{"model_type": "clip", "text_config": {"hidden_act": "maxout"}}"#,
            "text_config.hidden_act",
        ),
        (
            clip,
            r#"{"model_type": "clip", "text_config": {"num_attention_heads": 7}}"#,
            "num_attention_heads",
        ),
        (clip, r#"{"model_type": "clip", "projection_dim": -1}"#, "projection_dim"),
        (vit, r#"{"model_type": "vit", "image_size": [224, 224]}"#, "image_size"),
        (vit, r#"{"model_type": "vit", "num_hidden_layers": 0}"#, "num_hidden_layers"),
        (
            bert,
            r#"{"model_type": "bert", "position_embedding_type": "relative_key"}"#,
            "position_embedding_type",
        ),
        (bert, r#"{"model_type": "roberta"}"#, "roberta"),
        (bert, r#"{"model_type": "bert", "vocab_size": 0}"#, "vocab_size"),
    ];
    for (parse, text, named) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(named), "{text}: {error}");
    }
}

#[test]
fn a_folder_that_pools_otherwise_is_refused_by_name() {
    let parse = |modules: &str, pooling: &str| {
        let result = SentencePooling::parse("modules.json", modules, |_| Ok(pooling.to_owned()));
        result.unwrap_err().to_string()
    };
    let modules = |kind: &str, path: &str| {
        format!(
            r#"[{{"type": "sentence_transformers.models.Transformer", "path": ""}},
                {{"type": "sentence_transformers.models.{kind}", "path": "{path}"}}]"#
        )
    };
    let cases = [
        (modules("Dense", "2_Dense"), "{}", "Dense"),
        (modules("Pooling", "../out"), "{}", "../out"),
        (modules("Pooling", "1_Pooling"), "{}", "1_Pooling/config.json"),
        (modules("Pooling", "1_Pooling"), r#"{"pooling_mode_max_tokens": true}"#, "max_tokens"),
        (modules("Pooling", "1_Pooling"), r#"{"pooling_mode": "lasttoken"}"#, "lasttoken"),
        ("{}".to_owned(), "{}", "list"),
        (r#"[{"path": ""}]"#.to_owned(), "{}", "0.type"),
    ];
    for (modules, pooling, named) in cases {
        let error = parse(&modules, pooling);
        assert!(error.contains(named), "`{named}` is not in {error}");
    }
}

/// B3, B12: what does not fit the model is an error that says so.
#[test]
fn wrong_inputs_are_refused() {
    let b = tributary_core::backend::cpu::Cpu::new();
    let files = open("clip-gelu");
    let config = ClipConfig::parse("config.json", &files.config).unwrap();
    let weights = Weights::new(&b, &files.checkpoint);
    let clip = Clip::load(&weights, config).unwrap();
    let texts: [(&[&[u32]], &str); 4] = [
        (&[], "at least one text"),
        (&[&[1], &[]], "at least one text"),
        (&[&[0; 20]], "20 tokens do not fit, the limit is 19"),
        (&[&[61]], "below 61"),
    ];
    for (texts, words) in texts {
        let error = clip.text_embeds(&b, texts, None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for values in [0, 1, 3 * 24 * 24 - 1, 3 * 24 * 24 + 1] {
        let error = clip.image_embeds(&b, &vec![0.0; values], None).unwrap_err().to_string();
        assert!(error.contains("1728"), "{error}");
    }
    let mut other = config;
    other.vision_config.patches.patch_size = 6;
    let error = Clip::load(&Weights::new(&b, &files.checkpoint), other).unwrap_err().to_string();
    assert!(error.contains("vision_model.embeddings.patch_embedding.weight"), "{error}");
}
