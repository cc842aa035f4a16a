//! A finished run as a folder that serves.

use std::collections::BTreeMap;
use std::path::Path;

use tributary_core::prompt::template_json;
use tributary_core::{Error, Result};

use super::TmfTrainConfig;
use super::modalities::FUSION;
use super::objective::TmfObjective;
use crate::bundle::GRAPH_TABLE;
use crate::data::CATALOGUE_FILE;
use crate::files;
use crate::files::write_atomically;
use crate::train::checkpoint::write;
use crate::train::language::{Language, select};
use crate::train::trainer::TrainReport;
use tributary_core::recommend::{
    FUSION_CONFIG, FUSION_WEIGHTS, IMAGE_TABLE, TEMPLATE, TEXT_TABLE, TMF_CONFIG,
};

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
    language.write(out, &trained, |name| !name.starts_with(FUSION))?;
    text(CATALOGUE_FILE, &objective.catalogue.to_jsonl()?)?;
    text(TEMPLATE, &template_json(TEMPLATE, objective.template_text())?)?;
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

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Error::Internal(format!("JSON: {e}")))
}
