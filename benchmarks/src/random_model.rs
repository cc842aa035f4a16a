//! Random Llama checkpoints of a given shape, initialised as Hugging Face does (normal, 0.02).

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::json;
use tributary::files::{self, FolderSink};
use tributary_core::dtype::Format;
use tributary_core::random::Random;
use tributary_core::weights::{TensorSpec, Writer, format_of, quantize_checkpoint};

use crate::Outcome;

/// Numbers of a Llama.
pub struct Shape {
    /// Name of its folder.
    pub name: &'static str,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Query heads and key heads.
    pub heads: [usize; 2],
    /// Width of a head.
    pub head_dim: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// The head is the embedding table.
    pub tied: bool,
}

/// The shape of SmolLM2-135M.
pub const SMOLLM2_135M: Shape = Shape {
    name: "smollm2-135m",
    hidden_size: 576,
    num_hidden_layers: 30,
    heads: [9, 3],
    head_dim: 64,
    intermediate_size: 1536,
    vocab_size: 49_152,
    tied: true,
};

/// About 20 million parameters.
pub const RANDOM_20M: Shape = Shape {
    name: "random-20m",
    hidden_size: 320,
    num_hidden_layers: 11,
    heads: [5, 5],
    head_dim: 64,
    intermediate_size: 960,
    vocab_size: 16_384,
    tied: true,
};

impl Shape {
    /// The folder of this model in `format`, made if it is not there.
    pub fn folder(&self, format: Format) -> Outcome<PathBuf> {
        let root = crate::folder().join(self.name);
        let path = root.join(format.name());
        if path.join("config.json").is_file() {
            return Ok(path);
        }
        if format == Format::F32 {
            self.write(&path)?;
        } else {
            quantise(&self.folder(Format::F32)?, &path, format)?;
        }
        // Written last: a folder with a configuration is complete.
        std::fs::write(path.join("config.json"), self.config().to_string())?;
        Ok(path)
    }

    fn config(&self) -> serde_json::Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.heads[0],
            "num_key_value_heads": self.heads[1],
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tied,
            "rope_theta": 100_000.0,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 8192,
        })
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (h, q, kv) =
            (self.hidden_size, self.heads[0] * self.head_dim, self.heads[1] * self.head_dim);
        let mut tensors = vec![
            ("model.embed_tokens".to_string(), vec![self.vocab_size, h]),
            ("model.norm".to_string(), vec![h]),
        ];
        if !self.tied {
            tensors.push(("lm_head".to_string(), vec![self.vocab_size, h]));
        }
        for layer in 0..self.num_hidden_layers {
            for (name, shape) in [
                ("input_layernorm", vec![h]),
                ("post_attention_layernorm", vec![h]),
                ("self_attn.q_proj", vec![q, h]),
                ("self_attn.k_proj", vec![kv, h]),
                ("self_attn.v_proj", vec![kv, h]),
                ("self_attn.o_proj", vec![h, q]),
                ("mlp.gate_proj", vec![self.intermediate_size, h]),
                ("mlp.up_proj", vec![self.intermediate_size, h]),
                ("mlp.down_proj", vec![h, self.intermediate_size]),
            ] {
                tensors.push((format!("model.layers.{layer}.{name}"), shape));
            }
        }
        tensors.into_iter().map(|(name, shape)| (format!("{name}.weight"), shape)).collect()
    }

    fn write(&self, path: &Path) -> Outcome<()> {
        let mut sink = FolderSink::create(path)?;
        let tensors = self.tensors();
        let spec = |(name, shape): &(String, Vec<usize>)| TensorSpec {
            name: name.clone(),
            dtype: Dtype::F32,
            shape: shape.clone(),
        };
        let specs = tensors.iter().map(spec).collect();
        let mut writer = Writer::new(specs, &Default::default(), None, &mut sink)?;
        for (name, shape) in &tensors {
            let mut random = Random::named(1, name);
            let count = shape.iter().product();
            let values: Vec<f32> = match shape.len() {
                1 => vec![1.0; count],
                _ => (0..count).map(|_| (0.02 * random.normal()) as f32).collect(),
            };
            writer.write(name, bytemuck::cast_slice(&values))?;
        }
        writer.finish()?;
        Ok(sink.finish()?)
    }
}

/// Writes the model of `from` in another format, its `config.json` left to the caller.
pub fn quantise(from: &Path, to: &Path, format: Format) -> Outcome<()> {
    let checkpoint = files::open_checkpoint(from)?;
    let mut sink = FolderSink::create(to)?;
    let rule = |name: &str, shape: &[usize]| format_of(name, shape, format);
    quantize_checkpoint(&checkpoint, &rule, None, &mut sink, &mut |_, _, _| ())?;
    Ok(sink.finish()?)
}
