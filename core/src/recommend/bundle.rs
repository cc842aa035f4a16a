//! `bundle.json`: the list of a bundle's files, each with size and sha256, so that what runs is what
//! was measured. Files come from a folder, from the network or out of the program itself.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::weights::check_base_name;

/// The manifest's file name inside its bundle.
pub const BUNDLE_FILE: &str = "bundle.json";
/// The form this version reads and writes.
pub const BUNDLE_FORMAT_VERSION: u32 = 1;

const MAX_MANIFEST_BYTES: usize = 1 << 20;
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
        let files = || manifest.components.iter().flat_map(|component| &component.files);
        limit(format!("{file}: files"), MAX_FILES, files().count())?;
        let mut names = HashSet::new();
        for entry in files() {
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

    /// The manifest as `bundle.json` holds it.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|e| Error::Internal(format!("{BUNDLE_FILE}: {e}")))? + "\n")
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
        if bytes.len() as u64 != self.bytes {
            let (expected, found) = (self.bytes, bytes.len());
            return Err(Error::file(&self.name, "size", format!("{expected} bytes"), found));
        }
        let found = sha256(bytes);
        if found != self.sha256 {
            return Err(Error::file(&self.name, "sha256", &self.sha256, found));
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
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
