//! Pointing: an answer begins with an item's token, then comes the name.

use std::sync::Arc;

use pollster::block_on;
use tributary_core::backend::Backend;
use tributary_core::prompt::{
    AnswerRule, Level, PromptBuilder, PromptOptions, PromptRequest, SOFT_TOKEN_ID, SoftKind,
    Template,
};
use tributary_core::recommend::{
    Decoding, Recommendations, Recommender, Request, TmfConfig, TmfRecommender,
};
use tributary_core::session::Sampling;
use tributary_tests::on_each_backend;
use tributary_tests::tiny_sasrec::{candidates, ids};
use tributary_tests::tiny_tmf::{TITLES, config, history, parts};
use tributary_tests::tiny_tokenizer::bytes;

/// Item 1 with two behaviours in a row: one entry.
const HISTORY: [(u32, u32); 4] = [(0, 0), (1, 1), (1, 2), (5, 0)];
const SIX: [&str; 6] = ["t0", "t1", "t2", "t4", "t6", "t8"];

fn pointing(level: Level) -> TmfConfig {
    let config = config(level);
    TmfConfig { prompt: PromptOptions { pointer: true, ..config.prompt }, ..config }
}

fn model<B: Backend>(b: &B) -> TmfRecommender<B> {
    TmfRecommender::new(b.clone(), parts(b), pointing(Level::Item)).unwrap()
}

fn request() -> Request {
    Request {
        history: history(&[("t3", "view"), ("t5", "cart"), ("t7", "buy"), ("t5", "view")]),
        candidates: candidates(&SIX),
        ..Request::default()
    }
}

#[test]
fn scores_are_log_probabilities_of_tokens_on_every_backend() {
    let mut first: Option<Recommendations> = None;
    on_each_backend!(backend, b => {
        let answer = block_on(model(&b).recommend(&request())).unwrap();
        let expected = first.get_or_insert_with(|| answer.clone());
        assert_eq!(ids(&answer), ids(expected), "{backend}");
        let sum: f32 = answer.items.iter().map(|item| item.score.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{backend}: {sum}");
        for (found, expected) in answer.items.iter().zip(&expected.items) {
            assert!((found.score - expected.score).abs() < 1e-4, "{backend}: {found:?}");
        }
        // Items with one name are still two tokens.
        let score = |id: &str| answer.items.iter().find(|i| i.id.as_str() == id).unwrap().score;
        assert!(score("t2") != score("t6"), "{backend}");
    });
}

#[test]
fn what_is_written_is_what_was_pointed_at() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        let best = block_on(model.recommend(&request())).unwrap();
        let answer = block_on(model.answer(&request(), Decoding::Constrained, Sampling::Greedy));
        let answer = answer.unwrap();
        assert_eq!(answer.item.as_ref().map(|id| id.as_str()), Some(ids(&best)[0]), "{backend}");
        let place: usize = ids(&best)[0][1..].parse().unwrap();
        assert_eq!(answer.text, TITLES[place], "{backend}");
        // Random weights do not copy a name behind its token.
        let free = Decoding::Free(AnswerRule::Exact);
        let free = block_on(model.answer(&request(), free, Sampling::Greedy)).unwrap();
        assert!(!free.valid && !free.text.is_empty(), "{backend}: {free:?}");
        // An answer is no part of the next prompt, and all but the last token of that is cached.
        let again = block_on(model.recommend(&request())).unwrap();
        assert_eq!(ids(&again), ids(&best), "{backend}");
        for (again, best) in again.items.iter().zip(&best.items) {
            assert!((again.score - best.score).abs() < 1e-4, "{backend}: {again:?}");
        }
        let (cached, all) = (again.usage.cached_tokens, again.usage.prompt_tokens);
        assert_eq!(cached + 1, all, "{backend}");
        let mut drawn = std::collections::HashSet::new();
        for seed in 1..20 {
            let sampling = Sampling::Random { temperature: 3.0, top_k: 0, top_p: 1.0, seed };
            let answer = block_on(model.answer(&request(), Decoding::Constrained, sampling));
            drawn.insert(answer.unwrap().item.unwrap());
        }
        assert!(drawn.len() > 1, "{backend}: {drawn:?}");
    });
}

#[test]
fn an_answer_begins_with_its_items_token_where_items_have_one() {
    let (titles, templates) = (TITLES, Template::defaults().unwrap());
    let build = |level: Level, pointer: bool| {
        let config = config(level);
        let options = PromptOptions { pointer, ..config.prompt };
        let tokenizer = Arc::new(bytes());
        let mut builder =
            PromptBuilder::new(&tokenizer, &templates, &config.behaviours, options).unwrap();
        titles.iter().for_each(|title| builder.names_mut().push(title, "id"));
        let request = PromptRequest {
            template: 0,
            level,
            history: &HISTORY,
            target_behaviour: 2,
            candidates: &[4, 2, 3],
            seed: 1,
            answer: Some(1),
        };
        builder.build(&request).unwrap()
    };
    let (plain, pointed) = (build(Level::Item, false), build(Level::Item, true));
    let asked = plain.answer.start;
    assert_eq!(pointed.token_ids[..asked], plain.token_ids[..asked]);
    assert_eq!(pointed.token_ids[asked], SOFT_TOKEN_ID);
    assert_eq!(pointed.token_ids[asked + 1..], plain.token_ids[asked..]);
    assert_eq!(pointed.answer, asked..pointed.token_ids.len());
    let (last, before) = pointed.soft.split_last().unwrap();
    assert_eq!(before, plain.soft);
    assert_eq!((last.position, last.kind), (asked, SoftKind::Candidate { item: 2, place: 1 }));
    assert_eq!(build(Level::Behaviour, true), build(Level::Behaviour, false));

    // Behind these positions the items of the history are named.
    let items: Vec<u32> = pointed.history_rows.iter().map(|(_, item)| *item).collect();
    assert_eq!(items, [0, 1, 5]);
    let tokenizer = bytes();
    for (row, item) in pointed.history_rows {
        let rest: Vec<u32> = pointed.token_ids[row + 1..]
            .iter()
            .copied()
            .take_while(|t| *t != SOFT_TOKEN_ID)
            .collect();
        let text = tokenizer.decode(&rest, true).unwrap();
        assert_eq!(text.trim(), titles[item as usize]);
    }
}
