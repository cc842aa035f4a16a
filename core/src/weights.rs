//! Floor 3: names -> matrices, from any source of bytes.
//!
//! A [`Checkpoint`] is what the files hold, a [`Weights`] a place in its tree of names for one
//! backend. A model asks `weights.at("q_proj").matrix("weight", [out, in])` and cannot tell whether
//! the values were f32, f16, bf16, q8 or q4, mapped or downloaded, with or without a LoRA adapter,
//! or freshly initialised.

mod adapter;
mod checkpoint;
mod config;
mod decode;
mod fresh;
mod header;
mod hint;
mod index;
mod merge;
mod nf4;
mod quantize;
mod save;
mod storage;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

pub use adapter::{
    Adapter, AdapterConfig, MAX_LORA_RANK, MAX_PATTERN_BYTES, MAX_PATTERN_PROGRAM_BYTES,
    MAX_PATTERNS,
};
pub use checkpoint::{Checkpoint, Coding, QUANTIZED_KEY, SCALES_SUFFIX, TensorInfo};
pub use config::{ConfigReader, MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH};
pub use decode::matrix as dequantize;
pub use fresh::{INITIAL_STD, Initial};
pub use header::{MAX_AXES, MAX_HEADER_BYTES, MAX_NAME_BYTES, MAX_TENSORS};
pub use index::{MAX_FILE_NAME_BYTES, MAX_INDEX_BYTES, MAX_SHARDS, check_base_name};
pub use merge::merge;
pub use nf4::{ABSMAX_BLOCK, ABSMAX_CODE, Absmax, NF4_BLOCK, NF4_CODE, Nf4};
pub use quantize::{
    MIN_QUANTIZED_VALUES, Progress, format_of, is_table, quantize, quantize_checkpoint,
};
pub use save::{BUNDLE_SHARD_BYTES, NamedTensor, Sink, TensorSpec, Writer, save_safetensors};
pub use storage::{Storage, check_range};

use crate::backend::{Backend, MatrixData, check};
use crate::error::{Error, Result};
use crate::random::Random;

/// A place in a checkpoint's tree of names, for one backend.
#[derive(Debug)]
pub struct Weights<'a, B: Backend> {
    backend: &'a B,
    source: Source<'a>,
    adapter: Option<&'a Adapter>,
    prefix: String,
    /// Full names of the tensors that were asked for, shared by all places of one tree.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Checkpoint(&'a Checkpoint),
    Fresh { seed: u64, initial: Initial },
}

impl<B: Backend> Clone for Weights<'_, B> {
    fn clone(&self) -> Self {
        Self {
            backend: self.backend,
            source: self.source,
            adapter: self.adapter,
            prefix: self.prefix.clone(),
            asked: self.asked.clone(),
        }
    }
}

impl<'a, B: Backend> Weights<'a, B> {
    /// The root of a checkpoint.
    pub fn new(backend: &'a B, checkpoint: &'a Checkpoint) -> Self {
        Self::root(backend, Source::Checkpoint(checkpoint))
    }

    /// The same place with an adapter's updates beside the matrices they belong to, not merged.
    #[must_use]
    pub fn with_adapter(self, adapter: &'a Adapter) -> Self {
        Self { adapter: Some(adapter), ..self }
    }

    /// Initialises what is asked for instead of loading it, to train from the start: a vector
    /// `weight` is ones, a vector `bias` zeros, everything else normal as
    /// [`Initial::Fixed`] has it, the same for the same seed and full name.
    pub fn fresh(backend: &'a B, seed: u64) -> Self {
        Self::root(backend, Source::Fresh { seed, initial: Initial::Fixed })
    }

    /// The same; fresh matrices as `initial` has them.
    #[must_use]
    pub fn with_initial(mut self, initial: Initial) -> Self {
        if let Source::Fresh { initial: of_source, .. } = &mut self.source {
            *of_source = initial;
        }
        self
    }

    fn root(backend: &'a B, source: Source<'a>) -> Self {
        Self { backend, source, adapter: None, prefix: String::new(), asked: Arc::default() }
    }

    /// The place `name` below this one.
    #[must_use]
    pub fn at(&self, name: impl Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..self.clone() }
    }

    /// The first of the places `names` below this one that holds `leaf`: libraries rename parts of a
    /// model from version to version. The first of all where none does; its name is then the error's.
    #[must_use]
    pub fn at_first(&self, names: &[&str], leaf: &str) -> Self {
        let mut places = names.iter().map(|name| self.at(name));
        let first = places.next().unwrap_or_else(|| self.clone());
        if first.has(leaf) {
            return first;
        }
        places.find(|place| place.has(leaf)).unwrap_or(first)
    }

    /// The backend that the weights go to.
    pub fn backend(&self) -> &'a B {
        self.backend
    }

    /// True when the checkpoint holds this tensor. Without a checkpoint always false: then the
    /// model's configuration decides what exists.
    pub fn has(&self, leaf: &str) -> bool {
        match self.source {
            Source::Checkpoint(checkpoint) => checkpoint.has(&self.name(leaf)),
            Source::Fresh { .. } => false,
        }
    }

    /// The tensor `leaf` of this place as a matrix, `shape` = [out, in]; see
    /// [`Checkpoint::matrix`] for which tensors fit. `Err` when it is missing or of another shape.
    pub fn matrix(&self, leaf: &str, shape: [usize; 2]) -> Result<B::Matrix> {
        self.backend.matrix(self.matrix_data(leaf, shape)?)
    }

    /// Some rows of [`Weights::matrix`]: one of several weights that a file holds as one. A new
    /// model has no such tensors: what is trained is saved by the names that it is asked by.
    pub fn matrix_rows(
        &self,
        leaf: &str,
        shape: [usize; 2],
        rows: Range<usize>,
    ) -> Result<B::Matrix> {
        self.backend.matrix(self.matrix_data(leaf, shape)?.rows(rows)?)
    }

    fn matrix_data(&self, leaf: &str, shape: [usize; 2]) -> Result<MatrixData> {
        let name = self.ask(leaf);
        let mut data = match self.source {
            Source::Checkpoint(checkpoint) => checkpoint.matrix(&name, shape)?,
            Source::Fresh { seed, initial } => {
                check::elements("fresh", shape)?;
                let values = initial.values(seed, &name, shape);
                MatrixData::from_f32(name, &values, shape)
            }
        };
        data.lora = self.adapter.and_then(|adapter| adapter.lora(data.module())).cloned();
        data.check()?;
        Ok(data)
    }

    /// The tensor `leaf` of this place as a vector of `len` values. `Err` as for
    /// [`Weights::matrix`].
    pub fn vector(&self, leaf: &str, len: usize) -> Result<B::Vector> {
        self.vector_rows(leaf, len, 0..len)
    }

    /// The values `rows` of [`Weights::vector`]: the bias that goes with [`Weights::matrix_rows`].
    pub fn vector_rows(&self, leaf: &str, len: usize, rows: Range<usize>) -> Result<B::Vector> {
        let mut name = self.ask(leaf);
        let values = match self.source {
            Source::Checkpoint(checkpoint) => checkpoint.vector(&name, len)?,
            Source::Fresh { seed, initial } => {
                check::elements("fresh", [len, 1])?;
                match leaf.rsplit('.').next() {
                    Some("weight") => vec![1.0; len],
                    Some("bias") => vec![0.0; len],
                    _ => initial.values(seed, &name, [1, len]),
                }
            }
        };
        if rows != (0..len) {
            name += &format!("[{}..{}]", rows.start, rows.end);
        }
        let values = values.get(rows).ok_or_else(|| {
            Error::file(&name, "rows", format!("rows of the {len} there are"), "others")
        })?;
        self.backend.vector(&name, values)
    }

    /// The tensor `leaf` of this place, one number: `initial` in a new model. `Err` as for
    /// [`Weights::matrix`].
    pub fn scalar(&self, leaf: &str, initial: f32) -> Result<B::Vector> {
        match self.source {
            Source::Checkpoint(_) => self.vector(leaf, 1),
            Source::Fresh { .. } => self.backend.vector(&self.ask(leaf), &[initial]),
        }
    }

    /// The tensor `leaf` of this place as a vector of `len` values; in a new model each is drawn.
    /// The vectors of one place draw the same numbers in the same order, so they can depend on each
    /// other. `Err` as for [`Weights::matrix`].
    pub fn vector_drawn(
        &self,
        leaf: &str,
        len: usize,
        mut draw: impl FnMut(&mut Random) -> f32,
    ) -> Result<B::Vector> {
        let Source::Fresh { seed, .. } = self.source else { return self.vector(leaf, len) };
        check::elements("fresh", [len, 1])?;
        let mut random = Random::named(seed, &self.prefix);
        let values: Vec<f32> = (0..len).map(|_| draw(&mut random)).collect();
        self.backend.vector(&self.ask(leaf), &values)
    }

    /// Tensors of the checkpoint that nobody asked for yet, sorted.
    pub fn unused(&self) -> Vec<String> {
        let Source::Checkpoint(checkpoint) = self.source else { return Vec::new() };
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoint.names().filter(|&name| !asked.contains(name)).map(str::to_owned).collect()
    }

    /// Modules of the adapter whose matrix nobody asked for yet, sorted.
    pub fn unused_adapter_modules(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let modules = self.adapter.into_iter().flat_map(Adapter::modules);
        modules.filter(|m| !asked.contains(&format!("{m}.weight"))).map(str::to_owned).collect()
    }

    fn name(&self, leaf: &str) -> String {
        format!("{}{leaf}", self.prefix)
    }

    fn ask(&self, leaf: &str) -> String {
        let name = self.name(leaf);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        name
    }
}
