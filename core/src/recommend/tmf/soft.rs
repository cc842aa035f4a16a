//! The soft tokens of a prompt: their rows, and what the caches know them by.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::models::fusion::Fusion;
use crate::prompt::{Hybrid, SoftKind};
use crate::recommend::catalogue::ItemIndex;
use crate::recommend::embeddings::{EmbeddingTable, ItemEmbeddings, Modality};
use crate::session::SoftTokens;

/// Candidates that are fused in one pass.
const PASS_ITEMS: usize = 1024;

/// What turns items and behaviours into rows of the language model's width.
#[derive(Debug)]
pub(super) struct SoftSource<B: Backend> {
    fusion: Fusion<B>,
    embeddings: ItemEmbeddings,
    behaviours: B::Tensor, // (behaviours, hidden_size)
    hidden_size: usize,
    kept: Mutex<Kept<B>>,
}

/// The modalities that a request hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Hidden {
    modalities: [bool; Modality::ALL.len()],
}

impl Hidden {
    pub(super) fn new(hidden: &[Modality]) -> Self {
        Self { modalities: Modality::ALL.map(|modality| hidden.contains(&modality)) }
    }

    fn has(self, modality: Modality) -> bool {
        let mut both = Modality::ALL.into_iter().zip(self.modalities);
        both.any(|(known, hidden)| hidden && known == modality)
    }
}

/// Candidates' tokens, which no history changes.
#[derive(Debug)]
struct Kept<B: Backend> {
    rows: HashMap<(ItemIndex, Hidden), u32>,
    table: B::Tensor, // (capacity, hidden_size)
}

/// The soft tokens of one prompt.
#[derive(Debug)]
pub(super) struct SoftRows<B: Backend> {
    pub(super) positions: Vec<u32>,
    pub(super) identities: Vec<u64>,
    pub(super) rows: B::Tensor, // (positions, hidden_size)
}

impl<B: Backend> SoftRows<B> {
    /// As a session takes them.
    pub(super) fn tokens(&self) -> SoftTokens<'_, B::Tensor> {
        let Self { positions, identities, rows } = self;
        SoftTokens { positions, identities, rows }
    }
}

impl<B: Backend> SoftSource<B> {
    pub(super) fn new(
        b: &B,
        fusion: Fusion<B>,
        embeddings: ItemEmbeddings,
        behaviours: usize,
        hidden_size: usize,
    ) -> Result<Self> {
        let indices: Vec<u32> = (0..behaviours as u32).collect();
        let behaviours = fusion.behaviour_tokens(b, &indices)?;
        let found = b.shape(&behaviours)[1];
        if found != hidden_size {
            let expected = format!("rows of {hidden_size}, the language model's width");
            return Err(Error::argument("tmf", "fusion", expected, found));
        }
        let kept = Kept { rows: HashMap::new(), table: b.zeros([0, hidden_size])? };
        Ok(Self { fusion, embeddings, behaviours, hidden_size, kept: Mutex::new(kept) })
    }

    /// Items of each table.
    pub(super) fn items(&self) -> [usize; 3] {
        let ItemEmbeddings { image, text, graph } = &self.embeddings;
        [image, text, graph].map(EmbeddingTable::len)
    }

    /// The modalities that have rows.
    pub(super) fn modalities(&self) -> Vec<Modality> {
        let ItemEmbeddings { image, text, graph } = &self.embeddings;
        let tables = Modality::ALL.into_iter().zip([image, text, graph]);
        tables.filter(|(_, table)| table.width() > 0).map(|(modality, _)| modality).collect()
    }

    /// `Err` when [`SoftSource::push`] would refuse these.
    pub(super) fn check(&self, image: Option<&[f32]>, text: Option<&[f32]>) -> Result<()> {
        self.embeddings.image.check(image)?;
        self.embeddings.text.check(text)
    }

    /// The next item: what is known of it. It has no place in the graph.
    pub(super) fn push(&mut self, image: Option<&[f32]>, text: Option<&[f32]>) -> Result<()> {
        let ItemEmbeddings { image: images, text: texts, graph } = &mut self.embeddings;
        images.push(image)?;
        texts.push(text)?;
        graph.push(None)
    }

    /// Rows of the items of one pass: (items, hidden_size).
    fn fuse(
        &self,
        b: &B,
        items: &[ItemIndex],
        segments: &Segments,
        hidden: Hidden,
    ) -> Result<B::Tensor> {
        let hides = |_, modality| hidden.has(modality);
        self.embeddings.tokens_hiding(b, &self.fusion, items, segments, hides)
    }

    /// Makes sure that the candidates' tokens are there.
    pub(super) fn keep(&self, b: &B, items: &[ItemIndex], hidden: Hidden) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.keep(b, self, items, hidden)
    }

    /// The tokens of candidates: (items, hidden_size).
    pub(super) fn candidates(
        &self,
        b: &B,
        items: &[ItemIndex],
        hidden: Hidden,
    ) -> Result<B::Tensor> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.keep(b, self, items, hidden)?;
        let row = |&item: &ItemIndex| kept.rows.get(&(item, hidden)).copied();
        let rows: Vec<u32> = items.iter().filter_map(row).collect();
        b.gather_rows(&kept.table, &rows)
    }

    /// The soft tokens of `prompt`, whose history are `history`.
    pub(super) fn rows(
        &self,
        b: &B,
        prompt: &Hybrid,
        history: &[ItemIndex],
        hidden: Hidden,
    ) -> Result<SoftRows<B>> {
        let identities = Identities::new(history, self.fusion.config().causal, hidden);
        let mut soft = SoftRows {
            positions: Vec::with_capacity(prompt.soft.len()),
            identities: Vec::with_capacity(prompt.soft.len()),
            rows: b.zeros([prompt.soft.len(), self.hidden_size])?,
        };
        // (row of the result, row of its source), by source.
        let (mut behaviours, mut items) = (Pairs::default(), Pairs::default());
        let events = self.fusion.config().events;
        let mut done = Vec::new();
        let mut candidates: (Vec<u32>, Vec<ItemIndex>) = Default::default();
        for (row, token) in (0..).zip(&prompt.soft) {
            soft.positions.push(token.position as u32);
            soft.identities.push(match token.kind {
                SoftKind::Behaviour(behaviour) => {
                    behaviours.push(row, behaviour);
                    identity(&("behaviour", behaviour))
                }
                SoftKind::History { place, behaviour, .. } => {
                    items.push(row, place as u32);
                    done.push(behaviour);
                    identity(&(identities.of(place), events.then_some(behaviour)))
                }
                SoftKind::Candidate { item, .. } => {
                    candidates.0.push(row);
                    candidates.1.push(item);
                    identity(&("candidate", item, hidden))
                }
            });
        }
        let tokens = b.gather_rows(&self.behaviours, &behaviours.from)?;
        b.scatter_rows(&mut soft.rows, &behaviours.to, &tokens)?;
        if !items.to.is_empty() {
            let fused = self.fuse(b, history, &Segments::one(history.len())?, hidden)?;
            let mut tokens = b.gather_rows(&fused, &items.from)?;
            if events {
                tokens = b.add(&tokens, &b.gather_rows(&self.behaviours, &done)?)?;
            }
            b.scatter_rows(&mut soft.rows, &items.to, &tokens)?;
        }
        if !candidates.0.is_empty() {
            let tokens = self.candidates(b, &candidates.1, hidden)?;
            b.scatter_rows(&mut soft.rows, &candidates.0, &tokens)?;
        }
        Ok(soft)
    }
}

impl<B: Backend> Kept<B> {
    /// Fuses what of `items` is not there yet, each alone.
    fn keep(
        &mut self,
        b: &B,
        source: &SoftSource<B>,
        items: &[ItemIndex],
        hidden: Hidden,
    ) -> Result<()> {
        let missing = |item: &ItemIndex| !self.rows.contains_key(&(*item, hidden));
        let mut missing: Vec<ItemIndex> = items.iter().copied().filter(missing).collect();
        missing.sort_unstable();
        missing.dedup();
        for items in missing.chunks(PASS_ITEMS) {
            let fused = source.fuse(b, items, &Segments::new(&vec![1; items.len()])?, hidden)?;
            let first = self.rows.len();
            let needed = first + items.len();
            if needed > b.shape(&self.table)[0] {
                let mut grown = b.zeros([needed.next_power_of_two(), source.hidden_size])?;
                let old: Vec<u32> = (0..first as u32).collect();
                b.scatter_rows(&mut grown, &old, &b.gather_rows(&self.table, &old)?)?;
                self.table = grown;
            }
            let rows: Vec<u32> = (first as u32..needed as u32).collect();
            b.scatter_rows(&mut self.table, &rows, &fused)?;
            self.rows.extend(items.iter().map(|&item| (item, hidden)).zip(rows));
        }
        Ok(())
    }
}

/// Rows of a source and where they go.
#[derive(Default)]
struct Pairs {
    to: Vec<u32>,
    from: Vec<u32>,
}

impl Pairs {
    fn push(&mut self, to: u32, from: u32) {
        self.to.push(to);
        self.from.push(from);
    }
}

/// What the tokens of a fused history are: each depends on the items it attends to.
struct Identities(Vec<u64>);

impl Identities {
    fn new(history: &[ItemIndex], causal: bool, hidden: Hidden) -> Self {
        let mut hasher = DefaultHasher::new();
        ("history", hidden).hash(&mut hasher);
        if !causal {
            history.hash(&mut hasher);
        }
        let chain = history.iter().map(|item| {
            item.hash(&mut hasher);
            hasher.finish()
        });
        Self(chain.collect())
    }

    fn of(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or_default()
    }
}

fn identity(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
