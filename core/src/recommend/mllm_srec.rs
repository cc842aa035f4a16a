//! MLLM-SRec: pictures and texts of items become summaries, windows of a user's history become a
//! preference in words, window by window, and a language model says of each candidate whether the user
//! will like it, all candidates in one pass behind what they share.
//!
//! Eq. 4 writes exp(p(yes)) with p called a probability score; as TALLRec and MLLM-MSR have it, p here
//! is the logit, so Eq. 4 is the softmax over yes and no. A score is the difference of the two logits,
//! in the order of Eq. 4's probability, which is its logistic function and has no ties near 0 and 1.
//!
//! A window that is complete is summarised once; its summary is kept by what it goes back to. So an
//! event that completes no window costs its own tokens, and one that does costs one summary. What the
//! retriever did not put among the first is ranked behind, in its order.

mod config;
mod summaries;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

pub use config::MllmSrecConfig;
use summaries::{Summaries, SummaryKey};

use super::catalogue::{Catalogue, CatalogueItem, ItemIndex};
use super::clock::{Clock, system_clock};
use super::prompted::{self, Answered, Asked, Cost, Places, Prior, PromptReader, Ranks, Shortlist};
use super::ranking::{self, Ranked};
use super::request::{Recommendations, Request, RunsOn, Usage};
use super::{Question, Recommender, Scorer, Scores};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::llama::Llama;
use crate::models::sequence::SeenItems;
use crate::prompt::{ChainPrompts, ChainTemplate, ItemWords, Preference};
use crate::session::{Sampler, StopRules};
use crate::tokenizer::Tokenizer;

/// What an MLLM-SRec recommender is made of.
#[derive(Debug)]
pub struct MllmSrecParts<B: Backend> {
    /// The language model.
    pub model: Llama<B>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The wording of its prompts.
    pub template: ChainTemplate,
    /// The items, with their captions and summaries.
    pub catalogue: Catalogue,
}

/// A language model that says yes or no, and a retriever that finds what it is asked about.
#[derive(Debug)]
pub struct MllmSrecRecommender<B: Backend, R = Prior> {
    backend: B,
    reader: PromptReader<B>,
    prompts: ChainPrompts,
    catalogue: Catalogue,
    summaries: Summaries,
    prior: Prior,
    config: MllmSrecConfig,
    retriever: R,
    clock: Clock,
}

/// What was written of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summarised {
    /// The window whose summary is the last, as places of the history.
    pub window: Range<usize>,
    /// The summary before it.
    pub previous: Option<String>,
    /// The last summary; `None` where no window is complete.
    pub summary: Option<String>,
    /// Summaries that had to be written.
    pub written: usize,
    /// Where the history begins that prompts look at.
    first: usize,
}

/// What prompts may say of `item`, whose text is `text`.
pub fn item_words<'a>(item: &'a CatalogueItem, text: &'a Option<String>) -> ItemWords<'a> {
    ItemWords {
        id: item.id.as_str(),
        text: text.as_deref(),
        caption: item.caption.as_deref(),
        summary: item.summary.as_deref(),
    }
}

impl<B: Backend> MllmSrecRecommender<B> {
    /// The recommender of these parts; candidates are found by popularity.
    ///
    /// # Errors
    /// A configuration that [`MllmSrecConfig::check`] refuses; a tokenizer larger than the model's
    /// vocabulary, or by which yes and no cannot be told apart; prompts longer than the model's context.
    pub fn new(backend: B, parts: MllmSrecParts<B>, config: MllmSrecConfig) -> Result<Self> {
        config.check("mllm_srec")?;
        let MllmSrecParts { model, tokenizer, template, catalogue } = parts;
        let options = &config.prompt;
        prompted::check_language(
            "mllm_srec",
            model.config(),
            &tokenizer,
            (options.bos_token_id, options.end_token_id),
            options.max_prompt_tokens,
        )?;
        let mut prompts = ChainPrompts::new(tokenizer, template, options.clone())?;
        for item in catalogue.items() {
            prompts.push(item_words(item, &item.text()));
        }
        let prior = Prior(catalogue.prior());
        Ok(Self {
            reader: PromptReader::new(backend.clone(), model, options.max_prompt_tokens, false),
            backend,
            prompts,
            catalogue,
            summaries: Summaries::new(config.max_summaries),
            retriever: prior.clone(),
            prior,
            config,
            clock: system_clock,
        })
    }
}

impl<B: Backend, R: Scorer> MllmSrecRecommender<B, R> {
    /// The same with candidates found by `retriever`, whose item `i` is the catalogue's.
    #[must_use]
    pub fn with_retriever<S: Scorer>(self, retriever: S) -> MllmSrecRecommender<B, S> {
        let Self { backend, reader, prompts, catalogue, summaries, prior, config, clock, .. } =
            self;
        MllmSrecRecommender {
            backend,
            reader,
            prompts,
            catalogue,
            summaries,
            prior,
            config,
            retriever,
            clock,
        }
    }

    /// The same with the summaries of a file that [`MllmSrecRecommender::summaries`] wrote.
    ///
    /// # Errors
    /// A line that is not a summary; `file` names it.
    pub fn with_summaries(self, file: &str, text: &str) -> Result<Self> {
        Ok(Self { summaries: self.summaries.with_file(file, text)?, ..self })
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
    pub fn config(&self) -> &MllmSrecConfig {
        &self.config
    }

    /// What finds candidates.
    pub fn retriever(&self) -> &R {
        &self.retriever
    }

    /// All summaries of windows that it holds: a bundle's file of summaries.
    ///
    /// # Errors
    /// None that is known.
    pub fn summaries(&self) -> Result<String> {
        self.summaries.to_jsonl()
    }

    /// Adds an item that training never saw, by the texts it comes with. The retriever does not know it;
    /// [`MllmSrecConfig::cold_candidates`] places are for such items.
    ///
    /// # Errors
    /// An id that is there already.
    pub fn add_item(&mut self, item: CatalogueItem) -> Result<ItemIndex> {
        let known = item.clone();
        let Some(index) = self.catalogue.push(item)? else {
            return Err(Error::argument("add_item", "id", "an id not in the catalogue", known.id));
        };
        self.prompts.push(item_words(&known, &known.text()));
        self.prior = Prior(self.catalogue.prior());
        Ok(index)
    }

    /// Step 2 for one item: what the model says of its text and its picture.
    ///
    /// # Errors
    /// An item that is not there; texts that fill the prompt.
    pub async fn summarise_item(&self, item: ItemIndex, usage: &mut Usage) -> Result<String> {
        let Some(item) = self.catalogue.get(item) else {
            let expected = format!("an item below {}", self.catalogue.len());
            return Err(Error::argument("summarise", "item", expected, item));
        };
        let text = item.text();
        let prompt = self.prompts.item_prompt(item_words(item, &text))?;
        let key = SummaryKey::of(None, std::iter::once(&item.id));
        self.write(&prompt, key, usage).await
    }

    /// What of a history tells what the user likes: by what was done to each item, where that is known.
    pub fn liked<'h>(
        &self,
        history: impl Iterator<Item = (ItemIndex, Option<&'h str>)>,
    ) -> Vec<ItemIndex> {
        history.filter(|(_, behaviour)| self.tells(*behaviour)).map(|(item, _)| item).collect()
    }

    /// Step 3 for a history of liked items: every complete window in turn, behind the summary of the one
    /// before. Those that are there already cost nothing.
    ///
    /// # Errors
    /// A model that fails.
    pub async fn summarise(&self, history: &[ItemIndex], usage: &mut Usage) -> Result<Summarised> {
        let write = async |window: &[ItemIndex], previous: Option<&str>, key: SummaryKey| {
            if !self.config.generate {
                return Ok(None);
            }
            let prompt = self.prompts.preference(window, previous)?;
            self.write(&prompt, key, usage).await.map(Some)
        };
        self.each_window(history, write).await
    }

    /// Step 3 by somebody else: `write` gets each window without a summary, and the summary before it.
    ///
    /// # Errors
    /// Those of `write`.
    pub async fn tell(
        &self,
        history: &[ItemIndex],
        mut write: impl FnMut(&[ItemIndex], Option<&str>) -> Result<String>,
    ) -> Result<Summarised> {
        let write = async |window: &[ItemIndex], previous: Option<&str>, _: SummaryKey| {
            write(window, previous).map(Some)
        };
        self.each_window(history, write).await
    }

    /// `write` may say that it has nothing to say: then the windows before must do.
    async fn each_window(
        &self,
        history: &[ItemIndex],
        mut write: impl AsyncFnMut(&[ItemIndex], Option<&str>, SummaryKey) -> Result<Option<String>>,
    ) -> Result<Summarised> {
        let first = self.prompts.first(history)?;
        let kept = history.get(first..).unwrap_or_default();
        let mut known = Summarised { first, window: first..first, ..Summarised::default() };
        let mut key = None;
        for window in self.prompts.windows(kept.len()) {
            let items = kept.get(window.clone()).unwrap_or_default();
            let ids = items.iter().filter_map(|&item| self.catalogue.get(item));
            let next = SummaryKey::of(key, ids.map(|item| &item.id));
            let summary = match self.summaries.get(next) {
                Some(summary) => summary,
                None => {
                    let previous = known.summary.as_deref();
                    let Some(summary) = write(items, previous, next).await? else { break };
                    self.summaries.put(next, &summary);
                    known.written += 1;
                    summary
                }
            };
            known.previous = known.summary.replace(summary);
            known.window = first + window.start..first + window.end;
            key = Some(next);
        }
        Ok(known)
    }

    /// The model's answer to `prompt`, on one line.
    async fn write(&self, prompt: &[u32], key: SummaryKey, usage: &mut Usage) -> Result<String> {
        let options = &self.config.prompt;
        let mut session = self.reader.read(prompt, None, usage)?;
        let stop = StopRules {
            max_new_tokens: options.max_summary_tokens,
            stop_token_ids: vec![options.end_token_id],
            stop_sequences: Vec::new(),
        };
        let mut sampler = Sampler::new(self.config.sampling(key.seed()))?;
        let answer = session.generate(&mut sampler, &stop, |_| ControlFlow::Continue(())).await?;
        self.reader.give_back(session);
        usage.generated_tokens += answer.token_ids.len();
        self.prompts.summary_text(&answer.token_ids)
    }

    /// Difference of the logits of yes and no for each of `candidates`.
    async fn judge(
        &self,
        history: &[ItemIndex],
        candidates: &[ItemIndex],
        cost: &mut Cost,
    ) -> Result<Vec<f32>> {
        let Cost { watch, timings, usage } = cost;
        let known = self.summarise(history, usage).await?;
        timings.encode_ms += watch.lap();
        let items = |range: Range<usize>| history.get(range).unwrap_or_default();
        let user = Preference {
            window: items(known.window.clone()),
            previous: known.previous.as_deref(),
            summary: known.summary.as_deref(),
            recent: items(known.window.end..history.len()),
        };
        let (shared, recent) = self.prompts.choice(&user)?;
        usage.history_items = known.window.end - known.first + recent;
        let session = self.reader.read(&shared, None, usage)?;
        timings.prefill_ms += watch.lap();
        let branches: Vec<_> =
            candidates.iter().map(|&item| self.prompts.candidate(item)).collect::<Result<_>>()?;
        usage.prompt_tokens += branches.iter().map(Vec::len).sum::<usize>();
        let logits = session.branch_logits(&branches, &self.prompts.answers()).await?;
        self.reader.give_back(session);
        timings.score_ms += watch.lap();
        let (pairs, _) = logits.as_chunks::<2>();
        Ok(pairs.iter().map(|[yes, no]| yes - no).collect())
    }
}

impl<B: Backend, R: Scorer> Ranks for MllmSrecRecommender<B, R> {
    const NAME: &'static str = "mllm_srec";

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

    fn tells(&self, behaviour: Option<&str>) -> bool {
        let known = &self.config.behaviours;
        known.is_empty() || behaviour.is_none_or(|behaviour| known.iter().any(|b| b == behaviour))
    }

    async fn rank(&self, asked: &Asked, cost: &mut Cost) -> Result<Answered> {
        let Asked { history, candidates, wanted } = asked;
        let (offered, cold) = (self.config.max_candidates, self.config.cold_candidates);
        let places = Places { offered, cold, wanted: *wanted };
        let items = history.iter().copied();
        let (catalogue, retriever) = (&self.catalogue, &self.retriever);
        let Shortlist { offered, others } =
            Shortlist::retrieve(catalogue, retriever, items, candidates, places).await?;
        cost.timings.retrieve_ms += cost.watch.lap();
        let scores = self.judge(history, &offered, cost).await?;
        let scored: Vec<Ranked> = offered.into_iter().zip(scores).collect();
        let ranked = ranking::top(&self.catalogue, &scored, scored.len())?;
        Ok(Answered::new(ranked, others))
    }
}

impl<B: Backend, R: Scorer> Recommender for MllmSrecRecommender<B, R> {
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

/// Scores are differences of logits where the model read the item, and below them, in the retriever's
/// order, where it did not.
impl<B: Backend, R: Scorer> Scorer for MllmSrecRecommender<B, R> {
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
