//! Weights for tests: the committed fixtures, and files made in memory, valid or not.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The committed fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Name, dtype, axes, bytes.
pub type Tensor<'t> = (&'t str, Dtype, &'t [usize], Vec<u8>);

/// A safetensors file, written by the reference implementation.
pub fn safetensors(tensors: &[Tensor<'_>], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views: BTreeMap<&str, TensorView<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        })
        .collect();
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

/// A file with this text as its header, valid or not.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Little-endian bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Panics, naming `case`, unless `result` is an error whose text holds all `words`.
#[track_caller]
pub fn assert_refused<T>(case: &str, result: tributary_core::Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("{case}: was accepted") };
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{case}: `{word}` is not in `{text}`");
    }
}

/// The tensors of a file by name; metadata, whose times differ between runs, is left out.
pub fn tensors(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = std::fs::read(path).expect("the run has written it");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut tensors: Vec<_> =
        file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    tensors.sort();
    tensors
}
