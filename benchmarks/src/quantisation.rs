//! What each format costs: bytes, distance of the logits from f32, how often the top token stays.

use std::path::{Path, PathBuf};

use tributary::language::LanguageModel;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::dtype::Format;
use tributary_core::models::llama::Rows;
use tributary_core::nn::KvUse;
use tributary_core::random::Random;
use tributary_core::session::{Sampler, Sampling, StopRules};

use crate::Outcome;
use crate::random_model::{RANDOM_20M, Shape, quantise};

const FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::Q8, Format::Q4];
/// Positions compared: two texts of this many.
const POSITIONS: usize = 250;

/// The table, for every model that is there.
pub fn table() -> Outcome<()> {
    println!(
        "| model | format | bytes | nmse of logits | same top-1 of {} | of Gaussian logits with this \
         nmse |",
        2 * POSITIONS
    );
    println!("|---|---|---|---|---|---|");
    let stories = shared().join("weights/stories260k");
    if stories.is_dir() {
        let folders = FORMATS.map(|format| stories_in(&stories, format));
        rows("stories260k, its own text", folders, sampled)?;
    } else {
        eprintln!("skipped stories260k: no {}", stories.display());
    }
    let folders = FORMATS.map(|format| RANDOM_20M.folder(format));
    rows("20 M random, tied", folders, random)?;
    let untied = Shape { name: "random-20m-untied", tied: false, ..RANDOM_20M };
    let folders = FORMATS.map(|format| untied.folder(format));
    rows("25 M random, untied", folders, random)
}

fn shared() -> PathBuf {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    std::env::var_os("TRIBUTARY_SHARED").map_or_else(beside, PathBuf::from)
}

fn stories_in(original: &Path, format: Format) -> Outcome<PathBuf> {
    let path = crate::folder().join("stories260k").join(format.name());
    if format == Format::F32 {
        return Ok(original.to_path_buf());
    }
    quantise(original, &path, format)?;
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(original.join(name), path.join(name))?;
    }
    Ok(path)
}

type Model = LanguageModel<Cpu>;

/// Text the model writes itself, drawn at temperature 1.
fn sampled(model: &Model, seed: u64) -> Outcome<Vec<u32>> {
    let mut session = model.session()?;
    let start = model.model().config().bos_token_id.unwrap_or(1);
    session.prefill(&[start])?;
    let sampling = Sampling::Random { temperature: 1.0, top_k: 0, top_p: 1.0, seed };
    let stop = StopRules {
        max_new_tokens: POSITIONS - 1,
        stop_token_ids: Vec::new(),
        stop_sequences: Vec::new(),
    };
    let go_on = |_| std::ops::ControlFlow::Continue(());
    let text = pollster::block_on(session.generate(&mut Sampler::new(sampling)?, &stop, go_on))?;
    Ok(std::iter::once(start).chain(text.token_ids).collect())
}

fn random(model: &Model, seed: u64) -> Outcome<Vec<u32>> {
    let mut random = Random::new(seed);
    let vocab_size = model.model().config().vocab_size as u64;
    Ok((0..POSITIONS).map(|_| random.below(vocab_size) as u32).collect())
}

fn rows(
    name: &str,
    folders: [Outcome<PathBuf>; 4],
    text: impl Fn(&Model, u64) -> Outcome<Vec<u32>>,
) -> Outcome<()> {
    let mut truth: Vec<(Vec<u32>, Vec<f32>)> = Vec::new();
    for (format, folder) in FORMATS.into_iter().zip(folders) {
        let folder = folder?;
        let bytes = std::fs::metadata(folder.join("model.safetensors"))?.len();
        let model = LanguageModel::open(Cpu::new(), &folder, None)?;
        if truth.is_empty() {
            for seed in [1, 2] {
                let ids = text(&model, seed)?;
                let logits = logits(&model, &ids)?;
                truth.push((ids, logits));
            }
        }
        let vocab_size = model.model().config().vocab_size;
        let (mut error, mut power, mut same) = (0.0, 0.0, 0);
        for (ids, truth) in &truth {
            let found = logits(&model, ids)?;
            for (f, t) in found.iter().zip(truth) {
                error += f64::from(f - t).powi(2);
                power += f64::from(*t).powi(2);
            }
            let pairs = found.chunks_exact(vocab_size).zip(truth.chunks_exact(vocab_size));
            same += pairs.filter(|(f, t)| top(f) == top(t)).count();
        }
        let share = 100.0 * same as f64 / (2 * POSITIONS) as f64;
        let nmse = error / power;
        let gaussian = 100.0 * gaussian_same_top(vocab_size, nmse);
        println!("| {name} | {format} | {bytes} | {nmse:.2e} | {share:.1} % | {gaussian:.1} % |");
    }
    Ok(())
}

fn logits(model: &Model, ids: &[u32]) -> Outcome<Vec<f32>> {
    let (b, llama) = (model.backend(), model.model());
    let segments = Segments::one(ids.len())?;
    let positions = segments.positions(0);
    let rows = Rows { segments: &segments, positions: &positions };
    let hidden = llama.forward(b, llama.embed(b, ids)?, rows, KvUse::None, None)?;
    Ok(pollster::block_on(b.read(&llama.logits(b, &hidden)?))?)
}

fn top(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap_or(0)
}

/// How often the largest of `vocab_size` independent normal logits stays the largest under
/// independent normal noise of this nmse: what can be expected of a model without preferences,
/// whatever the format.
fn gaussian_same_top(vocab_size: usize, nmse: f64) -> f64 {
    let mut random = Random::new(7);
    let (mut truth, mut noisy) = (vec![0.0; vocab_size], vec![0.0; vocab_size]);
    let same = (0..2 * POSITIONS).filter(|_| {
        for (truth, noisy) in truth.iter_mut().zip(&mut noisy) {
            let value = random.normal();
            *truth = value as f32;
            *noisy = (value + nmse.sqrt() * random.normal()) as f32;
        }
        top(&truth) == top(&noisy)
    });
    same.count() as f64 / (2 * POSITIONS) as f64
}
