//! What a `config.json` says of a Llama or a Qwen2.

use super::TokenId;
use crate::backend::{Activation, HeadShape};
use crate::error::Result;
use crate::nn::RopeScaling;
use crate::weights::ConfigReader;

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
    /// Pairs of a head that turn by time, height and width, in a model whose rows stand in all three.
    pub mrope_section: Option<[usize; 3]>,
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
        Self::read(&config, qwen2)
    }

    /// Reads the fields of an object, whatever its `model_type` is: the part of a larger model's
    /// configuration that is a language model. `qwen2` is Qwen2's form: biases on q, k and v.
    pub fn read(config: &ConfigReader, qwen2: bool) -> Result<Self> {
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
            return Err(config.wrong("head_dim", format!("an even number, not {head_dim}")));
        }
        let vocab_size = config.usize("vocab_size", 1..=4_194_304)?;
        let max_position_embeddings =
            config.usize_or("max_position_embeddings", 2048, 1..=16_777_216)?;
        let RopeFields { rope_theta, rope_scaling, mrope_section } =
            rope(config, max_position_embeddings)?;
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
            mrope_section,
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

/// What a configuration says of rotary positions.
struct RopeFields {
    rope_theta: f32,
    rope_scaling: RopeScaling,
    mrope_section: Option<[usize; 3]>,
}

/// `rope_theta` and `rope_scaling` of older files, or the `rope_parameters` of newer ones.
fn rope(config: &ConfigReader, max_positions: usize) -> Result<RopeFields> {
    const THETA: std::ops::RangeInclusive<f32> = 1.0..=1e12;
    const FACTOR: std::ops::RangeInclusive<f32> = 1e-3..=1e6;
    let theta = config.f32_or("rope_theta", 10_000.0, THETA)?;
    let scaling = match config.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => config.object("rope_parameters")?,
    };
    let fields = |rope_theta, rope_scaling, mrope_section| {
        Ok(RopeFields { rope_theta, rope_scaling, mrope_section })
    };
    let Some(scaling) = scaling else { return fields(theta, RopeScaling::None, None) };
    let theta = scaling.f32_or("rope_theta", theta, THETA)?;
    if scaling.f32_or("partial_rotary_factor", 1.0, 0.0..=1.0)? != 1.0 {
        return Err(scaling.unsupported("partial_rotary_factor", "1"));
    }
    let kind = if scaling.has("rope_type") {
        scaling.str("rope_type")?
    } else {
        scaling.str_or("type", "default")?
    };
    let mrope_section = match scaling.usizes("mrope_section", 0..=512)?.as_slice() {
        [] => None,
        &[time, height, width] => Some([time, height, width]),
        _ => return Err(scaling.wrong("mrope_section", "three whole numbers")),
    };
    let rule = match kind {
        "default" => RopeScaling::None,
        // What older files call the default angles in sections.
        "mrope" if mrope_section.is_some() => RopeScaling::None,
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
    fields(theta, rule, mrope_section)
}
