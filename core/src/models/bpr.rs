//! BPR: matrix factorisation trained to rank by pairs (Rendle et al., UAI 2009, arXiv 1205.2618),
//! the baseline without order. score = p_u . q_i + b_i.
//!
//! Unusual: there is no table of users. A user is the mean of what was met, p_u = mean of the items'
//! input embeddings, as in FISM (Kabbur et al., KDD 2013), so that users never seen in training are
//! served on their own devices, and after each event. With a table of its own each user of the data
//! would fit better, and nobody else could be served. Training, too, differs from LearnBPR: see
//! [`Bpr::item`].

use serde_json::json;

use super::sequence_items::{DROPOUT, SequenceItems};
use crate::backend::{Backend, Mix, Segments};
use crate::error::{Context, Result};
use crate::weights::{ConfigReader, Weights};

/// `config.json` of a BPR folder.
#[derive(Clone, Debug, PartialEq)]
pub struct BprConfig {
    /// Its items.
    pub items: SequenceItems,
    /// Number of factors.
    pub hidden_size: usize,
    /// Dropout on the users' factors, while training.
    pub hidden_dropout_prob: f32,
}

impl BprConfig {
    /// A new model over `num_items` items: 64 factors.
    pub fn new(num_items: usize) -> Self {
        Self { items: SequenceItems::new(num_items, 50), hidden_size: 64, hidden_dropout_prob: 0.0 }
    }

    /// Reads `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing, of the wrong type or out of range, by name; another model type.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let reader = ConfigReader::new(file, text)?;
        if reader.str("model_type")? != "bpr" {
            return Err(reader.unsupported("model_type", "bpr"));
        }
        Ok(Self {
            items: SequenceItems::parse(&reader, 0)?,
            hidden_size: reader.usize("hidden_size", 1..=8192)?,
            hidden_dropout_prob: reader.f32_or("hidden_dropout_prob", 0.0, DROPOUT)?,
        })
    }

    /// The text of a `config.json` that [`BprConfig::parse`] reads back.
    pub fn to_json(&self) -> String {
        self.items.to_json(json!({
            "model_type": "bpr",
            "hidden_size": self.hidden_size,
            "hidden_dropout_prob": self.hidden_dropout_prob,
        }))
    }
}

/// BPR.
#[derive(Debug)]
pub struct Bpr<B: Backend> {
    config: BprConfig,
    item_embeddings: B::Matrix, // p of the items of a history (num_embeddings, hidden_size)
    item_factors: B::Matrix,    // q (num_items, hidden_size)
    item_bias: B::Matrix,       // b (num_items, 1)
}

impl<B: Backend> Bpr<B> {
    /// Reads the tensors at the root of the checkpoint.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn load(weights: &Weights<'_, B>, config: BprConfig) -> Result<Self> {
        let (items, width) = (&config.items, config.hidden_size);
        let matrix = |name: &str, shape| weights.at(name).matrix("weight", shape);
        Ok(Self {
            item_embeddings: matrix("item_embeddings", [items.num_embeddings, width])?,
            item_factors: matrix("item_factors", [items.num_items, width])?,
            item_bias: matrix("item_bias", [items.num_items, 1])?,
            config,
        })
    }

    /// p_u after each item; see [`super::sequence::SequenceModel::forward`].
    pub fn forward(&self, b: &B, items: &[u32], segments: &Segments) -> Result<B::Tensor> {
        self.config.items.check("bpr", items, segments)?;
        let embedded = b.embed(&self.item_embeddings, items).at(|| "item_embeddings")?;
        let users = running_means(b, &embedded, segments)?;
        b.dropout(&users, self.config.hidden_dropout_prob)
    }

    /// Scores of every item; see [`super::sequence::SequenceModel::scores`].
    pub fn scores(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        let rows = b.shape(hidden)[0];
        let ones = b.upload(&vec![1.0; rows], [rows, 1])?;
        let factors = b.linear(hidden, &self.item_factors, None)?;
        b.add(&factors, &b.linear(&ones, &self.item_bias, None)?)
    }

    /// q and b of these items by their dense indices: (items, hidden_size), (items, 1). The loss is
    /// -ln sigmoid(x_ui - x_uj) at each item i of a history, p_u being what came before it and j
    /// drawn uniformly from all items that the user never met; LearnBPR draws user and item anew
    /// for each step, and p_u holds all of the user's items, i among them.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn item(&self, b: &B, items: &[u32]) -> Result<(B::Tensor, B::Tensor)> {
        Ok((b.embed(&self.item_factors, items)?, b.embed(&self.item_bias, items)?))
    }
}

/// The mean of each segment's rows up to each row. Sums of 2, 4, 8 ... rows, so that a window of n
/// items costs n log n, where one sum per row would cost n^2 / 2.
fn running_means<B: Backend>(b: &B, x: &B::Tensor, segments: &Segments) -> Result<B::Tensor> {
    let places =
        || segments.iter().flat_map(|rows| rows.clone().map(move |row| (row, row - rows.start)));
    let longest = segments.iter().map(|rows| rows.len()).max().unwrap_or(0);
    let (mut sums, mut reach) = (x.clone(), 1);
    while reach < longest {
        let rows = places().map(|(row, place)| {
            let before = (place >= reach).then(|| ((row - reach) as u32, 1.0));
            before.into_iter().chain([(row as u32, 1.0)])
        });
        sums = b.mix_rows(&sums, &Mix::new(segments.rows(), rows)?)?;
        reach *= 2;
    }
    let rows = places().map(|(row, place)| [(row as u32, 1.0 / (place + 1) as f32)]);
    b.mix_rows(&sums, &Mix::new(segments.rows(), rows)?)
}
