//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::header::{MAX_HEADER_BYTES, MAX_NAME_BYTES, MAX_TENSORS};
use crate::error::{Error, Result};

/// Most bytes of an index.
pub const MAX_INDEX_BYTES: u64 = MAX_HEADER_BYTES;
/// Most files of one checkpoint.
pub const MAX_SHARDS: usize = 4096;
/// Most bytes of a file's name.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// The shards by file name, each with the tensors it holds.
pub(super) fn parse(file: &str, json: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    if json.len() as u64 > MAX_INDEX_BYTES {
        let (what, found) = (format!("{file}: bytes"), json.len() as u64);
        return Err(Error::Limit { what, limit: MAX_INDEX_BYTES, found });
    }
    let index: Index = serde_json::from_str(json)
        .map_err(|e| Error::file(file, "content", "an object with a `weight_map`", e))?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, shard) in index.weight_map.0 {
        if !shards.contains_key(&shard) {
            check_base_name(file, &format!("weight_map `{tensor}`"), &shard)?;
            if shards.len() == MAX_SHARDS {
                let what = format!("{file}: files");
                let (limit, found) = (MAX_SHARDS as u64, MAX_SHARDS as u64 + 1);
                return Err(Error::Limit { what, limit, found });
            }
        }
        shards.entry(shard).or_default().insert(tensor);
    }
    if shards.is_empty() {
        return Err(Error::file(file, "weight_map", "at least one tensor", "none"));
    }
    Ok(shards)
}

/// `Err` unless `name` is the plain name of a file in the same folder: no separators, no `..`, no
/// drive or URL, no control characters. `field` says where in `file` the name stands.
pub fn check_base_name(file: &str, field: &str, name: &str) -> Result<()> {
    let plain = !name.is_empty()
        && name.len() <= MAX_FILE_NAME_BYTES
        && name != "."
        && name != ".."
        && !name.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control());
    if plain {
        return Ok(());
    }
    let found: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    Err(Error::file(file, field, "the name of a file in the same folder", format!("`{found}`")))
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// Tensor -> file, no tensor twice. A `BTreeMap` alone would keep the last of two silently.
struct WeightMap(BTreeMap<String, String>);

impl<'de> serde::Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let mut files = BTreeMap::new();
        while let Some((tensor, file)) = map.next_entry::<String, String>()? {
            if tensor.len() > MAX_NAME_BYTES {
                return Err(A::Error::custom(format_args!(
                    "a tensor's name of {} bytes, over the limit of {MAX_NAME_BYTES}",
                    tensor.len()
                )));
            }
            if files.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!(
                    "more tensors than the limit of {MAX_TENSORS}"
                )));
            }
            if files.contains_key(&tensor) {
                return Err(A::Error::custom(format_args!("tensor `{tensor}` twice")));
            }
            files.insert(tensor, file);
        }
        Ok(WeightMap(files))
    }
}
