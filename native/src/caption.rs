//! The pictures of a catalogue, or of a folder, in words: one by one, resumable, one bad picture
//! reported and skipped.
//!
//! Captions are JSON lines: first a [`CaptionHeader`], then `{"id", "caption"}` for each picture. While
//! they are written they are `NAME.part`, from which an interrupted run goes on.

mod colours;

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub use colours::{COLOURS, caption_by_colours, describe};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use tributary_core::backend::Backend;
use tributary_core::preprocess::Picture;
use tributary_core::recommend::Catalogue;
use tributary_core::session::{Sampler, Sampling};
pub use tributary_core::vision_language::{Caption, CaptionOptions, VisionLanguage};
use tributary_core::{Context, Error, ErrorKind, Result};

use crate::encode::{Failure, Inputs, read_picture};
use crate::files;

/// Longest line of a file of captions.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Largest file of captions that is read.
pub const MAX_CAPTIONS_BYTES: usize = 1 << 30;

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
    write_captions(&header, inputs, out, progress, &mut |row, picture| {
        // Of its own row, so that a run that was interrupted draws as one that was not.
        let options = CaptionOptions { sampling: of_row(options.sampling, row), ..*options };
        let seen = model.see(&picture)?;
        Ok(block_on(model.answer(&ids, &[seen], &options))?.text)
    })
}

/// Captions by `caption`, which gets a row and its picture.
fn write_captions(
    header: &CaptionHeader,
    inputs: &Inputs,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
    caption: &mut dyn FnMut(usize, Picture) -> Result<String>,
) -> Result<Captioned> {
    let mut done = Captioned { rows: inputs.len(), ..Captioned::default() };
    if is_current(header, out) {
        return Ok(Captioned { was_current: true, ..done });
    }
    let mut writer = CaptionWriter::open(out, header)?;
    for (row, (name, picture)) in inputs.pictures().enumerate() {
        progress(row, inputs.len());
        let Some(path) = picture else {
            done.absent += 1;
            continue;
        };
        if writer.has(name) {
            continue;
        }
        match read_picture(path).and_then(|picture| caption(row, picture)) {
            Ok(caption) => {
                writer.write(name, &caption)?;
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

/// A file of captions as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Captions {
    /// Its first line.
    pub header: CaptionHeader,
    /// By the item's id, or the picture's name.
    pub by_id: HashMap<String, String>,
}

impl Captions {
    /// Reads a finished file.
    ///
    /// # Errors
    /// A file that cannot be read or is over [`MAX_CAPTIONS_BYTES`]; the first line that is no header,
    /// or no caption.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let text = files::read_text(path, &name, MAX_CAPTIONS_BYTES)?;
        let wrong = |line: usize, expected: &str, error: serde_json::Error| {
            Error::file(&name, format!("line {line}"), expected, error)
        };
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let (number, first) = lines.next().unwrap_or((1, ""));
        let header = serde_json::from_str(first)
            .map_err(|error| wrong(number, "the header of a file of captions", error))?;
        let mut by_id = HashMap::new();
        for (number, line) in lines {
            let Line { id, caption } = serde_json::from_str(line)
                .map_err(|error| wrong(number, "an item's id and caption", error))?;
            by_id.insert(id, caption);
        }
        Ok(Self { header, by_id })
    }

    /// Puts the captions into `catalogue`, with the name of who wrote them. Items without one keep what
    /// they have; captions of other items and empty ones are left out. How many items got one.
    ///
    /// # Errors
    /// A caption that is longer than a catalogue's may be; none that is of the catalogue's items.
    pub fn apply(&self, catalogue: &mut Catalogue) -> Result<usize> {
        let mut found = 0;
        for (id, caption) in self.by_id.iter().filter(|(_, caption)| !caption.trim().is_empty()) {
            let id = id.as_str().into();
            found += usize::from(catalogue.set_caption(&id, caption.trim(), &self.header.model)?);
        }
        if found == 0 {
            return Err(Error::file("captions", "id", "items of the catalogue", "none of them"));
        }
        Ok(found)
    }
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
