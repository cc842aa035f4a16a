//! TMF from a bundle: the language model as Hugging Face keeps it, and beside it the fusion, the
//! embeddings of the catalogue and how requests become prompts.

use super::{BUNDLE_FILE, Bundle, TMF};
use crate::backend::{Backend, MatrixData};
use crate::error::{Error, Result};
use crate::models::fusion::{Fusion, FusionConfig};
use crate::models::llama::{Llama, LlamaConfig};
use crate::prompt::Template;
use crate::recommend::{
    EmbeddingTable, ItemEmbeddings, TABLE_BEHAVIOURS, TmfConfig, TmfParts, TmfRecommender,
};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Weights};

impl Bundle {
    /// The bundle's TMF on `backend`.
    ///
    /// # Errors
    /// Another kind of recommender; a component that is missing, or that does not fit the others.
    pub fn tmf_recommender<B: Backend>(&self, backend: &B) -> Result<TmfRecommender<B>> {
        if self.manifest.recommender != TMF {
            return Err(self.unsupported(TMF));
        }
        let (name, json) = self.text("tmf")?;
        let config = TmfConfig::parse(name, &json)?;
        let (name, toml) = self.text("template")?;
        let template = Template::parse(name, &toml)?;
        let (name, json) = self.text("config")?;
        let llama = LlamaConfig::parse(name, &json)?;
        let model = Llama::load(&Weights::new(backend, &self.checkpoint("model")?), llama)?;
        let (name, bytes) = self.single("tokenizer")?;
        let tokenizer = Tokenizer::from_bytes(name, &bytes)?;
        let catalogue = self.catalogue()?.ok_or_else(|| {
            Error::file(BUNDLE_FILE, "component catalogue", "the items of the model", "none")
        })?;
        let fusion = match self.has("fusion_config") {
            false => None,
            true => {
                let (name, json) = self.text("fusion_config")?;
                let fusion = FusionConfig::parse(name, &json)?;
                let table = |component: &str, width: usize| {
                    let table = match self.has(component) {
                        true => EmbeddingTable::load_as(&self.checkpoint(component)?, component)?,
                        false => EmbeddingTable::absent(catalogue.len()),
                    };
                    let found = table.width();
                    if found != width {
                        let field = format!("component {component}");
                        let expected = format!("{width} values an item, as {name} says");
                        return Err(Error::file(BUNDLE_FILE, field, expected, found));
                    }
                    Ok(table)
                };
                let items = ItemEmbeddings {
                    image: table("image", fusion.image_size)?,
                    text: table("text", fusion.text_size)?,
                    graph: table("graph", fusion.graph_size)?,
                };
                let rows = config.behaviours.len();
                let behaviours = match self.has("graph") {
                    true => behaviour_rows(&self.checkpoint("graph")?, &config.behaviours)?,
                    false => one_hot(rows),
                };
                let shape = [rows, behaviours.len() / rows.max(1)];
                let behaviours = MatrixData::from_f32("behaviour_embedding", &behaviours, shape);
                let behaviours = Some(backend.matrix(behaviours)?);
                let weights = self.checkpoint("fusion")?;
                Some((Fusion::load(&Weights::new(backend, &weights), fusion, behaviours)?, items))
            }
        };
        let parts = TmfParts { model, tokenizer, template, catalogue, fusion };
        TmfRecommender::new(backend.clone(), parts, config)
    }
}

/// The rows of a graph table's behaviours, in the order of `names`: (names, width).
///
/// # Errors
/// A behaviour that the table does not have; values that are not finite.
pub fn behaviour_rows(graph: &Checkpoint, names: &[String]) -> Result<Vec<f32>> {
    let values = graph.values(TABLE_BEHAVIOURS)?;
    if !values.iter().all(|value| value.is_finite()) {
        let field = format!("tensor `{TABLE_BEHAVIOURS}`");
        return Err(Error::file(graph.file(), field, "finite values", "others"));
    }
    let known = graph.metadata().get("behaviours").cloned().unwrap_or_default();
    let known: Vec<&str> = known.split(',').collect();
    let size = values.len() / known.len().max(1);
    let mut ordered = Vec::with_capacity(names.len() * size);
    for name in names {
        let row = known.iter().position(|known| known == name);
        let row = row.and_then(|row| values.get(row * size..(row + 1) * size));
        let Some(row) = row else {
            let expected = format!("`{name}` among them");
            return Err(Error::file(graph.file(), "behaviours", expected, known.join(",")));
        };
        ordered.extend_from_slice(row);
    }
    Ok(ordered)
}

/// Embeddings of behaviours that no graph encoder has compared: each different from the others.
pub fn one_hot(behaviours: usize) -> Vec<f32> {
    let row = |i: usize| (0..behaviours).map(move |j| f32::from(u8::from(i == j)));
    (0..behaviours).flat_map(row).collect()
}
