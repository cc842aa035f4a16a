//! `adapter_config.json`: what is understood, what is harmless, and everything else refused.

use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::refusal::{CONFIG_FILE, adapter_error, short};
use super::target::{Names, Targets, compile};
use crate::error::{Error, Result};
use crate::weights::config::ConfigReader;

/// Largest rank.
pub const MAX_LORA_RANK: usize = 65_536;
/// Most entries of each list and each map of the configuration.
pub const MAX_PATTERNS: usize = 1024;

/// Keys that do not change what a loaded adapter computes, whatever their value: provenance,
/// training only, or settings of a feature that its own key switches on.
const HARMLESS: [&str; 12] = [
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "layers_pattern",
];

/// What an adapter's configuration says, PEFT's names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Rank of every module without an entry in `rank_pattern`.
    pub r: usize,
    /// Numerator of the scale of every module without an entry in `alpha_pattern`.
    pub lora_alpha: f64,
    /// Scale is lora_alpha / sqrt(r) instead of lora_alpha / r (arXiv 2312.03732).
    pub use_rslora: bool,
    /// The model it was trained on, as the trainer named it.
    pub base_model_name_or_path: Option<String>,
    pub(super) targets: Targets,
    pub(super) rank_pattern: Patterns,
    pub(super) alpha_pattern: Patterns,
}

impl AdapterConfig {
    /// alpha / r, or alpha / sqrt(r) with `use_rslora`.
    pub(super) fn scale(&self, alpha: f64, r: usize) -> f32 {
        let divisor = if self.use_rslora { (r as f64).sqrt() } else { r as f64 };
        (alpha / divisor) as f32
    }

    /// Reads the text of an `adapter_config.json`. `Err` for any key that is unknown or not
    /// supported and has a value other than null, false or empty.
    pub fn parse(json: &str) -> Result<Self> {
        Self::read(json).map_err(|error| match error {
            // The same report, with the code that callers tell adapters by.
            Error::File { file, field, expected, found } => {
                Error::Adapter { file, field, expected, found }
            }
            other => other,
        })
    }

    fn read(json: &str) -> Result<Self> {
        let config = ConfigReader::new(CONFIG_FILE, json)?;
        let patterns: PatternFields = serde_json::from_str(json).map_err(|e| {
            Error::file(CONFIG_FILE, "rank_pattern, alpha_pattern", "maps from module to number", e)
        })?;
        for name in config.names() {
            if config.value(name).and_then(Value::as_array).is_some_and(|l| l.len() > MAX_PATTERNS)
            {
                return Err(config.wrong(name, format!("at most {MAX_PATTERNS} entries")));
            }
            known(&config, name)?;
        }
        let target = names(&config, "target_modules")?
            .ok_or_else(|| config.wrong("target_modules", "a list of names or a pattern"))?;
        let layers = config.usizes("layers_to_transform", 0..=usize::MAX)?;
        let before = config.texts("layers_pattern")?;
        if !layers.is_empty() && matches!(target, Names::Pattern(_)) {
            let expected = "null beside a `target_modules` that is one pattern";
            return Err(config.wrong("layers_to_transform", expected));
        }
        let targets = Targets {
            target,
            exclude: names(&config, "exclude_modules")?,
            layers: (!layers.is_empty()).then_some((layers, before)),
        };
        let lora_alpha = match config.value("lora_alpha") {
            None => 8.0,
            Some(value) => match value.as_f64().filter(|alpha| alpha.abs() <= MAX_ALPHA) {
                Some(alpha) => alpha,
                None => return Err(config.wrong("lora_alpha", ALPHA_EXPECTED)),
            },
        };
        let rank_pattern = patterns.rank_pattern.unwrap_or_default();
        let bad_rank =
            |(_, r): &&(String, f64)| r.fract() != 0.0 || !(1.0..=MAX_LORA_RANK as f64).contains(r);
        if let Some((module, r)) = rank_pattern.0.iter().find(bad_rank) {
            let field = format!("rank_pattern `{}`", short(module));
            let expected = format!("a whole number from 1 to {MAX_LORA_RANK}");
            return Err(adapter_error(CONFIG_FILE, &field, expected, r.to_string()));
        }
        let alpha_pattern = patterns.alpha_pattern.unwrap_or_default();
        if let Some((module, alpha)) = alpha_pattern.0.iter().find(|(_, a)| a.abs() > MAX_ALPHA) {
            let field = format!("alpha_pattern `{}`", short(module));
            return Err(adapter_error(
                CONFIG_FILE,
                &field,
                ALPHA_EXPECTED.into(),
                alpha.to_string(),
            ));
        }
        Ok(Self {
            r: config.usize_or("r", 8, 1..=MAX_LORA_RANK)?,
            lora_alpha,
            use_rslora: config.bool_or("use_rslora", false)?,
            base_model_name_or_path: config
                .value("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(str::to_owned),
            targets,
            rank_pattern,
            alpha_pattern,
        })
    }
}

/// Larger factors would overflow f32 products with any weight.
const MAX_ALPHA: f64 = 1e9;
const ALPHA_EXPECTED: &str = "a number of at most 1e9";

/// `Err` unless the key is understood, harmless, or its value says that it is not used.
fn known(config: &ConfigReader, name: &str) -> Result<()> {
    let Some(value) = config.value(name) else { return Ok(()) };
    let text = value.as_str();
    match name {
        "r"
        | "lora_alpha"
        | "use_rslora"
        | "rank_pattern"
        | "alpha_pattern"
        | "target_modules"
        | "exclude_modules"
        | "layers_to_transform" => Ok(()),
        _ if HARMLESS.contains(&name) => Ok(()),
        "peft_type" if text == Some("LORA") => Ok(()),
        "peft_type" => Err(as_adapter(config.unsupported(name, "LORA"))),
        "bias" if text == Some("none") => Ok(()),
        "bias" => Err(config.wrong(name, "`none`: trained biases are not supported")),
        // The others (PiSSA, OLoRA, LoftQ, CorDA, LoRA-GA) also change the base weights, so that
        // an adapter saved without PEFT's conversion does not fit the published base.
        "init_lora_weights"
            if value.is_boolean() || matches!(text, Some("gaussian" | "eva" | "orthogonal")) =>
        {
            Ok(())
        }
        "init_lora_weights" => {
            let expected = "an initialisation that leaves the base weights alone (true, false, \
                            gaussian, eva, orthogonal)";
            Err(config.wrong(name, expected))
        }
        _ if unused(value) => Ok(()),
        _ => Err(config.wrong(name, "null, false or empty: this is not supported")),
    }
}

/// null, false, or empty: the key does nothing.
fn unused(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    }
}

fn names(config: &ConfigReader, key: &str) -> Result<Option<Names>> {
    match config.value(key) {
        Some(Value::String(pattern)) if !pattern.is_empty() => {
            Ok(Some(Names::Pattern(pattern.clone())))
        }
        Some(Value::Array(_)) => {
            Ok(Some(config.texts(key)?).filter(|list| !list.is_empty()).map(Names::List))
        }
        None | Some(Value::String(_)) => Ok(None),
        Some(_) => Err(config.wrong(key, "a list of names or a pattern")),
    }
}

/// A number for modules of some names, in the file's order: the first that matches counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Patterns(Vec<(String, f64)>);

impl Patterns {
    /// For each module the number of the first pattern that is its name or the end of it after a
    /// dot; PEFT's `get_pattern_key`.
    pub fn resolve(&self, modules: &[&str], key: &str) -> Result<Vec<Option<f64>>> {
        let mut numbers = vec![None; modules.len()];
        for (pattern, number) in &self.0 {
            let pattern = compile(key, pattern, |p| format!(r"\A(?:.*\.)?(?:{p})\z"))?;
            for (found, module) in numbers.iter_mut().zip(modules) {
                if found.is_none() && pattern.is_match(module) {
                    *found = Some(*number);
                }
            }
        }
        Ok(numbers)
    }
}

/// The two fields whose order counts, which a [`Value`] does not keep.
#[derive(serde::Deserialize)]
struct PatternFields {
    rank_pattern: Option<Patterns>,
    alpha_pattern: Option<Patterns>,
}

impl<'de> serde::Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PatternsVisitor)
    }
}

struct PatternsVisitor;

impl<'de> Visitor<'de> for PatternsVisitor {
    type Value = Patterns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from module names to numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns, A::Error> {
        let mut patterns: Vec<(String, f64)> = Vec::new();
        while let Some((module, number)) = map.next_entry::<String, f64>()? {
            if patterns.len() == MAX_PATTERNS {
                return Err(A::Error::custom(format_args!(
                    "more entries than the limit of {MAX_PATTERNS}"
                )));
            }
            patterns.push((module, number));
        }
        Ok(Patterns(patterns))
    }
}

fn as_adapter(error: Error) -> Error {
    match error {
        Error::Unsupported { file, field, found, supported } => {
            Error::Adapter { file, field, expected: supported, found }
        }
        other => other,
    }
}
