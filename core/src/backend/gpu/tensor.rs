//! What the GPU backend hands out: activations, and weights in chunks.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::pool::Pool;
use crate::dtype::Format;

/// A part of GPU memory; an activation's returns to the pool when its last user is gone.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) buffer: wgpu::Buffer,
    /// Never used twice: bind groups are cached by it.
    pub(super) id: u64,
    /// What a shader may see of the buffer, a multiple of 4.
    pub(super) bytes: u64,
    pub(super) home: Weak<Mutex<Pool>>,
    /// False for weights and for what a test guards: dropped for good.
    pub(super) reuse: bool,
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(pool) = self.home.upgrade() {
            let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
            if self.reuse {
                pool.take_back(self.buffer.clone(), self.id);
            } else {
                pool.forget();
            }
        }
    }
}

/// An activation (rows, cols), f32, row-major, on the GPU. Cloning shares the values; writing into
/// a shared tensor copies them first.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(super) shape: [usize; 2],
    pub(super) storage: Arc<Storage>,
    /// The rows as int8 blocks, made by the first quantised product that asks and shared by the
    /// others (q, k and v; gate and up).
    pub(super) quantised: Arc<Mutex<Option<Quantised>>>,
}

/// Rows as signed bytes with one f32 scale per block of 32 columns.
#[derive(Clone, Debug)]
pub(super) struct Quantised {
    /// (rows, blocks * 8) words of four bytes.
    pub(super) values: Arc<Storage>,
    /// (rows, blocks)
    pub(super) scales: Arc<Storage>,
}

impl Tensor {
    pub(super) fn new(shape: [usize; 2], storage: Arc<Storage>) -> Self {
        Self { shape, storage, quantised: Arc::default() }
    }

    /// No value at all: nothing to compute.
    pub(super) fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}

/// A weight of one axis, f32.
#[derive(Clone, Debug)]
pub struct Vector {
    pub(super) len: usize,
    pub(super) storage: Arc<Storage>,
}

/// A weight (out, in) as it is stored, with its low-rank update if it has one.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub(super) base: Rows,
    pub(super) lora: Option<Arc<Lora>>,
}

/// Rows of a weight in chunks, none larger than one binding may be.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// (out, in)
    pub(super) shape: [usize; 2],
    pub(super) format: Format,
    pub(super) layout: RowLayout,
    pub(super) chunks: Arc<[Chunk]>,
}

/// How one row lies in memory: whole words, whole groups of four columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowLayout {
    /// Groups of four columns.
    pub(super) in4: usize,
    /// Words of values.
    pub(super) value_words: usize,
    /// Words of scales, two f16 each; 0 for float formats.
    pub(super) scale_words: usize,
}

impl RowLayout {
    pub(super) fn new(format: Format, cols: usize) -> Self {
        let blocks = cols.div_ceil(crate::dtype::BLOCK);
        match format {
            Format::F32 => {
                let in4 = cols.div_ceil(4);
                Self { in4, value_words: in4 * 4, scale_words: 0 }
            }
            Format::F16 => {
                let in4 = cols.div_ceil(4);
                Self { in4, value_words: in4 * 2, scale_words: 0 }
            }
            Format::Q8 => {
                Self { in4: blocks * 8, value_words: blocks * 8, scale_words: blocks.div_ceil(2) }
            }
            Format::Q4 => {
                Self { in4: blocks * 8, value_words: blocks * 4, scale_words: blocks.div_ceil(2) }
            }
        }
    }
}

/// Consecutive rows of a weight.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// Its first row in the weight.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) values: Arc<Storage>,
    /// The values again for float formats, which have none: a binding cannot stay empty.
    pub(super) scales: Arc<Storage>,
}

/// y += scale * B (A x)
#[derive(Clone, Debug)]
pub(super) struct Lora {
    /// (r, in)
    pub(super) a: Rows,
    /// (out, r)
    pub(super) b: Rows,
    pub(super) scale: f32,
}
