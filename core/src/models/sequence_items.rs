//! What every sequence model says of its items in `config.json`, whatever its layers are.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use crate::backend::Segments;
use crate::backend::check::TOP_K_COLUMNS;
use crate::error::{Error, Result};
use crate::weights::ConfigReader;

/// What happens to the scores of items the user has interacted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenItems {
    /// Never recommended.
    Exclude,
    /// Score set to 0 before ranking: ICLRec's published protocol. An item with a negative score
    /// ranks below them.
    ScoreZero,
}

/// What happens to an item's second and later interactions in a user's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatedItems {
    /// The sequence keeps them.
    Keep,
    /// Only an item's first interaction counts: what a model needs whose task is the next *new*
    /// item (view, cart and buy of one item are one step).
    First,
}

/// Items of one model at most: what `top_k` can name.
const MAX_ITEMS: usize = TOP_K_COLUMNS;
/// Range of every dropout.
pub(in crate::models) const DROPOUT: RangeInclusive<f32> = 0.0..=0.99;

const SEEN_ITEMS: [(&str, SeenItems); 2] =
    [("exclude", SeenItems::Exclude), ("score_zero", SeenItems::ScoreZero)];
const REPEATED_ITEMS: [(&str, RepeatedItems); 2] =
    [("keep", RepeatedItems::Keep), ("first", RepeatedItems::First)];

/// The value whose word the field holds; `default` when it is missing.
pub(in crate::models) fn choice<T: Copy>(
    reader: &ConfigReader,
    name: &str,
    default: Option<T>,
    words: &[(&str, T)],
) -> Result<T> {
    if let Some(default) = default.filter(|_| !reader.has(name)) {
        return Ok(default);
    }
    let found = reader.str(name)?;
    let choice = words.iter().find(|(word, _)| *word == found);
    choice.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        reader.unsupported(name, words.join(", "))
    })
}

pub(in crate::models) fn name_of<T: Copy + PartialEq>(
    value: T,
    words: &[(&'static str, T)],
) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

/// The items of a sequence model and how it treats them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceItems {
    /// Items that can be scored.
    pub num_items: usize,
    /// Embedding row of the first item; the others follow.
    pub first_item_id: usize,
    /// Rows of the item embedding table: items, and whatever the original keeps there besides
    /// (padding, mask).
    pub num_embeddings: usize,
    /// Longest sequence, in items.
    pub max_seq_len: usize,
    /// Treatment of seen items in ranking.
    pub seen_items: SeenItems,
    /// Treatment of repeated items in a sequence.
    pub repeated_items: RepeatedItems,
}

impl SequenceItems {
    /// Rows are items and nothing else.
    pub fn new(num_items: usize, max_seq_len: usize) -> Self {
        Self {
            num_items,
            first_item_id: 0,
            num_embeddings: num_items,
            max_seq_len,
            seen_items: SeenItems::Exclude,
            repeated_items: RepeatedItems::Keep,
        }
    }

    /// Reads the fields of these names; `extra_rows` of the table belong to no item where the file
    /// is silent.
    pub(in crate::models) fn parse(reader: &ConfigReader, extra_rows: usize) -> Result<Self> {
        let num_items = reader.usize("num_items", 1..=MAX_ITEMS)?;
        let first_item_id = reader.usize_or("first_item_id", 0, 0..=MAX_ITEMS)?;
        let num_embeddings = reader.usize_or(
            "num_embeddings",
            num_items + extra_rows,
            first_item_id + num_items..=2 * MAX_ITEMS + extra_rows,
        )?;
        if first_item_id + num_items > num_embeddings {
            let expected = format!(
                "at most {}, so that every item has an embedding row",
                num_embeddings - num_items
            );
            return Err(reader.wrong("first_item_id", expected));
        }
        let repeated = Some(RepeatedItems::Keep);
        Ok(Self {
            num_items,
            first_item_id,
            num_embeddings,
            max_seq_len: reader.usize("max_seq_len", 1..=65_536)?,
            seen_items: choice(reader, "seen_items", Some(SeenItems::Exclude), &SEEN_ITEMS)?,
            repeated_items: choice(reader, "repeated_items", repeated, &REPEATED_ITEMS)?,
        })
    }

    /// The text of a `config.json` with these fields and `others`, an object.
    pub(in crate::models) fn to_json(&self, others: Value) -> String {
        let items = json!({
            "num_items": self.num_items,
            "first_item_id": self.first_item_id,
            "num_embeddings": self.num_embeddings,
            "max_seq_len": self.max_seq_len,
            "seen_items": name_of(self.seen_items, &SEEN_ITEMS),
            "repeated_items": name_of(self.repeated_items, &REPEATED_ITEMS),
        });
        let fields = [others, items].into_iter().filter_map(|part| match part {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        let all: Map<String, Value> = fields.flatten().collect();
        format!("{:#}\n", Value::Object(all))
    }

    /// The embedding row of the item with this dense index, below `num_items`.
    pub fn row(&self, index: u32) -> u32 {
        index + self.first_item_id as u32
    }

    /// `Err` unless there is one item per row of `segments`, and no segment is too long.
    pub(in crate::models) fn check(
        &self,
        operation: &'static str,
        items: &[u32],
        segments: &Segments,
    ) -> Result<()> {
        one_per_row(operation, items, segments)?;
        let longest = segments.iter().map(|rows| rows.len()).max().unwrap_or(0);
        if longest > self.max_seq_len {
            return Err(Error::InputTooLong {
                what: "items of a sequence",
                limit: self.max_seq_len,
                found: longest,
            });
        }
        Ok(())
    }
}

/// `Err` unless there is one item per row of `segments`.
pub(in crate::models) fn one_per_row(
    operation: &'static str,
    items: &[u32],
    segments: &Segments,
) -> Result<()> {
    if items.len() == segments.rows() {
        return Ok(());
    }
    Err(Error::shape(operation, "items", &[segments.rows()], &[items.len()]))
}
