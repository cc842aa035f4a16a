//! A folder for one test's files, removed when the test ends.

use std::path::{Path, PathBuf};

/// An empty folder of this process and test.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// `name` tells the tests of one program apart.
    pub fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("tributary-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and gives its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
