//! Files for tests: made in memory, in a folder of their own, or found beside the repository.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The committed fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A file or folder of the read-only material beside the repository, or `None` with the reason
/// printed. `TRIBUTARY_SHARED` names another place for it.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TRIBUTARY_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("skipped: there is no {}", found.display());
    None
}

/// A folder that is gone at the end of the test.
pub struct TestFolder(PathBuf);

impl TestFolder {
    /// A new empty folder.
    #[expect(clippy::new_without_default, reason = "making a folder is no default")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tributary-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and gives its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
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

/// `n` values between -1 and 1, the same for the same seed.
pub fn spread(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..n).map(|_| (next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

/// `Err`'s whole text; fails with `case` when it is `Ok` or lacks one of `words`.
pub fn assert_refused<T>(case: &str, result: tributary_core::Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("{case}: was accepted") };
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{case}: `{word}` is not in `{text}`");
    }
}
