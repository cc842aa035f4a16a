//! Training ALMOSTRec: the loss of a sequence model (Eq. 3) on a language model that reads titles,
//! pictures and the item table of a sequence recommender that was trained before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_core::models::almost_rec::{AlmostRec, AlmostRecConfig, AlmostRecParts, FrozenTable};
use tributary_core::models::sequence::{SequenceConfig, SequenceItems, SequenceModel};
use tributary_core::recommend::{
    ALMOST_REC_CONFIG, ALMOST_REC_WEIGHTS, IMAGE_TABLE, SEQUENCE_TABLE, SequenceRecommender,
    TABLE_ITEMS, prompt_tokens, title_tokens,
};
use tributary_core::weights::{Initial, NamedTensor, Weights};
use tributary_core::{Error, Result};

use super::checkpoint::write;
use super::config::{self, FitConfig, TrainingConfig};
use super::graph::table::{catalogue_sha256, item_table};
use super::language::{AdapterOptions, Language, LanguageOptions, TITLES, select};
use super::optimizer::OptimizerConfig;
use super::progress::Event;
use super::schedule::Schedule;
use super::sequence::{DataConfig, SequenceObjective, check_items, digest};
use super::trainer::{FitOptions, TrainReport, fit};
use crate::burn_backend::{Burn, BurnOptions, Trainable};
use crate::data::{CATALOGUE_FILE, Dataset};
use crate::files;
use crate::files::write_atomically;

/// Beginning of the names of what is not the language model's.
const OWN: &str = "almost_rec.";

/// What a configuration file of this form trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlmostRecKind {
    /// ALMOSTRec.
    Almostrec,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlmostRecModelConfig {
    /// `almostrec`.
    pub kind: AlmostRecKind,
    /// A folder of a sequence recommender trained on the same items, whose item embeddings are read;
    /// none where silent.
    pub sequence: Option<PathBuf>,
    /// Embeddings of the pictures, as `tributary embed` writes them; none where silent.
    pub image: Option<PathBuf>,
    /// Most tokens of a title; 0: no titles.
    #[serde(default = "max_title_tokens")]
    pub max_title_tokens: usize,
    /// Most items of a history.
    #[serde(default = "max_items")]
    pub max_items: usize,
    /// Begins every prompt.
    #[serde(default = "prompt")]
    pub prompt: String,
    /// A folder with a language model; a new one, of `[language]`, where the file is silent.
    pub language: Option<PathBuf>,
}

fn max_title_tokens() -> usize {
    8
}
fn max_items() -> usize {
    20
}
fn prompt() -> String {
    "Given what a user has chosen so far, in order, predict what comes next:".into()
}

/// A training configuration file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlmostRecTrainConfig {
    /// `[model]`.
    pub model: AlmostRecModelConfig,
    /// `[language]`: sizes of a new language model.
    #[serde(default)]
    pub language: LanguageOptions,
    /// `[adapter]`: LoRA or QLoRA on a language model that was opened; all of it is trained where
    /// absent.
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

impl AlmostRecTrainConfig {
    /// Reads the `text` of the configuration file at `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut config: Self = config::parse(&config::file_name(path), text)?;
        AdapterOptions::check(config.adapter.as_ref(), config.model.language.as_deref())?;
        if let Some(folder) = path.parent() {
            let AlmostRecModelConfig { sequence, image, language, .. } = &mut config.model;
            let paths = [sequence, image, language].into_iter().flatten();
            for path in paths.chain([&mut config.data.path]) {
                *path = folder.join(&path);
            }
        }
        Ok(config)
    }
}

/// Trains what `config` describes; see [`fit`] for how it resumes. `options.out` becomes a folder
/// that serves; the run itself, with checkpoint and curve, is in its subfolder `run`.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; files that cannot be read or do
/// not fit each other.
pub fn run(
    config: &AlmostRecTrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    let AlmostRecTrainConfig { model, data, training, .. } = config;
    let fit_config = FitConfig::checked(training, &config.optimizer, &config.schedule)?;
    let dataset = data.read(false)?;
    let (items, images) = (sequence_table(model, &dataset)?, image_table(model, data, &dataset)?);
    let width = |table: &FrozenTable| table.values.len() / table.present.len().max(1);
    let shape = AlmostRecConfig {
        items: SequenceItems::new(dataset.catalogue.len(), model.max_items),
        item_size: width(&items),
        image_size: width(&images),
        max_title_tokens: model.max_title_tokens,
        prompt: model.prompt.clone(),
    };
    let shape = AlmostRecConfig::parse("configuration", &shape.to_json())?;

    let seed = u64::from(training.seed);
    let language = Language::open(
        model.language.as_deref(),
        &config.language,
        config.adapter.as_ref(),
        seed,
        || {
            let titles = dataset.catalogue.items().iter().map(|item| format!(" {}", item.title));
            let titles = titles.flat_map(|title| std::iter::repeat_n(title, TITLES));
            titles.chain([model.prompt.clone()]).collect()
        },
    )?;
    let whole = config.adapter.is_none();
    let trainable = Trainable::Named(Arc::new(move |name: &str| {
        let frozen =
            name.starts_with("content_behavior.table") || name.starts_with("image_proj.table");
        !frozen && (whole || name.contains(".lora_") || name.starts_with(OWN))
    }));
    let burn = BurnOptions { trainable, seed, ..BurnOptions::default() };
    let burn = AdapterOptions::train_with(config.adapter.as_ref(), burn);
    let b = Burn::new(training.device, burn)?;
    let llama = language.load(&b, seed)?;
    let bos = language.config()?.bos_token_id;
    let mut catalogue = dataset.catalogue.clone();
    catalogue.set_popularity(&dataset.popularity())?;
    let sequence = save_table(&items)?;
    let parts = AlmostRecParts {
        llama,
        prompt: prompt_tokens(&language.tokenizer, bos, &model.prompt)?,
        titles: title_tokens(language.tokenizer.clone(), &catalogue, model.max_title_tokens)?,
        items,
        images,
    };
    let weights = Weights::fresh(&b, seed).with_initial(Initial::FanIn);
    let almost_rec = SequenceModel::almost_rec(AlmostRec::load(&weights, shape.clone(), parts)?);
    let recommender = SequenceRecommender::new(b.clone(), almost_rec, Some(catalogue))?;

    let mut hash = digest(&dataset);
    language.digest(&mut hash);
    let mut identity = config::identity(model, data, hash)?;
    identity.insert("language".into(), config::table(&config.language)?.into());
    if let Some(adapter) = &config.adapter {
        identity.insert("adapter".into(), config::table(adapter)?.into());
    }
    let objective = SequenceObjective::new(recommender, &dataset, data, &fit_config, Vec::new())?;
    let run = FitOptions { out: options.out.join("run"), ..options.clone() };
    let report = fit(&b, &objective, &fit_config, identity, &run, progress)?;

    let (out, trained) = (&options.out, files::open_checkpoint(&report.weights)?);
    language.write(out, &trained, |name| !name.starts_with(OWN))?;
    let own = select(&trained, |name| name.starts_with(OWN).then(|| name.to_owned()))?;
    write(&out.join(ALMOST_REC_WEIGHTS), &own, Default::default())?;
    write_atomically(&out.join(ALMOST_REC_CONFIG), shape.to_json().as_bytes())?;
    write_atomically(&out.join(CATALOGUE_FILE), objective.catalogue().to_jsonl()?.as_bytes())?;
    if let Some(tensors) = sequence {
        write(&out.join(SEQUENCE_TABLE), &tensors, Default::default())?;
    }
    if let Some(path) = &model.image {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path.display(), e))?;
        write_atomically(&out.join(IMAGE_TABLE), &bytes)?;
    }
    Ok(report)
}

/// The item embeddings of the folder `model.sequence`, in the order of the data's catalogue.
fn sequence_table(model: &AlmostRecModelConfig, dataset: &Dataset) -> Result<FrozenTable> {
    let Some(path) = &model.sequence else { return Ok(FrozenTable::default()) };
    let folder = files::open_model(path)?;
    let config = SequenceConfig::parse("config.json", &folder.config)?;
    check_items(&folder, path, dataset)?;
    let own = dataset.catalogue.len();
    let values = folder.checkpoint.values("item_embeddings.weight")?;
    let items = config.items();
    let width = values.len() / items.num_embeddings.max(1);
    let rows = items.first_item_id * width..(items.first_item_id + items.num_items) * width;
    match values.get(rows) {
        Some(rows) if items.num_items == own => {
            Ok(FrozenTable { values: rows.to_vec(), present: vec![true; own] })
        }
        _ => {
            let expected = format!("{own} item embeddings");
            Err(Error::file(path.display(), CATALOGUE_FILE, expected, items.num_items))
        }
    }
}

fn image_table(
    model: &AlmostRecModelConfig,
    data: &DataConfig,
    dataset: &Dataset,
) -> Result<FrozenTable> {
    let Some(path) = &model.image else { return Ok(FrozenTable::default()) };
    let catalogue = catalogue_sha256(dataset, &data.path)?;
    item_table(path, "image", dataset, &catalogue).map(|table| table.frozen())
}

/// As an embedding table; `None` where there is none.
fn save_table(table: &FrozenTable) -> Result<Option<Vec<NamedTensor>>> {
    let items = table.present.len();
    if items == 0 {
        return Ok(None);
    }
    let shape = [items, table.values.len() / items];
    Ok(Some(vec![NamedTensor::f32(TABLE_ITEMS, &shape, &table.values)]))
}
