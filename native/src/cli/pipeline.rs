//! `pipeline`: commands of this program one after another, each skipped when what it wrote is there
//! and what it reads is unchanged.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tributary_core::digest::hex;
use tributary_core::{Context, Error, Result};

use super::arguments::PipelineArguments;
use super::{Cli, Command, Report};
use crate::device::Device;
use crate::files::{map, read_text, write_atomically};

/// Largest pipeline file and largest record of one.
const MAX_BYTES: usize = 1 << 20;

/// A pipeline file; its paths are relative to where the program runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipeline {
    /// Where it is kept what was done.
    record: PathBuf,
    stage: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    command: Words,
    /// Files and folders it reads.
    #[serde(default)]
    reads: Vec<PathBuf>,
    /// Files and folders it writes.
    writes: Vec<PathBuf>,
}

/// A command line of this program: its words between blanks, or a list of words that may hold some.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a command line, or a list of its words")]
enum Words {
    Line(String),
    List(Vec<String>),
}

impl Words {
    fn get(&self) -> Vec<&str> {
        match self {
            Self::Line(line) => line.split_whitespace().collect(),
            Self::List(words) => words.iter().map(String::as_str).collect(),
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line),
            Self::List(words) => write!(f, "{words:?}"),
        }
    }
}

/// What is known of a stage that began.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Done {
    /// Of the command and of what it reads.
    inputs: String,
    /// Of what it wrote; none while it runs.
    outputs: Option<String>,
    seconds: f64,
}

/// `device` is that of the stages that name none.
#[expect(clippy::print_stderr, reason = "how far a command of many minutes is")]
pub(super) fn pipeline(arguments: &PipelineArguments, device: Device) -> Result<Report> {
    let file = arguments.file.display().to_string();
    let text = read_text(&arguments.file, &file, MAX_BYTES)?;
    let pipeline: Pipeline =
        toml::from_str(&text).map_err(|e| Error::file(&file, "content", "stages", e.message()))?;
    // The last stage's command is read before the first stage takes its half hour.
    let mut names = HashSet::new();
    for stage in &pipeline.stage {
        stage.parse(false)?;
        if !names.insert(&stage.name) {
            let field = format!("stage {}: name", stage.name);
            return Err(Error::file(&file, field, "a name of its own", "that of another stage"));
        }
    }
    let mut record = Record::read(&pipeline.record)?;
    let (mut stages, mut text) = (Vec::new(), String::new());
    for (stage, place) in pipeline.stage.iter().zip(1..) {
        let inputs = stage.inputs().at(|| format!("stage {}", stage.name))?;
        let before = record.stages.remove(&stage.name).filter(|done| done.inputs == inputs);
        let is_done = match &before {
            Some(Done { outputs: Some(outputs), .. }) => {
                stage.outputs().is_ok_and(|found| found == *outputs)
            }
            _ => false,
        };
        let line = |what: &dyn fmt::Display| {
            format!("{place}/{}: {}: {what}", pipeline.stage.len(), stage.name)
        };
        let done = match before {
            Some(done) if is_done => {
                tracing::info!("{}", line(&"unchanged"));
                text += &format!("{}\n", line(&"unchanged, skipped"));
                done
            }
            unfinished => {
                eprintln!("{}", line(&stage.command)); // Progress; stdout is the report's alone.
                let started = std::time::Instant::now();
                let earlier = unfinished.as_ref().map_or(0.0, |done| done.seconds);
                let resumes = unfinished.is_some_and(|done| done.outputs.is_none());
                record.set(&stage.name, Done { inputs: inputs.clone(), ..Done::default() })?;
                let mut cli = stage.parse(resumes)?;
                if cli.device == Device::default() {
                    cli.device = device;
                }
                let report = super::run(&cli).at(|| format!("stage {}", stage.name))?;
                let seconds = earlier + started.elapsed().as_secs_f64();
                let outputs = Some(stage.outputs().at(|| format!("stage {}", stage.name))?);
                eprint!("{}", super::printable(&report.text));
                text += &format!("{}\n", line(&format_args!("{seconds:.1} s")));
                Done { inputs, outputs, seconds }
            }
        };
        stages.push(json!({"name": stage.name, "skipped": is_done, "seconds": done.seconds}));
        record.set(&stage.name, done)?;
    }
    Ok(Report { json: json!({"stages": stages}), text })
}

impl Stage {
    fn parse(&self, resumes: bool) -> Result<Cli> {
        let words = self.command.get();
        // Only training leaves something to go on from.
        let resume = (resumes && words.first() == Some(&"train")).then_some("--resume");
        let words = ["tributary"].into_iter().chain(words).chain(resume);
        let refused = |found: &dyn fmt::Display| {
            let field = format!("stage {}: command", self.name);
            Error::file("pipeline", field, "a command of this program", found)
        };
        if let Words::Line(line) = &self.command
            && line.contains(['"', '\''])
        {
            return Err(refused(&"quotes; `command = [\"prepare\", ...]` has words with blanks"));
        }
        match Cli::try_parse_from(words) {
            Ok(Cli { command: Command::Pipeline(_), .. }) => Err(refused(&"another pipeline")),
            parsed => parsed.map_err(|error| refused(&error)),
        }
    }

    fn inputs(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(self.command.to_string());
        digest(&self.reads, hash)
    }

    fn outputs(&self) -> Result<String> {
        digest(&self.writes, Sha256::new())
    }
}

/// What was done, kept in a file.
struct Record {
    path: PathBuf,
    stages: BTreeMap<String, Done>,
}

impl Record {
    fn read(path: &Path) -> Result<Self> {
        let stages = match path.is_file() {
            false => BTreeMap::new(),
            true => {
                let name = path.display().to_string();
                let text = read_text(path, &name, MAX_BYTES)?;
                let expected = "the record of a pipeline; without this file all stages run again";
                serde_json::from_str(&text)
                    .map_err(|e| Error::file(&name, "content", expected, e))?
            }
        };
        Ok(Self { path: path.to_owned(), stages })
    }

    fn set(&mut self, name: &str, done: Done) -> Result<()> {
        self.stages.insert(name.to_owned(), done);
        let io = |e| Error::io(self.path.display(), e);
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let text = serde_json::to_string_pretty(&self.stages);
        let text = text.map_err(|e| Error::Internal(e.to_string()))?;
        write_atomically(&self.path, text.as_bytes())
    }
}

/// Names and contents of files, of folders with all that is in them, in hexadecimal.
fn digest(paths: &[PathBuf], mut hash: Sha256) -> Result<String> {
    let mut waiting: Vec<PathBuf> = paths.iter().rev().cloned().collect();
    while let Some(path) = waiting.pop() {
        let io = |e| Error::io(path.display(), e);
        hash.update(path.display().to_string());
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).map_err(io)?;
            let mut inside: Vec<_> = entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<_>>()
                .map_err(io)?;
            inside.sort_unstable_by(|a, b| b.cmp(a));
            waiting.extend(inside);
        } else {
            hash.update(map(&path)?);
        }
    }
    Ok(hex(&hash.finalize()))
}
