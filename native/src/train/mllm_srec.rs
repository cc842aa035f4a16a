//! Supervised tuning of MLLM-SRec: a language model, by LoRA or whole, learns to say yes to what users
//! liked next and no to what they did not, one for one, behind the prompts that serve.
//!
//! Without a pretrained model a new one is made, which must learn to write the chain's summaries, too:
//! its references are written by rule ([`RuleSummaries`]). The same rule gives every item of the written
//! catalogue that has no summary its own.

mod lessons;
mod objective;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_core::prompt::{ChainOptions, ChainTemplate, MAX_TEMPLATE_BYTES, template_json};
use tributary_core::recommend::{Catalogue, MLLM_SREC_CONFIG, MllmSrecConfig, TEMPLATE};
use tributary_core::{Error, Result};

use super::config::{self, FitConfig, TrainingConfig};
use super::induction;
use super::language::{AdapterOptions, Language, LanguageOptions, TITLES};
use super::optimizer::OptimizerConfig;
use super::progress::Event;
use super::retriever::retriever_files;
use super::schedule::Schedule;
use super::sequence::digest;
use super::trainer::{FitOptions, TrainReport, fit};
use crate::burn_backend::{Burn, BurnOptions, Trainable};
use crate::caption::Captions;
use crate::data::{CATALOGUE_FILE, Dataset, SplitRule};
use crate::evaluate::Negatives;
use crate::files::write_atomically;
use crate::files::{self, read_text};
use crate::summary::{self, RuleSummaries};
use lessons::Lessons;
use objective::MllmSrecObjective;

/// The validation metric there is.
const METRIC: &str = "auc";
/// Captions and descriptions that a vocabulary is learned from at most.
const MAX_TEXTS: usize = 20_000;
/// Copies of each piece of the wording: what stands in every prompt should be few tokens.
const WORDINGS: usize = 512;

/// What a configuration file of this form trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MllmSrecKind {
    /// MLLM-SRec.
    MllmSrec,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllmSrecModelConfig {
    /// `mllm_srec`.
    pub kind: MllmSrecKind,
    /// A folder of a sequence recommender trained on the same items, which finds candidates.
    pub retriever: PathBuf,
    /// A folder with a language model; a new one, of `[language]`, where the file is silent.
    pub language: Option<PathBuf>,
    /// A template file; the library's own wording where the file is silent.
    pub template: Option<PathBuf>,
    /// Captions of the items' pictures, as `tributary caption` writes them; those of the catalogue
    /// where silent.
    pub captions: Option<PathBuf>,
    /// The chain, its windows and lengths.
    #[serde(default)]
    pub prompt: ChainOptions,
    /// Candidates that the model is asked about.
    #[serde(default = "max_candidates")]
    pub max_candidates: usize,
    /// Of these, places for items that the retriever does not know.
    #[serde(default)]
    pub cold_candidates: usize,
}

fn max_candidates() -> usize {
    MllmSrecConfig::default().max_candidates
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllmSrecDataConfig {
    /// A prepared folder; relative to the folder of the configuration file, like all paths here.
    pub path: PathBuf,
    /// What is predicted, and what a history is made of; without it every interaction is one.
    pub target_behaviour: Option<String>,
    /// What is answered with no: `random`, or a behaviour.
    #[serde(default)]
    pub negatives: Negatives,
    /// Prompts per user and epoch, at places that are drawn anew each time.
    #[serde(default = "prompts_per_user")]
    pub prompts_per_user: usize,
    /// Items that a prompt is asked about and that came next, each with a negative: many answers for
    /// the price of one prompt. The paper asks about one.
    #[serde(default = "targets")]
    pub targets: usize,
    /// How often each item's summary is a lesson of its own per epoch; 0: never.
    #[serde(default)]
    pub item_lessons: usize,
    /// Validate on the first so many users.
    #[serde(default = "validation_users")]
    pub validation_users: usize,
    /// Terms under which what is trained from this data may be used.
    pub licence: Option<String>,
}

fn prompts_per_user() -> usize {
    4
}
fn targets() -> usize {
    1
}
fn validation_users() -> usize {
    200
}

/// Which tokens are learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Yes, no, and the summaries.
    #[default]
    Answer,
    /// Every token of the prompts as well, as Eq. 3 and MLLM-MSR's code have it.
    Prompt,
}

/// `[loss]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MllmSrecLossConfig {
    /// `answer` or `prompt`.
    pub on: LossOn,
    /// Times the loss of every token that is not yes or no.
    pub text: f32,
}

impl Default for MllmSrecLossConfig {
    fn default() -> Self {
        Self { on: LossOn::default(), text: 0.1 }
    }
}

/// A training configuration file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllmSrecTrainConfig {
    /// `[model]`.
    pub model: MllmSrecModelConfig,
    /// `[language]`: sizes of a new language model.
    #[serde(default)]
    pub language: LanguageOptions,
    /// `[adapter]`: LoRA on a language model that was opened; all of it is trained where absent.
    pub adapter: Option<AdapterOptions>,
    /// `[loss]`.
    #[serde(default)]
    pub loss: MllmSrecLossConfig,
    /// `[data]`.
    pub data: MllmSrecDataConfig,
    /// `[training]`; its metric is `auc`.
    #[serde(default)]
    pub training: TrainingConfig,
    /// `[optimizer]`.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// `[schedule]`.
    #[serde(default)]
    pub schedule: Schedule,
}

impl MllmSrecTrainConfig {
    /// Reads the `text` of the configuration file at `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        if let Some(folder) = path.parent() {
            let MllmSrecModelConfig { retriever, language, template, captions, .. } =
                &mut config.model;
            let optional = [language, template, captions].into_iter().flatten();
            for path in optional.chain([retriever, &mut config.data.path]) {
                *path = folder.join(&path);
            }
        }
        Ok(config)
    }

    fn check(&self) -> Result<FitConfig> {
        let fit = FitConfig::checked(&self.training, &self.optimizer, &self.schedule)?;
        let wrong = |field, expected: &str, found: &dyn std::fmt::Display| {
            Err(Error::file("configuration", field, expected, found))
        };
        if self.training.metric != METRIC {
            return wrong("training.metric", METRIC, &self.training.metric);
        }
        if self.data.prompts_per_user == 0 || self.data.targets == 0 {
            return wrong("data.prompts_per_user, data.targets", "at least 1", &0);
        }
        if !(0.0..=1e6).contains(&self.loss.text) {
            return wrong("loss.text", "0 to 1e6", &self.loss.text);
        }
        AdapterOptions::check(self.adapter.as_ref(), self.model.language.as_deref())?;
        Ok(fit)
    }

    fn template(&self) -> Result<(String, ChainTemplate)> {
        let (file, text) = match &self.model.template {
            None => (ChainTemplate::SOURCE.0.to_owned(), ChainTemplate::SOURCE.1.to_owned()),
            Some(path) => (config::file_name(path), read_text(path, TEMPLATE, MAX_TEMPLATE_BYTES)?),
        };
        let template = ChainTemplate::parse(&file, &text)?;
        Ok((text, template))
    }

    /// How the trained model is served.
    fn served(&self, language: &Language) -> Result<MllmSrecConfig> {
        let (bos_token_id, end_token_id) = language.special_tokens()?;
        let config = MllmSrecConfig {
            prompt: ChainOptions { bos_token_id, end_token_id, ..self.model.prompt.clone() },
            behaviours: self.data.target_behaviour.iter().cloned().collect(),
            max_candidates: self.model.max_candidates,
            cold_candidates: self.model.cold_candidates,
            ..MllmSrecConfig::default()
        };
        config.check("configuration")?;
        Ok(config)
    }
}

/// Trains what `config` describes; see [`fit`] for how it resumes. `options.out` becomes a folder that
/// serves; the run itself, with checkpoint and curve, is in its subfolder `run`.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; files that cannot be read or do
/// not fit each other.
pub fn run(
    config: &MllmSrecTrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    let fit_config = config.check()?;
    let mut dataset = Dataset::read(&config.data.path)?;
    if let (Some(behaviour), true) =
        (&config.data.target_behaviour, dataset.split != SplitRule::Given)
    {
        dataset.hold_out(behaviour)?;
    }
    let retriever = retriever_files(&config.model.retriever, &dataset)?;
    let catalogue = catalogue(config, &dataset)?;
    let (template_text, template) = config.template()?;
    let seed = u64::from(config.training.seed);
    let language = Language::open(
        config.model.language.as_deref(),
        &config.language,
        config.adapter.as_ref(),
        seed,
        || vocabulary_texts(&catalogue, &template),
    )?;
    let whole = config.adapter.is_none();
    let trainable = Trainable::Named(Arc::new(move |name: &str| whole || name.contains(".lora_")));
    let b = Burn::new(
        config.training.device,
        BurnOptions { trainable, seed, ..BurnOptions::default() },
    )?;
    let model = language.load(&b, seed)?;
    if language.is_new() {
        induction::prepare(&b, model.config(), None, seed)?;
    }
    let mut hash = digest(&dataset);
    language.digest(&mut hash);
    sha2::Digest::update(&mut hash, catalogue.to_jsonl()?);
    let mut identity = config::identity(&config.model, &config.data, hash)?;
    identity.insert("language".into(), config::table(&config.language)?.into());
    identity.insert("loss".into(), config::table(&config.loss)?.into());
    if let Some(adapter) = &config.adapter {
        identity.insert("adapter".into(), config::table(adapter)?.into());
    }
    let lessons = Lessons::new(&dataset, &config.data, catalogue)?;
    let served = config.served(&language)?;
    let objective = MllmSrecObjective::new(config, lessons, &language, model, template, served)?;
    let run = FitOptions { out: options.out.join("run"), ..options.clone() };
    let report = fit(&b, &objective, &fit_config, identity, &run, progress)?;

    let out = &options.out;
    language.write(out, &files::open_checkpoint(&report.weights)?, |_| true)?;
    let text = |name: &str, bytes: &[u8]| write_atomically(&out.join(name), bytes);
    text(CATALOGUE_FILE, objective.catalogue().to_jsonl()?.as_bytes())?;
    text(TEMPLATE, template_json(TEMPLATE, &template_text)?.as_bytes())?;
    text(MLLM_SREC_CONFIG, objective.served().to_json()?.as_bytes())?;
    retriever.iter().try_for_each(|(name, bytes)| text(name, bytes))?;
    Ok(report)
}

/// The data's catalogue with captions, summaries by rule where nobody wrote any, and popularity.
fn catalogue(config: &MllmSrecTrainConfig, dataset: &Dataset) -> Result<Catalogue> {
    let captioned = match &config.model.captions {
        None => dataset.catalogue.clone(),
        Some(path) => {
            let mut catalogue = dataset.catalogue.clone();
            Captions::read(path)?.apply(&mut catalogue)?;
            catalogue
        }
    };
    let mut catalogue = summary::with_summaries(&captioned)?;
    catalogue.set_popularity(&dataset.popularity())?;
    Ok(catalogue)
}

/// What a new model's vocabulary is learned from.
fn vocabulary_texts(catalogue: &Catalogue, template: &ChainTemplate) -> Vec<String> {
    let titles = catalogue.items().iter().map(|item| format!(" {}", item.title));
    let mut texts: Vec<String> =
        titles.flat_map(|title| std::iter::repeat_n(title, TITLES)).collect();
    let summaries = catalogue.items().iter().filter_map(|item| item.summary.as_ref());
    texts.extend(summaries.take(MAX_TEXTS).map(|summary| format!(" {summary}")));
    let rules = RuleSummaries::new(catalogue);
    let windows = (0..catalogue.len() as u32).collect::<Vec<_>>();
    let preferences = windows.chunks(8).map(|window| rules.preference(window, None));
    texts.extend(preferences.take(MAX_TEXTS).map(|preference| format!(" {preference}")));
    let wording = template.texts().into_iter();
    texts.extend(wording.flat_map(|text| std::iter::repeat_n(text, WORDINGS)));
    texts
}
