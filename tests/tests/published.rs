//! Published numbers of trained checkpoints, reproduced from their own weights and data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tributary::bundle;
use tributary::data::{Dataset, Split};
use tributary::evaluate::{
    Candidates, EvaluateOptions, Evaluation, Markov, Popularity, evaluate, evaluate_baselines,
};
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::gpu::GpuOptions;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::sequence::{RepeatedItems, SeenItems};
use tributary_core::recommend::{Interaction, Recommender, Request, SequenceRecommender};
use tributary_tests::npz;

/// A file of the test material, if this machine has it.
fn shared(path: &str) -> Option<PathBuf> {
    tributary_tests::shared().map(|folder| folder.join(path))
}

fn model(path: &str) -> Option<SequenceRecommender<Cpu>> {
    let bundle = bundle::from_model(&shared(path)?).unwrap();
    Some(bundle.sequence_recommender(&Cpu::new()).unwrap())
}

fn assert_metrics(found: &Evaluation, published: &[(&str, f64)], digits: i32) {
    for &(name, published) in published {
        let found = found.metrics[name];
        let scale = 10f64.powi(digits);
        assert_eq!(
            (found * scale).round(),
            (published * scale).round(),
            "{name} is {found}, published {published}"
        );
    }
}

#[test]
fn iclrec_reaches_its_published_numbers_on_beauty() {
    let (Some(model), Some(file)) =
        (model("weights/iclrec-beauty"), shared("weights/iclrec-beauty/Beauty.txt"))
    else {
        return;
    };
    let data = Dataset::read(&file).unwrap();
    let options = EvaluateOptions { k: vec![5, 10, 20], ..EvaluateOptions::default() };
    let found = evaluate(&model, model.catalogue(), &data, &options, |_, _| ()).unwrap();
    println!("{} users in {:.1} s: {:?}", found.users, found.seconds, found.metrics);
    assert_eq!(found.users, 22_363);
    assert_eq!(found.denominator, "over_all_users");
    let published = [
        ("hit_rate@5", 0.0500),
        ("hit_rate@10", 0.0744),
        ("hit_rate@20", 0.1058),
        ("ndcg@5", 0.0326),
        ("ndcg@10", 0.0403),
        ("ndcg@20", 0.0483),
    ];
    assert_metrics(&found, &published, 4);
}

#[test]
fn iclrec_hidden_states_and_rankings_equal_the_original_code() {
    let (Some(model), Some(fixture)) =
        (model("weights/iclrec-beauty"), shared("weights/iclrec-beauty/fixture_Beauty.npz"))
    else {
        return;
    };
    let arrays: BTreeMap<String, npz::Array> = npz::read(&fixture);
    let (ids, hidden) = (&arrays["input_ids"], &arrays["last_hidden"]);
    let (top, top_scores) = (&arrays["top20"], &arrays["top20_scores"]);
    let b = Cpu::new();
    // All sequences packed into one batch, without their padding.
    let rows: Vec<Vec<u32>> = (0..ids.shape[0])
        .map(|row| ids.row(row).iter().map(|&id| id as u32).filter(|&id| id != 0).collect())
        .collect();
    let lengths: Vec<_> = rows.iter().map(Vec::len).collect();
    let segments = Segments::new(&lengths).unwrap();
    let states = model.model().forward(&b, &rows.concat(), &segments).unwrap();
    let last = b.gather_rows(&states, &segments.last_rows()).unwrap();
    let last = pollster::block_on(b.read(&last)).unwrap();
    let (mut error, mut size) = (0.0, 0.0);
    for (found, expected) in last.iter().zip(&hidden.values) {
        error += (f64::from(*found) - expected).powi(2);
        size += expected.powi(2);
    }
    assert_eq!(last.len(), hidden.values.len());
    assert!(error / size < 1e-9, "nmse {}", error / size);

    for (row, history) in rows.iter().enumerate() {
        let request = Request {
            history: history.iter().map(|id| Interaction::new(id.to_string())).collect(),
            k: 20,
            exclude_seen: false,
            ..Request::default()
        };
        let answer = pollster::block_on(model.recommend(&request)).unwrap();
        let found: Vec<f64> =
            answer.items.iter().map(|item| item.id.as_str().parse().unwrap()).collect();
        assert_eq!(found, top.row(row), "sequence {row}");
        for (item, expected) in answer.items.iter().zip(top_scores.row(row)) {
            let difference = (f64::from(item.score) - expected).abs();
            assert!(
                difference < 1e-4,
                "sequence {row} item {}: {} {expected}",
                item.id,
                item.score
            );
        }
    }
}

#[test]
fn the_gpu_ranks_beauty_as_the_cpu_does() {
    let (Some(folder), Some(file)) =
        (shared("weights/iclrec-beauty"), shared("weights/iclrec-beauty/Beauty.txt"))
    else {
        return;
    };
    let Some(gpu) = tributary_tests::gpu::open(GpuOptions::default()) else { return };
    let bundle = bundle::from_model(&folder).unwrap();
    let data = Dataset::read(&file).unwrap();
    let options = EvaluateOptions { users: Some(200), ..EvaluateOptions::default() };
    let cpu = bundle.sequence_recommender(&Cpu::new()).unwrap();
    let gpu = bundle.sequence_recommender(&gpu).unwrap();
    let on_cpu = evaluate(&cpu, cpu.catalogue(), &data, &options, |_, _| ()).unwrap();
    let on_gpu = evaluate(&gpu, gpu.catalogue(), &data, &options, |_, _| ()).unwrap();
    assert_eq!(on_cpu.users, 200);
    assert_eq!(on_cpu.metrics, on_gpu.metrics);
    for (user, (a, b)) in on_cpu.ranks().iter().zip(&on_gpu.ranks()).enumerate() {
        // Thousands of places down, scores closer than rounding may change places.
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(a == b || a.min(b) > 500 && a.abs_diff(b) <= 2, "user {user}: {a} and {b}");
    }
}

#[test]
fn llara_reaches_its_exact_expectation_on_movielens() {
    let (Some(model), Some(file)) =
        (model("weights/llara-sasrec/movielens"), shared("data/llara/movielens_val.jsonl"))
    else {
        return;
    };
    let data = Dataset::read(&file).unwrap();
    let options = EvaluateOptions {
        split: Split::Valid,
        candidates: Candidates::Exact { num_candidates: 20 },
        k: vec![1],
        ..EvaluateOptions::default()
    };
    let exact = evaluate(&model, model.catalogue(), &data, &options, |_, _| ()).unwrap();
    assert_eq!(exact.users, 94);
    let found = exact.metrics["hit_rate@1"];
    assert!((found - 0.423484).abs() < 5e-7, "{found}");

    // Real draws scatter around it.
    let mut sum = 0.0;
    let draws = 200;
    for seed in 0..draws {
        let candidates = Candidates::Sampled { num_candidates: 20, seed };
        let options = EvaluateOptions { candidates, ..options.clone() };
        let sampled = evaluate(&model, model.catalogue(), &data, &options, |_, _| ()).unwrap();
        assert_eq!(sampled.sets.len(), 94);
        sum += sampled.metrics["hit_rate@1"];
    }
    let mean = sum / draws as f64;
    assert!((mean - found).abs() < 0.01, "{mean} of {draws} draws, expected {found}");
}

#[test]
fn baselines_on_beauty_are_those_measured_elsewhere() {
    let Some(file) = shared("data/amazon-beauty/sequences.tsv") else { return };
    let data = Dataset::read(&file).unwrap();
    assert_eq!((data.users.len(), data.catalogue.len()), (22_332, 12_086));
    assert_eq!(data.interactions(), 198_215);
    let empty = Popularity::new(&[], data.catalogue.len(), RepeatedItems::Keep);
    let options = EvaluateOptions::default();
    let found = evaluate_baselines(&empty, &data.catalogue, &data, &options).unwrap();
    for (name, evaluation) in &found {
        println!("{name}: {:?}", evaluation.metrics);
    }
    let [("popularity", popularity), ("markov", markov)] = &found[..] else { panic!("{found:?}") };
    assert_metrics(popularity, &[("hit_rate@10", 0.0114), ("ndcg@10", 0.0054)], 4);
    assert_metrics(markov, &[("hit_rate@10", 0.0668), ("ndcg@10", 0.0440)], 4);
    // Without a transition a Markov chain has nothing but popularity.
    let markov = Markov::new(&[], data.catalogue.len(), RepeatedItems::Keep);
    let seen_items = Some(SeenItems::Exclude);
    let options = EvaluateOptions { users: Some(50), seen_items, ..options };
    let none = |_, _| ();
    let [markov, popularity] = [
        evaluate(&markov, &data.catalogue, &data, &options, none).unwrap().ranks(),
        evaluate(&empty, &data.catalogue, &data, &options, none).unwrap().ranks(),
    ];
    assert_eq!(markov, popularity);
}
