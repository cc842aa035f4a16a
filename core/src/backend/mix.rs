//! Sparse weighted sums of rows with constant weights.

use super::Segments;
use crate::error::{Error, Result};

/// What [`super::Backend::mix_rows`] multiplies by: a sparse matrix (rows, from), row after row
/// (CSR). Means of segments, propagation over a graph, hypergraph convolution and strided pooling
/// are all of this form. The weights are constants: no gradient reaches them.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Entries of row i are `starts[i]..starts[i + 1]`.
    starts: Vec<u32>,
    columns: Vec<u32>,
    weights: Vec<f32>,
    from: usize,
}

impl Mix {
    /// Row i of the result is the sum of weight * x[column] over `rows[i]`; a column may come twice,
    /// a row may be empty and is then zero. x has `from` rows.
    ///
    /// # Errors
    /// A column not below `from`, a weight that is not finite, more than 2^32 - 1 entries.
    pub fn new<R>(from: usize, rows: impl IntoIterator<Item = R>) -> Result<Self>
    where
        R: IntoIterator<Item = (u32, f32)>,
    {
        let (mut starts, mut columns, mut weights) = (vec![0], Vec::new(), Vec::new());
        for row in rows {
            for (column, weight) in row {
                if column as usize >= from {
                    let expected = format!("an index below {from}");
                    return Err(Error::argument("mix", "column", expected, column));
                }
                if !weight.is_finite() {
                    return Err(Error::argument("mix", "weight", "a finite number", weight));
                }
                columns.push(column);
                weights.push(weight);
            }
            starts.push(u32::try_from(columns.len()).map_err(|_| {
                let (limit, found) = (u64::from(u32::MAX), columns.len() as u64);
                Error::Limit { what: "entries of a mix".into(), limit, found }
            })?);
        }
        Ok(Self { starts, columns, weights, from })
    }

    /// The mean of each segment's rows; zero for an empty one.
    ///
    /// # Errors
    /// None for segments that exist: their rows are counted in u32.
    pub fn mean(segments: &Segments) -> Result<Self> {
        let rows = segments.iter().map(|rows| {
            let weight = 1.0 / rows.len() as f32;
            rows.map(move |row| (row as u32, weight))
        });
        Self::new(segments.rows(), rows)
    }

    /// The same with every weight times `factor`.
    ///
    /// # Errors
    /// A weight that is no longer finite.
    pub fn scaled(&self, factor: f32) -> Result<Self> {
        let mut mix = self.clone();
        for weight in &mut mix.weights {
            *weight *= factor;
            if !weight.is_finite() {
                return Err(Error::argument("mix", "weight", "a finite number", weight));
            }
        }
        Ok(mix)
    }

    /// (rows of the result, rows of x).
    pub fn shape(&self) -> [usize; 2] {
        [self.starts.len() - 1, self.from]
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Entries of row i are those from `starts()[i]` to `starts()[i + 1]`: (rows + 1).
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// The row of x of each entry.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The weight of each entry.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The entries of row `row`: (column, weight).
    pub fn row(&self, row: usize) -> impl ExactSizeIterator<Item = (u32, f32)> + '_ {
        let entries = self.starts[row] as usize..self.starts[row + 1] as usize;
        let weights = self.weights[entries.clone()].iter().copied();
        self.columns[entries].iter().copied().zip(weights)
    }
}
