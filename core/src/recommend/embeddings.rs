//! What encoders say about a catalogue's items: one row per item, or none.

use serde::{Deserialize, Serialize};

use super::catalogue::ItemIndex;
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::models::almost_rec::FrozenTable;
use crate::models::fusion::{Fusion, ItemRows};
use crate::weights::Checkpoint;

/// The tensor of an embedding table, or of a graph's, that holds the items' rows.
pub const TABLE_ITEMS: &str = "item_embedding.weight";
/// The tensor of an embedding table that says which rows there are.
pub const TABLE_PRESENT: &str = "present";
/// The key of an embedding table's metadata that says what of an item was embedded.
pub const TABLE_MODALITY: &str = "modality";

/// One encoder's embeddings in catalogue order. An item without a picture, a text or interactions
/// has a row of zeros that is not `present`.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingTable {
    width: usize,
    values: Vec<f32>, // (items, width)
    present: Vec<bool>,
}

impl EmbeddingTable {
    /// No rows yet, each of `width` values.
    pub fn new(width: usize) -> Self {
        Self { width, values: Vec::new(), present: Vec::new() }
    }

    /// The table of a modality that nobody has embedded: rows of no values, none present.
    pub fn absent(items: usize) -> Self {
        Self { width: 0, values: Vec::new(), present: vec![false; items] }
    }

    /// Reads `item_embedding.weight` (items, width) and `present` U8 (items); without `present`
    /// every row is.
    ///
    /// # Errors
    /// A missing tensor, another shape, a row that is present and not finite.
    pub fn load(file: &Checkpoint) -> Result<Self> {
        let values = file.values(TABLE_ITEMS)?;
        let shape = file.info(TABLE_ITEMS).map_or(&[][..], |info| &info.shape);
        let wrong = |field: &str, expected: String, found: String| {
            Error::file(file.file(), format!("tensor `{field}`"), expected, found)
        };
        let &[items, width] = shape else {
            let expected = "shape [items, width]".to_owned();
            return Err(wrong(TABLE_ITEMS, expected, format!("shape {shape:?}")));
        };
        let present = match file.has(TABLE_PRESENT) {
            true => file.raw(TABLE_PRESENT)?.iter().map(|&byte| byte != 0).collect(),
            false => vec![true; items],
        };
        if present.len() != items {
            let expected = format!("{items} bytes, one per item");
            return Err(wrong(TABLE_PRESENT, expected, present.len().to_string()));
        }
        let table = Self { width, values, present };
        let bad =
            (0..items).find(|&item| !table.stored(item).iter().all(|value| value.is_finite()));
        match bad {
            Some(item) => {
                Err(wrong(TABLE_ITEMS, "finite values".into(), format!("others in row {item}")))
            }
            None => Ok(table),
        }
    }

    /// [`EmbeddingTable::load`], where the file does not say that it was made of something else than
    /// `modality` (`image`, `text`, ...).
    ///
    /// # Errors
    /// Those of [`EmbeddingTable::load`]; a table of another modality.
    pub fn load_as(file: &Checkpoint, modality: &str) -> Result<Self> {
        match file.metadata().get(TABLE_MODALITY).filter(|found| *found != modality) {
            Some(found) => Err(Error::file(file.file(), TABLE_MODALITY, modality, found)),
            None => Self::load(file),
        }
    }

    /// Adds the next item's row, or its absence.
    ///
    /// # Errors
    /// A row of another width, or with a value that is not finite.
    pub fn push(&mut self, row: Option<&[f32]>) -> Result<()> {
        self.check(row)?;
        match row {
            Some(row) => self.values.extend_from_slice(row),
            None => self.values.resize(self.values.len() + self.width, 0.0),
        }
        self.present.push(row.is_some());
        Ok(())
    }

    /// `Err` when [`EmbeddingTable::push`] would refuse `row`.
    pub fn check(&self, row: Option<&[f32]>) -> Result<()> {
        let Some(row) = row else { return Ok(()) };
        if row.len() != self.width {
            return Err(Error::shape("embeddings", "row", &[self.width], &[row.len()]));
        }
        match row.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(Error::argument("embeddings", "row", "finite values", value)),
            None => Ok(()),
        }
    }

    /// The table as a model holds it that does not train it.
    pub fn frozen(self) -> FrozenTable {
        FrozenTable { values: self.values, present: self.present }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// True without any item.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// Values of one row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The row of an item, `None` where it has none.
    pub fn row(&self, item: usize) -> Option<&[f32]> {
        self.present.get(item).filter(|&&present| present).map(|_| self.stored(item))
    }

    /// The values of a row, present or not.
    fn stored(&self, item: usize) -> &[f32] {
        self.values.get(item * self.width..(item + 1) * self.width).unwrap_or(&[])
    }

    /// The rows of these items (items * width), and which of them are present.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn gather(&self, items: &[ItemIndex]) -> Result<(Vec<f32>, Vec<bool>)> {
        let mut values = Vec::with_capacity(items.len() * self.width);
        let mut present = Vec::with_capacity(items.len());
        for &item in items {
            let Some(&there) = self.present.get(item as usize) else {
                let expected = format!("an item below {}", self.len());
                return Err(Error::argument("embeddings", "item", expected, item));
            };
            values.extend_from_slice(self.stored(item as usize));
            present.push(there);
        }
        Ok((values, present))
    }
}

/// What can be known of an item besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// Its picture.
    Image,
    /// Its text.
    Text,
    /// Its place in the behaviour graph.
    Graph,
}

impl Modality {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Image, Self::Text, Self::Graph];
}

/// The three modalities of a catalogue's items.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemEmbeddings {
    /// Of the pictures.
    pub image: EmbeddingTable,
    /// Of the texts.
    pub text: EmbeddingTable,
    /// Of the behaviour graph; a new item has none.
    pub graph: EmbeddingTable,
}

impl ItemEmbeddings {
    /// The soft tokens of `items`, fused segment by segment: (items, hidden_size).
    ///
    /// # Errors
    /// An item that is not there; segments of another number of rows.
    pub fn tokens<B: Backend>(
        &self,
        b: &B,
        fusion: &Fusion<B>,
        items: &[ItemIndex],
        segments: &Segments,
    ) -> Result<B::Tensor> {
        self.tokens_hiding(b, fusion, items, segments, |_, _| false)
    }

    /// [`ItemEmbeddings::tokens`] as if nobody had embedded what `hides` says of an item.
    ///
    /// # Errors
    /// Those of [`ItemEmbeddings::tokens`].
    pub fn tokens_hiding<B: Backend>(
        &self,
        b: &B,
        fusion: &Fusion<B>,
        items: &[ItemIndex],
        segments: &Segments,
        hides: impl Fn(ItemIndex, Modality) -> bool,
    ) -> Result<B::Tensor> {
        let upload = |table: &EmbeddingTable, modality| -> Result<(B::Tensor, Vec<bool>)> {
            let (values, mut present) = table.gather(items)?;
            for (present, &item) in present.iter_mut().zip(items) {
                *present &= !hides(item, modality);
            }
            Ok((b.upload(&values, [items.len(), table.width()])?, present))
        };
        let (image, image_present) = upload(&self.image, Modality::Image)?;
        let (text, text_present) = upload(&self.text, Modality::Text)?;
        let (graph, graph_present) = upload(&self.graph, Modality::Graph)?;
        let rows = ItemRows {
            image: &image,
            text: &text,
            graph: &graph,
            image_present: &image_present,
            text_present: &text_present,
            graph_present: &graph_present,
        };
        fusion.item_tokens(b, rows, segments)
    }
}
