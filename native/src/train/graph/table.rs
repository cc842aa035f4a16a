//! `graph.safetensors`: what a graph encoder knows of items and behaviours.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};
use tributary_core::digest::hex;
use tributary_core::recommend::EmbeddingTable;
pub(super) use tributary_core::recommend::{TABLE_BEHAVIOURS as BEHAVIOURS, TABLE_ITEMS as ITEMS};
use tributary_core::weights::{Checkpoint, NamedTensor, TensorSpec};
use tributary_core::{Error, Result};

use super::super::checkpoint;
use crate::data::{CATALOGUE_FILE, Dataset};
use crate::files;

/// What is written.
pub(super) struct Tables {
    /// Kind of the encoder.
    pub(super) encoder: &'static str,
    /// (items, hidden_size), in catalogue order.
    pub(super) items: Vec<f32>,
    /// (behaviours, hidden_size)
    pub(super) behaviours: Vec<f32>,
    /// Which items were trained.
    pub(super) present: Vec<bool>,
}

/// The values of a trained tensor.
pub(super) fn values(weights: &Checkpoint, name: &str) -> Result<Vec<f32>> {
    weights.values(name)
}

/// Writes the tables of `dataset`, which was read from `data`.
pub(super) fn write(path: &Path, tables: &Tables, dataset: &Dataset, data: &Path) -> Result<()> {
    let items = tables.present.len();
    let size = tables.items.len() / items.max(1);
    let rows = tables.items.chunks_exact(size.max(1)).zip(&tables.present);
    let zeros = vec![0.0; size];
    let values: Vec<f32> =
        rows.flat_map(|(row, &present)| if present { row } else { &zeros[..] }).copied().collect();
    let present: Vec<u8> = tables.present.iter().map(|&present| u8::from(present)).collect();
    let behaviours = [dataset.behaviours.len(), size];
    let spec = TensorSpec { name: "present".into(), dtype: Dtype::U8, shape: vec![items] };
    let tensors = [
        NamedTensor::f32(ITEMS, &[items, size], &values),
        NamedTensor::f32(BEHAVIOURS, &behaviours, &tables.behaviours),
        NamedTensor { spec, bytes: Bytes::from(present) },
    ];
    let metadata = BTreeMap::from([
        ("encoder".to_owned(), tables.encoder.to_owned()),
        ("behaviours".to_owned(), dataset.behaviours.join(",")),
        ("catalogue_sha256".to_owned(), catalogue_sha256(dataset, data)?),
    ]);
    checkpoint::write(path, &tensors, metadata)
}

/// The table at `path`, if it is of this modality of the items of `dataset`, whose catalogue has this
/// sha256.
pub(crate) fn item_table(
    path: &Path,
    modality: &str,
    dataset: &Dataset,
    catalogue: &str,
) -> Result<EmbeddingTable> {
    let file = files::open_checkpoint(path)?;
    if let Some(of) = file.metadata().get("catalogue_sha256").filter(|of| **of != catalogue) {
        let expected = format!("{catalogue}, the catalogue of {}", dataset.name);
        return Err(Error::file(path.display(), "catalogue_sha256", expected, of));
    }
    let table = EmbeddingTable::load_as(&file, modality)?;
    let items = dataset.catalogue.len();
    match table.len() == items {
        true => Ok(table),
        false => {
            let expected = format!("{items} rows, one for each item of {}", dataset.name);
            Err(Error::file(path.display(), "rows", expected, table.len()))
        }
    }
}

/// Of the catalogue's file beside the data; of the catalogue as it would be written where there is
/// none.
pub(crate) fn catalogue_sha256(dataset: &Dataset, data: &Path) -> Result<String> {
    let folder = if data.is_dir() { Some(data) } else { data.parent() };
    let file = folder.map(|folder| folder.join(CATALOGUE_FILE)).filter(|file| file.is_file());
    let bytes = match file {
        Some(file) => std::fs::read(&file).map_err(|e| Error::io(file.display(), e))?,
        None => dataset.catalogue.to_jsonl()?.into_bytes(),
    };
    let mut hash = Sha256::new();
    hash.update(&bytes);
    Ok(hex(&hash.finalize()))
}
