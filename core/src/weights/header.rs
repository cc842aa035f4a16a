//! The header of a safetensors file, behind limits that the `safetensors` crate does not have: it
//! accepts duplicate keys, and 58 MB of empty tensors that take 0.9 GB once parsed.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::tensor::TensorInfo;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::storage::Storage;
use crate::error::{Error, Result};

/// Most bytes of a file's header. Parsing one takes at most 8 times its bytes.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Most tensors in one file.
pub const MAX_TENSORS: usize = 1 << 16;
/// Most bytes of a tensor's name.
pub const MAX_NAME_BYTES: usize = 512;
/// Most axes of a tensor.
pub const MAX_AXES: usize = 8;

/// The key under which a header holds free text instead of a tensor.
const METADATA: &str = "__metadata__";

/// A header that was checked: every tensor lies inside the file, none overlaps another, and each
/// has the bytes its shape asks for.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    /// By name; `data_offsets` count from the start of the file.
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// Reads and checks the header of `file`.
pub(super) fn read(file: &str, storage: &dyn Storage) -> Result<Header> {
    let len = storage.len();
    let size = match storage.read(0..8.min(len))?.as_ref().try_into() {
        Ok(size) => u64::from_le_bytes(size),
        Err(_) => {
            let expected = "at least 8 bytes, a safetensors file's header size";
            return Err(Error::file(file, "length", expected, format!("{len} bytes")));
        }
    };
    if size > MAX_HEADER_BYTES {
        let what = format!("{file}: header bytes");
        return Err(Error::Limit { what, limit: MAX_HEADER_BYTES, found: size });
    }
    let start = 8 + size;
    if start > len {
        let found = format!("a file of {len} bytes");
        return Err(Error::file(file, "header", format!("{size} bytes after the first 8"), found));
    }
    let bytes = storage.read(8..start)?;
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let parsed = json
        .deserialize_map(HeaderVisitor)
        .and_then(|header| json.end().map(|()| header))
        .map_err(|e| Error::file(file, "header", "tensors as the format describes them", e))?;
    check(file, parsed, start, len)
}

/// Turns offsets into file positions; `Err` unless the tensors fill the file without gap or
/// overlap, as the format asks.
fn check(file: &str, mut header: Header, start: u64, len: u64) -> Result<Header> {
    let mut order: Vec<(&String, &mut TensorInfo)> = header.tensors.iter_mut().collect();
    order.sort_by_key(|(name, info)| (info.data_offsets, *name));
    let mut end = 0usize;
    for (name, info) in order {
        let bad = |expected: String, found: String| {
            Err(Error::file(file, format!("tensor `{name}`"), expected, found))
        };
        if info.shape.len() > MAX_AXES {
            return bad(format!("at most {MAX_AXES} axes"), format!("{} axes", info.shape.len()));
        }
        let elements = info.shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        let bits = elements.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        let Some(bits) = bits.filter(|bits| bits % 8 == 0) else {
            let expected = "a shape of whole bytes that can be counted".to_owned();
            return bad(expected, format!("{} {:?}", info.dtype, info.shape));
        };
        let (from, to) = info.data_offsets;
        if from != end {
            return bad(
                format!("data_offsets from {end}, the end of the one before"),
                from.to_string(),
            );
        }
        if to.checked_sub(from) != Some(bits / 8) {
            let expected = format!("{} bytes for {} {:?}", bits / 8, info.dtype, info.shape);
            return bad(expected, format!("data_offsets [{from}, {to}]"));
        }
        if to as u64 > len - start {
            let expected = format!("data_offsets within the file's {} data bytes", len - start);
            return bad(expected, format!("[{from}, {to}]"));
        }
        end = to;
        info.data_offsets = (start as usize + from, start as usize + to);
    }
    if end as u64 != len - start {
        let expected = format!("{end} bytes of tensors, as the header says");
        return Err(Error::file(file, "length", expected, format!("{} bytes", len - start)));
    }
    Ok(header)
}

/// Collects the header's map while counting, so that nothing past a limit is kept.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header { metadata: BTreeMap::new(), tensors: BTreeMap::new() };
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if std::mem::replace(&mut metadata_seen, true) {
                    return Err(A::Error::custom("`__metadata__` twice"));
                }
                header.metadata = map.next_value::<Texts>()?.0;
                continue;
            }
            if name.len() > MAX_NAME_BYTES {
                let start: String = name.chars().take(40).collect();
                return Err(A::Error::custom(format_args!(
                    "the name `{start}...` has {} bytes, over the limit of {MAX_NAME_BYTES}",
                    name.len()
                )));
            }
            if header.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!(
                    "more tensors than the limit of {MAX_TENSORS}"
                )));
            }
            if header.tensors.contains_key(&name) {
                return Err(A::Error::custom(format_args!("tensor `{name}` twice")));
            }
            let info = map.next_value()?;
            header.tensors.insert(name, info);
        }
        Ok(header)
    }
}

/// `__metadata__`: texts by key, none twice.
struct Texts(BTreeMap<String, String>);

impl<'de> serde::Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from text to text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((key, text)) = map.next_entry::<String, String>()? {
            if texts.insert(key, text).is_some() {
                return Err(A::Error::custom("a key of `__metadata__` twice"));
            }
        }
        Ok(Texts(texts))
    }
}
