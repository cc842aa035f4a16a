//! A weight on its way from a file to a backend.

use std::ops::Range;

use bytes::Bytes;

use crate::dtype::Format;
use crate::error::{Error, Result};

/// The values of one weight matrix (out, in), row-major, little-endian, as a file holds them.
#[derive(Clone, Debug)]
pub struct MatrixData {
    /// Full name of the tensor in the checkpoint.
    pub name: String,
    /// (out, in).
    pub shape: [usize; 2],
    /// How `values` are coded.
    pub format: Format,
    /// `out` rows of [`Format::row_bytes`] each. A slice of a mapped file costs no copy.
    pub values: Bytes,
    /// `out` rows of [`Format::row_scales`] f16 each; empty for float formats.
    pub scales: Bytes,
    /// A low-rank update added to the product, never to the values.
    pub lora: Option<LoraData>,
}

/// Whether products of quantised weights with this many input columns round activations to int8.
///
/// Narrow ones do not. Of few blocks the rounding errors do not average out: a last bit that
/// another processor's sum has otherwise can turn one int8 and change a ranking. Narrow weights
/// stay in the cache, too, where reading them is not what a product waits for (LOG.md). One rule
/// for every backend, so that they agree.
pub fn rounds_activations(in_features: usize) -> bool {
    in_features > 512
}

/// y = W x + scale * B (A x)
#[derive(Clone, Debug, PartialEq)]
pub struct LoraData {
    /// Rank.
    pub r: usize,
    /// A (r, in).
    pub a: Vec<f32>,
    /// B (out, r).
    pub b: Vec<f32>,
    /// lora_alpha / r, or lora_alpha / sqrt(r) with rslora.
    pub scale: f32,
}

impl MatrixData {
    /// A float matrix from its values.
    pub fn from_f32(name: impl Into<String>, values: &[f32], shape: [usize; 2]) -> Self {
        Self {
            name: name.into(),
            shape,
            format: Format::F32,
            values: Bytes::copy_from_slice(bytemuck::cast_slice(values)),
            scales: Bytes::new(),
            lora: None,
        }
    }

    /// The module that the tensor belongs to: its name without a trailing `.weight`.
    pub fn module(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }

    /// Some of the rows, without a copy: one of several weights that a file holds as one, such as
    /// timm's `qkv`. Its name ends in the rows. `Err` for rows that are not there.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        self.check()?;
        let [out, input] = self.shape;
        if rows.start > rows.end || rows.end > out {
            let expected = format!("rows of the {out} there are");
            return Err(Error::file(&self.name, "rows", expected, format!("{rows:?}")));
        }
        let bytes = |per_row: usize| rows.start * per_row..rows.end * per_row;
        Ok(Self {
            name: format!("{}[{}..{}]", self.name, rows.start, rows.end),
            shape: [rows.len(), input],
            format: self.format,
            values: self.values.slice(bytes(self.format.row_bytes(input))),
            scales: self.scales.slice(bytes(self.format.row_scales(input) * 2)),
            lora: self.lora.as_ref().map(|lora| {
                let b = lora.b.get(rows.start * lora.r..rows.end * lora.r);
                LoraData { b: b.unwrap_or_default().to_vec(), ..lora.clone() }
            }),
        })
    }

    /// `Err` unless the byte counts are those of shape, format and rank. Every backend calls this
    /// before it touches the bytes.
    pub fn check(&self) -> Result<()> {
        let [out, input] = self.shape;
        let rows = |per_row: usize| out.saturating_mul(per_row);
        let pairs = [
            ("values", rows(self.format.row_bytes(input)), self.values.len()),
            ("scales", rows(self.format.row_scales(input) * 2), self.scales.len()),
        ];
        for (what, expected, found) in pairs {
            if expected != found {
                let expected = format!("{expected} bytes for {} {out}x{input}", self.format);
                return Err(Error::file(&self.name, what, expected, format!("{found} bytes")));
            }
        }
        if let Some(lora) = &self.lora {
            let fits = |n: usize, found: usize| lora.r.checked_mul(n) == Some(found);
            if !fits(input, lora.a.len()) || !fits(out, lora.b.len()) {
                return Err(Error::Adapter {
                    file: self.name.clone(),
                    field: "lora_A, lora_B".into(),
                    expected: format!("[{}, {input}] and [{out}, {}]", lora.r, lora.r),
                    found: format!("{} and {} values", lora.a.len(), lora.b.len()),
                });
            }
        }
        Ok(())
    }
}
