//! A language model's folder, opened on a backend: tokens in, tokens out.

use std::path::Path;
use std::sync::Arc;

use tributary_core::backend::Backend;
use tributary_core::models::llama::{Llama, LlamaConfig, TokenId};
use tributary_core::session::Session;
use tributary_core::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer};
use tributary_core::weights::{Adapter, Weights};
use tributary_core::{Context, Error, Result};

use crate::files::{self, ModelFolder};

/// A loaded language model with the tokenizer of its folder.
#[derive(Debug)]
pub struct LanguageModel<B: Backend> {
    backend: B,
    model: Arc<Llama<B>>,
    tokenizer: Option<Tokenizer>,
    folder: String,
    unused: Vec<String>,
}

impl<B: Backend> LanguageModel<B> {
    /// Opens a Hugging Face style folder, with a PEFT adapter's folder on top if given.
    ///
    /// # Errors
    /// Whatever a file of the folder does not hold as it should, by file and field.
    pub fn open(backend: B, folder: &Path, adapter: Option<&Path>) -> Result<Self> {
        let name = folder.display().to_string();
        let files = files::open_model(folder).at(|| name.clone())?;
        let adapter = match adapter {
            Some(folder) => {
                let place = || folder.display().to_string();
                let adapter = files::open_adapter(folder, &files.checkpoint).at(place)?;
                Some(adapter)
            }
            None => None,
        };
        let this = Self::load(backend, &files, adapter.as_ref()).at(|| name.clone())?;
        Ok(Self { folder: name, ..this })
    }

    fn load(backend: B, files: &ModelFolder, adapter: Option<&Adapter>) -> Result<Self> {
        let config = LlamaConfig::parse("config.json", &files.config)?;
        let weights = Weights::new(&backend, &files.checkpoint);
        let weights = match adapter {
            Some(adapter) => weights.with_adapter(adapter),
            None => weights,
        };
        let tokenizer = match files.text("tokenizer.json", MAX_TOKENIZER_BYTES)? {
            Some(text) => Some(Tokenizer::from_bytes("tokenizer.json", text.as_bytes())?),
            None => None,
        };
        if let Some(tokenizer) = &tokenizer {
            tokenizer.check_vocab_size(config.vocab_size)?;
        }
        let model = Arc::new(Llama::load(&weights, config)?);
        let modules = weights.unused_adapter_modules();
        if let Some(module) = modules.first() {
            return Err(Error::Adapter {
                file: "adapter_model.safetensors".into(),
                field: module.clone(),
                expected: "a module of the model".into(),
                found: "none of this name that takes an update".into(),
            });
        }
        let unused = weights.unused();
        if !unused.is_empty() {
            tracing::warn!(?unused, "tensors of the checkpoint that nobody asked for");
        }
        Ok(Self { backend, model, tokenizer, folder: String::new(), unused })
    }

    /// Tensors of the checkpoint that the model did not ask for.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// The model itself.
    pub fn model(&self) -> &Arc<Llama<B>> {
        &self.model
    }

    /// The backend it was loaded on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The folder's tokenizer; an error that says so where it has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing =
            || Error::file(&self.folder, "tokenizer.json", "a tokenizer for text", "no such file");
        self.tokenizer.as_ref().ok_or_else(missing)
    }

    /// An empty session as long as the model's context.
    pub fn session(&self) -> Result<Session<B>> {
        let limit = self.model.config().max_position_embeddings;
        Session::new(self.backend.clone(), self.model.clone(), limit)
    }

    /// Splits prompt + label into a common beginning and one ending per label. Labels are encoded
    /// together with the prompt: alone, a label's first letter is another token than behind it.
    pub fn label_tokens(
        &self,
        prompt: &str,
        labels: &[String],
    ) -> Result<(Vec<TokenId>, Vec<Vec<TokenId>>)> {
        let tokenizer = self.tokenizer()?;
        let mut prefix = tokenizer.encode(prompt, true)?;
        let mut whole = Vec::with_capacity(labels.len());
        for label in labels {
            if label.is_empty() {
                return Err(Error::argument("score", "labels", "texts", "an empty label"));
            }
            let ids = tokenizer.encode(&format!("{prompt}{label}"), true)?;
            let common = prefix.iter().zip(&ids).take_while(|(a, b)| a == b).count();
            // The label's last token is never part of what all share.
            prefix.truncate(common.min(ids.len().saturating_sub(1)));
            whole.push(ids);
        }
        if prefix.is_empty() {
            let expected = "a text that begins with a token of its own";
            return Err(Error::argument("score", "prompt", expected, format!("{prompt:?}")));
        }
        let endings = whole.iter().map(|ids| ids[prefix.len()..].to_vec()).collect();
        Ok((prefix, endings))
    }
}
