//! Where a checkpoint's bytes come from: memory, a mapped file, or reads at positions.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::error::{Error, Result};

/// A file's bytes, wherever they are. The native package adds mapped files and reads at positions;
/// in a browser the bytes are already in memory.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Bytes in the whole file.
    fn len(&self) -> u64;

    /// True for a file without bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, without a copy where they are in memory. `Err` when the range leaves
    /// the file or the system refuses.
    fn read(&self, range: Range<u64>) -> Result<Bytes>;
}

impl Storage for Bytes {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let range = check_range(&range, self.as_ref().len() as u64)?;
        Ok(self.slice(range))
    }
}

/// `range` as positions in memory; `Err` when it is reversed or leaves a file of `len` bytes. Every
/// [`Storage`] calls this first.
pub fn check_range(range: &Range<u64>, len: u64) -> Result<Range<usize>> {
    let positions = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    match positions {
        Some((start, end)) if range.start <= range.end && range.end <= len => Ok(start..end),
        _ => Err(Error::argument(
            "read",
            "range",
            format!("a range inside the file's {len} bytes"),
            format!("{range:?}"),
        )),
    }
}

/// `bytes` starting at a multiple of `alignment` (1, 2 or 4), so that a backend may look at them as
/// f16 or f32 values. Copies only where a file's header puts its tensors at odd positions.
pub(super) fn aligned(bytes: Bytes, alignment: usize) -> Bytes {
    if (bytes.as_ptr() as usize).is_multiple_of(alignment) {
        return bytes;
    }
    let mut words = Words { words: vec![0; bytes.len().div_ceil(4)], len: bytes.len() };
    bytemuck::cast_slice_mut(&mut words.words)[..bytes.len()].copy_from_slice(&bytes);
    Bytes::from_owner(words)
}

/// `len` bytes at the start of a vector of words.
struct Words {
    words: Vec<u32>,
    len: usize,
}

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}
