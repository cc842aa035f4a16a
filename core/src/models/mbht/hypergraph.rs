//! The hypergraph of each sequence, built on the host from the current embeddings.
//!
//! Nodes are the events whose item is known: an asked slot brings no knowledge, so it is none (the
//! original code makes it one). For every item of the sequence one hyperedge joins its own events
//! with weight 1 and those of its `hyperedge_size` most similar items with the cosine as weight; an
//! item with several events gets a second hyperedge over these alone, which ties its behaviours.
//! No gradient flows into the weights: they are chosen, like the edges, by what the embeddings are.

use super::config::MbhtConfig;
use super::{Slot, unique_items};
use crate::backend::{Mix, Segments};
use crate::error::{Error, Result};

/// What a negative cosine counts as, after the original code.
const UNLIKE: f32 = 0.01;

/// D_v^-1 H D_e^-1 H^T of the packed sequences, as its two halves, and how asked slots read it.
#[derive(Clone, Debug)]
pub struct Hypergraph {
    pub(super) to_edges: Mix, // D_e^-1 H^T (hyperedges, rows)
    pub(super) to_rows: Mix,  // D_v^-1 H (rows, hyperedges); asked slots have no entry
    pub(super) readout: Mix,  // (asked, rows): means of windows
}

impl Hypergraph {
    /// `gated` holds the embedding of each item of [`unique_items`], of length 1.
    pub(super) fn new(
        config: &MbhtConfig,
        slots: &[Slot],
        segments: &Segments,
        gated: &[f32],
    ) -> Result<Self> {
        let items = unique_items(slots);
        let found = items.len() * config.hidden_size;
        if gated.len() != found {
            return Err(Error::shape("hypergraph", "gated", &[found], &[gated.len()]));
        }
        let embedding = |item: u32| -> &[f32] {
            let at = items.partition_point(|&known| known < item) * config.hidden_size;
            gated.get(at..at + config.hidden_size).unwrap_or_default()
        };
        let mut edges: Vec<Vec<(u32, f32)>> = Vec::new();
        let mut readout: Vec<Vec<(u32, f32)>> = Vec::new();
        for rows in segments.iter() {
            edges.extend(sequence_edges(config, slots, rows.clone(), &embedding));
            let slot_rows = rows.clone().zip(slots.get(rows.clone()).unwrap_or_default());
            for (row, _) in slot_rows.filter(|(_, slot)| slot.item.is_none()) {
                let start = row.saturating_sub(config.window_before).max(rows.start);
                let end = rows.end.min(row + 1 + config.window_after);
                let known = |row: &usize| slots.get(*row).is_some_and(|slot| slot.item.is_some());
                let window: Vec<_> = (start..end).filter(known).collect();
                let weight = 1.0 / window.len() as f32;
                readout.push(window.into_iter().map(|row| (row as u32, weight)).collect());
            }
        }
        let mut rows = vec![Vec::new(); slots.len()];
        for (edge, entries) in edges.iter_mut().enumerate() {
            for &(row, weight) in entries.iter() {
                if let Some(row) = rows.get_mut(row as usize) {
                    row.push((edge as u32, weight));
                }
            }
            normalise(entries);
        }
        rows.iter_mut().for_each(|entries| normalise(entries));
        Ok(Self {
            to_rows: Mix::new(edges.len(), rows)?,
            to_edges: Mix::new(slots.len(), edges)?,
            readout: Mix::new(slots.len(), readout)?,
        })
    }
}

/// Divides by the sum of the weights: a node's or a hyperedge's degree.
fn normalise(entries: &mut [(u32, f32)]) {
    let degree: f32 = entries.iter().map(|&(_, weight)| weight).sum();
    entries.iter_mut().for_each(|(_, weight)| *weight /= degree);
}

/// The hyperedges of one sequence: (row, weight) each.
fn sequence_edges<'e>(
    config: &MbhtConfig,
    slots: &[Slot],
    rows: std::ops::Range<usize>,
    embedding: &impl Fn(u32) -> &'e [f32],
) -> Vec<Vec<(u32, f32)>> {
    // Items in order of first appearance, with their rows.
    let mut items: Vec<(u32, Vec<u32>)> = Vec::new();
    let mut place = std::collections::HashMap::new();
    for (row, slot) in rows.clone().zip(slots.get(rows).unwrap_or_default()) {
        let Some(item) = slot.item else { continue };
        let i = *place.entry(item).or_insert_with(|| {
            items.push((item, Vec::new()));
            items.len() - 1
        });
        if let Some((_, own)) = items.get_mut(i) {
            own.push(row as u32);
        }
    }
    let mut edges = Vec::new();
    for (i, (item, own)) in items.iter().enumerate() {
        let own_entries = || own.iter().map(|&row| (row, 1.0));
        let mut similar: Vec<(usize, f32)> = items
            .iter()
            .enumerate()
            .filter(|&(j, _)| j != i)
            .map(|(j, (other, _))| {
                let pairs = embedding(*item).iter().zip(embedding(*other));
                (j, pairs.map(|(a, b)| a * b).sum::<f32>())
            })
            .collect();
        // Stable: equal ones stay in order of appearance.
        similar.sort_by(|a, b| b.1.total_cmp(&a.1));
        similar.truncate(config.hyperedge_size);
        let others = similar.iter().filter_map(|&(j, cosine)| Some((items.get(j)?, cosine)));
        let others = others.flat_map(|((_, rows), cosine)| {
            let weight = if cosine < 0.0 { UNLIKE } else { cosine.max(f32::MIN_POSITIVE) };
            rows.iter().map(move |&row| (row, weight))
        });
        edges.push(own_entries().chain(others).collect());
        if own.len() > 1 {
            edges.push(own_entries().collect());
        }
    }
    edges
}
