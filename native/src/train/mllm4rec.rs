//! Training MLLM4Rec's ranker: prompts that offer 20 items by letters, the loss on the letter and the
//! end behind it (LlamaRec, arXiv 2311.02089). The retriever was trained before.

mod objective;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::Digest;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::sequence::SequenceConfig;
use tributary_core::prompt::{LetterOptions, LetterPrompts, LetterTemplate, template_json};
use tributary_core::recommend::{
    Catalogue, MLLM4REC_CONFIG, Mllm4RecConfig, SequenceRecommender, TEMPLATE,
};
use tributary_core::weights::Weights;
use tributary_core::{Context, Error, Result};

use super::config::{self, FitConfig, TrainingConfig};
use super::induction;
use super::language::{AdapterOptions, Language, LanguageOptions, TITLES};
use super::optimizer::OptimizerConfig;
use super::progress::Event;
use super::retriever::retriever_files;
use super::schedule::Schedule;
use super::sequence::{DataConfig, check_items, digest};
use super::trainer::{FitOptions, TrainReport, fit};
use crate::burn_backend::{Burn, BurnOptions, Trainable};
use crate::caption::Captions;
use crate::data::{CATALOGUE_FILE, Dataset};
use crate::files;
use crate::files::write_atomically;
use objective::LetterObjective;

/// What a configuration file of this form trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mllm4RecKind {
    /// MLLM4Rec.
    Mllm4rec,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mllm4RecModelConfig {
    /// `mllm4rec`.
    pub kind: Mllm4RecKind,
    /// A folder of a sequence recommender trained on the same items.
    pub retriever: PathBuf,
    /// Captions of the items' pictures, as `tributary caption` writes them; those of the catalogue where
    /// silent.
    pub captions: Option<PathBuf>,
    /// The wording of the prompts; the library's own where silent.
    pub template: Option<PathBuf>,
    /// A folder with a language model; a new one, of `[language]`, where the file is silent.
    pub language: Option<PathBuf>,
    /// Places of a prompt that are kept for items the retriever does not know.
    #[serde(default)]
    pub cold_candidates: usize,
}

/// What a prompt of training offers besides the right item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negatives {
    /// Items drawn from those the user has not met: the paper's choice.
    #[default]
    Uniform,
    /// What the retriever ranks first, as when serving; examples whose right item it does not find are
    /// left out. A retriever knows what it was trained on better than what it will be asked.
    Retrieved,
}

/// `[examples]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExamplesConfig {
    /// What is offered besides the right item.
    pub negatives: Negatives,
    /// Whether candidates are shuffled; otherwise they stand in the retriever's order, drawn ones in the
    /// order drawn and the right one anywhere.
    pub shuffle: bool,
    /// Most examples of one user, the latest; every item after the first where silent. Of these the
    /// retriever's misses are left out, where it chooses the negatives.
    pub per_user: Option<usize>,
    /// Weight of the mean loss of the prompt's own tokens. The paper has none; a language model without
    /// pretraining learns from it what stands beside what.
    pub prompt_loss: f32,
}

impl Default for ExamplesConfig {
    fn default() -> Self {
        Self { negatives: Negatives::default(), shuffle: true, per_user: None, prompt_loss: 0.0 }
    }
}

/// A training configuration file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mllm4RecTrainConfig {
    /// `[model]`.
    pub model: Mllm4RecModelConfig,
    /// `[prompt]`: as it will be served; the special tokens are the language model's.
    #[serde(default)]
    pub prompt: LetterOptions,
    /// `[examples]`.
    #[serde(default)]
    pub examples: ExamplesConfig,
    /// `[language]`: sizes of a new language model.
    #[serde(default)]
    pub language: LanguageOptions,
    /// `[adapter]`: LoRA or QLoRA on a language model that was opened; all of it is trained where absent.
    pub adapter: Option<AdapterOptions>,
    /// `[data]`.
    pub data: DataConfig,
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

impl Mllm4RecTrainConfig {
    /// Reads the `text` of the configuration file at `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        AdapterOptions::check(config.adapter.as_ref(), config.model.language.as_deref())?;
        config.prompt.check("configuration")?;
        let weight = config.examples.prompt_loss;
        if !weight.is_finite() || weight < 0.0 {
            let expected = "a number that is not negative";
            return Err(Error::file("configuration", "examples.prompt_loss", expected, weight));
        }
        if let Some(folder) = path.parent() {
            let Mllm4RecModelConfig { retriever, captions, template, language, .. } =
                &mut config.model;
            let paths = [captions, template, language].into_iter().flatten();
            for path in paths.chain([retriever, &mut config.data.path]) {
                *path = folder.join(&path);
            }
        }
        Ok(config)
    }

    fn template(&self) -> Result<String> {
        match &self.model.template {
            None => Ok(LetterTemplate::SOURCE.1.to_owned()),
            Some(path) => std::fs::read_to_string(path).map_err(|e| Error::io(path.display(), e)),
        }
    }
}

/// Trains what `config` describes; see [`fit`] for how it resumes. `options.out` becomes a folder
/// that serves; the run itself, with checkpoint and curve, is in its subfolder `run`.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; files that cannot be read or do
/// not fit each other.
pub fn run(
    config: &Mllm4RecTrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    let Mllm4RecTrainConfig { model, data, training, .. } = config;
    let fit_config = FitConfig::checked(training, &config.optimizer, &config.schedule)?;
    let mut dataset = data.read(false)?;
    if let Some(path) = &model.captions {
        Captions::read(path)?.apply(&mut dataset.catalogue)?;
    }
    let popularity = dataset.popularity();
    dataset.catalogue.set_popularity(&popularity)?;
    let retriever = retriever(&model.retriever, &dataset)?;
    let template_toml = config.template()?;
    let template = LetterTemplate::parse(TEMPLATE, &template_toml)?;

    let seed = u64::from(training.seed);
    let language = Language::open(
        model.language.as_deref(),
        &config.language,
        config.adapter.as_ref(),
        seed,
        || vocabulary_texts(&dataset.catalogue, &config.prompt, &template_toml),
    )?;
    let (bos_token_id, end_token_id) = language.special_tokens()?;
    let served = Mllm4RecConfig {
        prompt: LetterOptions { bos_token_id, end_token_id, ..config.prompt.clone() },
        cold_candidates: model.cold_candidates,
    };
    served.check("configuration")?;
    let mut prompts =
        LetterPrompts::new(language.tokenizer.clone(), template, served.prompt.clone())?;
    for item in dataset.catalogue.items() {
        prompts.push(&item.title, item.id.as_str(), item.caption.as_deref());
    }

    let whole = config.adapter.is_none();
    let is_trained = move |name: &str| whole || name.contains(".lora_");
    let trainable = Trainable::Named(Arc::new(is_trained));
    let burn = BurnOptions { trainable, seed, ..BurnOptions::default() };
    let burn = AdapterOptions::train_with(config.adapter.as_ref(), burn);
    let b = Burn::new(training.device, burn)?;
    let llama = language.load(&b, seed)?;
    if language.is_new() {
        induction::prepare(&b, llama.config(), None, seed)?;
    }
    let objective = LetterObjective::new(config, &dataset, llama, prompts, retriever, &fit_config)?;

    let mut hash = digest(&dataset);
    language.digest(&mut hash);
    hash.update(dataset.catalogue.to_jsonl()?);
    hash.update(&template_toml);
    let mut identity = config::identity(model, data, hash)?;
    for (name, part) in [
        ("prompt", config::table(&config.prompt)?),
        ("examples", config::table(&config.examples)?),
        ("language", config::table(&config.language)?),
    ] {
        identity.insert(name.into(), part.into());
    }
    if let Some(adapter) = &config.adapter {
        identity.insert("adapter".into(), config::table(adapter)?.into());
    }
    let run = FitOptions { out: options.out.join("run"), ..options.clone() };
    let report = fit(&b, &objective, &fit_config, identity, &run, progress)?;

    let out = &options.out;
    language.write(out, &files::open_checkpoint(&report.weights)?, |_| true)?;
    let [(config_name, retriever_config), (weights_name, weights)] =
        retriever_files(&model.retriever, &dataset)?;
    for (name, bytes) in [
        (MLLM4REC_CONFIG, served.to_json()?.as_bytes()),
        (TEMPLATE, template_json(TEMPLATE, &template_toml)?.as_bytes()),
        (CATALOGUE_FILE, dataset.catalogue.to_jsonl()?.as_bytes()),
        (config_name, &retriever_config),
        (weights_name, &weights),
    ] {
        write_atomically(&out.join(name), bytes)?;
    }
    Ok(report)
}

/// The sequence recommender in the folder `path`, whose items are those of `dataset`.
fn retriever(path: &Path, dataset: &Dataset) -> Result<SequenceRecommender<Cpu>> {
    let folder = files::open_model(path)?;
    check_items(&folder, path, dataset)?;
    let config =
        SequenceConfig::parse("config.json", &folder.config).at(|| path.display().to_string())?;
    let cpu = Cpu::new();
    let weights = Weights::new(&cpu, &folder.checkpoint);
    SequenceRecommender::load(&weights, config, Some(dataset.catalogue.clone()))
        .at(|| path.display().to_string())
}

/// What a new vocabulary is learned from: titles and captions as they stand in prompts, and the words
/// around them.
fn vocabulary_texts(catalogue: &Catalogue, options: &LetterOptions, template: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for item in catalogue.items() {
        texts.extend(std::iter::repeat_n(format!(" {}", item.title), TITLES));
        let caption = item.caption.as_ref().filter(|_| options.max_caption_tokens > 0);
        texts.extend(caption.map(|caption| format!(" {caption}")));
        texts.push(template.to_owned());
    }
    texts
}
