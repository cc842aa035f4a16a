//! MLLM4Rec (J. Intell. Inf. Syst. 2024): a retriever finds 20 items, pictures are captions, and a
//! language model that plays a role ranks them by the logits of their index letters, in one pass.
//!
//! What the prompt has no room for is ranked behind, in the retriever's order. So is everything the
//! retriever did not put among the first: the paper counts such targets as misses of its metrics "over
//! all users", which at k up to the number of letters is the same.

mod config;

use std::sync::Arc;

pub use config::Mllm4RecConfig;

use super::catalogue::{Catalogue, CatalogueItem, ItemIndex};
use super::clock::{Clock, system_clock};
use super::prompted::{self, Answered, Asked, Cost, Places, Prior, PromptReader, Ranks, Shortlist};
use super::ranking::{self, Ranked};
use super::request::{Recommendations, Request, RunsOn};
use super::{Question, Recommender, Scorer, Scores};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::llama::Llama;
use crate::models::sequence::SeenItems;
use crate::prompt::{LetterPrompts, LetterTemplate};
use crate::tokenizer::Tokenizer;

/// What an MLLM4Rec recommender is made of.
#[derive(Debug)]
pub struct Mllm4RecParts<B: Backend> {
    /// The language model.
    pub model: Llama<B>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The wording of its prompts.
    pub template: LetterTemplate,
    /// The items, with their captions.
    pub catalogue: Catalogue,
}

/// A language model that answers with letters, and a retriever that finds what they stand for.
#[derive(Debug)]
pub struct Mllm4RecRecommender<B: Backend, R = Prior> {
    backend: B,
    reader: PromptReader<B>,
    prompts: LetterPrompts,
    catalogue: Catalogue,
    prior: Prior,
    config: Mllm4RecConfig,
    retriever: R,
    clock: Clock,
}

impl<B: Backend> Mllm4RecRecommender<B> {
    /// The recommender of these parts; candidates are found by popularity.
    ///
    /// # Errors
    /// A configuration that [`Mllm4RecConfig::check`] refuses; a tokenizer larger than the model's
    /// vocabulary, or by which letters cannot be told apart; prompts longer than the model's context.
    pub fn new(backend: B, parts: Mllm4RecParts<B>, config: Mllm4RecConfig) -> Result<Self> {
        config.check("mllm4rec")?;
        let Mllm4RecParts { model, tokenizer, template, catalogue } = parts;
        let options = &config.prompt;
        prompted::check_language(
            "mllm4rec",
            model.config(),
            &tokenizer,
            (options.bos_token_id, options.end_token_id),
            options.max_prompt_tokens,
        )?;
        let mut prompts = LetterPrompts::new(tokenizer, template, options.clone())?;
        for item in catalogue.items() {
            prompts.push(&item.title, item.id.as_str(), item.caption.as_deref());
        }
        let prior = Prior(catalogue.prior());
        Ok(Self {
            reader: PromptReader::new(backend.clone(), model, options.max_prompt_tokens, false),
            backend,
            prompts,
            catalogue,
            retriever: prior.clone(),
            prior,
            config,
            clock: system_clock,
        })
    }
}

impl<B: Backend, R: Scorer> Mllm4RecRecommender<B, R> {
    /// The same with candidates found by `retriever`, whose item `i` is the catalogue's.
    #[must_use]
    pub fn with_retriever<S: Scorer>(self, retriever: S) -> Mllm4RecRecommender<B, S> {
        let Self { backend, reader, prompts, catalogue, prior, config, clock, .. } = self;
        Mllm4RecRecommender { backend, reader, prompts, catalogue, prior, config, retriever, clock }
    }

    /// The same, with timings from this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same, with at most this many bytes of cached prompt beginnings.
    #[must_use]
    pub fn with_prefix_cache(self, bytes: u64) -> Self {
        Self { reader: self.reader.with_prefix_cache(bytes), ..self }
    }

    /// What it was configured with.
    pub fn config(&self) -> &Mllm4RecConfig {
        &self.config
    }

    /// What finds candidates.
    pub fn retriever(&self) -> &R {
        &self.retriever
    }

    /// Adds an item that training never saw, by its title and the caption it comes with. The retriever
    /// does not know it; [`Mllm4RecConfig::cold_candidates`] places of a prompt are for such items.
    ///
    /// # Errors
    /// An id that is there already.
    pub fn add_item(&mut self, item: CatalogueItem) -> Result<ItemIndex> {
        let (id, title, caption) = (item.id.clone(), item.title.clone(), item.caption.clone());
        let Some(index) = self.catalogue.push(item)? else {
            return Err(Error::argument("add_item", "id", "an id not in the catalogue", id));
        };
        self.prompts.push(&title, id.as_str(), caption.as_deref());
        self.prior = Prior(self.catalogue.prior());
        Ok(index)
    }

    /// The items that the prompt offers, best first by the retriever, and the others.
    async fn retrieve(&self, asked: &Asked) -> Result<Shortlist> {
        let Asked { history, candidates, wanted } = asked;
        let (offered, cold) = (self.config.prompt.max_candidates, self.config.cold_candidates);
        let places = Places { offered, cold, wanted: *wanted };
        let history = history.iter().copied();
        let (catalogue, retriever) = (&self.catalogue, &self.retriever);
        Shortlist::retrieve(catalogue, retriever, history, candidates, places).await
    }
}

impl<B: Backend, R: Scorer> Ranks for Mllm4RecRecommender<B, R> {
    const NAME: &'static str = "mllm4rec";

    fn items(&self) -> &Catalogue {
        &self.catalogue
    }

    fn prior(&self) -> &Prior {
        &self.prior
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn runs_on(&self) -> RunsOn {
        self.backend.info().into()
    }

    async fn rank(&self, asked: &Asked, cost: &mut Cost) -> Result<Answered> {
        let Cost { watch, timings, usage } = cost;
        let Shortlist { mut offered, mut others } = self.retrieve(asked).await?;
        timings.retrieve_ms += watch.lap();
        let room = self.prompts.offered(&asked.history, &offered)?;
        let without_room = offered.split_off(room.min(offered.len()));
        others.splice(..0, without_room);
        if offered.is_empty() {
            return Ok(Answered::new(Vec::new(), others));
        }
        let prompt = self.prompts.build(&asked.history, &offered, None)?;
        usage.history_items = prompt.history.len();
        timings.encode_ms += watch.lap();
        let session = self.reader.read(&prompt.token_ids, None, usage)?;
        timings.prefill_ms += watch.lap();
        let scores = session.logits(Some(self.prompts.labels(offered.len()))).await?;
        self.reader.give_back(session);
        timings.score_ms += watch.lap();
        let scored: Vec<Ranked> = offered.into_iter().zip(scores).collect();
        let ranked = ranking::top(&self.catalogue, &scored, scored.len())?;
        Ok(Answered::new(ranked, others))
    }
}

impl<B: Backend, R: Scorer> Recommender for Mllm4RecRecommender<B, R> {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    async fn recommend(&self, request: &Request) -> Result<Recommendations> {
        prompted::recommend(self, request).await
    }
}

/// Scores are logits of letters where the model read the item, and below them, in the retriever's
/// order, where it did not.
impl<B: Backend, R: Scorer> Scorer for Mllm4RecRecommender<B, R> {
    fn num_items(&self) -> usize {
        self.catalogue.len()
    }

    fn seen_items(&self) -> SeenItems {
        SeenItems::Exclude
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        prompted::score_batch(self, histories).await
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        prompted::answer_batch(self, questions).await
    }
}
