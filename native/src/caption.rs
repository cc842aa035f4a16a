//! The pictures of a catalogue, or of a folder, in words: one by one, resumable, one bad picture
//! reported and skipped.
//!
//! Captions are JSON lines: first a [`CaptionHeader`], then `{"id", "caption"}` for each picture. While
//! they are written they are `NAME.part`, from which an interrupted run goes on.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde::{Deserialize, Serialize};
use tributary_core::backend::Backend;
use tributary_core::recommend::Catalogue;
use tributary_core::session::{Sampler, Sampling};
pub use tributary_core::vision_language::{Caption, CaptionOptions, VisionLanguage};
use tributary_core::{Context, Error, ErrorKind, Result};

use crate::encode::{Failure, Inputs, read_picture};
use crate::files;

/// Longest line of a file of captions.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The model of a Hugging Face style folder: a LLaVA or a Qwen2-VL.
///
/// # Errors
/// Whatever a file of the folder does not hold as it should, by file and field.
pub fn open<B: Backend>(backend: B, folder: &Path) -> Result<VisionLanguage<B>> {
    let name = folder.display().to_string();
    let files = files::open_model(folder).at(|| name.clone())?;
    VisionLanguage::load(backend, Box::new(files), name.clone()).at(|| name)
}

/// The first line of a file of captions: everything they depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionHeader {
    /// [`VisionLanguage::identity`]: the model's name, and the sha256 of its configuration and tensors.
    pub model: String,
    /// Of what was captioned: the catalogue's file, or the names of a folder's files.
    pub data_sha256: String,
    /// The question.
    pub prompt: String,
    /// Most tokens of a caption.
    pub max_new_tokens: usize,
    /// Most tokens of a picture.
    pub max_picture_tokens: usize,
    /// 0 for the likeliest tokens.
    pub temperature: f32,
    /// What draws began with.
    pub seed: u64,
}

/// A line of a file of captions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    caption: String,
}

/// What [`caption_all`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captioned {
    /// Items, or files.
    pub rows: usize,
    /// Captions written now; the others were there already.
    pub captioned: usize,
    /// Items without picture.
    pub absent: usize,
    /// What was skipped.
    pub failures: Vec<Failure>,
    /// The file was there already, made of the same pictures by the same model.
    pub was_current: bool,
}

/// Captions what of `inputs` is not in the file at `out` yet, and finishes it. `progress` gets the rows
/// done and their number.
///
/// # Errors
/// A file that cannot be written, a model that fails; a picture that cannot be read or does not fit the
/// model is no error but a [`Failure`].
pub fn caption_all<B: Backend>(
    model: &VisionLanguage<B>,
    inputs: &Inputs,
    prompt: &str,
    options: &CaptionOptions,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Captioned> {
    let (temperature, seed) = match options.sampling {
        Sampling::Greedy => (0.0, 0),
        Sampling::Random { temperature, seed, .. } => (temperature, seed),
    };
    let header = CaptionHeader {
        model: model.identity()?,
        data_sha256: inputs.sha256().to_owned(),
        prompt: prompt.to_owned(),
        max_new_tokens: options.max_new_tokens,
        max_picture_tokens: model.max_picture_tokens(),
        temperature,
        seed,
    };
    let ids = model.prompt_ids(prompt)?;
    Sampler::new(options.sampling)?;
    let mut done = Captioned { rows: inputs.len(), ..Captioned::default() };
    if is_current(&header, out) {
        return Ok(Captioned { was_current: true, ..done });
    }
    let mut writer = CaptionWriter::open(out, &header)?;
    for (row, (name, picture)) in inputs.pictures().enumerate() {
        progress(row, inputs.len());
        let Some(path) = picture else {
            done.absent += 1;
            continue;
        };
        if writer.has(name) {
            continue;
        }
        // Of its own row, so that a run that was interrupted draws as one that was not.
        let options = CaptionOptions { sampling: of_row(options.sampling, row), ..*options };
        let seen = read_picture(path).and_then(|picture| model.see(&picture));
        let caption = seen.and_then(|seen| block_on(model.answer(&ids, &[seen], &options)));
        match caption {
            Ok(caption) => {
                writer.write(name, &caption.text)?;
                done.captioned += 1;
            }
            Err(error) if of_the_picture(&error) => {
                tracing::debug!("{name}: {error}");
                done.failures.push(Failure { name: name.to_owned(), error: error.to_string() });
            }
            Err(error) => return Err(error),
        }
    }
    progress(inputs.len(), inputs.len());
    writer.finish()?;
    Ok(done)
}

/// Puts the captions of the file at `path` into `catalogue`, with the name of the model that wrote them.
/// Items it does not name keep what they have; lines about other items are left out, as are empty
/// captions. The number of items that have one now.
///
/// # Errors
/// A file that is not one of captions, by line; one that names no item of the catalogue.
pub fn describe(path: &Path, catalogue: &mut Catalogue) -> Result<usize> {
    let io = |e| Error::io(path.display(), e);
    let mut lines = BufReader::new(File::open(path).map_err(io)?);
    let (mut model, mut described, mut number) = (None::<String>, 0, 0usize);
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        if Read::by_ref(&mut lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(io)?
            == 0
        {
            break;
        }
        let wrong = |expected, e: serde_json::Error| {
            Error::file(path.display(), format!("line {number}"), expected, e)
        };
        let Some(model) = &model else {
            let header: CaptionHeader =
                serde_json::from_slice(&line).map_err(|e| wrong("a header of captions", e))?;
            model = Some(header.model);
            continue;
        };
        let Line { id, caption } =
            serde_json::from_slice(&line).map_err(|e| wrong("an id and its caption", e))?;
        if !caption.trim().is_empty() {
            described += usize::from(catalogue.set_caption(&id.into(), caption.trim(), model)?);
        }
    }
    if described == 0 {
        let expected = "captions of the catalogue's items";
        return Err(Error::file(path.display(), "id", expected, "none of them"));
    }
    Ok(described)
}

/// Whether another picture may do better: anything but a broken device or a full memory.
fn of_the_picture(error: &Error) -> bool {
    use ErrorKind::{DeviceLost, Internal, OutOfMemory};
    !matches!(error.kind(), DeviceLost | Internal | OutOfMemory)
}

fn of_row(sampling: Sampling, row: usize) -> Sampling {
    match sampling {
        Sampling::Greedy => Sampling::Greedy,
        Sampling::Random { temperature, top_k, top_p, seed } => {
            Sampling::Random { temperature, top_k, top_p, seed: seed.wrapping_add(row as u64) }
        }
    }
}

/// Whether `out` is a finished file of just this.
fn is_current(header: &CaptionHeader, out: &Path) -> bool {
    let Ok(file) = File::open(out) else { return false };
    let mut first = Vec::new();
    let read = BufReader::new(file.take(MAX_LINE_BYTES)).read_until(b'\n', &mut first);
    read.is_ok() && serde_json::from_slice::<CaptionHeader>(&first).is_ok_and(|h| h == *header)
}

/// A file of captions that grows line by line.
#[derive(Debug)]
struct CaptionWriter {
    out: PathBuf,
    part: PathBuf,
    file: File,
    done: HashSet<String>,
}

impl CaptionWriter {
    /// Continues the unfinished file beside `out` when it is one of this header; begins otherwise. A
    /// line that was cut in the middle is written again.
    fn open(out: &Path, header: &CaptionHeader) -> Result<Self> {
        let mut part = out.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let io = |e| Error::io(part.display(), e);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&part).map_err(io)?;

        let (mut done, mut kept) = (HashSet::new(), 0u64);
        let mut lines = BufReader::new(&mut file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = &mut Read::by_ref(&mut lines).take(MAX_LINE_BYTES);
            let read = limit.read_until(b'\n', &mut line).map_err(io)?;
            if !line.ends_with(b"\n") {
                break;
            }
            if kept == 0 {
                let found = serde_json::from_slice::<CaptionHeader>(&line);
                if !found.is_ok_and(|found| found == *header) {
                    break;
                }
            } else {
                let Ok(line) = serde_json::from_slice::<Line>(&line) else { break };
                done.insert(line.id);
            }
            kept += read as u64;
        }
        file.set_len(kept).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
        let mut this = Self { out: out.to_owned(), part, file, done };
        if kept == 0 {
            this.append(header)?;
        }
        Ok(this)
    }

    fn has(&self, id: &str) -> bool {
        self.done.contains(id)
    }

    fn write(&mut self, id: &str, caption: &str) -> Result<()> {
        self.append(&Line { id: id.to_owned(), caption: caption.to_owned() })
    }

    /// One write for a line, so that little can come between.
    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|e| Error::Internal(e.to_string()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(|e| Error::io(self.part.display(), e))
    }

    fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(self.part.display(), e))?;
        std::fs::rename(&self.part, &self.out).map_err(|e| Error::io(self.out.display(), e))
    }
}
