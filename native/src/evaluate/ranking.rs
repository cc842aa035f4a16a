//! Questions about users, and the ranks that the answers give their targets.

use std::collections::HashMap;

use tributary_core::metrics::{ListMetrics, RankingMetrics};
use tributary_core::models::sequence::SeenItems;
use tributary_core::random::Random;
use tributary_core::recommend::{
    Catalogue, ItemId, ItemIndex, Question, Scorer, Scores, rank_of, top_items,
};
use tributary_core::{Error, Result};

use super::candidates::draw;
use super::{CandidateSet, Candidates, EvaluateOptions, UserResult};
use crate::data::{Case, Dataset};

/// Asks about the users and collects their ranks.
pub(super) struct Ranking<'a> {
    pub(super) options: &'a EvaluateOptions,
    pub(super) data: &'a Dataset,
    /// The scorer's.
    pub(super) catalogue: &'a Catalogue,
    /// From the data's items to the scorer's.
    pub(super) index: &'a [Option<ItemIndex>],
    /// By user.
    pub(super) given: HashMap<usize, &'a CandidateSet>,
    pub(super) seen_items: SeenItems,
    pub(super) metrics: RankingMetrics,
    /// Of users whose target a retriever put before a language model; none where there is no such model.
    pub(super) retrieved: Option<RankingMetrics>,
    /// Where all items are ranked.
    pub(super) lists: Option<ListMetrics<'a>>,
    /// Answers that named an item that was asked for.
    pub(super) valid: usize,
    pub(super) results: Vec<UserResult>,
    pub(super) sets: Vec<CandidateSet>,
    /// By item, all false between users.
    pub(super) untouchable: Vec<bool>,
}

/// What is asked about one user, in the scorer's indices.
struct Asked<'a> {
    case: &'a Case<'a>,
    target: ItemIndex,
    items: Vec<ItemIndex>,
    behaviours: Vec<&'a str>,
    /// Shuffled, the target among them; nothing where all items are asked for.
    candidates: Option<Vec<ItemIndex>>,
    /// With those of a stored set that the scorer does not know; 0 where all items are asked for.
    num_candidates: usize,
}

/// What an answer says of its user's target: see [`UserResult`].
#[derive(Default)]
struct Placed {
    rank: Option<usize>,
    num_candidates: usize,
    top: Option<Vec<ItemIndex>>,
}

impl<'a> Ranking<'a> {
    /// Asks about these users at once.
    pub(super) fn batch(&mut self, scorer: &impl Scorer, cases: &'a [Case<'a>]) -> Result<()> {
        let asked: Vec<Option<Asked<'a>>> = cases.iter().map(|case| self.ask(case)).collect();
        let questions: Vec<Question<'_>> = asked
            .iter()
            .flatten()
            .map(|asked| Question {
                items: &asked.items,
                behaviours: &asked.behaviours,
                target_behaviour: self.data.target_behaviour(),
                candidates: asked.candidates.as_deref(),
            })
            .collect();
        let answers = pollster::block_on(scorer.answer_batch(&questions))?;
        if answers.len() != questions.len() {
            let (expected, found) = (questions.len(), answers.len());
            return Err(Error::argument("evaluate", "answers", expected, found));
        }
        let mut answers = answers.into_iter();
        for (case, asked) in cases.iter().zip(&asked) {
            let placed = match (asked, asked.as_ref().and_then(|_| answers.next())) {
                (Some(asked), Some(answer)) => self.rank(asked, answer)?,
                _ => {
                    self.metrics.add_missed();
                    Placed::default()
                }
            };
            let Placed { rank, num_candidates, top } = placed;
            let user = self.data.users[case.user].user.clone();
            let target = self.data.catalogue.items()[case.target as usize].id.clone();
            self.results.push(UserResult { user, target, rank, num_candidates, top });
        }
        Ok(())
    }

    /// The question about a user; `None` where the scorer does not know the target.
    fn ask(&mut self, case: &'a Case<'a>) -> Option<Asked<'a>> {
        let target = self.index[case.target as usize]?;
        let (mut items, mut behaviours) = (Vec::new(), Vec::new());
        for (place, &item) in case.history.iter().enumerate() {
            let Some(item) = self.index[item as usize] else { continue };
            items.push(item);
            let behaviour = case.behaviours.get(place);
            behaviours.extend(behaviour.and_then(|&name| self.data.behaviours.get(name as usize)));
        }
        let behaviours = behaviours.into_iter().map(String::as_str).collect();
        let candidates = match &self.options.candidates {
            Candidates::All | Candidates::Exact { .. } => None,
            Candidates::Sampled { num_candidates, seed } => {
                let mut random = Random::stream(*seed, case.user as u64);
                let eligible = self.competitors(case.touched, target);
                Some(draw(&mut random, target, &eligible, num_candidates - 1))
            }
            // What the scorer does not know, it ranks last.
            Candidates::Given(_) => self.given.get(&case.user).map(|set| {
                set.candidates.iter().filter_map(|id| self.catalogue.index_of(id)).collect()
            }),
        };
        let mut num_candidates = 0;
        if let Some(candidates) = &candidates {
            let id = |&item: &ItemIndex| self.catalogue.get(item).map(|item| item.id.clone());
            let user = self.data.users[case.user].user.clone();
            let known: Vec<ItemId> = candidates.iter().filter_map(id).collect();
            let target = self.data.catalogue.items()[case.target as usize].id.clone();
            let set = self.given.get(&case.user).map(|&set| set.clone());
            let set = set.unwrap_or(CandidateSet { user, target, candidates: known });
            num_candidates = set.candidates.len();
            self.sets.push(set);
        }
        Some(Asked { case, target, items, behaviours, candidates, num_candidates })
    }

    /// All items but the target and these, in catalogue order.
    fn competitors(&mut self, but: &[ItemIndex], target: ItemIndex) -> Vec<ItemIndex> {
        let index = self.index;
        let known = || but.iter().filter_map(|&item| index[item as usize]);
        known().for_each(|item| self.untouchable[item as usize] = true);
        let eligible = |&item: &ItemIndex| item != target && !self.untouchable[item as usize];
        let mut competitors = Vec::with_capacity(self.catalogue.len());
        competitors.extend((0..self.catalogue.len() as ItemIndex).filter(eligible));
        known().for_each(|item| self.untouchable[item as usize] = false);
        competitors
    }

    fn rank(&mut self, asked: &Asked<'_>, answer: Scores) -> Result<Placed> {
        let Scores { scores, valid, read } = answer;
        let expected = asked.candidates.as_ref().map_or(self.catalogue.len(), Vec::len);
        if scores.len() != expected {
            return Err(Error::argument("evaluate", "scores", expected, scores.len()));
        }
        self.valid += usize::from(valid);
        let placed = match &asked.candidates {
            Some(candidates) => self.rank_among(asked, candidates, &scores, valid)?,
            None => self.rank_all(asked, scores, valid)?,
        };
        match (&self.options.candidates, placed.rank) {
            (Candidates::Exact { num_candidates }, Some(better)) => {
                let eligible = placed.num_candidates - 1;
                self.metrics.add_expected(better, eligible, num_candidates - 1);
            }
            // An answer that is not valid hits nothing, whatever the k.
            (_, rank) => self.metrics.add(rank.unwrap_or(usize::MAX)),
        }
        if let Some(read) = read {
            let retrieved = match &mut self.retrieved {
                Some(retrieved) => retrieved,
                none => none.insert(RankingMetrics::new(&self.options.k)?),
            };
            placed
                .rank
                .filter(|&rank| rank < read)
                .into_iter()
                .for_each(|rank| retrieved.add(rank));
        }
        if let (Some(lists), Some(top)) = (&mut self.lists, &placed.top) {
            lists.add(top)?;
        }
        Ok(placed)
    }

    /// The target among these candidates.
    fn rank_among(
        &self,
        asked: &Asked<'_>,
        candidates: &[ItemIndex],
        scores: &[f32],
        valid: bool,
    ) -> Result<Placed> {
        let unranked = Placed { num_candidates: asked.num_candidates, ..Placed::default() };
        if !valid {
            return Ok(unranked);
        }
        if let Some(place) = scores.iter().position(|score| score.is_nan()) {
            let item = self.catalogue.name(candidates[place]);
            let found = format!("NaN for item {item}");
            return Err(Error::argument("evaluate", "score", "a number", found));
        }
        let target = candidates.iter().position(|&item| item == asked.target);
        let target = target.unwrap_or_default() as ItemIndex;
        let rank = rank_of(scores, target, 0..candidates.len() as ItemIndex)?;
        Ok(Placed { rank: Some(rank), ..unranked })
    }

    /// The target among all items that may be recommended, or drawn; and the best of them.
    fn rank_all(&mut self, asked: &Asked<'_>, mut scores: Vec<f32>, valid: bool) -> Result<Placed> {
        let target = asked.target;
        let mut among = match (&self.options.candidates, self.seen_items) {
            (Candidates::Exact { .. }, _) => self.competitors(asked.case.touched, target),
            (_, SeenItems::Exclude) => self.competitors(asked.case.history, target),
            (_, SeenItems::ScoreZero) => {
                // The target keeps its score even when it is a repeated item, as in the published
                // code's ranking of what came next.
                for &item in asked.items.iter().filter(|&&item| item != target) {
                    scores[item as usize] = 0.0;
                }
                self.competitors(&[], target)
            }
        };
        let num_candidates = among.len() + 1;
        if !valid {
            return Ok(Placed { num_candidates, ..Placed::default() });
        }
        let rank = rank_of(&scores, target, among.iter().copied())?;
        let most = self.options.k.iter().copied().max().unwrap_or_default();
        among.push(target);
        let top = self.lists.is_some().then(|| top_items(&scores, among, most));
        Ok(Placed { rank: Some(rank), num_candidates, top })
    }
}
