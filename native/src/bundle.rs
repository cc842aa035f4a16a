//! Bundles as folders, and the one inside the program.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use tributary_core::recommend::{
    BUNDLE_FILE, BundleManifest, COMPONENT_FILES, Catalogue, MAX_MANIFEST_BYTES,
};
pub use tributary_core::recommend::{Bundle, BundleText, GRAPH_TABLE};
use tributary_core::{Error, Result};

/// The files of a recommender beside its language model's.
pub(crate) fn files_beside_the_model() -> impl Iterator<Item = &'static str> {
    COMPONENT_FILES.into_iter().map(|(_, name, _)| name).filter(|name| *name != "model.safetensors")
}

/// Reads and verifies the bundle in `folder`.
///
/// # Errors
/// No readable manifest; a file that is missing, a symbolic link, or not the file the manifest was
/// written for.
pub fn read(folder: &Path) -> Result<Bundle> {
    let manifest = read_file(folder, BUNDLE_FILE, 0..=MAX_MANIFEST_BYTES as u64)?;
    Bundle::assemble(&manifest, |file| read_file(folder, &file.name, file.bytes..=file.bytes))
}

/// The folder of a recommender that is no bundle yet: `config.json`, `model.safetensors` and
/// whatever else of its parts there is. There is nothing to verify against.
///
/// # Errors
/// A file that cannot be read; those of [`Bundle::of_files`].
pub fn from_model(folder: &Path) -> Result<Bundle> {
    let mut files = Vec::new();
    for (component, name, optional) in COMPONENT_FILES {
        if !optional || folder.join(name).is_file() {
            files.push((component, name, read_file(folder, name, 0..=u64::MAX)?));
        }
    }
    Bundle::of_files(files)
}

/// [`read`] for a folder with a manifest, else [`from_model`].
///
/// # Errors
/// As these two.
pub fn open(folder: &Path) -> Result<Bundle> {
    match folder.join(BUNDLE_FILE).exists() {
        true => read(folder),
        false => from_model(folder),
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
    for (component, name, optional) in COMPONENT_FILES {
        let bytes = match component {
            "catalogue" => catalogue.clone(),
            _ if optional && !model.join(name).is_file() => continue,
            _ => read_file(model, name, 0..=u64::MAX)?,
        };
        write_file(folder, name, &bytes)?;
        files.push((component, name, bytes));
    }
    let manifest = BundleManifest::of_files(&files, text)?;
    // Last, so that a folder half written is no bundle.
    write_file(folder, BUNDLE_FILE, manifest.to_json()?.as_bytes())?;
    Ok(manifest)
}

/// Puts what was measured with the bundle in `folder` into its manifest, in place of what stood there.
///
/// # Errors
/// A folder that is not a bundle; a manifest that cannot be written.
pub fn record_quality(folder: &Path, quality: BTreeMap<String, serde_json::Value>) -> Result<()> {
    let manifest = BundleManifest { quality, ..read(folder)?.manifest };
    write_file(folder, BUNDLE_FILE, manifest.to_json()?.as_bytes())
}

/// A file of `folder` itself: never a link, which could lead out of it, and never larger than the
/// manifest says.
/// The file `name` if it has as many `bytes`.
fn read_file(folder: &Path, name: &str, bytes: RangeInclusive<u64>) -> Result<Bytes> {
    let path = folder.join(name);
    let io = |e| Error::io(path.display(), e);
    let metadata = std::fs::symlink_metadata(&path).map_err(io)?;
    if !metadata.is_file() {
        return Err(Error::file(name, "kind", "a plain file", "a link or a folder"));
    }
    if !bytes.contains(&metadata.len()) {
        let at_most = if bytes.start() < bytes.end() { "at most " } else { "" };
        let expected = format!("{at_most}{} bytes", bytes.end());
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
        demo_file!("template.json"),
        demo_file!("fusion.json"),
        demo_file!("fusion.safetensors"),
        demo_file!("image.safetensors"),
        demo_file!("text.safetensors"),
        demo_file!("encoder.json"),
        demo_file!("encoder.safetensors"),
        demo_file!("encoder_tokenizer.json"),
        demo_file!("encoder_preprocessor.json"),
    ])
}
