//! Where the rows of packed sequences lie among a fixed number of positions, and how they pool.
//!
//! Positions are counted from the end: the last slot of every sequence is the last position.

use super::config::MbhtConfig;
use crate::backend::{Mix, Segments};
use crate::error::Result;

/// Positions that each pooled scale has.
pub(super) fn pooled_positions(config: &MbhtConfig) -> Vec<usize> {
    config.pool_sizes.iter().map(|&size| config.max_seq_len.div_ceil(size)).collect()
}

/// The index work of one batch, shared by all layers.
#[derive(Debug)]
pub(super) struct Scales {
    /// The position of each row, below max_seq_len.
    pub(super) positions: Vec<u32>,
    /// Rows to padded positions, zeros elsewhere: (segments * max_seq_len, rows).
    pub(super) pad: Mix,
    /// The padded position of each row.
    pub(super) rows: Vec<u32>,
    /// `low_rank` keys for every segment.
    pub(super) low_rank: Segments,
    pub(super) pooled: Vec<Pooled>,
}

/// One pooled scale.
#[derive(Debug)]
pub(super) struct Pooled {
    /// Means of neighbouring rows: (pooled rows, rows).
    pub(super) mean: Mix,
    /// Pooled rows of one sequence.
    pub(super) segments: Segments,
    /// Pooled rows to padded positions: (segments * pooled positions, pooled rows).
    pub(super) pad: Mix,
}

impl Scales {
    /// No segment is longer than `max_seq_len`.
    pub(super) fn new(config: &MbhtConfig, segments: &Segments) -> Result<Self> {
        let n = config.max_seq_len;
        let rows = places(segments, n);
        let sizes = config.pool_sizes.iter().zip(pooled_positions(config));
        Ok(Self {
            positions: rows.iter().map(|&row| row % n as u32).collect(),
            pad: pad(segments, n)?,
            rows,
            low_rank: Segments::new(&vec![config.low_rank; segments.len()])?,
            pooled: sizes
                .map(|(&size, positions)| Pooled::new(segments, size, positions))
                .collect::<Result<_>>()?,
        })
    }
}

impl Pooled {
    fn new(segments: &Segments, size: usize, positions: usize) -> Result<Self> {
        let lengths: Vec<usize> = segments.iter().map(|rows| rows.len().div_ceil(size)).collect();
        let pooled = Segments::new(&lengths)?;
        // Whole groups lie at the end; what is left over is the oldest, shorter group.
        let groups = segments.iter().flat_map(|rows| {
            let count = rows.len().div_ceil(size);
            (0..count).map(move |i| {
                let end = rows.end - (count - 1 - i) * size;
                end.saturating_sub(size).max(rows.start)..end
            })
        });
        let mean = Mix::new(
            segments.rows(),
            groups.map(|rows| {
                let weight = 1.0 / rows.len() as f32;
                rows.map(move |row| (row as u32, weight))
            }),
        )?;
        Ok(Self { mean, pad: pad(&pooled, positions)?, segments: pooled })
    }
}

/// The place of each row when every segment has `n` positions and fills the last ones.
fn places(segments: &Segments, n: usize) -> Vec<u32> {
    let segments = segments.iter().enumerate();
    segments
        .flat_map(|(i, rows)| {
            let end = (i + 1) * n;
            (end.saturating_sub(rows.len())..end).map(|place| place as u32)
        })
        .collect()
}

/// The mix that moves rows to their [`places`].
fn pad(segments: &Segments, n: usize) -> Result<Mix> {
    let rows = segments.iter().flat_map(|rows| {
        let empty = n.saturating_sub(rows.len());
        let filled = rows.map(|row| Some((row as u32, 1.0)));
        std::iter::repeat_n(None, empty).chain(filled)
    });
    Mix::new(segments.rows(), rows)
}
