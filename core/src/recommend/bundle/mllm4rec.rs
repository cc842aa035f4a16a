//! MLLM4Rec from a bundle: the language model as Hugging Face keeps it, and beside it the retriever, the
//! catalogue with its captions and the wording of the prompts.

use std::sync::Arc;

use super::{BUNDLE_FILE, Bundle, MLLM4REC};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::llama::{Llama, LlamaConfig};
use crate::prompt::LetterTemplate;
use crate::recommend::{
    Catalogue, Mllm4RecConfig, Mllm4RecParts, Mllm4RecRecommender, SequenceRecommender,
};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

impl Bundle {
    /// The bundle's MLLM4Rec on `backend`, with its retriever.
    ///
    /// # Errors
    /// Another kind of recommender; a component that is missing, or that does not fit the others.
    pub fn mllm4rec_recommender<B: Backend>(
        &self,
        backend: &B,
    ) -> Result<Mllm4RecRecommender<B, SequenceRecommender<B>>> {
        if self.manifest.recommender != MLLM4REC {
            return Err(self.unsupported(MLLM4REC));
        }
        let (name, json) = self.text("mllm4rec")?;
        let config = Mllm4RecConfig::parse(name, &json)?;
        let (name, toml) = self.text("template")?;
        let template = LetterTemplate::parse(name, &toml)?;
        let (model, tokenizer, catalogue) = self.language_model(backend)?;
        let parts = Mllm4RecParts { model, tokenizer, template, catalogue };
        let retriever = self.sequence_model("retriever_config", "retriever", backend)?;
        let recommender = Mllm4RecRecommender::new(backend.clone(), parts, config)?;
        Ok(recommender.with_retriever(retriever))
    }

    /// The language model, its tokenizer and the items that its prompts name.
    pub(super) fn language_model<B: Backend>(
        &self,
        backend: &B,
    ) -> Result<(Llama<B>, Arc<Tokenizer>, Catalogue)> {
        let (name, json) = self.text("config")?;
        let llama = LlamaConfig::parse(name, &json)?;
        let model = Llama::load(&Weights::new(backend, &self.checkpoint("model")?), llama)?;
        let (name, bytes) = self.single("tokenizer")?;
        let tokenizer = Arc::new(Tokenizer::from_bytes(name, &bytes)?);
        let catalogue = self.catalogue()?.ok_or_else(|| {
            Error::file(BUNDLE_FILE, "component catalogue", "the items of the model", "none")
        })?;
        Ok((model, tokenizer, catalogue))
    }
}
