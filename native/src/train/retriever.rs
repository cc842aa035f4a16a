//! A trained sequence recommender as the retriever of another recommender over the same items.

use std::path::Path;

use tributary_core::models::sequence::SequenceConfig;
use tributary_core::recommend::RETRIEVER_FILES;
use tributary_core::{Error, Result};

use super::sequence::check_items;
use crate::data::Dataset;
use crate::files;

/// Configuration and weights of the sequence recommender in `folder`, under the names that a bundle has
/// for its retriever.
///
/// # Errors
/// A folder that holds none, or one of other items than the data's, or in another order.
pub(super) fn retriever_files(
    folder: &Path,
    dataset: &Dataset,
) -> Result<[(&'static str, Vec<u8>); 2]> {
    let model = files::open_model(folder)?;
    let items = SequenceConfig::parse("config.json", &model.config)?.items().num_items;
    check_items(&model, folder, dataset)?;
    if items != dataset.catalogue.len() {
        let expected = format!("{} items", dataset.catalogue.len());
        return Err(Error::file(folder.display(), "num_items", expected, items));
    }
    let path = folder.join(super::WEIGHTS);
    let weights = std::fs::read(&path).map_err(|e| Error::io(path.display(), e))?;
    let [config, name] = RETRIEVER_FILES;
    Ok([(config, model.config.into_bytes()), (name, weights)])
}
