//! Training of LightGCN: softmax over all items, of the user that the history before a question
//! makes.
//!
//! As in LightGCN itself, the graph that items are propagated over holds the training events that
//! are asked for; the user vector does not.

use std::path::Path;

use tributary_core::Result;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::lightgcn::{InteractionGraph, LightGcn};
use tributary_core::random::Random;
use tributary_core::recommend::GraphModel;

use super::super::trainer::{Losses, Objective};
use super::LightGcnOptions;
use super::sequences::{Event, Sequences};
use crate::burn_backend::Burn;

pub(super) struct LightGcnObjective<'a> {
    model: LightGcn<Burn>,
    graph: InteractionGraph,
    sequences: &'a Sequences<'a>,
    target_share: f64,
    seed: u64,
}

impl<'a> LightGcnObjective<'a> {
    pub(super) fn new(
        model: LightGcn<Burn>,
        sequences: &'a Sequences<'a>,
        options: &LightGcnOptions,
        seed: u64,
    ) -> Result<Self> {
        let config = model.config();
        let users = sequences.training();
        let graph = InteractionGraph::new(config.num_items, config.behaviours.len(), &users)?;
        Ok(Self { model, graph, sequences, target_share: options.target_share, seed })
    }

    pub(super) fn graph(&self) -> &InteractionGraph {
        &self.graph
    }
}

impl Objective for LightGcnObjective<'_> {
    fn examples(&self) -> usize {
        self.sequences.len()
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let (mut histories, mut questions) = (Vec::new(), Vec::new());
        for &example in examples {
            let key = Random::stream(self.seed, b.step()).next_u64();
            let mut random = Random::stream(key, u64::from(example));
            let (events, question) =
                self.sequences.draw(example, self.target_share, &mut random)?;
            histories.push(events);
            questions.push(question);
        }
        let histories: Vec<&[Event]> = histories.iter().map(Vec::as_slice).collect();
        let asked: Vec<u32> = questions.iter().map(|question| question.behaviour).collect();
        let targets: Vec<u32> = questions.iter().map(|question| question.item).collect();
        let items = self.model.propagated(b, &self.graph)?;
        let users = self.model.users(b, &items, &histories)?;
        let scores = self.model.scores(b, &users, &items, &asked)?;
        let segments = Segments::new(&vec![1; examples.len()])?;
        Ok(Losses { rows: b.cross_entropy(&scores, &targets)?, segments })
    }

    fn example_name(&self, example: u32) -> String {
        self.sequences.name(example)
    }

    fn metric(&self) -> &str {
        &self.sequences.metric
    }

    fn validate(&self, b: &Burn) -> Result<Option<f64>> {
        let (model, items) = (self.model.clone(), self.model.propagated(b, &self.graph)?);
        self.sequences.validate(b, GraphModel::LightGcn { model, items })
    }

    fn describe(&self, folder: &Path) -> Result<()> {
        self.sequences.describe(folder, &self.model.config().to_json())
    }
}
