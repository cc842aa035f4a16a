//! The loss of TMF: prompts of a batch in one packed pass, cross-entropy of their answers
//! (Eqs. 9 to 11).

use std::collections::HashSet;
use std::path::Path;

use tributary_core::backend::{Backend, Segments};
use tributary_core::metrics::{Denominator, RankingMetrics};
use tributary_core::models::fusion::{Fusion, FusionConfig};
use tributary_core::models::llama::{Llama, Rows, TokenId};
use tributary_core::nn::KvUse;
use tributary_core::prompt::{
    Hybrid, Level, PromptBuilder, PromptRequest, SOFT_TOKEN_ID, Template,
};
use tributary_core::random::Random;
use tributary_core::recommend::{
    Catalogue, FUSION_WEIGHTS, Interaction, ItemIndex, Modality, Recommender, Request, TmfConfig,
    TmfParts, TmfRecommender, name_tokens,
};
use tributary_core::weights::{Initial, Weights};
use tributary_core::{Error, Result};

use super::batch::{Batch, Choice, Lesson, Soft};
use super::lessons::{Lessons, Question};
use super::modalities::{FUSION, Modalities};
use super::texts::Texts;
use super::{TmfTrainConfig, soft_start};
use crate::burn_backend::Burn;
use crate::files;
use crate::train::language::Language;
use crate::train::trainer::{Losses, Objective};

/// Rows of the language model's width.
type Tokens = <Burn as Backend>::Tensor;

/// What an objective is made of besides the data.
pub(super) struct Parts<'a> {
    pub(super) model: Llama<Burn>,
    pub(super) language: &'a Language,
    pub(super) modalities: Modalities,
    pub(super) fusion: Option<FusionConfig>,
    pub(super) templates: Vec<(String, Template)>,
    pub(super) metric_k: usize,
}

/// TMF on a batch of questions.
pub(super) struct TmfObjective<'a> {
    lessons: &'a Lessons<'a>,
    config: &'a TmfTrainConfig,
    language: &'a Language,
    model: Llama<Burn>,
    fusion: Option<Fusion<Burn>>,
    pub(super) modalities: Modalities,
    prompts: PromptBuilder,
    templates: Vec<(String, Template)>,
    pub(super) served: TmfConfig,
    pub(super) catalogue: Catalogue,
    texts: Texts,
    metric_k: usize,
    seed: u64,
    total_steps: u64,
}

/// What an example is.
enum Example<'a> {
    Question(&'a Question),
    Story(&'a Question),
    Text(usize),
}

impl<'a> TmfObjective<'a> {
    pub(super) fn new(
        b: &Burn,
        config: &'a TmfTrainConfig,
        lessons: &'a Lessons<'a>,
        parts: Parts<'a>,
    ) -> Result<Self> {
        let Parts { model, language, modalities, fusion, templates, metric_k } = parts;
        let seed = u64::from(config.training.seed);
        let dataset = lessons.dataset();
        let prompt = language.prompt_options(config.model.prompt)?;
        let wordings: Vec<Template> = templates.iter().map(|(_, t)| t.clone()).collect();
        let mut prompts =
            PromptBuilder::new(&language.tokenizer, &wordings, &dataset.behaviours, prompt)?;
        for item in dataset.catalogue.items() {
            prompts.names_mut().push(&item.title, item.id.as_str());
        }
        let fusion = match fusion {
            None => None,
            Some(fusion) => {
                let table = b.matrix(modalities.behaviour_table())?;
                let place = FUSION.trim_end_matches('.');
                let weights = Weights::fresh(b, seed).with_initial(Initial::FanIn).at(place);
                let fusion = Fusion::load(&weights, fusion, Some(table))?;
                match &config.fusion.from {
                    Some(folder) => restore_fusion(b, folder)?,
                    None => soft_start::prepare(
                        b,
                        &model,
                        &fusion,
                        &modalities,
                        config.model.level,
                        seed,
                    )?,
                }
                Some(fusion)
            }
        };
        let names: Vec<&str> = dataset.behaviours.iter().map(String::as_str).collect();
        let served = TmfConfig {
            level: config.model.level,
            likelihood: config.model.likelihood,
            prompt,
            max_candidates: config.data.num_candidates.max(20),
            ..TmfConfig::new(&names, &config.data.target_behaviour)
        };
        let end = prompt.end_token_id;
        let texts = Texts::new(dataset, &config.data, &language.tokenizer, end)?;
        let examples = lessons.len() + texts.len();
        let batches = examples.div_ceil(config.training.batch_size) as u64;
        let steps = batches.saturating_mul(config.training.epochs);
        Ok(Self {
            lessons,
            config,
            language,
            model,
            fusion,
            modalities,
            prompts,
            templates,
            served,
            catalogue: lessons.catalogue()?,
            texts,
            metric_k,
            seed,
            total_steps: steps,
        })
    }

    /// The fusion's configuration, if there is one.
    pub(super) fn fusion_config(&self) -> Option<&FusionConfig> {
        self.fusion.as_ref().map(Fusion::config)
    }

    /// The wording that is served, the first, as its file has it.
    pub(super) fn template_text(&self) -> &str {
        self.templates.first().map_or("", |(text, _)| text)
    }

    /// A question as a prompt with its answer. Wording, candidates and their order are drawn anew at
    /// every step.
    fn lesson(&self, question: &Question, level: Level, random: &mut Random) -> Result<Lesson> {
        let candidates = self.lessons.candidates(question, random);
        self.prompt(question, &candidates, level, random)
    }

    /// A history alone, all of it to be learned.
    fn story(&self, story: &Question, level: Level, random: &mut Random) -> Result<Lesson> {
        let mut lesson = self.prompt(story, &[], level, random)?;
        lesson.prompt.answer = 1..lesson.prompt.token_ids.len();
        Ok(lesson)
    }

    /// The first candidate, where there are any, is the answer.
    fn prompt(
        &self,
        question: &Question,
        candidates: &[ItemIndex],
        level: Level,
        random: &mut Random,
    ) -> Result<Lesson> {
        let history = self.lessons.history(question);
        let chooses = self.config.loss.choice > 0.0 && !candidates.is_empty();
        let points = self.served.prompt.pointer;
        let by_names = chooses && !points;
        let listed = !points || random.unit() < self.config.data.listed;
        let prompt = self.prompts.build(&PromptRequest {
            template: random.below(self.templates.len().max(1) as u64) as usize,
            level,
            history: &history,
            target_behaviour: question.behaviour,
            candidates,
            seed: random.next_u64(),
            listed,
            answer: (!candidates.is_empty() && !by_names && listed).then_some(0),
        })?;
        let kept = history.get(prompt.history.clone()).unwrap_or_default();
        let choice = match (chooses, by_names) {
            (false, _) => Choice::None,
            (true, false) => {
                // As the question is: what was only looked at says little of what is bought.
                let asked = kept.iter().filter(|(_, behaviour)| *behaviour == question.behaviour);
                let none = self.config.loss.history == 0.0;
                let history =
                    if none { HashSet::new() } else { asked.map(|&(item, _)| item).collect() };
                Choice::Token { history }
            }
            (true, true) => {
                let names = candidates.iter().map(|&item| self.name(item));
                Choice::Names(names.collect::<Result<_>>()?)
            }
        };
        let history = kept.iter().map(|(item, _)| *item).collect();
        Ok(Lesson { prompt, history, candidates: candidates.to_vec(), choice })
    }

    /// An item's name as an answer, with its end.
    fn name(&self, item: ItemIndex) -> Result<Vec<TokenId>> {
        let mut name = self.prompts.names().tokens(item)?.to_vec();
        name.push(self.served.prompt.end_token_id);
        Ok(name)
    }

    fn example(&self, example: u32) -> Example<'_> {
        let (example, lessons) = (example as usize, self.lessons);
        if let Some(question) = lessons.questions.get(example) {
            return Example::Question(question);
        }
        let example = example - lessons.questions.len();
        match lessons.stories.get(example) {
            Some(story) => Example::Story(story),
            None => Example::Text(example - lessons.stories.len()),
        }
    }

    /// Whether the token at `position` is one to learn. What stands under a soft token is not.
    fn is_learned(&self, prompt: &Hybrid, position: usize, token: TokenId) -> bool {
        let everywhere = self.config.data.learn_prompts && position > 0;
        (everywhere || prompt.answer.contains(&position)) && token != SOFT_TOKEN_ID
    }

    /// The soft tokens of items: (items, hidden_size).
    fn fuse(
        &self,
        b: &Burn,
        fusion: &Fusion<Burn>,
        items: &[ItemIndex],
        lengths: &[usize],
    ) -> Result<<Burn as Backend>::Tensor> {
        let missing = || Error::Internal("tmf: a fusion without tables".into());
        let tables = self.modalities.items.as_ref().ok_or_else(missing)?;
        // Which items are cold is drawn anew at every step.
        let key = Random::stream(self.seed ^ 0xc01d, b.step()).next_u64();
        let cold = |item, modality| {
            modality == Modality::Graph
                && Random::stream(key, u64::from(item)).unit() < self.config.data.cold
        };
        tables.tokens_hiding(b, fusion, items, &Segments::new(lengths)?, cold)
    }

    /// Token embeddings of the packed lessons, soft tokens written over them, and the tokens of the
    /// candidates, which a model that points asks for.
    fn embed(
        &self,
        b: &Burn,
        ids: &[TokenId],
        soft: &Soft,
        level: Level,
    ) -> Result<(Tokens, Option<Tokens>)> {
        let mut hidden = self.model.embed(b, ids)?;
        let items = || soft.candidates.iter().chain(&soft.alone).copied();
        if let Some(fusion) = &self.fusion {
            if !soft.behaviours.is_empty() {
                let tokens = fusion.behaviour_tokens(b, &soft.behaviours)?;
                b.scatter_rows(&mut hidden, &soft.behaviour_rows, &tokens)?;
            }
            if !soft.history_rows.is_empty() {
                let fused = self.fuse(b, fusion, &soft.histories, &soft.lengths)?;
                let mut tokens = b.gather_rows(&fused, &soft.history_places)?;
                if fusion.config().events {
                    tokens = tokens + fusion.behaviour_tokens(b, &soft.history_behaviours)?;
                }
                b.scatter_rows(&mut hidden, &soft.history_rows, &tokens)?;
            }
            if level == Level::Item && !soft.candidates.is_empty() {
                let items: Vec<ItemIndex> = items().collect();
                let tokens = self.fuse(b, fusion, &items, &vec![1; items.len()])?;
                let own = b.gather_rows(&tokens, &soft.candidate_places)?;
                b.scatter_rows(&mut hidden, &soft.candidate_rows, &own)?;
                return Ok((hidden, Some(tokens)));
            }
        }
        if !self.served.prompt.pointer || soft.candidates.is_empty() {
            return Ok((hidden, None));
        }
        let names = items().map(|item| self.prompts.names().tokens(item));
        let names = name_tokens(b, &self.model, &names.collect::<Result<Vec<_>>>()?)?;
        Ok((hidden, Some(names)))
    }

    /// What serves, with the weights of this moment.
    fn recommender(&self, b: &Burn) -> Result<TmfRecommender<Burn>> {
        let fusion = match (&self.fusion, &self.modalities.items) {
            (Some(fusion), Some(items)) => Some((fusion.clone(), items.clone())),
            _ => None,
        };
        let missing = || Error::Internal("tmf: no template".into());
        let parts = TmfParts {
            model: self.model.clone(),
            tokenizer: self.language.tokenizer.as_ref().clone(),
            template: self.templates.first().ok_or_else(missing)?.1.clone(),
            catalogue: self.catalogue.clone(),
            fusion,
        };
        TmfRecommender::new(b.clone(), parts, self.served.clone())
    }
}

/// Gives the fusion the weights that a run left in `folder`.
fn restore_fusion(b: &Burn, folder: &Path) -> Result<()> {
    let file = files::open_checkpoint(&folder.join(FUSION_WEIGHTS))?;
    for parameter in b.parameters() {
        let Some(name) = parameter.name().strip_prefix(FUSION) else { continue };
        let values = file.values(name)?;
        let found = file.info(name).map_or(&[][..], |info| &info.shape);
        if found != parameter.axes() {
            let expected = format!("{:?}, as [fusion] says", parameter.axes());
            return Err(Error::file(file.file(), name, expected, format!("{found:?}")));
        }
        parameter.set(b.upload(&values, parameter.constant().dims())?);
    }
    Ok(())
}

impl Objective for TmfObjective<'_> {
    fn examples(&self) -> usize {
        self.lessons.len() + self.texts.len()
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let step = b.step();
        // One task for the whole batch, as Eq. 14 has it.
        let mut random = Random::stream(self.seed ^ 0x7a5c, step);
        let level = self.config.curriculum.level(
            self.config.model.level,
            step,
            self.total_steps,
            &mut random,
        );
        let mut lessons = Vec::with_capacity(examples.len());
        for &example in examples {
            let key = Random::stream(self.seed, step).next_u64();
            let mut random = Random::stream(key, u64::from(example));
            lessons.push(match self.example(example) {
                Example::Question(question) => self.lesson(question, level, &mut random)?,
                Example::Story(story) => self.story(story, level, &mut random)?,
                Example::Text(text) => {
                    let prompt = self.texts.lesson(text, self.prompts.names(), &mut random)?;
                    let (history, candidates) = (Vec::new(), Vec::new());
                    Lesson { prompt, history, candidates, choice: Choice::None }
                }
            });
        }
        let mut batch = Batch::default();
        for lesson in &lessons {
            batch.add(lesson, |position, token| self.is_learned(&lesson.prompt, position, token));
        }
        let segments = batch.segments()?;
        let branches = batch.branches(&segments)?;
        let positions = match &branches {
            Some(branches) => branches.positions().to_vec(),
            None => segments.positions(0),
        };
        let kv = branches.as_ref().map_or(KvUse::None, KvUse::Branch);
        let rows = Rows { segments: &segments, positions: &positions };
        let (hidden, candidates) = self.embed(b, &batch.ids, &batch.soft, level)?;
        let hidden = self.model.forward(b, hidden, rows, kv, None)?;
        let logits = self.model.logits(b, &b.gather_rows(&hidden, &batch.asked)?)?;
        let tokens = b.cross_entropy(&logits, &batch.targets)?;
        let likelihood = self.served.likelihood;
        let choices = batch.choices(b, &tokens, &hidden, candidates.as_ref(), likelihood)?;
        batch.losses(b, tokens, choices, self.config.loss)
    }

    fn example_name(&self, example: u32) -> String {
        match self.example(example) {
            Example::Question(asked) | Example::Story(asked) => self.lessons.name(asked),
            Example::Text(text) => self.texts.name(text),
        }
    }

    fn metric(&self) -> &str {
        &self.config.training.metric
    }

    /// The share of validation users whose target comes first among their candidates, by what would
    /// serve. The candidates are the same at every validation.
    fn validate(&self, b: &Burn) -> Result<Option<f64>> {
        if self.lessons.validation.is_empty() {
            return Ok(None);
        }
        let recommender = self.recommender(b)?;
        let mut metrics = RankingMetrics::new(&[self.metric_k])?;
        for (i, question) in self.lessons.validation.iter().enumerate() {
            let mut random = Random::stream(self.seed ^ 0x7a11d, i as u64);
            let mut candidates = self.lessons.candidates(question, &mut random);
            // Equal scores keep the candidates' order, in which the right one would be the first.
            candidates.sort_unstable();
            let id = |item: ItemIndex| {
                let item = self.catalogue.get(item).map(|item| item.id.clone());
                item.ok_or_else(|| Error::Internal("tmf: an item outside the catalogue".into()))
            };
            let history = self.lessons.history(question).into_iter().map(|(item, behaviour)| {
                let behaviour = self.served.behaviours.get(behaviour as usize).cloned();
                Ok(Interaction { behaviour, ..Interaction::new(id(item)?) })
            });
            let request = Request {
                history: history.collect::<Result<_>>()?,
                candidates: Some(candidates.iter().map(|&i| id(i)).collect::<Result<_>>()?),
                k: candidates.len(),
                exclude_seen: false,
                ..Request::default()
            };
            let answer = pollster::block_on(recommender.recommend(&request))?;
            let target = id(question.item)?;
            metrics.add(
                answer.items.iter().position(|item| item.id == target).unwrap_or(candidates.len()),
            );
        }
        let by_name = metrics.by_name(Denominator::OverAllUsers);
        Ok(by_name.get(&self.config.training.metric).copied())
    }

    fn describe(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
}
