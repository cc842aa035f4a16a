//! A training configuration of whichever kind: which reader, which trainer.

use std::path::Path;

use toml::{Table, Value};
use tributary_core::{Context, Error, Result};

use super::almost_rec::AlmostRecTrainConfig;
use super::clip::ClipTrainConfig;
use super::config::{TrainingConfig, file_name, parse, text};
use super::graph::GraphTrainConfig;
use super::mllm_srec::MllmSrecTrainConfig;
use super::mllm4rec::Mllm4RecTrainConfig;
use super::progress::Event;
use super::sequence::TrainConfig;
use super::tmf::TmfTrainConfig;
use super::trainer::{FitOptions, TrainReport};

/// A configuration file of any model that can be trained; `[model] kind` says which.
#[derive(Clone, Debug)]
pub enum AnyConfig {
    /// `sasrec`, `lru_rec`, `gru4rec`, `bpr`.
    Sequence(Box<TrainConfig>),
    /// `mbht`, `lightgcn`.
    Graph(Box<GraphTrainConfig>),
    /// `clip`.
    Clip(Box<ClipTrainConfig>),
    /// `tmf`.
    Tmf(Box<TmfTrainConfig>),
    /// `almostrec`.
    AlmostRec(Box<AlmostRecTrainConfig>),
    /// `mllm4rec`.
    Mllm4Rec(Box<Mllm4RecTrainConfig>),
    /// `mllm_srec`.
    MllmSrec(Box<MllmSrecTrainConfig>),
}

impl AnyConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// A file that cannot be read, a kind that is not known, and what the kind's own reader refuses.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &[])
    }

    /// [`AnyConfig::read`] with some keys set to other values: `training.seed=2`, values as TOML has
    /// them or bare words, a key removed where no value follows.
    ///
    /// # Errors
    /// Those of [`AnyConfig::read`]; a setting without a key.
    pub fn read_with(path: &Path, set: &[String]) -> Result<Self> {
        let read = Self::read_all(path, set);
        if read.is_ok() {
            return read;
        }
        // A line of the text with its settings is no line of the file: name the setting that broke it.
        let good = (0..set.len()).rev().find(|&n| Self::read_all(path, &set[..n]).is_ok());
        match good {
            Some(good) => read.at(|| format!("--set {}", set[good])),
            None => read,
        }
    }

    fn read_all(path: &Path, set: &[String]) -> Result<Self> {
        let text = text(path, set)?;
        let table: Table = parse(&file_name(path), &text)?;
        let kind = table.get("model").and_then(|model| model.get("kind")).and_then(Value::as_str);
        match kind {
            Some("mbht" | "lightgcn") => {
                Ok(Self::Graph(Box::new(GraphTrainConfig::parse(path, &text)?)))
            }
            Some("clip") => Ok(Self::Clip(Box::new(ClipTrainConfig::parse(path, &text)?))),
            Some("almostrec") => {
                Ok(Self::AlmostRec(Box::new(AlmostRecTrainConfig::parse(path, &text)?)))
            }
            Some("mllm4rec") => {
                Ok(Self::Mllm4Rec(Box::new(Mllm4RecTrainConfig::parse(path, &text)?)))
            }
            Some("mllm_srec") => {
                Ok(Self::MllmSrec(Box::new(MllmSrecTrainConfig::parse(path, &text)?)))
            }
            Some("tmf") => Ok(Self::Tmf(Box::new(TmfTrainConfig::parse(path, &text)?))),
            Some("sasrec" | "lru_rec" | "gru4rec" | "bpr") | None => {
                Ok(Self::Sequence(Box::new(TrainConfig::parse(path, &text)?)))
            }
            Some(found) => {
                let (file, supported) = (
                    file_name(path),
                    "sasrec, lru_rec, gru4rec, bpr, mbht, lightgcn, clip, tmf, almostrec, mllm4rec, \
                     mllm_srec"
                        .to_owned(),
                );
                let (field, found) = ("model.kind".to_owned(), found.to_owned());
                Err(Error::Unsupported { file, field, found, supported })
            }
        }
    }

    /// Trains what it describes; see [`super::fit`].
    ///
    /// # Errors
    /// Those of the kind's own `run`.
    pub fn run(
        &self,
        options: &FitOptions,
        progress: &mut dyn FnMut(&Event),
    ) -> Result<TrainReport> {
        match self {
            Self::Sequence(config) => super::sequence::run(config, options, progress),
            Self::Graph(config) => super::graph::run(config, options, progress),
            Self::Clip(config) => super::clip::run(config, options, progress).map(|r| r.fit),
            Self::Tmf(config) => super::tmf::run(config, options, progress),
            Self::AlmostRec(config) => super::almost_rec::run(config, options, progress),
            Self::Mllm4Rec(config) => super::mllm4rec::run(config, options, progress),
            Self::MllmSrec(config) => super::mllm_srec::run(config, options, progress),
        }
    }

    /// `[training]`.
    pub fn training(&self) -> &TrainingConfig {
        match self {
            Self::Sequence(config) => &config.training,
            Self::Graph(config) => &config.training,
            Self::Clip(config) => &config.training,
            Self::Tmf(config) => &config.training,
            Self::AlmostRec(config) => &config.training,
            Self::Mllm4Rec(config) => &config.training,
            Self::MllmSrec(config) => &config.training,
        }
    }

    /// Terms under which what is trained may be used, if `[data]` states them.
    pub fn licence(&self) -> Option<&str> {
        match self {
            Self::Sequence(config) => config.data.licence.as_deref(),
            Self::Graph(config) => config.data.licence.as_deref(),
            Self::Clip(_) => None,
            Self::Tmf(config) => config.data.licence.as_deref(),
            Self::AlmostRec(config) => config.data.licence.as_deref(),
            Self::Mllm4Rec(config) => config.data.licence.as_deref(),
            Self::MllmSrec(config) => config.data.licence.as_deref(),
        }
    }
}
