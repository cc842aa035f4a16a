//! Writing safetensors: one file or shards with an index, tensor by tensor, so that a model larger
//! than memory can be converted. The same tensors always give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::checkpoint::{QUANTIZED_KEY, SCALES_SUFFIX};
use super::header::{MAX_HEADER_BYTES, MAX_NAME_BYTES, MAX_TENSORS};
use crate::error::{Error, Result};

/// Bytes of a bundle's shard, so that a broken download costs little and every cache takes it.
pub const BUNDLE_SHARD_BYTES: u64 = 32 << 20;

/// Where files are written: positions, because a tensor's values and its scales lie apart.
pub trait Sink {
    /// Puts `bytes` at `offset` of the file `name`; a file begins with its first write. Writes come
    /// in any order and cover the whole file in the end.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<()>;
}

/// Files in memory, by name.
impl Sink for BTreeMap<String, Vec<u8>> {
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.entry(name.to_owned()).or_default();
        let end = usize::try_from(offset).ok().and_then(|start| start.checked_add(bytes.len()));
        let Some(end) = end else {
            let what = name.to_owned();
            return Err(Error::OutOfMemory { what, bytes: offset });
        };
        if file.len() < end {
            file.resize(end, 0);
        }
        file[end - bytes.len()..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Full name.
    pub name: String,
    /// Type of one value.
    pub dtype: Dtype,
    /// Axes.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Bytes of the values; `Err` when they cannot be counted.
    fn bytes(&self) -> Result<usize> {
        let elements = self.shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        let bits = elements.and_then(|n| n.checked_mul(self.dtype.bitsize()));
        bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8).ok_or_else(|| {
            let found = format!("{} {:?} for `{}`", self.dtype, self.shape, self.name);
            Error::argument("save", "shape", "a shape of whole bytes", found)
        })
    }
}

/// A tensor and its values, for [`save_safetensors`].
#[derive(Clone, Debug)]
pub struct NamedTensor {
    /// Name, type and axes.
    pub spec: TensorSpec,
    /// Values, row-major, little-endian.
    pub bytes: Bytes,
}

impl NamedTensor {
    /// A tensor of f32 values.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let spec = TensorSpec { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec() };
        Self { spec, bytes: Bytes::copy_from_slice(bytemuck::cast_slice(values)) }
    }
}

/// Writes all `tensors` and `metadata`; see [`Writer::new`] for `max_shard_bytes` and the files.
pub fn save_safetensors(
    tensors: &[NamedTensor],
    metadata: &BTreeMap<String, String>,
    max_shard_bytes: Option<u64>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let specs = tensors.iter().map(|tensor| tensor.spec.clone()).collect();
    let mut writer = Writer::new(specs, metadata, max_shard_bytes, sink)?;
    for tensor in tensors {
        writer.write(&tensor.spec.name, &tensor.bytes)?;
    }
    writer.finish()
}

/// Writes tensors one by one, in any order, at places planned before the first.
pub struct Writer<'s> {
    sink: &'s mut dyn Sink,
    places: BTreeMap<String, Place>,
    files: Vec<String>,
}

struct Place {
    file: usize,
    range: Range<u64>,
}

impl<'s> Writer<'s> {
    /// Plans the files and writes their headers. With `max_shard_bytes`, tensors are spread in
    /// order of their names over files of at most so many bytes (more where one tensor alone is
    /// larger): `model-00001-of-00003.safetensors` and so on under `model.safetensors.index.json`.
    /// Without it, or when one file is enough, there is one `model.safetensors`.
    /// `metadata` goes into every file, except that what describes a quantised tensor goes with it.
    pub fn new(
        mut specs: Vec<TensorSpec>,
        metadata: &BTreeMap<String, String>,
        max_shard_bytes: Option<u64>,
        sink: &'s mut dyn Sink,
    ) -> Result<Self> {
        specs.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
        let shards = split(specs, max_shard_bytes.unwrap_or(u64::MAX))?;
        let mut writer = Self { sink, places: BTreeMap::new(), files: Vec::new() };
        let count = shards.len();
        let mut total = 0;
        for (i, shard) in shards.into_iter().enumerate() {
            let file = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
            };
            total += writer.begin(file, shard, metadata)?;
        }
        if count > 1 {
            writer.write_index(total)?;
        }
        Ok(writer)
    }

    /// Places the tensors of one file and writes its header. Gives the bytes of its tensors.
    fn begin(
        &mut self,
        file: String,
        mut specs: Vec<TensorSpec>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<u64> {
        // Wide types first: then each value lies at a multiple of its size.
        specs.sort_by(|a, b| {
            b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name))
        });
        let mut tensors = Vec::with_capacity(specs.len());
        let mut end = 0usize;
        for spec in specs {
            let start = end;
            end = start.checked_add(spec.bytes()?).ok_or_else(|| {
                let what = format!("{file}: bytes");
                Error::Limit { what, limit: u64::MAX, found: u64::MAX }
            })?;
            let info =
                TensorInfo { dtype: spec.dtype, shape: spec.shape, data_offsets: (start, end) };
            tensors.push((spec.name, info));
        }
        let of_this_file = |key: &str| match key.strip_prefix(QUANTIZED_KEY) {
            Some(name) => tensors.iter().any(|(tensor, _)| tensor == name),
            None => true,
        };
        // Hugging Face's loaders want to be told that the tensors are PyTorch's layout.
        let format = ("format".to_owned(), "pt".to_owned());
        let metadata: BTreeMap<String, String> = std::iter::once(format)
            .chain(metadata.iter().map(|(k, v)| (k.clone(), v.clone())))
            .filter(|(key, _)| of_this_file(key))
            .collect();
        let mut json = serde_json::to_vec(&HeaderJson { metadata: &metadata, tensors: &tensors })
            .map_err(|e| Error::Internal(format!("safetensors header: {e}")))?;
        json.resize(json.len().next_multiple_of(8), b' ');
        if json.len() as u64 > MAX_HEADER_BYTES {
            let what = format!("{file}: header bytes");
            return Err(Error::Limit { what, limit: MAX_HEADER_BYTES, found: json.len() as u64 });
        }
        let data = 8 + json.len() as u64;
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend(json);
        self.sink.write_at(&file, 0, &header)?;
        for (name, info) in tensors {
            let (start, end) = info.data_offsets;
            let range = data + start as u64..data + end as u64;
            self.places.insert(name, Place { file: self.files.len(), range });
        }
        self.files.push(file);
        Ok(end as u64)
    }

    fn write_index(&mut self, total_size: u64) -> Result<()> {
        let file = |place: &Place| self.files.get(place.file).map_or("", String::as_str);
        let weight_map: BTreeMap<&str, &str> =
            self.places.iter().map(|(name, place)| (name.as_str(), file(place))).collect();
        let index = Index { metadata: Total { total_size }, weight_map };
        let json = serde_json::to_vec_pretty(&index)
            .map_err(|e| Error::Internal(format!("safetensors index: {e}")))?;
        self.sink.write_at("model.safetensors.index.json", 0, &json)
    }

    /// Writes the values of one planned tensor, row-major, little-endian. `Err` when it was not
    /// planned, was written already, or has another number of bytes.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(place) = self.places.get(name) else {
            return Err(Error::argument("save", "name", "a planned tensor not yet written", name));
        };
        let expected = place.range.end - place.range.start;
        if bytes.len() as u64 != expected {
            let expected = format!("{expected} bytes for `{name}`");
            return Err(Error::argument("save", "bytes", expected, bytes.len()));
        }
        let file = self.files.get(place.file).map_or("", String::as_str);
        self.sink.write_at(file, place.range.start, bytes)?;
        self.places.remove(name);
        Ok(())
    }

    /// `Err` when a planned tensor was not written.
    pub fn finish(self) -> Result<()> {
        match self.places.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::argument("save", "tensors", format!("`{name}`"), "nothing")),
        }
    }
}

/// By name, a quantised tensor right before its scales.
fn order(name: &str) -> (&str, usize) {
    (name.strip_suffix(SCALES_SUFFIX).unwrap_or(name), name.len())
}

/// Tensors, in the order of [`order`], in files of at most `max_bytes`. A quantised tensor and its
/// scales stay together.
fn split(specs: Vec<TensorSpec>, max_bytes: u64) -> Result<Vec<Vec<TensorSpec>>> {
    let mut names = BTreeSet::new();
    let mut shards = vec![Vec::new()];
    let mut size = 0u64;
    for spec in specs {
        let expected = format!("distinct names of 1 to {MAX_NAME_BYTES} bytes");
        if spec.name.is_empty()
            || spec.name.len() > MAX_NAME_BYTES
            || spec.name == "__metadata__"
            || !names.insert(spec.name.clone())
        {
            return Err(Error::argument("save", "tensors", expected, format!("`{}`", spec.name)));
        }
        let bytes = spec.bytes()? as u64;
        let is_scales = spec.name.strip_suffix(SCALES_SUFFIX).is_some_and(|n| names.contains(n));
        let full = size.checked_add(bytes).is_none_or(|sum| sum > max_bytes);
        match shards.last_mut() {
            Some(last) if last.is_empty() || is_scales || !(full || last.len() == MAX_TENSORS) => {
                last.push(spec);
                size = size.saturating_add(bytes);
            }
            _ => {
                shards.push(vec![spec]);
                size = bytes;
            }
        }
    }
    Ok(shards)
}

/// A header with its keys in the order given.
struct HeaderJson<'t> {
    metadata: &'t BTreeMap<String, String>,
    tensors: &'t [(String, TensorInfo)],
}

impl Serialize for HeaderJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.tensors.len()))?;
        map.serialize_entry("__metadata__", self.metadata)?;
        for (name, info) in self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

#[derive(serde::Serialize)]
struct Index<'t> {
    metadata: Total,
    weight_map: BTreeMap<&'t str, &'t str>,
}

#[derive(serde::Serialize)]
struct Total {
    total_size: u64,
}
