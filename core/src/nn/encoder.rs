//! The transformer layer of encoders of pictures and text: CLIP, ViT, BERT. They differ in where the
//! norm stands and in what a checkpoint calls the parts.

use std::ops::RangeInclusive;

use super::{LayerNorm, Linear};
use crate::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};
use crate::error::{Context, Result};
use crate::weights::{ConfigReader, Weights};

/// The sizes of an encoder's layers. Field names are those of `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Nonlinearity of the MLP.
    pub hidden_act: Activation,
    /// Stabiliser of the norms.
    pub layer_norm_eps: f32,
    /// Biases on queries, keys and values.
    pub qkv_bias: bool,
}

impl EncoderConfig {
    /// Reads the fields of `config`, those of `default` where it is silent.
    pub fn parse(config: &ConfigReader, default: Self) -> Result<Self> {
        const WIDTH: RangeInclusive<usize> = 1..=65_536;
        let hidden_act = match config.has("hidden_act") {
            false => default.hidden_act,
            true => Activation::parse(config.str("hidden_act")?).ok_or_else(|| {
                config.unsupported("hidden_act", "gelu, quick_gelu, gelu_new, relu")
            })?,
        };
        let or = |name, default, range| config.usize_or(name, default, range);
        let hidden_size = or("hidden_size", default.hidden_size, WIDTH)?;
        let num_attention_heads = or("num_attention_heads", default.num_attention_heads, 1..=1024)?;
        if !hidden_size.is_multiple_of(num_attention_heads) {
            let expected = format!("a divisor of hidden_size {hidden_size}");
            return Err(config.wrong("num_attention_heads", expected));
        }
        Ok(Self {
            hidden_size,
            intermediate_size: or("intermediate_size", default.intermediate_size, WIDTH)?,
            num_hidden_layers: or("num_hidden_layers", default.num_hidden_layers, 1..=1024)?,
            num_attention_heads,
            hidden_act,
            layer_norm_eps: config.f32_or("layer_norm_eps", default.layer_norm_eps, 0.0..=1.0)?,
            qkv_bias: config.bool_or("qkv_bias", default.qkv_bias)?,
        })
    }

    /// The heads: as many for keys as for queries.
    pub fn heads(&self) -> HeadShape {
        HeadShape {
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_attention_heads,
            head_dim: self.hidden_size / self.num_attention_heads,
        }
    }
}

/// Where a layer normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormOrder {
    /// Before attention and before the MLP (CLIP, ViT).
    Pre,
    /// After each residual sum (BERT).
    Post,
}

/// How a checkpoint holds queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub enum QkvNames {
    /// Three tensors, each (hidden_size, hidden_size).
    Each([&'static str; 3]),
    /// One of the three stacked, (3 * hidden_size, hidden_size).
    Stacked(&'static str),
}

/// What a checkpoint calls the parts of a layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerNames {
    /// Queries, keys and values.
    pub qkv: QkvNames,
    /// The attention's output (hidden_size, hidden_size).
    pub out: &'static str,
    /// The norm of the attention (hidden_size).
    pub attention_norm: &'static str,
    /// Into the MLP (intermediate_size, hidden_size).
    pub fc1: &'static str,
    /// Out of the MLP (hidden_size, intermediate_size).
    pub fc2: &'static str,
    /// The norm of the MLP (hidden_size).
    pub mlp_norm: &'static str,
    /// Where the norms stand.
    pub order: NormOrder,
}

/// What every layer of one pass shares.
#[derive(Debug)]
pub struct EncoderPass<'a, B: Backend> {
    /// Which rows form one sequence.
    pub segments: &'a Segments,
    /// What a row sees of its own segment.
    pub mask: Mask,
    /// (rows, head_dim) where queries and keys are rotated: [`Rope::angles`](super::Rope::angles).
    pub angles: Option<B::Tensor>,
}

/// Attention and an MLP, each with a norm and a residual sum.
#[derive(Clone, Debug)]
pub struct EncoderLayer<B: Backend> {
    qkv: [Linear<B>; 3], // each (hidden_size, hidden_size)
    out: Linear<B>,      // (hidden_size, hidden_size)
    attention_norm: LayerNorm<B>,
    fc1: Linear<B>, // (intermediate_size, hidden_size)
    fc2: Linear<B>, // (hidden_size, intermediate_size)
    mlp_norm: LayerNorm<B>,
    order: NormOrder,
    config: EncoderConfig,
}

impl<B: Backend> EncoderLayer<B> {
    /// The layer at `w`, by the names of its dialect.
    pub fn load(w: &Weights<'_, B>, config: EncoderConfig, names: &LayerNames) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let bias = config.qkv_bias;
        let norm = |name| LayerNorm::load(&w.at(name), hidden, config.layer_norm_eps);
        let qkv = match names.qkv {
            QkvNames::Each(names) => {
                let [q, k, v] = names.map(|name| Linear::load(&w.at(name), [hidden; 2], bias));
                [q?, k?, v?]
            }
            QkvNames::Stacked(name) => {
                let [q, k, v] = [0, 1, 2].map(|part| {
                    let rows = part * hidden..(part + 1) * hidden;
                    Linear::load_rows(&w.at(name), [3 * hidden, hidden], bias, rows)
                });
                [q?, k?, v?]
            }
        };
        Ok(Self {
            qkv,
            out: Linear::load(&w.at(names.out), [hidden; 2], true)?,
            attention_norm: norm(names.attention_norm)?,
            fc1: Linear::load(&w.at(names.fc1), [inner, hidden], true)?,
            fc2: Linear::load(&w.at(names.fc2), [hidden, inner], true)?,
            mlp_norm: norm(names.mlp_norm)?,
            order: names.order,
            config,
        })
    }

    /// `hidden` (rows, hidden_size) -> same; a row attends to its own segment under the pass's mask.
    pub fn forward(
        &self,
        b: &B,
        hidden: &B::Tensor,
        pass: &EncoderPass<'_, B>,
    ) -> Result<B::Tensor> {
        match self.order {
            NormOrder::Pre => {
                let normed = self.attention_norm.forward(b, hidden)?;
                let hidden = b.add(hidden, &self.attention(b, &normed, pass)?)?;
                let normed = self.mlp_norm.forward(b, &hidden)?;
                b.add(&hidden, &self.mlp(b, &normed)?)
            }
            NormOrder::Post => {
                let attended = self.attention(b, hidden, pass)?;
                let hidden = self.attention_norm.forward(b, &b.add(hidden, &attended)?)?;
                self.mlp_norm.forward(b, &b.add(&hidden, &self.mlp(b, &hidden)?)?)
            }
        }
    }

    fn attention(&self, b: &B, x: &B::Tensor, pass: &EncoderPass<'_, B>) -> Result<B::Tensor> {
        let [q, k, v] = self.qkv.each_ref().map(|linear| linear.forward(b, x));
        let (mut q, mut k, heads) = (q?, k?, self.config.heads());
        if let Some(angles) = &pass.angles {
            q = b.rope(&q, angles, heads.head_dim)?;
            k = b.rope(&k, angles, heads.head_dim)?;
        }
        let attend = Attend::new(pass.segments, pass.mask);
        let context = b.attention(&q, &k, &v?, &attend, heads)?;
        self.out.forward(b, &context)
    }

    fn mlp(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let inner = b.activate(&self.fc1.forward(b, x)?, self.config.hidden_act)?;
        self.fc2.forward(b, &inner)
    }
}

/// All layers of an encoder.
#[derive(Clone, Debug)]
pub struct Encoder<B: Backend> {
    layers: Vec<EncoderLayer<B>>,
}

impl<B: Backend> Encoder<B> {
    /// The layers `0`, `1`, ... of `w`.
    pub fn load(w: &Weights<'_, B>, config: EncoderConfig, names: &LayerNames) -> Result<Self> {
        let layers = (0..config.num_hidden_layers)
            .map(|layer| EncoderLayer::load(&w.at(layer), config, names))
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// `hidden` (rows, hidden_size) -> same. `trace` receives what Hugging Face calls
    /// `hidden_states`: the input and each layer's output.
    pub fn forward(
        &self,
        b: &B,
        hidden: B::Tensor,
        segments: &Segments,
        mask: Mask,
        trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        self.forward_pass(b, hidden, &EncoderPass { segments, mask, angles: None }, trace)
    }

    /// [`Encoder::forward`] with all that a pass may have.
    pub fn forward_pass(
        &self,
        b: &B,
        hidden: B::Tensor,
        pass: &EncoderPass<'_, B>,
        mut trace: Option<&mut Vec<B::Tensor>>,
    ) -> Result<B::Tensor> {
        let mut hidden = hidden;
        for (index, layer) in self.layers.iter().enumerate() {
            if let Some(trace) = &mut trace {
                trace.push(hidden.clone());
            }
            hidden = layer.forward(b, &hidden, pass).at(|| format!("layer {index}"))?;
        }
        if let Some(trace) = trace {
            trace.push(hidden.clone());
        }
        Ok(hidden)
    }
}
