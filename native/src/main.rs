//! The `tributary` program: parses, runs, prints.
#![expect(clippy::print_stderr, reason = "a program prints its errors")]

use std::io::{ErrorKind, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tributary::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    // Inside the pool, because handing work over from outside costs a wake-up each time: decoding
    // is a fifth faster. Stacks are as large as a main thread's.
    if let Err(error) = rayon::ThreadPoolBuilder::new().stack_size(8 << 20).build_global() {
        tracing::warn!("threads: {error}");
    }
    let outcome = match rayon::scope(|_| cli::run(&cli)) {
        Ok(report) if cli.json => shown(&format!("{}\n", report.json)),
        Ok(report) => shown(&cli::printable(&report.text)),
        // An error's text holds its whole chain, place by place.
        Err(error) => Err(error.to_string()),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("error: {}", cli::printable(&error)); // What a program says when it fails.
    ExitCode::FAILURE
}

fn shown(text: &str) -> Result<(), String> {
    match cli::show(text) {
        // A reader that has seen enough, as `head` has.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(|error| format!("standard output: {error}")),
    }
}
