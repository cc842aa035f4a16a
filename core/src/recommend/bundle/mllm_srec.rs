//! MLLM-SRec from a bundle: the language model as Hugging Face keeps it, and beside it the retriever, the
//! catalogue with its captions and summaries, the wording of the prompts, and what was written of users'
//! windows before.

use super::{Bundle, MLLM_SREC};
use crate::backend::Backend;
use crate::error::Result;
use crate::prompt::ChainTemplate;
use crate::recommend::{MllmSrecConfig, MllmSrecParts, MllmSrecRecommender, SequenceRecommender};

impl Bundle {
    /// The bundle's MLLM-SRec on `backend`, with its retriever.
    ///
    /// # Errors
    /// Another kind of recommender; a component that is missing, or that does not fit the others.
    pub fn mllm_srec_recommender<B: Backend>(
        &self,
        backend: &B,
    ) -> Result<MllmSrecRecommender<B, SequenceRecommender<B>>> {
        if self.manifest.recommender != MLLM_SREC {
            return Err(self.unsupported(MLLM_SREC));
        }
        let (name, json) = self.text("mllm_srec")?;
        let config = MllmSrecConfig::parse(name, &json)?;
        let (name, toml) = self.text("template")?;
        let template = ChainTemplate::parse(name, &toml)?;
        let (model, tokenizer, catalogue) = self.language_model(backend)?;
        let parts = MllmSrecParts { model, tokenizer, template, catalogue };
        let retriever = self.sequence_model("retriever_config", "retriever", backend)?;
        let recommender = MllmSrecRecommender::new(backend.clone(), parts, config)?;
        let recommender = recommender.with_retriever(retriever);
        match self.has("summaries") {
            true => {
                let (name, text) = self.text("summaries")?;
                recommender.with_summaries(name, &text)
            }
            false => Ok(recommender),
        }
    }
}
