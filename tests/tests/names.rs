//! Names as a trie: the answer is always one of them, chosen as if every step saw all logits; packed
//! likelihoods are those of names scored one by one.

use std::sync::Arc;

use pollster::block_on;
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::llama::{Llama, LlamaConfig, TokenId};
use tributary_core::prompt::AnswerRule;
use tributary_core::session::{Likelihood, Sampler, Sampling, Session, Trie};
use tributary_core::weights::Weights;
use tributary_tests::language::open;
use tributary_tests::{indices, on_each_backend};

const VOCABULARY: usize = 73;
const END: TokenId = 72;

fn model<B: Backend>(b: &B) -> Arc<Llama<B>> {
    let files = open("llama-gqa");
    let config = LlamaConfig::parse("config.json", &files.config).unwrap();
    let config = LlamaConfig { max_position_embeddings: 512, ..config };
    Arc::new(Llama::load(&Weights::new(b, &files.checkpoint), config).unwrap())
}

fn session<B: Backend>(b: &B, model: &Arc<Llama<B>>, prompt: &[TokenId]) -> Session<B> {
    let mut session = Session::new(b.clone(), model.clone(), 512).unwrap();
    session.prefill(prompt).unwrap();
    session
}

/// Names with common beginnings, one the beginning of another, one twice, one empty.
fn names() -> Vec<Vec<TokenId>> {
    let mut names = vec![
        vec![5, 9, 11],
        vec![5, 9],
        vec![5, 9, 11, 3],
        vec![7],
        vec![5, 40, 2],
        vec![5, 9],
        vec![],
        vec![61, 61, 61, 61, 61, 2],
        vec![61, 61, 61, 61, 61, 3],
    ];
    names.extend((0..6).map(|seed| indices(seed + 50, 4, VOCABULARY - 1)));
    names
}

/// Logits of the whole vocabulary after each beginning, by a session of its own.
fn logits<B: Backend>(b: &B, model: &Arc<Llama<B>>, sequence: &[TokenId]) -> Vec<f64> {
    let logits = block_on(session(b, model, sequence).logits(None)).unwrap();
    logits.into_iter().map(f64::from).collect()
}

fn log_share(logits: &[f64], token: TokenId, among: &[TokenId]) -> f64 {
    let total: f64 = among.iter().map(|&token| logits[token as usize].exp()).sum();
    logits[token as usize] - total.ln()
}

/// Tokens that may follow `path` under `names`.
fn allowed(names: &[Vec<TokenId>], path: &[TokenId]) -> Vec<TokenId> {
    let ended = names.iter().map(|name| [name.as_slice(), &[END]].concat());
    let mut next: Vec<TokenId> =
        ended.filter_map(|name| name.strip_prefix(path)?.first().copied()).collect();
    next.sort_unstable();
    next.dedup();
    next
}

#[test]
fn the_chosen_name_is_the_best_allowed_token_at_every_step() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        let names = names();
        let trie = Trie::new(&names, END).unwrap();
        for seed in 0..4 {
            let prompt = indices(seed, 30, VOCABULARY);
            let mut path: Vec<TokenId> = Vec::new();
            while path.last() != Some(&END) {
                let logits = logits(&b, &model, &[prompt.as_slice(), &path].concat());
                let allowed = allowed(&names, &path);
                let best = |x: &&TokenId, y: &&TokenId| {
                    logits[**x as usize].total_cmp(&logits[**y as usize])
                };
                path.push(*allowed.iter().max_by(best).unwrap());
            }
            path.pop();
            let mut session = session(&b, &model, &prompt);
            let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
            let choice = block_on(session.choose(&trie, &mut greedy)).unwrap();
            assert_eq!(choice.token_ids, path, "{backend}, prompt {seed}");
            let places: Vec<_> = (0..names.len()).filter(|&i| names[i] == path).collect();
            assert_eq!(choice.names, places, "{backend}, prompt {seed}");
            // The session is where it was: the same choice again, and plain logits go on.
            assert_eq!(session.tokens(), prompt);
            assert_eq!(block_on(session.choose(&trie, &mut greedy)).unwrap(), choice);
            assert!(block_on(session.logits(None)).is_ok());
        }
    });
}

#[test]
fn a_sampled_answer_is_always_a_name() {
    let b = Cpu::new();
    let model = model(&b);
    let names = names();
    let trie = Trie::new(&names, END).unwrap();
    let mut session = session(&b, &model, &indices(3, 20, VOCABULARY));
    let sampling = Sampling::Random { temperature: 3.0, top_k: 0, top_p: 1.0, seed: 1 };
    let mut sampler = Sampler::new(sampling).unwrap();
    let scores = block_on(session.score_names(&trie, Likelihood::Constrained)).unwrap();
    assert_eq!(scores.len(), names.len());
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        let choice = block_on(session.choose(&trie, &mut sampler)).unwrap();
        assert!(choice.names.iter().all(|&name| names[name] == choice.token_ids));
        assert!(!choice.names.is_empty());
        seen.insert(choice.token_ids);
    }
    assert!(seen.len() > 5, "a hot sampler chose {} names only", seen.len());
}

#[test]
fn packed_scores_are_those_of_names_scored_one_by_one() {
    on_each_backend!(backend, b => {
        let model = model(&b);
        let names = names();
        let prompt = indices(11, 41, VOCABULARY);
        let session = session(&b, &model, &prompt);
        let trie = Trie::new(&names, END).unwrap();
        let score = |likelihood| block_on(session.score_names(&trie, likelihood)).unwrap();
        let sums = score(Likelihood::Sum);
        let means = score(Likelihood::Mean);
        let constrained = score(Likelihood::Constrained);
        assert_eq!(session.tokens(), prompt, "scoring leaves the sequence as it is");
        let all: Vec<TokenId> = (0..VOCABULARY as TokenId).collect();
        for (place, name) in names.iter().enumerate() {
            let (mut full, mut narrow, mut path) = (0.0, 0.0, Vec::new());
            for &token in name.iter().chain([&END]) {
                let logits = logits(&b, &model, &[prompt.as_slice(), &path].concat());
                full += log_share(&logits, token, &all);
                narrow += log_share(&logits, token, &allowed(&names, &path));
                path.push(token);
            }
            for (kind, found, expected) in [
                ("sum", sums[place], full),
                ("mean", means[place], full / path.len() as f64),
                ("constrained", constrained[place], narrow),
            ] {
                let far = (f64::from(found) - expected).abs();
                assert!(far < 2e-4, "{backend} {kind} of {name:?}: {found} is not {expected}");
            }
        }
        // Equal names once: the rest is a distribution.
        let total: f64 = (0..names.len())
            .filter(|&i| !names[..i].contains(&names[i]))
            .map(|i| f64::from(constrained[i]).exp())
            .sum();
        assert!((total - 1.0).abs() < 1e-4, "{backend}: {total}");
        // The same numbers as the scores of plain token lists.
        let ended: Vec<Vec<TokenId>> =
            names.iter().map(|name| [name.as_slice(), &[END]].concat()).collect();
        for (tokens, sum) in block_on(session.score(&ended)).unwrap().iter().zip(&sums) {
            let plain: f32 = tokens.iter().sum();
            assert!((plain - sum).abs() < 2e-4, "{backend}: {plain} is not {sum}");
        }
    });
}

#[test]
fn thousands_of_names_are_scored_in_several_passes() {
    let b = Cpu::new();
    let model = model(&b);
    let names: Vec<Vec<TokenId>> =
        (0..700).map(|seed| indices(seed, 2 + seed as usize % 9, VOCABULARY - 1)).collect();
    let session = session(&b, &model, &indices(12, 10, VOCABULARY));
    let trie = Trie::new(&names, END).unwrap();
    let scores = block_on(session.score_names(&trie, Likelihood::Sum)).unwrap();
    for place in [0, 350, 699] {
        let alone = Trie::new(&names[place..=place], END).unwrap();
        let alone = block_on(session.score_names(&alone, Likelihood::Sum)).unwrap();
        assert!((alone[0] - scores[place]).abs() < 2e-4, "name {place}");
    }
}

#[test]
fn one_name_alone_is_certain_and_costs_nothing() {
    let b = Cpu::new();
    let model = model(&b);
    let mut session = session(&b, &model, &indices(12, 10, VOCABULARY));
    let trie = Trie::new(&[vec![1, 2, 3]], END).unwrap();
    let scores = block_on(session.score_names(&trie, Likelihood::Constrained)).unwrap();
    assert_eq!(scores, [0.0]);
    let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
    let choice = block_on(session.choose(&trie, &mut greedy)).unwrap();
    assert_eq!((choice.names, choice.token_ids), (vec![0], vec![1, 2, 3]));
}

#[test]
fn what_cannot_be_chosen_among_is_an_error() {
    let b = Cpu::new();
    let model = model(&b);
    let error = Trie::new(&[vec![1], vec![2, END]], END).unwrap_err().to_string();
    assert!(error.contains("name 1") && error.contains("72"), "{error}");
    let none = Trie::new(&Vec::<Vec<TokenId>>::new(), END).unwrap();
    let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
    let mut full = session(&b, &model, &indices(1, 9, VOCABULARY));
    assert!(none.is_empty() && block_on(full.choose(&none, &mut greedy)).is_err());
    assert_eq!(block_on(full.score_names(&none, Likelihood::Sum)).unwrap(), [0.0f32; 0]);

    let names = Trie::new(&[vec![1, 2, 3, 4], vec![1, 2, 3, 5]], END).unwrap();
    let mut empty = Session::new(b, model.clone(), 10).unwrap();
    assert!(block_on(empty.choose(&names, &mut greedy)).is_err(), "nothing was prefilled");
    assert!(block_on(empty.score_names(&names, Likelihood::Sum)).is_err());
    // A name that does not fit into the context leaves the session usable.
    empty.prefill(&indices(1, 8, VOCABULARY)).unwrap();
    assert!(block_on(empty.choose(&names, &mut greedy)).is_err());
    assert!(block_on(empty.score_names(&names, Likelihood::Sum)).is_err());
    assert_eq!(empty.tokens().len(), 8);
    assert!(block_on(empty.logits(None)).is_ok());
}

#[test]
fn an_answer_is_exactly_one_candidate() {
    let names = ["Tent", "Red tent", "Boots", "", "Boots"];
    for (text, exact, contains) in [
        ("Tent", Some(0), Some(0)),
        (" Red tent \nand more", Some(1), None),
        ("\n\nTent\n", Some(0), Some(0)),
        ("tent", None, Some(0)),
        ("I choose tent.", None, Some(0)),
        ("Boots", None, None),
        ("Tents", None, Some(0)),
        ("Ten", None, None),
        ("", None, None),
        ("\n", None, None),
    ] {
        assert_eq!(AnswerRule::Exact.read(text, &names), exact, "{text:?}");
        assert_eq!(AnswerRule::Contains.read(text, &names), contains, "{text:?}");
    }
}
