//! Masked-item training of MBHT.
//!
//! The last slot of every sequence is the question; besides, a share of the items in its history is
//! masked. Masking hides an item, not an event: as long as another event of the same item is seen,
//! "which item is this?" asks for a copy and teaches nothing.

use std::collections::HashMap;
use std::path::Path;

use tributary_core::Result;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::mbht::{Mbht, Slot};
use tributary_core::random::Random;
use tributary_core::recommend::GraphModel;

use super::super::trainer::{Losses, Objective};
use super::sequences::{Event, Sequences};
use crate::burn_backend::Burn;

pub(super) struct MbhtObjective<'a> {
    model: Mbht<Burn>,
    sequences: &'a Sequences<'a>,
    mask_ratio: f32,
    seed: u64,
}

impl<'a> MbhtObjective<'a> {
    pub(super) fn new(
        model: Mbht<Burn>,
        sequences: &'a Sequences<'a>,
        mask_ratio: f32,
        seed: u64,
    ) -> Self {
        Self { model, sequences, mask_ratio, seed }
    }

    /// The slots of a history with some items masked, and the masked items in order.
    fn masked(&self, window: &[Event], random: &mut Random) -> (Vec<Slot>, Vec<u32>) {
        let mut hidden = HashMap::new();
        for &(item, _) in window {
            hidden.entry(item).or_insert_with(|| random.unit() < f64::from(self.mask_ratio));
        }
        // Something must stay known.
        if hidden.values().all(|&hidden| hidden) {
            hidden.clear();
        }
        let is_hidden = |item: u32| hidden.get(&item).copied().unwrap_or(false);
        let slot = |&(item, behaviour): &Event| Slot {
            item: (!is_hidden(item)).then_some(item),
            behaviour,
        };
        let targets = window.iter().map(|&(item, _)| item).filter(|&item| is_hidden(item));
        (window.iter().map(slot).collect(), targets.collect())
    }
}

impl Objective for MbhtObjective<'_> {
    fn examples(&self) -> usize {
        self.sequences.len()
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let (mut slots, mut lengths) = (Vec::new(), Vec::with_capacity(examples.len()));
        let (mut targets, mut asked) = (Vec::new(), Vec::with_capacity(examples.len()));
        for &example in examples {
            let key = Random::stream(self.seed, b.step()).next_u64();
            let mut random = Random::stream(key, u64::from(example));
            let (events, question) = self.sequences.draw(example, 1.0, &mut random)?;
            let (known, masked) = self.masked(self.model.window(&events), &mut random);
            lengths.push(known.len() + 1);
            asked.push(masked.len() + 1);
            slots.extend(known);
            slots.push(Slot { item: None, behaviour: question.behaviour });
            targets.extend(masked);
            targets.push(question.item);
        }
        let segments = Segments::new(&lengths)?;
        let hypergraph = pollster::block_on(self.model.hypergraph(b, &slots, &segments))?;
        let hidden = self.model.forward(b, &slots, &segments, &hypergraph)?;
        let scores = self.model.scores(b, &hidden)?;
        Ok(Losses { rows: b.cross_entropy(&scores, &targets)?, segments: Segments::new(&asked)? })
    }

    fn example_name(&self, example: u32) -> String {
        self.sequences.name(example)
    }

    fn metric(&self) -> &str {
        &self.sequences.metric
    }

    fn validate(&self, b: &Burn) -> Result<Option<f64>> {
        self.sequences.validate(b, GraphModel::Mbht(self.model.clone()))
    }

    fn describe(&self, folder: &Path) -> Result<()> {
        self.sequences.describe(folder, &self.model.config().to_json())
    }
}
