//! Training a sequence model from a data set: full softmax cross-entropy over all items at every
//! position of every user's sequence, or BPR's pairs, validated on the leave-one-out split.

mod config;
mod pairwise;

use std::collections::HashSet;
use std::path::Path;

use sha2::{Digest, Sha256};
use toml::Table;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::sequence::RepeatedItems;
use tributary_core::random::Random;
use tributary_core::recommend::{
    Catalogue, ItemIndex, Recommender, SequenceRecommender, first_occurrences,
};
use tributary_core::weights::Weights;
use tributary_core::{Context, Error, Result};

use super::config::FitConfig;
use super::progress::Event;
use super::trainer::{FitOptions, Losses, Objective, TrainReport, fit};
use crate::burn_backend::{Burn, BurnOptions, Trainable};
use crate::data::{CATALOGUE_FILE, Dataset, Split, SplitRule, UserSequence};
use crate::files::ModelFolder;
use crate::files::write_atomically;
pub use config::{
    BprOptions, DataConfig, Gru4RecOptions, LruRecOptions, ModelConfig, SasRecOptions, TrainConfig,
};

use crate::evaluate::{Candidates, EvaluateOptions, evaluate};

/// Trains what `config` describes; see [`fit`] for what is written and how it resumes. Beside the
/// weights, `options.out` gets `config.json` and `catalogue.jsonl`: a folder that every backend
/// loads.
///
/// # Errors
/// Those of [`fit`]; a configuration that makes no sense, by key; data that cannot be read.
pub fn run(
    config: &TrainConfig,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    let TrainConfig { model, data, training, optimizer, schedule } = config;
    let fit_config = FitConfig::checked(training, optimizer, schedule)?;
    let dataset = data.read(model.first_occurrences())?;
    let model = model.over("model", dataset.catalogue.len())?;

    let seed = u64::from(config.training.seed);
    let trainable = Trainable::Everything;
    let b = Burn::new(
        config.training.device,
        BurnOptions { trainable, seed, ..BurnOptions::default() },
    )?;
    let mut catalogue = dataset.catalogue.clone();
    catalogue.set_popularity(&dataset.popularity())?;
    let weights = Weights::fresh(&b, seed).with_initial(config.model.initial());
    let recommender = SequenceRecommender::load(&weights, model, Some(catalogue))?;
    let files = vec![("config.json", recommender.model().config().to_json().into_bytes())];
    let objective = SequenceObjective::new(recommender, &dataset, data, &fit_config, files)?;

    fit(&b, &objective, &fit_config, identity(config, &dataset)?, options, progress)
}

/// What decides the weights besides the trainer's own configuration. A data set is what it holds,
/// not where it lies.
fn identity(config: &TrainConfig, dataset: &Dataset) -> Result<Table> {
    super::config::identity(&config.model, &config.data, digest(dataset))
}

/// Of all interactions.
pub(super) fn digest(dataset: &Dataset) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update((dataset.catalogue.len() as u64).to_le_bytes());
    for user in &dataset.users {
        hash.update((user.items.len() as u64).to_le_bytes());
        user.items.iter().for_each(|item| hash.update(item.to_le_bytes()));
        user.behaviours.iter().for_each(|behaviour| hash.update(behaviour.to_le_bytes()));
    }
    hash
}

/// Bytes of a catalogue at most.
const MAX_CATALOGUE_BYTES: usize = 1 << 30;

/// `Err` unless the model in the folder at `path` was trained on the items of `dataset`, in their order.
pub(super) fn check_items(folder: &ModelFolder, path: &Path, dataset: &Dataset) -> Result<()> {
    let own = &dataset.catalogue;
    let bytes = folder.text(CATALOGUE_FILE, MAX_CATALOGUE_BYTES)?.unwrap_or_default();
    let catalogue = Catalogue::from_jsonl(CATALOGUE_FILE, bytes.as_bytes())?;
    let ids = catalogue.items().iter().map(|item| &item.id);
    if ids.eq(own.items().iter().map(|item| &item.id)) {
        return Ok(());
    }
    let found = format!("{} items, or others", catalogue.len());
    let expected = format!("the {} items of {}, in its order", own.len(), dataset.name);
    Err(Error::file(path.display(), CATALOGUE_FILE, expected, found))
}

/// A window of one user's items to train on.
struct Example {
    /// Index into the data set's users.
    user: usize,
    items: Vec<ItemIndex>,
    /// Places in `items` whose successor is to be predicted.
    asked: Vec<u32>,
}

/// Where something is to be predicted in `items`, which are of this user: everywhere, or where the
/// targets are of one behaviour, before each item's first event if the user did that to it.
fn asked(dataset: &Dataset, sequence: &UserSequence, items: &[ItemIndex]) -> Vec<u32> {
    let places = 0..items.len().saturating_sub(1);
    let Some(target) = dataset.target_behaviour() else {
        return places.map(|at| at as u32).collect();
    };
    let held_out = dataset.training_len(sequence);
    let pairs = sequence.items.iter().zip(&sequence.behaviours).take(held_out);
    let wanted: HashSet<ItemIndex> = pairs
        .filter(|&(_, &behaviour)| dataset.behaviours[usize::from(behaviour)] == target)
        .map(|(&item, _)| item)
        .collect();
    let mut seen: HashSet<ItemIndex> = items.first().copied().into_iter().collect();
    let new = places.filter(|&at| seen.insert(items[at + 1]));
    new.filter(|&at| wanted.contains(&items[at + 1])).map(|at| at as u32).collect()
}

/// The items in windows of `longest` with their successors, from the last back: a long history is
/// several examples, and every item that is asked for is asked for once.
fn windows(user: usize, items: &[ItemIndex], asked: &[u32], longest: usize) -> Vec<Example> {
    let mut windows = Vec::new();
    let mut end = items.len().saturating_sub(1); // the last item is only asked for
    while end > 0 {
        let start = end.saturating_sub(longest);
        let inside = asked.iter().filter(|&&at| (start..end).contains(&(at as usize)));
        let asked: Vec<u32> = inside.map(|at| at - start as u32).collect();
        if !asked.is_empty() {
            windows.push(Example { user, items: items[start..=end].to_vec(), asked });
        }
        end = start;
    }
    windows
}

/// The loss of any sequence model.
pub(super) struct SequenceObjective<'a> {
    recommender: SequenceRecommender<Burn>,
    dataset: &'a Dataset,
    examples: Vec<Example>,
    seed: u64,
    metric: String,
    validation: EvaluateOptions,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl<'a> SequenceObjective<'a> {
    /// `files` are what weights and catalogue need beside them.
    pub(super) fn new(
        recommender: SequenceRecommender<Burn>,
        dataset: &'a Dataset,
        data: &DataConfig,
        fit_config: &FitConfig,
        files: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<Self> {
        data.check()?;
        let rules = recommender.model().config().items().clone();
        let mut examples = Vec::new();
        for (user, sequence) in dataset.users.iter().enumerate() {
            let items = &sequence.items[..dataset.training_len(sequence)];
            let items = match rules.repeated_items {
                RepeatedItems::First => first_occurrences(items),
                RepeatedItems::Keep => items.to_vec(),
            };
            if items.len() < data.min_sequence_length {
                continue;
            }
            let asked = asked(dataset, sequence, &items);
            examples.extend(windows(user, &items, &asked, rules.max_seq_len));
        }
        let metric = fit_config.training.metric.clone();
        let candidates = match data.validation_candidates {
            Some(num_candidates) => Candidates::Exact { num_candidates },
            None => Candidates::All,
        };
        let validation = EvaluateOptions {
            split: Split::Valid,
            candidates,
            k: vec![fit_config.metric_k()?],
            users: data.validation_users,
            ..EvaluateOptions::default()
        };
        let seed = u64::from(fit_config.training.seed);
        Ok(Self { recommender, dataset, examples, seed, metric, validation, files })
    }
}

impl SequenceObjective<'_> {
    /// The items, with their popularity.
    pub(super) fn catalogue(&self) -> &Catalogue {
        self.recommender.catalogue()
    }

    /// For each item that is asked for one that the example's user never met in training, the same
    /// for the same seed and step.
    fn others(&self, b: &Burn, examples: &[u32]) -> Vec<u32> {
        let key = Random::stream(self.seed, b.step()).next_u64();
        let num_items = self.recommender.model().config().items().num_items;
        let of_example = |&index: &u32| {
            let example = &self.examples[index as usize];
            let user = &self.dataset.users[example.user];
            let met = &user.items[..self.dataset.training_len(user)];
            let mut random = Random::stream(key, u64::from(index));
            pairwise::others(&mut random, met, num_items, example.asked.len())
        };
        examples.iter().flat_map(of_example).collect()
    }
}

impl Objective for SequenceObjective<'_> {
    fn examples(&self) -> usize {
        self.examples.len()
    }

    fn losses(&self, b: &Burn, batch: &[u32]) -> Result<Losses> {
        let model = self.recommender.model();
        let config = model.config();
        let examples = || batch.iter().map(|&example| &self.examples[example as usize]);
        let lengths: Vec<usize> = examples().map(|example| example.items.len() - 1).collect();
        let segments = Segments::new(&lengths)?;
        let inputs: Vec<u32> = examples()
            .flat_map(|example| &example.items[..example.items.len() - 1])
            .map(|&item| config.items().row(item))
            .collect();
        let hidden = model.forward(b, &inputs, &segments)?;
        let successors = examples()
            .flat_map(|example| example.asked.iter().map(|&at| example.items[at as usize + 1]));
        let targets: Vec<u32> = successors.map(|item| config.column(item)).collect();
        let asked: Vec<u32> = examples()
            .zip(segments.iter())
            .flat_map(|(example, rows)| example.asked.iter().map(move |at| rows.start as u32 + at))
            .collect();
        let hidden = match asked.len() == inputs.len() {
            true => hidden,
            false => b.gather_rows(&hidden, &asked)?,
        };
        let rows = match model.factorised() {
            Some(bpr) => pairwise::losses(b, bpr, &hidden, &targets, &self.others(b, batch))?,
            None => b.cross_entropy(&model.scores(b, &hidden)?, &targets)?,
        };
        let lengths: Vec<usize> = examples().map(|example| example.asked.len()).collect();
        Ok(Losses { rows, segments: Segments::new(&lengths)? })
    }

    fn example_name(&self, example: u32) -> String {
        let user = self.examples.get(example as usize).map(|example| example.user);
        let name = user.and_then(|user| self.dataset.users.get(user)).map(|user| &user.user);
        format!("user {}", name.map_or("?", String::as_str))
    }

    fn metric(&self) -> &str {
        &self.metric
    }

    fn validate(&self, _b: &Burn) -> Result<Option<f64>> {
        if self.dataset.split == SplitRule::Given {
            // Somebody split already and kept the validation part elsewhere.
            return Ok(None);
        }
        let catalogue = self.recommender.catalogue();
        let evaluation =
            evaluate(&self.recommender, catalogue, self.dataset, &self.validation, |_, _| ())
                .at(|| "validation")?;
        Ok(evaluation.metrics.get(&self.metric).copied())
    }

    fn describe(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            write_atomically(&folder.join(name), bytes)?;
        }
        let catalogue = self.recommender.catalogue().to_jsonl()?;
        write_atomically(&folder.join(CATALOGUE_FILE), catalogue.as_bytes())
    }
}
