//! Writing tables of embeddings, one row per item of a catalogue or per file of a folder; what reads
//! them is [`tributary_core::recommend::EmbeddingTable`].
//!
//! A table is a safetensors file: `item_embedding.weight` F32 (items, d), `present` U8 (items; 0 for
//! an item without picture or text, whose row is zeros), and in the metadata `encoder`,
//! `catalogue_sha256`, `modality` and `inputs_sha256`. While it is written it is `NAME.part`, from which an interrupted run goes on.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use tributary_core::recommend::TABLE_MODALITY;
pub use tributary_core::recommend::{TABLE_ITEMS as EMBEDDING, TABLE_PRESENT as PRESENT};
use tributary_core::weights::{NamedTensor, Sink, TensorSpec, save_safetensors};
use tributary_core::{Error, Result};

use crate::files;

/// Most values of a table: 16 GiB of them.
pub const MAX_TABLE_VALUES: usize = 1 << 32;

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableHeader {
    /// [`crate::encoder::Encoder::identity`].
    pub encoder: String,
    /// What of an item was encoded.
    pub modality: String,
    /// Of what was encoded: the catalogue's file, or the names of a folder's files.
    pub catalogue_sha256: String,
    /// Of every picture's or text's content.
    pub inputs_sha256: String,
    /// Rows.
    pub items: usize,
    /// Values of a row.
    pub embedding_size: usize,
}

impl TableHeader {
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("encoder".to_owned(), self.encoder.clone()),
            (TABLE_MODALITY.to_owned(), self.modality.clone()),
            ("catalogue_sha256".to_owned(), self.catalogue_sha256.clone()),
            ("inputs_sha256".to_owned(), self.inputs_sha256.clone()),
        ])
    }

    /// Whether `path` is a finished table of just this.
    pub fn is_current(&self, path: &Path) -> bool {
        let Ok(file) = files::open_checkpoint(path) else { return false };
        let shape = [self.items, self.embedding_size];
        file.info(EMBEDDING).is_some_and(|info| info.shape == shape)
            && self.metadata().iter().all(|(key, value)| file.metadata().get(key) == Some(value))
    }
}

/// State of an item in a table that is not finished.
const ABSENT: u8 = 0;
const DONE: u8 = 1;
const OPEN: u8 = 2;
/// Bytes that the header of an unfinished table takes.
const HEADER_BYTES: usize = 4096;

/// A table that grows in a file, never in memory.
#[derive(Debug)]
pub struct TableWriter {
    header: TableHeader,
    out: PathBuf,
    part: PathBuf,
    file: File,
    states: Vec<u8>,
}

impl TableWriter {
    /// Continues the unfinished table beside `out` when it is one of this header; begins otherwise.
    ///
    /// # Errors
    /// More than [`MAX_TABLE_VALUES`]; a file that cannot be written.
    pub fn open(out: &Path, header: TableHeader) -> Result<Self> {
        let values = header.items.saturating_mul(header.embedding_size);
        if values > MAX_TABLE_VALUES {
            let (limit, found) = (MAX_TABLE_VALUES as u64, values as u64);
            return Err(Error::Limit { what: "embedding table: values".into(), limit, found });
        }
        let part = with_ending(out, ".part");
        let io = |e| Error::io(part.display(), e);
        let mut text = serde_json::to_vec(&header).map_err(|e| Error::Internal(e.to_string()))?;
        if text.len() > HEADER_BYTES {
            let expected = format!("at most {HEADER_BYTES} bytes");
            return Err(Error::argument("embedding table", "header", expected, text.len()));
        }
        text.resize(HEADER_BYTES, b' ');
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(&part).map_err(io)?;
        let mut found = Vec::new();
        let head = (HEADER_BYTES + header.items) as u64;
        Read::by_ref(&mut file).take(head).read_to_end(&mut found).map_err(io)?;
        let this = |file, states| Self {
            header: header.clone(),
            out: out.into(),
            part: part.clone(),
            file,
            states,
        };
        if found.len() as u64 == head && found.starts_with(&text) {
            return Ok(this(file, found.split_off(HEADER_BYTES)));
        }
        let states = vec![OPEN; header.items];
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(io)?;
        file.write_all(&text).and_then(|()| file.write_all(&states)).map_err(io)?;
        file.set_len((row_start(&header) + values * 4) as u64).map_err(io)?;
        Ok(this(file, states))
    }

    /// Items of which nothing is known yet.
    pub fn open_items(&self) -> Vec<usize> {
        (0..self.states.len()).filter(|&item| self.states[item] == OPEN).collect()
    }

    /// Stores an item's row, or that it has none.
    ///
    /// # Errors
    /// A row of another size, an item that is not there, a file that cannot be written.
    pub fn write(&mut self, item: usize, row: Option<&[f32]>) -> Result<()> {
        let size = self.header.embedding_size;
        let fits = row.is_none_or(|row| row.len() == size);
        let Some(state) = self.states.get_mut(item).filter(|_| fits) else {
            let expected = format!("a row of {size} values for an item of the table");
            let found = format!("{} for item {item}", row.map_or(0, <[f32]>::len));
            return Err(Error::argument("embedding table", "row", expected, found));
        };
        *state = if row.is_some() { DONE } else { ABSENT };
        let (state, start) = (*state, row_start(&self.header) + item * size * 4);
        // The row before its state: what is marked as done is there.
        let mut write = |at: usize, bytes: &[u8]| {
            let at = self.file.seek(SeekFrom::Start(at as u64));
            at.and_then(|_| self.file.write_all(bytes))
                .map_err(|e| Error::io(self.part.display(), e))
        };
        if let Some(row) = row {
            let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
            write(start, &bytes)?;
        }
        write(HEADER_BYTES + item, &[state])
    }

    /// Makes the table of it; `Err` while items are open.
    pub fn finish(self) -> Result<()> {
        let TableHeader { items, embedding_size, .. } = self.header;
        if let Some(item) = self.states.iter().position(|&state| state == OPEN) {
            let found = format!("item {item} is open");
            return Err(Error::argument("embedding table", "items", "all encoded", found));
        }
        drop(self.file);
        let bytes = files::map(&self.part)?;
        let start = row_start(&self.header);
        let tensor = |name: &str, dtype, shape: &[usize], bytes| NamedTensor {
            spec: TensorSpec { name: name.into(), dtype, shape: shape.to_vec() },
            bytes,
        };
        let rows = start..start + items * embedding_size * 4;
        let tensors = [
            tensor(EMBEDDING, Dtype::F32, &[items, embedding_size], bytes.slice(rows)),
            tensor(PRESENT, Dtype::U8, &[items], bytes.slice(HEADER_BYTES..HEADER_BYTES + items)),
        ];
        let whole = with_ending(&self.out, ".tmp");
        let io = |e| Error::io(whole.display(), e);
        let mut sink = OneFile { file: File::create(&whole).map_err(io)?, path: whole.clone() };
        save_safetensors(&tensors, &self.header.metadata(), None, &mut sink)?;
        sink.file.sync_all().map_err(io)?;
        std::fs::rename(&whole, &self.out).map_err(io)?;
        std::fs::remove_file(&self.part).map_err(|e| Error::io(self.part.display(), e))
    }
}

/// Rows begin at a multiple of 4096, as a mapping wants them.
fn row_start(header: &TableHeader) -> usize {
    (HEADER_BYTES + header.items).next_multiple_of(HEADER_BYTES)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Whatever the writer calls its file, there is this one.
struct OneFile {
    file: File,
    path: PathBuf,
}

impl Sink for OneFile {
    fn write_at(&mut self, _name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let io = |e| Error::io(self.path.display(), e);
        self.file.seek(SeekFrom::Start(offset)).map_err(io)?;
        self.file.write_all(bytes).map_err(io)
    }
}
