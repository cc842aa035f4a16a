//! Requests to answers: what each unusual request means (the table of `recommend`), on a model
//! with known scores; catalogues and configurations.

use pollster::block_on;
use tributary_core::ErrorKind;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::sasrec::SasRecConfig;
use tributary_core::models::sequence::{RepeatedItems, SeenItems, SequenceItems};
use tributary_core::recommend::{
    Catalogue, CatalogueItem, Interaction, ItemId, Recommender, Request, Scorer,
    SequenceRecommender, rank_of, top,
};
use tributary_core::weights::Weights;
use tributary_tests::tiny_sasrec::{
    ask, candidates, catalogue, config, constant, history, ids, ids_of, recommender,
};

/// The tiny configuration whose items are treated otherwise.
fn with_items(num_items: usize, change: fn(&mut SequenceItems)) -> SasRecConfig {
    let mut config = config(num_items);
    change(&mut config.items);
    config
}

#[test]
fn the_answer_is_ranked_and_says_where_it_came_from() {
    let model = constant(&[0.5, 3.0, -1.0, 2.0]);
    let answer = ask(&model, Request { history: history(&["i0"]), ..Request::default() }).unwrap();
    assert_eq!(ids(&answer), ["i1", "i3", "i2"], "best first, without the seen item");
    assert_eq!(answer.items.iter().map(|item| item.rank).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(answer.items.iter().map(|item| item.score).collect::<Vec<_>>(), [3.0, 2.0, -1.0]);
    assert!(answer.valid);
    assert_eq!(answer.backend.device, "cpu");
    assert_eq!((answer.usage.history_items, answer.usage.candidates), (1, 3));
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["items"][0]["id"], "i1");
    assert_eq!(json["items"][0]["rank"], 1);
    assert!(json["items"][0]["score"].is_number());
    assert!(json["timings"]["total_ms"].as_f64().unwrap() >= 0.0);
    for key in ["prompt_tokens", "cached_tokens", "image_tokens"] {
        assert_eq!(json["usage"][key], 0, "{key}");
    }
    assert_eq!(json["backend"]["device"], "cpu");
}

#[test]
fn a_k_of_zero_asks_for_nothing_and_a_large_k_for_everything() {
    let model = constant(&[0.5, 3.0, -1.0, 2.0]);
    let with = |k| Request { history: history(&["i0"]), k, ..Request::default() };
    assert!(ids_of(&model, with(0)).is_empty());
    assert_eq!(ids_of(&model, with(2)), ["i1", "i3"]);
    assert_eq!(ids_of(&model, with(usize::MAX)), ["i1", "i3", "i2"]);
}

#[test]
fn candidates_restrict_and_unknown_ones_are_named() {
    let model = constant(&[0.5, 3.0, -1.0, 2.0]);
    let with = |candidates| Request { history: history(&["i1"]), candidates, ..Request::default() };
    assert_eq!(ids_of(&model, with(candidates(&["i2", "i0"]))), ["i0", "i2"]);
    assert_eq!(ids_of(&model, with(candidates(&["i2", "i0", "i2", "i0"]))), ["i0", "i2"]);
    assert!(ids_of(&model, with(candidates(&[]))).is_empty());
    let error = ask(&model, with(candidates(&["i2", "nope"]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("`candidates` is nope"), "{error}");
}

#[test]
fn seen_items_are_excluded_unless_asked_for() {
    let model = constant(&[0.5, 3.0, -1.0, 2.0]);
    let seen = history(&["i1", "i3"]);
    let request = Request { history: seen.clone(), ..Request::default() };
    assert_eq!(ids_of(&model, request.clone()), ["i0", "i2"]);
    let again = Request { exclude_seen: false, ..request.clone() };
    assert_eq!(ids_of(&model, again), ["i1", "i3", "i0", "i2"]);
    let without = Request { exclude: vec!["i0".into(), "nobody".into()], ..request.clone() };
    assert_eq!(ids_of(&model, without), ["i2"]);
    let only_seen = Request { candidates: candidates(&["i1"]), ..request };
    assert!(ids_of(&model, only_seen).is_empty());
}

#[test]
fn seen_items_may_score_zero_as_iclrec_published_it() {
    let config = with_items(6, |items| items.seen_items = SeenItems::ScoreZero);
    let model = recommender(config);
    let request = Request { history: history(&["i2", "i4"]), ..Request::default() };
    let answer = ask(&model, request.clone()).unwrap();
    assert_eq!(answer.items.len(), 6);
    for item in &answer.items {
        let seen = ["i2", "i4"].contains(&item.id.as_str());
        assert_eq!(item.score == 0.0, seen, "{item:?}");
    }
    let raw = ask(&model, Request { exclude_seen: false, ..request }).unwrap();
    assert!(raw.items.iter().all(|item| item.score != 0.0), "{:?}", raw.items);
}

#[test]
fn an_empty_history_gets_the_prior() {
    let model = constant(&[9.0, 3.0, -1.0, 2.0]);
    // Popularity of item n is n.
    let answer = ask(&model, Request::default()).unwrap();
    assert_eq!(ids(&answer), ["i3", "i2", "i1", "i0"]);
    assert_eq!(answer.items[0].score, 0.5);
    let unknown = Request { history: history(&["x", "y"]), k: 1, ..Request::default() };
    let answer = ask(&model, unknown).unwrap();
    assert_eq!((ids(&answer), answer.usage.unknown_items), (vec!["i3"], 2));

    let plain = Catalogue::numbered(1, 3).unwrap();
    assert_eq!(plain.prior(), [1.0 / 3.0; 3]);
    assert_eq!(plain.items()[0].id.as_str(), "1");
}

#[test]
fn unknown_items_of_a_history_are_skipped_and_counted() {
    let model = recommender(config(7));
    let request = |ids: &[&str]| Request { history: history(ids), ..Request::default() };
    let known = ask(&model, request(&["i1", "i5"])).unwrap();
    let mixed = ask(&model, request(&["gone", "i1", "i1000", "i5"])).unwrap();
    assert_eq!(known.items, mixed.items);
    assert_eq!((mixed.usage.history_items, mixed.usage.unknown_items), (2, 2));
}

#[test]
fn a_history_longer_than_the_context_keeps_its_end_and_all_of_it_is_seen() {
    let model = recommender(config(20));
    let long: Vec<String> = (0..15).map(|n| format!("i{n}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let request = |ids: &[&str]| Request { history: history(ids), k: 20, ..Request::default() };
    let answer = ask(&model, request(&long)).unwrap();
    assert_eq!((answer.usage.history_items, answer.items.len()), (5, 5));
    let end = ask(&model, request(&long[10..])).unwrap();
    for item in &answer.items {
        assert!(end.items.iter().any(|i| i.id == item.id && i.score == item.score), "{item:?}");
    }
}

#[test]
fn a_history_with_times_is_put_in_order() {
    let model = recommender(config(9));
    let at = |id: &str, time: f64| Interaction { time: Some(time), ..Interaction::new(id) };
    let request = |history| Request { history, ..Request::default() };
    let sorted = ask(&model, request(history(&["i3", "i1", "i2"]))).unwrap();
    let mixed = vec![at("i1", 5.0), at("i3", 2.0), at("i2", 5.0)];
    assert_eq!(ask(&model, request(mixed)).unwrap().items, sorted.items, "ties keep their order");
    let partly = vec![at("i3", 9.0), Interaction::new("i1"), at("i2", 5.0)];
    assert_eq!(ask(&model, request(partly)).unwrap().items, sorted.items, "as given");
    let error = ask(&model, request(vec![at("i1", f64::NAN)])).unwrap_err();
    assert!(error.to_string().contains("history.time"), "{error}");
}

#[test]
fn repeated_items_count_once_where_the_model_says_so() {
    let first = recommender(with_items(9, |items| items.repeated_items = RepeatedItems::First));
    let keep = recommender(config(9));
    let request = |ids: &[&str]| Request { history: history(ids), ..Request::default() };
    let (once, twice) = (request(&["i3", "i1"]), request(&["i3", "i1", "i3", "i1"]));
    assert_eq!(ids_of(&first, once.clone()), ids_of(&first, twice.clone()));
    let scores = |request| ask(&keep, request).unwrap().items;
    assert_ne!(scores(once), scores(twice));
}

#[test]
fn a_filter_holds_for_every_item() {
    let model = constant(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let filtered = |json: &str| {
        let filter = serde_json::from_str(json).unwrap();
        ids_of(&model, Request { filter, ..Request::default() })
    };
    let history_less = filtered(r#"{"brands": ["blue"]}"#);
    assert_eq!(history_less, ["i5", "i3", "i1"]);
    assert_eq!(filtered(r#"{"categories": ["third"]}"#), ["i6", "i3", "i0"]);
    assert_eq!(filtered(r#"{"min_price": 4, "max_price": 5}"#), ["i5", "i4"]);
    assert_eq!(filtered(r#"{"brands": ["blue"], "categories": ["third"]}"#), ["i3"]);
    assert!(filtered(r#"{"attributes": {"colour": "x"}}"#).is_empty());
    let error = serde_json::from_str::<Request>(r#"{"filter": {"brand": "blue"}}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `brand`"), "{error}");
}

#[test]
fn what_a_sequence_model_cannot_do_is_refused() {
    let model = constant(&[0.0, 1.0]);
    let error = ask(&model, Request { query: Some("shoes".into()), ..Request::default() });
    assert!(error.unwrap_err().to_string().contains("`query`"));
}

#[test]
fn scores_that_are_no_numbers_are_errors_that_name_the_item() {
    let model = constant(&[0.5, f32::NAN, 2.0]);
    let request = Request { history: history(&["i0"]), k: 1, ..Request::default() };
    let error = ask(&model, request.clone()).unwrap_err();
    assert!(error.to_string().contains("NaN for item i1"), "{error}");
    // Items that are not asked for do not matter.
    let others = Request { candidates: candidates(&["i2"]), ..request };
    assert_eq!(ids_of(&model, others), ["i2"]);
    // Infinite scores are an order.
    let scores = [(0, f32::NEG_INFINITY), (1, 1.0), (2, f32::INFINITY)];
    let ranked = top(model.catalogue(), &scores, 3).unwrap();
    assert_eq!(ranked.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [2, 1, 0]);
}

#[test]
fn equal_scores_keep_the_order_of_the_input() {
    let model = constant(&[1.0; 8]);
    let with =
        |candidates, k| Request { history: history(&["i7"]), candidates, k, ..Request::default() };
    assert_eq!(ids_of(&model, with(None, 3)), ["i0", "i1", "i2"]);
    let asked = candidates(&["i5", "i0", "i3", "i1"]);
    assert_eq!(ids_of(&model, with(asked, 3)), ["i5", "i0", "i3"]);
    // Zero and minus zero are equal.
    let model = constant(&[-0.0, 0.0, -0.0]);
    let request = Request { exclude_seen: false, history: history(&["i0"]), ..Request::default() };
    assert_eq!(ids_of(&model, request), ["i0", "i1", "i2"]);
}

#[test]
fn a_hundred_thousand_candidates_are_ranked() {
    let scores: Vec<f32> = (0..100_000).map(|n| ((n * 7919) % 100_003) as f32).collect();
    let model = constant(&scores);
    let all: Vec<ItemId> = (0..100_000).rev().map(|n| format!("i{n}").into()).collect();
    let request = Request {
        history: history(&["i1"]),
        candidates: Some(all),
        exclude_seen: false,
        k: 100_000,
        ..Request::default()
    };
    let answer = ask(&model, request).unwrap();
    assert_eq!(answer.items.len(), 100_000);
    assert!(answer.items.is_sorted_by(|a, b| a.score >= b.score));
}

#[test]
fn ids_may_be_numbers_or_texts() {
    let request = r#"{"history": [7, "i1", {"item": 9, "behaviour": "buy", "time": 12}],
                      "candidates": ["a", 42], "k": 3}"#;
    let request: Request = serde_json::from_str(request).unwrap();
    let items: Vec<_> = request.history.iter().map(|i| i.item.as_str()).collect();
    assert_eq!(items, ["7", "i1", "9"]);
    assert_eq!(request.history[2].behaviour.as_deref(), Some("buy"));
    assert_eq!(request.history[2].time, Some(12.0));
    assert_eq!(request.candidates, candidates(&["a", "42"]));
    assert!(request.exclude_seen);
    let id = |text: &str| serde_json::from_str::<ItemId>(text);
    assert_eq!(id("9007199254740992").unwrap().as_str(), "9007199254740992");
    for bad in ["9007199254740993", "1.5", "\"\"", "null", "[1]", "-9007199254740993"] {
        assert!(id(bad).is_err(), "{bad}");
    }
    // As the npm package writes it; a misspelt key is no silence.
    let event = serde_json::from_str::<Interaction>(r#"{"item": 9, "event": "buy"}"#).unwrap();
    assert_eq!(event.behaviour.as_deref(), Some("buy"));
    for (bad, says) in [
        (r#"{"item": 9, "behavior": "buy"}"#, "unknown field `behavior`"),
        (r#"{"behaviour": "buy"}"#, "missing field `item`"),
        ("[]", "an item id, or an object"),
    ] {
        let error = serde_json::from_str::<Interaction>(bad).unwrap_err().to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
    let again: Request = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(again, request);
}

#[test]
fn a_batch_scores_as_single_requests_do() {
    let model = recommender(config(12));
    let histories: [&[u32]; 4] = [&[3], &[], &[1, 2, 3, 4, 5, 6, 7], &[11, 0]];
    let scores = block_on(model.score_batch(&histories)).unwrap();
    assert_eq!(scores.len(), 4 * 12);
    for (row, history) in scores.chunks(12).zip(histories) {
        let history: Vec<_> = history.iter().map(|i| Interaction::new(format!("i{i}"))).collect();
        let request = Request { history, exclude_seen: false, k: 12, ..Request::default() };
        for item in ask(&model, request).unwrap().items {
            let index: usize = item.id.as_str()[1..].parse().unwrap();
            let difference = (row[index] - item.score).abs();
            assert!(difference <= 1e-6, "{} {} {}", item.id, row[index], item.score);
        }
    }
    assert!(block_on(model.score_batch(&[&[12]])).is_err());
    assert!(block_on(model.score_batch(&[])).unwrap().is_empty());
}

#[test]
fn ranks_count_what_is_before_the_target() {
    let scores = [1.0, 5.0, 3.0, 3.0, 3.0];
    assert_eq!(rank_of(&scores, 3, [0, 1, 2, 4]).unwrap(), 2, "ties by index");
    assert_eq!(rank_of(&scores, 3, [0, 4]).unwrap(), 0);
    assert!(rank_of(&[f32::NAN, 1.0], 1, [0]).is_err());
    assert!(rank_of(&scores, 9, [0]).is_err());
    let catalogue = catalogue(3);
    assert!(top(&catalogue, &[], 5).unwrap().is_empty());
}

#[test]
fn catalogues_read_what_they_write_and_refuse_the_rest() {
    let catalogue = catalogue(5);
    let text = catalogue.to_jsonl().unwrap();
    assert_eq!(Catalogue::from_jsonl("c.jsonl", text.as_bytes()).unwrap(), catalogue);
    let plain =
        Catalogue::from_jsonl("c.jsonl", b"\xef\xbb\xbf{\"id\": 4}\r\n\n{\"id\":\"x\"}").unwrap();
    assert_eq!((plain.len(), plain.index_of(&"4".into())), (2, Some(0)));
    for (bad, says) in [
        ("{\"id\": \"a\"}\n{\"id\": \"a\"}", "line 2: expected an id not seen before, found a"),
        ("{\"id\": \"a\"}\n{}", "line 2"),
        ("{\"id\": \"a\", \"price\": \"cheap\"}", "line 1"),
        ("not json", "line 1"),
        ("{\"id\": \"\"}", "line 1"),
    ] {
        let error = Catalogue::from_jsonl("c.jsonl", bad.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("c.jsonl: ") && error.contains(says), "{bad}: {error}");
    }
    // A message does not repeat what it is about at any length.
    let twice = format!("{{\"id\": \"{}\"}}\n", "é".repeat(500)).repeat(2);
    let error = Catalogue::from_jsonl("c.jsonl", twice.as_bytes()).unwrap_err().to_string();
    assert!(error.chars().count() < 400 && error.ends_with("éé…"), "{error}");
    let long = format!("{{\"id\": \"a\", \"title\": \"{}\"}}", "x".repeat(1 << 20));
    let error = Catalogue::from_jsonl("c.jsonl", long.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(Catalogue::new(vec![CatalogueItem::new("a"), CatalogueItem::new("a")]).is_err());
    assert_eq!(Catalogue::numbered(0, 1 << 25).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_configuration_reads_what_it_writes_and_refuses_the_rest() {
    let config = SasRecConfig {
        hidden_dropout_prob: 0.25,
        attention_probs_dropout_prob: 0.5,
        ..with_items(30, |items| items.repeated_items = RepeatedItems::First)
    };
    let text = config.to_json();
    assert_eq!(SasRecConfig::parse("config.json", &text).unwrap(), config);
    for (field, value, says) in [
        ("model_type", r#""llama""#, "sasrec"),
        ("block", r#""gru""#, "bert, llara"),
        ("hidden_act", r#""relu""#, "gelu"),
        ("num_items", "0", "num_items"),
        ("num_items", "1e30", "num_items"),
        ("num_items", "-3", "num_items"),
        ("hidden_size", "99999999", "hidden_size"),
        ("num_attention_heads", "3", "divisor"),
        ("num_attention_heads", "0", "num_attention_heads"),
        ("first_item_id", "7", "num_embeddings"),
        ("pad_item_id", "4", "outside the items"),
        ("max_seq_len", r#""50""#, "max_seq_len"),
        ("layer_norm_eps", "null", "layer_norm_eps"),
        ("num_hidden_layers", "1000", "num_hidden_layers"),
        ("hidden_dropout_prob", "1.5", "hidden_dropout_prob"),
        ("tie_item_embeddings", "false", "tie_item_embeddings"),
        ("seen_items", r#""maybe""#, "exclude, score_zero"),
        ("padding_side", "7", "padding_side"),
    ] {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[field] = serde_json::from_str(value).unwrap();
        let error = SasRecConfig::parse("config.json", &json.to_string()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("config.json"), "{field} {value}: {error}");
    }
}

#[test]
fn a_catalogue_of_another_size_does_not_fit() {
    let cpu = Cpu::new();
    let weights = Weights::fresh(&cpu, 1);
    let error = SequenceRecommender::load(&weights, config(5), Some(catalogue(4))).unwrap_err();
    assert!(error.to_string().contains("5 items"), "{error}");
}

#[test]
fn a_catalogue_holds_descriptions_and_pictures_within_limits() {
    let line = r#"{"id":"a","title":"A","description":"It is so.","image":"a b.png"}"#;
    let catalogue = Catalogue::from_jsonl("c.jsonl", line.as_bytes()).unwrap();
    let item = &catalogue.items()[0];
    assert_eq!(item.description.as_deref(), Some("It is so."));
    assert_eq!(item.image.as_deref(), Some("a b.png"));
    assert_eq!(catalogue.to_jsonl().unwrap().trim(), line);
    let long = |field: &str, n: usize| format!(r#"{{"id":"a","{field}":"{}"}}"#, "x".repeat(n));
    for (line, says) in [
        (long("title", 4097), "bytes of `title`"),
        (long("description", (64 << 10) + 1), "bytes of `description`"),
        (long("image", 300), "`image`"),
        (r#"{"id":"a","image":"../a.png"}"#.into(), "`image`"),
        (r#"{"id":"a","image":"/etc/a.png"}"#.into(), "`image`"),
        (r#"{"id":"a","image":"..\\a.png"}"#.into(), "`image`"),
        (r#"{"id":"a","image":""}"#.into(), "`image`"),
        (r#"{"id":"a","image":"https://a/b.png"}"#.into(), "`image`"),
    ] {
        let error = Catalogue::from_jsonl("c.jsonl", line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("line 1"), "{error}");
    }
}
