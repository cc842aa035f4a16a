//! ALMOSTRec: a multimodal language model that answers with items (Wu et al., ICMR 2025, DOI
//! 10.1145/3731715.3733273).
//!
//! An item of a history is three things: its title as words, its picture as one token (W^V of its
//! pooled embedding), and one token for what users did with it (W^B of the item table that a
//! sequence recommender has learned, section 4.2.1). The transformation layer W^T makes scores of
//! all items of a final state (Eq. 2), so no answer is an item that does not exist.
//!
//! Where the paper concatenates all pictures, all words and all items (Eq. 1), an item's three parts
//! stand together here. Under a causal mask the state at an item's own token then depends on this
//! item and earlier ones alone: training asks at every item in one pass, and a new event adds its
//! own tokens behind a prompt that stays as it is.

use std::sync::Arc;

use serde_json::json;

use super::llama::{Llama, Rows, TokenId};
use super::sequence_items::SequenceItems;
use crate::backend::{Backend, MatrixData, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{KvUse, Linear};
use crate::weights::{ConfigReader, Weights};

/// Stands under a token that has no word.
const NO_WORD: TokenId = 0;
/// Bytes of a prompt at most.
const MAX_PROMPT_BYTES: usize = 64 << 10;
/// Tokens of a title at most.
const MAX_TITLE_TOKENS: usize = 1024;

/// `almost_rec.json`: what ALMOSTRec is besides its language model.
#[derive(Clone, Debug, PartialEq)]
pub struct AlmostRecConfig {
    /// Its items; `max_seq_len` of them are read.
    pub items: SequenceItems,
    /// Width of the sequence recommender's item embeddings; 0: that token is left out.
    pub item_size: usize,
    /// Width of the pictures' embeddings; 0: no pictures.
    pub image_size: usize,
    /// Most tokens of a title; 0: no titles.
    pub max_title_tokens: usize,
    /// Begins every prompt.
    pub prompt: String,
}

impl AlmostRecConfig {
    /// Reads `almost_rec.json`; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing, of the wrong type or out of range, by name; a model that would see
    /// nothing of an item.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        if reader.str("model_type")? != "almostrec" {
            return Err(reader.unsupported("model_type", "almostrec"));
        }
        let prompt = reader.str("prompt")?.to_owned();
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(reader.wrong("prompt", format!("at most {MAX_PROMPT_BYTES} bytes")));
        }
        let config = Self {
            items: SequenceItems::parse(&reader, 0)?,
            item_size: reader.usize("item_size", 0..=8192)?,
            image_size: reader.usize("image_size", 0..=8192)?,
            max_title_tokens: reader.usize("max_title_tokens", 0..=MAX_TITLE_TOKENS)?,
            prompt,
        };
        if config.item_size == 0 && config.image_size == 0 && config.max_title_tokens == 0 {
            let expected = "above 0, or image_size or max_title_tokens above 0";
            return Err(reader.wrong("item_size", expected));
        }
        Ok(config)
    }

    /// The text that [`AlmostRecConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        self.items.to_json(json!({
            "model_type": "almostrec",
            "item_size": self.item_size,
            "image_size": self.image_size,
            "max_title_tokens": self.max_title_tokens,
            "prompt": self.prompt,
        }))
    }
}

/// One row per item, of an encoder that is not trained here.
#[derive(Clone, Debug, Default)]
pub struct FrozenTable {
    /// (num_items, width), row-major.
    pub values: Vec<f32>,
    /// Which items have a row.
    pub present: Vec<bool>,
}

/// What ALMOSTRec is made of besides its own weights.
#[derive(Debug)]
pub struct AlmostRecParts<B: Backend> {
    /// The language model.
    pub llama: Llama<B>,
    /// The tokens of [`AlmostRecConfig::prompt`].
    pub prompt: Vec<TokenId>,
    /// The tokens of each item's title.
    pub titles: Vec<Vec<TokenId>>,
    /// The sequence recommender's item embeddings.
    pub items: FrozenTable,
    /// Pooled picture embeddings.
    pub images: FrozenTable,
}

/// ALMOSTRec.
#[derive(Debug)]
pub struct AlmostRec<B: Backend> {
    config: AlmostRecConfig,
    llama: Arc<Llama<B>>,
    prompt: Vec<TokenId>,
    titles: Vec<Vec<TokenId>>,
    items: Option<Projected<B>>,  // W^B
    images: Option<Projected<B>>, // W^V
    transformation: B::Matrix,    // W^T (num_items, hidden_size)
}

/// A frozen table and the layer that brings its rows among the words.
#[derive(Debug)]
struct Projected<B: Backend> {
    table: B::Matrix, // (num_items, width)
    present: Vec<bool>,
    proj: Linear<B>, // (hidden_size, width)
}

impl<B: Backend> Projected<B> {
    /// `None` where the configuration leaves the modality out.
    fn load(
        weights: &Weights<'_, B>,
        name: &'static str,
        table: FrozenTable,
        [num_items, width, hidden_size]: [usize; 3],
    ) -> Result<Option<Self>> {
        if width == 0 {
            return Ok(None);
        }
        let found = [table.present.len(), table.values.len() / num_items.max(1)];
        if found != [num_items, width] || table.values.len() != num_items * width {
            return Err(Error::shape("almost_rec", name, &[num_items, width], &found));
        }
        let data = MatrixData::from_f32(format!("{name}.table"), &table.values, [num_items, width]);
        let proj = Linear::load(&weights.at(name), [hidden_size, width], true)?;
        let table_on_device = weights.backend().matrix(data)?;
        Ok(Some(Self { table: table_on_device, present: table.present, proj }))
    }

    fn has(&self, item: u32) -> bool {
        self.present.get(item as usize).copied().unwrap_or(false)
    }

    /// (items, hidden_size)
    fn tokens(&self, b: &B, items: &[u32]) -> Result<B::Tensor> {
        self.proj.forward(b, &b.embed(&self.table, items)?)
    }
}

/// A history as tokens, and the rows that stand in the places of some of them.
#[derive(Debug)]
pub struct ItemPrompt<T> {
    /// All tokens; those without a word count for nothing.
    pub tokens: Vec<TokenId>,
    /// Places of the rows, ascending.
    pub positions: Vec<u32>,
    /// What each row is: the same number, the same row.
    pub identities: Vec<u64>,
    /// (positions, hidden_size)
    pub rows: T,
    /// How many of them are pictures.
    pub images: usize,
}

/// A batch as tokens.
#[derive(Default)]
struct Prompts {
    ids: Vec<TokenId>,
    positions: Vec<u32>,
    lengths: Vec<usize>,
    /// The last row of each item, where the next one is asked for.
    asked: Vec<u32>,
    item_rows: Vec<u32>,
    items: Vec<u32>,
    image_rows: Vec<u32>,
    images: Vec<u32>,
}

impl<B: Backend> AlmostRec<B> {
    /// Reads W^B, W^V and W^T from `weights`, at the place of the language model's own tensors.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name; tables or titles of another number of
    /// items; a sequence that does not fit the language model.
    pub fn load(
        weights: &Weights<'_, B>,
        config: AlmostRecConfig,
        parts: AlmostRecParts<B>,
    ) -> Result<Self> {
        let (num_items, hidden_size) = (config.items.num_items, parts.llama.config().hidden_size);
        let at = weights.at("almost_rec");
        let titles = match config.max_title_tokens {
            0 => vec![Vec::new(); num_items],
            _ => parts.titles,
        };
        if titles.len() != num_items {
            return Err(Error::shape("almost_rec", "titles", &[num_items], &[titles.len()]));
        }
        let longest = config.items.max_seq_len.saturating_mul(config.max_title_tokens + 2);
        let (found, limit) = (
            parts.prompt.len().saturating_add(longest),
            parts.llama.config().max_position_embeddings,
        );
        if found > limit {
            let what = "almost_rec: tokens of the longest history";
            return Err(Error::InputTooLong { what, limit, found });
        }
        let item_size = [num_items, config.item_size, hidden_size];
        let image_size = [num_items, config.image_size, hidden_size];
        Ok(Self {
            items: Projected::load(&at, "content_behavior", parts.items, item_size)?,
            images: Projected::load(&at, "image_proj", parts.images, image_size)?,
            transformation: at.at("transformation").matrix("weight", [num_items, hidden_size])?,
            llama: Arc::new(parts.llama),
            prompt: parts.prompt,
            titles,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &AlmostRecConfig {
        &self.config
    }

    /// Hidden state after each item; see [`super::sequence::SequenceModel::forward`].
    pub fn forward(&self, b: &B, items: &[u32], segments: &Segments) -> Result<B::Tensor> {
        self.config.items.check("almost_rec", items, segments)?;
        let prompts = self.prompts(items, segments)?;
        let mut hidden = self.llama.embed(b, &prompts.ids)?;
        let soft = [
            (&self.items, &prompts.item_rows, &prompts.items),
            (&self.images, &prompts.image_rows, &prompts.images),
        ];
        for (projected, rows, items) in soft {
            if let (Some(projected), false) = (projected, rows.is_empty()) {
                b.scatter_rows(&mut hidden, rows, &projected.tokens(b, items)?)?;
            }
        }
        let segments = Segments::new(&prompts.lengths)?;
        let rows = Rows { segments: &segments, positions: &prompts.positions };
        let hidden = self.llama.forward(b, hidden, rows, KvUse::None, None).at(|| "llama")?;
        b.gather_rows(&hidden, &prompts.asked)
    }

    /// The language model inside.
    pub fn llama(&self) -> &Arc<Llama<B>> {
        &self.llama
    }

    /// One history, of at least one item, as a session reads it.
    ///
    /// # Errors
    /// An item that is not there, more items than `max_seq_len`.
    pub fn prompt(&self, b: &B, items: &[u32]) -> Result<ItemPrompt<B::Tensor>> {
        let segments = Segments::one(items.len())?;
        self.config.items.check("almost_rec", items, &segments)?;
        let prompts = self.prompts(items, &segments)?;
        let mut soft: Vec<(u32, u64)> = Vec::new();
        let identity = |(&row, &item): (&u32, &u32), kind| (row, u64::from(item) * 2 + kind);
        soft.extend(prompts.image_rows.iter().zip(&prompts.images).map(|pair| identity(pair, 0)));
        soft.extend(prompts.item_rows.iter().zip(&prompts.items).map(|pair| identity(pair, 1)));
        soft.sort_unstable();
        let (positions, identities): (Vec<u32>, Vec<u64>) = soft.into_iter().unzip();
        let mut rows = b.zeros([positions.len(), self.llama.config().hidden_size])?;
        for (projected, at, items) in [
            (&self.images, &prompts.image_rows, &prompts.images),
            (&self.items, &prompts.item_rows, &prompts.items),
        ] {
            if let (Some(projected), false) = (projected, at.is_empty()) {
                let places = at.iter().map(|row| positions.partition_point(|at| at < row) as u32);
                let places: Vec<u32> = places.collect();
                b.scatter_rows(&mut rows, &places, &projected.tokens(b, items)?)?;
            }
        }
        let images = prompts.images.len();
        Ok(ItemPrompt { tokens: prompts.ids, positions, identities, rows, images })
    }

    /// Scores of every item; see [`super::sequence::SequenceModel::scores`].
    pub fn scores(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        b.linear(hidden, &self.transformation, None)
    }

    fn prompts(&self, items: &[u32], segments: &Segments) -> Result<Prompts> {
        let mut prompts = Prompts::default();
        for rows in segments.iter().filter(|rows| !rows.is_empty()) {
            let first = prompts.ids.len();
            prompts.ids.extend(&self.prompt);
            for &item in items.get(rows).unwrap_or_default() {
                self.write_item(item, &mut prompts)?;
            }
            let tokens = prompts.ids.len() - first;
            prompts.positions.extend(0..tokens as u32);
            prompts.lengths.push(tokens);
        }
        Ok(prompts)
    }

    /// Title, picture, item; an item of which there is none of these is one token without a word.
    fn write_item(&self, item: u32, prompts: &mut Prompts) -> Result<()> {
        let first = prompts.ids.len();
        let title = self.titles.get(item as usize).ok_or_else(|| {
            let expected = format!("an item below {}", self.titles.len());
            Error::argument("almost_rec", "items", expected, item)
        })?;
        prompts.ids.extend(title);
        if self.images.as_ref().is_some_and(|images| images.has(item)) {
            prompts.image_rows.push(prompts.ids.len() as u32);
            prompts.images.push(item);
            prompts.ids.push(NO_WORD);
        }
        if self.items.as_ref().is_some_and(|items| items.has(item)) {
            prompts.item_rows.push(prompts.ids.len() as u32);
            prompts.items.push(item);
            prompts.ids.push(NO_WORD);
        }
        if prompts.ids.len() == first {
            prompts.ids.push(NO_WORD);
        }
        prompts.asked.push(prompts.ids.len() as u32 - 1);
        Ok(())
    }
}
