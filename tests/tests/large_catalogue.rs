//! A million items: tables beyond one GPU binding, and a ranking that is not a sort of them all.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::dtype::Format;
use tributary_core::models::lru_rec::LruRecConfig;
use tributary_core::models::sequence::SequenceConfig;
use tributary_core::recommend::{Recommender, Request, Scorer, SequenceRecommender};
use tributary_core::weights::{Checkpoint, NamedTensor, Weights, format_of, quantize_checkpoint};
use tributary_tests::tiny_sasrec::{history, save};
use tributary_tests::{gpu, uniform};

const ITEMS: usize = 1_000_000;
const WIDTH: usize = 40; // 160 MB of f32, more than the 128 MiB of a WebGPU binding

fn config() -> LruRecConfig {
    LruRecConfig {
        hidden_size: WIDTH,
        num_hidden_layers: 1,
        num_channels: 8,
        intermediate_size: 8,
        ..LruRecConfig::new(ITEMS)
    }
}

fn checkpoint() -> Checkpoint {
    let mut tensors = Vec::new();
    let mut add = |name: &str, shape: &[usize], shift: f32| {
        let values = uniform(tensors.len() as u64, shape.iter().product());
        let values: Vec<f32> = values.iter().map(|value| value * 0.5 + shift).collect();
        tensors.push(NamedTensor::f32(name, shape, &values));
    };
    add("item_embeddings.weight", &[ITEMS, WIDTH], 0.0);
    add("item_scores.bias", &[ITEMS], 0.0);
    for norm in ["layer_norm", "layer.0.lru.layer_norm", "layer.0.feed_forward.layer_norm"] {
        add(&format!("{norm}.weight"), &[WIDTH], 1.0);
        add(&format!("{norm}.bias"), &[WIDTH], 0.0);
    }
    for vector in ["nu_log", "theta_log", "gamma_log"] {
        add(&format!("layer.0.lru.{vector}"), &[8], 0.0);
    }
    for (name, shape) in [
        ("lru.in_proj", [16, WIDTH]),
        ("lru.out_proj", [WIDTH, 16]),
        ("feed_forward.w_1", [8, WIDTH]),
        ("feed_forward.w_2", [WIDTH, 8]),
    ] {
        add(&format!("layer.0.{name}.weight"), &shape, 0.0);
        add(&format!("layer.0.{name}.bias"), &shape[..1], 0.0);
    }
    Checkpoint::from_bytes("model.safetensors", save(&tensors)).expect("a large model")
}

/// The ten best of `recommend`, which must be the ten best of all scores.
fn best<B: Backend>(b: &B, name: &str, checkpoint: &Checkpoint) -> Vec<(String, f32)> {
    let weights = Weights::new(b, checkpoint);
    let config = SequenceConfig::LruRec(config());
    let model = SequenceRecommender::load(&weights, config, None).expect("it fits");
    let request = Request { history: history(&["3", "999999", "500000"]), ..Request::default() };
    let answer = pollster::block_on(model.recommend(&request)).expect("an answer");
    assert_eq!(answer.usage.candidates, ITEMS - 3);
    let scores = pollster::block_on(model.score_batch(&[&[3, 999_999, 500_000]])).unwrap();
    let mut order: Vec<usize> = (0..ITEMS).filter(|i| ![3, 999_999, 500_000].contains(i)).collect();
    order.sort_by_key(|&item| Reverse(ordered(scores[item])));
    let found: Vec<_> = answer.items.iter().map(|i| (i.id.to_string(), i.score)).collect();
    let truth: Vec<_> = order[..10].iter().map(|&i| (i.to_string(), scores[i])).collect();
    assert_eq!(found.len(), 10, "{name}");
    for ((_, found), (_, truth)) in found.iter().zip(&truth) {
        assert!((found - truth).abs() < 1e-4, "{name}: {found} is not {truth}");
    }
    found
}

/// Larger floats, larger integers.
fn ordered(x: f32) -> i64 {
    let bits = i64::from(x.to_bits() as i32);
    if bits < 0 { i64::from(i32::MIN) - bits } else { bits }
}

#[test]
fn a_million_items_are_ranked_on_every_backend_and_in_q8() {
    let checkpoint = checkpoint();
    let truth = best(&Cpu::new(), "cpu", &checkpoint);
    // One device is enough for what is only large.
    if let Some(subject) = gpu::subjects().first() {
        let found = best(&subject.backend, subject.name, &checkpoint);
        for ((_, found), (_, truth)) in found.iter().zip(&truth) {
            assert!((found - truth).abs() < 1e-4, "{}: {found} is not {truth}", subject.name);
        }
    }
    let mut files = BTreeMap::new();
    let rule = |name: &str, shape: &[usize]| format_of(name, shape, Format::Q8);
    quantize_checkpoint(&checkpoint, &rule, None, &mut files, &mut |_, _, _| {}).expect("q8");
    let file = files.remove("model.safetensors").expect("one file");
    let q8 = Checkpoint::from_bytes("model.safetensors", file).expect("ours");
    let found = best(&Cpu::new(), "cpu q8", &q8);
    let known = found.iter().filter(|(id, _)| truth.iter().any(|(of, _)| of == id)).count();
    assert!(known >= 8, "q8 has {known} of the ten best: {found:?} {truth:?}");
}
