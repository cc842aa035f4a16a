//! Pointing: an answer begins with an item's token, then comes the name.

use std::sync::Arc;

use pollster::block_on;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::llama::Rows;
use tributary_core::nn::KvUse;
use tributary_core::prompt::{
    AnswerRule, Level, PromptBuilder, PromptOptions, PromptRequest, SOFT_TOKEN_ID, SoftKind,
    Template,
};
use tributary_core::recommend::{
    Decoding, Recommendations, Recommender, Request, TmfConfig, TmfRecommender, name_tokens,
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
fn a_score_is_the_smooth_maximum_over_the_items_of_the_history_and_the_last_row() {
    let b = Cpu::new();
    for level in [Level::Text, Level::Behaviour, Level::Item] {
        let config = pointing(level);
        let parts = parts(&b);
        let (llama, names) = (parts.model.clone(), Arc::new(parts.tokenizer.clone()));
        let (fusion, tables) = parts.fusion.clone().unwrap();
        let mut prompts = PromptBuilder::new(
            &names,
            std::slice::from_ref(&parts.template),
            &config.behaviours,
            config.prompt,
        )
        .unwrap();
        TITLES.iter().for_each(|title| prompts.names_mut().push(title, "id"));
        let candidates: Vec<u32> = SIX.iter().map(|id| id[1..].parse().unwrap()).collect();
        let prompt = prompts
            .build(&PromptRequest {
                template: 0,
                level,
                history: &[(3, 0), (5, 1), (7, 2), (5, 0)],
                target_behaviour: 2,
                candidates: &candidates,
                listed: false,
                seed: config.seed,
                answer: None,
            })
            .unwrap();
        assert!(prompt.soft.iter().all(|s| !matches!(s.kind, SoftKind::Candidate { .. })));
        let mut hidden = llama.embed(&b, &prompt.token_ids).unwrap();
        let history: Vec<u32> = vec![3, 5, 7, 5];
        let fused = tables.tokens(&b, &fusion, &history, &Segments::one(4).unwrap()).unwrap();
        for soft in &prompt.soft {
            let row = match soft.kind {
                SoftKind::Behaviour(behaviour) => fusion.behaviour_tokens(&b, &[behaviour]),
                SoftKind::History { place, .. } => b.gather_rows(&fused, &[place as u32]),
                SoftKind::Candidate { .. } => continue,
            };
            b.scatter_rows(&mut hidden, &[soft.position as u32], &row.unwrap()).unwrap();
        }
        let segments = Segments::one(prompt.token_ids.len()).unwrap();
        let positions = segments.positions(0);
        let rows = Rows { segments: &segments, positions: &positions };
        let hidden = llama.forward(&b, hidden, rows, KvUse::None, None).unwrap();
        let tokens = match level {
            Level::Item => {
                let alone = Segments::new(&[1; 6]).unwrap();
                tables.tokens(&b, &fusion, &candidates, &alone).unwrap()
            }
            _ => {
                let names: Vec<_> =
                    candidates.iter().map(|&i| prompts.names().tokens(i).unwrap()).collect();
                name_tokens(&b, &llama, &names).unwrap()
            }
        };
        let mut asked: Vec<u32> = prompt.event_rows.iter().map(|&row| row as u32).collect();
        assert_eq!(asked.len(), 4, "{level:?}");
        asked.push(prompt.token_ids.len() as u32 - 1);
        let products = b.similarity(&b.gather_rows(&hidden, &asked).unwrap(), &tokens).unwrap();
        let logit = |candidate: usize| {
            let rows = products.data().chunks_exact(6);
            rows.map(|row| f64::from(row[candidate]).exp()).sum::<f64>()
        };
        let all: f64 = (0..6).map(logit).sum();
        let model = TmfRecommender::new(b, parts, config).unwrap();
        let answer = block_on(model.recommend(&request())).unwrap();
        for (place, id) in SIX.iter().enumerate() {
            let found = answer.items.iter().find(|item| item.id.as_str() == *id).unwrap().score;
            let expected = (logit(place) / all).ln();
            assert!(
                (f64::from(found) - expected).abs() < 1e-4,
                "{level:?} {id}: {found} {expected}"
            );
        }
    }
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
        // An answer is no part of the next prompt; the history before it is cached.
        let again = block_on(model.recommend(&request())).unwrap();
        assert_eq!(ids(&again), ids(&best), "{backend}");
        for (again, best) in again.items.iter().zip(&best.items) {
            assert!((again.score - best.score).abs() < 1e-4, "{backend}: {again:?}");
        }
        let (cached, all) = (again.usage.cached_tokens, again.usage.prompt_tokens);
        let same = block_on(model.recommend(&request())).unwrap().usage;
        assert_eq!((same.cached_tokens + 1, same.prompt_tokens), (all, all), "{backend}");
        assert!(cached + 1 < all && 2 * cached > all, "{backend}: {cached} of {all}");
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
            listed: true,
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
