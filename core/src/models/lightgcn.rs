//! A graph encoder after LightGCN (He et al., SIGIR 2020, arXiv 2002.02126) over the
//! item-behaviour-user graph: embeddings travel along interactions without any nonlinearity between,
//! and the sum over all layers is what an item is.
//!
//! Unusual:
//! - Users have no table: a user is what comes from the items of a history. So a user never seen in
//!   training, or one with a new event, is as good as any other, and one layer is items to users to
//!   items.
//! - Every behaviour has edges of its own and a learned gate for each column of what travels over
//!   them: a purchase may say other things than a view does.
//! - Asking for a behaviour moves the user by that behaviour's embedding, so behaviours lie in the
//!   space of items: close to those that they are typical for.

use serde_json::json;

use super::mbht::behaviours;
use crate::backend::check::TOP_K_COLUMNS;
use crate::backend::{Activation, Backend, Mix};
use crate::error::{Context, Error, Result};
use crate::weights::{ConfigReader, Weights};

/// `config.json` of a LightGCN folder.
#[derive(Clone, Debug, PartialEq)]
pub struct LightGcnConfig {
    /// Items that can be scored.
    pub num_items: usize,
    /// Names of the behaviours, in the order of their rows.
    pub behaviours: Vec<String>,
    /// The behaviour that is predicted where nothing else is asked; one of `behaviours`.
    pub target_behaviour: String,
    /// Width of an embedding.
    pub hidden_size: usize,
    /// Layers of propagation, each from items to users and back; 0: none.
    pub num_hidden_layers: usize,
}

impl LightGcnConfig {
    /// Reads `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing, of the wrong type or out of range, by name; another model type.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        if reader.str("model_type")? != "lightgcn" {
            return Err(reader.unsupported("model_type", "lightgcn"));
        }
        let (behaviours, target_behaviour) = behaviours(&reader)?;
        Ok(Self {
            num_items: reader.usize("num_items", 1..=TOP_K_COLUMNS)?,
            behaviours,
            target_behaviour,
            hidden_size: reader.usize("hidden_size", 1..=8192)?,
            num_hidden_layers: reader.usize("num_hidden_layers", 0..=16)?,
        })
    }

    /// The text of a `config.json` that [`LightGcnConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        let text = json!({
            "model_type": "lightgcn",
            "num_items": self.num_items,
            "behaviours": self.behaviours,
            "target_behaviour": self.target_behaviour,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
        });
        format!("{text:#}\n")
    }
}

/// Who met what, and how: the edges of each behaviour, with the symmetric normalisation
/// 1 / sqrt(degree of the user * degree of the item) over all behaviours.
#[derive(Clone, Debug)]
pub struct InteractionGraph {
    to_users: Vec<Mix>, // by behaviour (users, num_items)
    to_items: Vec<Mix>, // by behaviour (num_items, users)
}

/// An item and the behaviour it was met with: a row of each table.
pub type Event = (u32, u32);

impl InteractionGraph {
    /// The graph of these users' events; a repeated event counts once.
    ///
    /// # Errors
    /// An item or behaviour that is not below its number.
    pub fn new(num_items: usize, num_behaviours: usize, users: &[Vec<Event>]) -> Result<Self> {
        let mut degrees = vec![0u32; num_items];
        let mut edges = Vec::with_capacity(users.len());
        for events in users {
            let mut events = events.clone();
            events.sort_unstable();
            events.dedup();
            for &(item, behaviour) in &events {
                let expected =
                    || format!("items below {num_items}, behaviours below {num_behaviours}");
                match degrees.get_mut(item as usize) {
                    Some(degree) if (behaviour as usize) < num_behaviours => *degree += 1,
                    _ => {
                        let found = format!("{item}, {behaviour}");
                        return Err(Error::argument("lightgcn", "events", expected(), found));
                    }
                }
            }
            edges.push(events);
        }
        let (mut to_users, mut to_items) = (Vec::new(), Vec::new());
        for asked in 0..num_behaviours as u32 {
            let weight = |user: &[Event], item: u32| {
                let item = degrees.get(item as usize).copied().unwrap_or(1);
                1.0 / (user.len() as f32 * item as f32).sqrt()
            };
            let mut users_of = vec![Vec::new(); num_items];
            let mut items_of = Vec::with_capacity(edges.len());
            for (user, events) in (0..).zip(&edges) {
                let own = events.iter().filter(|(_, behaviour)| *behaviour == asked);
                let own: Vec<_> = own.map(|&(item, _)| (item, weight(events, item))).collect();
                for &(item, weight) in &own {
                    if let Some(users) = users_of.get_mut(item as usize) {
                        users.push((user, weight));
                    }
                }
                items_of.push(own);
            }
            to_users.push(Mix::new(num_items, items_of)?);
            to_items.push(Mix::new(edges.len(), users_of)?);
        }
        Ok(Self { to_users, to_items })
    }
}

/// LightGCN over items and behaviours.
#[derive(Clone, Debug)]
pub struct LightGcn<B: Backend> {
    config: LightGcnConfig,
    item_embedding: B::Matrix,      // (num_items, hidden_size)
    behaviour_embedding: B::Matrix, // (behaviours, hidden_size)
    behaviour_gate: B::Matrix,      // before the sigmoid (behaviours, hidden_size)
}

impl<B: Backend> LightGcn<B> {
    /// Reads the tensors from `weights`, at the root of the checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(weights: &Weights<'_, B>, config: LightGcnConfig) -> Result<Self> {
        let table =
            |name: &str, rows| weights.at(name).matrix("weight", [rows, config.hidden_size]);
        let behaviours = config.behaviours.len();
        Ok(Self {
            item_embedding: table("item_embedding", config.num_items)?,
            behaviour_embedding: table("behaviour_embedding", behaviours)?,
            behaviour_gate: table("behaviour_gate", behaviours)?,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &LightGcnConfig {
        &self.config
    }

    /// The item embeddings as the weights have them: (num_items, hidden_size).
    pub fn items(&self, b: &B) -> Result<B::Tensor> {
        let all: Vec<u32> = (0..self.config.num_items as u32).collect();
        b.embed(&self.item_embedding, &all).at(|| "item_embedding")
    }

    /// The item embeddings after propagation over `graph`: (num_items, hidden_size), the sum over
    /// layers.
    ///
    /// # Errors
    /// A graph of other items or behaviours.
    pub fn propagated(&self, b: &B, graph: &InteractionGraph) -> Result<B::Tensor> {
        let mut layer = self.items(b)?;
        let mut sum = layer.clone();
        for _ in 0..self.config.num_hidden_layers {
            let users = self.gated(b, &layer, &graph.to_users)?;
            layer = self.gated(b, &users, &graph.to_items)?;
            sum = b.add(&sum, &layer)?;
        }
        Ok(sum)
    }

    /// Users as what their histories say: `items` (num_items, hidden_size) ->
    /// (histories, hidden_size); an empty history gives zeros.
    ///
    /// # Errors
    /// An item or behaviour outside its table.
    pub fn users(&self, b: &B, items: &B::Tensor, histories: &[&[Event]]) -> Result<B::Tensor> {
        let behaviours = self.config.behaviours.len() as u32;
        let mut events = histories.iter().copied().flatten();
        if let Some((_, found)) = events.find(|(_, behaviour)| *behaviour >= behaviours) {
            let expected = format!("behaviours below {behaviours}");
            return Err(Error::argument("lightgcn", "histories", expected, found));
        }
        let mean = |asked: u32| {
            let rows = histories.iter().map(|history| {
                let weight = 1.0 / history.len() as f32;
                let own = history.iter().filter(move |(_, behaviour)| *behaviour == asked);
                own.map(move |&(item, _)| (item, weight)).collect::<Vec<_>>()
            });
            Mix::new(self.config.num_items, rows)
        };
        let mixes = (0..behaviours).map(mean).collect::<Result<Vec<_>>>()?;
        self.gated(b, items, &mixes)
    }

    /// Scores of every item: `users` and `items` (rows, hidden_size), the asked behaviour of each
    /// user -> (users, num_items).
    ///
    /// # Errors
    /// Another number of behaviours than users; a behaviour outside the table.
    pub fn scores(
        &self,
        b: &B,
        users: &B::Tensor,
        items: &B::Tensor,
        asked: &[u32],
    ) -> Result<B::Tensor> {
        let asked = b.embed(&self.behaviour_embedding, asked).at(|| "behaviour_embedding")?;
        b.similarity(&b.add(users, &asked)?, items)
    }

    /// The sum over behaviours of gate * (mix x).
    fn gated(&self, b: &B, x: &B::Tensor, mixes: &[Mix]) -> Result<B::Tensor> {
        let mut sum: Option<B::Tensor> = None;
        for (behaviour, mix) in (0..).zip(mixes) {
            let gate = b.embed(&self.behaviour_gate, &vec![behaviour; mix.shape()[0]])?;
            let part = b.gated(&gate, &b.mix_rows(x, mix)?, Activation::Sigmoid)?;
            sum = Some(match sum {
                Some(sum) => b.add(&sum, &part)?,
                None => part,
            });
        }
        sum.ok_or_else(|| Error::argument("lightgcn", "graph", "at least one behaviour", "none"))
    }
}
