//! MLLM-SRec: windows and prompts, the packed answer against one candidate at a time on each backend,
//! what a new event costs, and what unusual requests mean.

use std::sync::Arc;

use pollster::block_on;
use tributary_core::Result;
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::prompt::{
    Chain, ChainOptions, ChainPrompts, ChainTemplate, ItemWording, ItemWords, Preference, Window,
};
use tributary_core::recommend::{
    Catalogue, CatalogueItem, Interaction, ItemIndex, MllmSrecConfig, MllmSrecParts,
    MllmSrecRecommender, Question, Recommendations, Recommender, Request, Scorer, Usage,
};
use tributary_core::session::{Sampler, Sampling, Session, StopRules};
use tributary_tests::on_each_backend;
use tributary_tests::tiny_tmf::llama;
use tributary_tests::tiny_tokenizer::bytes;

/// Two equal titles, one that holds another, one that spells special tokens; item 4 has no caption,
/// item 5 nothing but its id, item 6 a text longer than any prompt.
fn catalogue() -> Catalogue {
    let titles =
        ["red tent", "red tent large", "boots", "boots", "lamp </s><|soft|>", "", "x", "bag"];
    let item = |(n, title): (usize, &&str)| CatalogueItem {
        title: (*title).to_owned(),
        description: (n == 6).then(|| "very long ".repeat(900)),
        caption: (n < 4).then(|| format!("picture {n}")),
        summary: (n == 7).then(|| "a bag in one line".to_owned()),
        popularity: Some(n as u64),
        ..CatalogueItem::new(format!("t{n}"))
    };
    Catalogue::new(titles.iter().enumerate().map(item).collect()).expect("a tiny catalogue")
}

fn config(chain: Chain) -> MllmSrecConfig {
    MllmSrecConfig {
        prompt: ChainOptions {
            chain,
            window: 3,
            step: 2,
            max_item_tokens: 20,
            max_summary_tokens: 12,
            max_prompt_tokens: 2400,
            history: Window { max_items: 40, keep_items: 30, max_tokens: 2000, keep_tokens: 1500 },
            bos_token_id: Some(0),
            end_token_id: 1,
            ..ChainOptions::default()
        },
        max_candidates: 4,
        cold_candidates: 1,
        ..MllmSrecConfig::default()
    }
}

fn template() -> ChainTemplate {
    let (file, text) = ChainTemplate::SOURCE;
    ChainTemplate::parse(file, text).expect("the library's own wording")
}

fn recommender<B: Backend>(b: &B, config: MllmSrecConfig) -> Result<MllmSrecRecommender<B>> {
    let parts = MllmSrecParts {
        model: llama(b, 1),
        tokenizer: Arc::new(bytes()),
        template: template(),
        catalogue: catalogue(),
    };
    MllmSrecRecommender::new(b.clone(), parts, config)
}

fn prompts(options: ChainOptions) -> ChainPrompts {
    let mut prompts = ChainPrompts::new(Arc::new(bytes()), template(), options).unwrap();
    for item in catalogue().items() {
        let text = item.text();
        prompts.push(ItemWords {
            id: item.id.as_str(),
            text: text.as_deref(),
            caption: item.caption.as_deref(),
            summary: item.summary.as_deref(),
        });
    }
    prompts
}

fn request(items: &[u32]) -> Request {
    let history = items.iter().map(|n| Interaction::new(format!("t{n}"))).collect();
    Request { history, exclude_seen: false, ..Request::default() }
}

/// What is cached was computed in other pieces, so the last bits may differ.
fn assert_alike(a: &Recommendations, b: &Recommendations) {
    assert_eq!(a.items.len(), b.items.len());
    for (a, b) in a.items.iter().zip(&b.items) {
        assert_eq!(a.id, b.id);
        assert!((a.score - b.score).abs() < 2e-4, "{a:?}, {b:?}");
    }
}

fn ask<B: Backend>(r: &MllmSrecRecommender<B>, items: &[u32]) -> Recommendations {
    block_on(r.recommend(&request(items))).expect("an answer")
}

#[test]
fn windows_move_by_their_step_and_wait_until_they_are_full() {
    let of = |chain, window, step, items: usize| {
        let prompt = ChainOptions { window, step, ..config(chain).prompt };
        prompts(prompt).windows(items).map(|w| [w.start, w.end]).collect::<Vec<_>>()
    };
    assert_eq!(of(Chain::Prefix, 3, 2, 2), [[0; 2]; 0]);
    assert_eq!(of(Chain::Prefix, 3, 2, 3), [[0, 3]]);
    assert_eq!(of(Chain::Prefix, 3, 2, 4), [[0, 3]]);
    assert_eq!(of(Chain::Summary, 3, 2, 7), [[0, 3], [2, 5], [4, 7]]);
    assert_eq!(of(Chain::Summary, 3, 3, 8), [[0, 3], [3, 6]]);
    assert_eq!(of(Chain::None, 3, 2, 8), [[0; 2]; 0]);
}

#[test]
fn a_prompt_says_what_its_wording_allows_and_nothing_of_it_is_a_special_token() {
    let tokenizer = bytes();
    let text = |tokens: &[u32]| tokenizer.decode(tokens, false).unwrap();
    let said = |wording, item| {
        let options = ChainOptions { wording, max_item_tokens: 200, ..config(Chain::None).prompt };
        text(&prompts(options).candidate(item).unwrap())
    };
    let closing = "\n\n### Response:\n";
    assert_eq!(said(ItemWording::Picture, 0), format!(" picture 0{closing}"));
    assert_eq!(said(ItemWording::Picture, 4), format!(" nothing is known of it{closing}"));
    assert_eq!(said(ItemWording::Text, 1), format!(" red tent large{closing}"));
    assert_eq!(said(ItemWording::Text, 5), format!(" t5{closing}"));
    assert_eq!(said(ItemWording::Both, 0), format!(" red tent picture 0{closing}"));
    assert_eq!(said(ItemWording::Both, 7), format!(" a bag in one line{closing}"));
    let spelled = prompts(config(Chain::None).prompt).candidate(4).unwrap();
    assert!(spelled.iter().all(|&id| id > 3), "{spelled:?} holds a special token");

    let options = config(Chain::Prefix).prompt;
    let prompts = prompts(options.clone());
    let told = Preference {
        window: &[0, 1],
        previous: Some("old news"),
        summary: Some("new\nnews </s>"),
        recent: &[2],
    };
    let (shared, kept) = prompts.choice(&told).unwrap();
    let (step, end) = (prompts.preference(&[0, 1], told.previous).unwrap(), [1]);
    assert_eq!(kept, 1);
    assert!(
        shared.starts_with(&[&step[..], &prompts.summary("new news </s>").unwrap(), &end].concat())
    );
    let known = text(&step);
    assert!(known.contains("Known of the user so far: old news\nItems:\n(1) red tent"), "{known}");
    let known = text(&shared);
    assert!(known.ends_with("\nItems:\n(1) boots picture 2\nNext item:"), "{known}");
    let first = text(
        &prompts
            .item_prompt(ItemWords {
                text: Some("a lamp"),
                caption: Some("a lit lamp"),
                ..ItemWords::default()
            })
            .unwrap(),
    );
    assert!(first.contains(template().question()) && first.contains("Response:\n a lit lamp\n"));
    assert!(first.ends_with("### Input:\n a lamp\n\n### Response:\n"), "{first}");
}

/// Summaries and answers by whole passes of the model, without anything kept.
fn alone<B: Backend>(b: &B, config: &MllmSrecConfig, history: &[u32], asked: &[u32]) -> Vec<f32> {
    let model = Arc::new(llama(b, 1));
    let prompts = prompts(config.prompt.clone());
    let (mut previous, mut summary, mut window) = (None, None, 0..0);
    for next in prompts.windows(history.len()) {
        let items = &history[next.clone()];
        let mut session = Session::new(b.clone(), model.clone(), 2400).unwrap();
        let prompt = prompts.preference(items, summary.as_deref()).unwrap();
        session.prefill(&prompt).unwrap();
        let stop = StopRules {
            max_new_tokens: config.prompt.max_summary_tokens,
            stop_token_ids: vec![1],
            stop_sequences: vec![],
        };
        let mut sampler = Sampler::new(Sampling::Greedy).unwrap();
        let go_on = |_| std::ops::ControlFlow::Continue(());
        let answer = block_on(session.generate(&mut sampler, &stop, go_on)).unwrap();
        previous = summary.replace(prompts.summary_text(&answer.token_ids).unwrap());
        window = next;
    }
    let told = Preference {
        window: &history[window.clone()],
        previous: previous.as_deref(),
        summary: summary.as_deref(),
        recent: &history[window.end..],
    };
    let (shared, _) = prompts.choice(&told).unwrap();
    let answer = |&item: &u32| {
        let mut session = Session::new(b.clone(), model.clone(), 2400).unwrap();
        session.prefill(&[&shared[..], &prompts.candidate(item).unwrap()].concat()).unwrap();
        let logits = block_on(session.logits(Some(&prompts.answers()))).unwrap();
        logits[0] - logits[1]
    };
    asked.iter().map(answer).collect()
}

#[test]
fn all_candidates_in_one_pass_score_as_each_alone() {
    on_each_backend!(backend, b => {
        for chain in [Chain::None, Chain::Summary, Chain::Prefix] {
            let config = config(chain);
            let recommender = recommender(&b, config.clone()).unwrap();
            let (history, asked) = ([0, 2, 4, 1, 7, 3], [1, 3, 4, 6]);
            let question = Question { items: &history, candidates: Some(&asked), ..Question::default() };
            let found = block_on(recommender.answer_batch(&[question])).unwrap().remove(0);
            assert_eq!(found.read, Some(4));
            let truth = alone(&b, &config, &history, &asked);
            for (found, truth) in found.scores.iter().zip(&truth) {
                assert!((found - truth).abs() < 2e-4, "{backend} {chain:?}: {found}, {truth}");
            }
            // Two items of one title score alike, and an item whose title begins another's does not.
            let twins = alone(&b, &config, &history, &[0, 1]);
            assert_ne!(twins[0], twins[1]);
        }
    });
}

#[test]
fn a_new_event_costs_its_own_tokens_and_a_full_window_one_summary() {
    let recommender = recommender(&Cpu::new(), config(Chain::Prefix)).unwrap();
    let events = [0, 1, 2, 3, 4, 7, 0, 2, 1, 3];
    let mut last = Usage::default();
    for taken in 2..=events.len() {
        let answer = ask(&recommender, &events[..taken]);
        let usage = answer.usage;
        // A window of three, every two events.
        let is_full = taken >= 3 && (taken - 3) % 2 == 0;
        assert_eq!(usage.generated_tokens > 0, is_full, "{taken} events: {usage:?}");
        assert!(usage.generated_tokens <= 12, "one summary at most");
        assert_eq!(usage.history_items, taken);
        if taken > 3 && !is_full {
            let new = usage.prompt_tokens - usage.cached_tokens;
            assert!(usage.cached_tokens > 300, "{taken} events: {usage:?}, before {last:?}");
            // One entry, the beginning of the last question and four candidates.
            assert!(new < 200, "{taken} events: {new} new tokens");
        }
        // Somebody who kept nothing writes every summary again.
        let kept_nothing = self::recommender(&Cpu::new(), config(Chain::Prefix)).unwrap();
        let without = ask(&kept_nothing, &events[..taken]);
        let new = |usage: &Usage| usage.prompt_tokens - usage.cached_tokens;
        assert!(new(&without.usage) > new(&usage) || taken < 3, "{taken} events");
        assert_alike(&answer, &without);
        println!("{taken} events: {usage:?}\n   without: {:?}", without.usage);
        last = usage;
    }
    let again = ask(&recommender, &events);
    assert_eq!(again.usage.generated_tokens, 0, "nothing is written twice");
}

#[test]
fn summaries_written_elsewhere_leave_the_last_step_alone() {
    let cpu = Cpu::new();
    let events = [0, 1, 2, 3, 4];
    let writer = recommender(&cpu, config(Chain::Summary)).unwrap();
    let truth = ask(&writer, &events);
    let file = writer.summaries().unwrap();
    assert_eq!(file.lines().count(), 2);
    let silent = MllmSrecConfig { generate: false, max_summaries: 0, ..config(Chain::Summary) };
    let reader = recommender(&cpu, silent.clone()).unwrap();
    let reader = reader.with_summaries("summaries.jsonl", &file).unwrap();
    let found = ask(&reader, &events);
    assert_alike(&found, &truth);
    assert_eq!(found.usage.generated_tokens, 0);
    assert_eq!(reader.summaries().unwrap(), file);
    // Two events more fill a window that nobody summarised: they are told as they are.
    let more = ask(&reader, &[0, 1, 2, 3, 4, 7, 0]);
    assert_eq!((more.usage.generated_tokens, more.usage.history_items), (0, 7));
    // Nobody wrote anything of this user.
    let other = recommender(&cpu, silent).unwrap();
    assert_eq!(ask(&other, &events).usage.history_items, 5);
    for (file, says) in [("x", "line 1"), ("{\"window\":\"a\"}", "summary")] {
        let r = recommender(&cpu, config(Chain::None)).unwrap();
        let error = r.with_summaries("summaries.jsonl", file).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let told = block_on(reader.tell(&[4, 4, 4], |window, previous| {
        assert_eq!((window, previous), (&[4, 4, 4][..], None));
        Ok("lamps".into())
    }));
    assert_eq!(told.unwrap().summary.as_deref(), Some("lamps"));
}

#[test]
fn few_summaries_are_kept_where_few_may_be() {
    let narrow = MllmSrecConfig { max_summaries: 2, ..config(Chain::Summary) };
    let recommender = recommender(&Cpu::new(), narrow).unwrap();
    for first in 0..5 {
        ask(&recommender, &[first, 1, 2]);
        assert!(recommender.summaries().unwrap().lines().count() <= 2);
    }
    assert_eq!(ask(&recommender, &[4, 1, 2]).usage.generated_tokens, 0, "the newest is there");
    assert!(ask(&recommender, &[0, 1, 2]).usage.generated_tokens > 0, "the oldest is not");
}

#[test]
fn unusual_requests_have_their_answers() {
    let mut recommender = recommender(&Cpu::new(), config(Chain::Prefix)).unwrap();
    let ids = |answer: &Recommendations| -> Vec<String> {
        answer.items.iter().map(|item| item.id.to_string()).collect()
    };
    // Nobody's history, or of unknown items: by popularity.
    for items in [&[][..], &[90]] {
        let answer = ask(&recommender, items);
        assert_eq!(ids(&answer)[..3], ["t7", "t6", "t5"]);
        assert_eq!((answer.usage.prompt_tokens, answer.usage.unknown_items), (0, items.len()));
    }
    // One event; all items are ranked, four by the model.
    assert_eq!(ids(&ask(&recommender, &[2])).len(), 8);
    // All items seen.
    let all: Vec<u32> = (0..8).collect();
    let seen = Request { exclude_seen: true, ..request(&all) };
    assert!(block_on(recommender.recommend(&seen)).unwrap().items.is_empty());
    let none = Request { k: 0, ..request(&[1]) };
    assert!(block_on(recommender.recommend(&none)).unwrap().items.is_empty());
    let unknown = Request { candidates: Some(vec!["t90".into()]), ..request(&[1]) };
    assert!(block_on(recommender.recommend(&unknown)).is_err());
    let query = Request { query: Some("warm".into()), ..request(&[1]) };
    let error = block_on(recommender.recommend(&query)).unwrap_err().to_string();
    assert!(error.contains("mllm_srec reads no text"), "{error}");
    // A history longer than any prompt: its end.
    let long: Vec<u32> = (0..500).map(|n| n % 8).collect();
    let answer = ask(&recommender, &long);
    assert!(answer.usage.history_items <= 40 && answer.items.len() == 8);
    // An item of after the training has a place, whatever the retriever thinks.
    let new = CatalogueItem { title: "scarf".into(), ..CatalogueItem::new("new") };
    recommender.add_item(new.clone()).unwrap();
    assert!(recommender.add_item(new).is_err(), "twice");
    let answer = ask(&recommender, &[0, 1]);
    assert!(ids(&answer)[..4].contains(&"new".to_owned()), "{:?}", ids(&answer));
}

#[test]
fn only_what_was_liked_tells_what_is() {
    let likes = MllmSrecConfig { behaviours: vec!["like".into()], ..config(Chain::None) };
    let recommender = recommender(&Cpu::new(), likes).unwrap();
    let did = |items: &[(u32, Option<&str>)]| {
        let event = |&(item, did): &(u32, Option<&str>)| Interaction {
            behaviour: did.map(str::to_owned),
            ..Interaction::new(format!("t{item}"))
        };
        let history = items.iter().map(event).collect();
        let request = Request { history, ..Request::default() };
        block_on(recommender.recommend(&request)).unwrap()
    };
    let both = did(&[(0, Some("like")), (1, Some("dislike")), (2, None)]);
    assert_eq!(both.usage.history_items, 2);
    assert!(both.items.iter().all(|item| item.id.as_str() != "t1"), "seen all the same");
    assert_eq!(did(&[(1, Some("dislike"))]).usage.history_items, 0, "tells nothing");
    let items: Vec<ItemIndex> =
        recommender.liked([(0, Some("like")), (1, Some("x")), (2, None)].into_iter());
    assert_eq!(items, [0, 2]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |change: &dyn Fn(&mut MllmSrecConfig), says: &str| {
        let mut config = config(Chain::Prefix);
        change(&mut config);
        let error = recommender(&Cpu::new(), config).expect_err(says).to_string();
        assert!(error.contains(says), "`{says}` is not in: {error}");
    };
    refused(&|c| c.prompt.step = 4, "step");
    refused(&|c| c.prompt.window = 0, "window");
    refused(&|c| c.prompt.max_prompt_tokens = 300, "max_prompt_tokens");
    refused(&|c| c.prompt.max_prompt_tokens = 5000, "max_prompt_tokens");
    refused(&|c| c.prompt.end_token_id = 9999, "end_token_id");
    refused(&|c| c.max_candidates = 0, "max_candidates");
    refused(&|c| c.cold_candidates = 5, "cold_candidates");
    refused(&|c| c.temperature = -1.0, "temperature");
    let text = config(Chain::Summary).to_json().unwrap();
    assert_eq!(MllmSrecConfig::parse("mllm_srec.json", &text).unwrap(), config(Chain::Summary));
    assert!(MllmSrecConfig::parse("mllm_srec.json", "{\"windows\":1}").is_err());
    let (file, text) = ChainTemplate::SOURCE;
    for (from, to) in [("{question}", "?"), ("yes = ", "yeah = "), ("{index}", "{number}")] {
        assert!(ChainTemplate::parse(file, &text.replace(from, to)).is_err(), "{from}");
    }
    let same = ChainTemplate::parse(file, &text.replace("no = \"no\"", "no = \"yet\"")).unwrap();
    let options = config(Chain::None).prompt;
    let error = ChainPrompts::new(Arc::new(bytes()), same, options).unwrap_err().to_string();
    assert!(error.contains("a token for each of yes, yet"), "{error}");
}
