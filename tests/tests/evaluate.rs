//! Evaluation on a model whose scores are known: who counts, against what, and what is refused.

use std::collections::HashSet;
use std::sync::Arc;

use tributary::data::{Dataset, Split};
use tributary::evaluate::{
    Candidates, EvaluateOptions, Evaluation, Markov, Popularity, evaluate, read_candidates,
    write_candidates,
};
use tributary_core::models::sequence::{RepeatedItems, SeenItems};
use tributary_core::random::Random;
use tributary_core::recommend::{EmbeddingTable, Question, Recommender, Scorer, Scores, top_items};
use tributary_core::{Error, Result};
use tributary_tests::folder::Folder;
use tributary_tests::tiny_sasrec::constant;

/// Users u, v, w and one with too few items; `i9` and `x` are no items of the model.
const DATA: &str = "user,item\nu,i0\nu,i1\nu,i4\nv,i2\nv,x\nv,i3\nv,i0\nw,i1\nw,i0\nw,i9\nz,i1\n";

fn data(text: &str) -> Dataset {
    let folder = Folder::new("evaluate");
    Dataset::read(&folder.write("data.csv", text)).unwrap()
}

/// Scores of items i0 to i4: i4 is the best, i1 the worst.
fn run(options: &EvaluateOptions) -> Result<Evaluation> {
    let model = constant(&[2.0, 0.0, 1.0, 3.0, 4.0]);
    evaluate(&model, model.catalogue(), &data(DATA), options, |_, _| ())
}

#[test]
fn every_user_with_a_target_counts_and_unknown_targets_are_misses() {
    let found = run(&EvaluateOptions { k: vec![1, 2], ..Default::default() }).unwrap();
    // u: seen i0 and i1, target i4 first. v: seen i2 and i3, target i0 behind i4. w: unknown.
    assert_eq!(found.ranks(), [Some(0), Some(1), None]);
    assert_eq!((found.users, found.unknown_targets, found.items), (3, 1, 5));
    assert_eq!(found.denominator, "over_all_users");
    assert_eq!(found.metrics["hit_rate@1"], 1.0 / 3.0);
    assert_eq!(found.metrics["hit_rate@2"], 2.0 / 3.0);
    assert_eq!(found.metrics["mrr@2"], 1.5 / 3.0);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!((&json["users"], &json["denominator"]), (&3.into(), &"over_all_users".into()));
    assert!(json["metrics"]["ndcg@2"].is_number());
}

#[test]
fn validation_uses_the_item_before() {
    let options = EvaluateOptions { split: Split::Valid, ..Default::default() };
    // u: i0 seen, i1 is the last of four. v: i2 and x seen, i3 behind i4. w: i0 behind i4, i3.
    assert_eq!(run(&options).unwrap().ranks(), [Some(3), Some(1), Some(2)]);
}

#[test]
fn seen_items_may_rank_with_a_score_of_zero() {
    let seen_items = Some(SeenItems::ScoreZero);
    let options = EvaluateOptions { seen_items, split: Split::Valid, ..Default::default() };
    // u: i0 now scores 0 as i1 does, and comes first.
    assert_eq!(run(&options).unwrap().ranks()[0], Some(4));
}

#[test]
fn drawn_candidates_are_neither_seen_nor_the_target_and_are_kept() {
    let candidates = Candidates::Sampled { num_candidates: 3, seed: 5 };
    let found = run(&EvaluateOptions { candidates, ..Default::default() }).unwrap();
    assert_eq!(found.sets.len(), 2, "none for an unknown target");
    // u: i2 and i3 are all that is left beside i4. v: i1 and i4 beside i0.
    let mut sets: Vec<Vec<&str>> = Vec::new();
    for set in &found.sets {
        sets.push(set.candidates.iter().map(|id| id.as_str()).collect());
    }
    sets.iter_mut().for_each(|set| set.sort_unstable());
    assert_eq!(sets, [["i2", "i3", "i4"], ["i0", "i1", "i4"]]);
    assert_eq!(found.ranks(), [Some(0), Some(1), None]);
    let candidates = Candidates::Exact { num_candidates: 2 };
    let exact = run(&EvaluateOptions { candidates, k: vec![1], ..Default::default() }).unwrap();
    // u: nobody is better. v: one of two is.
    assert_eq!(exact.metrics["hit_rate@1"], 1.5 / 3.0);
}

#[test]
fn lists_are_measured_where_all_items_are_ranked() {
    let rows = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]];
    let mut table = EmbeddingTable::new(2);
    rows.iter().for_each(|row| table.push(Some(row)).unwrap());
    let table = Some(Arc::new(table));
    let options = EvaluateOptions { k: vec![2, 1], diversity_table: table, ..Default::default() };
    let found = run(&options).unwrap();
    // u has seen i0 and i1, v i2 and i3; i4 is the best, then i3, i0, i2, i1.
    let top = |user: usize| found.results[user].top.clone();
    assert_eq!((top(0), top(1), top(2)), (Some(vec![4, 3]), Some(vec![4, 0]), None));
    let candidates: Vec<_> = found.results.iter().map(|user| user.num_candidates).collect();
    assert_eq!(candidates, [3, 3, 0]);
    assert_eq!((found.results[1].user.as_str(), found.results[1].target.as_str()), ("v", "i0"));
    let metric = |name: &str| found.metrics[name];
    assert_eq!((metric("catalogue_coverage@1"), metric("catalogue_coverage@2")), (0.2, 0.6));
    assert_eq!((metric("intra_list_diversity@2")), 0.5, "1 for u, 0 for v");
    // Training has u: i0. v: i2, x. w: i1. z: i1. Of 4 users nobody has i4 or i3, one has i0.
    let (nobody, one) = (5_f64.log2(), 2.0);
    assert_eq!(metric("novelty@1"), nobody);
    assert_eq!(metric("novelty@2"), (nobody + (nobody + one) / 2.0) / 2.0);
    // u's target is the first of three, v's the second of three, w's is unknown.
    assert_eq!(metric("auc"), (1.0 + 0.5 + 0.0) / 3.0);

    let without = EvaluateOptions { diversity_table: None, ..options.clone() };
    let without = run(&without).unwrap().metrics;
    assert!(!without.keys().any(|name| name.starts_with("intra")), "{without:?}");
    let candidates = Candidates::Sampled { num_candidates: 3, seed: 5 };
    let sampled = run(&EvaluateOptions { candidates, ..options.clone() }).unwrap();
    assert!(sampled.results.iter().all(|user| user.top.is_none()));
    let names: Vec<_> = sampled.metrics.keys().filter(|name| !name.contains("@1")).collect();
    assert_eq!(names, ["auc", "hit_rate@2", "mrr@2", "ndcg@2", "recall@2"]);
    let wrong = Some(Arc::new(EmbeddingTable::absent(4)));
    let error = run(&EvaluateOptions { diversity_table: wrong, ..options }).unwrap_err();
    assert!(error.to_string().contains("5 rows, one per item"), "{error}");
}

#[test]
fn seen_items_with_a_score_of_zero_are_in_the_lists_and_among_the_candidates() {
    let seen_items = Some(SeenItems::ScoreZero);
    let found = run(&EvaluateOptions { seen_items, k: vec![9], ..Default::default() }).unwrap();
    // u: i0 and i1 score 0 now; equal scores keep the catalogue's order.
    assert_eq!(found.results[0].top, Some(vec![4, 3, 2, 0, 1]));
    assert_eq!(found.results[0].num_candidates, 5);
}

#[test]
fn the_best_items_are_those_of_a_sorted_list() {
    let mut random = Random::new(9);
    for len in [0, 1, 7, 300] {
        // Few distinct scores: many ties, at the cut, too.
        let scores: Vec<f32> = (0..len).map(|_| random.below(9) as f32).collect();
        let items: Vec<u32> = (0..len as u32).filter(|_| random.percent(80)).collect();
        let mut sorted = items.clone();
        sorted.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
        for k in [0, 1, 2, 5, 100, 1000] {
            let mut shuffled = items.clone();
            random.shuffle(&mut shuffled, items.len());
            let expected = &sorted[..k.min(sorted.len())];
            assert_eq!(top_items(&scores, shuffled, k), expected, "{k} of {len}");
        }
    }
}

#[test]
fn batches_and_limits_change_nothing_but_the_work() {
    let all = run(&EvaluateOptions::default()).unwrap();
    let single = run(&EvaluateOptions { batch: 1, ..Default::default() }).unwrap();
    assert_eq!((all.ranks(), &all.metrics), (single.ranks(), &single.metrics));
    let two = run(&EvaluateOptions { users: Some(2), ..Default::default() }).unwrap();
    assert_eq!(two.ranks(), all.ranks()[..2]);
    let model = constant(&[0.0; 5]);
    let mut steps = Vec::new();
    let options = EvaluateOptions { batch: 2, ..Default::default() };
    let tell = |done, all| steps.push((done, all));
    evaluate(&model, model.catalogue(), &data(DATA), &options, tell).unwrap();
    assert_eq!(steps, [(2, 3), (3, 3)]);
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    for (options, says) in [
        (EvaluateOptions { batch: 0, ..Default::default() }, "`batch` is 0"),
        (EvaluateOptions { k: vec![], ..Default::default() }, "at least one k"),
        (EvaluateOptions { users: Some(0), ..Default::default() }, "users"),
        (
            EvaluateOptions {
                candidates: Candidates::Exact { num_candidates: 1 },
                ..Default::default()
            },
            "`candidates` is 1",
        ),
        (
            EvaluateOptions {
                candidates: Candidates::Sampled { num_candidates: 1000, seed: 1 },
                ..Default::default()
            },
            "at most the catalogue's",
        ),
    ] {
        let error = run(&options).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let model = constant(&[0.0; 5]);
    let options = EvaluateOptions::default();
    let refused = |text: &str| {
        let found = evaluate(&model, model.catalogue(), &data(text), &options, |_, _| ());
        found.unwrap_err().to_string()
    };
    assert!(refused("user,item\nu,1\nu,2\nu,3\n").contains("items of the recommender's catalogue"));
    assert!(refused("user,item\nu,i1\nu,i2\n").contains("at least 3 interactions"));
    let nan = constant(&[0.0, f32::NAN, 0.0, 0.0, 0.0]);
    let error = evaluate(&nan, nan.catalogue(), &data(DATA), &options, |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
}

#[test]
fn baselines_count_what_they_are_given() {
    let training: [&[u32]; 3] = [&[0, 1, 2], &[0, 1], &[3, 1, 2]];
    let score = |scorer: &dyn Fn(&[&[u32]]) -> Vec<f32>, history: &[u32]| scorer(&[history]);
    let popularity = Popularity::new(&training, 4, RepeatedItems::Keep);
    let popularity = |h: &[&[u32]]| pollster::block_on(popularity.score_batch(h)).unwrap();
    assert_eq!(score(&popularity, &[2]), [2.0, 3.0, 2.0, 1.0]);
    let markov = Markov::new(&training, 4, RepeatedItems::Keep);
    let markov = |h: &[&[u32]]| pollster::block_on(markov.score_batch(h)).unwrap();
    let after_one = score(&markov, &[0, 1]);
    assert!(after_one[2] >= 2.0 && after_one[0] < 1.0, "{after_one:?}");
    let after_last = score(&markov, &[2]);
    assert!(after_last[1] > after_last[0] && after_last[1] < 1.0, "popularity: {after_last:?}");
}

/// Three users who view, put into the cart and buy; the last has bought nothing.
const BEHAVIOURS: &str = "user,item,behaviour\n\
    u,i0,view\nu,i1,view\nu,i1,buy\nu,i2,view\nu,i3,view\nu,i3,cart\nu,i3,buy\nu,i2,buy\nu,i0,view\n\
    v,i4,view\nv,i2,view\nv,i2,buy\n\
    w,i1,view\nw,i2,cart\n";

#[test]
fn a_target_behaviour_cuts_the_history_before_the_target_is_touched() {
    let mut data = data(BEHAVIOURS);
    let error = data.hold_out("rent").unwrap_err().to_string();
    assert!(error.contains("view, buy, cart"), "{error}");
    data.hold_out("buy").unwrap();
    assert_eq!(data.target_behaviour(), Some("buy"));
    let cases = |split| {
        let cases = data.cases(split).into_iter();
        cases.map(|c| (c.user, c.history.to_vec(), c.target)).collect::<Vec<_>>()
    };
    // u bought i2 last, but looked at it before i3.
    assert_eq!(cases(Split::Test), [(0, vec![0, 1, 1], 2), (1, vec![4], 2)]);
    assert_eq!(cases(Split::Valid), [(0, vec![0, 1, 1, 2], 3)]);
    // Before whatever is held out; w has nothing to hold out.
    assert_eq!(data.training(), [&[0, 1, 1][..], &[4], &[1, 2]]);
    assert_eq!(data.cases(Split::Test)[0].behaviours, [0, 0, 1]);
    assert_eq!(data.without_repeats(), data, "a first interaction is no purchase");
}

/// Scores that tell what was asked: 1 for the last item of the history that was bought, and an
/// answer that is not valid when nothing was.
struct Echo;

impl Scorer for Echo {
    fn num_items(&self) -> usize {
        5
    }

    async fn score_batch(&self, _: &[&[u32]]) -> Result<Vec<f32>> {
        Err(Error::Internal("evaluation asks questions, never for all scores".into()))
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        let answer = |question: &Question<'_>| {
            assert_eq!(question.target_behaviour, Some("buy"));
            assert_eq!(question.items.len(), question.behaviours.len());
            let candidates = question.candidates.expect("candidates are drawn");
            let bought = question.behaviours.contains(&"buy");
            let score = |&item: &u32| if item == 2 { 1.0 } else { 0.0 };
            Scores { scores: candidates.iter().map(score).collect(), valid: bought, read: None }
        };
        Ok(questions.iter().map(answer).collect())
    }
}

#[test]
fn a_scorer_sees_behaviours_and_candidates_and_may_give_no_valid_answer() {
    let mut data = data(BEHAVIOURS);
    data.hold_out("buy").unwrap();
    let candidates = Candidates::Sampled { num_candidates: 2, seed: 3 };
    let options = EvaluateOptions { candidates, k: vec![1, 20], ..Default::default() };
    let found = evaluate(&Echo, &data.catalogue.clone(), &data, &options, |_, _| ()).unwrap();
    // u touches all but i4, v all but i0, i1 and i3.
    let id = |user: usize, place: usize| found.sets[user].candidates[place].as_str().to_string();
    assert_eq!(HashSet::from([id(0, 0), id(0, 1)]), HashSet::from(["i2".into(), "i4".into()]));
    assert!(!found.sets[1].candidates.contains(&"i4".into()), "{:?}", found.sets[1]);
    assert_eq!(found.ranks(), [Some(0), None]);
    assert_eq!((found.valid_ratio, found.metrics["hit_rate@1"]), (0.5, 0.5));
    assert_eq!(found.metrics["hit_rate@20"], 0.5, "an answer that names nothing hits nothing");
    assert_eq!(found.target_behaviour.as_deref(), Some("buy"));
}

#[test]
fn stored_candidates_are_ranked_again_by_everybody() {
    let folder = Folder::new("candidates");
    let path = folder.path().join("sets.jsonl");
    let candidates = Candidates::Sampled { num_candidates: 3, seed: 5 };
    let options = EvaluateOptions { candidates, ..Default::default() };
    let drawn = run(&options).unwrap();
    assert_eq!(run(&options).unwrap().sets, drawn.sets, "the same seed, the same order");
    write_candidates(&path, &drawn.sets).unwrap();
    let sets = read_candidates(&path).unwrap();
    assert_eq!(sets, drawn.sets);
    let candidates = Candidates::Given(sets.clone());
    let given = run(&EvaluateOptions { candidates, ..Default::default() }).unwrap();
    assert_eq!(given.sets, drawn.sets);
    // The user of the unknown target has no set.
    assert_eq!(given.ranks(), drawn.ranks()[..2]);
    assert_eq!((given.valid_ratio, given.users), (1.0, 2));

    let mut wrong = sets.clone();
    wrong[1].user = "nobody".into();
    let mut moved = sets.clone();
    moved[0].target = moved[0].candidates.iter().find(|id| **id != sets[0].target).unwrap().clone();
    let twice = vec![sets[0].clone(), sets[0].clone()];
    for (sets, says) in [(wrong, "nobody"), (moved, "the target i4"), (twice, "twice")] {
        let candidates = Candidates::Given(sets);
        let error = run(&EvaluateOptions { candidates, ..Default::default() }).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    for (line, says) in [
        ("", "at least one set"),
        ("{}", "line 1"),
        (r#"{"user":"u","target":"a","candidates":["b"]}"#, "the target among"),
        (r#"{"user":"u","target":"a","candidates":["a","b","b"]}"#, "b twice"),
    ] {
        let error = read_candidates(&folder.write("bad.jsonl", line)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
