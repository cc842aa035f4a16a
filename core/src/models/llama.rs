//! Llama 2 and 3, and Qwen2, which is Llama with biases on q, k and v.
//!
//! Llama 2, arXiv 2307.09288; Llama 3, arXiv 2407.21783; Qwen2, arXiv 2407.10671. Names are those
//! of the Hugging Face checkpoints. Unusual here: rows of many sequences are packed without
//! padding, prefill and decode are one path, and logits are computed for asked rows and tokens
//! only.

use crate::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};
use crate::error::{Context, Error, Result};
use crate::nn::{KvCache, KvUse, Linear, RmsNorm, Rope, RopeScaling};
use crate::weights::{ConfigReader, Weights};

/// A text token.
pub type TokenId = u32;

/// What `config.json` says. Field names are the file's.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Query heads, key heads and their width.
    pub heads: HeadShape,
    /// Nonlinearity of the MLP's gate.
    pub hidden_act: Activation,
    /// Stabiliser of the norms.
    pub rms_norm_eps: f32,
    /// Base of the rotary angles.
    pub rope_theta: f32,
    /// How the angles are stretched.
    pub rope_scaling: RopeScaling,
    /// Longest supported context, tokens.
    pub max_position_embeddings: usize,
    /// The head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// A bias on the attention's output.
    pub o_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Starts a text, if the model wants one.
    pub bos_token_id: Option<TokenId>,
    /// Any of these ends an answer. Ids outside the vocabulary are dropped.
    pub eos_token_ids: Vec<TokenId>,
}

impl LlamaConfig {
    /// Reads a `config.json` of `model_type` llama or qwen2.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config = ConfigReader::new(file, text)?;
        let qwen2 = match config.str("model_type")? {
            "llama" => false,
            "qwen2" => true,
            _ => return Err(config.unsupported("model_type", "llama, qwen2")),
        };
        if qwen2 && config.bool_or("use_sliding_window", false)? {
            return Err(config.unsupported("use_sliding_window", "false"));
        }
        if config.has("quantization_config") {
            let supported = "float weights, or q8 and q4 by `tributary quantize`";
            return Err(config.unsupported("quantization_config", supported));
        }
        let act = config.str_or("hidden_act", "silu")?;
        let hidden_act = Activation::parse(act).ok_or_else(|| {
            config
                .unsupported("hidden_act", "silu, gelu, gelu_new, quick_gelu, relu, sigmoid, tanh")
        })?;

        let hidden_size = config.usize("hidden_size", 1..=65_536)?;
        let num_attention_heads = config.usize("num_attention_heads", 1..=1024)?;
        let num_key_value_heads =
            config.usize_or("num_key_value_heads", num_attention_heads, 1..=1024)?;
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            let expected = format!("a divisor of num_attention_heads {num_attention_heads}");
            return Err(config.wrong("num_key_value_heads", expected));
        }
        if !config.has("head_dim") && !hidden_size.is_multiple_of(num_attention_heads) {
            let expected = format!("a divisor of hidden_size {hidden_size}, or a head_dim");
            return Err(config.wrong("num_attention_heads", expected));
        }
        let head_dim = config.usize_or("head_dim", hidden_size / num_attention_heads, 1..=1024)?;
        if !head_dim.is_multiple_of(2) {
            return Err(Error::file(file, "head_dim", "an even number", head_dim));
        }
        let vocab_size = config.usize("vocab_size", 1..=4_194_304)?;
        let max_position_embeddings =
            config.usize_or("max_position_embeddings", 2048, 1..=16_777_216)?;
        let (rope_theta, rope_scaling) = rope(&config, max_position_embeddings)?;
        let bias = config.bool_or("attention_bias", false)?;
        let ids = |name| -> Result<Vec<TokenId>> {
            let ids = config.usizes(name, 0..=u32::MAX as usize)?;
            Ok(ids.into_iter().filter(|&id| id < vocab_size).map(|id| id as TokenId).collect())
        };
        Ok(Self {
            vocab_size,
            hidden_size,
            intermediate_size: config.usize("intermediate_size", 1..=1_048_576)?,
            num_hidden_layers: config.usize("num_hidden_layers", 1..=1024)?,
            heads: HeadShape { num_attention_heads, num_key_value_heads, head_dim },
            hidden_act,
            rms_norm_eps: config.f32_or("rms_norm_eps", 1e-6, 0.0..=1.0)?,
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            tie_word_embeddings: config.bool_or("tie_word_embeddings", false)?,
            qkv_bias: qwen2 || bias,
            o_bias: !qwen2 && bias,
            mlp_bias: config.bool_or("mlp_bias", false)?,
            bos_token_id: ids("bos_token_id")?.first().copied(),
            eos_token_ids: ids("eos_token_id")?,
        })
    }
}

/// `rope_theta` and `rope_scaling` of older files, or the `rope_parameters` of newer ones.
fn rope(config: &ConfigReader, max_positions: usize) -> Result<(f32, RopeScaling)> {
    const THETA: std::ops::RangeInclusive<f32> = 1.0..=1e12;
    const FACTOR: std::ops::RangeInclusive<f32> = 1e-3..=1e6;
    let theta = config.f32_or("rope_theta", 10_000.0, THETA)?;
    let scaling = match config.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => config.object("rope_parameters")?,
    };
    let Some(scaling) = scaling else { return Ok((theta, RopeScaling::None)) };
    let theta = scaling.f32_or("rope_theta", theta, THETA)?;
    if scaling.f32_or("partial_rotary_factor", 1.0, 0.0..=1.0)? != 1.0 {
        return Err(scaling.unsupported("partial_rotary_factor", "1"));
    }
    let kind = if scaling.has("rope_type") {
        scaling.str("rope_type")?
    } else {
        scaling.str_or("type", "default")?
    };
    let rule = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: scaling.f32("factor", FACTOR)? },
        "llama3" => {
            let low_freq_factor = scaling.f32("low_freq_factor", FACTOR)?;
            let high_freq_factor = scaling.f32("high_freq_factor", FACTOR)?;
            if low_freq_factor >= high_freq_factor {
                let expected = format!("above low_freq_factor {low_freq_factor}");
                return Err(scaling.wrong("high_freq_factor", expected));
            }
            RopeScaling::Llama3 {
                factor: scaling.f32("factor", FACTOR)?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: scaling.usize_or(
                    "original_max_position_embeddings",
                    max_positions,
                    1..=16_777_216,
                )?,
            }
        }
        _ => return Err(scaling.unsupported("rope_type", "default, linear, llama3")),
    };
    Ok((theta, rule))
}

/// Where the rows of a pass stand.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Which rows form one sequence.
    pub segments: &'a Segments,
    /// The absolute position of every row.
    pub positions: &'a [u32],
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
        let q = self.q_proj.forward(b, hidden)?;
        let k = self.k_proj.forward(b, hidden)?;
        let v = self.v_proj.forward(b, hidden)?;

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
        let gate = self.gate_proj.forward(b, hidden)?;
        let up = self.up_proj.forward(b, hidden)?;
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
        let model = w.at("model");
        let table = [config.vocab_size, config.hidden_size];
        let embed_tokens = model.at("embed_tokens").matrix("weight", table)?;
        let lm_head = if config.tie_word_embeddings {
            embed_tokens.clone()
        } else {
            w.at("lm_head").matrix("weight", table)?
        };
        let layers = (0..config.num_hidden_layers)
            .map(|layer| Layer::load(&model.at("layers").at(layer), &config))
            .collect::<Result<_>>()?;
        let norm = RmsNorm::load(&model.at("norm"), config.hidden_size, config.rms_norm_eps)?;
        let rope = Rope::new(config.heads.head_dim, config.rope_theta, config.rope_scaling)?;
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
        mut kv: KvUse<'_, B>,
        mut trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        let count = b.shape(&hidden)[0];
        if let KvUse::Append(cache) = &mut kv {
            if rows.segments.len() != 1 {
                let found = format!("{} segments", rows.segments.len());
                return Err(Error::argument("llama", "segments", "one, to append to", found));
            }
            cache.reserve(b, count)?;
        }
        if rows.positions.len() != count {
            return Err(Error::shape("llama", "positions", &[count], &[rows.positions.len()]));
        }
        let angles = self.rope.angles(b, rows.positions)?;
        let pass = Pass { segments: rows.segments, angles };
        let mut hidden = hidden;
        for (index, layer) in self.layers.iter().enumerate() {
            if let Some(trace) = &mut trace {
                trace.push(hidden.clone());
            }
            hidden = layer
                .forward(b, &hidden, &pass, index, &mut kv)
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
