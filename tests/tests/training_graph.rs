//! Graph encoders from a file of events to a folder that ranks, and to the tables of fusion.

use std::path::Path;

use tributary::bundle::{self, GRAPH_TABLE};
use tributary::data::Dataset;
use tributary::evaluate::{Candidates, EvaluateOptions, evaluate};
use tributary::files::open_checkpoint;
use tributary::train::{
    AnyConfig, CHECKPOINT, CurvePoint, Event, FitOptions, TrainReport, WEIGHTS,
};
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::recommend::{ItemId, Recommender, Request};
use tributary_tests::files::{assert_refused, tensors};
use tributary_tests::folder::Folder;

const NUM_ITEMS: usize = 12;

/// Users who walk a circle of items, forwards or backwards: they view each and buy every second.
/// `late` moves what comes from the validation target on further along the walk.
fn events(late: usize) -> String {
    let mut text = String::from("user,item,behaviour\n");
    for user in 0..48 {
        let step = if user % 2 == 0 { 1 } else { NUM_ITEMS - 1 };
        let items: Vec<usize> = (0..8).map(|i| (user * 5 + i * step) % NUM_ITEMS).collect();
        // Bought: places 1, 3, 5 (validation) and 7 (test).
        for (place, item) in items.iter().enumerate() {
            let item = if place >= 5 { (item + late * step) % NUM_ITEMS } else { *item };
            text += &format!("u{user},i{item},view\n");
            if place % 2 == 1 {
                text += &format!("u{user},i{item},buy\n");
            }
        }
    }
    text
}

struct Walk(Folder);

impl Walk {
    fn new(name: &str, late: usize) -> Self {
        let folder = Folder::new(name);
        folder.write("events.csv", events(late));
        // The order of rows must not depend on which items come first.
        let line = |n: usize| format!("{{\"id\": \"i{n}\", \"title\": \"Item {n}\"}}\n");
        folder.write("catalogue.jsonl", (0..=NUM_ITEMS).map(line).collect::<String>());
        Self(folder)
    }

    fn config(&self, model: &str, change: &str) -> Result<AnyConfig> {
        let text = format!(
            "[model]\n{model}\n[data]\npath = 'events.csv'\n\
             [training]\nbatch_size = 16\nepochs = 60\npatience = 0\neval_every = 30\n{change}\n\
             [optimizer]\nlearning_rate = 0.01\n"
        );
        AnyConfig::read(&self.0.write("config.toml", text))
    }

    fn train(
        &self,
        model: &str,
        out: &str,
        resume: bool,
        max_steps: Option<u64>,
        change: &str,
    ) -> Result<(TrainReport, Vec<CurvePoint>)> {
        let options = FitOptions { out: self.0.path().join(out), resume, max_steps };
        let mut curve = Vec::new();
        let report = self.config(model, change)?.run(&options, &mut |event| {
            if let Event::Validated { point, .. } = event {
                curve.push(*point);
            }
        })?;
        Ok((report, curve))
    }
}

const MBHT: &str = "kind = 'mbht'\nhidden_size = 16\nnum_hidden_layers = 1\nmax_seq_len = 10\n\
                    low_rank = 4\npool_sizes = [2]\nhidden_dropout_prob = 0.1\n\
                    attention_probs_dropout_prob = 0.1\nhypergraph_dropout_prob = 0.1";
const LIGHTGCN: &str = "kind = 'lightgcn'\nhidden_size = 16";

/// `graph.safetensors` has the form that fusion reads.
fn check_tables(folder: &Path, encoder: &str) {
    let table = open_checkpoint(&folder.join(GRAPH_TABLE)).expect("the run has written it");
    let shape = |name: &str| table.info(name).map(|info| info.shape.clone()).unwrap_or_default();
    assert_eq!(shape("item_embedding.weight"), [NUM_ITEMS + 1, 16]);
    assert_eq!(shape("behaviour_embedding.weight"), [2, 16]);
    assert_eq!(shape("present"), [NUM_ITEMS + 1]);
    let metadata = table.metadata();
    assert_eq!(metadata["behaviours"], "view,buy");
    assert_eq!(metadata["encoder"], encoder);
    assert_eq!(metadata["catalogue_sha256"].len(), 64);
    let present = table.raw("present").expect("one byte per item");
    assert_eq!(&present[..], [&[1; NUM_ITEMS][..], &[0]].concat(), "nobody met the last item");
    let values = table.values("item_embedding.weight").expect("f32");
    let is_zero = |row: &[f32]| row.iter().all(|&x| x == 0.0);
    for (item, row) in values.chunks(16).enumerate() {
        assert_eq!(is_zero(row), item == NUM_ITEMS, "item {item}");
    }
}

/// `least`: ndcg@10 of the validation, hit_rate@1 among 4 of the test.
fn trains(name: &str, model: &str, kind: &str, least: [f64; 2]) {
    let walk = Walk::new(name, 0);
    let (report, curve) = walk.train(model, "out", false, None, "").expect("a run");
    let (first, last) = (curve[0].loss, curve[curve.len() - 1].loss);
    println!("{kind}: loss {first:.3} to {last:.3}, best {:?}", report.best);
    assert!(last < 0.8 * first, "{kind}: loss {first} to {last}");
    let best = report.best.expect("validations");
    assert!(best.metric > least[0], "{kind}: ndcg@10 {}", best.metric);

    let out = walk.0.path().join("out");
    check_tables(&out, kind);
    // The folder ranks, on another backend than it was trained on.
    let bundle = bundle::from_model(&out).expect("a model's folder");
    let shop = bundle.graph_recommender(&Cpu::new()).expect("the CPU backend loads it");
    let request = Request {
        history: tributary_tests::tiny_sasrec::history(&["i3", "i4"]),
        candidates: Some(["i1", "i6"].map(ItemId::from).to_vec()),
        ..Request::default()
    };
    let answer = pollster::block_on(shop.recommend(&request)).expect("an answer");
    assert_eq!(answer.items.len(), 2);
    assert_eq!(shop.name(), kind);
    let mut data = Dataset::read(&walk.0.path().join("events.csv")).expect("ours");
    data.hold_out("buy").expect("somebody buys");
    let candidates = Candidates::Sampled { num_candidates: 4, seed: 1 };
    let options = EvaluateOptions { candidates, ..EvaluateOptions::default() };
    let found = evaluate(&shop, shop.catalogue(), &data, &options, |_, _| ());
    let found = found.expect("ranks");
    println!("{kind}: test {:?}", found.metrics);
    assert_eq!(found.users, 48);
    assert!(found.metrics["hit_rate@1"] > least[1], "{kind}: among 4: {:?}", found.metrics);
}

#[test]
fn mbht_learns_a_walk_and_its_folder_ranks() {
    trains("mbht-walk", MBHT, "mbht", [0.75, 0.75]);
}

#[test]
fn lightgcn_learns_a_walk_and_its_folder_ranks() {
    // Without order both ends of a walk look alike; chance is 0.25.
    trains("lightgcn-walk", LIGHTGCN, "lightgcn", [0.5, 0.3]);
}

#[test]
fn a_resumed_graph_encoder_ends_with_the_same_weights_bit_for_bit() {
    for model in [MBHT, LIGHTGCN] {
        let walk = Walk::new("graph-resume", 0);
        let change = "checkpoint_every = 3\nlog_every = 2";
        walk.train(model, "whole", false, Some(12), change).expect("an uninterrupted run");
        for (part, steps) in [5, 1, 6].into_iter().enumerate() {
            walk.train(model, "parts", part > 0, Some(steps), change).expect("a part");
        }
        for file in [CHECKPOINT, WEIGHTS, GRAPH_TABLE] {
            let [whole, parts] =
                ["whole", "parts"].map(|out| tensors(&walk.0.path().join(out).join(file)));
            assert!(!whole.is_empty() && whole == parts, "{file}");
        }
        walk.0.write("events.csv", events(1));
        let other = walk.train(model, "parts", true, None, change);
        assert_refused("other data", other.map(|_| ()), &["data.sha256"]);
    }
}

/// What is held out may be anything: the weights after the same steps are the same, bit for bit.
#[test]
fn what_is_held_out_does_not_reach_the_weights() {
    for model in [MBHT, LIGHTGCN] {
        let weights = [0, 1].map(|late| {
            let walk = Walk::new("graph-held-out", late);
            walk.train(model, "out", false, Some(8), "").expect("a run");
            tensors(&walk.0.path().join("out").join(CHECKPOINT))
        });
        assert!(!weights[0].is_empty() && weights[0] == weights[1]);
    }
}

#[test]
fn a_graph_configuration_that_makes_no_sense_is_refused() {
    let walk = Walk::new("graph-refused", 0);
    for (model, change, word) in [
        ("kind = 'mbht'\nmask_ratio = 1.5", "", "mask_ratio"),
        ("kind = 'mbht'\nhidden_size = 10\nnum_attention_heads = 3", "", "num_attention_heads"),
        ("kind = 'lightgcn'\nlow_rank = 4", "", "low_rank"),
        ("kind = 'node2vec'", "", "mbht"),
        (LIGHTGCN, "metric = 'ndgc@10'", "ndcg@10"),
    ] {
        let refused = walk.train(model, "out", false, None, change).map(|_| ());
        assert_refused(model, refused, &[word]);
    }
    walk.0.write("events.csv", events(0).replace(",buy", ",cart"));
    let refused = walk.train(MBHT, "out", false, None, "").map(|_| ());
    assert_refused("no such behaviour", refused, &["buy", "view, cart"]);
}
