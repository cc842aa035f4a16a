//! How numbers are stored: in files ([`DType`]) and in a model's matrices ([`Format`]).

use std::fmt;

/// The block of input columns that shares one scale in `q8` and `q4`.
pub const BLOCK: usize = 32;
/// Bytes of one `q4` block: element i in the low nibble of byte i, element i + 16 in the high one.
pub const Q4_BLOCK_BYTES: usize = BLOCK / 2;

/// Element type of a tensor in a safetensors file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of an `F32`.
    Bf16,
    /// 8-bit signed integer: the values of a `q8` matrix.
    I8,
    /// Bytes: the nibbles of a `q4` matrix.
    U8,
}

/// How a weight matrix is held in memory and multiplied. Accumulators are f32 in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 8 bits: value = int8 * scale, one f16 scale per [`BLOCK`] input columns.
    Q8,
    /// 4 bits: value = (nibble - 8) * scale, one f16 scale per [`BLOCK`] input columns.
    Q4,
}

impl Format {
    /// Bytes of the values of one row of `cols` columns, scales not counted.
    /// `q4` rows are whole blocks: nibbles past `cols` hold 8, which is zero.
    pub fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::F32 => cols * 4,
            Self::F16 => cols * 2,
            Self::Q8 => cols,
            Self::Q4 => cols.div_ceil(BLOCK) * Q4_BLOCK_BYTES,
        }
    }

    /// Scales of one row of `cols` columns.
    pub fn row_scales(self, cols: usize) -> usize {
        match self {
            Self::F32 | Self::F16 => 0,
            Self::Q8 | Self::Q4 => cols.div_ceil(BLOCK),
        }
    }

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// The format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::Q8, Self::Q4].into_iter().find(|f| f.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
