//! Hybrid prompts: what they say, what of a history they keep, and what content cannot do to them.

use std::collections::HashSet;
use std::sync::Arc;

use tributary_core::error::ErrorKind;
use tributary_core::prompt::{
    Hybrid, Level, PromptBuilder, PromptOptions, PromptRequest, SOFT_TOKEN_ID, SoftKind, Template,
    Window,
};
use tributary_core::tokenizer::Tokenizer;
use tributary_tests::indices;
use tributary_tests::tiny_tokenizer::{SPECIAL, bytes};

const END: u32 = 1;

/// TMF's Figure 3, with its soft tokens before and behind the names as drawn there.
const FIGURE_3: &str = r#"
instruction = "The user"
history_entry = " {behaviour}{behaviour_token} {title}{item_token}"
history_separator = ","
history_empty = " did nothing"
question = ", what's next to {behaviour}{behaviour_token}?"
candidates = " The candidate item are"
candidate_entry = " {title}{item_token}"
candidate_separator = ","
closing = ". Choose only one item from the candidates. The answer is"

[behaviours.view]
history = "views"
target = "view"

[behaviours.cart]
history = "adds to cart"
target = "add to cart"
"#;

fn behaviours() -> Vec<String> {
    ["view", "cart", "purchase"].map(str::to_owned).to_vec()
}

fn options() -> PromptOptions {
    PromptOptions {
        bos_token_id: Some(0),
        end_token_id: END,
        max_prompt_tokens: 100_000,
        max_title_tokens: 40,
        window: Window { max_items: 30, keep_items: 20, max_tokens: 50_000, keep_tokens: 40_000 },
        pointer: false,
    }
}

fn builder_of(tokenizer: Tokenizer, template: &str, options: PromptOptions) -> PromptBuilder {
    let template = Template::parse("template.toml", template).unwrap();
    PromptBuilder::new(&Arc::new(tokenizer), &[template], &behaviours(), options).unwrap()
}

fn builder(titles: &[&str], options: PromptOptions) -> PromptBuilder {
    let mut builder = builder_of(bytes(), FIGURE_3, options);
    for (n, title) in titles.iter().enumerate() {
        builder.names_mut().push(title, &format!("id{n}"));
    }
    builder
}

const TITLES: [&str; 5] =
    ["water bottles", "athletic t-shirt", "backpack", "tent", "athletic pants"];

fn request<'a>(history: &'a [(u32, u32)], candidates: &'a [u32]) -> PromptRequest<'a> {
    PromptRequest {
        template: 0,
        level: Level::Item,
        history,
        target_behaviour: 2,
        candidates,
        listed: true,
        seed: 7,
        answer: None,
    }
}

/// The prompt as text, its soft tokens by name.
fn read(prompt: &Hybrid) -> String {
    let tokenizer = bytes();
    let mut text = String::new();
    let mut from = 0;
    for soft in &prompt.soft {
        assert_eq!(prompt.token_ids[soft.position], SOFT_TOKEN_ID);
        text += &tokenizer.decode(&prompt.token_ids[from..soft.position], true).unwrap();
        text += &match soft.kind {
            SoftKind::Behaviour(behaviour) => format!("[b{behaviour}]"),
            SoftKind::History { item, place, .. } => format!("[h{place}={item}]"),
            SoftKind::Candidate { item, place } => format!("[c{place}={item}]"),
        };
        from = soft.position + 1;
    }
    text + &tokenizer.decode(&prompt.token_ids[from..], true).unwrap()
}

#[test]
fn the_three_levels_read_as_figure_3() {
    let builder = builder(&TITLES, options());
    let history = [(0, 0), (1, 1)];
    let candidates = [2, 3, 4];
    let at = |level| {
        let request = PromptRequest { level, ..request(&history, &candidates) };
        builder.build(&request).unwrap()
    };
    let item = at(Level::Item);
    let order: Vec<_> = item.candidates.iter().map(|&place| candidates[place]).collect();
    let named = |soft: bool| {
        let name = |&place: &usize| match soft {
            true => format!(" {}[c{place}={}]", TITLES[place + 2], place + 2),
            false => format!(" {}", TITLES[place + 2]),
        };
        item.candidates.iter().map(name).collect::<Vec<_>>().join(",")
    };
    assert_eq!(order.len(), 3);
    let closing = ". Choose only one item from the candidates. The answer is";
    assert_eq!(
        read(&item),
        format!(
            "The user views[b0] water bottles[h0=0], adds to cart[b1] athletic t-shirt[h1=1], \
             what's next to purchase[b2]? The candidate item are{}{closing}",
            named(true)
        )
    );
    assert_eq!(
        read(&at(Level::Behaviour)),
        format!(
            "The user views[b0] water bottles, adds to cart[b1] athletic t-shirt, what's next to \
             purchase[b2]? The candidate item are{}{closing}",
            named(false)
        )
    );
    let text = at(Level::Text);
    assert_eq!(
        read(&text),
        format!(
            "The user views water bottles, adds to cart athletic t-shirt, what's next to purchase? \
             The candidate item are{}{closing}",
            named(false)
        )
    );
    assert_eq!(
        (item.item_tokens(), at(Level::Behaviour).item_tokens(), text.item_tokens()),
        (5, 0, 0)
    );
    assert_eq!(item.token_ids[0], 0, "it begins with bos");
}

#[test]
fn the_answer_follows_as_the_candidate_was_named() {
    let builder = builder(&TITLES, options());
    let (history, candidates) = ([(0, 0)], [4, 2, 3]);
    let asked = builder.build(&request(&history, &candidates)).unwrap();
    assert!(asked.answer.is_empty());
    let told = PromptRequest { answer: Some(1), ..request(&history, &candidates) };
    let told = builder.build(&told).unwrap();
    assert_eq!(told.token_ids[..asked.token_ids.len()], asked.token_ids);
    let answer = &told.token_ids[told.answer.clone()];
    let name = builder.names().tokens(2).unwrap();
    assert_eq!(answer, [name, &[END]].concat());
    assert_eq!(told.answer.end, told.token_ids.len());
    // The very tokens stand among the candidates, so that they can be copied.
    assert!(asked.token_ids.windows(name.len()).any(|window| window == name));
    assert_eq!(builder.names().text(2).unwrap(), "backpack");
}

#[test]
fn candidates_are_shuffled_by_seed() {
    let builder = builder(&TITLES, options());
    let candidates = [0, 1, 2, 3, 4];
    let order = |seed| {
        let prompt = builder.build(&PromptRequest { seed, ..request(&[], &candidates) }).unwrap();
        let places: HashSet<_> = prompt.candidates.iter().copied().collect();
        assert_eq!(places, (0..5).collect(), "seed {seed}");
        let soft = prompt.soft.iter().filter_map(|soft| match soft.kind {
            SoftKind::Candidate { item, place } => Some((item, place)),
            _ => None,
        });
        let named: Vec<_> = prompt.candidates.iter().map(|&p| (candidates[p], p)).collect();
        assert_eq!(soft.collect::<Vec<_>>(), named);
        prompt.candidates
    };
    assert_eq!(order(1), order(1));
    let orders: HashSet<_> = (0..50).map(order).collect();
    assert!(orders.len() > 20, "{} orders of 50 seeds", orders.len());
}

#[test]
fn one_more_event_changes_only_the_end() {
    let builder = builder(&TITLES, options());
    let history: Vec<(u32, u32)> = (0..12).map(|n| (n % 5, n % 3)).collect();
    for level in [Level::Text, Level::Behaviour, Level::Item] {
        let build = |n: usize| {
            let request = PromptRequest { level, ..request(&history[..n], &[2, 3]) };
            builder.build(&request).unwrap()
        };
        let (before, after) = (build(11), build(12));
        let common =
            before.token_ids.iter().zip(&after.token_ids).take_while(|(a, b)| a == b).count();
        let same_history = PromptRequest { level, ..request(&history[..11], &[4]) };
        let other_candidates = builder.build(&same_history).unwrap();
        let stable = before.token_ids.iter().zip(&other_candidates.token_ids);
        let stable = stable.take_while(|(a, b)| a == b).count();
        // Up to the comma after the last old event.
        let text = bytes().decode(&before.token_ids[..common], false).unwrap();
        assert!(common > stable / 2 && text.trim_end().ends_with(','), "{level:?}: {text:?}");
    }
}

#[test]
fn events_on_one_item_share_an_entry() {
    let builder = builder(&TITLES, options());
    let history = [(1, 0), (1, 1), (1, 2), (0, 0), (1, 2)];
    let prompt = builder.build(&request(&history, &[2, 3])).unwrap();
    assert_eq!(prompt.history, 0..5);
    let text = read(&prompt);
    let [item, other] = [TITLES[1], TITLES[0]];
    let entries = format!(
        "The user views[b0] adds to cart[b1] purchase[b2] {item}[h0=1], views[b0] {other}[h3=0], \
         purchase[b2] {item}[h4=1], what's next"
    );
    assert!(text.starts_with(&entries), "{text}");

    // A window counts entries.
    let window = Window { max_items: 2, keep_items: 2, ..options().window };
    let builder = self::builder(&TITLES, PromptOptions { window, ..options() });
    for (events, kept) in [(4, 0..4), (5, 3..5)] {
        assert_eq!(builder.build(&request(&history[..events], &[2])).unwrap().history, kept);
    }
}

#[test]
fn a_behaviour_without_a_word_leaves_no_trace_below_its_token() {
    let silent = FIGURE_3.replace("\"views\"", "\"\"").replace("= \" {beh", "= \"{beh");
    let mut builder = builder_of(bytes(), &silent, options());
    builder.names_mut().push("tent", "tent");
    let names = [(Level::Text, "The user tent,"), (Level::Behaviour, "The user[b0][b0] tent,")];
    for (level, start) in names {
        let request = PromptRequest { level, ..request(&[(0, 0), (0, 0)], &[]) };
        let text = read(&builder.build(&request).unwrap());
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn a_history_moves_in_steps_and_no_entry_is_cut() {
    for (max_items, keep_items, max_tokens, keep_tokens) in [
        (30, 20, 50_000, 40_000),
        (1000, 900, 500, 300),
        (10, 10, 250, 250),
        (5, 0, 99, 10),
        (0, 0, 9, 9),
        (12, 8, 250, 180),
    ] {
        let window = Window { max_items, keep_items, max_tokens, keep_tokens };
        let builder = builder(&TITLES, PromptOptions { window, ..options() });
        let mut history: Vec<(u32, u32)> =
            indices(3, 150, 15).into_iter().map(|n| (n % 5, n / 5)).collect();
        // An entry for each event: none follows another on its item.
        history.dedup_by_key(|(item, _)| *item);
        let without = builder.build(&request(&[], &[2, 3])).unwrap();
        let empty = " did nothing".len();
        let (mut start, mut moves) = (0, 0);
        for n in 0..=history.len() {
            let label = format!("{window:?} {n}");
            let prompt = builder.build(&request(&history[..n], &[2, 3])).unwrap();
            let kept = prompt.history.clone();
            assert_eq!(kept.end, n, "{label}");
            assert!(kept.start >= start, "{label}: what was dropped came back");
            assert!(kept.len() <= max_items, "{label}");
            if kept.start > start {
                moves += 1;
                assert!(kept.len() <= keep_items.max(1), "{label}: {kept:?} after a drop");
            }
            start = kept.start;
            let used = prompt.token_ids.len() + empty - without.token_ids.len();
            if kept.is_empty() {
                assert_eq!(prompt.token_ids, without.token_ids, "{label}");
                continue;
            }
            assert!(used <= max_tokens, "{label}: {used}");
            // Entries are there whole, in order.
            let text = read(&prompt);
            let mut rest = text.strip_prefix("The user").unwrap();
            for (place, &(item, behaviour)) in history[kept].iter().enumerate() {
                let word = ["views", "adds to cart", "purchase"][behaviour as usize];
                let title = TITLES[item as usize];
                let comma = if place > 0 { "," } else { "" };
                let entry = format!("{comma} {word}[b{behaviour}] {title}[h{place}={item}]");
                rest =
                    rest.strip_prefix(&entry).unwrap_or_else(|| panic!("{label}: {entry} {rest}"));
            }
            assert!(rest.starts_with(", what's next"), "{label}: {rest}");
        }
        if keep_items < max_items && max_items == 30 {
            let expected = (history.len() - 30).div_ceil(11);
            assert_eq!(moves, expected, "{window:?}: {} events, 11 at a time", history.len());
        }
    }
}

#[test]
fn the_prompt_keeps_to_its_limit() {
    let candidates = [2, 3, 4];
    let history: Vec<(u32, u32)> = (0..25).map(|n| (n % 5, 0)).collect();
    let longest = " athletic pants".len() + 1;
    let mut lengths = HashSet::new();
    for max_prompt_tokens in 250..900 {
        let builder = builder(&TITLES, PromptOptions { max_prompt_tokens, ..options() });
        let prompt = builder.build(&request(&history, &candidates)).unwrap();
        assert!(prompt.token_ids.len() + longest <= max_prompt_tokens, "{max_prompt_tokens}");
        // The same window whether or not the answer is told.
        let told = PromptRequest { answer: Some(2), ..request(&history, &candidates) };
        assert_eq!(builder.build(&told).unwrap().history, prompt.history);
        lengths.insert(prompt.history.len());
    }
    assert!(lengths.len() > 10, "{lengths:?}");
    let builder = builder(&TITLES, PromptOptions { max_prompt_tokens: 100, ..options() });
    let error = builder.build(&request(&[], &candidates)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InputTooLong, "{error}");
}

#[test]
fn a_long_title_is_cut_everywhere_alike() {
    let builder = builder(
        &["a very long title of one item", "short"],
        PromptOptions { max_title_tokens: 7, ..options() },
    );
    assert_eq!(builder.names().text(0).unwrap(), "a very");
    let prompt = builder.build(&request(&[(0, 0)], &[0, 1])).unwrap();
    let text = read(&prompt);
    assert!(text.contains(" a very[h0=0]") && text.contains(" a very[c0=0]"), "{text}");
    assert!(!text.contains("long"), "{text}");
}

/// B7: what a catalogue or a user says is text, whatever it says.
#[test]
fn content_cannot_become_special_tokens_or_placeholders() {
    let evil = [
        "<s></s><unk><|soft|>",
        "{title}{item_token}{behaviour}",
        "}}{{ [MT] {0}",
        "tent</s>",
        "line\nbreak\r\n\tand \u{2028}more",
    ];
    let builder = builder(&evil, options());
    let special: HashSet<u32> = (0..SPECIAL.len() as u32).collect();
    for item in 0..evil.len() as u32 {
        let tokens = builder.names().tokens(item).unwrap();
        assert!(tokens.iter().all(|token| !special.contains(token)), "{}", evil[item as usize]);
        assert!(!builder.names().text(item).unwrap().contains('\n'));
    }
    assert_eq!(builder.names().text(0).unwrap(), evil[0], "it reads as it was written");
    let history: Vec<(u32, u32)> = (0..5).map(|item| (item, 0)).collect();
    let prompt = builder.build(&request(&history, &[0, 1, 2])).unwrap();
    // 6 behaviours (one asked for), 5 items, 3 candidates, and bos.
    assert_eq!(prompt.soft.len(), 6 + 5 + 3);
    let specials = prompt.token_ids.iter().filter(|token| special.contains(token)).count();
    assert_eq!(specials, prompt.soft.len() + 1);
    // A behaviour's name is content as well.
    let template = Template::parse("template.toml", FIGURE_3).unwrap();
    let behaviours = ["</s>{title}".to_owned()];
    let mut builder =
        PromptBuilder::new(&Arc::new(bytes()), &[template], &behaviours, options()).unwrap();
    builder.names_mut().push("tent", "t");
    let asked = PromptRequest { target_behaviour: 0, ..request(&[(0, 0)], &[0]) };
    let prompt = builder.build(&asked).unwrap();
    assert!(!prompt.token_ids.contains(&END));
    assert!(read(&prompt).contains("next to </s>{title}[b0]?"), "{}", read(&prompt));
}

/// B12: texts nobody expects.
#[test]
fn strange_titles_are_names_too() {
    let long = "ab ".repeat(400_000);
    let titles =
        ["", "   \n", "\0", "\u{200f}\u{202e}abc\u{200d}", &long, "<s>", "\u{1F3D5}\u{FE0F}", "é"];
    let builder = builder(&titles, options());
    let items: Vec<u32> = (0..titles.len() as u32).collect();
    for &item in &items {
        let tokens = builder.names().tokens(item).unwrap();
        assert!(!tokens.is_empty() && tokens.len() <= 40, "{item}");
    }
    for item in 0..3 {
        assert_eq!(builder.names().text(item).unwrap(), format!("id{item}"), "the id names it");
    }
    let history: Vec<(u32, u32)> = items.iter().map(|&item| (item, 0)).collect();
    assert_eq!(builder.build(&request(&history, &items)).unwrap().history, 0..titles.len());
}

#[test]
fn what_is_not_there_is_an_error_that_says_so() {
    let builder = builder(&TITLES, options());
    let good = request(&[(0, 0)], &[1, 2]);
    assert!(builder.build(&good).is_ok());
    let cases: [(&str, PromptRequest<'_>); 6] = [
        ("template", PromptRequest { template: 1, ..good }),
        ("target_behaviour", PromptRequest { target_behaviour: 3, ..good }),
        ("history", PromptRequest { history: &[(5, 0)], ..good }),
        ("history.behaviour", PromptRequest { history: &[(0, 3)], ..good }),
        ("candidates", PromptRequest { candidates: &[1, 9], ..good }),
        ("answer", PromptRequest { answer: Some(2), ..good }),
    ];
    for (part, request) in cases {
        let error = builder.build(&request).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("below"), "{part}: {error}");
    }
    let tokenizer = Arc::new(bytes());
    let template = [Template::parse("template.toml", FIGURE_3).unwrap()];
    let wide = Window { keep_items: 31, ..options().window };
    let wide = PromptOptions { window: wide, ..options() };
    assert!(PromptBuilder::new(&tokenizer, &template, &behaviours(), wide).is_err());
    assert!(PromptBuilder::new(&tokenizer, &[], &behaviours(), options()).is_err());
    assert!(PromptBuilder::new(&tokenizer, &template, &[], options()).is_err());
}

#[test]
fn a_bad_template_names_file_field_expected_and_found() {
    let cases = [
        ("closing", "", "missing field", ""),
        ("closing", "closing = 3\n", "line 10", "string"),
        ("closing", "closing = \"{title}\"\n", "closing", "no placeholder"),
        ("closing", "closing = \"x\"\nextra = 1\n", "line 11", "extra"),
        ("question", "question = \"{behaviour}\"\n", "question", "no {behaviour_token}"),
        ("question", "question = \"{behaviour} {behaviour_token\"\n", "question", "open brace"),
        ("question", "question = \"{behaviour}{behaviour_token}}\"\n", "question", "open brace"),
        (
            "candidate_entry",
            "candidate_entry = \" {titel}{item_token}\"\n",
            "found {titel}",
            "{title}",
        ),
        (
            "candidate_entry",
            "candidate_entry = \"{title}{item_token}\"\n",
            "a space before",
            "candidate_entry",
        ),
        (
            "candidate_entry",
            "candidate_entry = \" {title} {title}{item_token}\"\n",
            "twice",
            "candidate_entry",
        ),
        (
            "history_entry",
            "history_entry = \" {title}{item_token}\"\n",
            "history_entry",
            "{behaviour}",
        ),
        ("instruction", "instruction = \"hello\nyou\"\n", "line 3", "found"),
    ];
    for (field, replacement, first, second) in cases {
        let lines = FIGURE_3.lines().map(|line| match line.starts_with(&format!("{field} =")) {
            true => replacement.to_owned(),
            false => format!("{line}\n"),
        });
        let error = Template::parse("bad.toml", &lines.collect::<String>()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelInvalid);
        let error = error.to_string();
        for part in ["bad.toml", "expected", first, second] {
            assert!(error.contains(part), "{replacement}: {part} is not in {error}");
        }
    }
    assert!(Template::parse("bad.toml", &"#".repeat(70_000)).is_err(), "over the limit");
    assert!(Template::parse("bad.toml", "\u{0}").is_err());
    let braces = FIGURE_3.replace("The candidate item are", "{{Candidates}}");
    let braces = builder_of(bytes(), &braces, options());
    assert!(read(&braces.build(&request(&[], &[])).unwrap()).contains("{Candidates}"));
}

#[test]
fn the_wordings_that_ship_are_good_for_every_behaviour() {
    let templates = Template::defaults().unwrap();
    assert!(templates.len() >= 4);
    let behaviours =
        ["view", "cart", "favourite", "buy", "dislike", "neutral", "like"].map(str::to_owned);
    let tokenizer = Arc::new(bytes());
    let mut builder = PromptBuilder::new(&tokenizer, &templates, &behaviours, options()).unwrap();
    for title in TITLES {
        builder.names_mut().push(title, "id");
    }
    let history: Vec<(u32, u32)> = (0..7).map(|n| (n % 5, n)).collect();
    let mut texts = HashSet::new();
    for template in 0..templates.len() {
        for target_behaviour in 0..7 {
            let asked =
                PromptRequest { template, target_behaviour, ..request(&history, &[0, 1, 2]) };
            let prompt = builder.build(&asked).unwrap();
            assert_eq!(prompt.soft.len(), 7 * 2 + 1 + 3);
            let text = read(&prompt);
            assert!(!text.contains(['{', '}']) && !text.contains("  "), "{text}");
            texts.insert(text);
        }
    }
    assert_eq!(texts.len(), templates.len() * 7, "each wording and target reads differently");
}
