//! The language model that is trained: one that was opened, with or without a LoRA, or a new one:
//! Qwen2's form, whose biases let a head look at a place rather than at a content.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tributary_core::models::llama::{Llama, LlamaConfig, TokenId};
use tributary_core::prompt::PromptOptions;
use tributary_core::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer, Vocabulary};
use tributary_core::weights::{Adapter, Checkpoint, Initial, NamedTensor, Weights, merge};
use tributary_core::{Error, Result};

use super::WEIGHTS;
use super::checkpoint::write;
use crate::burn_backend::{Burn, BurnOptions, FrozenWeights};
use crate::files::write_atomically;
use crate::files::{self, FolderSink, ModelFolder};

/// Large enough that half of a head's pairs hardly turn within a prompt.
const ROPE_THETA: f64 = 1e5;
/// Stands under soft tokens; the first id, as [`tributary_core::prompt::SOFT_TOKEN_ID`] has it.
const SOFT_TOKEN: &str = "<soft>";
const END_TOKEN: &str = "</s>";
/// Copies of each title among the texts a vocabulary is learned from: prompts are mostly titles.
pub(super) const TITLES: usize = 16;
/// Folder of the adapter under PEFT's names.
const ADAPTER: &str = "adapter";

/// `[language]`: a new Llama and its vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageOptions {
    /// Most tokens of the vocabulary that is learned from the catalogue's text.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Depth.
    pub num_hidden_layers: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key heads.
    pub num_key_value_heads: usize,
    /// Longest context, tokens.
    pub max_position_embeddings: usize,
}

impl Default for LanguageOptions {
    fn default() -> Self {
        Self {
            vocab_size: 1024,
            hidden_size: 128,
            intermediate_size: 384,
            num_hidden_layers: 4,
            head_dim: 32,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            max_position_embeddings: 2048,
        }
    }
}

/// `[adapter]`: PEFT's names, and how what lies under it is held (QLoRA, arXiv 2305.14314).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterOptions {
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Dropout on what enters A.
    pub lora_dropout: f64,
    /// Ends of the names of the linears that get one.
    pub target_modules: Vec<String>,
    /// `nf4`: the frozen linears take four bits a weight while training; f32 where the file is
    /// silent. What a run writes is folded into the weights as they were opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// Of `nf4`, the scales take eight bits instead of 32.
    pub double_quantization: bool,
}

/// `adapter.quantization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// [`tributary_core::weights::Nf4`].
    Nf4,
}

impl Default for AdapterOptions {
    fn default() -> Self {
        let all = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        Self {
            r: 8,
            lora_alpha: 32.0,
            lora_dropout: 0.0,
            target_modules: all.map(str::to_owned).into(),
            quantization: None,
            double_quantization: true,
        }
    }
}

impl AdapterOptions {
    /// `Err` for an adapter without a model under it, and for values that make no sense.
    pub(super) fn check(adapter: Option<&Self>, language: Option<&Path>) -> Result<()> {
        let Some(adapter) = adapter else { return Ok(()) };
        let wrong = |field, expected, found: String| {
            Err(Error::file("configuration", field, expected, found))
        };
        if language.is_none() {
            let expected = "a folder, since an [adapter] needs a trained model under it";
            return wrong("model.language", expected, "nothing".into());
        }
        if !(0.0..1.0).contains(&adapter.lora_dropout) {
            return wrong("adapter.lora_dropout", "0 to below 1", adapter.lora_dropout.to_string());
        }
        if adapter.quantization.is_none() && !adapter.double_quantization {
            let expected = "nf4, since its scales are what double_quantization is about";
            return wrong("adapter.quantization", expected, "nothing".into());
        }
        Ok(())
    }

    /// `options` of a backend that trains over this adapter's base.
    pub(super) fn train_with(adapter: Option<&Self>, options: BurnOptions) -> BurnOptions {
        let Some(adapter) = adapter else { return options };
        let frozen = match adapter.quantization {
            None => FrozenWeights::F32,
            Some(Quantization::Nf4) => {
                FrozenWeights::Nf4 { double_quantization: adapter.double_quantization }
            }
        };
        BurnOptions { frozen, lora_dropout: adapter.lora_dropout as f32, ..options }
    }

    /// `adapter_config.json`.
    fn to_json(&self) -> String {
        let Self { r, lora_alpha, lora_dropout, target_modules, .. } = self;
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": r,
            "lora_alpha": lora_alpha,
            "lora_dropout": lora_dropout,
            "bias": "none",
            "target_modules": target_modules,
        });
        format!("{config:#}\n")
    }
}

/// A language model before it is loaded.
pub(super) struct Language {
    pub(super) config_json: String,
    pub(super) tokenizer_json: String,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// `None` for a new one.
    pub(super) folder: Option<ModelFolder>,
    /// `adapter_config.json` and the adapter.
    pub(super) adapter: Option<(String, Adapter)>,
}

impl Language {
    /// The model at `path`, or a new one whose vocabulary is learned from `texts`.
    pub(super) fn open(
        path: Option<&Path>,
        options: &LanguageOptions,
        adapter: Option<&AdapterOptions>,
        seed: u64,
        texts: impl FnOnce() -> Vec<String>,
    ) -> Result<Self> {
        let Some(path) = path else { return Self::new(options, &texts()) };
        let folder = files::open_model(path)?;
        let missing = || Error::file(path.display(), "tokenizer.json", "a tokenizer", "no file");
        let tokenizer_json =
            folder.text("tokenizer.json", MAX_TOKENIZER_BYTES)?.ok_or_else(missing)?;
        let adapter = match adapter {
            None => None,
            Some(options) => {
                let json = options.to_json();
                let adapter = Adapter::fresh(&json, &folder.checkpoint, seed)?;
                Some((json, adapter))
            }
        };
        let tokenizer = Tokenizer::from_bytes("tokenizer.json", tokenizer_json.as_bytes())?;
        let config_json = folder.config.clone();
        let tokenizer = Arc::new(tokenizer);
        Ok(Self { config_json, tokenizer_json, tokenizer, folder: Some(folder), adapter })
    }

    fn new(options: &LanguageOptions, texts: &[String]) -> Result<Self> {
        let vocabulary = Vocabulary {
            size: options.vocab_size,
            special_tokens: vec![SOFT_TOKEN.into(), END_TOKEN.into()],
            around: (None, None),
            lowercase: false,
            across_words: true,
        };
        let tokenizer_json = vocabulary.learn(texts.iter().map(String::as_str))?;
        let tokenizer = Tokenizer::from_bytes("tokenizer.json", tokenizer_json.as_bytes())?;
        let end = tokenizer.token_id(END_TOKEN);
        let config = json!({
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": tokenizer.vocab_size(),
            "hidden_size": options.hidden_size,
            "intermediate_size": options.intermediate_size,
            "num_hidden_layers": options.num_hidden_layers,
            "num_attention_heads": options.num_attention_heads,
            "num_key_value_heads": options.num_key_value_heads,
            "max_position_embeddings": options.max_position_embeddings,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": ROPE_THETA,
            "head_dim": options.head_dim,
            "tie_word_embeddings": true,
            "bos_token_id": null,
            "eos_token_id": end,
        });
        let config_json = format!("{config:#}\n");
        let tokenizer = Arc::new(tokenizer);
        Ok(Self { config_json, tokenizer_json, tokenizer, folder: None, adapter: None })
    }

    pub(super) fn config(&self) -> Result<LlamaConfig> {
        LlamaConfig::parse("config.json", &self.config_json)
    }

    pub(super) fn load(&self, b: &Burn, seed: u64) -> Result<Llama<Burn>> {
        let config = self.config()?;
        self.tokenizer.check_vocab_size(config.vocab_size)?;
        match (&self.folder, &self.adapter) {
            (None, _) => {
                let weights = Weights::fresh(b, seed).with_initial(Initial::FanIn);
                Llama::load(&weights, config)
            }
            (Some(folder), None) => Llama::load(&Weights::new(b, &folder.checkpoint), config),
            (Some(folder), Some((_, adapter))) => {
                Llama::load(&Weights::new(b, &folder.checkpoint).with_adapter(adapter), config)
            }
        }
    }

    /// How prompts begin and answers end in this model.
    pub(super) fn prompt_options(&self, options: PromptOptions) -> Result<PromptOptions> {
        let (bos_token_id, end_token_id) = self.special_tokens()?;
        Ok(PromptOptions { bos_token_id, end_token_id, ..options })
    }

    /// What begins a prompt, and what ends an answer.
    pub(super) fn special_tokens(&self) -> Result<(Option<TokenId>, TokenId)> {
        let config = self.config()?;
        let end: Option<TokenId> = config.eos_token_ids.first().copied();
        let end = end.ok_or_else(|| {
            Error::file("config.json", "eos_token_id", "a token that ends an answer", "none")
        })?;
        Ok((config.bos_token_id, end))
    }

    /// Whether it is to be trained from the start.
    pub(super) fn is_new(&self) -> bool {
        self.folder.is_none()
    }

    /// The weights under the adapter.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.folder.as_ref().map(|folder| &folder.checkpoint)
    }

    /// The language model of a finished run as one checkpoint in `out`, with its configuration and
    /// tokenizer; with an adapter, folded in, and the adapter by itself. `is_own` says which of the
    /// `trained` tensors are the language model's.
    pub(super) fn write(
        &self,
        out: &Path,
        trained: &Checkpoint,
        is_own: impl Fn(&str) -> bool,
    ) -> Result<()> {
        write_atomically(&out.join("config.json"), self.config_json.as_bytes())?;
        write_atomically(&out.join("tokenizer.json"), self.tokenizer_json.as_bytes())?;
        let (Some((config, _)), Some(base)) = (&self.adapter, self.checkpoint()) else {
            let own = |name: &str| is_own(name).then(|| name.to_owned());
            let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
            return write(&out.join(WEIGHTS), &select(trained, own)?, metadata);
        };
        let folder = out.join(ADAPTER);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(folder.display(), e))?;
        let peft = |name: &str| name.contains(".lora_").then(|| format!("base_model.model.{name}"));
        let tensors = select(trained, peft)?;
        write(&folder.join("adapter_model.safetensors"), &tensors, BTreeMap::new())?;
        write_atomically(&folder.join("adapter_config.json"), config.as_bytes())?;
        let adapter = files::open_adapter(&folder, base)?;
        let mut sink = FolderSink::create(out)?;
        merge(base, &adapter, None, &mut sink, &mut |_, _, _| {})?;
        sink.finish()
    }

    pub(super) fn digest(&self, hash: &mut Sha256) {
        hash.update(&self.config_json);
        hash.update(&self.tokenizer_json);
    }
}

/// The tensors that `name` gives a new name.
pub(super) fn select(
    trained: &Checkpoint,
    rename: impl Fn(&str) -> Option<String>,
) -> Result<Vec<NamedTensor>> {
    let mut tensors = Vec::new();
    for name in trained.names() {
        let (Some(new), Some(info)) = (rename(name), trained.info(name)) else { continue };
        tensors.push(NamedTensor::f32(new, &info.shape, &trained.values(name)?));
    }
    Ok(tensors)
}
