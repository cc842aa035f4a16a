//! A model's tensors by name, from one safetensors file or several.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use safetensors::Dtype;

use super::header::{self, Header};

use super::hint::near_name;
use super::storage::{Storage, aligned};
use super::{decode, index};
use crate::backend::MatrixData;
use crate::dtype::{DType, Format};
use crate::error::{Error, Result};

/// Start of the metadata key that describes a quantised tensor: `quantized:NAME` = `q4 172x64`.
pub const QUANTIZED_KEY: &str = "quantized:";
/// End of the name of the tensor that holds a quantised tensor's scales.
pub const SCALES_SUFFIX: &str = ".scales";

/// A checkpoint: tensors by name, read only when asked for. Its files were checked when it was
/// opened, within the limits of `header.rs`; tensors of a dtype that no model computes with (int64
/// position ids) are listed, and refused when asked for.
#[derive(Debug)]
pub struct Checkpoint {
    file: String,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Shard {
    file: String,
    storage: Box<dyn Storage>,
}

#[derive(Debug)]
struct Entry {
    shard: usize,
    info: TensorInfo,
    values: Range<u64>,
    scales: Range<u64>,
}

/// What a checkpoint says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Axes of the values, before any quantisation.
    pub shape: Vec<usize>,
    /// How the values are coded.
    pub coding: Coding,
    /// Bytes in the file, scales included.
    pub bytes: u64,
}

/// How a tensor's values are coded in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// One number per value.
    Plain(DType),
    /// Blocks with scales: [`Format::Q8`] or [`Format::Q4`].
    Blocks(Format),
    /// A dtype of the format that no model here computes with.
    Other(Dtype),
}

impl Coding {
    /// The safetensors dtype of the values.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::Plain(DType::F32) => Dtype::F32,
            Self::Plain(DType::F16) => Dtype::F16,
            Self::Plain(DType::Bf16) => Dtype::BF16,
            Self::Plain(DType::I8) | Self::Blocks(Format::Q8) => Dtype::I8,
            // Blocks of float formats do not exist, see `parse_quantized`.
            Self::Plain(DType::U8) | Self::Blocks(_) => Dtype::U8,
            Self::Other(dtype) => dtype,
        }
    }
}

impl std::fmt::Display for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blocks(format) => f.write_str(format.name()),
            plain => write!(f, "{}", plain.dtype()),
        }
    }
}

impl Checkpoint {
    /// One whole safetensors file in memory. `file` is its name in messages.
    pub fn from_bytes(file: &str, bytes: impl Into<Bytes>) -> Result<Self> {
        Self::open(file, Box::new(bytes.into()))
    }

    /// One safetensors file. Reads its header only.
    pub fn open(file: &str, storage: Box<dyn Storage>) -> Result<Self> {
        let header = header::read(file, &*storage)?;
        let mut checkpoint = Self::empty(file);
        checkpoint.add_shard(file, storage, header)?;
        Ok(checkpoint)
    }

    /// Several files under an index (`model.safetensors.index.json`, whose text is `json`); `open`
    /// gives the bytes of the file of that name. `Err` when a name is not that of a file in the
    /// same folder, or a file does not hold exactly the tensors the index gives it.
    pub fn from_index(
        file: &str,
        json: &str,
        mut open: impl FnMut(&str) -> Result<Box<dyn Storage>>,
    ) -> Result<Self> {
        let mut checkpoint = Self::empty(file);
        for (shard, expected) in index::parse(file, json)? {
            let storage = open(&shard)?;
            let header = header::read(&shard, &*storage)?;
            let stranger = header.tensors.keys().find(|&name| !expected.contains(name));
            if let Some(name) = stranger {
                let expected = format!("only the tensors that {file} gives this file");
                return Err(Error::file(
                    &shard,
                    format!("tensor `{name}`"),
                    expected,
                    "this one as well",
                ));
            }
            let missing = expected.iter().find(|&name| !header.tensors.contains_key(name));
            if let Some(name) = missing {
                let field = format!("weight_map `{name}`");
                return Err(Error::file(
                    file,
                    field,
                    "a tensor of that file",
                    format!("none in {shard}"),
                ));
            }
            checkpoint.add_shard(&shard, storage, header)?;
        }
        Ok(checkpoint)
    }

    fn empty(file: &str) -> Self {
        let file = file.to_owned();
        Self { file, shards: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() }
    }

    fn add_shard(&mut self, file: &str, storage: Box<dyn Storage>, header: Header) -> Result<()> {
        let shard = self.shards.len();
        self.shards.push(Shard { file: file.to_owned(), storage });
        let Header { metadata, mut tensors } = header;
        for (key, text) in metadata {
            let Some(name) = key.strip_prefix(QUANTIZED_KEY) else {
                self.metadata.insert(key, text);
                continue;
            };
            let values = tensors.remove(name);
            let scales = tensors.remove(&format!("{name}{SCALES_SUFFIX}"));
            let entry = quantized(file, name, &text, values, scales, shard)?;
            self.insert(file, name, entry)?;
        }
        for (name, info) in tensors {
            let values = info.data_offsets.0 as u64..info.data_offsets.1 as u64;
            let coding = match info.dtype {
                Dtype::F32 => Coding::Plain(DType::F32),
                Dtype::F16 => Coding::Plain(DType::F16),
                Dtype::BF16 => Coding::Plain(DType::Bf16),
                Dtype::I8 => Coding::Plain(DType::I8),
                Dtype::U8 => Coding::Plain(DType::U8),
                other => Coding::Other(other),
            };
            let info = TensorInfo { shape: info.shape, coding, bytes: values.end - values.start };
            self.insert(file, &name, Entry { shard, info, values, scales: 0..0 })?;
        }
        Ok(())
    }

    fn insert(&mut self, file: &str, name: &str, entry: Entry) -> Result<()> {
        if let Some(other) = self.tensors.insert(name.to_owned(), entry) {
            let other = self.shards.get(other.shard).map_or("", |shard| &shard.file);
            let found = format!("one in {other} as well");
            return Err(Error::file(file, format!("tensor `{name}`"), "one tensor", found));
        }
        Ok(())
    }

    /// Name of the file (or of the index) in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Names of all tensors, sorted; a quantised tensor and its scales are one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// True when there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape and coding of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|entry| &entry.info)
    }

    /// The free text of the files' headers, without what describes quantised tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.storage.len()).sum()
    }

    /// The tensor as a matrix (out, in) for a backend; `f32`, `f16`, `q8` and `q4` without a copy
    /// where the storage has none, `bf16` widened to `f32`. Leading axes of 1 are dropped, and the
    /// axes after the first are one: a convolution (out, in, k, k) is a matrix (out, in * k * k),
    /// and one axis (n) is a matrix (1, n).
    /// `Err` when it is missing, not of this shape, or not of a dtype that models compute with.
    pub fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<MatrixData> {
        let entry = self.entry(name)?;
        if !is_matrix(&entry.info.shape, shape) {
            return Err(self.wrong_shape(entry, name, &shape));
        }
        let (format, values) = match entry.info.coding {
            Coding::Plain(DType::F32) => (Format::F32, aligned(self.read(entry)?, 4)),
            Coding::Plain(DType::F16) => (Format::F16, aligned(self.read(entry)?, 2)),
            Coding::Blocks(format) => (format, self.read(entry)?),
            Coding::Plain(DType::Bf16) => {
                let values = decode::plain(DType::Bf16, &self.read(entry)?);
                (Format::F32, Bytes::from_owner(F32Bytes(values)))
            }
            _ => return Err(self.wrong_dtype(entry, name)),
        };
        let scales = aligned(self.shard(entry)?.storage.read(entry.scales.clone())?, 2);
        let infinite = |scale: &[u8; 2]| u16::from_le_bytes(*scale) & 0x7c00 == 0x7c00;
        if scales.as_chunks().0.iter().any(infinite) {
            return Err(self.not_finite(&format!("{name}{SCALES_SUFFIX}")));
        }
        Ok(MatrixData { name: name.to_owned(), shape, format, values, scales, lora: None })
    }

    /// The tensor as one axis of `len` values; other axes of the file must be 1.
    /// `Err` as for [`Checkpoint::matrix`], and for a value that is not finite.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        let shape = &entry.info.shape;
        let wide = shape.iter().filter(|&&axis| axis != 1).count();
        if wide > 1 || shape.iter().product::<usize>() != len {
            return Err(self.wrong_shape(entry, name, &[len]));
        }
        // Products of 8 bits and softmax can swallow a NaN of a norm or a bias, and rank on.
        let values = self.values(name)?;
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(self.not_finite(name)),
        }
    }

    fn not_finite(&self, name: &str) -> Error {
        Error::file(&self.file, format!("tensor `{name}`"), "finite values", "NaN or infinity")
    }

    /// All values of a tensor in row-major order, dequantised where needed.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        match entry.info.coding {
            Coding::Plain(dtype @ (DType::F32 | DType::F16 | DType::Bf16)) => {
                Ok(decode::plain(dtype, &self.read(entry)?))
            }
            Coding::Blocks(_) => {
                decode::matrix(&self.matrix(name, rows_and_rest(&entry.info.shape))?)
            }
            _ => Err(self.wrong_dtype(entry, name)),
        }
    }

    /// The bytes of a tensor as its file holds them, scales not included.
    pub fn raw(&self, name: &str) -> Result<Bytes> {
        self.read(self.entry(name)?)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            file: self.file.clone(),
            name: name.to_owned(),
            hint: near_name(name, self.names()),
        })
    }

    fn shard(&self, entry: &Entry) -> Result<&Shard> {
        self.shards.get(entry.shard).ok_or_else(|| Error::Internal("a tensor without file".into()))
    }

    fn read(&self, entry: &Entry) -> Result<Bytes> {
        self.shard(entry)?.storage.read(entry.values.clone())
    }

    fn file_of(&self, entry: &Entry) -> &str {
        self.shards.get(entry.shard).map_or(&self.file, |shard| &shard.file)
    }

    fn wrong_shape(&self, entry: &Entry, name: &str, expected: &[usize]) -> Error {
        Error::file(
            self.file_of(entry),
            format!("tensor `{name}`"),
            format!("shape {expected:?}"),
            format!("shape {:?}", entry.info.shape),
        )
    }

    fn wrong_dtype(&self, entry: &Entry, name: &str) -> Error {
        Error::Unsupported {
            file: self.file_of(entry).to_owned(),
            field: format!("dtype of tensor `{name}`"),
            found: entry.info.coding.to_string(),
            supported: "f32, f16, bf16, and q8 and q4 with their scales".into(),
        }
    }
}

/// Values that hand out their bytes: the owner behind a widened matrix.
struct F32Bytes(Vec<f32>);

impl AsRef<[u8]> for F32Bytes {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// True when a tensor of these axes can be read as `[out, input]`.
fn is_matrix(shape: &[usize], [out, input]: [usize; 2]) -> bool {
    if shape == [out, input] || (out == 1 && shape == [input]) {
        return true;
    }
    let ones = shape.iter().take_while(|&&axis| axis == 1).count();
    // A matrix keeps two axes: [1, 1, 64] is [1, 64].
    let shape = shape.get(ones.min(shape.len().saturating_sub(2))..).unwrap_or_default();
    match shape {
        [first, rest @ ..] if !rest.is_empty() => {
            *first == out && rest.iter().product::<usize>() == input
        }
        _ => false,
    }
}

/// [first axis, product of the others].
pub(super) fn rows_and_rest(shape: &[usize]) -> [usize; 2] {
    match shape {
        [] => [1, 1],
        [rows, rest @ ..] => [*rows, rest.iter().product()],
    }
}

/// The entry of a quantised tensor; `Err` unless values and scales are what `text` says.
fn quantized(
    file: &str,
    name: &str,
    text: &str,
    values: Option<safetensors::tensor::TensorInfo>,
    scales: Option<safetensors::tensor::TensorInfo>,
    shard: usize,
) -> Result<Entry> {
    let Some((format, [out, input])) = parse_quantized(text) else {
        let field = format!("__metadata__ `{QUANTIZED_KEY}{name}`");
        return Err(Error::file(file, field, "a text as `q8 172x64`", format!("`{text}`")));
    };
    let dtype = if format == Format::Q8 { Dtype::I8 } else { Dtype::U8 };
    let check = |name: &str, info: Option<safetensors::tensor::TensorInfo>, dtype, cols| {
        let expected = format!("{dtype} [{out}, {cols}] for {text}");
        let field = format!("tensor `{name}`");
        match info {
            None => Err(Error::file(file, field, expected, "no such tensor")),
            Some(info) if info.dtype != dtype || info.shape != [out, cols] => {
                let found = format!("{} {:?}", info.dtype, info.shape);
                Err(Error::file(file, field, expected, found))
            }
            Some(info) => Ok(info.data_offsets.0 as u64..info.data_offsets.1 as u64),
        }
    };
    let values = check(name, values, dtype, format.row_bytes(input))?;
    let scales_name = format!("{name}{SCALES_SUFFIX}");
    let scales = check(&scales_name, scales, Dtype::F16, format.row_scales(input))?;
    let bytes = values.end - values.start + scales.end - scales.start;
    let info = TensorInfo { shape: vec![out, input], coding: Coding::Blocks(format), bytes };
    Ok(Entry { shard, info, values, scales })
}

/// `q8 172x64` -> (q8, [172, 64]).
fn parse_quantized(text: &str) -> Option<(Format, [usize; 2])> {
    let (format, shape) = text.split_once(' ')?;
    let (out, input) = shape.split_once('x')?;
    let format = Format::parse(format).filter(|f| matches!(f, Format::Q8 | Format::Q4))?;
    // Sizes whose byte counts could overflow belong to no file.
    let axis = |text: &str| text.parse::<usize>().ok().filter(|&n| n <= u32::MAX as usize);
    Some((format, [axis(out)?, axis(input)?]))
}
