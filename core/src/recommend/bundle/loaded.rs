//! A bundle whose files are in memory, and the recommenders it becomes.
//!
//! Nothing of a bundle is used before its size and sha256 have been compared with the manifest.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    ALMOST_REC, BUNDLE_FILE, BundleFile, BundleManifest, BundleText, MLLM_SREC, MLLM4REC, TMF,
};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::sequence::SequenceConfig;
use crate::recommend::{Catalogue, GraphModel, GraphRecommender, SequenceRecommender};
use crate::weights::{Checkpoint, ConfigReader, Weights};

/// Recommenders that are a graph encoder, by the `model_type` of their `config.json`.
const GRAPH_RECOMMENDERS: [&str; 2] = ["mbht", "lightgcn"];

/// A bundle whose files are verified and in memory.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: BundleManifest,
    files: BTreeMap<String, Bytes>,
}

impl Bundle {
    /// The files of a recommender that is no bundle yet: (component, name, bytes). There is nothing to
    /// verify against; the manifest is what it would be.
    ///
    /// # Errors
    /// No configuration, or one that is not JSON.
    pub fn of_files(files: Vec<(&str, &str, Bytes)>) -> Result<Self> {
        let text = BundleText { recommender: "sasrec".into(), ..BundleText::default() };
        let manifest = BundleManifest::of_files(&files, text)?;
        let files = files.into_iter().map(|(_, name, bytes)| (name.into(), bytes)).collect();
        let mut bundle = Self { manifest, files };
        let (name, config) = bundle.text("config")?;
        let known = GRAPH_RECOMMENDERS.iter().chain(&SequenceConfig::MODEL_TYPES);
        let kind = ConfigReader::new(name, &config)?
            .str("model_type")
            .ok()
            .and_then(|kind| known.clone().find(|known| **known == kind));
        if bundle.has("tmf") {
            bundle.manifest.recommender = TMF.into();
        } else if bundle.has("almost_rec") {
            bundle.manifest.recommender = ALMOST_REC.into();
        } else if bundle.has("mllm4rec") {
            bundle.manifest.recommender = MLLM4REC.into();
        } else if bundle.has("mllm_srec") {
            bundle.manifest.recommender = MLLM_SREC.into();
        } else if let Some(kind) = kind {
            bundle.manifest.recommender = (*kind).into();
        }
        Ok(bundle)
    }

    /// A bundle whose files were verified while they arrived.
    ///
    /// # Errors
    /// A file that is missing or of another size than the manifest says.
    pub fn verified(manifest: BundleManifest, files: BTreeMap<String, Bytes>) -> Result<Self> {
        for file in manifest.files() {
            let found = files.get(&file.name).map_or(0, Bytes::len);
            if found as u64 != file.bytes {
                let (file, expected) = (file.name.clone(), file.bytes.to_string());
                let (field, found) = ("bytes".into(), found.to_string());
                return Err(Error::Integrity { file, field, expected, found });
            }
        }
        Ok(Self { manifest, files })
    }

    /// Whether the recommender is a graph encoder.
    pub fn is_graph(&self) -> bool {
        GRAPH_RECOMMENDERS.contains(&self.manifest.recommender.as_str())
    }

    /// Name and text of a component of one file.
    pub(super) fn text(&self, component: &str) -> Result<(&str, String)> {
        let (name, bytes) = self.single(component)?;
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|e| Error::file(name, "content", "UTF-8 text", e))?;
        Ok((name, text.to_owned()))
    }

    /// The tensors of a component of one file.
    ///
    /// # Errors
    /// There is no such component, it has several files, or they are not safetensors.
    pub fn checkpoint(&self, component: &str) -> Result<Checkpoint> {
        let (name, bytes) = self.single(component)?;
        Checkpoint::from_bytes(name, bytes)
    }

    /// The bundle's graph recommender on `backend`.
    ///
    /// # Errors
    /// Another kind of recommender; a configuration, checkpoint, table or catalogue that does not
    /// fit, or no catalogue.
    pub fn graph_recommender<B: Backend>(&self, backend: &B) -> Result<GraphRecommender<B>> {
        if !self.is_graph() {
            return Err(self.unsupported(&GRAPH_RECOMMENDERS.join(", ")));
        }
        let (file, config) = self.text("config")?;
        let (name, bytes) = self.single("model")?;
        let checkpoint = Checkpoint::from_bytes(name, bytes)?;
        let weights = Weights::new(backend, &checkpoint);
        let table = match self.single("graph") {
            Ok((name, bytes)) => Some(Checkpoint::from_bytes(name, bytes)?),
            Err(_) => None,
        };
        let model = GraphModel::load(file, &config, &weights, table.as_ref())?;
        let catalogue = self.catalogue()?.ok_or_else(|| {
            Error::file(BUNDLE_FILE, "component catalogue", "the items of the model", "none")
        })?;
        GraphRecommender::new(backend.clone(), model, catalogue)
    }

    pub(super) fn unsupported(&self, supported: &str) -> Error {
        Error::Unsupported {
            file: BUNDLE_FILE.into(),
            field: "recommender".into(),
            found: self.manifest.recommender.clone(),
            supported: supported.into(),
        }
    }

    /// The bundle's sequence recommender on `backend`.
    ///
    /// # Errors
    /// Another kind of recommender; a configuration, checkpoint or catalogue that does not fit.
    pub fn sequence_recommender<B: Backend>(&self, backend: &B) -> Result<SequenceRecommender<B>> {
        let kind = self.manifest.recommender.as_str();
        if !SequenceConfig::MODEL_TYPES.contains(&kind) {
            let (sequence, graph) =
                (SequenceConfig::MODEL_TYPES.join(", "), GRAPH_RECOMMENDERS.join(", "));
            let known =
                format!("{sequence}, {graph}, {TMF}, {ALMOST_REC}, {MLLM4REC}, {MLLM_SREC}");
            return Err(self.unsupported(&known));
        }
        let (name, text) = self.text("config")?;
        let found = SequenceConfig::parse(name, &text)?.model_type();
        if found != kind {
            return Err(Error::file(name, "model_type", kind, found));
        }
        self.sequence_model("config", "model", backend)
    }

    /// The sequence recommender of these two components over the bundle's catalogue.
    pub(super) fn sequence_model<B: Backend>(
        &self,
        config: &str,
        model: &str,
        backend: &B,
    ) -> Result<SequenceRecommender<B>> {
        let (name, text) = self.text(config)?;
        let config = SequenceConfig::parse(name, &text)?;
        let (name, bytes) = self.single(model)?;
        let checkpoint = Checkpoint::from_bytes(name, bytes)?;
        let weights = Weights::new(backend, &checkpoint);
        let recommender = SequenceRecommender::load(&weights, config, self.catalogue()?)?;
        let unused = weights.unused();
        if !unused.is_empty() {
            tracing::warn!(file = name, ?unused, "tensors that the model does not use");
        }
        Ok(recommender)
    }

    /// Verifies a bundle whose files are in the program: `(name, bytes)` each, the manifest among
    /// them.
    ///
    /// # Errors
    /// As for [`Bundle::assemble`].
    pub fn embedded(files: &[(&str, &'static [u8])]) -> Result<Self> {
        let find = |name: &str| {
            let file = files.iter().find(|(known, _)| *known == name);
            let missing = || Error::file(name, "file", "a file of the embedded bundle", "none");
            file.map(|(_, bytes)| Bytes::from_static(bytes)).ok_or_else(missing)
        };
        Self::assemble(&find(BUNDLE_FILE)?, |file| find(&file.name))
    }

    /// The bundle of this manifest; `get` gives the bytes of its files.
    ///
    /// # Errors
    /// A manifest that is not one, a file that is not the one the manifest was written for.
    pub fn assemble(manifest: &[u8], get: impl Fn(&BundleFile) -> Result<Bytes>) -> Result<Self> {
        let manifest = BundleManifest::parse(BUNDLE_FILE, manifest)?;
        let mut files = BTreeMap::new();
        for file in manifest.files() {
            let bytes = get(file)?;
            file.verify(&bytes)?;
            files.insert(file.name.clone(), bytes);
        }
        Ok(Self { manifest, files })
    }

    /// Name and bytes of each file of a component, in order.
    ///
    /// # Errors
    /// There is no such component.
    pub fn component(&self, name: &str) -> Result<Vec<(&str, Bytes)>> {
        let files = self.manifest.component(name)?;
        files.iter().map(|file| Ok((file.name.as_str(), self.file(&file.name)?))).collect()
    }

    /// The bytes of a component of one file.
    ///
    /// # Errors
    /// There is no such component, or it has several files.
    pub fn single(&self, name: &str) -> Result<(&str, Bytes)> {
        let mut files = self.component(name)?;
        match (files.pop(), files.len()) {
            (Some(only), 0) => Ok(only),
            (_, others) => {
                let field = format!("component {name}");
                Err(Error::file(BUNDLE_FILE, field, "one file", others + 1))
            }
        }
    }

    /// Whether it has a component of this name.
    pub fn has(&self, component: &str) -> bool {
        self.manifest.components.iter().any(|known| known.name == component)
    }

    /// The catalogue, if the bundle has one.
    ///
    /// # Errors
    /// A catalogue file that is not one.
    pub fn catalogue(&self) -> Result<Option<Catalogue>> {
        if !self.has("catalogue") {
            return Ok(None);
        }
        let (name, bytes) = self.single("catalogue")?;
        Catalogue::from_jsonl(name, &bytes).map(Some)
    }

    fn file(&self, name: &str) -> Result<Bytes> {
        let bytes = self.files.get(name).cloned();
        bytes.ok_or_else(|| Error::Internal(format!("bundle file {name} was not kept")))
    }
}
