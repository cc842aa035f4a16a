//! The part of a training configuration that every model shares, and how TOML is read and compared.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};
use tributary_core::digest::hex;
use tributary_core::metrics::{Denominator, RankingMetrics};
use tributary_core::{Error, Result};

use super::optimizer::OptimizerConfig;
use super::schedule::Schedule;
use crate::burn_backend::BurnDevice;

/// `[training]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Examples per step.
    pub batch_size: usize,
    /// Passes over the examples.
    pub epochs: u64,
    /// Steps between validations; 0: at the end of every epoch.
    pub eval_every: u64,
    /// Validations without a new best after which training stops; 0: never.
    pub patience: u64,
    /// Steps between checkpoints, besides those at the end of every epoch; 0: only those.
    pub checkpoint_every: u64,
    /// Steps that one point of the training curve covers.
    pub log_every: u64,
    /// Validation metric, larger is better: `ndcg@10`, `hit_rate@5` and so on; of a CLIP `recall@1`, of
    /// MLLM-SRec `auc`.
    pub metric: String,
    /// Of the initial weights, the order of examples and dropout.
    pub seed: u32,
    /// `cpu`, `gpu` or `cuda`.
    pub device: BurnDevice,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            batch_size: 128,
            epochs: 50,
            eval_every: 0,
            patience: 10,
            checkpoint_every: 1000,
            log_every: 20,
            metric: "ndcg@10".into(),
            seed: 42,
            device: BurnDevice::Cpu,
        }
    }
}

/// What the trainer needs of a configuration, whatever the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FitConfig {
    /// `[training]`.
    pub training: TrainingConfig,
    /// `[optimizer]`.
    pub optimizer: OptimizerConfig,
    /// `[schedule]`.
    pub schedule: Schedule,
}

impl FitConfig {
    /// The three tables of a configuration file, checked.
    ///
    /// # Errors
    /// Those of [`FitConfig::check`].
    pub(super) fn checked(
        training: &TrainingConfig,
        optimizer: &OptimizerConfig,
        schedule: &Schedule,
    ) -> Result<Self> {
        let (training, optimizer) = (training.clone(), optimizer.clone());
        let config = Self { training, optimizer, schedule: schedule.clone() };
        config.check()?;
        Ok(config)
    }

    /// The k of `training.metric`.
    ///
    /// # Errors
    /// A metric that is not one of ours: refused before the first epoch, not after it.
    pub fn metric_k(&self) -> Result<usize> {
        let metric = &self.training.metric;
        let k = metric.split_once('@').and_then(|(_, k)| k.parse().ok()).filter(|&k| k > 0);
        let k = k.ok_or_else(|| {
            let expected = "a metric at k, such as ndcg@10";
            Error::file("configuration", "training.metric", expected, metric)
        })?;
        let known = RankingMetrics::new(&[k])?.by_name(Denominator::OverAllUsers);
        if !known.contains_key(metric) {
            let known: Vec<_> = known.keys().map(String::as_str).collect();
            return Err(Error::file("configuration", "training.metric", known.join(", "), metric));
        }
        Ok(k)
    }

    /// `Err` names the first key whose value makes no sense.
    pub fn check(&self) -> Result<()> {
        let Self { training, optimizer, schedule } = self;
        let finite = |x: f64| x.is_finite() && x >= 0.0;
        let [beta1, beta2] = optimizer.betas;
        let betas = (0.0..1.0).contains(&beta1) && (0.0..1.0).contains(&beta2);
        let positive = "at least 1";
        let rules = [
            (training.batch_size > 0, "training.batch_size", positive),
            (training.epochs > 0, "training.epochs", positive),
            (training.log_every > 0, "training.log_every", positive),
            (finite(optimizer.learning_rate), "optimizer.learning_rate", "finite, not negative"),
            (finite(optimizer.weight_decay), "optimizer.weight_decay", "finite, not negative"),
            (finite(optimizer.max_grad_norm), "optimizer.max_grad_norm", "finite, not negative"),
            (finite(optimizer.eps) && optimizer.eps > 0.0, "optimizer.eps", "finite, above 0"),
            (betas, "optimizer.betas", "two numbers, at least 0 and below 1"),
            (
                finite(schedule.min_learning_rate)
                    && schedule.min_learning_rate <= optimizer.learning_rate,
                "schedule.min_learning_rate",
                "not negative, at most optimizer.learning_rate",
            ),
        ];
        match rules.iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, key, expected)) => {
                let table = table(self)?;
                let found = key
                    .split('.')
                    .try_fold(&Value::Table(table), |at, part| at.get(part))
                    .map_or_else(|| "nothing".into(), Value::to_string);
                Err(Error::file("configuration", key, expected, found))
            }
        }
    }
}

/// A configuration from TOML. Unknown keys are refused; `file` is named in errors.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let field = match error.span() {
            Some(span) => {
                let line = 1 + text.bytes().take(span.start).filter(|&b| b == b'\n').count();
                format!("line {line}")
            }
            None => "configuration".into(),
        };
        Error::file(
            file,
            field,
            "a key this version knows and a value of its type",
            error.message(),
        )
    })
}

/// The text of a file, with the keys of `set` (`table.key=value`) set to other values.
pub(super) fn text(path: &Path, set: &[String]) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path.display(), e))?;
    if set.is_empty() {
        return Ok(text);
    }
    let mut table: Table = parse(&file_name(path), &text)?;
    for setting in set {
        let wrong = || Error::argument("train", "set", "key=value", format!("`{setting}`"));
        let (keys, value) = setting.split_once('=').ok_or_else(wrong)?;
        let (outer, last) = keys.rsplit_once('.').unwrap_or(("", keys));
        let mut at = &mut table;
        for key in outer.split('.').filter(|key| !key.is_empty()) {
            let inner = at.entry(key).or_insert_with(|| Value::Table(Table::new()));
            at = inner.as_table_mut().ok_or_else(wrong)?;
        }
        if value.is_empty() {
            at.remove(last);
            continue;
        }
        let value = value.parse().unwrap_or_else(|_| Value::String(value.to_owned()));
        at.insert(last.to_owned(), value);
    }
    toml::to_string(&table).map_err(|e| Error::Internal(format!("configuration: {e}")))
}

/// The last part of a path, for errors.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A configuration as a table, defaults filled in.
pub(super) fn table<T: Serialize>(config: &T) -> Result<Table> {
    Table::try_from(config).map_err(|e| Error::Internal(format!("configuration: {e}")))
}

/// What decides the weights besides [`FitConfig`]: `[model]`, and `[data]` with the hash of what was
/// read in place of the path it lay at.
pub(super) fn identity(
    model: &impl Serialize,
    data: &impl Serialize,
    hash: Sha256,
) -> Result<Table> {
    let mut data = table(data)?;
    data.remove("path");
    data.insert("sha256".into(), hex(&hash.finalize()).into());
    let model = table(model)?;
    Ok(Table::from_iter([("model".to_owned(), model.into()), ("data".to_owned(), data.into())]))
}

/// The first key, with its path, in which two tables differ, and both values.
pub(super) fn difference(a: &Table, b: &Table) -> Option<(String, String, String)> {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let text = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
    keys.into_iter().find_map(|key| match (a.get(key), b.get(key)) {
        (Some(Value::Table(a)), Some(Value::Table(b))) => {
            let (inner, a, b) = difference(a, b)?;
            Some((format!("{key}.{inner}"), a, b))
        }
        (a, b) if a == b => None,
        (a, b) => Some((key.clone(), text(a), text(b))),
    })
}
