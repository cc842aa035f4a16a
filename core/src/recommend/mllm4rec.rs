//! MLLM4Rec (J. Intell. Inf. Syst. 2024): a retriever finds 20 items, pictures are captions, and a
//! language model that plays a role ranks them by the logits of their index letters, in one pass.
//!
//! What the prompt has no room for is ranked behind, in the retriever's order. So is everything the
//! retriever did not put among the first: the paper counts such targets as misses of its metrics "over
//! all users", which at k up to the number of letters is the same.

mod config;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use config::Mllm4RecConfig;

use super::catalogue::{Catalogue, CatalogueItem, ItemIndex};
use super::prompted::{self, Places, Prior, PromptReader, Shortlist, Stopwatch};
use super::ranking::{self, Ranked};
use super::request::{Recommendations, Request, Timings, Usage};
use super::sequence::{Clock, system_clock};
use super::{Question, Recommender, Scorer, Scores, select};
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

/// A request's ids as places in the catalogue.
struct Asked {
    history: Vec<ItemIndex>,
    candidates: Vec<ItemIndex>,
    /// Ranked items that are needed.
    wanted: usize,
}

/// Candidates, best first.
struct Answered {
    ranked: Vec<Ranked>,
    /// Those that the model read: the first ones.
    read: usize,
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
        let (llama, options) = (model.config(), &config.prompt);
        tokenizer.check_vocab_size(llama.vocab_size)?;
        let special = options.bos_token_id.iter().chain([&options.end_token_id]);
        if let Some(id) = special.into_iter().find(|&&id| id as usize >= llama.vocab_size) {
            let expected = format!("tokens below vocab_size {}", llama.vocab_size);
            return Err(Error::argument("mllm4rec", "bos_token_id, end_token_id", expected, id));
        }
        if options.max_prompt_tokens > llama.max_position_embeddings {
            let expected = format!("at most {}", llama.max_position_embeddings);
            let found = options.max_prompt_tokens;
            return Err(Error::argument("mllm4rec", "max_prompt_tokens", expected, found));
        }
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

    async fn rank(
        &self,
        asked: &Asked,
        watch: &mut Stopwatch,
        timings: &mut Timings,
        usage: &mut Usage,
    ) -> Result<Answered> {
        if asked.candidates.is_empty() || asked.history.is_empty() {
            let ranked = self.prior.rank(&self.catalogue, &asked.candidates)?;
            return Ok(Answered { ranked, read: 0 });
        }
        let Shortlist { mut offered, mut others } = self.retrieve(asked).await?;
        timings.retrieve_ms += watch.lap();
        let room = self.prompts.offered(&asked.history, &offered)?;
        let without_room = offered.split_off(room.min(offered.len()));
        others.splice(..0, without_room);
        if offered.is_empty() {
            let mut ranked = Vec::new();
            prompted::rank_behind(&mut ranked, others);
            return Ok(Answered { ranked, read: 0 });
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
        let mut ranked = ranking::top(&self.catalogue, &scored, scored.len())?;
        let read = ranked.len();
        prompted::rank_behind(&mut ranked, others);
        Ok(Answered { ranked, read })
    }
}

impl<B: Backend, R: Scorer> Recommender for Mllm4RecRecommender<B, R> {
    fn name(&self) -> &str {
        "mllm4rec"
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    async fn recommend(&self, request: &Request) -> Result<Recommendations> {
        let mut watch = Stopwatch::new(self.clock);
        let mut timings = Timings::default();
        select::items_only("mllm4rec", request)?;
        let (interactions, unknown_items) = select::history(&self.catalogue, request)?;
        let history: Vec<_> = interactions.into_iter().map(|(item, _)| item).collect();
        let seen: HashSet<_> = match request.exclude_seen {
            true => history.iter().copied().collect(),
            false => HashSet::new(),
        };
        let candidates = select::candidates(&self.catalogue, request, &seen)?;
        let mut usage = Usage { unknown_items, candidates: candidates.len(), ..Usage::default() };
        let asked = Asked { history, candidates, wanted: request.k };
        timings.prepare_ms = watch.lap();
        let mut ranked = match request.k {
            0 => Vec::new(),
            _ => self.rank(&asked, &mut watch, &mut timings, &mut usage).await?.ranked,
        };
        ranked.truncate(request.k);
        let items = prompted::ranked_items(&self.catalogue, ranked)?;
        timings.rank_ms = watch.lap();
        Ok(Recommendations {
            items,
            timings: watch.finish(timings),
            usage,
            backend: self.backend.info().into(),
            valid: true,
        })
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
        let questions: Vec<_> =
            histories.iter().map(|&items| Question { items, ..Question::default() }).collect();
        let answers = self.answer_batch(&questions).await?;
        Ok(answers.into_iter().flat_map(|answer| answer.scores).collect())
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let items = 0..self.catalogue.len() as ItemIndex;
            let (candidates, unseen): (Vec<ItemIndex>, Vec<_>) = match question.candidates {
                Some(candidates) => (candidates.to_vec(), candidates.to_vec()),
                // What was seen takes no place of a prompt.
                None => {
                    let seen: HashSet<_> = question.items.iter().collect();
                    (items.clone().collect(), items.filter(|item| !seen.contains(item)).collect())
                }
            };
            let history = question.items.to_vec();
            let asked = Asked { history, wanted: unseen.len(), candidates: unseen };
            let (mut timings, mut usage) = (Timings::default(), Usage::default());
            let mut watch = Stopwatch::new(self.clock);
            let Answered { ranked, read } =
                self.rank(&asked, &mut watch, &mut timings, &mut usage).await?;
            let scores: HashMap<ItemIndex, f32> = ranked.into_iter().collect();
            let score = |item: &ItemIndex| scores.get(item).copied().unwrap_or(f32::MIN);
            let scores = candidates.iter().map(score).collect();
            answers.push(Scores { scores, valid: true, read: Some(read) });
        }
        Ok(answers)
    }
}
