//! A recommender that is a graph encoder: a history of items and behaviours in, scores of all items
//! for the asked behaviour out.

use std::collections::HashSet;

use super::catalogue::{Catalogue, ItemIndex};
use super::clock::{Clock, system_clock};
use super::embeddings::TABLE_ITEMS;
use super::ranking::{self, Ranked};
use super::request::{Interaction, RankedItem, Recommendations, Request, Timings, Usage};
use super::{Question, Recommender, Scorer, Scores, select};
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::models::lightgcn::{Event, LightGcn, LightGcnConfig};
use crate::models::mbht::{Mbht, MbhtConfig, Slot};
use crate::weights::{Checkpoint, ConfigReader, Weights};

/// The tensor of a graph table that holds the behaviours' rows.
pub const TABLE_BEHAVIOURS: &str = "behaviour_embedding.weight";

/// The encoder inside.
#[derive(Debug)]
pub enum GraphModel<B: Backend> {
    /// MBHT: the last events, in their order.
    Mbht(Mbht<B>),
    /// LightGCN: all events, without order.
    LightGcn {
        /// Its behaviours.
        model: LightGcn<B>,
        /// Item embeddings after propagation: (num_items, hidden_size).
        items: B::Tensor,
    },
}

impl<B: Backend> GraphModel<B> {
    /// The encoder that `config` (a `config.json` named `file`) describes. LightGCN takes its items
    /// from `table`, a `graph.safetensors`: its own weights are those before propagation.
    ///
    /// # Errors
    /// A configuration or tensor that does not fit; LightGCN without a table.
    pub fn load(
        file: &str,
        config: &str,
        weights: &Weights<'_, B>,
        table: Option<&Checkpoint>,
    ) -> Result<Self> {
        let reader = ConfigReader::new(file, config)?;
        match reader.str("model_type")? {
            "mbht" => Ok(Self::Mbht(Mbht::load(weights, MbhtConfig::parse(file, config)?)?)),
            "lightgcn" => {
                let config = LightGcnConfig::parse(file, config)?;
                let Some(table) = table else {
                    let expected = "a graph table with its items after propagation";
                    return Err(Error::file(file, "model_type lightgcn", expected, "none"));
                };
                let shape = [config.num_items, config.hidden_size];
                let items = table.matrix(TABLE_ITEMS, shape)?;
                let b = weights.backend();
                let all: Vec<u32> = (0..config.num_items as u32).collect();
                let items = b.embed(&b.matrix(items)?, &all)?;
                Ok(Self::LightGcn { model: LightGcn::load(weights, config)?, items })
            }
            _ => Err(reader.unsupported("model_type", "mbht, lightgcn")),
        }
    }

    fn num_items(&self) -> usize {
        match self {
            Self::Mbht(model) => model.config().num_items,
            Self::LightGcn { model, .. } => model.config().num_items,
        }
    }

    /// Names of the behaviours, and the one that is predicted unless another is asked for.
    fn behaviours(&self) -> (&[String], &str) {
        match self {
            Self::Mbht(model) => {
                (&model.config().behaviours, model.config().target_behaviour.as_str())
            }
            Self::LightGcn { model, .. } => {
                (&model.config().behaviours, model.config().target_behaviour.as_str())
            }
        }
    }
}

/// MBHT or LightGCN over a catalogue: item `i` of the catalogue is item `i` of the model.
///
/// An interaction of unknown kind counts as the asked behaviour.
#[derive(Debug)]
pub struct GraphRecommender<B: Backend> {
    backend: B,
    model: GraphModel<B>,
    catalogue: Catalogue,
    prior: Vec<f32>, // (num_items)
    clock: Clock,
}

impl<B: Backend> GraphRecommender<B> {
    /// `model` over `catalogue`.
    ///
    /// # Errors
    /// A catalogue with another number of items than the model.
    pub fn new(backend: B, model: GraphModel<B>, catalogue: Catalogue) -> Result<Self> {
        if catalogue.len() != model.num_items() {
            let expected = format!("{} items, as `num_items` says", model.num_items());
            return Err(Error::argument("graph", "catalogue", expected, catalogue.len()));
        }
        let prior = catalogue.prior();
        Ok(Self { backend, model, catalogue, prior, clock: system_clock })
    }

    /// The same, with timings from this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The model inside.
    pub fn model(&self) -> &GraphModel<B> {
        &self.model
    }

    /// Names of the behaviours.
    pub fn behaviours(&self) -> &[String] {
        self.model.behaviours().0
    }

    /// The row of a behaviour; the model's own target for `None`.
    ///
    /// # Errors
    /// A behaviour the model does not know, naming those it knows.
    pub fn behaviour(&self, name: Option<&str>) -> Result<u32> {
        let (known, target) = self.model.behaviours();
        let name = name.unwrap_or(target);
        let row = known.iter().position(|known| known == name);
        row.map(|row| row as u32).ok_or_else(|| {
            Error::argument("recommend", "behaviour", format!("one of {}", known.join(", ")), name)
        })
    }

    /// Raw scores (histories, num_items), row-major, no seen item masked, of what comes next with
    /// the asked behaviour of each history. Events are oldest first; without any the prior answers.
    ///
    /// # Errors
    /// An item or behaviour that the model does not have.
    pub async fn score_events(&self, histories: &[(&[Event], u32)]) -> Result<Vec<f32>> {
        let known: Vec<_> = histories.iter().filter(|(events, _)| !events.is_empty()).collect();
        let scores = match (&self.model, known.is_empty()) {
            (_, true) => Vec::new(),
            (GraphModel::Mbht(model), _) => self.score_mbht(model, &known).await?,
            (GraphModel::LightGcn { model, items }, _) => {
                let b = &self.backend;
                let events: Vec<_> = known.iter().map(|(events, _)| *events).collect();
                let asked: Vec<_> = known.iter().map(|(_, asked)| *asked).collect();
                let users = model.users(b, items, &events)?;
                b.read(&model.scores(b, &users, items, &asked)?).await?
            }
        };
        if known.len() == histories.len() {
            return Ok(scores);
        }
        let mut rows = scores.chunks_exact(self.catalogue.len().max(1));
        let mut all = Vec::with_capacity(histories.len() * self.catalogue.len());
        for (events, _) in histories {
            let row = if events.is_empty() { None } else { rows.next() };
            all.extend_from_slice(row.unwrap_or(&self.prior));
        }
        Ok(all)
    }

    async fn score_mbht(
        &self,
        model: &Mbht<B>,
        histories: &[&(&[Event], u32)],
    ) -> Result<Vec<f32>> {
        let b = &self.backend;
        let (mut slots, mut lengths) = (Vec::new(), Vec::with_capacity(histories.len()));
        for (events, asked) in histories {
            let window = model.window(events);
            let known =
                window.iter().map(|&(item, behaviour)| Slot { item: Some(item), behaviour });
            slots.extend(known);
            slots.push(Slot { item: None, behaviour: *asked });
            lengths.push(window.len() + 1);
        }
        let segments = Segments::new(&lengths)?;
        let hypergraph = model.hypergraph(b, &slots, &segments).await?;
        let hidden = model.forward(b, &slots, &segments, &hypergraph)?;
        b.read(&model.scores(b, &hidden)?).await
    }

    /// Known events of the request, and how many are unknown.
    fn events(&self, request: &Request, asked: u32) -> Result<(Vec<Event>, usize)> {
        let (history, unknown) = select::history(&self.catalogue, request)?;
        let event = |(item, interaction): (ItemIndex, &Interaction)| -> Result<Event> {
            Ok(match &interaction.behaviour {
                Some(name) => (item, self.behaviour(Some(name))?),
                None => (item, asked),
            })
        };
        Ok((history.into_iter().map(event).collect::<Result<_>>()?, unknown))
    }
}

impl<B: Backend> Recommender for GraphRecommender<B> {
    fn name(&self) -> &str {
        match self.model {
            GraphModel::Mbht(_) => "mbht",
            GraphModel::LightGcn { .. } => "lightgcn",
        }
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    async fn recommend(&self, request: &Request) -> Result<Recommendations> {
        let started = (self.clock)();
        select::items_only(self.name(), request)?;
        let asked = self.behaviour(request.target_behaviour.as_deref())?;
        let (events, unknown_items) = self.events(request, asked)?;
        let seen: HashSet<_> = match request.exclude_seen {
            true => events.iter().map(|&(item, _)| item).collect(),
            false => HashSet::new(),
        };
        let candidates = select::candidates(&self.catalogue, request, &seen)?;
        let prepared = (self.clock)();
        let scores = match candidates.is_empty() || request.k == 0 {
            true => Vec::new(),
            false => self.score_events(&[(&events, asked)]).await?,
        };
        let scored = (self.clock)();
        let ranked: Vec<Ranked> = match scores.is_empty() {
            true => Vec::new(),
            false => {
                let score = |item: ItemIndex| scores.get(item as usize).copied();
                candidates.iter().map(|&item| (item, score(item).unwrap_or(f32::NAN))).collect()
            }
        };
        let items = ranking::top(&self.catalogue, &ranked, request.k)?.into_iter().zip(1..);
        let items = items.filter_map(|((item, score), rank)| {
            Some(RankedItem { id: self.catalogue.get(item)?.id.clone(), score, rank })
        });
        let items = items.collect();
        let ended = (self.clock)();
        let history_items = match &self.model {
            GraphModel::Mbht(model) => model.window(&events).len(),
            GraphModel::LightGcn { .. } => events.len(),
        };
        #[allow(clippy::needless_update, reason = "other recommenders time further stages")]
        let timings = Timings {
            prepare_ms: prepared - started,
            forward_ms: scored - prepared,
            rank_ms: ended - scored,
            total_ms: ended - started,
            ..Timings::default()
        };
        let candidates = candidates.len();
        let usage = Usage { history_items, unknown_items, candidates, ..Usage::default() };
        Ok(Recommendations {
            items,
            timings,
            usage,
            backend: self.backend.info().into(),
            valid: true,
        })
    }
}

impl<B: Backend> Scorer for GraphRecommender<B> {
    fn num_items(&self) -> usize {
        self.catalogue.len()
    }

    /// Every event counts as the model's own target behaviour: nobody says otherwise.
    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        let asked = self.behaviour(None)?;
        let event = |&item: &ItemIndex| (item, asked);
        let events: Vec<Vec<Event>> =
            histories.iter().map(|history| history.iter().map(event).collect()).collect();
        let asked: Vec<_> = events.iter().map(|events| (&events[..], asked)).collect();
        self.score_events(&asked).await
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        let mut histories = Vec::with_capacity(questions.len());
        for question in questions {
            let asked = self.behaviour(question.target_behaviour)?;
            let mut behaviours = question.behaviours.iter();
            let event = |&item: &ItemIndex| -> Result<Event> {
                let behaviour = behaviours.next().map(|name| self.behaviour(Some(name)));
                Ok((item, behaviour.transpose()?.unwrap_or(asked)))
            };
            let events = question.items.iter().map(event).collect::<Result<Vec<_>>>()?;
            histories.push((events, asked));
        }
        let slices: Vec<_> =
            histories.iter().map(|(events, asked)| (&events[..], *asked)).collect();
        let rows = self.score_events(&slices).await?;
        let rows = rows.chunks_exact(self.num_items().max(1));
        questions.iter().zip(rows).map(|(question, row)| question.answer(row)).collect()
    }
}
