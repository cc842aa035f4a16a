//! Model and adapter folders: mapped weights, capped texts, and no way out of the folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tributary_core::encoder::EncoderFiles;
use tributary_core::weights::{
    Adapter, Checkpoint, MAX_CONFIG_BYTES, MAX_INDEX_BYTES, Sink, Storage, check_base_name,
    check_range,
};
use tributary_core::{Error, Result};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A Hugging Face style folder, opened: its configuration and its weights, and the other files by
/// name.
#[derive(Debug)]
pub struct ModelFolder {
    folder: Folder,
    /// Text of `config.json`.
    pub config: String,
    /// Its tensors, mapped.
    pub checkpoint: Checkpoint,
}

impl ModelFolder {
    /// Text of the file `name`, `None` when there is none. `Err` over `max_bytes` or when it is not
    /// UTF-8.
    pub fn text(&self, name: &str, max_bytes: usize) -> Result<Option<String>> {
        self.folder.text(name, max_bytes)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.folder.path
    }
}

impl EncoderFiles for ModelFolder {
    fn config(&self) -> &str {
        &self.config
    }

    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn text(&self, name: &str, max_bytes: usize) -> Result<Option<String>> {
        self.folder.text(name, max_bytes)
    }

    fn inner_text(&self, inner: &str, name: &str, max_bytes: usize) -> Result<Option<String>> {
        check_base_name(&self.folder.path.to_string_lossy(), "folder name", inner)?;
        let path = self.folder.path.join(inner);
        if !path.exists() {
            return Ok(None);
        }
        let folder = Folder::open(&path)?;
        // A link of the Hugging Face cache leads from a file, never from a folder.
        if folder.real.parent() != Some(&self.folder.real) {
            let found = "a link that leaves it";
            return Err(Error::file(path.display(), "path", "a folder in its folder", found));
        }
        folder.text(name, max_bytes)
    }
}

/// Opens a folder with `config.json` and `model.safetensors`, or shards under
/// `model.safetensors.index.json`.
pub fn open_model(path: &Path) -> Result<ModelFolder> {
    let folder = Folder::open(path)?;
    let config = folder.required_text("config.json", MAX_CONFIG_BYTES)?;
    let checkpoint = folder.checkpoint()?;
    Ok(ModelFolder { folder, config, checkpoint })
}

/// Opens the weights alone: a safetensors file, or a folder as [`open_model`] takes it.
pub fn open_checkpoint(path: &Path) -> Result<Checkpoint> {
    let is_file = path.metadata().map_err(|e| Error::io(path.display(), e))?.is_file();
    let (Some(name), true) = (path.file_name(), is_file) else {
        return Folder::open(path)?.checkpoint();
    };
    Checkpoint::open(&name.to_string_lossy(), Box::new(map(path)?))
}

/// Opens a folder with `adapter_config.json` and `adapter_model.safetensors`, an adapter of the
/// model of `base`.
pub fn open_adapter(path: &Path, base: &Checkpoint) -> Result<Adapter> {
    let folder = Folder::open(path)?;
    let config = folder.required_text("adapter_config.json", MAX_CONFIG_BYTES)?;
    let file = "adapter_model.safetensors";
    let tensors = Checkpoint::open(file, Box::new(map(&folder.required(file)?)?))?;
    Adapter::load(&config, &tensors, base)
}

/// A folder whose files are named by base names only.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Without symbolic links: what a file's own path must begin with.
    real: PathBuf,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let real = path.canonicalize().map_err(|e| Error::io(path.display(), e))?;
        if !real.is_dir() {
            return Err(Error::file(path.display(), "path", "a folder", "a file"));
        }
        Ok(Self { path: path.to_owned(), real })
    }

    /// Path of the file `name`, `None` when there is none. `Err` unless it is a regular file inside
    /// the folder, links followed.
    pub(crate) fn find(&self, name: &str) -> Result<Option<PathBuf>> {
        check_base_name(&self.path.to_string_lossy(), "file name", name)?;
        let path = self.path.join(name);
        let real = match path.canonicalize() {
            Ok(real) => real,
            // A dangling link is an error, a missing file is not.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {
                return Ok(None);
            }
            Err(e) => return Err(Error::io(path.display(), e)),
        };
        let inside = real.parent() == Some(&self.real)
            || self.hub_blobs().is_some_and(|blobs| real.parent() == Some(&blobs));
        if !inside {
            let found = "a link that leaves it";
            return Err(Error::file(path.display(), "path", "a file in its folder", found));
        }
        if !real.is_file() {
            let found = "a folder or a device";
            return Err(Error::file(path.display(), "path", "a regular file", found));
        }
        Ok(Some(real))
    }

    /// The one place outside that links may lead to: the Hugging Face cache keeps
    /// `models--org--name/snapshots/REVISION/FILE` as links into `models--org--name/blobs`.
    fn hub_blobs(&self) -> Option<PathBuf> {
        let snapshots = self.real.parent().filter(|p| p.ends_with("snapshots"))?;
        Some(snapshots.parent()?.join("blobs"))
    }

    fn required(&self, name: &str) -> Result<PathBuf> {
        self.find(name)?.ok_or_else(|| {
            Error::io(self.path.join(name).display(), std::io::ErrorKind::NotFound.into())
        })
    }

    fn text(&self, name: &str, max_bytes: usize) -> Result<Option<String>> {
        self.find(name)?.map(|path| read_text(&path, name, max_bytes)).transpose()
    }

    fn required_text(&self, name: &str, max_bytes: usize) -> Result<String> {
        read_text(&self.required(name)?, name, max_bytes)
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        if let Some(path) = self.find(WEIGHTS)? {
            return Checkpoint::open(WEIGHTS, Box::new(map(&path)?));
        }
        let Some(index) = self.text(INDEX, MAX_INDEX_BYTES as usize)? else {
            let path = self.path.display();
            return Err(Error::file(path, "weights", format!("{WEIGHTS} or {INDEX}"), "neither"));
        };
        Checkpoint::from_index(INDEX, &index, |shard| match self.find(shard)? {
            Some(path) => Ok(Box::new(map(&path)?) as Box<dyn Storage>),
            None => Err(Error::file(INDEX, "weight_map", format!("the file {shard}"), "none")),
        })
    }
}

/// The text of a file of at most `max_bytes`; reads no more than that whatever the file claims.
pub(crate) fn read_text(path: &Path, name: &str, max_bytes: usize) -> Result<String> {
    let io = |e| Error::io(path.display(), e);
    let limit = max_bytes as u64;
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::with_capacity(len.min(limit) as usize);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        let found = len.max(bytes.len() as u64);
        return Err(Error::Limit { what: format!("{name}: bytes"), limit, found });
    }
    String::from_utf8(bytes).map_err(|e| Error::file(name, "content", "UTF-8 text", e.utf8_error()))
}

/// The whole file as mapped memory: no copy, and the system loads pages as they are used.
/// A file that somebody else shortens meanwhile stops the process (SIGBUS); use [`PositionedFile`]
/// where that may happen.
#[expect(unsafe_code, reason = "a mapping is unsafe by nature; the reason it is sound is below")]
pub fn map(path: &Path) -> Result<Bytes> {
    let io = |e| Error::io(path.display(), e);
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Ok(Bytes::new()); // an empty mapping is refused by the system
    }
    // SAFETY: the mapping is read-only and private to this process, and its bytes are only ever
    // read as numbers, for which every bit pattern is a value. Another process that writes to the
    // file meanwhile can change results, not memory safety of what we build from them.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
    Ok(Bytes::from_owner(map))
}

/// A file read at positions: slower than [`map`], but safe from other processes.
#[derive(Debug)]
pub struct PositionedFile {
    path: PathBuf,
    file: Mutex<File>,
    len: u64,
}

impl PositionedFile {
    /// Opens the file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path.display(), e);
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), len })
    }
}

impl Storage for PositionedFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let positions = check_range(&range, self.len)?;
        let mut bytes = vec![0; positions.len()];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Error::io(self.path.display(), e))?;
        Ok(Bytes::from(bytes))
    }
}

/// A folder that weights are written to. Files are called `NAME.part` until [`FolderSink::finish`], so
/// that what was there before is replaced by whole files only; without it they are removed.
#[derive(Debug)]
pub struct FolderSink {
    path: PathBuf,
    files: BTreeMap<String, File>,
}

impl FolderSink {
    /// Writes into the folder `path`, which is made when it is missing.
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|e| Error::io(path.display(), e))?;
        Ok(Self { path: path.to_owned(), files: BTreeMap::new() })
    }

    /// Gives the files their names. Files of the same names are replaced, not written over: readers that
    /// have mapped them go on with what they have.
    pub fn finish(mut self) -> Result<()> {
        while let Some((name, file)) = self.files.pop_first() {
            let (part, path) = (self.part(&name), self.path.join(&name));
            file.sync_all()
                .and_then(|()| std::fs::rename(&part, &path))
                .map_err(|e| Error::io(path.display(), e))?;
        }
        Ok(())
    }

    fn part(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.part"))
    }
}

impl Drop for FolderSink {
    fn drop(&mut self) {
        for name in self.files.keys() {
            if let Err(error) = std::fs::remove_file(self.part(name)) {
                tracing::warn!("{}: {error}", self.part(name).display());
            }
        }
    }
}

impl Sink for FolderSink {
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        check_base_name(&self.path.to_string_lossy(), "file name", name)?;
        let path = self.part(name);
        let io = |e| Error::io(path.display(), e);
        if !self.files.contains_key(name) {
            self.files.insert(name.to_owned(), File::create(&path).map_err(io)?);
        }
        let Some(file) = self.files.get_mut(name) else { return Ok(()) };
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes)).map_err(io)
    }
}

/// Copies a file over whatever is there, which may be read-only.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    match std::fs::remove_file(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(to.display(), e));
        }
        _ => {}
    }
    let names = || format!("{} to {}", from.display(), to.display());
    std::fs::copy(from, to).map(|_| ()).map_err(|e| Error::io(names(), e))
}

/// Writes beside `path` and renames, so that nobody ever sees half a file.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let written = std::fs::File::create(&temporary).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        // The rename must not reach the disk before the bytes do.
        file.sync_all()
    });
    written.map_err(|e| Error::io(temporary.display(), e))?;
    std::fs::rename(&temporary, path).map_err(|e| Error::io(path.display(), e))
}

/// `Err` where no file can come to be at `path`, for commands that write it after long work.
pub(crate) fn check_output(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let expected = match path.symlink_metadata() {
        Ok(found) if !found.is_file() => "no folder, link or device of that name",
        _ if !folder.is_dir() => "a file in a folder that is there",
        _ => return Ok(()),
    };
    Err(Error::argument("write", "output", expected, path.display()))
}
