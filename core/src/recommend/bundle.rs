//! `bundle.json`: the list of a bundle's files, each with size and sha256, so that what runs is what
//! was measured. Files come from a folder, from the network or out of the program itself.

#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod almost_rec;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod encoder;
mod loaded;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod mllm4rec;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod mllm_srec;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
mod tmf;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::error::{Error, Result};
use crate::weights::check_base_name;

#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use almost_rec::{prompt_tokens, title_tokens};
pub use loaded::Bundle;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub use tmf::{behaviour_rows, one_hot};

/// The manifest's file name inside its bundle.
pub const BUNDLE_FILE: &str = "bundle.json";
/// The form this version reads and writes.
pub const BUNDLE_FORMAT_VERSION: u32 = 1;

/// The name by which manifests select Triple Modality Fusion.
pub(super) const TMF: &str = "tmf";
/// The name by which they select ALMOSTRec.
pub(super) const ALMOST_REC: &str = "almostrec";
/// The name by which they select MLLM4Rec.
pub(super) const MLLM4REC: &str = "mllm4rec";
/// The name by which they select MLLM-SRec.
pub(super) const MLLM_SREC: &str = "mllm_srec";

/// File name of the catalogue, one JSON line per item.
pub const CATALOGUE_FILE: &str = "catalogue.jsonl";
/// File name of a graph encoder's tables.
pub const GRAPH_TABLE: &str = "graph.safetensors";
/// How requests become prompts, for `tmf`.
pub const TMF_CONFIG: &str = "tmf.json";
/// Configuration of the fusion; absent where prompts are text.
pub const FUSION_CONFIG: &str = "fusion.json";
/// Weights of the fusion.
pub const FUSION_WEIGHTS: &str = "fusion.safetensors";
/// Wording of the prompts.
pub const TEMPLATE: &str = "template.json";
/// What ALMOSTRec is besides its language model, for `almostrec`.
pub const ALMOST_REC_CONFIG: &str = "almost_rec.json";
/// Its own layers.
pub const ALMOST_REC_WEIGHTS: &str = "almost_rec.safetensors";
/// The item table of the sequence recommender that it reads.
pub const SEQUENCE_TABLE: &str = "sequence.safetensors";
/// How requests become prompts, for `mllm4rec`.
pub const MLLM4REC_CONFIG: &str = "mllm4rec.json";
/// How requests become prompts, for `mllm_srec`.
pub const MLLM_SREC_CONFIG: &str = "mllm_srec.json";
/// Summaries of users' windows that were written before; absent where none were.
pub const SUMMARIES: &str = "summaries.jsonl";
/// The sequence recommender that finds candidates for a language model: configuration and weights.
pub const RETRIEVER_FILES: [&str; 2] = ["retriever.json", "retriever.safetensors"];
/// Embeddings of the pictures; absent where pictures are not used, like the next two.
pub const IMAGE_TABLE: &str = "image.safetensors";
/// Embeddings of the texts.
pub const TEXT_TABLE: &str = "text.safetensors";
/// Files of the encoder that made these tables, for items that come at run time; absent where none
/// should: configuration, weights, tokenizer, how pictures become pixel values.
pub const ENCODER_FILES: [&str; 4] =
    ["encoder.json", "encoder.safetensors", "encoder_tokenizer.json", "encoder_preprocessor.json"];

/// Component, file, whether it may be missing: what a bundle's folder holds.
pub const COMPONENT_FILES: [(&str, &str, bool); 23] = [
    ("config", "config.json", false),
    ("model", "model.safetensors", false),
    ("catalogue", CATALOGUE_FILE, true),
    ("graph", GRAPH_TABLE, true),
    ("tokenizer", "tokenizer.json", true),
    ("tmf", TMF_CONFIG, true),
    ("template", TEMPLATE, true),
    ("fusion_config", FUSION_CONFIG, true),
    ("fusion", FUSION_WEIGHTS, true),
    ("almost_rec_config", ALMOST_REC_CONFIG, true),
    ("almost_rec", ALMOST_REC_WEIGHTS, true),
    ("sequence", SEQUENCE_TABLE, true),
    ("mllm4rec", MLLM4REC_CONFIG, true),
    ("mllm_srec", MLLM_SREC_CONFIG, true),
    ("summaries", SUMMARIES, true),
    ("retriever_config", RETRIEVER_FILES[0], true),
    ("retriever", RETRIEVER_FILES[1], true),
    ("image", IMAGE_TABLE, true),
    ("text", TEXT_TABLE, true),
    ("encoder_config", ENCODER_FILES[0], true),
    ("encoder", ENCODER_FILES[1], true),
    ("encoder_tokenizer", ENCODER_FILES[2], true),
    ("encoder_preprocessor", ENCODER_FILES[3], true),
];

/// Largest manifest.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
const MAX_FILES: usize = 1024;

/// What a bundle consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// [`BUNDLE_FORMAT_VERSION`].
    pub format_version: u32,
    /// Which recommender reads it, such as `sasrec`.
    pub recommender: String,
    /// Its parts.
    pub components: Vec<Component>,
    /// Under which terms it may be used.
    pub licence: String,
    /// Where it came from: data, command, version.
    pub provenance: String,
    /// What was measured with it, by metric, and over what.
    #[serde(default)]
    pub quality: BTreeMap<String, serde_json::Value>,
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

/// One part of a bundle and the files it is stored in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// What it is for: `config`, `model`, `catalogue`, ...
    pub name: String,
    /// Its files, in order; one unless it is sharded.
    pub files: Vec<BundleFile>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Its name inside the bundle's folder, nothing else.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its sha256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl BundleManifest {
    /// Reads and checks a manifest. `file` names it in errors.
    ///
    /// # Errors
    /// Text that is not a manifest, another format version, a file name that is not a plain base
    /// name, a file or component named twice.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self> {
        limit(format!("{file}: bytes"), MAX_MANIFEST_BYTES, text.len())?;
        // The version first: the rest of a newer manifest may look different.
        let invalid = |e: serde_json::Error| Error::file(file, "JSON", "a bundle's manifest", e);
        let value: serde_json::Value = serde_json::from_slice(text).map_err(invalid)?;
        let version = value.get("format_version").cloned().unwrap_or_default();
        if version != BUNDLE_FORMAT_VERSION {
            return Err(Error::Unsupported {
                file: file.into(),
                field: "format_version".into(),
                found: version.to_string(),
                supported: BUNDLE_FORMAT_VERSION.to_string(),
            });
        }
        let manifest: Self = serde_json::from_value(value).map_err(invalid)?;
        limit(format!("{file}: files"), MAX_FILES, manifest.files().count())?;
        let mut names = HashSet::new();
        for entry in manifest.files() {
            check_base_name(file, "files.name", &entry.name)?;
            let hash = entry.sha256.as_bytes();
            if hash.len() != 64 || !hash.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                let field = format!("sha256 of {}", entry.name);
                return Err(Error::file(file, field, "64 lower-case hex digits", &entry.sha256));
            }
            if !names.insert(&entry.name) {
                return Err(Error::file(file, "files", "each file once", &entry.name));
            }
        }
        let mut names = HashSet::new();
        for component in &manifest.components {
            if component.files.is_empty() {
                return Err(Error::file(file, &component.name, "at least one file", "none"));
            }
            if !names.insert(&component.name) {
                return Err(Error::file(file, "components", "each name once", &component.name));
            }
        }
        Ok(manifest)
    }

    /// The manifest of these files: (component, name, bytes).
    ///
    /// # Errors
    /// A name that is not a plain base name.
    pub fn of_files(files: &[(&str, &str, Bytes)], text: BundleText) -> Result<Self> {
        let mut components = Vec::new();
        for (component, name, bytes) in files {
            let files = vec![BundleFile::new(name, bytes)?];
            components.push(Component { name: component.to_string(), files });
        }
        let BundleText { recommender, licence, provenance, quality } = text;
        let format_version = BUNDLE_FORMAT_VERSION;
        Ok(Self { format_version, recommender, components, licence, provenance, quality })
    }

    /// The manifest as `bundle.json` holds it.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|e| Error::Internal(format!("{BUNDLE_FILE}: {e}")))? + "\n")
    }

    /// All its files, component by component.
    pub fn files(&self) -> impl Iterator<Item = &BundleFile> {
        self.components.iter().flat_map(|component| &component.files)
    }

    /// The files of the component `name`.
    ///
    /// # Errors
    /// There is no such component.
    pub fn component(&self, name: &str) -> Result<&[BundleFile]> {
        let component = self.components.iter().find(|component| component.name == name);
        component.map(|component| component.files.as_slice()).ok_or_else(|| {
            let names: Vec<_> = self.components.iter().map(|c| c.name.as_str()).collect();
            let expected = format!("a component `{name}`");
            Error::file(BUNDLE_FILE, "components", expected, names.join(", "))
        })
    }
}

impl BundleFile {
    /// The entry for a file of these bytes.
    ///
    /// # Errors
    /// `name` is not a plain base name.
    pub fn new(name: &str, bytes: &[u8]) -> Result<Self> {
        check_base_name(BUNDLE_FILE, "files.name", name)?;
        Ok(Self { name: name.into(), bytes: bytes.len() as u64, sha256: sha256(bytes) })
    }

    /// `Err` unless `bytes` are the bytes the manifest was written for.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        self.compare(bytes.len() as u64, &sha256(bytes))
    }

    /// `Err` unless the file has this size and this sha256.
    pub fn compare(&self, bytes: u64, sha256: &str) -> Result<()> {
        let differs = |field: &str, expected: &dyn ToString, found: &dyn ToString| {
            Err(Error::Integrity {
                file: self.name.clone(),
                field: field.into(),
                expected: expected.to_string(),
                found: found.to_string(),
            })
        };
        if bytes != self.bytes {
            return differs("bytes", &self.bytes, &bytes);
        }
        if sha256 != self.sha256 {
            return differs("sha256", &self.sha256, &sha256);
        }
        Ok(())
    }
}

fn limit(what: String, limit: usize, found: usize) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    Err(Error::Limit { what, limit: limit as u64, found: found as u64 })
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
