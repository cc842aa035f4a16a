//! PEFT LoRA adapters: y = W x + scale * B (A x), the rules of `peft` and nothing else. Whatever
//! this file does not know and could change the result is refused by name.
//!
//! Refused although PEFT has it: DoRA, `modules_to_save`, trained biases, LoRA on embeddings (a tied
//! language head would change too, which it does not in PEFT), on convolutions and on transposed
//! (`fan_in_fan_out`) layers, and initialisations that change the base weights (PiSSA, OLoRA...).

mod config;
mod fresh;
mod refusal;
mod target;

use std::collections::{BTreeMap, BTreeSet};

pub use config::{AdapterConfig, MAX_LORA_RANK, MAX_PATTERNS};
use refusal::CONFIG_FILE;
pub use target::{MAX_PATTERN_BYTES, MAX_PATTERN_PROGRAM_BYTES};

use super::checkpoint::{Checkpoint, Coding};
use super::hint::near_name;
use crate::backend::LoraData;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// What every tensor name of an adapter begins with.
const PREFIX: &str = "base_model.model.";

/// A LoRA adapter that was checked against the checkpoint it belongs to.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: AdapterConfig,
    /// By module: the tensor's name in the base checkpoint without `.weight`.
    modules: BTreeMap<String, LoraData>,
}

/// A module's A and B, either of which a file may lack.
#[derive(Default)]
struct Pair {
    a: Option<[usize; 2]>,
    b: Option<[usize; 2]>,
}

impl Adapter {
    /// An adapter from the text of its `adapter_config.json` and its `adapter_model.safetensors`,
    /// for the model of `base`. `Err` when the configuration asks for what is not supported, hits
    /// no module of `base` or one without tensors here, and when a tensor is unknown, lacks its
    /// partner, or is not of the shape that rank and base ask for.
    pub fn load(config_json: &str, tensors: &Checkpoint, base: &Checkpoint) -> Result<Self> {
        let config = AdapterConfig::parse(config_json)?;
        let mut pairs: BTreeMap<&str, Pair> = BTreeMap::new();
        for name in tensors.names() {
            let (module, is_a) = module_of(tensors.file(), name)?;
            let shape = tensors.info(name).map(|info| info.shape.as_slice()).unwrap_or_default();
            let &[rows, cols] = shape else {
                return Err(bad(tensors, name, "two axes", format!("shape {shape:?}")));
            };
            let pair = pairs.entry(module).or_default();
            *if is_a { &mut pair.a } else { &mut pair.b } = Some([rows, cols]);
        }
        let targeted = targeted(&config, base)?;
        let missing = targeted.iter().find(|module| !pairs.contains_key(module.as_str()));
        if let Some(module) = missing {
            let name = format!("{PREFIX}{module}.lora_A.weight");
            return Err(bad(tensors, &name, "a tensor, since `target_modules` hits it", "none"));
        }
        let modules: Vec<&str> = pairs.keys().copied().collect();
        let ranks = config.rank_pattern.resolve(&modules, "rank_pattern")?;
        let alphas = config.alpha_pattern.resolve(&modules, "alpha_pattern")?;
        let mut loaded = BTreeMap::new();
        for (i, (module, pair)) in pairs.iter().enumerate() {
            let r = ranks.get(i).copied().flatten().map_or(config.r, |r| r as usize);
            let alpha = alphas.get(i).copied().flatten().unwrap_or(config.lora_alpha);
            let base_shape = base_shape(tensors, base, module, &targeted)?;
            check_pair(tensors, module, pair, base_shape, r)?;
            let values = |part: &str| tensors.values(&format!("{PREFIX}{module}.{part}.weight"));
            let lora = LoraData {
                r,
                a: values("lora_A")?,
                b: values("lora_B")?,
                scale: config.scale(alpha, r),
            };
            loaded.insert((*module).to_owned(), lora);
        }
        Ok(Self { config, modules: loaded })
    }

    /// What `adapter_config.json` says.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// The modules it updates, sorted: names of the base checkpoint without `.weight`.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    /// The update of one module.
    pub fn lora(&self, module: &str) -> Option<&LoraData> {
        self.modules.get(module)
    }
}

/// `base_model.model.M.lora_A.weight` -> (M, true); `Err` for any name that is not a LoRA of a
/// linear layer.
fn module_of<'n>(file: &str, name: &'n str) -> Result<(&'n str, bool)> {
    let module = name.strip_prefix(PREFIX);
    let part = |end| module.and_then(|module| module.strip_suffix(end));
    if let Some(module) = part(".lora_A.weight") {
        return Ok((module, true));
    }
    if let Some(module) = part(".lora_B.weight") {
        return Ok((module, false));
    }
    let found = match name {
        _ if name.contains("lora_magnitude_vector") => "a DoRA magnitude, which is not supported",
        _ if name.contains("lora_embedding_") => "LoRA on an embedding, which is not supported",
        _ if module.is_none() => "another start of the name",
        _ => "an unknown kind of tensor",
    };
    Err(Error::Adapter {
        file: file.to_owned(),
        field: format!("tensor `{name}`"),
        expected: format!("`{PREFIX}MODULE.lora_A.weight` or `.lora_B.weight`"),
        found: found.to_owned(),
    })
}

/// The modules of `base` that the configuration hits: names of its matrices without `.weight`.
fn targeted(config: &AdapterConfig, base: &Checkpoint) -> Result<BTreeSet<String>> {
    let is_matrix = |name: &str| base.info(name).is_some_and(|info| info.shape.len() == 2);
    let modules: Vec<&str> = base
        .names()
        .filter(|name| is_matrix(name))
        .filter_map(|name| name.strip_suffix(".weight"))
        .collect();
    let hit = config.targets.hits(&modules)?;
    if hit.is_empty() {
        return Err(Error::Adapter {
            file: CONFIG_FILE.into(),
            field: "target_modules".into(),
            expected: format!("modules of {}", base.file()),
            found: format!("{}, which hits none of its {}", config.targets, modules.len()),
        });
    }
    Ok(hit)
}

/// (out, in) of the base module; `Err` when the base has none or the configuration leaves it out.
fn base_shape(
    tensors: &Checkpoint,
    base: &Checkpoint,
    module: &str,
    targeted: &BTreeSet<String>,
) -> Result<[usize; 2]> {
    let name = format!("{module}.weight");
    let field = format!("{PREFIX}{module}");
    let Some(info) = base.info(&name) else {
        let hint = near_name(&name, base.names());
        let expected = format!("a module of {}", base.file());
        return Err(bad(tensors, &field, expected, format!("no tensor `{name}` there{hint}")));
    };
    let float = !matches!(info.coding, Coding::Other(_) | Coding::Plain(DType::I8 | DType::U8));
    match *info.shape.as_slice() {
        [out, input] if float => {
            if targeted.contains(module) {
                return Ok([out, input]);
            }
            let expected = "a module that `target_modules` hits";
            Err(bad(tensors, &field, expected, "one that it does not"))
        }
        _ => {
            let found = format!("{} {:?}", info.coding, info.shape);
            Err(bad(tensors, &field, "a linear layer, two axes of floats", found))
        }
    }
}

fn check_pair(
    tensors: &Checkpoint,
    module: &str,
    pair: &Pair,
    [out, input]: [usize; 2],
    r: usize,
) -> Result<()> {
    for (part, shape, expected) in [("lora_A", pair.a, [r, input]), ("lora_B", pair.b, [out, r])] {
        let name = format!("{PREFIX}{module}.{part}.weight");
        match shape {
            Some(shape) if shape == expected => {}
            Some(shape) => {
                let expected =
                    format!("shape {expected:?} (r {r} of {CONFIG_FILE}, base {out}x{input})");
                return Err(bad(tensors, &name, expected, format!("shape {shape:?}")));
            }
            None => {
                let expected = format!("a tensor of shape {expected:?} beside its partner");
                return Err(bad(tensors, &name, expected, "none"));
            }
        }
    }
    Ok(())
}

fn bad(tensors: &Checkpoint, name: &str, expected: impl ToString, found: impl ToString) -> Error {
    Error::Adapter {
        file: tensors.file().to_owned(),
        field: format!("tensor `{name}`"),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}
