//! The lessons of a step as one packed pass, and their losses.

use std::collections::HashSet;
use std::ops::Range;

use burn::tensor::Tensor;
use tributary_core::Result;
use tributary_core::backend::{Backend, Mix, Segments};
use tributary_core::models::llama::TokenId;
use tributary_core::nn::Branches;
use tributary_core::prompt::{Hybrid, SoftKind};
use tributary_core::recommend::ItemIndex;
use tributary_core::session::Likelihood;

use super::LossConfig;
use crate::burn_backend::Burn;
use crate::train::trainer::Losses;

/// A lesson as tokens.
pub(super) struct Lesson {
    pub(super) prompt: Hybrid,
    /// The items that the prompt holds, in its order.
    pub(super) history: Vec<ItemIndex>,
    /// Its candidates, the right one first.
    pub(super) candidates: Vec<ItemIndex>,
    /// What is to be chosen behind it.
    pub(super) choice: Choice,
}

/// How candidates are told from each other.
pub(super) enum Choice {
    /// Not at all: what is learned stands in the prompt.
    None,
    /// By the likelihood of their names, the right one first, each with its end.
    Names(Vec<Vec<TokenId>>),
    /// By their tokens.
    Token {
        /// Items of the history that are chosen the same way, where they are named.
        history: HashSet<ItemIndex>,
    },
}

/// Lessons behind each other.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) ids: Vec<TokenId>,
    pub(super) soft: Soft,
    lengths: Vec<usize>,
    /// Which segment each stands behind.
    trunks: Vec<usize>,
    /// The row before each learned token, which predicts it.
    pub(super) asked: Vec<u32>,
    pub(super) targets: Vec<TokenId>,
    examples: Vec<Example>,
    pointers: Vec<Pointer>,
    /// Rows of the histories' items.
    events: Vec<u32>,
}

/// A row that points at one of some tokens.
struct Pointer {
    row: u32,
    /// Places in `Batch::events` of the items before it.
    events: Range<u32>,
    /// The right one, where it is none of the candidates: a place in `Soft::alone`.
    alone: Option<u32>,
    /// Places in `Soft::candidates`.
    candidates: Vec<u32>,
    /// The right one, the one alone first.
    right: u32,
}

/// Stands where a pointer has fewer items before it than another: its exponential is 0.
const NO_PRODUCT: f32 = -1e4;

/// What is learned of one lesson, as ranges of `Batch::asked`.
struct Example {
    /// In the prompt.
    prompt: Range<usize>,
    /// Each name.
    names: Vec<Range<usize>>,
    /// Choices, the answer's first.
    choices: usize,
}

/// The soft tokens of a batch as they are collected: rows of the packed prompts, and what stands
/// there.
#[derive(Default)]
pub(super) struct Soft {
    pub(super) behaviour_rows: Vec<u32>,
    pub(super) behaviours: Vec<u32>,
    pub(super) history_rows: Vec<u32>,
    /// Which row of the fused histories.
    pub(super) history_places: Vec<u32>,
    /// What was done to the item there.
    pub(super) history_behaviours: Vec<u32>,
    pub(super) histories: Vec<ItemIndex>,
    pub(super) lengths: Vec<usize>,
    /// Where candidates stand, and which of `candidates`.
    pub(super) candidate_rows: Vec<u32>,
    pub(super) candidate_places: Vec<u32>,
    pub(super) candidates: Vec<ItemIndex>,
    /// Items of histories that are pointed at, fused alone like candidates, without a row.
    pub(super) alone: Vec<ItemIndex>,
}

impl Batch {
    /// Adds a lesson; `is_learned` says which tokens of its prompt are.
    pub(super) fn add(&mut self, lesson: &Lesson, is_learned: impl Fn(usize, TokenId) -> bool) {
        let (offset, trunk) = (self.ids.len() as u32, self.lengths.len());
        let (first, pointers) = (self.soft.candidates.len(), self.pointers.len());
        self.soft.add(lesson, offset);
        if let Choice::Token { history } = &lesson.choice {
            self.point(lesson, offset, first, history);
        }
        let pointers = self.pointers.len() - pointers;
        let tokens = &lesson.prompt.token_ids;
        self.segment(tokens, trunk);
        let before = self.asked.len();
        for (position, &token) in tokens.iter().enumerate() {
            if is_learned(position, token) {
                self.ask(offset + position as u32 - 1, token);
            }
        }
        let prompt = before..self.asked.len();
        let closing = self.ids.len() as u32 - 1;
        let names = match &lesson.choice {
            Choice::Names(names) => &names[..],
            Choice::None | Choice::Token { .. } => &[],
        };
        let names = names.iter().map(|name| {
            let (before, row) = (self.asked.len(), self.ids.len() as u32);
            let (inner, _) = name.split_at(name.len().saturating_sub(1));
            self.segment(inner, trunk);
            for (&token, at) in name.iter().zip(std::iter::once(closing).chain(row..)) {
                self.ask(at, token);
            }
            before..self.asked.len()
        });
        let names: Vec<_> = names.collect();
        let choices = if names.is_empty() { pointers } else { 1 };
        self.examples.push(Example { prompt, names, choices });
    }

    /// The answer's pointer and those of the items in `history`. `first` is the lesson's first
    /// candidate, in the order of the prompt.
    fn point(&mut self, lesson: &Lesson, offset: u32, first: usize, history: &HashSet<ItemIndex>) {
        let prompt = &lesson.prompt;
        let Some(right) = prompt.candidates.iter().position(|&place| place == 0) else { return };
        let candidates: Vec<u32> = (first as u32..).take(prompt.candidates.len()).collect();
        let mut wrong = candidates.clone();
        wrong.remove(right);
        let row = offset + prompt.answer.start as u32 - 1;
        let (start, alone, right) = (self.events.len() as u32, None, right as u32);
        self.events.extend(prompt.event_rows.iter().map(|&row| offset + row as u32));
        let events = start..self.events.len() as u32;
        self.pointers.push(Pointer { row, events, alone, candidates, right });
        // Nothing is known of the user where the first item is named.
        let [_, rows @ ..] = &prompt.history_rows[..] else { return };
        let chosen = rows.iter().zip(start + 1..).filter(|((_, item), _)| history.contains(item));
        for (&(row, item), end) in chosen {
            let (row, alone) = (offset + row as u32, Some(self.soft.alone.len() as u32));
            self.soft.alone.push(item);
            let candidates = wrong.clone();
            self.pointers.push(Pointer { row, events: start..end, alone, candidates, right: 0 });
        }
    }

    fn segment(&mut self, tokens: &[TokenId], trunk: usize) {
        self.ids.extend_from_slice(tokens);
        self.lengths.push(tokens.len());
        self.trunks.push(trunk);
    }

    fn ask(&mut self, row: u32, token: TokenId) {
        self.asked.push(row);
        self.targets.push(token);
    }

    pub(super) fn segments(&self) -> Result<Segments> {
        Segments::new(&self.lengths)
    }

    /// Who stands behind whom; `None` where every lesson stands alone.
    pub(super) fn branches(&self, segments: &Segments) -> Result<Option<Branches>> {
        let alone = self.trunks.iter().enumerate().all(|(segment, &trunk)| segment == trunk);
        if alone { Ok(None) } else { Branches::new(segments, &self.trunks).map(Some) }
    }

    /// -log softmax of every choice's scores at the right one: (choices, 1). `tokens` are the
    /// cross-entropies of the asked rows, `hidden` the final states of all rows, `candidates` the
    /// tokens of `Soft::candidates` and `Soft::alone`.
    pub(super) fn choices(
        &self,
        b: &Burn,
        tokens: &Tensor<2>,
        hidden: &Tensor<2>,
        candidates: Option<&Tensor<2>>,
        likelihood: Likelihood,
    ) -> Result<Option<Tensor<2>>> {
        let (scores, right) = match (candidates, self.pointers.first()) {
            (Some(candidates), Some(first)) => {
                let shape = [self.pointers.len(), first.candidates.len()];
                let right: Vec<u32> = self.pointers.iter().map(|pointer| pointer.right).collect();
                (self.pointed(b, hidden, candidates)?.reshape(shape), right)
            }
            _ => {
                let names = || self.examples.iter().filter(|example| !example.names.is_empty());
                let Some(first) = names().next() else { return Ok(None) };
                let shape = [names().count(), first.names.len()];
                let sums = names().flat_map(|example| &example.names).map(|name| {
                    let weight = match likelihood {
                        Likelihood::Mean => 1.0 / name.len() as f32,
                        Likelihood::Sum | Likelihood::Constrained => 1.0,
                    };
                    name.clone().map(move |token| (token as u32, -weight))
                });
                let scores = b.mix_rows(tokens, &Mix::new(self.asked.len(), sums)?)?;
                (scores.reshape(shape), vec![0; shape[0]])
            }
        };
        b.cross_entropy(&scores, &right).map(Some)
    }

    /// The score of every token of every pointer, (scores, 1), as
    /// [`TmfRecommender`](tributary_core::recommend::TmfRecommender) has it.
    fn pointed(&self, b: &Burn, hidden: &Tensor<2>, tokens: &Tensor<2>) -> Result<Tensor<2>> {
        let known = self.soft.candidates.len() as u32;
        let width = tokens.dims()[0] as u32;
        let longest = 1 + self.pointers.iter().map(|p| p.events.len()).max().unwrap_or(0);
        // Places among the products of all rows with all tokens; the one behind them is no product.
        let first = self.events.len() as u32;
        let rows = self.events.iter().copied().chain(self.pointers.iter().map(|p| p.row));
        let rows: Vec<u32> = rows.collect();
        let count = rows.len() * width as usize;
        let mut terms = Vec::new();
        for (nth, pointer) in (first..).zip(&self.pointers) {
            let alone = pointer.alone.map(|place| known + place);
            for token in alone.into_iter().chain(pointer.candidates.iter().copied()) {
                let end = terms.len() + longest;
                let rows = pointer.events.clone().chain([nth]);
                terms.extend(rows.map(|row| row * width + token));
                terms.resize(end, count as u32);
            }
        }
        let products = b.similarity(&b.gather_rows(hidden, &rows)?, tokens)?;
        let nothing = b.upload(&[NO_PRODUCT], [1, 1])?;
        let products = Tensor::cat(vec![products.reshape([count, 1]), nothing], 0);
        let scores = terms.len() / longest;
        let terms = b.gather_rows(&products, &terms)?.reshape([scores, longest]);
        let most = terms.clone().max_dim(1).detach();
        Ok((terms - most.clone()).exp().sum_dim(1).log() + most)
    }

    /// The losses of the examples, from those of the asked rows (asked, 1) and of the choices.
    pub(super) fn losses(
        &self,
        b: &Burn,
        tokens: Tensor<2>,
        choices: Option<Tensor<2>>,
        config: LossConfig,
    ) -> Result<Losses> {
        let first = self.asked.len() as u32;
        let (mut rows, mut lengths, mut places) = (Vec::new(), Vec::new(), first..);
        for Example { prompt, names, choices } in &self.examples {
            let before = rows.len();
            // The right name is the first; without names the answer stands in the prompt.
            let right = names.first().map(|name| (name, config.answer));
            let weight = if *choices > 0 && names.is_empty() { config.answer } else { 1.0 };
            for (learned, weight) in std::iter::once((prompt, weight)).chain(right) {
                if weight > 0.0 {
                    rows.extend(learned.clone().map(|token| [(token as u32, weight)]));
                }
            }
            let weights = std::iter::once(config.choice).chain(std::iter::repeat(config.history));
            let choices = weights.take(*choices).zip(places.by_ref());
            rows.extend(choices.map(|(weight, place)| [(place, weight)]));
            lengths.push(rows.len() - before);
        }
        let segments = Segments::new(&lengths)?;
        let Some(choices) = choices else { return Ok(Losses { rows: tokens, segments }) };
        let from = self.asked.len() + choices.dims()[0];
        let all = Tensor::cat(vec![tokens, choices], 0);
        Ok(Losses { rows: b.mix_rows(&all, &Mix::new(from, rows)?)?, segments })
    }
}

impl Soft {
    fn add(&mut self, lesson: &Lesson, offset: u32) {
        let before = self.histories.len() as u32;
        let first = self.candidates.len() as u32;
        let places = lesson.prompt.candidates.iter();
        self.candidates.extend(places.filter_map(|&place| lesson.candidates.get(place)));
        for soft in &lesson.prompt.soft {
            let row = offset + soft.position as u32;
            match soft.kind {
                SoftKind::Behaviour(behaviour) => {
                    self.behaviour_rows.push(row);
                    self.behaviours.push(behaviour);
                }
                SoftKind::History { place, behaviour, .. } => {
                    self.history_rows.push(row);
                    self.history_behaviours.push(behaviour);
                    self.history_places.push(before + place as u32);
                }
                SoftKind::Candidate { place, .. } => {
                    let nth = lesson.prompt.candidates.iter().position(|&other| other == place);
                    self.candidate_rows.push(row);
                    self.candidate_places.push(first + nth.unwrap_or_default() as u32);
                }
            }
        }
        self.histories.extend_from_slice(&lesson.history);
        self.lengths.push(lesson.history.len());
    }
}
