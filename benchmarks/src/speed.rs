//! Prefill and decode on the CPU backend, and the memory they take.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use tributary::language::LanguageModel;
use tributary::threads::with_ready_threads;
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::dtype::Format;

use crate::random_model::SMOLLM2_135M;
use crate::{Outcome, median};

/// Rounds over all formats; each round starts a process per format.
const ROUNDS: usize = 3;
const PROMPT: usize = 512;
const DECODE: usize = 64;
const FORMATS: [Format; 4] = [Format::Q8, Format::Q4, Format::F16, Format::F32];

/// One process per format and round, so that peak memory is each format's own.
pub fn table() -> Outcome<()> {
    let mut columns: Vec<[Vec<f64>; 4]> = vec![Default::default(); FORMATS.len()];
    let mut weights = [0u64; FORMATS.len()];
    for round in 0..ROUNDS {
        for (i, format) in FORMATS.iter().enumerate() {
            let folder = SMOLLM2_135M.folder(*format)?;
            weights[i] = std::fs::metadata(folder.join("model.safetensors"))?.len();
            let output =
                Command::new(std::env::current_exe()?).arg("speed-of").arg(folder).output()?;
            let text = String::from_utf8(output.stdout)?;
            let numbers: Vec<f64> =
                text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            if numbers.len() != 4 {
                return Err(format!("{format}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            for (column, number) in columns[i].iter_mut().zip(numbers) {
                column.push(number);
            }
        }
        eprintln!("round {} of {ROUNDS}", round + 1);
    }
    println!("SmolLM2-135M shape, random weights, {}:\n", Cpu::new().info().adapter);
    println!(
        "| format | weights MB | load ms | prefill of {PROMPT}, tokens/s | decode, tokens/s | \
         peak memory MB | peak / (weights + cache) |"
    );
    println!("|---|---|---|---|---|---|---|");
    let kv_heads_and_dim = SMOLLM2_135M.heads[1] * SMOLLM2_135M.head_dim;
    let rows = PROMPT + DECODE;
    let cache = (rows * 2 * kv_heads_and_dim * SMOLLM2_135M.num_hidden_layers * 4) as f64;
    for ((format, columns), weights) in FORMATS.iter().zip(columns).zip(weights) {
        let [load, prefill, decode, peak] = columns.map(median);
        println!(
            "| {format} | {:.1} | {load:.1} | {prefill:.0} | {decode:.0} | {:.1} | {:.3} |",
            weights as f64 / 1e6,
            peak / 1e6,
            peak / (weights as f64 + cache),
        );
    }
    Ok(())
}

/// Prints load ms, prefill and decode tokens/s, peak bytes of this process.
pub fn one(folder: &Path) -> Outcome<()> {
    // As `tributary generate` does it: in the pool, its threads at hand.
    rayon::scope(|_| with_ready_threads(|| measure(folder).map_err(|e| e.to_string())))
        .map_err(Into::into)
}

fn measure(folder: &Path) -> Outcome<()> {
    let started = Instant::now();
    let model = LanguageModel::open(Cpu::new(), folder, None)?;
    let load = started.elapsed().as_secs_f64() * 1e3;
    let vocab_size = model.model().config().vocab_size as u32;
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| (i * 7919 + 13) % vocab_size).collect();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut session = model.session()?;
        let started = Instant::now();
        session.prefill(&prompt)?;
        pollster::block_on(session.logits(Some(&prompt[..20])))?;
        prefill.push(PROMPT as f64 / started.elapsed().as_secs_f64());
        let started = Instant::now();
        for token in 0..DECODE as u32 {
            // The whole vocabulary, as free generation needs it.
            pollster::block_on(session.logits(None))?;
            session.append(&[token])?;
        }
        decode.push(DECODE as f64 / started.elapsed().as_secs_f64());
    }
    println!("{load} {} {} {}", median(prefill), median(decode), peak_bytes()?);
    Ok(())
}

/// The most memory this process has had resident, mapped weights included (Linux).
fn peak_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
    Ok(kib.parse::<u64>()? * 1024)
}
