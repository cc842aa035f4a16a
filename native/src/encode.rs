//! A whole catalogue, or a folder of pictures, through an encoder: in batches, resumable, one bad
//! picture reported and skipped.

use std::path::{Path, PathBuf};

use pollster::block_on;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tributary_core::backend::Backend;
use tributary_core::digest::hex;
use tributary_core::preprocess::{MAX_PICTURE_BYTES, decode};
use tributary_core::recommend::Catalogue;
use tributary_core::weights::check_base_name;
use tributary_core::{Error, Result};

use crate::data::CATALOGUE_FILE;
use crate::embedding_table::{TableHeader, TableWriter};
use crate::encoder::{Encoder, Modality};

/// Pictures or texts in one pass: enough rows for the products, few enough for the caches.
const BATCH: usize = 8;
/// Folder of a prepared catalogue's pictures.
pub const IMAGES_FOLDER: &str = "images";
/// Most files of a folder of pictures.
const MAX_FILES: usize = 1 << 24;

/// What is encoded for one row.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    Picture(PathBuf),
    Text(String),
    Nothing,
}

/// Inputs in the order of the table's rows, by name.
#[derive(Clone, Debug)]
pub struct Inputs {
    rows: Vec<(String, Input)>,
    sha256: String,
    modality: Modality,
}

/// A row that could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The item's id or the file's name.
    pub name: String,
    /// Why.
    pub error: String,
}

/// What [`encode`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Rows of the table.
    pub rows: usize,
    /// Rows encoded now; the others were there already.
    pub encoded: usize,
    /// Rows of items without picture or text.
    pub absent: usize,
    /// What was skipped.
    pub failures: Vec<Failure>,
    /// The table was there already, made of the same inputs by the same encoder.
    pub was_current: bool,
}

impl Inputs {
    /// The items of a prepared folder, in catalogue order: their pictures in `images`, or their
    /// titles and descriptions.
    ///
    /// # Errors
    /// A catalogue that cannot be read.
    pub fn of_catalogue(folder: &Path, modality: Modality) -> Result<Self> {
        let path = folder.join(CATALOGUE_FILE);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(path.display(), e))?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let catalogue = Catalogue::from_jsonl(CATALOGUE_FILE, &bytes)?;
        let rows = catalogue.items().iter().map(|item| {
            let input = match (modality, &item.image) {
                (Modality::Text, _) => item.text().map_or(Input::Nothing, Input::Text),
                (Modality::Image, None) => Input::Nothing,
                (Modality::Image, Some(name)) => {
                    check_base_name(CATALOGUE_FILE, &format!("image of {}", item.id), name)?;
                    Input::Picture(folder.join(IMAGES_FOLDER).join(name))
                }
            };
            Ok((item.id.to_string(), input))
        });
        Ok(Self { rows: rows.collect::<Result<_>>()?, sha256, modality })
    }

    /// The files of a folder, by name; folders in it are left out.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let io = |e| Error::io(folder.display(), e);
        let mut rows = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.is_file() && rows.len() < MAX_FILES {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                rows.push((name, Input::Picture(path)));
            }
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hash = Sha256::new();
        rows.iter().for_each(|(name, _)| hash.update(format!("{name}\n")));
        Ok(Self { rows, sha256: hex(&hash.finalize()), modality: Modality::Image })
    }

    /// Names of the rows: ids of items, or names of files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(name, _)| name.as_str())
    }

    /// The picture of each row, by name; `None` for rows without one.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = (&str, Option<&Path>)> {
        self.rows.iter().map(|(name, input)| match input {
            Input::Picture(path) => (name.as_str(), Some(path.as_path())),
            Input::Text(_) | Input::Nothing => (name.as_str(), None),
        })
    }

    /// Of the catalogue's file, or of the names of a folder's files.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Of every row's picture or text: a picture that was mended or replaced is another input.
    fn content_sha256(&self) -> String {
        let rows = self.rows.par_iter().map(|(_, input)| match input {
            Input::Nothing => None,
            Input::Text(text) => Some(Sha256::digest(text)),
            // What cannot be read is told when its turn comes.
            Input::Picture(path) => read_bytes(path).ok().map(Sha256::digest),
        });
        let rows: Vec<_> = rows.collect();
        let mut hash = Sha256::new();
        for row in rows {
            hash.update(row.unwrap_or_default());
        }
        hex(&hash.finalize())
    }

    /// Rows of the table.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without any row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Encodes what of `inputs` is not in the table at `out` yet, and finishes the table. At most one
/// batch is in memory. `progress` gets the rows done and their number.
///
/// # Errors
/// A file that cannot be written, an encoder that fails; a bad picture is no error but a
/// [`Failure`].
pub fn encode<B: Backend>(
    encoder: &Encoder<B>,
    inputs: &Inputs,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Encoded> {
    let header = TableHeader {
        encoder: encoder.identity()?,
        modality: inputs.modality.name().into(),
        catalogue_sha256: inputs.sha256.clone(),
        inputs_sha256: inputs.content_sha256(),
        items: inputs.len(),
        embedding_size: encoder.embedding_size(),
    };
    let mut done = Encoded { rows: inputs.len(), ..Encoded::default() };
    if header.is_current(out) {
        return Ok(Encoded { was_current: true, ..done });
    }
    let mut table = TableWriter::open(out, header)?;
    let open = table.open_items();
    let before = inputs.len() - open.len();
    for batch in open.chunks(BATCH) {
        let rows: Vec<_> = batch.iter().map(|&item| &inputs.rows[item]).collect();
        let embedded = match inputs.modality {
            Modality::Image => pictures(encoder, &rows)?,
            Modality::Text => texts(encoder, &rows)?,
        };
        for ((&item, (name, _)), row) in batch.iter().zip(rows).zip(embedded) {
            match row {
                Row::Embedding(row) => table.write(item, Some(&row))?,
                Row::Absent => {
                    done.absent += 1;
                    table.write(item, None)?;
                }
                Row::Failed(error) => {
                    tracing::debug!("{name}: {error}");
                    let error = error.to_string();
                    done.failures.push(Failure { name: name.clone(), error });
                    table.write(item, None)?;
                }
            }
        }
        done.encoded += batch.len();
        progress(before + done.encoded, inputs.len());
    }
    table.finish()?;
    Ok(done)
}

enum Row {
    Embedding(Vec<f32>),
    Absent,
    Failed(Error),
}

/// Files are read and resized side by side; the model takes the good ones in one pass.
fn pictures<B: Backend>(encoder: &Encoder<B>, rows: &[&(String, Input)]) -> Result<Vec<Row>> {
    // The encoder's backend need not be shared between threads; its rule for pictures is.
    let rule = encoder.picture_rule()?;
    let values: Vec<Option<Result<Vec<f32>>>> = rows
        .par_iter()
        .map(|(_, input)| match input {
            Input::Picture(path) => Some(read_picture(path).and_then(|p| rule.pixel_values(&p))),
            Input::Text(_) | Input::Nothing => None,
        })
        .collect();
    let good: Vec<&[f32]> = values.iter().flatten().flatten().map(Vec::as_slice).collect();
    let embedded = match good.is_empty() {
        true => Vec::new(),
        false => block_on(encoder.embed_pixel_values(&good.concat()))?,
    };
    let mut embedded = embedded.into_iter();
    Ok(values.into_iter().map(|value| row(value.map(|v| v.map(drop)), &mut embedded)).collect())
}

fn texts<B: Backend>(encoder: &Encoder<B>, rows: &[&(String, Input)]) -> Result<Vec<Row>> {
    let ids = rows.iter().map(|(_, input)| match input {
        Input::Text(text) => Some(encoder.tokens(text)),
        Input::Picture(_) | Input::Nothing => None,
    });
    let ids: Vec<Option<Result<Vec<u32>>>> = ids.collect();
    let good: Vec<&[u32]> = ids.iter().flatten().flatten().map(Vec::as_slice).collect();
    let embedded = if good.is_empty() { Vec::new() } else { block_on(encoder.embed_ids(&good))? };
    let mut embedded = embedded.into_iter();
    Ok(ids.into_iter().map(|ids| row(ids.map(|ids| ids.map(drop)), &mut embedded)).collect())
}

/// The next embedding for an input that was good.
fn row(input: Option<Result<()>>, embedded: &mut impl Iterator<Item = Vec<f32>>) -> Row {
    match input {
        None => Row::Absent,
        Some(Err(error)) => Row::Failed(error),
        Some(Ok(())) => embedded.next().map_or(Row::Absent, Row::Embedding),
    }
}

/// Decodes the picture file at `path`; reads no more than [`MAX_PICTURE_BYTES`].
///
/// # Errors
/// A file that cannot be read or is no picture; see [`decode`].
pub fn read_picture(path: &Path) -> Result<tributary_core::preprocess::Picture> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    decode(&name, &read_bytes(path)?)
}

/// No more than shows that a file is over [`MAX_PICTURE_BYTES`].
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let io = |e| Error::io(path.display(), e);
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    let limit = MAX_PICTURE_BYTES as u64 + 1;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit), &mut bytes).map_err(io)?;
    Ok(bytes)
}
