//! Requests and questions to a recommender whose language model reads what a retriever chose: the
//! same for all of them but for how the model is asked.

use std::collections::{HashMap, HashSet};

use super::{Prior, Stopwatch, rank_behind, ranked_items};
use crate::error::Result;
use crate::recommend::catalogue::{Catalogue, ItemIndex};
use crate::recommend::clock::Clock;
use crate::recommend::ranking::Ranked;
use crate::recommend::request::{Recommendations, Request, RunsOn, Timings, Usage};
use crate::recommend::{Question, Scores, select};

/// A request's ids as places in the catalogue.
pub(in crate::recommend) struct Asked {
    pub(in crate::recommend) history: Vec<ItemIndex>,
    pub(in crate::recommend) candidates: Vec<ItemIndex>,
    /// Ranked items that are needed.
    pub(in crate::recommend) wanted: usize,
}

/// What an answer costs, as it comes about.
pub(in crate::recommend) struct Cost {
    pub(in crate::recommend) watch: Stopwatch,
    pub(in crate::recommend) timings: Timings,
    pub(in crate::recommend) usage: Usage,
}

impl Cost {
    fn new(clock: Clock) -> Self {
        let watch = Stopwatch::new(clock);
        Self { watch, timings: Timings::default(), usage: Usage::default() }
    }
}

/// Candidates, best first.
pub(in crate::recommend) struct Answered {
    pub(in crate::recommend) ranked: Vec<Ranked>,
    /// Those that the model read: the first ones.
    pub(in crate::recommend) read: usize,
}

impl Answered {
    /// The `ranked` ones, which the model read, and `others` behind them in their order.
    pub(in crate::recommend) fn new(mut ranked: Vec<Ranked>, others: Vec<ItemIndex>) -> Self {
        let read = ranked.len();
        rank_behind(&mut ranked, others);
        Self { ranked, read }
    }
}

/// How a language model ranks candidates behind a history.
pub(in crate::recommend) trait Ranks {
    /// The name bundles select it by.
    const NAME: &'static str;
    /// The items.
    fn items(&self) -> &Catalogue;
    /// What ranks them for nobody.
    fn prior(&self) -> &Prior;
    fn clock(&self) -> Clock;
    fn runs_on(&self) -> RunsOn;
    /// Whether what was done to an item tells what the user likes: other interactions leave the history.
    fn tells(&self, _behaviour: Option<&str>) -> bool {
        true
    }
    /// Neither history nor candidates are empty.
    async fn rank(&self, asked: &Asked, cost: &mut Cost) -> Result<Answered>;
}

async fn answered(ranks: &impl Ranks, asked: &Asked, cost: &mut Cost) -> Result<Answered> {
    if asked.candidates.is_empty() || asked.history.is_empty() {
        let ranked = ranks.prior().rank(ranks.items(), &asked.candidates)?;
        return Ok(Answered { ranked, read: 0 });
    }
    ranks.rank(asked, cost).await
}

/// [`Recommender::recommend`](crate::recommend::Recommender::recommend).
pub(in crate::recommend) async fn recommend<R: Ranks>(
    ranks: &R,
    request: &Request,
) -> Result<Recommendations> {
    let mut cost = Cost::new(ranks.clock());
    let catalogue = ranks.items();
    select::items_only(R::NAME, request)?;
    let (interactions, unknown_items) = select::history(catalogue, request)?;
    let seen: HashSet<_> = match request.exclude_seen {
        true => interactions.iter().map(|(item, _)| *item).collect(),
        false => HashSet::new(),
    };
    let told = interactions.into_iter().filter(|(_, i)| ranks.tells(i.behaviour.as_deref()));
    let history = told.map(|(item, _)| item).collect();
    let candidates = select::candidates(catalogue, request, &seen)?;
    cost.usage = Usage { unknown_items, candidates: candidates.len(), ..Usage::default() };
    let asked = Asked { history, candidates, wanted: request.k };
    cost.timings.prepare_ms = cost.watch.lap();
    let mut ranked = match request.k {
        0 => Vec::new(),
        _ => answered(ranks, &asked, &mut cost).await?.ranked,
    };
    ranked.truncate(request.k);
    let items = ranked_items(catalogue, ranked)?;
    let Cost { mut watch, mut timings, usage } = cost;
    timings.rank_ms = watch.lap();
    let timings = watch.finish(timings);
    Ok(Recommendations { items, timings, usage, backend: ranks.runs_on(), valid: true })
}

/// [`Scorer::score_batch`](crate::recommend::Scorer::score_batch).
pub(in crate::recommend) async fn score_batch(
    ranks: &impl Ranks,
    histories: &[&[ItemIndex]],
) -> Result<Vec<f32>> {
    let questions: Vec<_> =
        histories.iter().map(|&items| Question { items, ..Question::default() }).collect();
    let answers = answer_batch(ranks, &questions).await?;
    Ok(answers.into_iter().flat_map(|answer| answer.scores).collect())
}

/// [`Scorer::answer_batch`](crate::recommend::Scorer::answer_batch).
pub(in crate::recommend) async fn answer_batch(
    ranks: &impl Ranks,
    questions: &[Question<'_>],
) -> Result<Vec<Scores>> {
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        let items = 0..ranks.items().len() as ItemIndex;
        let (candidates, unseen): (Vec<ItemIndex>, Vec<_>) = match question.candidates {
            Some(candidates) => (candidates.to_vec(), candidates.to_vec()),
            // What was seen takes no place of a prompt.
            None => {
                let seen: HashSet<_> = question.items.iter().collect();
                (items.clone().collect(), items.filter(|item| !seen.contains(item)).collect())
            }
        };
        let behaviours = question.behaviours.iter().copied().map(Some);
        let behaviours = behaviours.chain(std::iter::repeat(None));
        let told = question.items.iter().zip(behaviours).filter(|(_, b)| ranks.tells(*b));
        let history = told.map(|(&item, _)| item).collect();
        let asked = Asked { history, wanted: unseen.len(), candidates: unseen };
        let mut cost = Cost::new(ranks.clock());
        let Answered { ranked, read } = answered(ranks, &asked, &mut cost).await?;
        let scores: HashMap<ItemIndex, f32> = ranked.into_iter().collect();
        let score = |item: &ItemIndex| scores.get(item).copied().unwrap_or(f32::MIN);
        let scores = candidates.iter().map(score).collect();
        answers.push(Scores { scores, valid: true, read: Some(read) });
    }
    Ok(answers)
}
