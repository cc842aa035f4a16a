//! Real weights and data sets that are not part of the repository.

use std::path::{Path, PathBuf};

/// `path` inside the folder named by `TRIBUTARY_SHARED`, or inside `../shared` beside the
/// repository; prints why and gives `None` when it is not there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("TRIBUTARY_SHARED").map_or_else(beside, PathBuf::from);
    let found = folder.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("skipped: {} is not there; set TRIBUTARY_SHARED to test with it", found.display());
    None
}
