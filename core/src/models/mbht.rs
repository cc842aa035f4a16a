//! MBHT, the multi-behaviour hypergraph-enhanced transformer (Yang et al., KDD 2022, arXiv
//! 2207.05584): TMF's graph encoder. A sequence of (item, behaviour) events with asked slots goes
//! through a transformer with attention at several scales and through a hypergraph of similar
//! items; a gate weighs the two, and items are scored by their own embeddings (tied, no bias).
//!
//! Unusual, and where this differs from the published code:
//! - Sequences are packed. What the paper does over a fixed number of positions (the low-rank
//!   projection of keys, the fusion of the scales) pads inside this file, *on the left*, so that the
//!   last slot, the one that is asked while recommending, is always the same position.
//! - A scale averages *neighbouring* slots of one sequence; the original's reshape averages slots
//!   that lie far apart, and padding with them.
//! - An asked slot keeps its behaviour: "what is bought here?" and "what is viewed here?" are
//!   different questions. The original takes that away.
//! - Cosines are over the columns of each item (the original's run over the sequence axis), of the
//!   gated embeddings as they are: the original's two further vectors would get no gradient here.
//! - A node of the hypergraph is an event, item plus behaviour; in the original all events of an
//!   item are one and the same node, and joining them does nothing.

mod config;
mod hypergraph;
mod scales;

pub(super) use config::behaviours;
pub use config::{MAX_BEHAVIOURS, MAX_POSITIONS, MbhtConfig, check_behaviours};
pub use hypergraph::Hypergraph;
use scales::Scales;

use crate::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{LayerNorm, Linear};
use crate::weights::Weights;

/// Shortest length of an embedding that a cosine divides by.
const MIN_LENGTH: f32 = 1e-12;

/// One event of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which item, below `num_items`; `None` where it is asked.
    pub item: Option<u32>,
    /// What was done, or would be: a row of the behaviour table.
    pub behaviour: u32,
}

/// The items that `slots` name, ascending, each once.
fn unique_items(slots: &[Slot]) -> Vec<u32> {
    let mut items: Vec<u32> = slots.iter().filter_map(|slot| slot.item).collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// MBHT.
#[derive(Clone, Debug)]
pub struct Mbht<B: Backend> {
    config: MbhtConfig,
    item_embedding: B::Matrix,      // (num_items, hidden_size)
    mask_embedding: B::Matrix,      // of an asked slot (1, hidden_size)
    position_embedding: B::Matrix,  // (max_seq_len, hidden_size)
    behaviour_embedding: B::Matrix, // (behaviours, hidden_size)
    layer_norm: LayerNorm<B>,       // LayerNorm (hidden_size)
    layer: Vec<Layer<B>>,
    gate: Linear<B>,             // hypergraph.gate (hidden_size, hidden_size)
    convolution: Vec<Linear<B>>, // hypergraph.layer (hidden_size, hidden_size)
    fusion: Linear<B>,           // fusion.dense (hidden_size, hidden_size)
    fusion_score: Linear<B>,     // fusion.score (1, hidden_size)
}

impl<B: Backend> Mbht<B> {
    /// Reads the tensors from `weights`, at the root of the checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(weights: &Weights<'_, B>, config: MbhtConfig) -> Result<Self> {
        let hidden_size = config.hidden_size;
        let table = |name: &str, rows| weights.at(name).matrix("weight", [rows, hidden_size]);
        let square = |name: &str| Linear::load(&weights.at(name), [hidden_size; 2], true);
        let layer = |layer| Layer::load(&weights.at("encoder.layer").at(layer), &config);
        let convolution = |layer| square(&format!("hypergraph.layer.{layer}"));
        Ok(Self {
            item_embedding: table("item_embedding", config.num_items)?,
            mask_embedding: table("mask_embedding", 1)?,
            position_embedding: table("position_embedding", config.max_seq_len)?,
            behaviour_embedding: table("behaviour_embedding", config.behaviours.len())?,
            layer_norm: LayerNorm::load(
                &weights.at("LayerNorm"),
                hidden_size,
                config.layer_norm_eps,
            )?,
            layer: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            gate: square("hypergraph.gate")?,
            convolution: (0..config.num_hypergraph_layers)
                .map(convolution)
                .collect::<Result<_>>()?,
            fusion: square("fusion.dense")?,
            fusion_score: Linear::load(&weights.at("fusion.score"), [1, hidden_size], false)?,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &MbhtConfig {
        &self.config
    }

    /// The newest events of a history that fit beside one asked slot.
    pub fn window<'h, T>(&self, history: &'h [T]) -> &'h [T] {
        let skipped = history.len().saturating_sub(self.config.max_seq_len - 1);
        history.get(skipped..).unwrap_or_default()
    }

    /// The hypergraph of each sequence under the current embeddings. The only part that waits.
    ///
    /// # Errors
    /// Slots that [`Mbht::forward`] refuses; an embedding that is not finite.
    pub async fn hypergraph(
        &self,
        b: &B,
        slots: &[Slot],
        segments: &Segments,
    ) -> Result<Hypergraph> {
        self.check(slots, segments)?;
        let items = b.embed(&self.item_embedding, &unique_items(slots)).at(|| "item_embedding")?;
        let gated = b.gated(&self.gate.forward(b, &items)?, &items, Activation::Sigmoid)?;
        let gated = b.read(&b.l2_normalize(&gated, MIN_LENGTH)?).await?;
        Hypergraph::new(&self.config, slots, segments, &gated)
    }

    /// The state of every asked slot, in order: (asked, hidden_size). `segments` says which slots
    /// are one sequence, oldest event first.
    ///
    /// # Errors
    /// A sequence longer than `max_seq_len`, an item or behaviour outside its table, a count that
    /// differs from the segments' rows.
    pub fn forward(
        &self,
        b: &B,
        slots: &[Slot],
        segments: &Segments,
        hypergraph: &Hypergraph,
    ) -> Result<B::Tensor> {
        self.check(slots, segments)?;
        let asked: Vec<u32> =
            (0..).zip(slots).filter(|(_, slot)| slot.item.is_none()).map(|(row, _)| row).collect();
        let items = self.items(b, slots, &asked)?;
        let behaviours: Vec<u32> = slots.iter().map(|slot| slot.behaviour).collect();
        let behaviours = b.embed(&self.behaviour_embedding, &behaviours)?;
        let events = b.add(&items, &behaviours)?;

        let sequence = b.gather_rows(&self.transformer(b, &events, segments)?, &asked)?;
        let graph = self.convolved(b, &events, hypergraph)?;
        self.fused(b, &sequence, &graph)
    }

    /// Scores of every item: (asked, hidden_size) -> (asked, num_items).
    pub fn scores(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        b.linear(hidden, &self.item_embedding, None)
    }

    /// Item embeddings, the mask's at asked slots: (rows, hidden_size).
    fn items(&self, b: &B, slots: &[Slot], asked: &[u32]) -> Result<B::Tensor> {
        let ids: Vec<u32> = slots.iter().map(|slot| slot.item.unwrap_or(0)).collect();
        let mut items = b.embed(&self.item_embedding, &ids).at(|| "item_embedding")?;
        let mask = b.embed(&self.mask_embedding, &vec![0; asked.len()])?;
        b.scatter_rows(&mut items, asked, &mask)?;
        Ok(items)
    }

    /// (rows, hidden_size) -> same.
    fn transformer(&self, b: &B, events: &B::Tensor, segments: &Segments) -> Result<B::Tensor> {
        let config = &self.config;
        let scales = Scales::new(config, segments)?;
        let positions = b.embed(&self.position_embedding, &scales.positions)?;
        let hidden = self.layer_norm.forward(b, &b.add(events, &positions)?)?;
        let mut hidden = b.dropout(&hidden, config.hidden_dropout_prob)?;
        for (index, layer) in self.layer.iter().enumerate() {
            let place = || format!("encoder.layer.{index}");
            hidden = layer.forward(b, &hidden, segments, &scales, config).at(place)?;
        }
        Ok(hidden)
    }

    /// The hypergraph's embeddings around each asked slot: (rows, hidden_size) ->
    /// (asked, hidden_size), the mean over layers.
    fn convolved(&self, b: &B, events: &B::Tensor, graph: &Hypergraph) -> Result<B::Tensor> {
        let gate = self.gate.forward(b, events)?;
        let mut nodes = b.gated(&gate, events, Activation::Sigmoid)?;
        let mut layers = Vec::new();
        for layer in &self.convolution {
            let edges = b.mix_rows(&layer.forward(b, &nodes)?, &graph.to_edges)?;
            nodes = b.mix_rows(&edges, &graph.to_rows)?;
            nodes = b.dropout(&nodes, self.config.hypergraph_dropout_prob)?;
            layers.push(
                b.mix_rows(&nodes, &graph.readout.scaled(1.0 / self.convolution.len() as f32)?)?,
            );
        }
        let mut layers = layers.into_iter();
        let Some(mut sum) = layers.next() else {
            return Err(Error::Internal("mbht: a hypergraph without layers".into()));
        };
        for layer in layers {
            sum = b.add(&sum, &layer)?;
        }
        Ok(sum)
    }

    /// softmax over {sequence, graph} of a^T (W x), and the sum it weighs. A softmax of two is the
    /// sigmoid of their difference.
    fn fused(&self, b: &B, sequence: &B::Tensor, graph: &B::Tensor) -> Result<B::Tensor> {
        let score = |x| self.fusion_score.forward(b, &self.fusion.forward(b, x)?);
        let scores = b.concat(&[&score(sequence)?, &score(graph)?])?;
        let weighted = |x, difference: [f32; 2]| {
            // The difference of the two scores, repeated over the columns of x.
            let cols = self.config.hidden_size;
            let repeat = b.upload(&difference.repeat(cols), [cols, 2])?;
            b.gated(&b.similarity(&scores, &repeat)?, x, Activation::Sigmoid)
        };
        b.add(&weighted(sequence, [1.0, -1.0])?, &weighted(graph, [-1.0, 1.0])?)
    }

    fn check(&self, slots: &[Slot], segments: &Segments) -> Result<()> {
        if slots.len() != segments.rows() {
            return Err(Error::shape("mbht", "slots", &[segments.rows()], &[slots.len()]));
        }
        let limit = self.config.max_seq_len;
        if let Some(found) = segments.iter().map(|rows| rows.len()).find(|&len| len > limit) {
            return Err(Error::InputTooLong { what: "mbht: events of a sequence", limit, found });
        }
        Ok(())
    }
}

/// One layer: attention at several scales, fused over positions; then a feed-forward part. Each is
/// normalised after its residual.
#[derive(Clone, Debug)]
struct Layer<B: Backend> {
    low_rank: Projections<B>,           // low_rank_attention
    key_projection: Linear<B>,          // over positions (low_rank, max_seq_len)
    value_projection: Linear<B>,        // over positions (low_rank, max_seq_len)
    pooled: Projections<B>,             // pooled_attention, shared by all pooled scales
    scale_fusion: Linear<B>, // over positions (max_seq_len, max_seq_len + pooled positions)
    dense: Linear<B>,        // (hidden_size, hidden_size)
    attention_layer_norm: LayerNorm<B>, // attention.LayerNorm (hidden_size)
    dense_1: Linear<B>,      // intermediate.dense_1 (intermediate_size, hidden_size)
    dense_2: Linear<B>,      // intermediate.dense_2 (hidden_size, intermediate_size)
    layer_norm: LayerNorm<B>, // intermediate.LayerNorm (hidden_size)
}

impl<B: Backend> Layer<B> {
    fn load(weights: &Weights<'_, B>, config: &MbhtConfig) -> Result<Self> {
        let MbhtConfig { hidden_size, intermediate_size, layer_norm_eps: eps, .. } = *config;
        let (positions, low_rank) = (config.max_seq_len, config.low_rank);
        let (attention, mlp) = (weights.at("attention"), weights.at("intermediate"));
        let over_positions = |name: &str, shape| Linear::load(&attention.at(name), shape, true);
        let fused = positions + scales::pooled_positions(config).iter().sum::<usize>();
        Ok(Self {
            low_rank: Projections::load(&weights.at("low_rank_attention"), hidden_size)?,
            key_projection: over_positions("key_projection", [low_rank, positions])?,
            value_projection: over_positions("value_projection", [low_rank, positions])?,
            pooled: Projections::load(&weights.at("pooled_attention"), hidden_size)?,
            scale_fusion: over_positions("scale_fusion", [positions, fused])?,
            dense: Linear::load(&attention.at("dense"), [hidden_size; 2], true)?,
            attention_layer_norm: LayerNorm::load(&attention.at("LayerNorm"), hidden_size, eps)?,
            dense_1: Linear::load(&mlp.at("dense_1"), [intermediate_size, hidden_size], true)?,
            dense_2: Linear::load(&mlp.at("dense_2"), [hidden_size, intermediate_size], true)?,
            layer_norm: LayerNorm::load(&mlp.at("LayerNorm"), hidden_size, eps)?,
        })
    }

    /// (rows, hidden_size) -> same.
    fn forward(
        &self,
        b: &B,
        hidden: &B::Tensor,
        segments: &Segments,
        scales: &Scales,
        config: &MbhtConfig,
    ) -> Result<B::Tensor> {
        let groups = segments.len();
        let attend = |keys, segments| Attend {
            keys,
            dropout: config.attention_probs_dropout_prob,
            ..Attend::new(segments, Mask::Bidirectional)
        };
        let heads = HeadShape {
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_attention_heads,
            head_dim: config.hidden_size / config.num_attention_heads,
        };

        // Low rank: keys and values of all positions become `low_rank` of each.
        let [q, k, v] = self.low_rank.forward(b, hidden)?;
        let project = |x: &B::Tensor, projection: &Linear<B>| {
            let by_position = b.transpose(&b.mix_rows(x, &scales.pad)?, groups)?;
            b.transpose(&projection.forward(b, &by_position)?, groups)
        };
        let k = project(&k, &self.key_projection)?;
        let v = project(&v, &self.value_projection)?;
        let low_rank = attend(Some(&scales.low_rank), segments);
        let context = b.attention(&q, &k, &v, &low_rank, heads)?;

        let mut columns = vec![b.transpose(&b.mix_rows(&context, &scales.pad)?, groups)?];
        for scale in &scales.pooled {
            let [q, k, v] = self.pooled.forward(b, &b.mix_rows(hidden, &scale.mean)?)?;
            let context = b.attention(&q, &k, &v, &attend(None, &scale.segments), heads)?;
            columns.push(b.transpose(&b.mix_rows(&context, &scale.pad)?, groups)?);
        }
        let columns = b.concat(&columns.iter().collect::<Vec<_>>())?;
        let fused = b.transpose(&self.scale_fusion.forward(b, &columns)?, groups)?;
        let context = self.dense.forward(b, &b.gather_rows(&fused, &scales.rows)?)?;
        let context = b.dropout(&context, config.hidden_dropout_prob)?;
        let hidden = self.attention_layer_norm.forward(b, &b.add(&context, hidden)?)?;

        let inner = b.activate(&self.dense_1.forward(b, &hidden)?, Activation::Gelu)?;
        let outer = self.dense_2.forward(b, &inner)?;
        let outer = b.dropout(&outer, config.hidden_dropout_prob)?;
        self.layer_norm.forward(b, &b.add(&outer, &hidden)?)
    }
}

/// Queries, keys and values of one attention.
#[derive(Clone, Debug)]
struct Projections<B: Backend> {
    query: Linear<B>, // (hidden_size, hidden_size)
    key: Linear<B>,   // (hidden_size, hidden_size)
    value: Linear<B>, // (hidden_size, hidden_size)
}

impl<B: Backend> Projections<B> {
    fn load(weights: &Weights<'_, B>, hidden_size: usize) -> Result<Self> {
        let square = |name: &str| Linear::load(&weights.at(name), [hidden_size; 2], true);
        Ok(Self { query: square("query")?, key: square("key")?, value: square("value")? })
    }

    /// q, k and v of `x` (rows, hidden_size), each the same shape.
    fn forward(&self, b: &B, x: &B::Tensor) -> Result<[B::Tensor; 3]> {
        Ok([self.query.forward(b, x)?, self.key.forward(b, x)?, self.value.forward(b, x)?])
    }
}
