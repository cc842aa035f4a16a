//! Triple Modality Fusion (arXiv 2410.12228): a language model reads what a user did, with a fused
//! embedding of pictures, text and graph behind every name, and names the next item.
//!
//! Candidates are ranked by the likelihood of their names, all in one packed pass over one prompt;
//! [`TmfRecommender::answer`] has a name written instead, as the paper does. A prompt holds few
//! candidates, so a retriever chooses them where a request does not; what it leaves out is ranked
//! behind them in its order.

mod answer;
mod config;
mod point;
mod scorer;
mod soft;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

pub use answer::{Answer, Decoding, Written};
pub use config::TmfConfig;
pub use point::name_tokens;

use super::catalogue::{Catalogue, CatalogueItem, ItemIndex};
use super::clock::{Clock, system_clock};
use super::embeddings::{ItemEmbeddings, Modality};
use super::prompted::{self, Places, Prior, PromptReader, Shortlist, Stopwatch};
use super::ranking::{self, Ranked};
use super::request::{Recommendations, Request, Timings, Usage};
use super::{Recommender, Scorer, select};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::fusion::Fusion;
use crate::models::llama::Llama;
use crate::prompt::{Hybrid, Level, PromptBuilder, PromptRequest, Template};
use crate::session::{Session, Trie};
use crate::tokenizer::Tokenizer;
use soft::{Hidden, SoftRows, SoftSource};

/// Most tokens of a free answer that may hold more than a name, as LLaRA has it.
const FREE_TOKENS: usize = 64;

/// What a TMF recommender is made of.
#[derive(Debug)]
pub struct TmfParts<B: Backend> {
    /// The language model.
    pub model: Llama<B>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The wording of its prompts.
    pub template: Template,
    /// The items.
    pub catalogue: Catalogue,
    /// Fusion and what it fuses, rows in catalogue order; not needed at [`Level::Text`].
    pub fusion: Option<(Fusion<B>, ItemEmbeddings)>,
}

/// A language model over hybrid prompts, and a retriever that finds candidates for it.
#[derive(Debug)]
pub struct TmfRecommender<B: Backend, R = Prior> {
    backend: B,
    reader: PromptReader<B>,
    tokenizer: Arc<Tokenizer>,
    prompts: PromptBuilder,
    soft: Option<SoftSource<B>>,
    catalogue: Catalogue,
    prior: Prior,
    config: TmfConfig,
    retriever: R,
    clock: Clock,
}

/// A request's ids and words as places in their lists.
struct Asked {
    history: Vec<(ItemIndex, u32)>,
    target_behaviour: u32,
    candidates: Vec<ItemIndex>,
    /// Ranked items that are needed.
    wanted: usize,
    hidden: Hidden,
    usage: Usage,
}

impl Asked {
    /// The items of the history that `prompt` holds.
    fn items(&self, prompt: &Hybrid) -> Vec<ItemIndex> {
        let kept = self.history.get(prompt.history.clone()).unwrap_or_default();
        kept.iter().map(|(item, _)| *item).collect()
    }
}

/// A prefilled prompt.
struct Read<B: Backend> {
    session: Session<B>,
    prompt: Hybrid,
}

impl<B: Backend> TmfRecommender<B> {
    /// The recommender of these parts; candidates are found by popularity.
    ///
    /// # Errors
    /// A configuration that [`TmfConfig::check`] refuses, parts that do not fit each other: a
    /// tokenizer larger than the model's vocabulary, tables of another number of items or width.
    pub fn new(backend: B, parts: TmfParts<B>, config: TmfConfig) -> Result<Self> {
        config.check("tmf")?;
        let TmfParts { model, tokenizer, template, catalogue, fusion } = parts;
        let llama = model.config();
        tokenizer.check_vocab_size(llama.vocab_size)?;
        let special = config.prompt.bos_token_id.iter().chain([&config.prompt.end_token_id]);
        if let Some(id) = special.into_iter().find(|&&id| id as usize >= llama.vocab_size) {
            let expected = format!("tokens below vocab_size {}", llama.vocab_size);
            return Err(Error::argument("tmf", "bos_token_id, end_token_id", expected, id));
        }
        if config.prompt.max_prompt_tokens > llama.max_position_embeddings {
            let expected = format!("at most {}", llama.max_position_embeddings);
            let found = config.prompt.max_prompt_tokens;
            return Err(Error::argument("tmf", "max_prompt_tokens", expected, found));
        }
        let soft = match (config.level, fusion) {
            (Level::Text, _) => None,
            (_, Some((fusion, embeddings))) => {
                let (behaviours, width) = (config.behaviours.len(), llama.hidden_size);
                let soft = SoftSource::new(&backend, fusion, embeddings, behaviours, width)?;
                if soft.items() != [catalogue.len(); 3] {
                    let expected = format!("rows of the catalogue's {} items", catalogue.len());
                    let found = format!("{:?}", soft.items());
                    return Err(Error::argument("tmf", "embeddings", expected, found));
                }
                Some(soft)
            }
            (_, None) => {
                let found = "none";
                return Err(Error::argument("tmf", "fusion", "one, as the level needs it", found));
            }
        };
        let tokenizer = Arc::new(tokenizer);
        let mut prompts =
            PromptBuilder::new(&tokenizer, &[template], &config.behaviours, config.prompt)?;
        for item in catalogue.items() {
            prompts.names_mut().push(&item.title, item.id.as_str());
        }
        let prior = Prior(catalogue.prior());
        let max_tokens = config.prompt.max_prompt_tokens.saturating_add(FREE_TOKENS);
        Ok(Self {
            reader: PromptReader::new(backend.clone(), model, max_tokens, config.prompt.pointer),
            backend,
            tokenizer,
            prompts,
            soft,
            catalogue,
            retriever: prior.clone(),
            prior,
            config,
            clock: system_clock,
        })
    }
}

impl<B: Backend, R: Scorer> TmfRecommender<B, R> {
    /// The same with candidates found by `retriever`, whose item `i` is the catalogue's.
    #[must_use]
    pub fn with_retriever<S: Scorer>(self, retriever: S) -> TmfRecommender<B, S> {
        let Self { backend, reader, tokenizer, prompts, soft, catalogue, prior, config, .. } = self;
        let clock = self.clock;
        TmfRecommender {
            backend,
            reader,
            tokenizer,
            prompts,
            soft,
            catalogue,
            prior,
            config,
            retriever,
            clock,
        }
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
    pub fn config(&self) -> &TmfConfig {
        &self.config
    }

    /// The modalities of its items' tokens: those somebody has embedded.
    pub fn modalities(&self) -> Vec<Modality> {
        self.soft.as_ref().map_or_else(Vec::new, SoftSource::modalities)
    }

    /// Adds an item that training never saw, by what its picture and its text embed to; what is
    /// missing is `None`. It can be recommended at once.
    ///
    /// # Errors
    /// An id that is there already, a row of another width than its table's or not finite.
    pub fn add_item(
        &mut self,
        item: CatalogueItem,
        image: Option<&[f32]>,
        text: Option<&[f32]>,
    ) -> Result<ItemIndex> {
        if let Some(soft) = &self.soft {
            soft.check(image, text)?;
        }
        let (id, title) = (item.id.clone(), item.title.clone());
        let Some(index) = self.catalogue.push(item)? else {
            return Err(Error::argument("add_item", "id", "an id not in the catalogue", id));
        };
        if let Some(soft) = &mut self.soft {
            soft.push(image, text)?;
        }
        self.prompts.names_mut().push(&title, id.as_str());
        self.prior = Prior(self.catalogue.prior());
        Ok(index)
    }

    /// Fuses the tokens of all items as candidates now, instead of each when it is first one.
    pub fn warm_up(&self) -> Result<()> {
        let items: Vec<ItemIndex> = (0..self.catalogue.len() as ItemIndex).collect();
        match (&self.soft, self.config.level) {
            (Some(soft), Level::Item) => soft.keep(&self.backend, &items, Hidden::default()),
            _ => Ok(()),
        }
    }

    fn resolve(&self, request: &Request) -> Result<Asked> {
        if request.query.is_some() {
            return Err(Error::argument("recommend", "query", "none: tmf reads no query", "one"));
        }
        if self.soft.is_none() && !request.hide.is_empty() {
            let expected = "none: this tmf reads names alone";
            return Err(Error::argument("recommend", "hide", expected, request.hide.len()));
        }
        let config = &self.config;
        let (interactions, unknown_items) = select::history(&self.catalogue, request)?;
        let default = config.default_behaviour.as_ref().or(config.behaviours.first());
        let default = default.map_or("", String::as_str);
        let mut history = Vec::with_capacity(interactions.len());
        for (item, interaction) in interactions {
            let name = interaction.behaviour.as_ref();
            history.push((item, config.behaviour("history.behaviour", name, default)?));
        }
        let target = request.target_behaviour.as_ref();
        let target_behaviour =
            config.behaviour("target_behaviour", target, &config.target_behaviour)?;
        let seen = match request.exclude_seen {
            true => history.iter().map(|(item, _)| *item).collect(),
            false => HashSet::new(),
        };
        let candidates = select::candidates(&self.catalogue, request, &seen)?;
        let usage = Usage { unknown_items, candidates: candidates.len(), ..Usage::default() };
        let hidden = Hidden::new(&request.hide);
        let wanted = request.k;
        Ok(Asked { history, target_behaviour, candidates, wanted, hidden, usage })
    }

    /// The candidates that the model reads, `most` of them, in the order that breaks ties, and the
    /// others as the retriever ranks them.
    async fn retrieve(&self, asked: &Asked, most: usize) -> Result<Shortlist> {
        if asked.candidates.len() <= most {
            let offered = asked.candidates.clone();
            return Ok(Shortlist { offered, others: Vec::new() });
        }
        let history = asked.history.iter().map(|(item, _)| *item);
        let cold = self.config.cold_candidates;
        let places = Places { offered: most, cold, wanted: asked.wanted };
        let (catalogue, retriever) = (&self.catalogue, &self.retriever);
        Shortlist::retrieve(catalogue, retriever, history, &asked.candidates, places).await
    }

    /// Prompt, soft tokens, prefill.
    fn read(
        &self,
        asked: &Asked,
        candidates: &[ItemIndex],
        listed: bool,
        watch: &mut Stopwatch,
        timings: &mut Timings,
        usage: &mut Usage,
    ) -> Result<Read<B>> {
        let b = &self.backend;
        let request = PromptRequest {
            template: 0,
            level: self.config.level,
            history: &asked.history,
            target_behaviour: asked.target_behaviour,
            candidates,
            listed,
            seed: self.config.seed,
            answer: None,
        };
        let prompt: Hybrid = self.prompts.build(&request)?;
        let rows = match &self.soft {
            Some(soft) => Some(soft.rows(b, &prompt, &asked.items(&prompt), asked.hidden)?),
            None => None,
        };
        timings.encode_ms += watch.lap();

        let soft = rows.as_ref().map(SoftRows::tokens);
        let session = self.reader.read(&prompt.token_ids, soft.as_ref(), usage)?;
        timings.prefill_ms += watch.lap();
        usage.image_tokens = prompt.item_tokens();
        usage.history_items = prompt.history.len();
        Ok(Read { session, prompt })
    }

    /// The names of candidates, each with the end of an answer.
    fn trie(&self, candidates: &[ItemIndex]) -> Result<Trie> {
        let names = candidates.iter().map(|&item| self.prompts.names().tokens(item));
        Trie::new(&names.collect::<Result<Vec<_>>>()?, self.config.prompt.end_token_id)
    }

    /// The candidates, best first.
    async fn rank(
        &self,
        asked: &Asked,
        watch: &mut Stopwatch,
        timings: &mut Timings,
        usage: &mut Usage,
    ) -> Result<Vec<Ranked>> {
        if asked.candidates.is_empty() || asked.history.is_empty() {
            return self.prior.rank(&self.catalogue, &asked.candidates);
        }
        let Shortlist { offered: candidates, others } =
            self.retrieve(asked, self.most_ranked()).await?;
        timings.retrieve_ms += watch.lap();
        let points = self.config.prompt.pointer;
        let read = self.read(asked, &candidates, !points, watch, timings, usage)?;
        let scores = match points {
            true => self.point_scores(&read, &candidates, asked.hidden).await?,
            false => {
                let trie = self.trie(&candidates)?;
                read.session.score_names(&trie, self.config.likelihood).await?
            }
        };
        self.reader.give_back(read.session);
        timings.score_ms += watch.lap();
        let scored: Vec<Ranked> = candidates.into_iter().zip(scores).collect();
        let mut ranked = ranking::top(&self.catalogue, &scored, scored.len())?;
        prompted::rank_behind(&mut ranked, others);
        Ok(ranked)
    }
}

impl<B: Backend, R: Scorer> Recommender for TmfRecommender<B, R> {
    fn name(&self) -> &str {
        "tmf"
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    async fn recommend(&self, request: &Request) -> Result<Recommendations> {
        let mut watch = Stopwatch::new(self.clock);
        let mut timings = Timings::default();
        let asked = self.resolve(request)?;
        let mut usage = asked.usage;
        timings.prepare_ms = watch.lap();
        let mut ranked = match request.k {
            0 => Vec::new(),
            _ => self.rank(&asked, &mut watch, &mut timings, &mut usage).await?,
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
