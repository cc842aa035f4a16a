//! Measures speed, memory and the cost of quantisation, and prints the tables of RESULTS.md.
//!
//! `./run bench speed`         prefill and decode of a SmolLM2-135M-shaped random model, per format
//! `./run bench quantisation`  size, nmse of logits, same-top-1 share
//! `./run bench tasks`         the demo's recommendation and, where it is there, Beauty
//! `./run bench agreement DATA FOLDER...`  first choices of quantised folders beside the first one's
//! `./run bench systems DATA USERS FOLDER...`  recommenders of one catalogue in one table
//!
//! The tables go to stdout, which is what this program is for; what is skipped goes to stderr.
//! Random models are made once under target/bench. Formats are interleaved and medians printed,
//! because the machines this runs on are noisy.

mod agreement;
mod quantisation;
mod random_model;
mod speed;
mod systems;
mod tasks;

use std::path::PathBuf;
use std::process::ExitCode;

/// Any error, for a program that prints it and ends.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["speed"] => speed::table(),
        ["speed-of", model] => speed::one(&PathBuf::from(model)),
        ["quantisation"] => quantisation::table(),
        ["tasks"] => tasks::table(),
        ["agreement", data, folders @ ..] if !folders.is_empty() => {
            agreement::table(&PathBuf::from(data), folders)
        }
        ["systems", data, users, folders @ ..] if users.parse::<usize>().is_ok() => {
            systems::table(&PathBuf::from(data), users.parse().unwrap_or_default(), folders)
        }
        _ => {
            eprintln!(
                "usage: bench speed | quantisation | tasks | agreement DATA FOLDER... | \
                 systems DATA USERS FOLDER..."
            );
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where random models are kept.
fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))
}

/// The middle of the measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
