//! ALMOSTRec from a bundle: the language model as Hugging Face keeps it, and beside it its own
//! layers and the tables of the encoders that it reads.

use super::{ALMOST_REC, BUNDLE_FILE, Bundle};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::almost_rec::{AlmostRec, AlmostRecConfig, AlmostRecParts, FrozenTable};
use crate::models::llama::{Llama, LlamaConfig, TokenId};
use crate::models::sequence::SequenceModel;
use crate::prompt::Names;
use crate::recommend::{Catalogue, EmbeddingTable, SequenceRecommender};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

impl Bundle {
    /// The bundle's ALMOSTRec on `backend`.
    ///
    /// # Errors
    /// Another kind of recommender; a component that is missing, or that does not fit the others.
    pub fn almost_rec_recommender<B: Backend>(
        &self,
        backend: &B,
    ) -> Result<SequenceRecommender<B>> {
        if self.manifest.recommender != ALMOST_REC {
            return Err(self.unsupported(ALMOST_REC));
        }
        let (name, json) = self.text("almost_rec_config")?;
        let config = AlmostRecConfig::parse(name, &json)?;
        let (name, json) = self.text("config")?;
        let llama = LlamaConfig::parse(name, &json)?;
        let bos = llama.bos_token_id;
        let llama = Llama::load(&Weights::new(backend, &self.checkpoint("model")?), llama)?;
        let (name, bytes) = self.single("tokenizer")?;
        let tokenizer = Tokenizer::from_bytes(name, &bytes)?;
        tokenizer.check_vocab_size(llama.config().vocab_size)?;
        let catalogue = self.catalogue()?.ok_or_else(|| {
            Error::file(BUNDLE_FILE, "component catalogue", "the items of the model", "none")
        })?;
        let table = |width: usize, component: &str| match width {
            0 => Ok(FrozenTable::default()),
            _ => EmbeddingTable::load_as(&self.checkpoint(component)?, component)
                .map(EmbeddingTable::frozen),
        };
        let (items, images) =
            (table(config.item_size, "sequence")?, table(config.image_size, "image")?);
        let prompt = prompt_tokens(&tokenizer, bos, &config.prompt)?;
        let titles = title_tokens(tokenizer, &catalogue, config.max_title_tokens)?;
        let parts = AlmostRecParts { llama, prompt, titles, items, images };
        let own = self.checkpoint("almost_rec")?;
        let model = AlmostRec::load(&Weights::new(backend, &own), config, parts)?;
        SequenceRecommender::new(backend.clone(), SequenceModel::almost_rec(model), Some(catalogue))
    }
}

/// The tokens that begin every prompt.
///
/// # Errors
/// A tokenizer that fails.
pub fn prompt_tokens(
    tokenizer: &Tokenizer,
    bos_token_id: Option<TokenId>,
    prompt: &str,
) -> Result<Vec<TokenId>> {
    let mut tokens: Vec<TokenId> = bos_token_id.into_iter().collect();
    if !prompt.is_empty() {
        tokens.extend(tokenizer.encode(prompt, false)?);
    }
    Ok(tokens)
}

/// The tokens of each item's title as it reads behind a word, at most `max_title_tokens` of each.
///
/// # Errors
/// A tokenizer that fails.
pub fn title_tokens(
    tokenizer: impl Into<std::sync::Arc<Tokenizer>>,
    catalogue: &Catalogue,
    max_title_tokens: usize,
) -> Result<Vec<Vec<TokenId>>> {
    if max_title_tokens == 0 {
        return Ok(Vec::new());
    }
    let mut names = Names::new(tokenizer.into(), max_title_tokens);
    for item in catalogue.items() {
        names.push(&item.title, item.id.as_str());
    }
    (0..catalogue.len() as u32).map(|item| names.tokens(item).map(<[TokenId]>::to_vec)).collect()
}
