//! The loss of a ranker by letters, and how well it ranks what the retriever finds.

use std::collections::HashSet;
use std::path::Path;

use pollster::block_on;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Mix, Segments};
use tributary_core::metrics::{Denominator, RankingMetrics};
use tributary_core::models::llama::{Llama, Rows, TokenId};
use tributary_core::nn::KvUse;
use tributary_core::prompt::LetterPrompts;
use tributary_core::random::Random;
use tributary_core::recommend::{ItemIndex, Scorer, SequenceRecommender, rank_of, top_items};
use tributary_core::{Context, Error, Result};

use super::{ExamplesConfig, Mllm4RecTrainConfig, Negatives};
use crate::burn_backend::Burn;
use crate::data::{Dataset, Split};
use crate::train::config::FitConfig;
use crate::train::trainer::{Losses, Objective};

/// Prompts of one packed pass of validation.
const BATCH: usize = 8;

/// An item to be found: the user, and its place in the user's history.
struct Example {
    user: usize,
    place: usize,
}

/// A held-out item that the retriever found.
struct Found<'a> {
    history: &'a [ItemIndex],
    offered: Vec<ItemIndex>,
    right: usize,
}

/// A language model that answers with letters, under training.
pub(super) struct LetterObjective<'a> {
    model: Llama<Burn>,
    prompts: LetterPrompts,
    dataset: &'a Dataset,
    config: &'a ExamplesConfig,
    examples: Vec<Example>,
    retriever: SequenceRecommender<Cpu>,
    /// Of the validation part.
    found: Vec<Found<'a>>,
    /// Users of the validation part.
    users: usize,
    metric: String,
    metric_k: usize,
    seed: u64,
}

impl<'a> LetterObjective<'a> {
    pub(super) fn new(
        config: &'a Mllm4RecTrainConfig,
        dataset: &'a Dataset,
        model: Llama<Burn>,
        prompts: LetterPrompts,
        retriever: SequenceRecommender<Cpu>,
        fit_config: &FitConfig,
    ) -> Result<Self> {
        config.data.check()?;
        let mut examples = Vec::new();
        for (user, sequence) in dataset.users.iter().enumerate() {
            let end = dataset.training_len(sequence);
            let most = config.examples.per_user.unwrap_or(usize::MAX);
            let first = end.saturating_sub(most).max(config.data.min_sequence_length - 1);
            examples.extend((first..end).map(|place| Example { user, place }));
        }
        let mut objective = Self {
            model,
            prompts,
            dataset,
            config: &config.examples,
            examples,
            retriever,
            found: Vec::new(),
            users: 0,
            metric: fit_config.training.metric.clone(),
            metric_k: fit_config.metric_k()?,
            seed: u64::from(config.training.seed),
        };
        if config.examples.negatives == Negatives::Retrieved {
            let mut found = Vec::new();
            for example in std::mem::take(&mut objective.examples) {
                let items = &dataset.users[example.user].items;
                if objective.retrieve(&items[..example.place])?.contains(&items[example.place]) {
                    found.push(example);
                }
            }
            objective.examples = found;
        }
        let cases = dataset.cases(Split::Valid);
        for case in cases.into_iter().take(config.data.validation_users.unwrap_or(usize::MAX)) {
            objective.users += 1;
            let mut offered = objective.retrieve(case.history)?;
            offered.truncate(objective.prompts.offered(case.history, &offered)?);
            if let Some(right) = offered.iter().position(|&item| item == case.target) {
                objective.found.push(Found { history: case.history, offered, right });
            }
        }
        Ok(objective)
    }

    /// What the retriever finds for this history, best first.
    fn retrieve(&self, history: &[ItemIndex]) -> Result<Vec<ItemIndex>> {
        let scores = block_on(self.retriever.score_batch(&[history]))?;
        let seen: HashSet<ItemIndex> = history.iter().copied().collect();
        let items = (0..self.dataset.catalogue.len() as ItemIndex).filter(|i| !seen.contains(i));
        Ok(top_items(&scores, items, self.prompts.options().max_candidates))
    }

    /// What a prompt offers, and the place of the right item.
    fn candidates(
        &self,
        history: &[ItemIndex],
        target: ItemIndex,
        random: &mut Random,
    ) -> Result<(Vec<ItemIndex>, usize)> {
        let most = self.prompts.options().max_candidates;
        let mut candidates = match self.config.negatives {
            Negatives::Uniform => {
                let mut drawn: HashSet<ItemIndex> =
                    history.iter().copied().chain([target]).collect();
                let items = self.dataset.catalogue.len();
                let mut candidates = vec![target];
                // Hardly anybody has met so much that this would not end at once.
                for _ in 0..most * 100 {
                    if candidates.len() == most || drawn.len() == items {
                        break;
                    }
                    let item = random.below(items as u64) as ItemIndex;
                    if drawn.insert(item) {
                        candidates.push(item);
                    }
                }
                let place = random.below(candidates.len() as u64) as usize;
                candidates.swap(0, place);
                candidates
            }
            Negatives::Retrieved => self.retrieve(history)?,
        };
        if self.config.shuffle {
            let len = candidates.len();
            random.shuffle(&mut candidates, len);
        }
        let right = candidates.iter().position(|&item| item == target);
        let right = right.ok_or_else(|| Error::Internal("mllm4rec: no right answer".into()))?;
        Ok((candidates, right))
    }

    /// Final states of packed prompts.
    fn forward(
        &self,
        b: &Burn,
        prompts: &[Vec<TokenId>],
    ) -> Result<(<Burn as Backend>::Tensor, Segments)> {
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let segments = Segments::new(&lengths)?;
        let positions = segments.positions(0);
        let rows = Rows { segments: &segments, positions: &positions };
        let hidden = self.model.embed(b, &prompts.concat())?;
        let hidden = self.model.forward(b, hidden, rows, KvUse::None, None)?;
        Ok((hidden, segments))
    }
}

impl Objective for LetterObjective<'_> {
    fn examples(&self) -> usize {
        self.examples.len()
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let (mut prompts, mut answers) = (Vec::new(), Vec::new());
        for &example in examples {
            let Example { user, place } = self.examples[example as usize];
            let items = &self.dataset.users[user].items;
            let (history, target) = (&items[..place], items[place]);
            // Another draw at every step, the same again after a resume.
            let mut random =
                Random::stream(self.seed ^ b.step().rotate_left(32), u64::from(example));
            let (mut candidates, mut right) = self.candidates(history, target, &mut random)?;
            let room = self.prompts.offered(history, &candidates)?.max(1);
            if right >= room {
                candidates.swap(right, room - 1);
                right = room - 1;
            }
            candidates.truncate(room);
            let prompt = self
                .prompts
                .build(history, &candidates, Some(right))
                .at(|| self.example_name(example))?;
            answers.push(prompt.answer);
            prompts.push(prompt.token_ids);
        }
        let (hidden, segments) = self.forward(b, &prompts)?;
        let weight = self.config.prompt_loss;
        let (mut asked, mut targets, mut rows, mut lengths) = (vec![], vec![], vec![], vec![]);
        for ((tokens, answer), segment) in prompts.iter().zip(answers).zip(segments.iter()) {
            let first = if weight > 0.0 { 1 } else { answer.start };
            let of_prompt = asked.len() as u32..(asked.len() + answer.start - first) as u32;
            let share = weight / of_prompt.len().max(1) as f32;
            if !of_prompt.is_empty() {
                rows.push(of_prompt.clone().map(|row| (row, share)).collect::<Vec<_>>());
            }
            rows.extend((of_prompt.end..).take(answer.len()).map(|row| vec![(row, 1.0)]));
            lengths.push(answer.len() + usize::from(!of_prompt.is_empty()));
            asked.extend((first..answer.end).map(|at| (segment.start + at - 1) as u32));
            targets.extend_from_slice(&tokens[first..answer.end]);
        }
        let logits = self.model.logits(b, &b.gather_rows(&hidden, &asked)?)?;
        let losses = b.cross_entropy(&logits, &targets)?;
        let rows = b.mix_rows(&losses, &Mix::new(asked.len(), rows)?)?;
        Ok(Losses { rows, segments: Segments::new(&lengths)? })
    }

    fn example_name(&self, example: u32) -> String {
        let example = self.examples.get(example as usize);
        let named = example.and_then(|e| Some((&self.dataset.users.get(e.user)?.user, e.place)));
        named.map_or_else(String::new, |(user, place)| format!("user {user}, item {place}"))
    }

    fn metric(&self) -> &str {
        &self.metric
    }

    /// Over all users: what the retriever did not find is a miss.
    fn validate(&self, b: &Burn) -> Result<Option<f64>> {
        if self.users == 0 {
            return Ok(None);
        }
        let mut metrics = RankingMetrics::new(&[self.metric_k])?;
        (self.found.len()..self.users).for_each(|_| metrics.add_missed());
        for found in self.found.chunks(BATCH) {
            let prompt = |found: &Found<'_>| {
                self.prompts.build(found.history, &found.offered, None).map(|p| p.token_ids)
            };
            let prompts = found.iter().map(prompt);
            let (hidden, segments) = self.forward(b, &prompts.collect::<Result<Vec<_>>>()?)?;
            let last: Vec<u32> = segments.iter().map(|rows| rows.end as u32 - 1).collect();
            let labels = self.prompts.labels(usize::MAX);
            let logits = self.model.asked_logits(b, &b.gather_rows(&hidden, &last)?, labels)?;
            let logits = block_on(b.read(&logits))?;
            for (found, logits) in found.iter().zip(logits.chunks_exact(labels.len())) {
                let others = (0..found.offered.len() as ItemIndex)
                    .filter(|&place| place as usize != found.right);
                let rank = rank_of(logits, found.right as ItemIndex, others);
                metrics.add(rank.at(|| "validation")?);
            }
        }
        Ok(metrics.by_name(Denominator::OverAllUsers).get(&self.metric).copied())
    }

    fn describe(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
}
