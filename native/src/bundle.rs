//! Bundles as folders and as bytes inside the program.
//!
//! Nothing of a bundle is used before its size and sha256 have been compared with the manifest.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use tributary_core::backend::Backend;
use tributary_core::models::sasrec::SasRecConfig;
use tributary_core::recommend::{
    BUNDLE_FILE, BUNDLE_FORMAT_VERSION, BundleFile, BundleManifest, Catalogue, Component,
    GraphModel, GraphRecommender, SequenceRecommender,
};
use tributary_core::weights::{Checkpoint, ConfigReader, Weights};
use tributary_core::{Error, Result};

use crate::data::CATALOGUE_FILE;
use crate::tmf::{
    FUSION_CONFIG, FUSION_WEIGHTS, IMAGE_TABLE, TEMPLATE, TEXT_TABLE, TMF, TMF_CONFIG,
};

/// File name of a graph encoder's tables.
pub const GRAPH_TABLE: &str = "graph.safetensors";

/// Component, file, whether it may be missing: what a model's folder holds.
const MODEL_FILES: [(&str, &str, bool); 11] = [
    ("config", "config.json", false),
    ("model", "model.safetensors", false),
    ("catalogue", CATALOGUE_FILE, true),
    ("graph", GRAPH_TABLE, true),
    ("tokenizer", "tokenizer.json", true),
    ("tmf", TMF_CONFIG, true),
    ("template", TEMPLATE, true),
    ("fusion_config", FUSION_CONFIG, true),
    ("fusion", FUSION_WEIGHTS, true),
    ("image", IMAGE_TABLE, true),
    ("text", TEXT_TABLE, true),
];

/// The files of a recommender beside its language model's.
pub(crate) fn files_beside_the_model() -> impl Iterator<Item = &'static str> {
    MODEL_FILES.into_iter().map(|(_, name, _)| name).filter(|name| *name != "model.safetensors")
}

/// Recommenders that are a graph encoder, by the `model_type` of their `config.json`.
const GRAPH_RECOMMENDERS: [&str; 2] = ["mbht", "lightgcn"];

/// A bundle whose files are verified and in memory.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: BundleManifest,
    files: BTreeMap<String, Bytes>,
}

/// What a new bundle says of itself.
#[derive(Clone, Debug, Default)]
pub struct BundleText {
    /// Which recommender reads it, such as `sasrec`.
    pub recommender: String,
    /// Under which terms it may be used.
    pub licence: String,
    /// Where it came from: data, command, version.
    pub provenance: String,
    /// What was measured with it, by metric, and over what.
    pub quality: BTreeMap<String, serde_json::Value>,
}

impl Bundle {
    /// Reads and verifies the bundle in `folder`.
    ///
    /// # Errors
    /// No readable manifest; a file that is missing, a symbolic link, or not the file the manifest
    /// was written for.
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest = read_file(folder, BUNDLE_FILE, None)?;
        Self::assemble(&manifest, |file| read_file(folder, &file.name, Some(file.bytes)))
    }

    /// The folder of a recommender that is no bundle yet: `config.json`, `model.safetensors` and
    /// whatever else of its parts there is. There is nothing to verify against; the manifest is what it would be.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn from_model(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for (component, name, optional) in MODEL_FILES {
            if !optional || folder.join(name).is_file() {
                files.push((component, name, read_file(folder, name, None)?));
            }
        }
        let text = BundleText { recommender: "sasrec".into(), ..BundleText::default() };
        let manifest = manifest(&files, text)?;
        let files = files.into_iter().map(|(_, name, bytes)| (name.into(), bytes)).collect();
        let mut bundle = Self { manifest, files };
        let (name, config) = bundle.config()?;
        let kind = ConfigReader::new(name, &config)?
            .str("model_type")
            .ok()
            .and_then(|kind| GRAPH_RECOMMENDERS.iter().find(|known| **known == kind));
        if bundle.has("tmf") {
            bundle.manifest.recommender = TMF.into();
        } else if let Some(kind) = kind {
            bundle.manifest.recommender = (*kind).into();
        }
        Ok(bundle)
    }

    /// Whether the recommender is a graph encoder.
    pub fn is_graph(&self) -> bool {
        GRAPH_RECOMMENDERS.contains(&self.manifest.recommender.as_str())
    }

    /// Name and text of the configuration.
    fn config(&self) -> Result<(&str, String)> {
        let (name, text) = self.single("config")?;
        let text = std::str::from_utf8(&text)
            .map_err(|e| Error::file(name, "content", "UTF-8 text", e))?;
        Ok((name, text.to_owned()))
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
        let (file, config) = self.config()?;
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

    pub(crate) fn unsupported(&self, supported: &str) -> Error {
        Error::Unsupported {
            file: BUNDLE_FILE.into(),
            field: "recommender".into(),
            found: self.manifest.recommender.clone(),
            supported: supported.into(),
        }
    }

    /// [`Bundle::read`] for a folder with a manifest, else [`Bundle::from_model`].
    ///
    /// # Errors
    /// As these two.
    pub fn open(folder: &Path) -> Result<Self> {
        match folder.join(BUNDLE_FILE).exists() {
            true => Self::read(folder),
            false => Self::from_model(folder),
        }
    }

    /// The bundle's sequence recommender on `backend`.
    ///
    /// # Errors
    /// Another kind of recommender; a configuration, checkpoint or catalogue that does not fit.
    pub fn sequence_recommender<B: Backend>(&self, backend: &B) -> Result<SequenceRecommender<B>> {
        if self.manifest.recommender != "sasrec" {
            return Err(self.unsupported(&format!("sasrec, {}", GRAPH_RECOMMENDERS.join(", "))));
        }
        let (name, text) = self.config()?;
        let config = SasRecConfig::parse(name, &text)?;
        let (name, bytes) = self.single("model")?;
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
    /// As for [`Bundle::read`].
    pub fn embedded(files: &[(&str, &'static [u8])]) -> Result<Self> {
        let find = |name: &str| {
            let file = files.iter().find(|(known, _)| *known == name);
            let missing = || Error::file(name, "file", "a file of the embedded bundle", "none");
            file.map(|(_, bytes)| Bytes::from_static(bytes)).ok_or_else(missing)
        };
        Self::assemble(&find(BUNDLE_FILE)?, |file| find(&file.name))
    }

    fn assemble(manifest: &[u8], get: impl Fn(&BundleFile) -> Result<Bytes>) -> Result<Self> {
        let manifest = BundleManifest::parse(BUNDLE_FILE, manifest)?;
        let mut files = BTreeMap::new();
        for file in manifest.components.iter().flat_map(|component| &component.files) {
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

/// Makes `folder` a bundle: `config.json`, `model.safetensors` and, if there is one,
/// `graph.safetensors` are copied from `model`, the catalogue is written, and the manifest lists
/// all. Other files of `folder` stay.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write_bundle(
    folder: &Path,
    model: &Path,
    catalogue: &Catalogue,
    text: BundleText,
) -> Result<BundleManifest> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder.display(), e))?;
    let catalogue = Bytes::from(catalogue.to_jsonl()?);
    let mut files = Vec::new();
    for (component, name, optional) in MODEL_FILES {
        let bytes = match component {
            "catalogue" => catalogue.clone(),
            _ if optional && !model.join(name).is_file() => continue,
            _ => read_file(model, name, None)?,
        };
        write_file(folder, name, &bytes)?;
        files.push((component, name, bytes));
    }
    let manifest = manifest(&files, text)?;
    // Last, so that a folder half written is no bundle.
    write_file(folder, BUNDLE_FILE, manifest.to_json()?.as_bytes())?;
    Ok(manifest)
}

/// The manifest of these files: (component, name, bytes).
fn manifest(files: &[(&str, &str, Bytes)], text: BundleText) -> Result<BundleManifest> {
    let mut components = Vec::new();
    for (component, name, bytes) in files {
        let files = vec![BundleFile::new(name, bytes)?];
        components.push(Component { name: component.to_string(), files });
    }
    let BundleText { recommender, licence, provenance, quality } = text;
    let format_version = BUNDLE_FORMAT_VERSION;
    Ok(BundleManifest { format_version, recommender, components, licence, provenance, quality })
}

/// A file of `folder` itself: never a link, which could lead out of it, and never larger than the
/// manifest says.
fn read_file(folder: &Path, name: &str, bytes: Option<u64>) -> Result<Bytes> {
    let path = folder.join(name);
    let io = |e| Error::io(path.display(), e);
    let metadata = std::fs::symlink_metadata(&path).map_err(io)?;
    if !metadata.is_file() {
        return Err(Error::file(name, "kind", "a plain file", "a link or a folder"));
    }
    if let Some(expected) = bytes.filter(|&expected| expected != metadata.len()) {
        let expected = format!("{expected} bytes");
        return Err(Error::file(name, "size", expected, metadata.len()));
    }
    Ok(std::fs::read(&path).map_err(io)?.into())
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    // Writing a file onto itself, when model and bundle are one folder, would be a pointless risk.
    if std::fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    std::fs::write(&path, bytes).map_err(|e| Error::io(path.display(), e))
}

/// A file of the demo bundle with its bytes.
macro_rules! demo_file {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../demo/", $name)) as &[u8])
    };
}

/// The embedded bundle of `--bundle demo`: TMF trained on the synthetic shop, in q8.
///
/// # Errors
/// A build whose embedded files do not fit each other.
pub fn demo() -> Result<Bundle> {
    Bundle::embedded(&[
        demo_file!("bundle.json"),
        demo_file!("config.json"),
        demo_file!("model.safetensors"),
        demo_file!("catalogue.jsonl"),
        demo_file!("graph.safetensors"),
        demo_file!("tokenizer.json"),
        demo_file!("tmf.json"),
        demo_file!("template.toml"),
        demo_file!("fusion.json"),
        demo_file!("fusion.safetensors"),
        demo_file!("image.safetensors"),
        demo_file!("text.safetensors"),
    ])
}
