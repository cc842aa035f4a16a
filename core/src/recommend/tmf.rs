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
use std::sync::{Arc, Mutex, PoisonError};

pub use answer::{Answer, Decoding, Written};
pub use config::TmfConfig;
pub use point::name_tokens;

use super::catalogue::{Catalogue, CatalogueItem, ItemId, ItemIndex};
use super::embeddings::{ItemEmbeddings, Modality};
use super::ranking::{self, Ranked};
use super::request::{RankedItem, Recommendations, Request, Timings, Usage};
use super::sequence::{Clock, system_clock};
use super::{Recommender, Scorer, select};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::fusion::Fusion;
use crate::models::llama::Llama;
use crate::prompt::{Hybrid, Level, PromptBuilder, PromptRequest, Template};
use crate::session::{PrefixCache, Session, SharedPrefixCache, Trie};
use crate::tokenizer::Tokenizer;
use soft::{Hidden, SoftRows, SoftSource};

/// Bytes of cached prompt beginnings, unless told otherwise.
pub const PREFIX_CACHE_BYTES: u64 = 64 << 20;

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
    model: Arc<Llama<B>>,
    tokenizer: Arc<Tokenizer>,
    prompts: PromptBuilder,
    soft: Option<SoftSource<B>>,
    catalogue: Catalogue,
    prior: Vec<f32>, // (items)
    config: TmfConfig,
    retriever: R,
    prefixes: SharedPrefixCache<B>,
    /// The last request's, taken by the next: a user's new event costs its own tokens.
    session: Mutex<Option<Session<B>>>,
    clock: Clock,
}

/// The retriever that knows no user: items by their popularity.
#[derive(Clone, Debug)]
pub struct Prior(Vec<f32>);

impl Scorer for Prior {
    fn num_items(&self) -> usize {
        self.0.len()
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        Ok(self.0.repeat(histories.len()))
    }
}

/// A request's ids and words as places in their lists.
struct Asked {
    history: Vec<(ItemIndex, u32)>,
    target_behaviour: u32,
    candidates: Vec<ItemIndex>,
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

struct Stopwatch {
    clock: Clock,
    start: f64,
    last: f64,
}

impl Stopwatch {
    fn new(clock: Clock) -> Self {
        let start = clock();
        Self { clock, start, last: start }
    }

    /// Milliseconds since the last call.
    fn lap(&mut self) -> f64 {
        let now = (self.clock)();
        now - std::mem::replace(&mut self.last, now)
    }

    fn finish(&self, mut timings: Timings) -> Timings {
        timings.forward_ms =
            timings.retrieve_ms + timings.encode_ms + timings.prefill_ms + timings.score_ms;
        timings.total_ms = self.last - self.start;
        timings
    }
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
        let prior = catalogue.prior();
        Ok(Self {
            backend,
            model: Arc::new(model),
            tokenizer,
            prompts,
            soft,
            catalogue,
            retriever: Prior(prior.clone()),
            prior,
            config,
            prefixes: Arc::new(Mutex::new(PrefixCache::new(PREFIX_CACHE_BYTES))),
            session: Mutex::new(None),
            clock: system_clock,
        })
    }
}

impl<B: Backend, R: Scorer> TmfRecommender<B, R> {
    /// The same with candidates found by `retriever`, whose item `i` is the catalogue's.
    #[must_use]
    pub fn with_retriever<S: Scorer>(self, retriever: S) -> TmfRecommender<B, S> {
        let Self { backend, model, tokenizer, prompts, soft, catalogue, prior, config, .. } = self;
        let Self { prefixes, session, clock, .. } = self;
        TmfRecommender {
            backend,
            model,
            tokenizer,
            prompts,
            soft,
            catalogue,
            prior,
            config,
            retriever,
            prefixes,
            session,
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
        let prefixes = Arc::new(Mutex::new(PrefixCache::new(bytes)));
        Self { prefixes, session: Mutex::new(None), ..self }
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
        self.prior = self.catalogue.prior();
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
        Ok(Asked { history, target_behaviour, candidates, hidden, usage })
    }

    /// The candidates that the model reads, `most` of them, in the order that breaks ties, and the
    /// others as the retriever ranks them.
    async fn retrieve(
        &self,
        asked: &Asked,
        most: usize,
    ) -> Result<(Vec<ItemIndex>, Vec<ItemIndex>)> {
        if asked.candidates.len() <= most {
            return Ok((asked.candidates.clone(), Vec::new()));
        }
        let known = self.retriever.num_items();
        let (warm, mut cold): (Vec<_>, Vec<_>) =
            asked.candidates.iter().partition(|&&item| (item as usize) < known);
        let history: Vec<ItemIndex> = asked.history.iter().map(|(item, _)| *item).collect();
        let history: Vec<_> = history.into_iter().filter(|&i| (i as usize) < known).collect();
        let scores = self.retriever.score_batch(&[&history]).await?;
        let score = |item: ItemIndex| scores.get(item as usize).copied().unwrap_or(f32::NAN);
        let warm: Vec<Ranked> = warm.into_iter().map(|item| (item, score(item))).collect();
        let warm = ranking::top(&self.catalogue, &warm, warm.len())?;
        let mut warm: Vec<_> = warm.into_iter().map(|(item, _)| item).collect();

        // The last items of the catalogue are the newest.
        cold.reverse();
        let places = self.config.cold_candidates.max(most.saturating_sub(warm.len()));
        let late = cold.split_off(cold.len().min(places));
        let mut rest = warm.split_off(warm.len().min(most - cold.len()));
        rest.extend(late);
        warm.extend(cold);
        Ok((warm, rest))
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

        let mut session = match self.session.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(session) => session,
            None => {
                let len = self.config.prompt.max_prompt_tokens.saturating_add(FREE_TOKENS);
                let session = Session::new(b.clone(), self.model.clone(), len)?
                    .with_prefix_cache(self.prefixes.clone());
                match self.config.prompt.pointer {
                    true => session.with_states()?,
                    false => session,
                }
            }
        };
        let soft = rows.as_ref().map(SoftRows::tokens);
        let read = match soft {
            Some(soft) => session.prefill_soft(&prompt.token_ids, &soft)?,
            None => session.prefill(&prompt.token_ids)?,
        };
        timings.prefill_ms += watch.lap();
        usage.prompt_tokens = read.prompt_tokens;
        usage.cached_tokens = read.cached_tokens;
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
            return self.prior(&asked.candidates, asked.candidates.len());
        }
        let (candidates, rest) = self.retrieve(asked, self.most_ranked()).await?;
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
        self.give_back(read.session);
        timings.score_ms += watch.lap();
        let scored: Vec<Ranked> = candidates.into_iter().zip(scores).collect();
        let mut ranked = ranking::top(&self.catalogue, &scored, scored.len())?;
        // What the model did not read comes after what it did.
        let last = ranked.last().map_or(0.0, |(_, score)| *score);
        ranked.extend((1..).zip(rest).map(|(place, item)| (item, last - place as f32)));
        Ok(ranked)
    }

    fn give_back(&self, session: Session<B>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    fn id(&self, item: ItemIndex) -> Result<ItemId> {
        let item = self.catalogue.get(item).map(|item| item.id.clone());
        item.ok_or_else(|| Error::Internal("tmf: an item outside the catalogue".into()))
    }

    fn prior(&self, candidates: &[ItemIndex], k: usize) -> Result<Vec<Ranked>> {
        let prior = |item: ItemIndex| self.prior.get(item as usize).copied().unwrap_or(0.0);
        let ranked: Vec<Ranked> = candidates.iter().map(|&item| (item, prior(item))).collect();
        ranking::top(&self.catalogue, &ranked, k)
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
        let items = ranked
            .into_iter()
            .zip(1..)
            .map(|((item, score), rank)| Ok(RankedItem { id: self.id(item)?, score, rank }));
        let items = items.collect::<Result<_>>()?;
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
