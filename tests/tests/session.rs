//! Sessions: caches change what is computed, never what comes out.
#![expect(clippy::clone_on_copy, reason = "one body serves backends that are Copy and others")]

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use pollster::block_on;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::llama::{Llama, LlamaConfig, Rows, TokenId};
use tributary_core::nn::KvUse;
use tributary_core::session::{
    FinishReason, PrefixCache, Sampler, Sampling, Session, SoftTokens, StopRules, Usage,
};
use tributary_core::weights::Weights;
use tributary_tests::language::open;
use tributary_tests::{assert_parity, indices, on_each_backend, uniform};

/// Sums in another order than the pass without a cache.
const BOUND: f64 = 1e-10;

fn model<B: Backend>(b: &B) -> Arc<Llama<B>> {
    let files = open("llama-gqa");
    let config = LlamaConfig::parse("config.json", &files.config).unwrap();
    let config = LlamaConfig { max_position_embeddings: 512, ..config };
    Arc::new(Llama::load(&Weights::new(b, &files.checkpoint), config).unwrap())
}

fn tokens(seed: u64, n: usize) -> Vec<TokenId> {
    indices(seed, n, 73)
}

fn logits<B: Backend>(session: &Session<B>) -> Vec<f32> {
    pollster::block_on(session.logits(None)).unwrap()
}

fn truth<B: Backend>(b: &B, model: &Arc<Llama<B>>, prompt: &[TokenId]) -> Vec<f64> {
    let mut session = Session::new(b.clone(), model.clone(), 512).unwrap();
    session.prefill(prompt).unwrap();
    logits(&session).into_iter().map(f64::from).collect()
}

#[test]
fn appended_tokens_equal_one_prompt() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        let prompt = tokens(1, 150);
        let mut session = Session::new(b.clone(), model.clone(), 512).unwrap();
        session.prefill(&prompt[..1]).unwrap();
        for part in [&prompt[1..2], &prompt[2..69], &prompt[69..70], &prompt[70..150]] {
            session.append(part).unwrap();
        }
        assert_parity(backend, &logits(&session), &truth(&b, &model, &prompt), BOUND);
        // The session goes back to what a new prompt shares with it, and no further.
        let mut other = prompt[..100].to_vec();
        other.extend(tokens(2, 20));
        let usage = session.prefill(&other).unwrap();
        assert_eq!(usage, Usage { prompt_tokens: 120, cached_tokens: 100 });
        assert_parity(backend, &logits(&session), &truth(&b, &model, &other), BOUND);
    });
}

#[test]
fn a_prefix_cache_gives_the_same_logits_for_fewer_tokens() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        let prefixes = Arc::new(Mutex::new(PrefixCache::new(1 << 22)));
        let session = || {
            Session::new(b.clone(), model.clone(), 512).unwrap().with_prefix_cache(prefixes.clone())
        };
        let prompt = tokens(3, 200);
        let mut first = session();
        assert_eq!(first.prefill(&prompt).unwrap().cached_tokens, 0);
        for (len, cached) in [(200, 192), (193, 192), (192, 128), (130, 128), (64, 0), (10, 0)] {
            let mut later = session();
            let usage = later.prefill(&prompt[..len]).unwrap();
            assert_eq!(usage, Usage { prompt_tokens: len, cached_tokens: cached }, "{backend}");
            let truth = truth(&b, &model, &prompt[..len]);
            assert_parity(&format!("{backend} {len} of 200"), &logits(&later), &truth, BOUND);
        }
        // Another beginning shares nothing, though its later tokens are equal.
        let mut other = prompt.clone();
        other[0] = (other[0] + 1) % 73;
        let mut later = session();
        assert_eq!(later.prefill(&other).unwrap().cached_tokens, 0);
        assert_parity(backend, &logits(&later), &truth(&b, &model, &other), BOUND);
    });
}

/// Hidden size of the fixture.
const HIDDEN: usize = 30;

#[test]
fn soft_tokens_give_the_same_logits_with_and_without_caches() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        assert_eq!(model.config().hidden_size, HIDDEN);
        let prompt = tokens(31, 200);
        let positions = [0u32, 3, 64, 65, 127, 150, 199];
        let identities = [10u64, 20, 30, 10, 50, 60, 70];
        let mut values = uniform(32, positions.len() * HIDDEN);
        values.copy_within(0..HIDDEN, 3 * HIDDEN); // one identity, one row
        let rows = b.upload(&values, [positions.len(), HIDDEN]).unwrap();
        let soft = SoftTokens { positions: &positions, identities: &identities, rows: &rows };
        // The truth: one pass over embeddings that hold the rows, without session or cache.
        let truth = |len: usize, rows: &_| {
            let count = positions.iter().filter(|&&p| (p as usize) < len).count();
            let which: Vec<u32> = (0..count as u32).collect();
            let rows = b.gather_rows(rows, &which).unwrap();
            let hidden = model.embed_soft(&b, &prompt[..len], &positions[..count], &rows).unwrap();
            let segments = Segments::one(len).unwrap();
            let places = segments.positions(0);
            let at = Rows {
                segments: &segments,
                positions: &places,
            };
            let none = KvUse::None;
            let hidden = model.forward(&b, hidden, at, none, None).unwrap();
            let last = b.gather_rows(&hidden, &segments.last_rows()).unwrap();
            let logits = pollster::block_on(b.read(&model.logits(&b, &last).unwrap())).unwrap();
            logits.into_iter().map(f64::from).collect::<Vec<_>>()
        };
        let expected = truth(200, &rows);
        let prefixes = Arc::new(Mutex::new(PrefixCache::new(1 << 22)));
        let session = || {
            Session::new(b.clone(), model.clone(), 512).unwrap().with_prefix_cache(prefixes.clone())
        };
        for cached in [0, 192] {
            let mut session = session();
            let usage = session.prefill_soft(&prompt, &soft).unwrap();
            assert_eq!(usage, Usage { prompt_tokens: 200, cached_tokens: cached }, "{backend}");
            assert_parity(&format!("{backend} {cached}"), &logits(&session), &expected, BOUND);
            // The same again reuses all but the last token.
            assert_eq!(session.prefill_soft(&prompt, &soft).unwrap().cached_tokens, 199);
            assert_parity(&format!("{backend} again"), &logits(&session), &expected, BOUND);
        }
        // Another item at one place: cached up to there, in the session and in the prefix cache.
        let mut changed = identities;
        changed[4] = 51;
        values[4 * HIDDEN..5 * HIDDEN].fill(0.25);
        let other_rows = b.upload(&values, [positions.len(), HIDDEN]).unwrap();
        let other = SoftTokens { positions: &positions, identities: &changed, rows: &other_rows };
        let mut later = session();
        assert_eq!(later.prefill_soft(&prompt, &other).unwrap().cached_tokens, 64);
        let expected = truth(200, &other_rows);
        assert_parity(&format!("{backend} other"), &logits(&later), &expected, BOUND);
        assert_eq!(later.prefill_soft(&prompt, &soft).unwrap().cached_tokens, 192);
        // Plain text shares nothing that a soft token stands in.
        assert_eq!(later.prefill(&prompt).unwrap().cached_tokens, 0);
    });
}

#[test]
fn states_are_those_of_one_pass_wherever_they_were_cached() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        let prompt = tokens(5, 300);
        let rows = [0u32, 63, 64, 130, 255, 256, 299];
        let segments = Segments::one(300).unwrap();
        let positions = segments.positions(0);
        let at = Rows { segments: &segments, positions: &positions };
        let hidden = model.embed(&b, &prompt).unwrap();
        let hidden = model.forward(&b, hidden, at, KvUse::None, None).unwrap();
        let expected = block_on(b.read(&b.gather_rows(&hidden, &rows).unwrap())).unwrap();
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        let prefixes = Arc::new(Mutex::new(PrefixCache::new(1 << 22)));
        for cached in [0, 256] {
            let session = Session::new(b.clone(), model.clone(), 512).unwrap();
            let mut session = session.with_prefix_cache(prefixes.clone()).with_states().unwrap();
            assert_eq!(session.prefill(&prompt).unwrap().cached_tokens, cached, "{backend}");
            for again in ["", " again"] {
                let found = block_on(b.read(&session.states(&rows).unwrap())).unwrap();
                assert_parity(&format!("{backend} {cached}{again}"), &found, &expected, BOUND);
                // What was another prompt in between leaves nothing behind.
                session.prefill(&tokens(6, 20)).unwrap();
                assert!(session.states(&rows).is_err(), "{backend}");
                session.prefill(&prompt).unwrap();
            }
        }
        let mut without = Session::new(b.clone(), model.clone(), 512).unwrap();
        without.prefill(&prompt).unwrap();
        let error = without.states(&rows).unwrap_err().to_string();
        assert!(error.contains("a cache with states"), "{error}");
    });
}

#[test]
fn soft_tokens_that_do_not_fit_are_errors() {
    let b = Cpu::new();
    let model = model(&b);
    let mut session = Session::new(b, model, 64).unwrap();
    let rows = |n: usize, width: usize| b.upload(&vec![0.1; n * width], [n, width]).unwrap();
    let prompt = tokens(1, 10);
    let good = rows(2, HIDDEN);
    let cases: [(&str, &[u32], &[u64], _); 5] = [
        ("identities", &[1, 2], &[1], good.clone()),
        ("rows", &[1, 2], &[1, 2], rows(2, HIDDEN - 1)),
        ("rows", &[1, 2], &[1, 2], rows(3, HIDDEN)),
        ("positions", &[2, 2], &[1, 2], good.clone()),
        ("below 10", &[1, 10], &[1, 2], good.clone()),
    ];
    for (part, positions, identities, rows) in cases {
        let soft = SoftTokens { positions, identities, rows: &rows };
        let error = session.prefill_soft(&prompt, &soft).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let none = SoftTokens { positions: &[], identities: &[], rows: &rows(0, HIDDEN) };
    assert_eq!(session.prefill_soft(&prompt, &none).unwrap().prompt_tokens, 10);
    assert_eq!(session.prefill(&prompt).unwrap().cached_tokens, 9, "it is plain text");
}

#[test]
fn the_prefix_cache_keeps_to_its_budget() {
    let b = Cpu::new();
    let model = model(&b);
    // One block: 64 rows, 3 layers, keys and values, 2 heads of 10.
    let block = 64 * 3 * 2 * 20 * 4;
    let prefixes = Arc::new(Mutex::new(PrefixCache::new(3 * block + 1)));
    let prefill = |prompt: &[TokenId]| {
        let session = Session::new(b, model.clone(), 512).unwrap();
        session.with_prefix_cache(prefixes.clone()).prefill(prompt).unwrap().cached_tokens
    };
    let (one, two) = (tokens(4, 140), tokens(5, 140));
    assert_eq!(prefill(&one), 0);
    assert_eq!(prefixes.lock().unwrap().bytes(), 2 * block);
    assert_eq!(prefill(&two), 0);
    let held = prefixes.lock().unwrap();
    assert_eq!((held.bytes(), held.len()), (3 * block, 3), "the oldest block left");
    drop(held);
    assert_eq!(prefill(&two), 128);
    assert_eq!(prefill(&one), 64, "the child left before its parent");
}

#[test]
fn packed_candidates_score_as_if_alone() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        let prompt = tokens(6, 70);
        let candidates: Vec<Vec<TokenId>> =
            [1, 5, 2, 1, 9].iter().zip(10..).map(|(&n, seed)| tokens(seed, n)).collect();
        let mut session = Session::new(b.clone(), model.clone(), 512).unwrap();
        session.prefill(&prompt).unwrap();
        let scores = pollster::block_on(session.score(&candidates)).unwrap();
        assert_eq!(session.tokens(), prompt, "scoring leaves the sequence as it is");
        for (candidate, scores) in candidates.iter().zip(&scores) {
            let mut sequence = prompt.clone();
            for (token, score) in candidate.iter().zip(scores) {
                let logits = truth(&b, &model, &sequence);
                let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
                let expected = logits[*token as usize] - total.ln();
                let far = (f64::from(*score) - expected).abs();
                assert!(far < 1e-4, "{backend}: {score} is not {expected} for {candidate:?}");
                sequence.push(*token);
            }
        }
        assert!(pollster::block_on(session.score(&[vec![]])).is_err());
        assert_eq!(pollster::block_on(session.score(&[])).unwrap(), Vec::<Vec<f32>>::new());
    });
}

#[test]
fn asked_logits_are_those_of_the_whole_vocabulary() {
    on_each_backend!(backend, b => {
        let mut session = Session::new(b.clone(), model(&b), 512).unwrap();
        session.prefill(&tokens(7, 33)).unwrap();
        let all = logits(&session);
        let asked = [72, 0, 5, 5, 31];
        let found = pollster::block_on(session.logits(Some(&asked))).unwrap();
        let truth: Vec<f64> = asked.iter().map(|&id| f64::from(all[id as usize])).collect();
        assert_parity(backend, &found, &truth, 1e-12);
        assert!(pollster::block_on(session.logits(Some(&[73]))).is_err(), "{backend}");
    });
}

fn generate(sampling: Sampling, stop: &StopRules) -> (Vec<TokenId>, FinishReason) {
    let b = Cpu::new();
    let mut session = Session::new(b, model(&b), 512).unwrap();
    session.prefill(&tokens(8, 20)).unwrap();
    let mut sampler = Sampler::new(sampling).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let generated = pollster::block_on(session.generate(&mut sampler, stop, go_on)).unwrap();
    (generated.token_ids, generated.finish_reason)
}

fn up_to(max_new_tokens: usize) -> StopRules {
    StopRules { max_new_tokens, stop_token_ids: Vec::new(), stop_sequences: Vec::new() }
}

#[test]
fn generation_stops_where_it_is_told() {
    let (all, reason) = generate(Sampling::Greedy, &up_to(12));
    assert_eq!((all.len(), reason), (12, FinishReason::Length));
    let first = all.iter().position(|token| *token == all[5]).unwrap();
    let stop = StopRules { stop_token_ids: vec![all[5]], ..up_to(12) };
    assert_eq!(generate(Sampling::Greedy, &stop), (all[..first].to_vec(), FinishReason::Stop));
    let sequence = all[3..6].to_vec();
    let first = all.windows(3).position(|window| window == sequence).unwrap();
    let stop = StopRules { stop_sequences: vec![vec![], sequence], ..up_to(12) };
    assert_eq!(generate(Sampling::Greedy, &stop), (all[..first].to_vec(), FinishReason::Stop));
    assert_eq!(generate(Sampling::Greedy, &up_to(0)).0, [0u32; 0]);
}

#[test]
fn generation_ends_with_the_context_and_by_the_caller() {
    let b = Cpu::new();
    let mut session = Session::new(b, model(&b), 25).unwrap();
    session.prefill(&tokens(8, 20)).unwrap();
    let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let generated = pollster::block_on(session.generate(&mut greedy, &up_to(99), go_on)).unwrap();
    // 5 more rows fit, and the last row's logits give one token more.
    assert_eq!((generated.token_ids.len(), generated.finish_reason), (6, FinishReason::Length));
    let error = session.append(&[1]).unwrap_err().to_string();
    assert!(error.contains("26") && error.contains("25"), "{error}");
    session.truncate(20);
    session.prefill(&tokens(8, 20)).unwrap();
    let once = |_| ControlFlow::Break(());
    let generated = pollster::block_on(session.generate(&mut greedy, &up_to(9), once)).unwrap();
    assert_eq!((generated.token_ids.len(), generated.finish_reason), (1, FinishReason::Cancelled));
    assert!(session.prefill(&[]).is_err());
    assert!(session.prefill(&tokens(1, 26)).is_err());
}

#[test]
fn sampling_is_seeded_and_keeps_to_its_cut() {
    let random = |temperature, top_k, top_p, seed| {
        generate(Sampling::Random { temperature, top_k, top_p, seed }, &up_to(40)).0
    };
    assert_eq!(random(1.0, 0, 1.0, 5), random(1.0, 0, 1.0, 5));
    assert_ne!(random(1.0, 0, 1.0, 5), random(1.0, 0, 1.0, 6));
    let greedy = generate(Sampling::Greedy, &up_to(40)).0;
    assert_eq!(random(1.0, 1, 1.0, 5), greedy, "the likeliest alone");
    assert_eq!(random(1.0, 0, 1e-6, 5), greedy, "the fewest that reach next to nothing");
    assert_eq!(random(1e-3, 0, 1.0, 5), greedy, "hardly any temperature");
    for (temperature, top_p) in [(0.0, 1.0), (-1.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.5)] {
        let sampling = Sampling::Random { temperature, top_k: 0, top_p, seed: 0 };
        assert!(Sampler::new(sampling).is_err(), "{temperature} {top_p}");
    }
}

#[test]
fn sampled_shares_follow_the_distribution() {
    let b = Cpu::new();
    let logits = [0.5f32, 0.2, 0.2, 0.1].map(f32::ln);
    let logits = b.upload(&logits, [1, 4]).unwrap();
    for (top_k, expected) in [(0, [0.5, 0.2, 0.2, 0.1]), (2, [0.5 / 0.7, 0.2 / 0.7, 0.0, 0.0])] {
        let sampling = Sampling::Random { temperature: 1.0, top_k, top_p: 1.0, seed: 3 };
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut counts = [0.0f64; 4];
        for _ in 0..20_000 {
            let token = pollster::block_on(sampler.next(&b, &logits)).unwrap();
            counts[token as usize] += 1.0 / 20_000.0;
        }
        for (found, expected) in counts.iter().zip(expected) {
            // Four standard deviations of a share of 20,000 draws are below 0.015.
            assert!((found - expected).abs() < 0.015, "top_k {top_k}: {counts:?}");
        }
    }
    let nothing = b.upload(&[f32::NAN; 4], [1, 4]).unwrap();
    let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
    assert!(pollster::block_on(greedy.next(&b, &nothing)).is_err(), "no finite logit");
}
