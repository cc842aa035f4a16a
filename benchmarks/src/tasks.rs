//! Whole tasks: the demo's recommendation, and the full Beauty evaluation.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tributary::bundle;
use tributary::data::Dataset;
use tributary::device::Device;
use tributary::evaluate::{EvaluateOptions, evaluate};
use tributary::recommender::AnyRecommender;
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::recommend::{Interaction, Recommender, Request};

use crate::{Outcome, median};

/// The table.
pub fn table() -> Outcome<()> {
    println!("On {}:\n", Cpu::new().info().adapter);
    println!("| task | result | time |");
    println!("|---|---|---|");
    let started = Instant::now();
    let recommender = AnyRecommender::open(Path::new("demo"), Device::Cpu)?;
    let load = started.elapsed().as_secs_f64() * 1e3;
    println!("| load and verify the demo bundle | | {load:.1} ms |");
    let ids: Vec<_> = recommender.catalogue().items()[..20].iter().map(|i| i.id.clone()).collect();
    let history = ids.into_iter().map(Interaction::new).collect();
    let request = Request { history, ..Request::default() };
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        recommender.recommend(&request)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    println!("| demo recommendation, 20 events, 600 items | 10 items | {:.2} ms |", median(times));

    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let shared = std::env::var_os("TRIBUTARY_SHARED").map_or_else(beside, PathBuf::from);
    let beauty = shared.join("weights/iclrec-beauty");
    if !beauty.is_dir() {
        eprintln!("skipped Beauty: no {}", beauty.display());
        return Ok(());
    }
    let model = bundle::open(&beauty)?.sequence_recommender(&Cpu::new())?;
    let data = Dataset::read(&beauty.join("Beauty.txt"))?;
    let mut times = Vec::new();
    let mut result = String::new();
    for _ in 0..3 {
        let options = EvaluateOptions::default();
        let done = evaluate(&model, model.catalogue(), &data, &options, |_, _| ())?;
        let metric = |name: &str| done.metrics.get(name).copied().unwrap_or(f64::NAN);
        let (hit, ndcg) = (metric("hit_rate@10"), metric("ndcg@10"));
        result = format!("hit_rate@10 {hit:.4}, ndcg@10 {ndcg:.4}, {} users", done.users);
        times.push(done.seconds);
    }
    println!("| ICLRec Beauty, all users, all items | {result} | {:.1} s |", median(times));
    Ok(())
}
