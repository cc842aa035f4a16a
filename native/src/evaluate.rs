//! How good a recommender is on a data set: ranks of held-out items, in packed batches.

mod baselines;
mod candidates;
mod compare;
mod histogram;
mod pairs;
mod ranking;
mod run;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

pub use baselines::{Markov, Popularity};
pub use candidates::{CandidateSet, read_candidates, write_candidates};
pub use compare::{CompareOptions, Compared, Comparison, MAX_SAMPLES, compare};
pub use histogram::histogram;
pub(crate) use histogram::percent;
pub use pairs::{Negatives, Pair, PairsEvaluation, ScoredPair, draw_pairs, evaluate_pairs};
use ranking::Ranking;
pub use run::{
    MAX_ID_BYTES, MAX_TEXT_BYTES, MAX_TOP, MAX_USERS, Run, read_run, read_top, write_run,
};
use serde::Serialize;
use tributary_core::metrics::{
    Denominator, EmbeddingOf, ListMetrics, RankMetric, RankingMetrics, self_information,
};
use tributary_core::models::sequence::{RepeatedItems, SeenItems};
use tributary_core::recommend::{
    Catalogue, EmbeddingTable, ItemId, ItemIndex, Scorer, first_occurrences,
};
use tributary_core::{Error, Result};

use crate::data::{Case, Dataset, Split, SplitRule};

/// What the target is ranked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidates {
    /// Every item, seen ones as the scorer's protocol has it (never recommended, or score 0).
    All,
    /// `num_candidates` items, shuffled: the target, and others drawn without replacement from the
    /// items that the split allows: see [`Case::touched`]. Equal scores keep the shuffled order.
    Sampled {
        /// With the target.
        num_candidates: usize,
        /// The same seed draws the same candidates.
        seed: u64,
    },
    /// The expectation of [`Candidates::Sampled`] over all draws, exactly: no seed can move it.
    Exact {
        /// With the target.
        num_candidates: usize,
    },
    /// Sets that were drawn before, one per user; users without one are left out.
    Given(Vec<CandidateSet>),
}

/// How to evaluate.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateOptions {
    /// Which targets.
    pub split: Split,
    /// Against what.
    pub candidates: Candidates,
    /// Metrics at each of these.
    pub k: Vec<usize>,
    /// At most this many users, from the first on.
    pub users: Option<usize>,
    /// Instead of the scorer's own protocol.
    pub seen_items: Option<SeenItems>,
    /// Users per batch.
    pub batch: usize,
    /// What the diversity of a list is measured by: a row per item of the scorer's catalogue.
    pub diversity_table: Option<Arc<EmbeddingTable>>,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            split: Split::Test,
            candidates: Candidates::All,
            k: vec![1, 5, 10, 20],
            users: None,
            seen_items: None,
            batch: 256,
            diversity_table: None,
        }
    }
}

/// What came out. Its JSON has at least `metrics`, `users` and `denominator`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// `hit_rate@10`, `ndcg@10`, `mrr@10`, `recall@10` and so on, and `auc`. Where every item is
    /// ranked also `catalogue_coverage@10` and `novelty@10`, and with an embedding table
    /// `intra_list_diversity@10`: see [`ListMetrics::by_name`] for what these are means over.
    pub metrics: BTreeMap<String, f64>,
    /// Users evaluated.
    pub users: usize,
    /// What the means are over: always `over_all_users` here, where everything is ranked.
    pub denominator: &'static str,
    /// Items the scorer knows.
    pub items: usize,
    /// Users whose target the scorer does not know: misses.
    pub unknown_targets: usize,
    /// How the candidates were chosen, in words.
    pub candidates: String,
    /// Wall clock, reading not counted.
    pub seconds: f64,
    /// Where a retriever chose what a language model ranked: of those users whose target it chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieved: Option<Retrieved>,
    /// The behaviour whose last item is the target, where the split is by one.
    pub target_behaviour: Option<String>,
    /// Share of the answers that name an item that was asked for: 1 for whatever scores items.
    pub valid_ratio: f64,
    /// What came out for each user, in the data's order.
    #[serde(skip)]
    pub results: Vec<UserResult>,
    /// What each user's target was ranked among, where candidates were drawn or given and the
    /// target is known.
    #[serde(skip)]
    pub sets: Vec<CandidateSet>,
}

/// Metrics of a language model alone: over the users whose target its retriever put before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retrieved {
    /// These users.
    pub users: usize,
    /// `over_retrieved_users`.
    pub denominator: &'static str,
    /// As for all users.
    pub metrics: BTreeMap<String, f64>,
}

impl Evaluation {
    /// The place of each user's target: see [`UserResult::rank`].
    pub fn ranks(&self) -> Vec<Option<usize>> {
        self.results.iter().map(|result| result.rank).collect()
    }
}

/// One user's part of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserResult {
    /// The data's own name of the user.
    pub user: String,
    /// The item that came.
    pub target: ItemId,
    /// The place of the target, 0 the best; `None` where the scorer does not know it or gave no
    /// valid answer. For expectations the place among all that can be drawn.
    pub rank: Option<usize>,
    /// What the target was ranked among, itself included; 0 where the scorer does not know it. For
    /// expectations all that can be drawn, and the target.
    pub num_candidates: usize,
    /// The best items, as many as the largest k asks for, best first; only where all were ranked and
    /// the answer was valid.
    pub top: Option<Vec<ItemIndex>>,
}

/// Ranks the held-out items of `data` by the scores of `scorer`, whose items are `catalogue`'s.
/// `progress` is told the users done and the users in all, after each batch.
///
/// Where the scorer counts only first interactions ([`RepeatedItems::First`]), so does the split:
/// see [`Dataset::without_repeats`].
///
/// # Errors
/// No user to evaluate, options that mean nothing, a score that is NaN, an embedding table of
/// other than the catalogue's items.
pub fn evaluate(
    scorer: &impl Scorer,
    catalogue: &Catalogue,
    data: &Dataset,
    options: &EvaluateOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Evaluation> {
    let started = Instant::now();
    options.check(catalogue.len())?;
    if catalogue.len() != scorer.num_items() {
        let expected = format!("{} items", scorer.num_items());
        return Err(Error::argument("evaluate", "catalogue", expected, catalogue.len()));
    }
    let without_repeats;
    let data = match scorer.repeated_items() {
        RepeatedItems::Keep => data,
        RepeatedItems::First => {
            without_repeats = data.without_repeats();
            &without_repeats
        }
    };
    let index = scorer_indices(data, catalogue);
    let mut cases = data.cases(options.split);
    let given = options.candidates.given(data, &mut cases)?;
    cases.truncate(options.users.unwrap_or(usize::MAX));
    if cases.is_empty() {
        let expected = match data.target_behaviour() {
            Some(behaviour) => format!("users with something before what they {behaviour} last"),
            None => "users with at least 3 interactions".into(),
        };
        return Err(Error::file(&data.name, "users", expected, "none"));
    }
    if !cases.iter().any(|case| index[case.target as usize].is_some()) {
        let expected = "items of the recommender's catalogue";
        let found = data.catalogue.name(cases[0].target);
        return Err(Error::file(&data.name, "items", expected, format!("none, such as {found}")));
    }

    let seen_items = options.seen_items.unwrap_or_else(|| scorer.seen_items());
    let table = options.diversity_table.as_deref();
    if let Some(table) = table.filter(|table| table.len() != catalogue.len()) {
        let expected = format!("{} rows, one per item of the catalogue", catalogue.len());
        return Err(Error::argument("evaluate", "diversity table", expected, table.len()));
    }
    let lists = (options.candidates == Candidates::All).then(|| {
        let training = training(data, options.split, &index, scorer.repeated_items());
        let embedding = table.map(|table| -> EmbeddingOf<'_> {
            Box::new(move |item: ItemIndex| table.row(item as usize))
        });
        ListMetrics::new(&options.k, information(&training, catalogue.len()), embedding)
    });
    let mut ranking = Ranking {
        options,
        data,
        catalogue,
        index: &index,
        given,
        seen_items,
        metrics: RankingMetrics::new(&options.k)?,
        retrieved: None,
        lists,
        valid: 0,
        results: Vec::new(),
        sets: Vec::new(),
        untouchable: vec![false; catalogue.len()],
    };
    let mut done = 0;
    for batch in cases.chunks(options.batch) {
        ranking.batch(scorer, batch)?;
        done += batch.len();
        progress(done, cases.len());
    }
    let over = Denominator::OverAllUsers;
    let metrics = &ranking.metrics;
    let mut by_name = metrics.by_name(over);
    by_name.extend(ranking.lists.iter().flat_map(ListMetrics::by_name));
    let auc = |user: &UserResult| RankMetric::Auc.of(user.rank, user.num_candidates, None);
    let areas: f64 = ranking.results.iter().map(auc).sum();
    by_name.insert(RankMetric::Auc.to_string(), areas / metrics.users().max(1) as f64);
    Ok(Evaluation {
        metrics: by_name,
        users: metrics.users(),
        denominator: over.name(),
        items: catalogue.len(),
        unknown_targets: metrics.users() - metrics.retrieved_users(),
        candidates: options.candidates.describe(seen_items),
        seconds: started.elapsed().as_secs_f64(),
        retrieved: ranking.retrieved.map(|metrics| Retrieved {
            users: metrics.users(),
            denominator: Denominator::OverRetrievedUsers.name(),
            metrics: metrics.by_name(Denominator::OverAllUsers),
        }),
        target_behaviour: data.target_behaviour().map(str::to_owned),
        valid_ratio: ranking.valid as f64 / metrics.retrieved_users().max(1) as f64,
        results: ranking.results,
        sets: ranking.sets,
    })
}

/// Popularity and a first-order Markov chain on the same users, by name: what a model must beat.
/// They learn from the training part of `data`, as a model does, or from the histories where the
/// split was given. Options as for [`evaluate`]; `scorer` is the model
/// to compare with, whose protocol they follow.
///
/// # Errors
/// As for [`evaluate`].
pub fn evaluate_baselines(
    scorer: &impl Scorer,
    catalogue: &Catalogue,
    data: &Dataset,
    options: &EvaluateOptions,
) -> Result<Vec<(&'static str, Evaluation)>> {
    let repeated_items = scorer.repeated_items();
    let without_repeats = matches!(repeated_items, RepeatedItems::First);
    let reduced = without_repeats.then(|| data.without_repeats());
    let training: Vec<Vec<ItemIndex>> = {
        let data = reduced.as_ref().unwrap_or(data);
        training(data, options.split, &scorer_indices(data, catalogue), repeated_items)
    };
    let training: Vec<_> = training.iter().map(Vec::as_slice).collect();
    // A baseline's own protocol is to exclude what was seen; the model's may differ.
    let seen_items = options.seen_items.unwrap_or_else(|| scorer.seen_items());
    let options = EvaluateOptions { seen_items: Some(seen_items), ..options.clone() };
    let popularity = Popularity::new(&training, catalogue.len(), repeated_items);
    let markov = Markov::new(&training, catalogue.len(), repeated_items);
    Ok(vec![
        ("popularity", evaluate(&popularity, catalogue, data, &options, |_, _| ())?),
        ("markov", evaluate(&markov, catalogue, data, &options, |_, _| ())?),
    ])
}

/// The training part of `data` in the scorer's indices, or the histories where the split was given;
/// one sequence per user.
fn training(
    data: &Dataset,
    split: Split,
    index: &[Option<ItemIndex>],
    repeated_items: RepeatedItems,
) -> Vec<Vec<ItemIndex>> {
    let sequences = match data.split {
        SplitRule::LeaveOneOut | SplitRule::LastOf(_) => data.training(),
        SplitRule::Given => data.cases(split).into_iter().map(|case| case.history).collect(),
    };
    let known = |items: &[ItemIndex]| -> Vec<ItemIndex> {
        items.iter().filter_map(|&item| index[item as usize]).collect()
    };
    sequences
        .into_iter()
        .map(|items| match repeated_items {
            RepeatedItems::Keep => known(items),
            RepeatedItems::First => first_occurrences(&known(items)),
        })
        .collect()
}

/// The self-information of each item in bits, from how many of the training users have it.
fn information(training: &[Vec<ItemIndex>], num_items: usize) -> Vec<f64> {
    let mut users_of_item = vec![0; num_items];
    for items in training {
        first_occurrences(items).into_iter().for_each(|item| users_of_item[item as usize] += 1);
    }
    self_information(&users_of_item, training.len() as u64)
}

/// From the data's items to the scorer's, by raw id.
fn scorer_indices(data: &Dataset, catalogue: &Catalogue) -> Vec<Option<ItemIndex>> {
    data.catalogue.items().iter().map(|item| catalogue.index_of(&item.id)).collect()
}

impl EvaluateOptions {
    /// `items`: how many the recommender knows.
    fn check(&self, items: usize) -> Result<()> {
        let at_least = |argument, minimum: usize, found: usize| match found < minimum {
            true => Err(Error::argument("evaluate", argument, format!("{minimum} or more"), found)),
            false => Ok(()),
        };
        at_least("batch", 1, self.batch)?;
        match self.candidates {
            Candidates::All | Candidates::Given(_) => Ok(()),
            Candidates::Sampled { num_candidates, .. } | Candidates::Exact { num_candidates } => {
                at_least("candidates", 2, num_candidates)?;
                match num_candidates > items {
                    true => {
                        let expected = format!("at most the catalogue's {items} items");
                        Err(Error::argument("evaluate", "candidates", expected, num_candidates))
                    }
                    false => Ok(()),
                }
            }
        }
    }
}

impl Candidates {
    /// The set of each case, by user, and only cases that have one; nothing where no sets are given.
    fn given<'a>(
        &'a self,
        data: &Dataset,
        cases: &mut Vec<Case<'_>>,
    ) -> Result<HashMap<usize, &'a CandidateSet>> {
        let Self::Given(sets) = self else { return Ok(HashMap::new()) };
        let by_name: HashMap<&str, &Case<'_>> =
            cases.iter().map(|case| (data.users[case.user].user.as_str(), case)).collect();
        let mut given = HashMap::with_capacity(sets.len());
        for set in sets {
            let field = || format!("set of user {}", set.user);
            let refuse = |expected: &str, found: &str| {
                Err(Error::file("candidates", field(), expected, found))
            };
            let Some(case) = by_name.get(set.user.as_str()) else {
                return refuse("a user with a target in the data", "none of that name");
            };
            let target = &data.catalogue.items()[case.target as usize].id;
            if *target != set.target {
                return refuse(&format!("the target {target}"), set.target.as_str());
            }
            if given.insert(case.user, set).is_some() {
                return refuse("each user once", "this one twice");
            }
        }
        cases.retain(|case| given.contains_key(&case.user));
        Ok(given)
    }

    fn describe(&self, seen_items: SeenItems) -> String {
        match self {
            Self::All => match seen_items {
                SeenItems::Exclude => "all items, seen ones excluded but the target".into(),
                SeenItems::ScoreZero => "all items, seen ones with score 0".into(),
            },
            Self::Sampled { num_candidates, seed } => {
                format!("{num_candidates} with the target, drawn with seed {seed}")
            }
            Self::Exact { num_candidates } => {
                format!("{num_candidates} with the target, exact expectation over all draws")
            }
            Self::Given(sets) => format!("{} given sets", sets.len()),
        }
    }
}
