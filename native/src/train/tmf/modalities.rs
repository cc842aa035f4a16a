//! What the encoders have left for TMF to fuse.

use std::path::{Path, PathBuf};

use tributary_core::Result;
use tributary_core::backend::MatrixData;
use tributary_core::recommend::{EmbeddingTable, ItemEmbeddings, behaviour_rows, one_hot};

use super::TablesConfig;
use crate::data::Dataset;
use crate::files;
use crate::train::graph::table::{catalogue_sha256, item_table};

/// Beginning of the names of the fusion's weights during training.
pub(super) const FUSION: &str = "fusion.";
/// The behaviours' embeddings, which the graph encoder has trained.
pub(super) const BEHAVIOUR_TABLE: &str = "behaviour_embedding.weight";

/// What encoders know of the items and behaviours of a data set.
#[derive(Clone, Default)]
pub(super) struct Modalities {
    pub(super) items: Option<ItemEmbeddings>,
    /// (behaviours, behaviour_size)
    behaviours: Vec<f32>,
    num_behaviours: usize,
}

impl Modalities {
    /// `data` is where `dataset` was read from.
    pub(super) fn read(config: &TablesConfig, dataset: &Dataset, data: &Path) -> Result<Self> {
        let items = dataset.catalogue.len();
        let catalogue = catalogue_sha256(dataset, data)?;
        let table = |path: &Option<PathBuf>, modality| match path {
            Some(path) => item_table(path, modality, dataset, &catalogue),
            None => Ok(EmbeddingTable::absent(items)),
        };
        let num_behaviours = dataset.behaviours.len();
        let behaviours = match &config.graph {
            Some(path) => behaviour_rows(&files::open_checkpoint(path)?, &dataset.behaviours)?,
            None => one_hot(num_behaviours),
        };
        let items = ItemEmbeddings {
            image: table(&config.image, "image")?,
            text: table(&config.text, "text")?,
            graph: table(&config.graph, "graph")?,
        };
        Ok(Self { items: Some(items), behaviours, num_behaviours })
    }

    /// Widths of picture, text and graph.
    pub(super) fn widths(&self) -> [usize; 3] {
        let width =
            |items: &ItemEmbeddings| [&items.image, &items.text, &items.graph].map(|t| t.width());
        self.items.as_ref().map_or([0; 3], width)
    }

    pub(super) fn behaviour_size(&self) -> usize {
        self.behaviours.len() / self.num_behaviours.max(1)
    }

    pub(super) fn num_behaviours(&self) -> usize {
        self.num_behaviours
    }

    /// The behaviours' table as a weight.
    pub(super) fn behaviour_table(&self) -> MatrixData {
        let shape = [self.num_behaviours, self.behaviour_size()];
        let name = BEHAVIOUR_TABLE.trim_end_matches(".weight");
        MatrixData::from_f32(name, &self.behaviours, shape)
    }
}
