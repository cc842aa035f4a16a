//! The loss of MLLM-SRec: prompts of a batch in one packed pass, the items they are asked about as
//! branches behind what these share, cross-entropy of yes and no and of what the chain says (Eq. 3).

use std::collections::BTreeMap;
use std::ops::Range;

use tributary_core::backend::{Backend, Mix, Segments};
use tributary_core::models::llama::{Llama, Rows, TokenId};
use tributary_core::nn::{Branches, KvUse};
use tributary_core::prompt::{Chain, ChainPrompts, ChainTemplate, Preference};
use tributary_core::random::Random;
use tributary_core::recommend::{
    Catalogue, ItemIndex, MllmSrecConfig, MllmSrecParts, MllmSrecRecommender, item_words,
};
use tributary_core::{Error, Result};

use super::lessons::{Lesson, Lessons};
use super::{LossOn, METRIC, MllmSrecTrainConfig};
use crate::burn_backend::Burn;
use crate::evaluate::evaluate_pairs;
use crate::summary::{RuleSummaries, item_summary};
use crate::train::language::Language;
use crate::train::trainer::{Losses, Objective};

/// MLLM-SRec on a batch of lessons.
pub(super) struct MllmSrecObjective<'a> {
    config: &'a MllmSrecTrainConfig,
    lessons: Lessons<'a>,
    language: &'a Language,
    model: Llama<Burn>,
    template: ChainTemplate,
    served: MllmSrecConfig,
    prompts: ChainPrompts,
    rules: RuleSummaries,
    seed: u64,
}

/// Lessons behind each other.
#[derive(Default)]
struct Batch {
    ids: Vec<TokenId>,
    lengths: Vec<usize>,
    /// Which segment each stands behind.
    trunks: Vec<usize>,
    /// The row before each learned token, which predicts it; the token; what its loss is worth.
    asked: Vec<u32>,
    targets: Vec<TokenId>,
    weights: Vec<f32>,
    /// Asked rows of each example.
    examples: Vec<usize>,
}

impl Batch {
    /// A segment of its own, or a branch behind the segment `trunk`; the first of its rows.
    fn segment(&mut self, tokens: &[TokenId], trunk: Option<usize>) -> u32 {
        let first = self.ids.len() as u32;
        self.trunks.push(trunk.unwrap_or(self.lengths.len()));
        self.lengths.push(tokens.len());
        self.ids.extend_from_slice(tokens);
        first
    }

    fn ask(&mut self, row: u32, target: TokenId, weight: f32) {
        if weight > 0.0 {
            self.asked.push(row);
            self.targets.push(target);
            self.weights.push(weight);
        }
    }
}

impl<'a> MllmSrecObjective<'a> {
    pub(super) fn new(
        config: &'a MllmSrecTrainConfig,
        lessons: Lessons<'a>,
        language: &'a Language,
        model: Llama<Burn>,
        template: ChainTemplate,
        served: MllmSrecConfig,
    ) -> Result<Self> {
        let tokenizer = language.tokenizer.clone();
        let mut prompts = ChainPrompts::new(tokenizer, template.clone(), served.prompt.clone())?;
        for item in lessons.catalogue.items() {
            prompts.push(item_words(item, &item.text()));
        }
        let rules = RuleSummaries::new(&lessons.catalogue);
        let seed = u64::from(config.training.seed);
        Ok(Self { config, lessons, language, model, template, served, prompts, rules, seed })
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.lessons.catalogue
    }

    pub(super) fn served(&self) -> &MllmSrecConfig {
        &self.served
    }

    /// A text that is learned from `learned` on, or all of it.
    fn text(&self, batch: &mut Batch, tokens: &[TokenId], learned: Range<usize>) -> usize {
        let segment = batch.lengths.len();
        let first = batch.segment(tokens, None);
        for (place, &token) in tokens.iter().enumerate().skip(1) {
            let is_learned = learned.contains(&place) || self.config.loss.on == LossOn::Prompt;
            let weight = if is_learned { self.config.loss.text } else { 0.0 };
            batch.ask(first + place as u32 - 1, token, weight);
        }
        segment
    }

    /// A prompt with its answer and the answer's end.
    fn answered(&self, batch: &mut Batch, prompt: &[TokenId], answer: &str) -> Result<()> {
        let mut tokens = prompt.to_vec();
        tokens.extend(self.prompts.summary(answer)?);
        tokens.push(self.served.prompt.end_token_id);
        self.text(batch, &tokens, prompt.len()..tokens.len());
        Ok(())
    }

    fn choice(&self, batch: &mut Batch, user: usize, random: &mut Random) -> Result<()> {
        let question = self.lessons.question(user, random)?;
        let first = self.prompts.first(&question.history)?;
        let history = question.history.get(first..).unwrap_or_default();
        let (mut window, mut previous, mut summary) = (0..0, None, None);
        for next in self.prompts.windows(history.len()) {
            let items = history.get(next.clone()).unwrap_or_default();
            let text = self.rules.preference(items, summary.as_deref());
            previous = summary.replace(text);
            window = next;
        }
        let told = Preference {
            window: history.get(window.clone()).unwrap_or_default(),
            previous: previous.as_deref(),
            summary: summary.as_deref(),
            recent: history.get(window.end..).unwrap_or_default(),
        };
        let (shared, _) = self.prompts.choice(&told)?;
        let mut learned = 0..0;
        if let Some(summary) = &summary {
            let prompt = self.prompts.preference(told.window, told.previous)?;
            match self.served.prompt.chain {
                // What the chain says stands in the prompt: one pass learns both.
                Chain::Prefix => {
                    let answer = self.prompts.summary(summary)?.len() + 1;
                    learned = prompt.len()..prompt.len() + answer;
                }
                Chain::Summary => self.answered(batch, &prompt, summary)?,
                Chain::None => {}
            }
        }
        let trunk = self.text(batch, &shared, learned);
        let answers = self.prompts.answers();
        for (items, answer) in [&question.liked, &question.disliked].into_iter().zip(answers) {
            for &item in items {
                let candidate = self.prompts.candidate(item)?;
                let row = batch.segment(&candidate, Some(trunk));
                batch.ask(row + candidate.len() as u32 - 1, answer, 1.0);
            }
        }
        Ok(())
    }

    fn item(&self, batch: &mut Batch, item: ItemIndex) -> Result<()> {
        let Some(item) = self.lessons.catalogue.get(item) else { return Ok(()) };
        let text = item.text();
        let (Ok(prompt), Some(summary)) =
            (self.prompts.item_prompt(item_words(item, &text)), item_summary(item))
        else {
            return Ok(());
        };
        self.answered(batch, &prompt, &summary)
    }

    /// What serves, with the weights of this moment.
    fn recommender(&self, b: &Burn) -> Result<MllmSrecRecommender<Burn>> {
        let parts = MllmSrecParts {
            model: self.model.clone(),
            tokenizer: self.language.tokenizer.clone(),
            template: self.template.clone(),
            catalogue: self.lessons.catalogue.clone(),
        };
        MllmSrecRecommender::new(b.clone(), parts, self.served.clone())
    }
}

impl Objective for MllmSrecObjective<'_> {
    fn examples(&self) -> usize {
        self.lessons.len()
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let mut batch = Batch::default();
        for &example in examples {
            let before = batch.asked.len();
            let key = Random::stream(self.seed, b.step()).next_u64();
            let mut random = Random::stream(key, u64::from(example));
            match self.lessons.lesson(example) {
                Lesson::Choice(user) => self.choice(&mut batch, user, &mut random)?,
                Lesson::Item(item) => self.item(&mut batch, item)?,
            }
            batch.examples.push(batch.asked.len() - before);
        }
        let segments = Segments::new(&batch.lengths)?;
        let alone = batch.trunks.iter().enumerate().all(|(segment, &trunk)| segment == trunk);
        let branches = match alone {
            true => None,
            false => Some(Branches::new(&segments, &batch.trunks)?),
        };
        let positions = match &branches {
            Some(branches) => branches.positions().to_vec(),
            None => segments.positions(0),
        };
        let kv = branches.as_ref().map_or(KvUse::None, KvUse::Branch);
        let rows = Rows { segments: &segments, positions: &positions };
        let hidden = self.model.embed(b, &batch.ids)?;
        let hidden = self.model.forward(b, hidden, rows, kv, None)?;
        let logits = self.model.logits(b, &b.gather_rows(&hidden, &batch.asked)?)?;
        let losses = b.cross_entropy(&logits, &batch.targets)?;
        let weights = (0..).zip(&batch.weights).map(|(row, &weight)| [(row, weight)]);
        let rows = b.mix_rows(&losses, &Mix::new(batch.asked.len(), weights)?)?;
        Ok(Losses { rows, segments: Segments::new(&batch.examples)? })
    }

    fn example_name(&self, example: u32) -> String {
        self.lessons.name(example)
    }

    fn metric(&self) -> &str {
        METRIC
    }

    /// Of the validation's pairs, by what would serve; summaries by rule, so that it costs no writing.
    fn validate(&self, b: &Burn) -> Result<Option<f64>> {
        let Lessons { dataset, validation, negatives, catalogue, .. } = &self.lessons;
        if validation.is_empty() {
            return Ok(None);
        }
        let recommender = self.recommender(b)?;
        let kinds: BTreeMap<u16, &str> =
            (0..).zip(dataset.behaviours.iter().map(String::as_str)).collect();
        for pair in validation {
            let missing = || Error::Internal("mllm_srec: a pair of nobody".into());
            let user = dataset.users.get(pair.user).ok_or_else(missing)?;
            let behaviours = user.behaviours.iter().map(|b| kinds.get(b).copied());
            let behaviours = behaviours.chain(std::iter::repeat(None));
            let history = user.items.iter().copied().zip(behaviours).take(pair.history);
            let history = recommender.liked(history);
            let told = recommender
                .tell(&history, |window, previous| Ok(self.rules.preference(window, previous)));
            pollster::block_on(told)?;
        }
        let result =
            evaluate_pairs(&recommender, catalogue, dataset, validation, negatives, |_| ())?;
        Ok(Some(result.auc_pairs))
    }

    fn describe(&self, _folder: &std::path::Path) -> Result<()> {
        Ok(())
    }
}
