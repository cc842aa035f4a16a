//! The command line. Each command is a function from its arguments to a [`Report`]; printing
//! happens in one place.

mod arguments;
mod caption;
mod clip_score;
mod compare;
mod demo;
mod embed;
mod evaluate;
mod inspect;
mod language;
mod pairs;
mod pipeline;
mod recommend;
mod summarize;
#[cfg(feature = "train")]
mod train;
mod transform;

use std::io::{self, IsTerminal, Write};

pub use arguments::Cli;
use arguments::Command;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tributary_core::Result;

/// A command's answer, for machines and for people.
#[derive(Debug)]
pub struct Report {
    /// One JSON object: what `--json` prints.
    pub json: Value,
    /// What a terminal shows.
    pub text: String,
}

/// Prints an answer, or a piece of one.
///
/// # Errors
/// Standard output is closed or full.
pub fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// `text` without what would steer a terminal: titles and messages may come from anybody's files.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Runs the command of a parsed command line.
///
/// # Errors
/// Whatever the command could not do.
pub fn run(cli: &Cli) -> Result<Report> {
    let device = cli.device;
    match &cli.command {
        Command::Demo(arguments) => demo::demo(arguments, device),
        Command::Recommend(arguments) => recommend::recommend(arguments, device),
        Command::Evaluate(arguments) => match &arguments.compare {
            Some(runs) => compare::run(arguments, runs),
            None => evaluate::evaluate(arguments, device),
        },
        #[cfg(feature = "train")]
        Command::Train(arguments) => train::train(arguments),
        Command::Pipeline(arguments) => pipeline::pipeline(arguments, device),
        Command::Prepare(arguments) => transform::prepare(arguments),
        Command::Quantize(arguments) => transform::quantize(arguments),
        Command::Merge(arguments) => transform::merge(arguments),
        Command::Embed(arguments) => embed::embed(arguments, device),
        Command::Caption(arguments) => caption::caption(arguments, device),
        Command::ClipScore(arguments) => clip_score::run(arguments, device),
        Command::Summarize(arguments) => summarize::run(arguments, device),
        Command::Generate(arguments) => language::generate(arguments, device, cli.json),
        Command::Logits(arguments) => language::logits(arguments, device),
        Command::Score(arguments) => language::score(arguments, device),
        Command::Inspect(arguments) => inspect::inspect(arguments),
        Command::Devices => inspect::devices(),
    }
}

/// A progress bar on stderr; hidden where stderr is no terminal.
fn progress_bar(total: u64, unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = format!("{{msg}} {{bar:32}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}
