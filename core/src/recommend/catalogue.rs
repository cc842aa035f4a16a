//! All items with their raw ids, titles and attributes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::backend::check::TOP_K_COLUMNS;
use crate::error::{Error, Result};
use crate::weights::check_base_name;

/// Dense index of an item in its [`Catalogue`].
pub type ItemIndex = u32;

/// Items of one catalogue at most.
const MAX_ITEMS: usize = TOP_K_COLUMNS;
/// Bytes of one catalogue line at most.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Bytes of one id at most.
const MAX_ID_BYTES: usize = 1024;
/// Bytes of one title at most, when read from a file.
pub const MAX_TITLE_BYTES: usize = 4096;
/// Bytes of one description at most, when read from a file.
pub const MAX_DESCRIPTION_BYTES: usize = 64 << 10;
/// Above this an integer is not exact in JavaScript.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

/// The caller's own name of an item. In JSON a string, or a whole number up to 2^53 which then is
/// its decimal digits: `42` and `"42"` are the same item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ItemId(String);

impl ItemId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for ItemId {
    fn from(id: T) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ItemId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ItemId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "an item id: a string of 1 to {MAX_ID_BYTES} bytes, or a whole number up to 2^53"
                )
            }

            fn visit_str<E: serde::de::Error>(self, id: &str) -> Result<ItemId, E> {
                if id.is_empty() || id.len() > MAX_ID_BYTES {
                    return Err(E::invalid_length(id.len(), &self));
                }
                Ok(ItemId(id.into()))
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<ItemId, E> {
                if id > MAX_EXACT_INTEGER {
                    return Err(E::invalid_value(serde::de::Unexpected::Unsigned(id), &self));
                }
                Ok(ItemId(id.to_string()))
            }

            fn visit_i64<E: serde::de::Error>(self, id: i64) -> Result<ItemId, E> {
                if id.unsigned_abs() > MAX_EXACT_INTEGER {
                    return Err(E::invalid_value(serde::de::Unexpected::Signed(id), &self));
                }
                Ok(ItemId(id.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One item, as one JSON line of a catalogue file holds it. Only `id` must be there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogueItem {
    /// The caller's own name of the item.
    pub id: ItemId,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Who makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Where a shop files it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// In the shop's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// What a seller says of it, in sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its picture: the base name of a file in the folder `images` beside the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What its picture shows, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Who wrote `caption`: a vision-language model's name and the sha256 of its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_model: Option<String>,
    /// What the item is, its text and its picture together, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Whatever else is known, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Interactions in the training data: the prior for users without history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub popularity: Option<u64>,
}

impl CatalogueItem {
    /// An item of which nothing but the id is known.
    pub fn new(id: impl Into<ItemId>) -> Self {
        Self {
            id: id.into(),
            title: String::new(),
            brand: None,
            category: None,
            price: None,
            description: None,
            image: None,
            caption: None,
            caption_model: None,
            summary: None,
            attributes: BTreeMap::new(),
            popularity: None,
        }
    }

    /// The text that an encoder reads for it, title and description; `None` without either.
    pub fn text(&self) -> Option<String> {
        let parts = [Some(self.title.as_str()), self.description.as_deref()];
        let parts: Vec<&str> =
            parts.into_iter().flatten().map(str::trim).filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join(". "))
    }

    /// Refuses texts over their limits, a price that is no number, and a picture's name that could
    /// leave its folder. `file` and `field` say where the item stands.
    ///
    /// # Errors
    /// The first field that is refused, by name.
    pub fn check(&self, file: &str, field: &str) -> Result<()> {
        let description = self.description.as_deref().unwrap_or_default();
        for (name, text, limit) in [
            ("title", self.title.as_str(), MAX_TITLE_BYTES),
            ("description", description, MAX_DESCRIPTION_BYTES),
            ("caption", self.caption.as_deref().unwrap_or_default(), MAX_DESCRIPTION_BYTES),
            ("caption_model", self.caption_model.as_deref().unwrap_or_default(), MAX_TITLE_BYTES),
            ("summary", self.summary.as_deref().unwrap_or_default(), MAX_DESCRIPTION_BYTES),
        ] {
            if text.len() > limit {
                let what = format!("{file}: {field}: bytes of `{name}`");
                return Err(Error::Limit { what, limit: limit as u64, found: text.len() as u64 });
            }
        }
        if self.price.is_some_and(|price| !price.is_finite()) {
            return Err(Error::file(file, field, "a finite price", "one that overflows"));
        }
        self.image
            .as_deref()
            .map_or(Ok(()), |name| check_base_name(file, &format!("{field}: `image`"), name))
    }
}

/// All items a recommender knows, in the order of its tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    items: Vec<CatalogueItem>,
    index: HashMap<ItemId, ItemIndex>,
}

impl Catalogue {
    /// A catalogue of these items, in this order.
    ///
    /// # Errors
    /// An id that occurs twice; more than 2^24 items.
    pub fn new(items: Vec<CatalogueItem>) -> Result<Self> {
        let mut catalogue = Self::default();
        for item in items {
            let id = item.id.clone();
            if catalogue.push(item)?.is_none() {
                return Err(Error::argument("catalogue", "items", "each id once", id));
            }
        }
        Ok(catalogue)
    }

    /// Items whose ids are consecutive numbers: the catalogue of a checkpoint that came without
    /// one. At most 2^24.
    pub fn numbered(first: usize, len: usize) -> Result<Self> {
        check_len(len)?;
        Self::new((first..first + len).map(|id| CatalogueItem::new(id.to_string())).collect())
    }

    /// Adds an item at the end: its index, or `None` when its id is there already.
    pub fn push(&mut self, item: CatalogueItem) -> Result<Option<ItemIndex>> {
        check_len(self.items.len() + 1)?;
        if self.index.contains_key(&item.id) {
            return Ok(None);
        }
        let index = self.items.len() as ItemIndex;
        self.index.insert(item.id.clone(), index);
        self.items.push(item);
        Ok(Some(index))
    }

    /// Reads one item per line of JSON; a byte order mark and empty lines do not count. `file`
    /// names it in errors.
    ///
    /// # Errors
    /// The first line that is not an item, is over 1 MiB, or repeats an id.
    pub fn from_jsonl(file: &str, bytes: &[u8]) -> Result<Self> {
        let mut catalogue = Self::default();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            let field = || format!("line {}", number + 1);
            if line.is_empty() {
                continue;
            }
            if line.len() > MAX_LINE_BYTES {
                let what = format!("{file}: {}: bytes", field());
                let (limit, found) = (MAX_LINE_BYTES as u64, line.len() as u64);
                return Err(Error::Limit { what, limit, found });
            }
            let item: CatalogueItem = serde_json::from_slice(line)
                .map_err(|e| Error::file(file, field(), "one item as a JSON object", e))?;
            item.check(file, &field())?;
            let id = item.id.clone();
            if catalogue.push(item)?.is_none() {
                return Err(Error::file(file, field(), "an id not seen before", id));
            }
        }
        Ok(catalogue)
    }

    /// One item per line of JSON, as [`Catalogue::from_jsonl`] reads it.
    pub fn to_jsonl(&self) -> Result<String> {
        let mut text = String::new();
        for item in &self.items {
            let line = serde_json::to_string(item)
                .map_err(|e| Error::Internal(format!("catalogue item {}: {e}", item.id)))?;
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True without any item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items in order; the position is the [`ItemIndex`].
    pub fn items(&self) -> &[CatalogueItem] {
        &self.items
    }

    /// The item at `index`, if there is one.
    pub fn get(&self, index: ItemIndex) -> Option<&CatalogueItem> {
        self.items.get(index as usize)
    }

    /// Where the item of this id is.
    pub fn index_of(&self, id: &ItemId) -> Option<ItemIndex> {
        self.index.get(id).copied()
    }

    /// The raw id of `index`, for messages.
    pub fn name(&self, index: ItemIndex) -> String {
        self.get(index).map_or_else(|| format!("#{index}"), |item| item.id.to_string())
    }

    /// What the picture of an item shows, and who says so. False where there is no such item.
    ///
    /// # Errors
    /// A text over its limit.
    pub fn set_caption(&mut self, id: &ItemId, caption: &str, model: &str) -> Result<bool> {
        let Some(item) = self.index.get(id).and_then(|&at| self.items.get_mut(at as usize)) else {
            return Ok(false);
        };
        item.caption = Some(caption.to_owned());
        item.caption_model = Some(model.to_owned());
        item.check("captions", id.as_str())?;
        Ok(true)
    }

    /// Stores how often each item occurs in the training data; `counts` is in catalogue order.
    pub fn set_popularity(&mut self, counts: &[u64]) -> Result<()> {
        if counts.len() != self.len() {
            return Err(Error::shape("catalogue", "popularity", &[self.len()], &[counts.len()]));
        }
        for (item, &count) in self.items.iter_mut().zip(counts) {
            item.popularity = Some(count);
        }
        Ok(())
    }

    /// Scores for a user nothing is known of: each item's share of all interactions, or the same
    /// for all where the catalogue has no popularity.
    pub fn prior(&self) -> Vec<f32> {
        let count = |item: &CatalogueItem| item.popularity.unwrap_or(0) as f64;
        let total: f64 = self.items.iter().map(count).sum();
        if total == 0.0 {
            return vec![1.0 / self.len().max(1) as f32; self.len()];
        }
        self.items.iter().map(|item| (count(item) / total) as f32).collect()
    }
}

fn check_len(len: usize) -> Result<()> {
    if len <= MAX_ITEMS {
        return Ok(());
    }
    let (limit, found) = (MAX_ITEMS as u64, len as u64);
    Err(Error::Limit { what: "catalogue: items".into(), limit, found })
}
