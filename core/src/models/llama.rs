//! Llama 2 and 3, and Qwen2, which is Llama with biases on q, k and v.
//!
//! Llama 2, arXiv 2307.09288; Llama 3, arXiv 2407.21783; Qwen2, arXiv 2407.10671; the rotary
//! positions of pictures, Qwen2-VL, arXiv 2409.12191. Names are those of the Hugging Face
//! checkpoints. Unusual here: rows of many sequences are packed without
//! padding, prefill and decode are one path, and logits are computed for asked rows and tokens
//! only.

mod config;

pub use config::LlamaConfig;

use crate::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{AxesPosition, KvCache, KvUse, Linear, RmsNorm, Rope};
use crate::weights::Weights;

/// A text token.
pub type TokenId = u32;

/// Where the rows of a pass stand.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Which rows form one sequence.
    pub segments: &'a Segments,
    /// The absolute position of every row.
    pub positions: &'a [u32],
}

/// [`Rows`] that stand in time, height and width: of prompts with pictures.
#[derive(Clone, Copy, Debug)]
pub struct AxesRows<'a> {
    /// Which rows form one sequence.
    pub segments: &'a Segments,
    /// The position of every row.
    pub positions: &'a [AxesPosition],
}

/// What every layer of one pass shares.
struct Pass<'a, B: Backend> {
    segments: &'a Segments,
    angles: B::Tensor, // (rows, head_dim)
}

/// Grouped-query attention: `num_attention_heads` queries share `num_key_value_heads` keys.
#[derive(Clone, Debug)]
struct Attention<B: Backend> {
    q_proj: Linear<B>, // (num_attention_heads * head_dim, hidden_size)
    k_proj: Linear<B>, // (num_key_value_heads * head_dim, hidden_size)
    v_proj: Linear<B>, // (num_key_value_heads * head_dim, hidden_size)
    o_proj: Linear<B>, // (hidden_size, num_attention_heads * head_dim)
    heads: HeadShape,
}

impl<B: Backend> Attention<B> {
    fn load(w: &Weights<'_, B>, config: &LlamaConfig) -> Result<Self> {
        let (hidden, heads) = (config.hidden_size, config.heads);
        let (q, kv) = (heads.q_size(), heads.kv_size());
        Ok(Self {
            q_proj: Linear::load(&w.at("q_proj"), [q, hidden], config.qkv_bias)?,
            k_proj: Linear::load(&w.at("k_proj"), [kv, hidden], config.qkv_bias)?,
            v_proj: Linear::load(&w.at("v_proj"), [kv, hidden], config.qkv_bias)?,
            o_proj: Linear::load(&w.at("o_proj"), [hidden, q], config.o_bias)?,
            heads,
        })
    }

    /// `hidden` (rows, hidden_size) -> same. Decode is this with one row over a cache.
    fn forward(
        &self,
        b: &B,
        hidden: &B::Tensor,
        pass: &Pass<'_, B>,
        layer: usize,
        kv: &mut KvUse<'_, B>,
    ) -> Result<B::Tensor> {
        let [q, k, v] = Linear::forward_all([&self.q_proj, &self.k_proj, &self.v_proj], b, hidden)?;

        // Rotate before caching: a cached key keeps its absolute position for good, so a new event
        // touches its own rows and never the history.
        let q = b.rope(&q, &pass.angles, self.heads.head_dim)?;
        let k = b.rope(&k, &pass.angles, self.heads.head_dim)?;

        let own = Attend::new(pass.segments, Mask::Causal);
        let context = match kv {
            KvUse::None => b.attention(&q, &k, &v, &own, self.heads)?,
            KvUse::Share(cache) => {
                let attend = Attend { prefix: cache.prefix(layer), ..own };
                b.attention(&q, &k, &v, &attend, self.heads)?
            }
            KvUse::Append(cache) => {
                let attend = Attend { prefix: cache.prefix(layer), ..own };
                let context = b.attention(&q, &k, &v, &attend, self.heads)?;
                cache.write(b, layer, &k, &v)?;
                context
            }
            KvUse::Branch(branches) => {
                let (k, v) = (branches.gather(b, &k)?, branches.gather(b, &v)?);
                let attend = Attend { keys: Some(branches.keys()), ..own };
                b.attention(&q, &k, &v, &attend, self.heads)?
            }
        };
        self.o_proj.forward(b, &context)
    }
}

/// down(f(gate) * up)
#[derive(Clone, Debug)]
struct Mlp<B: Backend> {
    gate_proj: Linear<B>, // (intermediate_size, hidden_size)
    up_proj: Linear<B>,   // (intermediate_size, hidden_size)
    down_proj: Linear<B>, // (hidden_size, intermediate_size)
    hidden_act: Activation,
}

impl<B: Backend> Mlp<B> {
    fn load(w: &Weights<'_, B>, config: &LlamaConfig) -> Result<Self> {
        let (hidden, inner, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        Ok(Self {
            gate_proj: Linear::load(&w.at("gate_proj"), [inner, hidden], bias)?,
            up_proj: Linear::load(&w.at("up_proj"), [inner, hidden], bias)?,
            down_proj: Linear::load(&w.at("down_proj"), [hidden, inner], bias)?,
            hidden_act: config.hidden_act,
        })
    }

    fn forward(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        let [gate, up] = Linear::forward_all([&self.gate_proj, &self.up_proj], b, hidden)?;
        self.down_proj.forward(b, &b.gated(&gate, &up, self.hidden_act)?)
    }
}

#[derive(Clone, Debug)]
struct Layer<B: Backend> {
    input_layernorm: RmsNorm<B>,
    self_attn: Attention<B>,
    post_attention_layernorm: RmsNorm<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> Layer<B> {
    fn load(w: &Weights<'_, B>, config: &LlamaConfig) -> Result<Self> {
        let norm = |name| RmsNorm::load(&w.at(name), config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::load(&w.at("self_attn"), config)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(&w.at("mlp"), config)?,
        })
    }

    fn forward(
        &self,
        b: &B,
        hidden: &B::Tensor,
        pass: &Pass<'_, B>,
        layer: usize,
        kv: &mut KvUse<'_, B>,
    ) -> Result<B::Tensor> {
        let normed = self.input_layernorm.forward(b, hidden)?;
        let hidden = b.add(hidden, &self.self_attn.forward(b, &normed, pass, layer, kv)?)?;
        let normed = self.post_attention_layernorm.forward(b, &hidden)?;
        b.add(&hidden, &self.mlp.forward(b, &normed)?)
    }
}

/// The language model.
#[derive(Clone, Debug)]
pub struct Llama<B: Backend> {
    embed_tokens: B::Matrix, // (vocab_size, hidden_size)
    layers: Vec<Layer<B>>,
    norm: RmsNorm<B>,
    lm_head: B::Matrix, // (vocab_size, hidden_size); embed_tokens itself when tied
    rope: Rope,
    config: LlamaConfig,
}

impl<B: Backend> Llama<B> {
    /// Loads `model.*` and, untied, `lm_head`.
    pub fn load(w: &Weights<'_, B>, config: LlamaConfig) -> Result<Self> {
        Self::load_parts(&w.at("model"), &w.at("lm_head"), config)
    }

    /// The same from wherever a larger model keeps the two.
    pub fn load_parts(
        model: &Weights<'_, B>,
        lm_head: &Weights<'_, B>,
        config: LlamaConfig,
    ) -> Result<Self> {
        let table = [config.vocab_size, config.hidden_size];
        let embed_tokens = model.at("embed_tokens").matrix("weight", table)?;
        let lm_head = if config.tie_word_embeddings {
            embed_tokens.clone()
        } else {
            lm_head.matrix("weight", table)?
        };
        let layers = (0..config.num_hidden_layers)
            .map(|layer| Layer::load(&model.at("layers").at(layer), &config))
            .collect::<Result<_>>()?;
        let norm = RmsNorm::load(&model.at("norm"), config.hidden_size, config.rms_norm_eps)?;
        let rope = Rope::new(config.heads.head_dim, config.rope_theta, config.rope_scaling)?;
        let rope = match config.mrope_section {
            Some(sections) => rope.with_sections(sections)?,
            None => rope,
        };
        Ok(Self { embed_tokens, layers, norm, lm_head, rope, config })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// An empty cache for one sequence of at most `max_seq_len` tokens.
    pub fn kv_cache(&self, b: &B, max_seq_len: usize) -> Result<KvCache<B>> {
        let limit = max_seq_len.min(self.config.max_position_embeddings);
        KvCache::new(b, self.layers.len(), self.config.heads.kv_size(), limit)
    }

    /// Token embeddings: (ids, hidden_size).
    pub fn embed(&self, b: &B, ids: &[TokenId]) -> Result<B::Tensor> {
        b.embed(&self.embed_tokens, ids).at(|| "model.embed_tokens")
    }

    /// Token embeddings with soft tokens written over them: (ids, hidden_size). Row `i` of `soft`
    /// (rows, hidden_size) takes the place of the token at `rows[i]`, whose own id means nothing.
    /// `ids` may be several packed prompts; `rows` then count through all of them.
    pub fn embed_soft(
        &self,
        b: &B,
        ids: &[TokenId],
        rows: &[u32],
        soft: &B::Tensor,
    ) -> Result<B::Tensor> {
        let mut hidden = self.embed(b, ids)?;
        b.scatter_rows(&mut hidden, rows, soft).at(|| "soft tokens")?;
        Ok(hidden)
    }

    /// `hidden` (rows, hidden_size), embeddings -> hidden states after the final norm.
    /// `trace` receives what Hugging Face calls `hidden_states`: the embeddings, each layer's
    /// output, the last one normalised.
    pub fn forward(
        &self,
        b: &B,
        hidden: B::Tensor,
        rows: Rows<'_>,
        kv: KvUse<'_, B>,
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        positions_fit(b.shape(&hidden)[0], rows.positions.len())?;
        let angles = self.rope.angles(b, rows.positions)?;
        self.run(b, hidden, &Pass { segments: rows.segments, angles }, kv, trace)
    }

    /// [`Llama::forward`] of rows that stand in time, height and width. A model without
    /// `mrope_section` sees their time only.
    pub fn forward_axes(
        &self,
        b: &B,
        hidden: B::Tensor,
        rows: AxesRows<'_>,
        kv: KvUse<'_, B>,
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        positions_fit(b.shape(&hidden)[0], rows.positions.len())?;
        let angles = self.rope.angles_of_axes(b, rows.positions)?;
        self.run(b, hidden, &Pass { segments: rows.segments, angles }, kv, trace)
    }

    fn run(
        &self,
        b: &B,
        hidden: B::Tensor,
        pass: &Pass<'_, B>,
        mut kv: KvUse<'_, B>,
        mut trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        let count = b.shape(&hidden)[0];
        if let KvUse::Append(cache) = &mut kv {
            if pass.segments.len() != 1 {
                let found = format!("{} segments", pass.segments.len());
                return Err(Error::argument("llama", "segments", "one, to append to", found));
            }
            cache.reserve(b, count)?;
        }
        let mut hidden = hidden;
        for (index, layer) in self.layers.iter().enumerate() {
            if let Some(trace) = &mut trace {
                trace.push(hidden.clone());
            }
            hidden = layer
                .forward(b, &hidden, pass, index, &mut kv)
                .at(|| format!("model.layers.{index}"))?;
        }
        if let KvUse::Append(cache) = kv {
            cache.advance(count);
        }
        let hidden = self.norm.forward(b, &hidden).at(|| "model.norm")?;
        if let Some(trace) = trace {
            trace.push(hidden.clone());
        }
        Ok(hidden)
    }

    /// Logits of every token: (rows, hidden_size) -> (rows, vocab_size).
    pub fn logits(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        b.linear(hidden, &self.lm_head, None).at(|| "lm_head")
    }

    /// Logits of the asked tokens only: (rows, hidden_size) -> (rows, asked).
    pub fn asked_logits(&self, b: &B, hidden: &B::Tensor, asked: &[TokenId]) -> Result<B::Tensor> {
        b.linear_rows(hidden, &self.lm_head, asked).at(|| "lm_head")
    }
}

/// `Err` unless every row has its position.
fn positions_fit(rows: usize, found: usize) -> Result<()> {
    if rows == found {
        return Ok(());
    }
    Err(Error::shape("llama", "positions", &[rows], &[found]))
}
