//! All recommenders on the same users, candidates and seeds: quality, size, time, tokens.

use std::path::Path;
use std::time::Instant;

use tributary::bundle::{self, Bundle};
use tributary::data::{Dataset, Split};
use tributary::evaluate::{Candidates, EvaluateOptions, Evaluation, evaluate, evaluate_baselines};
use tributary_core::backend::cpu::Cpu;
use tributary_core::recommend::{
    Interaction, ItemId, Kind, Recommendations, Recommender, Request, Usage,
};

use crate::{Outcome, median};

/// Items of which one is right.
const NUM_CANDIDATES: usize = 20;
/// Of the draws.
const SEED: u64 = 13;
/// Users whose requests are timed.
const TIMED: usize = 40;

/// The table of these folders, each a recommender of the items of `data`, on its first `users` users.
pub fn table(data: &Path, users: usize, folders: &[&str]) -> Outcome<()> {
    let data = Dataset::read(data)?;
    let candidates = Candidates::Sampled { num_candidates: NUM_CANDIDATES, seed: SEED };
    let k = vec![1, 10];
    let options = EvaluateOptions { candidates, k, users: Some(users), ..Default::default() };
    // Tables on stdout are what this program is for; see main.rs.
    println!(
        "{users} users of {}, the last item among {NUM_CANDIDATES} (seed {SEED}), CPU\n",
        data.name
    );
    println!(
        "| recommender | HR@1 | ± | NDCG@10 | MRR@10 | parameters | bytes | ms, whole history | ms, one \
         event more | tokens read | of the next prompt, computed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (place, folder) in folders.iter().enumerate() {
        let bundle = bundle::open(Path::new(folder))?;
        let recommender = Kind::load(&bundle, &Cpu::new())?;
        let catalogue = recommender.catalogue();
        if place == 0 {
            for (name, result) in evaluate_baselines(&recommender, catalogue, &data, &options)? {
                println!("| {name} | {} | | | | | | |", quality(&result));
            }
        }
        let result = evaluate(&recommender, catalogue, &data, &options, |_, _| ())?;
        let (parameters, bytes) = size(&bundle)?;
        let cost = cost(&recommender, &data, &result, users.min(TIMED))?;
        let name = Path::new(folder).file_name().unwrap_or_default().to_string_lossy();
        println!(
            "| {} ({name}) | {} | {parameters} | {bytes} | {:.1} | {:.1} | {} | {} of {} |",
            recommender.name(),
            quality(&result),
            cost.whole_ms,
            cost.next_ms,
            cost.whole.prompt_tokens,
            cost.next.prompt_tokens - cost.next.cached_tokens,
            cost.next.prompt_tokens,
        );
    }
    Ok(())
}

/// Hit rate with its 95 % interval's half, NDCG, MRR.
fn quality(result: &Evaluation) -> String {
    let metric = |name: &str| result.metrics.get(name).copied().unwrap_or(f64::NAN);
    let (hit, users) = (metric("hit_rate@1"), result.users as f64);
    let half = 1.96 * (hit * (1.0 - hit) / users).sqrt();
    format!("{hit:.4} | {half:.3} | {:.4} | {:.4}", metric("ndcg@10"), metric("mrr@10"))
}

/// Parameters, and bytes of all files.
fn size(bundle: &Bundle) -> Outcome<(usize, u64)> {
    let mut parameters = 0;
    for component in &bundle.manifest.components {
        if !component.files.iter().all(|file| file.name.ends_with(".safetensors")) {
            continue;
        }
        let checkpoint = bundle.checkpoint(&component.name)?;
        for name in checkpoint.names().filter(|name| !name.ends_with(".scales")) {
            // What is no number, such as which rows of a table are there, is no parameter.
            parameters += checkpoint.values(name).map_or(0, |values| values.len());
        }
    }
    Ok((parameters, bundle.manifest.files().map(|file| file.bytes).sum()))
}

/// Medians over users.
struct Cost {
    whole_ms: f64,
    next_ms: f64,
    whole: Usage,
    next: Usage,
}

/// Each user asks without the last event of the history, then with it, as a visitor does.
fn cost(
    recommender: &impl Recommender,
    data: &Dataset,
    result: &Evaluation,
    users: usize,
) -> Outcome<Cost> {
    let (mut whole, mut next) = (Vec::new(), Vec::new());
    for (case, set) in data.cases(Split::Test).iter().zip(&result.sets).take(users) {
        let event = |(place, &item): (usize, &u32)| -> Option<Interaction> {
            let behaviour = case.behaviours.get(place);
            let behaviour = behaviour.and_then(|&name| data.behaviours.get(usize::from(name)));
            let item = data.catalogue.get(item)?.id.clone();
            Some(Interaction { behaviour: behaviour.cloned(), ..Interaction::new(item.as_str()) })
        };
        let history: Vec<Interaction> = case.history.iter().enumerate().filter_map(event).collect();
        let Some((_, before)) = history.split_last() else { continue };
        let candidates: Vec<ItemId> = set.candidates.clone();
        for (history, answers) in [(before, &mut whole), (&history[..], &mut next)] {
            let request = Request {
                history: history.to_vec(),
                candidates: Some(candidates.clone()),
                k: NUM_CANDIDATES,
                exclude_seen: false,
                ..Request::default()
            };
            let started = Instant::now();
            let answer = pollster::block_on(recommender.recommend(&request))?;
            answers.push((started.elapsed().as_secs_f64() * 1e3, answer));
        }
    }
    let of = |answers: &[(f64, Recommendations)]| {
        let middle = |value: &dyn Fn(&Usage) -> usize| {
            median(answers.iter().map(|(_, answer)| value(&answer.usage) as f64).collect()) as usize
        };
        let usage = Usage {
            prompt_tokens: middle(&|usage| usage.prompt_tokens),
            cached_tokens: middle(&|usage| usage.cached_tokens),
            ..Usage::default()
        };
        (median(answers.iter().map(|(ms, _)| *ms).collect()), usage)
    };
    let ((whole_ms, whole), (next_ms, next)) = (of(&whole), of(&next));
    Ok(Cost { whole_ms, next_ms, whole, next })
}
