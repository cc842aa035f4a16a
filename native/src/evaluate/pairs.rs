//! Yes or no: each user's held-out item against one that the user does not like, and the area under the
//! ROC curve of all the scores, as MLLM-MSR and TALLRec have it.

use std::collections::HashSet;
use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tributary_core::metrics::auc;
use tributary_core::random::Random;
use tributary_core::recommend::{Catalogue, ItemId, ItemIndex, Question, Scorer};
use tributary_core::{Error, Result};

use crate::data::{Dataset, Split};

/// Samples of the bootstrap over users.
const SAMPLES: u64 = 1000;
/// Share of them that an interval holds.
const CONFIDENCE: f64 = 0.95;
/// Users asked about at a time.
const BATCH: usize = 16;

/// What is not liked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Negatives {
    /// An item that the user never touches, drawn uniformly.
    #[default]
    Random,
    /// What the user did this to, such as `dislike`, behind all that training may see.
    Behaviour(String),
}

impl From<String> for Negatives {
    fn from(name: String) -> Self {
        if name == "random" { Self::Random } else { Self::Behaviour(name) }
    }
}

impl From<Negatives> for String {
    fn from(negatives: Negatives) -> Self {
        negatives.to_string()
    }
}

impl fmt::Display for Negatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Behaviour(name) => f.write_str(name),
        }
    }
}

impl Negatives {
    /// The place of the behaviour in the data's list.
    ///
    /// # Errors
    /// A behaviour that the data does not have.
    pub(crate) fn place(&self, data: &Dataset) -> Result<Option<u16>> {
        let Self::Behaviour(name) = self else { return Ok(None) };
        let place = data.behaviours.iter().position(|known| known == name);
        let place = place.and_then(|place| u16::try_from(place).ok()).map(Some);
        place.ok_or_else(|| {
            let expected = format!("random, or one of {}", data.behaviours.join(", "));
            Error::file(&data.name, "negatives", expected, name)
        })
    }
}

/// A user's held-out item, and one that is not liked; items of the data's catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Index into [`Dataset::users`].
    pub user: usize,
    /// Interactions before the question.
    pub history: usize,
    /// What came.
    pub positive: ItemIndex,
    /// What is not liked.
    pub negative: ItemIndex,
}

/// One pair per user with a held-out item and something that is not liked, in the data's order; the
/// same for the same seed.
///
/// # Errors
/// A behaviour that the data does not have; no user with a pair.
pub fn draw_pairs(
    data: &Dataset,
    split: Split,
    negatives: &Negatives,
    seed: u64,
) -> Result<Vec<Pair>> {
    let behaviour = negatives.place(data)?;
    let items = data.catalogue.len() as u64;
    let mut pairs = Vec::new();
    for case in data.cases(split) {
        let Some(sequence) = data.users.get(case.user) else { continue };
        let mut random = Random::stream(seed, case.user as u64);
        let touched: HashSet<_> = sequence.items.iter().copied().collect();
        let negative = match behaviour {
            None if touched.len() as u64 >= items => None,
            None => {
                let draws = std::iter::repeat_with(|| random.below(items) as ItemIndex);
                draws.into_iter().find(|item| !touched.contains(item))
            }
            Some(behaviour) => {
                let known: HashSet<_> = case.history.iter().collect();
                let events = sequence.items.iter().zip(&sequence.behaviours);
                let late = events.skip(data.training_len(sequence));
                let disliked = late.filter(|(item, b)| **b == behaviour && !known.contains(item));
                let disliked: Vec<_> = disliked.map(|(&item, _)| item).collect();
                let drawn = random.below(disliked.len().max(1) as u64) as usize;
                disliked.get(drawn).copied()
            }
        };
        if let Some(negative) = negative.filter(|negative| *negative != case.target) {
            let (user, history, positive) = (case.user, case.history.len(), case.target);
            pairs.push(Pair { user, history, positive, negative });
        }
    }
    if pairs.is_empty() {
        let expected = format!("users with a held-out item and a negative ({negatives})");
        return Err(Error::file(&data.name, "users", expected, "none"));
    }
    Ok(pairs)
}

/// The scores of a user's pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredPair {
    /// The data's own name of the user.
    pub user: String,
    /// What came, and what is not liked.
    pub items: [ItemId; 2],
    /// Theirs.
    pub scores: [f32; 2],
}

/// How well yes and no are told apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairsEvaluation {
    /// The area under the ROC curve of all scores, as if one user had asked them all.
    pub auc_pairs: f64,
    /// 95 % of the bootstrap's samples of users.
    pub interval: [f64; 2],
    /// Share of the users whose item scores higher than the other, equal scores counting half.
    pub accuracy_pairs: f64,
    /// `random`, or the behaviour.
    pub negatives: String,
    /// Pairs asked about: two labelled questions each.
    pub users: usize,
    /// Pairs with an item that the scorer does not know.
    pub unknown: usize,
    /// Wall clock.
    pub seconds: f64,
    /// Every pair, in the data's order.
    pub pairs: Vec<ScoredPair>,
}

/// Scores of `pairs`, by a scorer whose items are `catalogue`'s. `progress` is told the users done.
///
/// # Errors
/// A scorer that fails or answers with a NaN; no pair of which it knows both items.
pub fn evaluate_pairs(
    scorer: &impl Scorer,
    catalogue: &Catalogue,
    data: &Dataset,
    pairs: &[Pair],
    negatives: &Negatives,
    mut progress: impl FnMut(usize),
) -> Result<PairsEvaluation> {
    let started = Instant::now();
    let index = super::scorer_indices(data, catalogue);
    let known = |item: ItemIndex| index.get(item as usize).copied().flatten();
    let mut scored = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(BATCH) {
        let asked = batch.iter().filter_map(|pair| {
            let sequence = data.users.get(pair.user)?;
            let (mut items, mut behaviours) = (Vec::new(), Vec::new());
            for (place, &item) in sequence.items.iter().enumerate().take(pair.history) {
                let Some(item) = known(item) else { continue };
                items.push(item);
                let behaviour = sequence.behaviours.get(place);
                behaviours.extend(behaviour.and_then(|&b| data.behaviours.get(usize::from(b))));
            }
            let candidates = [known(pair.positive)?, known(pair.negative)?];
            Some((sequence, items, behaviours, candidates))
        });
        let asked: Vec<_> = asked.collect();
        let behaviours: Vec<Vec<&str>> =
            asked.iter().map(|(_, _, b, _)| b.iter().map(|b| b.as_str()).collect()).collect();
        let questions = asked.iter().zip(&behaviours).map(|((_, items, _, candidates), b)| {
            Question { items, behaviours: b, candidates: Some(candidates), ..Question::default() }
        });
        let questions: Vec<_> = questions.collect();
        let answers = pollster::block_on(scorer.answer_batch(&questions))?;
        for ((sequence, _, _, [positive, negative]), answer) in asked.iter().zip(answers) {
            let &[yes, no] = answer.scores.as_slice() else {
                let (expected, found) = ([2], [answer.scores.len()]);
                return Err(Error::shape("evaluate", "scores", &expected, &found));
            };
            let id = |item: ItemIndex| ItemId::from(catalogue.name(item));
            scored.push(ScoredPair {
                user: sequence.user.clone(),
                items: [id(*positive), id(*negative)],
                scores: [yes, no],
            });
        }
        progress(scored.len());
    }
    let missing =
        || Error::file(&data.name, "items", "items of the recommender's catalogue", "none");
    let of = |pairs: &mut dyn Iterator<Item = &ScoredPair>| {
        let labelled = pairs.flat_map(|pair| [(pair.scores[0], true), (pair.scores[1], false)]);
        auc(&labelled.collect::<Vec<_>>())
    };
    let auc_pairs = of(&mut scored.iter())?.ok_or_else(missing)?;
    let users = scored.len();
    let mut samples = Vec::new();
    for sample in 0..SAMPLES {
        let mut random = Random::stream(0, sample);
        let mut drawn = (0..users).filter_map(|_| scored.get(random.below(users as u64) as usize));
        samples.extend(of(&mut drawn)?);
    }
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * samples.len().saturating_sub(1) as f64).round() as usize;
        samples.get(place).copied().unwrap_or(auc_pairs)
    };
    let won = |pair: &ScoredPair| match pair.scores[0].partial_cmp(&pair.scores[1]) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    Ok(PairsEvaluation {
        auc_pairs,
        interval: [at((1.0 - CONFIDENCE) / 2.0), at((1.0 + CONFIDENCE) / 2.0)],
        accuracy_pairs: scored.iter().map(won).sum::<f64>() / users.max(1) as f64,
        negatives: negatives.to_string(),
        users,
        unknown: pairs.len() - users,
        seconds: started.elapsed().as_secs_f64(),
        pairs: scored,
    })
}
