//! Training TMF (arXiv 2410.12228, sections 4.2 and 4.3): a language model, by LoRA or whole, and
//! the fusion with its adaptors, together, on hybrid prompts of rising complexity.
//!
//! The same run makes a base model for machines without a pretrained one: no `model.language`, the
//! task `text` alone, everything trainable, and the catalogue's own text among the lessons.

mod batch;
mod curriculum;
mod lessons;
mod modalities;
mod objective;
mod output;
mod soft_start;
mod texts;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tributary_core::models::fusion::FusionConfig;
use tributary_core::prompt::{Level, MAX_TEMPLATE_BYTES, PromptOptions, Template};
use tributary_core::session::Likelihood;
use tributary_core::{Context, Error, Result};

use super::config::{self, FitConfig, TrainingConfig};
use super::language::{AdapterOptions, Language, LanguageOptions, TITLES};
use super::optimizer::OptimizerConfig;
use super::progress::Event;
use super::schedule::Schedule;
use super::trainer::{FitOptions, TrainReport, fit};
use crate::burn_backend::{Burn, BurnOptions, Trainable};
use crate::data::{Dataset, SplitRule};
use crate::files::read_text;
pub use curriculum::CurriculumConfig;
use lessons::Lessons;
use modalities::{BEHAVIOUR_TABLE, FUSION, Modalities};
use objective::TmfObjective;
use tributary_core::recommend::TEMPLATE;

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmfModelConfig {
    /// `tmf`.
    pub kind: TmfKind,
    /// The hardest task of the curriculum, and the one that is served.
    #[serde(default)]
    pub level: Level,
    /// A folder with a language model and its tokenizer; without one a new one is made by
    /// `[language]`.
    pub language: Option<PathBuf>,
    /// Prompts and answers.
    #[serde(default)]
    pub prompt: PromptOptions,
    /// What a candidate's score is, when serving and in the loss of a choice.
    #[serde(default)]
    pub likelihood: Likelihood,
    /// A template file; the library's own wordings where the file is silent.
    pub template: Option<PathBuf>,
}

/// What a configuration file of this form trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TmfKind {
    /// Triple Modality Fusion.
    Tmf,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmfDataConfig {
    /// A prepared folder; relative to the folder of the configuration file, like all paths here.
    pub path: PathBuf,
    /// The behaviour that is predicted.
    #[serde(default = "target_behaviour")]
    pub target_behaviour: String,
    /// Behaviours that training asks for, the target among them; the target alone where silent.
    #[serde(default)]
    pub asked_behaviours: Vec<String>,
    /// Items to choose among, the right one included.
    #[serde(default = "num_candidates")]
    pub num_candidates: usize,
    /// Train on the first so many users; all where the file is silent.
    pub users: Option<usize>,
    /// Validate on the first so many users; 200 where the file is silent.
    #[serde(default = "validation_users")]
    pub validation_users: usize,
    /// Of a model that points, the share of the prompts that list their candidates and end with an
    /// answer. Ranking reads no list; a free answer does.
    #[serde(default = "listed")]
    pub listed: f64,
    /// Share of the items that a step sees without their place in the graph, as an item is that is
    /// added later: its picture and its text must do.
    #[serde(default)]
    pub cold: f64,
    /// Learn the words of the prompts too, not of their answers alone: how a base model comes to
    /// know names and what follows what in a history. Eq. 9 is about answers alone.
    #[serde(default)]
    pub learn_prompts: bool,
    /// Learn from the questions; a base model may leave them out and read the other lessons alone.
    #[serde(default = "questions")]
    pub questions: bool,
    /// How often each line of the catalogue is a lesson of its own per epoch; 0: never.
    #[serde(default)]
    pub catalogue_lessons: usize,
    /// How often each user's whole history is a lesson of its own per epoch, every event to be told
    /// from those before it: many answers for the price of one prompt.
    #[serde(default)]
    pub stories: usize,
    /// Lists of names per epoch, each name twice in an order drawn anew: half of a list can be told
    /// from what stands before, which is what answering by a name of the prompt takes.
    #[serde(default)]
    pub name_lists: usize,
    /// Terms under which what is trained from this data may be used.
    pub licence: Option<String>,
}

fn target_behaviour() -> String {
    "buy".into()
}
fn listed() -> f64 {
    0.25
}
fn questions() -> bool {
    true
}
fn num_candidates() -> usize {
    11
}
fn validation_users() -> usize {
    200
}

/// `[tables]`: embeddings in catalogue order, as `tributary embed` and the graph encoders write
/// them. A modality without a table is not used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TablesConfig {
    /// Pictures.
    pub image: Option<PathBuf>,
    /// Texts.
    pub text: Option<PathBuf>,
    /// Items and behaviours of the graph.
    pub graph: Option<PathBuf>,
}

/// `[fusion]`: the fields of `fusion.json` that the tables and the language model do not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FusionOptions {
    /// A folder that training wrote, whose fusion this one begins with; a new one where silent.
    pub from: Option<PathBuf>,
    /// See [`FusionConfig`], like the others.
    pub modality_size: usize,
    /// Width inside the adaptors.
    pub intermediate_size: usize,
    /// Heads of every attention.
    pub num_attention_heads: usize,
    /// AMSA.
    pub amsa: bool,
    /// CMA.
    pub cma: bool,
    /// An item sees earlier ones only.
    pub causal: bool,
    /// Attention adds to its query.
    pub residual: bool,
    /// Each modality passes an RMS norm first.
    pub normalize: bool,
    /// In a history, what was done to an item adds to its token.
    pub events: bool,
}

impl Default for FusionOptions {
    fn default() -> Self {
        Self {
            from: None,
            modality_size: 64,
            intermediate_size: 256,
            num_attention_heads: 4,
            amsa: true,
            cma: true,
            causal: true,
            residual: true,
            normalize: true,
            events: true,
        }
    }
}

/// `[loss]`: what a question costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Times the cross-entropy of every token of the answer, Eq. 9.
    pub answer: f32,
    /// Times -log softmax of the scores of all candidates, at the right one: what makes the names'
    /// likelihoods, which rank when serving, tell the candidates from each other. Not in the paper.
    pub choice: f32,
    /// Of a model that points: times the same at every item of the history but the first that the
    /// behaviour asked for was done to, among the item and the question's wrong candidates: many
    /// choices for the price of one prompt.
    pub history: f32,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { answer: 1.0, choice: 0.0, history: 0.0 }
    }
}

/// A training configuration file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmfTrainConfig {
    /// `[model]`.
    pub model: TmfModelConfig,
    /// `[language]`: a new language model.
    #[serde(default)]
    pub language: LanguageOptions,
    /// `[adapter]`: a LoRA or QLoRA on the language model; without it all of it is trained.
    pub adapter: Option<AdapterOptions>,
    /// `[fusion]`.
    #[serde(default)]
    pub fusion: FusionOptions,
    /// `[tables]`.
    #[serde(default)]
    pub tables: TablesConfig,
    /// `[curriculum]`.
    #[serde(default)]
    pub curriculum: CurriculumConfig,
    /// `[loss]`.
    #[serde(default)]
    pub loss: LossConfig,
    /// `[data]`.
    pub data: TmfDataConfig,
    /// `[training]`.
    #[serde(default)]
    pub training: TrainingConfig,
    /// `[optimizer]`.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// `[schedule]`.
    #[serde(default)]
    pub schedule: Schedule,
}

impl TmfTrainConfig {
    /// From the `text` of a configuration file at `path`.
    ///
    /// # Errors
    /// The first unknown key, missing key or wrong type, with its line.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        if let Some(folder) = path.parent() {
            let Self { model, data, tables, fusion, .. } = &mut config;
            let paths = [&mut model.language, &mut model.template, &mut fusion.from];
            let tables = [&mut tables.image, &mut tables.text, &mut tables.graph];
            for path in paths.into_iter().chain(tables).flatten().chain([&mut data.path]) {
                *path = folder.join(&path);
            }
        }
        Ok(config)
    }

    fn check(&self) -> Result<FitConfig> {
        let fit = FitConfig::checked(&self.training, &self.optimizer, &self.schedule)?;
        fit.metric_k()?;
        self.curriculum.check()?;
        let wrong = |field, expected, found: String| {
            Err(Error::file("configuration", field, expected, found))
        };
        if self.data.num_candidates < 2 {
            return wrong(
                "data.num_candidates",
                "at least 2",
                self.data.num_candidates.to_string(),
            );
        }
        for (field, share) in [("data.listed", self.data.listed), ("data.cold", self.data.cold)] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(field, "0 to 1", share.to_string());
            }
        }
        let LossConfig { answer, choice, history } = self.loss;
        if ![answer, choice, history].iter().all(|weight| (0.0..=1e6).contains(weight)) {
            return wrong("loss", "weights of 0 to 1e6", format!("{:?}", self.loss));
        }
        if self.model.prompt.pointer && choice == 0.0 {
            let expected = "a loss.choice above 0, which is what pointing is learned by";
            return wrong("model.prompt.pointer", expected, "0".into());
        }
        if choice > 0.0 && self.model.likelihood == Likelihood::Constrained {
            return wrong("model.likelihood", "sum or mean, for a choice", "constrained".into());
        }
        AdapterOptions::check(self.adapter.as_ref(), self.model.language.as_deref())?;
        Ok(fit)
    }

    /// The wordings, each with the text of its file.
    fn templates(&self) -> Result<Vec<(String, Template)>> {
        let sources = match &self.model.template {
            None => Template::SOURCES.map(|(file, text)| (file.to_owned(), text.to_owned())).into(),
            Some(path) => {
                let text = read_text(path, TEMPLATE, MAX_TEMPLATE_BYTES)?;
                vec![(config::file_name(path), text)]
            }
        };
        let parsed = |(file, text): (String, String)| {
            let template = Template::parse(&file, &text)?;
            Ok((text, template))
        };
        sources.into_iter().map(parsed).collect()
    }

    /// The fusion of these tables into a language model of this width; `None` for prompts of text.
    fn fusion(&self, modalities: &Modalities, hidden_size: usize) -> Result<Option<FusionConfig>> {
        if self.model.level == Level::Text {
            return Ok(None);
        }
        let FusionOptions { modality_size, intermediate_size, num_attention_heads, .. } =
            self.fusion.clone();
        let [image_size, text_size, graph_size] = modalities.widths();
        let config = FusionConfig {
            image_size,
            text_size,
            graph_size,
            behaviour_size: modalities.behaviour_size(),
            modality_size,
            hidden_size,
            intermediate_size,
            num_attention_heads,
            amsa: self.fusion.amsa,
            // CMA asks pictures and texts; where one is left out, there is nothing to ask.
            cma: self.fusion.cma && image_size > 0 && text_size > 0,
            causal: self.fusion.causal,
            residual: self.fusion.residual,
            normalize: self.fusion.normalize,
            events: self.fusion.events && modalities.behaviour_size() > 0,
        };
        config.check().at(|| "configuration: [fusion]")?;
        Ok(Some(config))
    }
}

/// Trains what `config` describes; see [`fit`] for how it resumes. `options.out` becomes a folder
/// that serves: the language model with what it learned folded in, its tokenizer, the fusion, the
/// tables, the catalogue, the template and `tmf.json`. The run itself, with checkpoint and curve,
/// is in its subfolder `run`, and the adapter under PEFT's names in `adapter`.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; files that cannot be read or do
/// not fit each other.
pub fn run(
    config: &TmfTrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    let fit_config = config.check()?;
    let mut dataset = Dataset::read(&config.data.path)?;
    if dataset.split != SplitRule::Given {
        dataset.hold_out(&config.data.target_behaviour)?;
    }
    let lessons = Lessons::new(&dataset, &config.data)?;
    let modalities = match config.model.level {
        Level::Text => Modalities::default(),
        _ => Modalities::read(&config.tables, &dataset, &config.data.path)?,
    };
    let templates = config.templates()?;
    let language = Language::open(
        config.model.language.as_deref(),
        &config.language,
        config.adapter.as_ref(),
        u64::from(config.training.seed),
        || vocabulary_texts(&dataset, &templates),
    )?;
    let fusion = config.fusion(&modalities, language.config()?.hidden_size)?;

    let seed = u64::from(config.training.seed);
    let whole = config.adapter.is_none();
    let trainable = Trainable::Named(std::sync::Arc::new(move |name: &str| {
        name != BEHAVIOUR_TABLE && (whole || name.contains(".lora_") || name.starts_with(FUSION))
    }));
    let burn = BurnOptions { trainable, seed, ..BurnOptions::default() };
    let burn = AdapterOptions::train_with(config.adapter.as_ref(), burn);
    let b = Burn::new(config.training.device, burn)?;
    let model = language.load(&b, seed)?;
    if language.is_new() {
        let gathers = config.model.prompt.pointer.then_some(config.model.level);
        super::induction::prepare(&b, model.config(), gathers, seed)?;
    }
    let objective = TmfObjective::new(
        &b,
        config,
        &lessons,
        objective::Parts {
            model,
            language: &language,
            modalities,
            fusion,
            templates,
            metric_k: fit_config.metric_k()?,
        },
    )?;
    let identity = identity(config, &dataset, &language)?;
    let run = FitOptions { out: options.out.join("run"), ..options.clone() };
    let report = fit(&b, &objective, &fit_config, identity, &run, progress)?;
    output::write_folder(&options.out, config, &language, &objective, &report)?;
    Ok(report)
}

/// What a new vocabulary is learned from: the catalogue, and the words of the prompts, which are as
/// frequent as its titles.
fn vocabulary_texts(dataset: &Dataset, templates: &[(String, Template)]) -> Vec<String> {
    let mut texts = Vec::new();
    for item in dataset.catalogue.items() {
        // A title stands behind a space in every prompt, a description in none.
        texts.extend(std::iter::repeat_n(format!(" {}", item.title), TITLES));
        texts.extend(item.description.clone());
        for (text, template) in templates {
            texts.push(text.clone());
            let words = dataset.behaviours.iter().filter_map(|b| template.behaviours.get(b));
            let words = words.flat_map(|words| [&words.history, &words.target]);
            texts.extend(words.map(|word| format!(" {word}")));
        }
    }
    texts
}

/// What decides the weights besides the trainer's own configuration.
fn identity(
    config: &TmfTrainConfig,
    dataset: &Dataset,
    language: &Language,
) -> Result<toml::Table> {
    let mut hash = Sha256::new();
    dataset.digest(&mut hash);
    language.digest(&mut hash);
    let tables = [&config.tables.image, &config.tables.text, &config.tables.graph];
    for path in tables.into_iter().flatten() {
        hash.update(std::fs::read(path).map_err(|e| Error::io(path.display(), e))?);
    }
    let mut identity = config::identity(&config.model, &config.data, hash)?;
    for (name, part) in [
        ("language", config::table(&config.language)?),
        ("fusion", config::table(&config.fusion)?),
        ("curriculum", config::table(&config.curriculum)?),
        ("loss", config::table(&config.loss)?),
    ] {
        identity.insert(name.into(), part.into());
    }
    if let Some(adapter) = &config.adapter {
        identity.insert("adapter".into(), config::table(adapter)?.into());
    }
    Ok(identity)
}
