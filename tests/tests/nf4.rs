//! NF4 against bitsandbytes, and training over a base that is held in it.

use std::collections::BTreeMap;

use tributary::burn_backend::{Burn, BurnDevice, BurnOptions, FrozenWeights, Trainable};
use tributary::files::{open_checkpoint, open_model};
use tributary::language::LanguageModel;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, LoraData, MatrixData, Segments};
use tributary_core::dtype::Format;
use tributary_core::models::llama::{Llama, LlamaConfig, Rows};
use tributary_core::nn::KvUse;
use tributary_core::session::{Sampler, Sampling, StopRules};
use tributary_core::weights::{
    ABSMAX_CODE, Absmax, Checkpoint, NF4_CODE, Nf4, Weights, format_of, is_table,
    quantize_checkpoint,
};
use tributary_tests::files::{assert_refused, fixtures};
use tributary_tests::suite::read;
use tributary_tests::{assert_parity, nmse, shared, twin, uniform};

fn fixture() -> Checkpoint {
    open_checkpoint(&fixtures().join("nf4/expected.safetensors")).expect("a committed fixture")
}

#[test]
fn the_codes_are_the_published_ones() {
    let fixture = fixture();
    let values = |name: &str| fixture.values(name).unwrap();
    assert_eq!(NF4_CODE.as_slice(), values("code"));
    let absmax = values("absmax_code");
    assert_eq!(ABSMAX_CODE.len(), absmax.len());
    for (found, expected) in ABSMAX_CODE.iter().zip(absmax) {
        assert!((found - expected).abs() <= expected.abs() * 2e-7, "{found}, {expected}");
    }
    // The paper's formula, by SciPy's normal quantiles in f64.
    for (found, expected) in NF4_CODE.iter().zip(values("paper_code")) {
        assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
    }
}

#[test]
fn matrices_are_coded_as_bitsandbytes_codes_them() {
    let fixture = fixture();
    for (name, shape) in [("small", [37, 53]), ("large", [130, 127])] {
        let tensor = |part: &str| fixture.values(&format!("{name}.{part}")).unwrap();
        let bytes = |part: &str| fixture.raw(&format!("{name}.{part}")).unwrap();
        let values = tensor("values");
        let plain = Nf4::quantize(name, &values, shape, false).unwrap();
        assert_eq!(plain.codes(), bytes("packed"), "{name}");
        assert_eq!(plain.absmax(), &Absmax::Plain(tensor("absmax")), "{name}");
        if name == "small" {
            assert_eq!(plain.dequantize(), tensor("plain"), "{name}");
        }
        let double = Nf4::quantize(name, &values, shape, true).unwrap();
        assert_eq!(double.codes(), plain.codes(), "{name}");
        let Absmax::Coded { codes, scales, mean } = double.absmax() else { panic!("not coded") };
        assert_eq!(codes, &bytes("absmax_codes"), "{name}");
        for (found, expected) in scales.iter().zip(tensor("absmax_scales")) {
            assert!((found - expected).abs() <= 2e-7 * expected, "{name}: {found}, {expected}");
        }
        assert!((mean - tensor("absmax_mean")[0]).abs() <= 2e-7 * mean, "{name}");
        assert_parity(name, &double.dequantize(), &twin::wide(&tensor("double")), 1e-13);
    }
}

#[test]
fn any_part_can_be_read_and_bad_values_are_named() {
    let values = uniform(3, 7 * 53);
    for double in [false, true] {
        let nf4 = Nf4::quantize("w", &values, [7, 53], double).unwrap();
        let whole = nf4.dequantize();
        for (first, len) in [(0, 1), (1, 1), (53, 53), (63, 2), (64, 64), (0, 371), (370, 1)] {
            let mut part = vec![0.0; len];
            nf4.read(first, &mut part).unwrap();
            assert_eq!(part, whole[first..first + len], "{len} from {first} on");
        }
        assert_refused("past the end", nf4.read(370, &mut [0.0; 2]), &["371", "2 from 370"]);
        // Half a step of the widest gap, and what coding the magnitudes adds.
        let worst = values.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.16, "{worst}");
        assert!(Nf4::quantize("none", &[], [0, 9], double).unwrap().dequantize().is_empty());
        let zeros = Nf4::quantize("zeros", &[0.0; 130], [1, 130], double).unwrap();
        assert_eq!(zeros.dequantize(), [0.0; 130]);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut values = values.clone();
            values[60] = bad;
            let result = Nf4::quantize("k_proj.weight", &values, [7, 53], double);
            assert_refused("not finite", result, &["k_proj.weight", "[1, 7]", "finite"]);
        }
        let result = Nf4::quantize("w", &values, [7, 52], double);
        assert_refused("shape", result, &["[7, 52]"]);
    }
    let bits = |double| {
        let nf4 = Nf4::quantize("w", &uniform(1, 1 << 20), [1 << 10, 1 << 10], double).unwrap();
        nf4.bytes() as f64 * 8.0 / f64::from(1 << 20)
    };
    assert!(
        (bits(false) - 4.5).abs() < 1e-9 && (bits(true) - 4.127).abs() < 5e-4,
        "{}",
        bits(true)
    );
}

const SHAPE: [usize; 2] = [21, 33];
const ROWS: usize = 5;

fn options(frozen: FrozenWeights, composed: bool) -> BurnOptions {
    let trainable = Trainable::Adapters;
    BurnOptions { trainable, composed, frozen, seed: 2, ..BurnOptions::default() }
}

fn nf4(double_quantization: bool) -> FrozenWeights {
    FrozenWeights::Nf4 { double_quantization }
}

/// x, A and B.
fn leaves() -> [Vec<f32>; 3] {
    let [out, input] = SHAPE;
    [uniform(1, ROWS * input), uniform(2, 3 * input), uniform(3, out * 3)]
}

/// y of a linear over `base`, and the gradients of sum(c * y) by x, A and B.
fn product(options: BurnOptions, base: &[f32], [x, a, b]: &[Vec<f32>; 3]) -> [Vec<f32>; 4] {
    let burn = Burn::new(BurnDevice::Cpu, options).unwrap();
    let lora = LoraData { r: 3, a: a.clone(), b: b.clone(), scale: 1.7 };
    let data = MatrixData::from_f32("layers.0.q_proj.weight", base, SHAPE);
    let weight = burn.matrix(MatrixData { lora: Some(lora), ..data }).unwrap();
    burn.training(3);
    let x = burn.variable(x, [ROWS, SHAPE[1]]).unwrap();
    let y = burn.linear(&x, &weight, None).unwrap();
    let c = burn.upload(&coefficients(), [ROWS, SHAPE[0]]).unwrap();
    let gradients = burn.backward(&(y.clone() * c).sum_dim(1).sum_dim(0)).unwrap();
    let names: Vec<String> = burn.parameters().iter().map(|p| p.name().to_owned()).collect();
    assert_eq!(names, ["layers.0.q_proj.lora_A.weight", "layers.0.q_proj.lora_B.weight"]);
    let of = |p: usize| read(&burn, &gradients.of_parameter(&burn.parameters()[p]).unwrap());
    [read(&burn, &y), read(&burn, &gradients.of(&x).unwrap()), of(0), of(1)]
}

fn coefficients() -> Vec<f32> {
    uniform(9, ROWS * SHAPE[0])
}

#[test]
fn products_and_gradients_are_those_of_the_dequantised_matrix() {
    let base = uniform(5, SHAPE[0] * SHAPE[1]);
    for double in [false, true] {
        let values = Nf4::quantize("w", &base, SHAPE, double).unwrap().dequantize();
        let truth = product(options(FrozenWeights::F32, false), &values, &leaves());
        for composed in [false, true] {
            let found = product(options(nf4(double), composed), &base, &leaves());
            for (name, (found, truth)) in
                ["y", "dx", "dA", "dB"].iter().zip(found.iter().zip(&truth))
            {
                let label = format!("{name}, double {double}, composed {composed}");
                assert_parity(&label, found, &twin::wide(truth), 1e-13);
            }
        }
    }
}

#[test]
fn gradients_are_central_differences() {
    const STEP: f32 = 0.02;
    let base = uniform(5, SHAPE[0] * SHAPE[1]);
    for composed in [false, true] {
        let at = leaves();
        let loss = |leaves: &[Vec<f32>; 3]| -> f64 {
            let [y, ..] = product(options(nf4(true), composed), &base, leaves);
            y.iter().zip(coefficients()).map(|(&y, c)| f64::from(y) * f64::from(c)).sum()
        };
        let [_, gradients @ ..] = product(options(nf4(true), composed), &base, &at);
        for (leaf, gradient) in gradients.iter().enumerate() {
            // The loss is linear in each leaf: differences of first order are exact.
            let places: Vec<usize> = (0..gradient.len()).step_by(7).collect();
            let difference = |&place: &usize| {
                let moved = |by: f32| {
                    let mut leaves = at.clone();
                    leaves[leaf][place] += by;
                    loss(&leaves)
                };
                (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP))
            };
            let truth: Vec<f64> = places.iter().map(difference).collect();
            let found: Vec<f32> = places.iter().map(|&place| gradient[place]).collect();
            assert_parity(&format!("leaf {leaf}, composed {composed}"), &found, &truth, 1e-8);
        }
    }
}

#[test]
fn dropout_reaches_the_adapter_alone_and_only_in_training() {
    let base = uniform(5, SHAPE[0] * SHAPE[1]);
    let dropped = BurnOptions { lora_dropout: 0.5, ..options(nf4(true), false) };
    let [x, a, b] = leaves();
    let still = [x.clone(), a.clone(), vec![0.0; b.len()]];
    let plain = product(options(nf4(true), false), &base, &still);
    assert_eq!(product(dropped.clone(), &base, &still)[0], plain[0], "B is zero");
    let [y, _, da, _] = product(dropped.clone(), &base, &[x.clone(), a.clone(), b.clone()]);
    assert_ne!(y, product(options(nf4(true), false), &base, &[x, a, b])[0]);
    // A column of A whose input was dropped in every row has no gradient.
    let zeros = da[..SHAPE[1]].iter().filter(|&&x| x == 0.0).count();
    assert!(zeros < SHAPE[1], "{zeros}");
    let bad = BurnOptions { lora_dropout: 1.5, ..dropped };
    assert!(Burn::new(BurnDevice::Cpu, bad).is_err());
}

/// 24 million random parameters, 21 million of them in linears. What a process takes is in LOG.md:
/// in one that has freed memory before, it says nothing.
#[test]
fn a_frozen_model_takes_an_eighth_of_the_memory() {
    let config = r#"{"model_type": "llama", "vocab_size": 8192, "hidden_size": 384,
        "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6,
        "num_key_value_heads": 6, "head_dim": 64, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "hidden_act": "silu"}"#;
    let config = LlamaConfig::parse("config.json", config).unwrap();
    let bytes = |name: &str, frozen| {
        let burn = Burn::new(BurnDevice::Cpu, options(frozen, false)).unwrap();
        Llama::load(&Weights::fresh(&burn, 1), config.clone()).unwrap();
        let all = burn.frozen_bytes();
        let linear = |(name, _): &(&String, &usize)| name.contains("proj");
        let linears: usize = all.iter().filter(linear).map(|(_, bytes)| bytes).sum();
        let all: usize = all.values().sum();
        println!("{name}: linears {linears}, all {all} bytes");
        (all, linears)
    };
    let double = bytes("nf4, double quantisation", nf4(true));
    let plain = bytes("nf4", nf4(false));
    let (f32_all, f32_linears) = bytes("f32", FrozenWeights::F32);
    for ((all, linears), bits) in [(double, 4.127), (plain, 4.5)] {
        let ratio = linears as f64 / f32_linears as f64;
        assert!((ratio - bits / 32.0).abs() < 1e-3, "{bits} bits: {ratio}");
        assert!(all < f32_all / 3, "embeddings stay as they are");
    }
}

/// How far four bits take real weights, small as they are: NF4 with and without double
/// quantisation beside this library's q4.
#[test]
fn nf4_of_stories260k_is_near_the_model_itself() {
    let Some(path) = shared().map(|shared| shared.join("weights/stories260k")) else { return };
    let model = open_model(&path).unwrap();
    let ids = story(&path);
    let truth = logits(&model.checkpoint, &model.config, FrozenWeights::F32, &ids);
    let wide = twin::wide(&truth);
    println!("f32: perplexity {:.3}", perplexity(&truth, &ids));
    let row = |name: &str, found: &[f32]| {
        let (nmse, perplexity) = (nmse(found, &wide), perplexity(found, &ids));
        println!("{name}: nmse of logits {nmse:.2e}, perplexity {perplexity:.3}");
        nmse
    };
    let plain = logits(&model.checkpoint, &model.config, nf4(false), &ids);
    let double = logits(&model.checkpoint, &model.config, nf4(true), &ids);
    let (plain, double) = (row("nf4", &plain), row("nf4, double quantisation", &double));
    let all_q4 = |name: &str, shape: &[usize]| {
        if shape.len() < 2 || is_table(name) { Format::F32 } else { Format::Q4 }
    };
    let shipped = |name: &str, shape: &[usize]| format_of(name, shape, Format::Q4);
    let mut q4 = Vec::new();
    type Rule<'r> = &'r dyn Fn(&str, &[usize]) -> Format;
    let rules: [(&str, Rule<'_>); 2] =
        [("q4 of the same matrices", &all_q4), ("q4 as `quantize` writes it", &shipped)];
    for (name, rule) in rules {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        quantize_checkpoint(&model.checkpoint, rule, None, &mut files, &mut |_, _, _| ()).unwrap();
        let checkpoint = Checkpoint::from_bytes(name, files["model.safetensors"].clone()).unwrap();
        q4.push(row(name, &logits(&checkpoint, &model.config, FrozenWeights::F32, &ids)));
    }
    assert!(plain < 0.02 && double < 1.3 * plain + 1e-3, "{plain} {double}");
    assert!(plain < 3.0 * q4[0], "{plain} {q4:?}");
}

/// What the model writes itself, drawn at temperature 1.
fn story(path: &std::path::Path) -> Vec<u32> {
    let model = LanguageModel::open(Cpu::new(), path, None).unwrap();
    let mut session = model.session().unwrap();
    session.prefill(&[1]).unwrap();
    let sampling = Sampling::Random { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1 };
    let mut sampler = Sampler::new(sampling).unwrap();
    let stop_token_ids = Vec::new();
    let stop = StopRules { max_new_tokens: 399, stop_token_ids, stop_sequences: Vec::new() };
    let go_on = |_| std::ops::ControlFlow::Continue(());
    let text = pollster::block_on(session.generate(&mut sampler, &stop, go_on)).unwrap();
    std::iter::once(1).chain(text.token_ids).collect()
}

fn logits(checkpoint: &Checkpoint, config: &str, frozen: FrozenWeights, ids: &[u32]) -> Vec<f32> {
    let burn = Burn::new(BurnDevice::Cpu, options(frozen, false)).unwrap();
    let config = LlamaConfig::parse("config.json", config).unwrap();
    let llama = Llama::load(&Weights::new(&burn, checkpoint), config).unwrap();
    let segments = Segments::one(ids.len()).unwrap();
    let positions = segments.positions(0);
    let rows = Rows { segments: &segments, positions: &positions };
    let hidden = llama.embed(&burn, ids).unwrap();
    let hidden = llama.forward(&burn, hidden, rows, KvUse::None, None).unwrap();
    read(&burn, &llama.logits(&burn, &hidden).unwrap())
}

fn perplexity(logits: &[f32], ids: &[u32]) -> f64 {
    let cpu = Cpu::new();
    let (rows, vocab_size) = (ids.len() - 1, logits.len() / ids.len());
    let logits = cpu.upload(&logits[..rows * vocab_size], [rows, vocab_size]).unwrap();
    let losses = read(&cpu, &cpu.cross_entropy(&logits, &ids[1..]).unwrap());
    (losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / rows as f64).exp()
}
