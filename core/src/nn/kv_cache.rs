//! Keys and values of rows computed earlier, so that a new row costs one row.

use std::ops::Range;

use crate::backend::{Backend, Prefix, Segments};
use crate::error::{Error, Result};

/// Keys and values of one sequence, all layers. Keys are stored after their rotation, so each
/// keeps its position for good.
#[derive(Clone, Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
    /// (capacity, width): what came out of the last layer, for who asks rows again.
    states: Option<B::Tensor>,
    kv_size: usize,
    len: usize,
    capacity: usize,
    max_seq_len: usize,
}

#[derive(Clone, Debug)]
struct LayerCache<B: Backend> {
    k: B::Tensor, // (capacity, kv_size)
    v: B::Tensor, // (capacity, kv_size)
}

/// Copies of some rows of a [`KvCache`].
#[derive(Debug)]
pub struct CachedRows<B: Backend> {
    /// Per layer (k, v), each (rows, kv_size).
    layers: Vec<[B::Tensor; 2]>,
    /// (rows, width)
    states: Option<B::Tensor>,
}

/// What a pass does with a cache.
#[derive(Debug)]
pub enum KvUse<'a, B: Backend> {
    /// Rows see their own segment only.
    None,
    /// One segment sees the cache and is appended to it: prefill and decode.
    Append(&'a mut KvCache<B>),
    /// Every segment sees the cache and leaves it as it is: packed candidates.
    Share(&'a KvCache<B>),
    /// Segments see others of the same pass, without any cache: training, where many prompts and the
    /// candidates behind each are one pass.
    Branch(&'a Branches),
}

/// Segments of a pass that stand behind others: each row of a branch sees all rows of its trunk, and
/// of the branch itself the rows up to its own.
#[derive(Clone, Debug)]
pub struct Branches {
    /// Segment i of these rows is what segment i of the pass sees.
    keys: Segments,
    rows: Vec<u32>,
    positions: Vec<u32>,
}

impl Branches {
    /// `trunks[i]` is the segment that segment i stands behind; its own number for a trunk.
    ///
    /// # Errors
    /// Not one trunk for each segment; a trunk that is none of the segments, or a branch itself.
    pub fn new(segments: &Segments, trunks: &[usize]) -> Result<Self> {
        let ranges: Vec<Range<usize>> = segments.iter().collect();
        let wrong = |expected: &str, found: usize| {
            Err(Error::argument("branches", "trunks", expected, found))
        };
        if trunks.len() != ranges.len() {
            return wrong("one for each segment", trunks.len());
        }
        let (mut lengths, mut rows, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (&trunk, own)) in trunks.iter().zip(&ranges).enumerate() {
            let before = match ranges.get(trunk) {
                Some(_) if trunk == i => 0..0,
                Some(range) if trunks[trunk] == trunk => range.clone(),
                _ => return wrong("segments that are no branches", trunk),
            };
            let first = before.len();
            lengths.push(first + own.len());
            positions.extend((first..first + own.len()).map(|position| position as u32));
            rows.extend(before.chain(own.clone()).map(|row| row as u32));
        }
        Ok(Self { keys: Segments::new(&lengths)?, rows, positions })
    }

    /// The position of every row of the pass: a branch goes on where its trunk ends.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// [`Attend::keys`](crate::backend::Attend::keys) for what [`Self::gather`] gives.
    pub(crate) fn keys(&self) -> &Segments {
        &self.keys
    }

    /// Keys or values (rows of the pass, kv_size) -> those that each segment sees, behind each other.
    pub(crate) fn gather<B: Backend>(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        b.gather_rows(x, &self.rows)
    }
}

/// Rows by which a cache grows at least.
const MIN_GROWTH: usize = 64;

impl<B: Backend> KvCache<B> {
    /// An empty cache of at most `max_seq_len` rows. Storage grows as rows come.
    pub fn new(b: &B, layers: usize, kv_size: usize, max_seq_len: usize) -> Result<Self> {
        let empty = || Ok(LayerCache { k: b.zeros([0, kv_size])?, v: b.zeros([0, kv_size])? });
        let layers = (0..layers).map(|_| empty()).collect::<Result<_>>()?;
        Ok(Self { layers, states: None, kv_size, len: 0, capacity: 0, max_seq_len })
    }

    /// The same, keeping the final state, of `width`, of every row, too.
    pub fn with_states(self, b: &B, width: usize) -> Result<Self> {
        Ok(Self { states: Some(b.zeros([self.capacity, width])?), ..self })
    }

    /// Rows in use: the position of the next token.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most rows it may hold.
    pub fn max_seq_len(&self) -> usize {
        self.max_seq_len
    }

    /// Bytes of `rows` rows of all layers, and of their states.
    pub fn bytes(&self, b: &B, rows: usize) -> u64 {
        let states = self.states.as_ref().map_or(0, |states| b.shape(states)[1]);
        ((self.layers.len() * 2 * self.kv_size + states) * rows * size_of::<f32>()) as u64
    }

    /// Forgets rows from `len` on; rows before stay valid.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// What attention of `layer` sees.
    pub(crate) fn prefix(&self, layer: usize) -> Option<Prefix<'_, B::Tensor>> {
        let layer = self.layers.get(layer)?;
        Some(Prefix { k: &layer.k, v: &layer.v, len: self.len })
    }

    /// Makes room for `rows` more rows in every layer.
    pub(crate) fn reserve(&mut self, b: &B, rows: usize) -> Result<()> {
        let found = self.len + rows;
        if found > self.max_seq_len {
            let limit = self.max_seq_len;
            return Err(Error::InputTooLong { what: "the sequence", limit, found });
        }
        // A quarter more than asked: appends stay cheap, and memory near what is used.
        self.grow(b, found, (found / 4).max(MIN_GROWTH))
    }

    /// Makes room for a prompt of `rows` rows in all and a short answer, and for no more: the one
    /// time that it is known how much will come.
    pub(crate) fn reserve_prompt(&mut self, b: &B, rows: usize) -> Result<()> {
        self.grow(b, rows.min(self.max_seq_len), MIN_GROWTH)
    }

    fn grow(&mut self, b: &B, rows: usize, more: usize) -> Result<()> {
        if rows <= self.capacity {
            return Ok(());
        }
        let capacity = (rows + more).min(self.max_seq_len);
        let old: Vec<u32> = (0..self.len as u32).collect();
        let layers = self.layers.iter_mut().flat_map(|layer| [&mut layer.k, &mut layer.v]);
        for x in layers.chain(&mut self.states) {
            let mut grown = b.zeros([capacity, b.shape(x)[1]])?;
            b.scatter_rows(&mut grown, &old, &b.gather_rows(x, &old)?)?;
            *x = grown;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Writes the rows of one layer behind the rows in use; [`KvCache::advance`] counts them.
    pub(crate) fn write(
        &mut self,
        b: &B,
        layer: usize,
        k: &B::Tensor,
        v: &B::Tensor,
    ) -> Result<()> {
        let rows: Vec<u32> = (self.len..self.len + b.shape(k)[0]).map(|row| row as u32).collect();
        let Some(layer) = self.layers.get_mut(layer) else {
            return Err(Error::argument("kv_cache", "layer", "a layer of this cache", layer));
        };
        b.scatter_rows(&mut layer.k, &rows, k)?;
        b.scatter_rows(&mut layer.v, &rows, v)
    }

    /// Counts `rows` rows that every layer has written.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }

    /// Writes the final states of the rows that were counted last.
    pub(crate) fn write_states(&mut self, b: &B, states: &B::Tensor) -> Result<()> {
        let Some(kept) = &mut self.states else { return Ok(()) };
        let first = self.len.saturating_sub(b.shape(states)[0]);
        let rows: Vec<u32> = (first..self.len).map(|row| row as u32).collect();
        b.scatter_rows(kept, &rows, states)
    }

    /// The final states of rows in use, where they are kept: (rows, width).
    pub fn states(&self, b: &B, rows: &[u32]) -> Result<B::Tensor> {
        let wrong = |expected: String, found: String| {
            Err(Error::argument("kv_cache", "states", expected, found))
        };
        let Some(states) = &self.states else {
            return wrong("a cache with states".into(), "one without".into());
        };
        match rows.iter().find(|&&row| row as usize >= self.len) {
            Some(row) => wrong(format!("a row below {}", self.len), row.to_string()),
            None => b.gather_rows(states, rows),
        }
    }

    /// Copies of rows: what a prefix cache keeps.
    pub(crate) fn copy_rows(&self, b: &B, rows: Range<usize>) -> Result<CachedRows<B>> {
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let copy = |layer: &LayerCache<B>| {
            Ok([b.gather_rows(&layer.k, &rows)?, b.gather_rows(&layer.v, &rows)?])
        };
        let layers = self.layers.iter().map(copy).collect::<Result<_>>()?;
        let states = self.states.as_ref().map(|states| b.gather_rows(states, &rows)).transpose()?;
        Ok(CachedRows { layers, states })
    }

    /// Appends rows that [`KvCache::copy_rows`] gave.
    pub(crate) fn paste_rows(&mut self, b: &B, rows: &CachedRows<B>) -> Result<()> {
        let Some([k, _]) = rows.layers.first() else { return Ok(()) };
        let count = b.shape(k)[0];
        self.reserve(b, count)?;
        for (layer, [k, v]) in rows.layers.iter().enumerate() {
            self.write(b, layer, k, v)?;
        }
        self.advance(count);
        rows.states.iter().try_for_each(|states| self.write_states(b, states))
    }
}
