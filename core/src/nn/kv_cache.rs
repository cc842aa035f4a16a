//! Keys and values of rows computed earlier, so that a new row costs one row.

use std::ops::Range;

use crate::backend::{Backend, Prefix};
use crate::error::{Error, Result};

/// Keys and values of one sequence, all layers. Keys are stored after their rotation, so each
/// keeps its position for good.
#[derive(Clone, Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
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

/// What a pass does with a cache.
#[derive(Debug)]
pub enum KvUse<'a, B: Backend> {
    /// Rows see their own segment only.
    None,
    /// One segment sees the cache and is appended to it: prefill and decode.
    Append(&'a mut KvCache<B>),
    /// Every segment sees the cache and leaves it as it is: packed candidates.
    Share(&'a KvCache<B>),
}

/// Rows by which a cache grows at least.
const MIN_GROWTH: usize = 64;

impl<B: Backend> KvCache<B> {
    /// An empty cache of at most `max_seq_len` rows. Storage grows as rows come.
    pub fn new(b: &B, layers: usize, kv_size: usize, max_seq_len: usize) -> Result<Self> {
        let empty = || Ok(LayerCache { k: b.zeros([0, kv_size])?, v: b.zeros([0, kv_size])? });
        let layers = (0..layers).map(|_| empty()).collect::<Result<_>>()?;
        Ok(Self { layers, kv_size, len: 0, capacity: 0, max_seq_len })
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

    /// Bytes of `rows` rows of all layers.
    pub fn bytes(&self, rows: usize) -> u64 {
        (self.layers.len() * 2 * self.kv_size * rows * size_of::<f32>()) as u64
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
        for layer in &mut self.layers {
            for x in [&mut layer.k, &mut layer.v] {
                let mut grown = b.zeros([capacity, self.kv_size])?;
                b.scatter_rows(&mut grown, &old, &b.gather_rows(x, &old)?)?;
                *x = grown;
            }
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

    /// Copies of rows, per layer (k, v): what a prefix cache keeps.
    pub(crate) fn copy_rows(&self, b: &B, rows: Range<usize>) -> Result<Vec<[B::Tensor; 2]>> {
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        let copy = |layer: &LayerCache<B>| {
            Ok([b.gather_rows(&layer.k, &rows)?, b.gather_rows(&layer.v, &rows)?])
        };
        self.layers.iter().map(copy).collect()
    }

    /// Appends rows that [`KvCache::copy_rows`] gave.
    pub(crate) fn paste_rows(&mut self, b: &B, rows: &[[B::Tensor; 2]]) -> Result<()> {
        let Some([k, _]) = rows.first() else { return Ok(()) };
        let count = b.shape(k)[0];
        self.reserve(b, count)?;
        for (layer, [k, v]) in rows.iter().enumerate() {
            self.write(b, layer, k, v)?;
        }
        self.advance(count);
        Ok(())
    }
}
