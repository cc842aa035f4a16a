//! A finished run as a folder that serves.

use std::collections::BTreeMap;
use std::path::Path;

use tributary_core::weights::{Checkpoint, NamedTensor, merge};
use tributary_core::{Error, Result};

use super::TmfTrainConfig;
use super::language::Language;
use super::objective::{FUSION, TmfObjective};
use crate::bundle::GRAPH_TABLE;
use crate::data::CATALOGUE_FILE;
use crate::files::{self, FolderSink};
use crate::train::WEIGHTS;
use crate::train::checkpoint::{write, write_atomically};
use crate::train::trainer::TrainReport;
use tributary_core::recommend::{
    FUSION_CONFIG, FUSION_WEIGHTS, IMAGE_TABLE, TEMPLATE, TEXT_TABLE, TMF_CONFIG,
};

/// Folder of the adapter under PEFT's names.
const ADAPTER: &str = "adapter";

/// Writes everything that serving needs into `out`.
pub(super) fn write_folder(
    out: &Path,
    config: &TmfTrainConfig,
    language: &Language,
    objective: &TmfObjective<'_>,
    report: &TrainReport,
) -> Result<()> {
    let trained = files::open_checkpoint(&report.weights)?;
    let text = |name: &str, text: &str| write_atomically(&out.join(name), text.as_bytes());
    write_language(out, language, &trained)?;
    text("config.json", &language.config_json)?;
    text("tokenizer.json", &language.tokenizer_json)?;
    text(CATALOGUE_FILE, &objective.catalogue.to_jsonl()?)?;
    text(TEMPLATE, objective.template_text())?;
    text(TMF_CONFIG, &json(&objective.served)?)?;
    if let Some(fusion) = objective.fusion_config() {
        text(FUSION_CONFIG, &json(fusion)?)?;
        let tensors = select(&trained, |name| name.strip_prefix(FUSION).map(str::to_owned))?;
        write(&out.join(FUSION_WEIGHTS), &tensors, BTreeMap::new())?;
        let tables = &config.tables;
        for (name, path) in
            [(IMAGE_TABLE, &tables.image), (TEXT_TABLE, &tables.text), (GRAPH_TABLE, &tables.graph)]
        {
            let Some(path) = path else { continue };
            let bytes = std::fs::read(path).map_err(|e| Error::io(path.display(), e))?;
            write_atomically(&out.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// The language model as one checkpoint; with an adapter, folded in, and the adapter by itself.
fn write_language(out: &Path, language: &Language, trained: &Checkpoint) -> Result<()> {
    let (Some((config, _)), Some(base)) = (&language.adapter, language.checkpoint()) else {
        let own = |name: &str| (!name.starts_with(FUSION)).then(|| name.to_owned());
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        return write(&out.join(WEIGHTS), &select(trained, own)?, metadata);
    };
    let folder = out.join(ADAPTER);
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(folder.display(), e))?;
    let peft = |name: &str| name.contains(".lora_").then(|| format!("base_model.model.{name}"));
    let tensors = select(trained, peft)?;
    write(&folder.join("adapter_model.safetensors"), &tensors, BTreeMap::new())?;
    write_atomically(&folder.join("adapter_config.json"), config.as_bytes())?;
    let adapter = files::open_adapter(&folder, base)?;
    merge(base, &adapter, None, &mut FolderSink::create(out)?, &mut |_, _, _| {})
}

/// The tensors that `name` gives a new name.
fn select(
    trained: &Checkpoint,
    rename: impl Fn(&str) -> Option<String>,
) -> Result<Vec<NamedTensor>> {
    let mut tensors = Vec::new();
    for name in trained.names() {
        let (Some(new), Some(info)) = (rename(name), trained.info(name)) else { continue };
        tensors.push(NamedTensor::f32(new, &info.shape, &trained.values(name)?));
    }
    Ok(tensors)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Error::Internal(format!("JSON: {e}")))
}
