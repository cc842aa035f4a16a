//! Requests through the TMF recommender: prompt, soft tokens, ranking, answers, new items.
#![expect(clippy::clone_on_copy, reason = "one body serves backends that are Copy and others")]

use pollster::block_on;
use safetensors::Dtype;
use tributary_core::backend::cpu::Cpu;
use tributary_core::error::ErrorKind;
use tributary_core::prompt::{AnswerRule, Level};
use tributary_core::recommend::{
    CatalogueItem, Decoding, EmbeddingTable, Interaction, ItemId, Recommendations, Recommender,
    Request, TmfConfig, TmfRecommender,
};
use tributary_core::session::{Likelihood, Sampling};
use tributary_core::weights::{Checkpoint, NamedTensor, TensorSpec};
use tributary_tests::on_each_backend;
use tributary_tests::tiny_sasrec::{candidates, constant, ids, save};
use tributary_tests::tiny_tmf::{
    TITLES, WIDTHS, catalogue, config, embeddings, fusion, history, parts, recommender,
};
use tributary_tests::tiny_tokenizer::words;

fn request(candidate_ids: &[&str]) -> Request {
    Request {
        history: history(&[("t3", "view"), ("t5", "cart"), ("t7", "buy"), ("t5", "view")]),
        candidates: candidates(candidate_ids),
        ..Request::default()
    }
}

fn scores(answer: &Recommendations) -> Vec<f32> {
    answer.items.iter().map(|item| item.score).collect()
}

fn ask<R>(model: &TmfRecommender<Cpu, R>, request: &Request) -> Recommendations
where
    TmfRecommender<Cpu, R>: Recommender,
{
    block_on(model.recommend(request)).unwrap()
}

/// The same items in the same order; a cached prompt adds in another order, so scores may differ in
/// their last digits.
#[track_caller]
fn assert_same(found: &Recommendations, expected: &Recommendations) {
    assert_eq!(ids(found), ids(expected));
    for (found, expected) in scores(found).iter().zip(scores(expected)) {
        assert!((found - expected).abs() < 1e-3, "{found}, {expected}");
    }
}

const SIX: [&str; 6] = ["t0", "t1", "t2", "t4", "t6", "t8"];

#[test]
fn every_backend_gives_the_same_ranking() {
    for level in [Level::Text, Level::Behaviour, Level::Item] {
        for likelihood in [Likelihood::Sum, Likelihood::Mean, Likelihood::Constrained] {
            let mut first: Option<Recommendations> = None;
            on_each_backend!(backend, b => {
                let config = TmfConfig { likelihood, ..config(level) };
                let model = TmfRecommender::new(b.clone(), parts(&b), config).unwrap();
                let answer = block_on(model.recommend(&request(&SIX))).unwrap();
                let label = format!("{backend} {level:?} {likelihood:?}");
                assert_eq!(answer.items.len(), 6, "{label}");
                assert!(scores(&answer).is_sorted_by(|a, b| a >= b), "{label}");
                assert_eq!(answer.usage.history_items, 4, "{label}");
                let items = if level == Level::Item { 4 + 6 } else { 0 };
                assert_eq!(answer.usage.image_tokens, items, "{label}");
                let place = |id| ids(&answer).iter().position(|found| *found == id).unwrap();
                assert!(place("t2") < place("t6"), "{label}: equal names, the first named first");
                let expected = first.get_or_insert_with(|| answer.clone());
                println!("{label}");
                assert_same(&answer, expected);
            });
        }
    }
}

#[test]
fn soft_tokens_reach_the_model() {
    let by = |level| {
        let mut answer = ask(&recommender(&Cpu::new(), level), &request(&SIX));
        answer.items.sort_by(|a, b| a.id.cmp(&b.id));
        scores(&answer)
    };
    let (text, behaviour, item) = (by(Level::Text), by(Level::Behaviour), by(Level::Item));
    assert_ne!(text, behaviour);
    assert_ne!(behaviour, item);
    // Another behaviour of an old event, another order of events, another target: another answer.
    let model = recommender(&Cpu::new(), Level::Item);
    let base = ask(&model, &request(&SIX));
    let differs = |request: &Request| {
        let best = scores(&ask(&model, request))[0];
        assert!((best - scores(&base)[0]).abs() > 0.01, "{best}");
    };
    let mut other = request(&SIX);
    other.history[0].behaviour = Some("cart".into());
    differs(&other);
    let mut other = request(&SIX);
    other.history.swap(0, 1);
    differs(&other);
    differs(&Request { target_behaviour: Some("view".into()), ..request(&SIX) });
    assert_same(&ask(&model, &request(&SIX)), &base);
}

#[test]
fn cached_prompts_change_the_cost_and_not_the_answer() {
    on_each_backend!(backend, b => for causal in [true, false] {
        let make = || {
            let mut parts = parts(&b);
            parts.fusion = Some((fusion(&b, causal), embeddings(TITLES.len())));
            TmfRecommender::new(b.clone(), parts, config(Level::Item)).unwrap()
        };
        let warm = make();
        warm.warm_up().unwrap();
        let pairs = [("t3", "view"), ("t5", "cart"), ("t7", "buy"), ("t5", "view")];
        let long: Vec<_> = pairs.iter().cycle().take(11).copied().collect();
        for (nth, events) in [10, 11, 3, 11].into_iter().enumerate() {
            let request = Request { history: history(&long[..events]), ..request(&SIX) };
            let answer = block_on(warm.recommend(&request)).unwrap();
            let alone = block_on(make().recommend(&request)).unwrap();
            println!("{backend} causal {causal} {events}");
            assert_same(&answer, &alone);
            assert_eq!(alone.usage.cached_tokens, 0);
            assert_eq!(answer.usage.prompt_tokens, alone.usage.prompt_tokens);
            if nth == 1 {
                // The old events and what is before them, but not the candidates. A token that
                // sees later items is another one after every event.
                let share = answer.usage.cached_tokens as f64 / answer.usage.prompt_tokens as f64;
                let expected = if causal { 0.4..0.95 } else { 0.05..0.2 };
                assert!(expected.contains(&share), "{share}");
            }
        }
        // The same request again computes its last token only.
        let twice = Request { history: history(&long), ..request(&SIX) };
        let usage = block_on(warm.recommend(&twice)).unwrap().usage;
        assert_eq!(usage.cached_tokens + 1, usage.prompt_tokens, "{backend}");
    });
}

#[test]
fn a_constrained_answer_is_always_a_candidate() {
    on_each_backend!(backend, b => {
        let model = recommender(&b, Level::Item);
        let mut named = std::collections::HashSet::new();
        for seed in 0..12 {
            let sampling = match seed {
                0 => Sampling::Greedy,
                seed => Sampling::Random { temperature: 2.0, top_k: 0, top_p: 1.0, seed },
            };
            let request = request(&SIX);
            let answer = block_on(model.answer(&request, Decoding::Constrained, sampling)).unwrap();
            let id = answer.item.clone().unwrap();
            assert!(answer.valid && SIX.contains(&id.as_str()), "{backend}: {answer:?}");
            let place: usize = id.as_str()[1..].parse().unwrap();
            assert_eq!(answer.text, TITLES[place], "{backend}");
            assert!(answer.usage.prompt_tokens > 100 && answer.timings.total_ms >= 0.0);
            named.insert(id);
        }
        assert!(named.len() > 1, "{backend}: {named:?}");
    });
}

#[test]
fn a_free_answer_is_what_the_model_writes() {
    // Random weights write no name; the answer says so and does not fail.
    let model = recommender(&Cpu::new(), Level::Item);
    for rule in [AnswerRule::Exact, AnswerRule::Contains] {
        let free = Decoding::Free(rule);
        let answer = block_on(model.answer(&request(&SIX), free, Sampling::Greedy)).unwrap();
        assert_eq!((answer.item, answer.valid), (None, false), "{rule:?} {}", answer.text);
    }
    // A model that can only copy one name: the candidates' first letters decide.
    let one = Request { candidates: candidates(&["t5"]), ..request(&[]) };
    let greedy = Sampling::Greedy;
    let answer = block_on(model.answer(&one, Decoding::Constrained, greedy)).unwrap();
    assert_eq!((answer.text.as_str(), answer.valid), ("", false), "t5 was seen");
    let seen = Request { exclude_seen: false, ..one };
    let answer = block_on(model.answer(&seen, Decoding::Constrained, greedy)).unwrap();
    assert_eq!((answer.text.as_str(), answer.valid), ("backpack", true));
    // Without history, the most popular.
    let cold = Request { history: Vec::new(), ..request(&["t1", "t4", "t2"]) };
    let free = Decoding::Free(AnswerRule::Exact);
    let answer = block_on(model.answer(&cold, free, greedy)).unwrap();
    assert_eq!(answer.item, Some(ItemId::from("t4")));
    let bad = Sampling::Random { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
    assert!(block_on(model.answer(&request(&SIX), free, bad)).is_err());
}

/// B13: the table of `recommend`, as every recommender answers it.
#[test]
fn unusual_requests_mean_what_the_table_says() {
    let model = recommender(&Cpu::new(), Level::Item);
    let rank = |request: Request| ask(&model, &request);
    let base = rank(request(&SIX));
    assert!(rank(Request { k: 0, ..request(&SIX) }).items.is_empty());
    assert!(rank(request(&[])).items.is_empty());
    let two = rank(Request { k: 2, ..request(&SIX) });
    assert_eq!(ids(&two), ids(&base)[..2]);
    assert_eq!(rank(Request { k: 1000, ..request(&SIX) }).items.len(), 6);
    let twice = rank(request(&["t0", "t1", "t0", "t2", "t4", "t6", "t8", "t8"]));
    assert_same(&twice, &base);
    // What was seen is not recommended, unless asked.
    let seen = rank(request(&["t0", "t3", "t5"]));
    assert_eq!(ids(&seen), ["t0"]);
    let seen = rank(Request { exclude_seen: false, ..request(&["t0", "t3", "t5"]) });
    assert_eq!(seen.items.len(), 3);
    let exclude = vec![ItemId::from("t0"), ItemId::from("nobody")];
    assert_eq!(rank(Request { exclude, ..request(&SIX) }).items.len(), 5);
    let mut filtered = request(&SIX);
    filtered.filter.categories = vec!["odd".into()];
    assert_eq!(ids(&rank(filtered)), ["t1"]);
    // Unknown items of the history are skipped and counted.
    let mut unknown = request(&SIX);
    unknown.history.insert(1, Interaction::new("nobody"));
    let unknown = rank(unknown);
    assert_eq!(unknown.usage.unknown_items, 1);
    assert_same(&unknown, &base);
    // Nothing known: the prior.
    for history in [Vec::new(), vec![Interaction::new("nobody")]] {
        let prior = rank(Request { history, ..request(&SIX) });
        assert_eq!(ids(&prior), ["t8", "t6", "t4", "t2", "t1", "t0"]);
        assert_eq!(prior.usage.prompt_tokens, 0);
    }
    // An interaction of no kind is the first behaviour.
    let mut plain = request(&SIX);
    plain.history[0].behaviour = None;
    assert_same(&rank(plain), &base);
    // Times order the history.
    let mut timed = request(&SIX);
    timed.history.reverse();
    for (place, interaction) in timed.history.iter_mut().enumerate() {
        interaction.time = Some(-(place as f64));
    }
    assert_same(&rank(timed), &base);
    // Longer than the context: the last of it.
    let long: Vec<_> = request(&SIX).history.into_iter().cycle().take(5000).collect();
    let usage = rank(Request { history: long, ..request(&SIX) }).usage;
    assert!((8..=12).contains(&usage.history_items), "{usage:?}");

    let fails = |request: Request, part: &str| {
        let error = block_on(model.recommend(&request)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    };
    fails(request(&["t0", "t99"]), "t99");
    fails(Request { query: Some("tents".into()), ..request(&SIX) }, "query");
    fails(Request { target_behaviour: Some("steal".into()), ..request(&SIX) }, "view, cart, buy");
    let mut wrong = request(&SIX);
    wrong.history[2].behaviour = Some("steal".into());
    fails(wrong, "history.behaviour");
    let mut nan = request(&SIX);
    nan.history[2].time = Some(f64::NAN);
    fails(nan, "time");
}

#[test]
fn the_retriever_chooses_what_the_model_reads() {
    let b = Cpu::new();
    let whole = Request { k: 100, candidates: None, ..request(&[]) };
    // By popularity first: t8, t6, t4, t2, t1, t0 are left of 9, all of them fit.
    let all = ask(&recommender(&b, Level::Item), &whole);
    assert_eq!(all.items.len(), 6);
    let narrow = TmfConfig { max_candidates: 3, cold_candidates: 0, ..config(Level::Item) };
    let make = || TmfRecommender::new(b, parts(&b), narrow.clone()).unwrap();
    let popular = ask(&make(), &whole);
    let mut read: Vec<_> = ids(&popular)[..3].to_vec();
    read.sort_unstable();
    assert_eq!(read, ["t4", "t6", "t8"]);
    assert_eq!(ids(&popular)[3..], ["t2", "t1", "t0"], "the others in the retriever's order");
    assert!(
        scores(&popular).is_sorted_by(|a, b| a > b) || scores(&popular)[0] == scores(&popular)[1]
    );
    assert_eq!(popular.usage.candidates, 6);
    // Another retriever, other candidates; the same as when the caller names these.
    let retriever = constant(&[9.0, 8.0, 7.0, 0.0, 1.0, 0.0, 2.0, 0.0, -1.0]);
    let model = make().with_retriever(retriever);
    let found = ask(&model, &whole);
    assert_eq!(ids(&found)[3..], ["t6", "t4", "t8"]);
    let named = ask(&model, &request(&["t0", "t1", "t2"]));
    assert_eq!(ids(&found)[..3], ids(&named));
    let three = ask(&model, &Request { k: 3, ..whole.clone() });
    assert_same(&three, &named);
    // A score that is no number is an error that names the item.
    let broken =
        make().with_retriever(constant(&[9.0, f32::NAN, 7.0, 0.0, 1.0, 0.0, 2.0, 0.0, -1.0]));
    let error = block_on(broken.recommend(&whole)).unwrap_err().to_string();
    assert!(error.contains("NaN") && error.contains("t1"), "{error}");
}

#[test]
fn a_hundred_thousand_candidates_are_ranked() {
    let b = Cpu::new();
    let titles: Vec<String> = (0..100_000).map(|n| format!("item {n}")).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let parts = tributary_core::recommend::TmfParts {
        catalogue: catalogue(&titles),
        fusion: None,
        ..parts(&b)
    };
    let model = TmfRecommender::new(b, parts, config(Level::Text)).unwrap();
    let all: Vec<ItemId> = (0..100_000).map(|n| ItemId::from(format!("t{n}"))).collect();
    let request = Request { candidates: Some(all), k: 100_000, ..request(&[]) };
    let answer = ask(&model, &request);
    assert_eq!(answer.items.len(), 99_997, "all but the three that were seen");
    let ranked: std::collections::HashSet<_> = ids(&answer).into_iter().collect();
    assert_eq!(ranked.len(), 99_997);
}

#[test]
fn an_item_that_training_never_saw_is_recommended() {
    let b = Cpu::new();
    let mut model = recommender(&b, Level::Item);
    model.warm_up().unwrap();
    let before = ask(&model, &request(&SIX));
    let new = |id: &str| CatalogueItem { title: "new lamp".into(), ..CatalogueItem::new(id) };
    let (image, text) = (vec![0.5; WIDTHS[0]], vec![-0.5; WIDTHS[1]]);
    let first = model.add_item(new("n1"), Some(&image), Some(&text)).unwrap();
    let second = model.add_item(new("n2"), Some(&image), None).unwrap();
    let third = model.add_item(new("n3"), None, None).unwrap();
    assert_eq!([first, second, third], [9, 10, 11]);
    assert_same(&ask(&model, &request(&SIX)), &before);
    // As a candidate, in the history, and found without being named.
    let answer = ask(&model, &request(&["t0", "n1", "n3"]));
    assert_eq!(answer.items.len(), 3);
    let mut later = request(&SIX);
    later.history.push(Interaction::new("n1"));
    let after = ask(&model, &later);
    assert_ne!(scores(&after), scores(&before));
    let found = ask(&model, &Request { candidates: None, k: 6, ..request(&[]) });
    let cold = ids(&found).iter().filter(|id| id.starts_with('n')).count();
    assert_eq!(cold, 2, "the two newest have places: {:?}", ids(&found));
    let all = ask(&model, &Request { candidates: None, k: 100, ..request(&[]) });
    assert_eq!(all.items.len(), 9);
    // What it looks like counts.
    let looks = |value: f32| {
        let mut model = recommender(&b, Level::Item);
        model.add_item(new("n1"), Some(&[value; WIDTHS[0]]), None).unwrap();
        let answer = ask(&model, &request(&["t0", "n1"]));
        answer.items.iter().find(|item| item.id.as_str() == "n1").unwrap().score
    };
    assert_ne!(looks(1.0), looks(-1.0));

    let wrong = model.add_item(new("n4"), Some(&[0.0; 4]), None).unwrap_err().to_string();
    assert!(wrong.contains("[4]") && wrong.contains("[5]"), "{wrong}");
    assert!(model.add_item(new("n4"), None, Some(&[f32::NAN; 6])).is_err());
    let wrong = model.add_item(new("n1"), None, None).unwrap_err().to_string();
    assert!(wrong.contains("n1"), "{wrong}");
    assert_eq!(model.catalogue().len(), 12, "what was refused is not there");
    assert_eq!(model.add_item(new("n4"), None, None).unwrap(), 12);
}

#[test]
fn parts_that_do_not_fit_are_errors() {
    let b = Cpu::new();
    let fails = |change: &dyn Fn(&mut tributary_core::recommend::TmfParts<Cpu>), part: &str| {
        let mut parts = parts(&b);
        change(&mut parts);
        let error = TmfRecommender::new(b, parts, config(Level::Item)).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    fails(&|parts| parts.fusion = None, "fusion");
    fails(&|parts| parts.catalogue = catalogue(&TITLES[..8]), "8 items");
    fails(&|parts| parts.fusion.as_mut().unwrap().1 = embeddings(7), "[7, 7, 7]");
    let many: Vec<String> = (0..300).map(|n| format!("w{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    fails(&|parts| parts.tokenizer = words(&many), "vocab_size 264");
    let with = |change: &dyn Fn(&mut TmfConfig), part: &str| {
        let mut config = config(Level::Item);
        change(&mut config);
        let error = TmfRecommender::new(b, parts(&b), config).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    with(&|config| config.prompt.end_token_id = 264, "vocab_size 264");
    with(&|config| config.prompt.max_prompt_tokens = 5000, "at most 4096");
    with(&|config| config.target_behaviour = "steal".into(), "target_behaviour");
    with(&|config| config.behaviours.clear(), "behaviours");
    with(&|config| config.behaviours.push("view".into()), "different names");
    with(&|config| config.default_behaviour = Some("x".into()), "default_behaviour");
    with(&|config| config.max_candidates = 0, "max_candidates");
    with(&|config| config.cold_candidates = 7, "cold_candidates");
    with(&|config| config.prompt.max_prompt_tokens = 20, "template");
    // Candidates that fill the prompt are refused before anything is computed.
    let mut small = config(Level::Item);
    small.prompt.max_prompt_tokens = 150;
    let model = TmfRecommender::new(b, parts(&b), small).unwrap();
    let error = block_on(model.recommend(&request(&SIX))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputTooLong, "{error}");
}

#[test]
fn a_configuration_reads_what_it_writes() {
    let config = config(Level::Behaviour);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(TmfConfig::parse("tmf.json", &text).unwrap(), config);
    let short = r#"{"behaviours": ["view", "buy"], "target_behaviour": "buy"}"#;
    assert_eq!(
        TmfConfig::parse("tmf.json", short).unwrap(),
        TmfConfig::new(&["view", "buy"], "buy")
    );
    for (text, part) in [
        ("{}", "behaviours"),
        (r#"{"behaviours": ["view"], "target_behaviour": "buy"}"#, "one of view"),
        (r#"{"behaviours": ["buy"], "target_behaviour": "buy", "levels": 3}"#, "levels"),
        (r#"{"behaviours": ["buy"], "target_behaviour": "buy", "level": "hard"}"#, "hard"),
    ] {
        let error = TmfConfig::parse("tmf.json", text).unwrap_err().to_string();
        assert!(error.contains("tmf.json") && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn embedding_tables_are_read_and_checked() {
    let table = |shape: &[usize], values: &[f32], present: Option<&[u8]>| {
        let mut tensors = vec![NamedTensor::f32("item_embedding.weight", shape, values)];
        if let Some(present) = present {
            let shape = vec![present.len()];
            let spec = TensorSpec { name: "present".into(), dtype: Dtype::U8, shape };
            tensors.push(NamedTensor { spec, bytes: present.to_vec().into() });
        }
        EmbeddingTable::load(&Checkpoint::from_bytes("image.safetensors", save(&tensors)).unwrap())
    };
    let good = table(&[2, 3], &[1., 2., 3., 0., 0., 0.], Some(&[1, 0])).unwrap();
    assert_eq!((good.len(), good.width()), (2, 3));
    let (values, present) = good.gather(&[1, 0, 0]).unwrap();
    assert_eq!(values, [0., 0., 0., 1., 2., 3., 1., 2., 3.]);
    assert_eq!(present, [false, true, true]);
    assert!(good.gather(&[2]).is_err());
    let all = table(&[2, 3], &[1.0; 6], None).unwrap();
    assert_eq!(all.gather(&[0, 1]).unwrap().1, [true, true]);
    for (bad, part) in [
        (table(&[6], &[1.0; 6], None), "items, width"),
        (table(&[2, 3], &[1.0; 6], Some(&[1])), "2 bytes"),
        (table(&[2, 3], &[1., 2., 3., f32::NAN, 0., 0.], Some(&[1, 1])), "row 1"),
    ] {
        let error = bad.unwrap_err().to_string();
        assert!(error.contains("image.safetensors") && error.contains(part), "{part}: {error}");
    }
}
