//! TMF's fusion: the embeddings of an item's picture, text and graph become one soft token of the
//! language model; a behaviour's embedding becomes another.
//!
//! Triple Modality Fusion, arXiv 2410.12228, section 4.1. All-modality self-attention (AMSA, Eqs. 5
//! and 6) lets every item of a user's history see the others; cross-modality attention (CMA, Eqs. 7
//! and 8) then asks the pictures and the texts. Two-layer adaptors (section 4.2) lead into the
//! language model's embedding space.
//!
//! Unusual here:
//!
//! - **Causal by choice.** Eq. 6 is bidirectional: one new event changes every earlier item's token
//!   and spoils the cached prefix. With `causal` an item sees itself and earlier ones, so a token
//!   never changes once written.
//! - **A candidate is fused alone**, as a sequence of one, so its token does not depend on the user
//!   and is computed once per catalogue.
//! - **What is missing has a learned vector**: an item without a picture, a text or a graph row gets
//!   `absent.*` there, so a cold item works like any other.
//! - **`residual`.** In the equations as printed the values of Eq. 8 are the pictures alone, so a
//!   candidate's token holds nothing of its text and graph. With `residual` each attention adds to
//!   its query instead of replacing it.
//! - **`normalize`.** Encoders differ in how long their embeddings are, and items of one encoder, too;
//!   an RMS norm brings each modality to one length first.
//! - **`events`.** The token of an item of a history is the item's plus that of what was done to it,
//!   so that one glance tells what a user bought from what was only seen.
//! - **`num_attention_heads`** 0 is the attention of the equations, without projections; from 1 on
//!   it is the multi-head form that section 4.1.2 offers, with q, k, v and o projections.

use serde::{Deserialize, Serialize};

use crate::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{LayerNorm, Linear, RmsNorm};
use crate::weights::Weights;

/// `fusion.json`. A width of 0 means that the modality is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionConfig {
    /// Width of a picture's embedding.
    pub image_size: usize,
    /// Width of a text's embedding.
    pub text_size: usize,
    /// Width of a graph embedding of an item.
    pub graph_size: usize,
    /// Width of a behaviour's embedding.
    pub behaviour_size: usize,
    /// Each modality is projected to this width first; 0 takes the embeddings as they are, as the
    /// paper does, whose picture and text encoders are of one width.
    pub modality_size: usize,
    /// Width of the language model.
    pub hidden_size: usize,
    /// Width inside the adaptors.
    pub intermediate_size: usize,
    /// Heads of every attention, each of modality width / heads; 0 for Eqs. 6 to 8 as printed.
    pub num_attention_heads: usize,
    /// AMSA; without it an item's modalities are only put side by side (Eq. 5).
    pub amsa: bool,
    /// CMA after AMSA.
    pub cma: bool,
    /// An item sees itself and earlier ones only.
    pub causal: bool,
    /// Attention adds to its query.
    pub residual: bool,
    /// Each modality passes an RMS norm first.
    #[serde(default)]
    pub normalize: bool,
    /// In a history, what was done to an item adds to its token.
    #[serde(default)]
    pub events: bool,
}

/// Widest embedding and language model.
pub const MAX_WIDTH: usize = 65_536;
const NORM_EPS: f32 = 1e-5;

impl FusionConfig {
    /// Reads `fusion.json`.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)
            .map_err(|e| Error::file(file, "fields", "those of a fusion", e.to_string()))?;
        config.check().at(|| file)?;
        Ok(config)
    }

    /// `Err` naming the first field that does not fit.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &'static str, expected: String, found: usize| {
            Err(Error::argument("fusion", field, expected, found))
        };
        for (field, width) in [
            ("image_size", self.image_size),
            ("text_size", self.text_size),
            ("graph_size", self.graph_size),
            ("behaviour_size", self.behaviour_size),
            ("modality_size", self.modality_size),
        ] {
            if width > MAX_WIDTH {
                return wrong(field, format!("0 to {MAX_WIDTH}"), width);
            }
        }
        for (field, width) in
            [("hidden_size", self.hidden_size), ("intermediate_size", self.intermediate_size)]
        {
            if width == 0 || width > MAX_WIDTH {
                return wrong(field, format!("1 to {MAX_WIDTH}"), width);
            }
        }
        if self.item_size() == 0 {
            return wrong("image_size", "at least one modality's width above 0".into(), 0);
        }
        if self.cma && (self.width(self.image_size) != self.width(self.text_size)) {
            let expected = format!(
                "image_size {}, for CMA, or a `modality_size` that both are projected to",
                self.image_size
            );
            return wrong("text_size", expected, self.text_size);
        }
        if self.events && self.behaviour_size == 0 {
            return wrong("behaviour_size", "a width above 0, for events".into(), 0);
        }
        if self.cma && self.image_size == 0 {
            return wrong("image_size", "pictures and texts, for CMA".into(), 0);
        }
        let heads = self.num_attention_heads;
        let widths = [
            (self.amsa, "the widths of all modalities together", self.item_size()),
            (self.cma, "the width of a modality", self.width(self.image_size)),
        ];
        for (used, what, width) in widths {
            if used && heads > 0 && !width.is_multiple_of(heads) {
                return wrong(
                    "num_attention_heads",
                    format!("a divisor of {width}, {what}"),
                    heads,
                );
            }
        }
        Ok(())
    }

    /// Width of a modality inside the fusion.
    fn width(&self, size: usize) -> usize {
        if size > 0 && self.modality_size > 0 { self.modality_size } else { size }
    }

    /// Width of Eq. 5.
    fn item_size(&self) -> usize {
        [self.image_size, self.text_size, self.graph_size].map(|size| self.width(size)).iter().sum()
    }
}

/// The embeddings of some items, each (rows, width of the modality). Whatever stands in a row that is
/// not present is not read; an unused modality is not looked at.
#[derive(Debug)]
pub struct ItemRows<'a, B: Backend> {
    /// Of the pictures.
    pub image: &'a B::Tensor,
    /// Of the texts.
    pub text: &'a B::Tensor,
    /// Of the behaviour graph.
    pub graph: &'a B::Tensor,
    /// Which items have a picture.
    pub image_present: &'a [bool],
    /// Which items have a text.
    pub text_present: &'a [bool],
    /// Which items are in the graph.
    pub graph_present: &'a [bool],
}

/// One modality on its way in.
#[derive(Clone, Debug)]
struct Modality<B: Backend> {
    absent: B::Matrix, // (1, size)
    norm: Option<RmsNorm<B>>,
    proj: Option<Linear<B>>, // (modality_size, size)
    size: usize,
}

impl<B: Backend> Modality<B> {
    fn load(w: &Weights<'_, B>, name: &str, config: &FusionConfig, size: usize) -> Result<Self> {
        let absent = w.at("absent").at(name).matrix("weight", [1, size])?;
        let proj = match config.modality_size {
            0 => None,
            width => Some(Linear::load(&w.at(format!("{name}_proj")), [width, size], true)?),
        };
        let norm = match config.normalize {
            true => Some(RmsNorm::load(&w.at(format!("{name}_norm")), size, NORM_EPS)?),
            false => None,
        };
        Ok(Self { absent, norm, proj, size })
    }

    /// `given` (rows, size) with holes -> (rows, width).
    fn forward(
        &self,
        b: &B,
        given: &B::Tensor,
        present: &[bool],
        rows: usize,
    ) -> Result<B::Tensor> {
        let shape = b.shape(given);
        if shape != [rows, self.size] || present.len() != rows {
            return Err(Error::shape("fusion", "rows", &[rows, self.size], &shape));
        }
        // Written over, not added to: what stands in an absent row must not count.
        let absent = (0..).zip(present).filter(|&(_, &present)| !present).map(|(row, _)| row);
        let absent: Vec<u32> = absent.collect();
        let mut x = match &self.norm {
            Some(norm) => norm.forward(b, given)?,
            None => given.clone(),
        };
        if !absent.is_empty() {
            let fill = b.embed(&self.absent, &vec![0; absent.len()])?;
            b.scatter_rows(&mut x, &absent, &fill)?;
        }
        match &self.proj {
            Some(proj) => proj.forward(b, &x),
            None => Ok(x),
        }
    }
}

/// softmax(q k^T / sqrt(d)) v: as printed, or with projections and heads.
#[derive(Clone, Debug)]
struct Attention<B: Backend> {
    projections: Option<Projections<B>>,
    heads: HeadShape,
    residual: bool,
}

#[derive(Clone, Debug)]
struct Projections<B: Backend> {
    norm: LayerNorm<B>,
    q_proj: Linear<B>, // (width, width), like the others
    k_proj: Linear<B>,
    v_proj: Linear<B>,
    o_proj: Linear<B>,
}

impl<B: Backend> Attention<B> {
    fn load(w: &Weights<'_, B>, config: &FusionConfig, width: usize) -> Result<Self> {
        let count = config.num_attention_heads.max(1);
        let heads = HeadShape {
            num_attention_heads: count,
            num_key_value_heads: count,
            head_dim: width / count,
        };
        let linear = |name| Linear::load(&w.at(name), [width, width], true);
        let projections = match config.num_attention_heads {
            0 => None,
            _ => Some(Projections {
                norm: LayerNorm::load(&w.at("norm"), width, NORM_EPS)?,
                q_proj: linear("q_proj")?,
                k_proj: linear("k_proj")?,
                v_proj: linear("v_proj")?,
                o_proj: linear("o_proj")?,
            }),
        };
        Ok(Self { projections, heads, residual: config.residual })
    }

    /// `query`, `key`, `value` (rows, width) -> (rows, width).
    fn forward(
        &self,
        b: &B,
        [query, key, value]: [&B::Tensor; 3],
        attend: &Attend<'_, B::Tensor>,
    ) -> Result<B::Tensor> {
        let context = match &self.projections {
            None => b.attention(query, key, value, attend, self.heads)?,
            Some(p) => {
                let q = p.q_proj.forward(b, &p.norm.forward(b, query)?)?;
                let (k, v) = (p.k_proj.forward(b, key)?, p.v_proj.forward(b, value)?);
                p.o_proj.forward(b, &b.attention(&q, &k, &v, attend, self.heads)?)?
            }
        };
        if self.residual { b.add(query, &context) } else { Ok(context) }
    }
}

/// Cross-modality attention, Eqs. 7 and 8.
#[derive(Clone, Debug)]
struct Cma<B: Backend> {
    query: Linear<B>,    // (width, item_size): "we project the output of AMSA"
    text: Attention<B>,  // Eq. 7: pictures are the keys, texts the values
    image: Attention<B>, // Eq. 8: texts are the keys, pictures the values
}

/// Embedding space -> the language model's: Linear, GELU, Linear.
#[derive(Clone, Debug)]
struct Adaptor<B: Backend> {
    up: Linear<B>,   // (intermediate_size, input)
    down: Linear<B>, // (hidden_size, intermediate_size)
}

impl<B: Backend> Adaptor<B> {
    fn load(w: &Weights<'_, B>, config: &FusionConfig, input: usize) -> Result<Self> {
        let (inner, hidden) = (config.intermediate_size, config.hidden_size);
        Ok(Self {
            up: Linear::load(&w.at("up"), [inner, input], true)?,
            down: Linear::load(&w.at("down"), [hidden, inner], true)?,
        })
    }

    fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let inner = b.activate(&self.up.forward(b, x)?, Activation::Gelu)?;
        self.down.forward(b, &inner)
    }
}

/// The module and both adaptors: the paper's Psi_f, Psi_i and Psi_b.
#[derive(Clone, Debug)]
pub struct Fusion<B: Backend> {
    image: Option<Modality<B>>,
    text: Option<Modality<B>>,
    graph: Option<Modality<B>>,
    amsa: Option<Attention<B>>,
    cma: Option<Cma<B>>,
    item_adaptor: Adaptor<B>,
    behaviours: Option<(B::Matrix, Adaptor<B>)>, // (behaviours, behaviour_size), from the graph
    config: FusionConfig,
}

impl<B: Backend> Fusion<B> {
    /// Loads what `config` asks for. `behaviours` (behaviours, behaviour_size) are the graph
    /// encoder's embeddings; not looked at when `behaviour_size` is 0.
    pub fn load(
        w: &Weights<'_, B>,
        config: FusionConfig,
        behaviours: Option<B::Matrix>,
    ) -> Result<Self> {
        config.check()?;
        let modality = |name, size| match size {
            0 => Ok(None),
            size => Modality::load(w, name, &config, size).map(Some),
        };
        let (item_size, width) = (config.item_size(), config.width(config.image_size));
        let amsa = match config.amsa {
            true => Some(Attention::load(&w.at("amsa"), &config, item_size)?),
            false => None,
        };
        let cma = match config.cma {
            true => Some(Cma {
                query: Linear::load(&w.at("cma.query"), [width, item_size], true)?,
                text: Attention::load(&w.at("cma.text"), &config, width)?,
                image: Attention::load(&w.at("cma.image"), &config, width)?,
            }),
            false => None,
        };
        let fused = if config.cma { width } else { item_size };
        let behaviours = match (config.behaviour_size, behaviours) {
            (0, _) => None,
            (size, Some(table)) if w.backend().matrix_shape(&table)[1] == size => {
                Some((table, Adaptor::load(&w.at("behaviour_adaptor"), &config, size)?))
            }
            (size, table) => {
                let expected = format!("a table of behaviour_size {size} columns");
                let found = table.map(|table| w.backend().matrix_shape(&table));
                let found = format!("{found:?}");
                return Err(Error::argument("fusion", "behaviours", expected, found));
            }
        };
        Ok(Self {
            image: modality("image", config.image_size)?,
            text: modality("text", config.text_size)?,
            graph: modality("graph", config.graph_size)?,
            amsa,
            cma,
            item_adaptor: Adaptor::load(&w.at("item_adaptor"), &config, fused)?,
            behaviours,
            config,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &FusionConfig {
        &self.config
    }

    /// The soft tokens of items: (rows, hidden_size). A segment is one user's history, or one
    /// candidate alone.
    pub fn item_tokens(
        &self,
        b: &B,
        items: ItemRows<'_, B>,
        segments: &Segments,
    ) -> Result<B::Tensor> {
        let rows = segments.rows();
        let mut parts = Vec::with_capacity(3);
        let [mut image, mut text] = [None, None];
        if let Some(modality) = &self.image {
            let x = modality.forward(b, items.image, items.image_present, rows).at(|| "image")?;
            parts.push(x.clone());
            image = Some(x);
        }
        if let Some(modality) = &self.text {
            let x = modality.forward(b, items.text, items.text_present, rows).at(|| "text")?;
            parts.push(x.clone());
            text = Some(x);
        }
        if let Some(modality) = &self.graph {
            let x = modality.forward(b, items.graph, items.graph_present, rows);
            parts.push(x.at(|| "graph")?);
        }
        let parts: Vec<&B::Tensor> = parts.iter().collect();
        let mut fused = b.concat(&parts)?; // Eq. 5

        let mask = if self.config.causal { Mask::Causal } else { Mask::Bidirectional };
        let attend = Attend::new(segments, mask);
        if let Some(amsa) = &self.amsa {
            fused = amsa.forward(b, [&fused, &fused, &fused], &attend).at(|| "amsa")?; // Eq. 6
        }
        if let (Some(cma), Some(image), Some(text)) = (&self.cma, &image, &text) {
            let query = cma.query.forward(b, &fused)?;
            let query = cma.text.forward(b, [&query, image, text], &attend).at(|| "cma.text")?;
            fused = cma.image.forward(b, [&query, text, image], &attend).at(|| "cma.image")?;
        }
        self.item_adaptor.forward(b, &fused).at(|| "item_adaptor")
    }

    /// The soft tokens of behaviours, by their rows in the table: (behaviours, hidden_size).
    pub fn behaviour_tokens(&self, b: &B, behaviours: &[u32]) -> Result<B::Tensor> {
        let Some((table, adaptor)) = &self.behaviours else {
            let expected = "a fusion with a `behaviour_size`";
            return Err(Error::argument("fusion", "behaviours", expected, "one without"));
        };
        adaptor.forward(b, &b.embed(table, behaviours)?).at(|| "behaviour_adaptor")
    }
}
