//! MLLM4Rec: prompts with letters, the tokens that answer them, requests, and a ranker that is trained.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use pollster::block_on;
use tributary::data::{Dataset, prepare_shop};
use tributary::evaluate::{EvaluateOptions, evaluate};
use tributary::train::{AnyConfig, FitOptions, Stopped};
use tributary::{bundle, recommender::Kind};
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::llama::TokenId;
use tributary_core::prompt::{LabelToken, LetterOptions, LetterPrompts, LetterTemplate, Window};
use tributary_core::recommend::{
    Catalogue, CatalogueItem, ItemId, Mllm4RecConfig, Mllm4RecParts, Mllm4RecRecommender, Prior,
    Question, Recommendations, Recommender, Request, Scorer,
};
use tributary_core::tokenizer::Tokenizer;
use tributary_core::weights::NamedTensor;
use tributary_tests::folder::Folder;
use tributary_tests::tiny_sasrec::{candidates, constant, history, ids};
use tributary_tests::tiny_tmf::{TITLES, catalogue, llama};
use tributary_tests::tiny_tokenizer::bytes;
use tributary_tests::{on_each_backend, program, shared};

fn template() -> LetterTemplate {
    let (file, text) = LetterTemplate::SOURCE;
    LetterTemplate::parse(file, text).unwrap()
}

fn options() -> LetterOptions {
    LetterOptions {
        window: Window { max_items: 6, keep_items: 4, max_tokens: 400, keep_tokens: 300 },
        max_candidates: 4,
        max_prompt_tokens: 1500,
        bos_token_id: Some(0),
        end_token_id: 1,
        ..LetterOptions::default()
    }
}

/// Prompts about the tiny items; every second has a caption.
fn prompts(options: LetterOptions) -> LetterPrompts {
    let mut prompts = LetterPrompts::new(Arc::new(bytes()), template(), options).unwrap();
    for item in captioned().items() {
        prompts.push(&item.title, item.id.as_str(), item.caption.as_deref());
    }
    prompts
}

fn captioned() -> Catalogue {
    let mut catalogue = catalogue(&TITLES);
    for item in (0..TITLES.len()).step_by(2) {
        let id = ItemId::from(format!("t{item}"));
        assert!(catalogue.set_caption(&id, &format!("picture {item}"), "by hand").unwrap());
    }
    catalogue
}

fn config() -> Mllm4RecConfig {
    Mllm4RecConfig { prompt: options(), cold_candidates: 0 }
}

fn parts<B: Backend>(b: &B) -> Mllm4RecParts<B> {
    let tokenizer = Arc::new(bytes());
    Mllm4RecParts { model: llama(b, 1), tokenizer, template: template(), catalogue: captioned() }
}

fn recommender<B: Backend>(b: &B, config: Mllm4RecConfig) -> Mllm4RecRecommender<B> {
    Mllm4RecRecommender::new(b.clone(), parts(b), config).unwrap()
}

/// Finds the items in the order of their numbers.
fn retrieved<B: Backend>(b: &B) -> Mllm4RecRecommender<B, impl Scorer + use<B>> {
    recommender(b, config())
        .with_retriever(constant(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]))
}

fn asks(items: &[&str]) -> Request {
    Request { history: history(items), k: 100, ..Request::default() }
}

#[test]
fn a_prompt_reads_as_the_paper_prints_it() {
    let tokenizer = bytes();
    let prompts = prompts(LetterOptions { role: "beauty".into(), ..options() });
    let prompt = prompts.build(&[0, 1], &[2, 3], Some(1)).unwrap();
    assert_eq!((prompt.token_ids[0], &prompt.history), (0, &(0..2)));
    let text = tokenizer.decode(&prompt.token_ids, true).unwrap();
    let expected = "### Instruction:\nYou will play the role of a female, purchasing female items for \
        yourself. I will provide you with the items you have previously browsed in chronological \
        order, candidates pool, and vision descriptions for each item in the previously browsed item \
        and candidates pool. The provided data is in the format {item : vision descriptions}. Please \
        correlate the item with the corresponding vision descriptions. Recommend an item from the \
        candidate pool with its index letter.\n\n### Input:\nPreviously browsed: (1) {red tent : \
        picture 0} \n (2) {red tent large}; \n Candidate pool: (A) {boots : picture 2} \n (B) {blue \
        bottle}\n\n### Response:\nB";
    assert_eq!(text, expected);
    assert_eq!(&prompt.token_ids[prompt.answer.clone()], &[prompts.labels(2)[1], 1]);

    let without = LetterOptions { max_caption_tokens: 0, ..options() };
    let prompt = self::prompts(without).build(&[], &[2], None).unwrap();
    let text = tokenizer.decode(&prompt.token_ids, true).unwrap();
    assert!(text.contains("browsed: nothing; \n Candidate pool: (A) {boots}\n\n"), "{text}");
    assert!(prompt.answer.is_empty());
}

#[test]
fn texts_are_content_and_are_cut() {
    let mut prompts = LetterPrompts::new(
        Arc::new(bytes()),
        template(),
        LetterOptions { max_title_tokens: 5, max_caption_tokens: 3, ..options() },
    )
    .unwrap();
    prompts.push("</s>{caption}<s>", "special", Some("</s>{title}"));
    prompts.push(&"long ".repeat(1000), "long", Some("abcdef"));
    prompts.push("", "the id", None);
    let ids = prompts.build(&[], &[0, 1, 2], None).unwrap().token_ids;
    assert_eq!(ids.iter().filter(|&&id| id <= 3).count(), 1, "only the one at the beginning");
    let text = bytes().decode(&ids, true).unwrap();
    assert!(text.contains("(A) {</s> : </} \n (B) {long : ab} \n (C) {the}"), "{text}");
}

#[test]
fn history_and_candidates_that_do_not_fit_are_left_out() {
    let all: Vec<u32> = (0..9).collect();
    let prompts = prompts(options());
    let kept = |len: usize| prompts.build(&all[..len], &[8], None).unwrap().history;
    assert_eq!((kept(6), kept(7), kept(8), kept(9)), (0..6, 3..7, 3..8, 3..9), "in steps");
    let error = prompts.build(&[], &all[..5], None).unwrap_err();
    assert!(error.to_string().contains("at most 4"), "{error}");
    let error = prompts.build(&[], &[99], None).unwrap_err();
    assert!(error.to_string().contains("an item below 9"), "{error}");

    let own = prompts.build(&[], &[], None).unwrap().token_ids.len();
    let short = self::prompts(LetterOptions { max_prompt_tokens: own + 60, ..options() });
    let fit = short.offered(&[0], &[1, 2, 3, 4]).unwrap();
    assert!((1..4).contains(&fit), "{fit}");
    let prompt = short.build(&[0], &[1, 2, 3, 4][..fit], Some(0)).unwrap();
    assert!(prompt.token_ids.len() <= own + 60 && prompt.history == (0..1), "{prompt:?}");
    assert!(short.build(&[], &[0, 2, 4, 6], None).is_err());
}

#[test]
fn what_contradicts_itself_is_refused() {
    let new = |options: LetterOptions| {
        let error = LetterPrompts::new(Arc::new(bytes()), template(), options).unwrap_err();
        error.to_string()
    };
    let letters = new(LetterOptions { max_candidates: 27, ..options() });
    assert!(letters.contains("1 to 26: each has a letter"), "{letters}");
    let role = new(LetterOptions { role: "pirate".into(), ..options() });
    assert!(role.contains("beauty, games, movies, shop, toys"), "{role}");
    let room = new(LetterOptions { max_prompt_tokens: 100, ..options() });
    assert!(room.contains("room for more than the template's own"), "{room}");
    assert!(new(LetterOptions { max_title_tokens: 0, ..options() }).contains("at least 1"));

    let (file, text) = LetterTemplate::SOURCE;
    for (from, to, expected) in [
        ("({index})", "(x)", "{index}, each once"),
        ("{caption}}}", "{name}}}", "{name}"),
        ("separator =", "separators =", "line"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = LetterTemplate::parse(file, &text.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let cpu = Cpu::new();
    let long = LetterOptions { max_prompt_tokens: 5000, ..options() };
    let config = Mllm4RecConfig { prompt: long, cold_candidates: 0 };
    let error = Mllm4RecRecommender::new(cpu, parts(&cpu), config).unwrap_err();
    assert!(error.to_string().contains("at most 4096"), "{error}");
    let error = Mllm4RecConfig::parse("x.json", r#"{"cold_candidates": 21}"#).unwrap_err();
    assert!(error.to_string().contains("at most max_candidates, 20"), "{error}");
    assert!(Mllm4RecConfig::parse("x.json", r#"{"colour": 1}"#).is_err());
    let json = self::config().to_json().unwrap();
    assert_eq!(Mllm4RecConfig::parse("x.json", &json).unwrap(), self::config());
}

/// The trap of Llama 2's tokenizer: behind a line feed "A" is another token than by itself.
#[test]
fn real_tokenizers_answer_with_the_token_behind_the_prompt() {
    let Some(folder) = shared().map(|shared| shared.join("weights/tokenizers")) else { return };
    let twenty = |label_token| LetterOptions {
        label_token,
        max_candidates: 20,
        max_prompt_tokens: 1536,
        bos_token_id: None,
        ..LetterOptions::default()
    };
    for (name, differ) in [("llama2", true), ("gpt2", false), ("smollm2", false)] {
        let file = std::fs::read(folder.join(name).join("tokenizer.json")).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_bytes(name, &file).unwrap());
        let new = |options| LetterPrompts::new(tokenizer.clone(), template(), options).unwrap();
        let mut prompts = new(twenty(LabelToken::InContext));
        let alone = new(twenty(LabelToken::Alone));
        assert_eq!(prompts.labels(20) != alone.labels(20), differ, "{name}");
        prompts.push("Toy Story", "1", Some("a cartoon"));
        for place in [0, 7, 19] {
            let prompt = prompts.build(&[0, 0], &[0; 20], Some(place)).unwrap();
            let before = &prompt.token_ids[..prompt.answer.start];
            // The prompt's end as one text, the letter behind it.
            let letter = char::from(b'A' + place as u8);
            let whole = tokenizer.encode(&format!("Response:\n{letter}"), false).unwrap();
            assert_eq!(whole.last(), Some(&prompts.labels(20)[place]), "{name} {letter}");
            assert_eq!(whole[whole.len() - 2], *before.last().unwrap(), "{name}: the line feed");
            let text = tokenizer.decode(&prompt.token_ids[..=prompt.answer.start], true).unwrap();
            assert!(text.ends_with(&format!("### Response:\n{letter}")), "{name}: {text}");
        }
        if name == "llama2" {
            let (a, newline): (TokenId, TokenId) = (29909, 13);
            assert_eq!((prompts.labels(1), alone.labels(1)), (&[a][..], &[319][..]));
            let prompt = prompts.build(&[0], &[0], None).unwrap();
            assert_eq!(prompt.token_ids.last(), Some(&newline));
        }
    }
}

#[test]
fn every_backend_gives_the_same_ranking() {
    let mut first: Option<Recommendations> = None;
    on_each_backend!(backend, b => {
        let answer = block_on(retrieved(&b).recommend(&asks(&["t3", "t5"]))).unwrap();
        println!("{backend}");
        // t0, t1, t2, t4 are read, and the others follow as they were found.
        assert_eq!(&ids(&answer)[4..], ["t6", "t7", "t8"], "{backend}");
        assert!(answer.items.is_sorted_by(|a, b| a.score >= b.score), "{backend}");
        assert_eq!((answer.usage.history_items, answer.usage.candidates), (2, 7), "{backend}");
        let expected = first.get_or_insert_with(|| answer.clone());
        assert_eq!(ids(&answer), ids(expected), "{backend}");
        for (a, b) in answer.items.iter().zip(&expected.items) {
            assert!((a.score - b.score).abs() < 1e-3, "{backend}: {a:?}, {b:?}");
        }
    });
}

#[test]
fn scores_are_the_letters_logits_of_the_prompt() {
    let cpu = Cpu::new();
    let model = retrieved(&cpu);
    let prompts = prompts(options());
    let prompt = prompts.build(&[3, 5], &[0, 1, 2, 4], None).unwrap();
    let mut session =
        tributary_core::session::Session::new(cpu, Arc::new(llama(&cpu, 1)), 4096).unwrap();
    session.prefill(&prompt.token_ids).unwrap();
    let expected = block_on(session.logits(Some(prompts.labels(4)))).unwrap();
    let question = Question { items: &[3, 5], ..Question::default() };
    let answer = block_on(model.answer_batch(&[question])).unwrap().remove(0);
    assert_eq!(answer.read, Some(4));
    let found = [0, 1, 2, 4].map(|item: usize| answer.scores[item]);
    assert_eq!(&found[..], &expected[..]);
    assert!(answer.scores[6] < expected.iter().copied().fold(f32::MAX, f32::min));
    assert!(answer.scores[3] == f32::MIN, "seen");
}

#[test]
fn unusual_requests_have_answers() {
    let cpu = Cpu::new();
    let model = retrieved(&cpu);
    let ask = |request: &Request| block_on(model.recommend(request));
    // Two items of one title, and one that contains another: letters tell them apart.
    let listed = |names: &[&str]| Request { candidates: candidates(names), ..asks(&["t3"]) };
    let answer = ask(&listed(&["t2", "t6", "t4", "t0"])).unwrap();
    let mut found = ids(&answer);
    found.sort_unstable();
    assert_eq!(found, ["t0", "t2", "t4", "t6"]);
    // One event, none, none that is known.
    assert_eq!(ask(&asks(&["t3"])).unwrap().items.len(), 8);
    let prior = ask(&asks(&[])).unwrap();
    assert_eq!(&ids(&prior)[..3], ["t8", "t7", "t6"], "the most popular first");
    let unknown = ask(&asks(&["nobody"])).unwrap();
    assert_eq!((ids(&unknown), unknown.usage.unknown_items), (ids(&prior), 1));
    // Everything seen.
    let all: Vec<String> = (0..TITLES.len()).map(|n| format!("t{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert!(ask(&asks(&all)).unwrap().items.is_empty());
    assert_eq!(ask(&Request { exclude_seen: false, ..asks(&all) }).unwrap().items.len(), 9);
    assert!(ask(&Request { k: 0, ..asks(&["t3"]) }).unwrap().items.is_empty());
    assert!(ask(&listed(&[])).unwrap().items.is_empty());
    let error = ask(&listed(&["t1", "nothing"])).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    let query = Request { query: Some("tents".into()), ..asks(&["t3"]) };
    let error = ask(&query).unwrap_err();
    assert!(error.to_string().contains("mllm4rec reads no text"), "{error}");
    assert_eq!(ask(&Request { k: 2, ..asks(&["t3"]) }).unwrap().items.len(), 2);
}

#[test]
fn candidates_without_room_are_ranked_behind() {
    let cpu = Cpu::new();
    let own = prompts(options()).build(&[], &[], None).unwrap().token_ids.len();
    let tight = |extra: usize| {
        let prompt = LetterOptions { max_prompt_tokens: own + extra, ..options() };
        let model = recommender(&cpu, Mllm4RecConfig { prompt, cold_candidates: 0 });
        let model = model.with_retriever(constant(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]));
        block_on(model.answer_batch(&[Question { items: &[3], ..Question::default() }])).unwrap()
    };
    assert_eq!(tight(400)[0].read, Some(4));
    assert_eq!(tight(80)[0].read, Some(2));
    let none = tight(20).remove(0);
    assert_eq!(none.read, Some(0));
    let order = [0, 1, 2, 4, 5, 6, 7, 8].map(|item: usize| none.scores[item]);
    assert!(order.is_sorted_by(|a, b| a > b), "the retriever's order: {order:?}");
}

#[test]
fn a_new_item_is_offered_though_the_retriever_does_not_know_it() {
    let cpu = Cpu::new();
    let config = Mllm4RecConfig { cold_candidates: 1, ..config() };
    let scores = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
    let mut model = recommender(&cpu, config).with_retriever(constant(&scores));
    let new = CatalogueItem {
        title: "new lamp".into(),
        caption: Some("a lamp".into()),
        ..CatalogueItem::new("new")
    };
    model.add_item(new.clone()).unwrap();
    assert!(model.add_item(new).is_err(), "twice");
    let answer = block_on(model.recommend(&asks(&["t3", "new"]))).unwrap();
    assert_eq!(answer.usage.history_items, 2);
    let answer = block_on(model.recommend(&asks(&["t3"]))).unwrap();
    let mut read = ids(&answer)[..4].to_vec();
    read.sort_unstable();
    assert_eq!(read, ["new", "t0", "t1", "t2"]);
}

/// What the prefix cache saves of the next event's prompt: instruction and history stay.
#[test]
fn a_new_event_costs_its_own_tokens_and_the_candidates() {
    let cpu = Cpu::new();
    let (kept, without) = (retrieved(&cpu), retrieved(&cpu).with_prefix_cache(0));
    let usage = |model: &dyn Fn(&Request) -> Recommendations| {
        model(&asks(&["t3", "t5"]));
        model(&asks(&["t3", "t5", "t7"])).usage
    };
    let next = usage(&|request| block_on(kept.recommend(request)).unwrap());
    let candidates = prompts(options()).build(&[], &[0, 1, 2, 4], None).unwrap().token_ids.len()
        - prompts(options()).build(&[], &[], None).unwrap().token_ids.len();
    let new = next.prompt_tokens - next.cached_tokens;
    println!("next event: {} tokens, {} of them computed", next.prompt_tokens, new);
    assert!(new < candidates + 100, "{new} computed, candidates have {candidates}");
    // A session keeps its own prompt; another user's in between takes it.
    block_on(without.recommend(&asks(&["t3", "t5"]))).unwrap();
    block_on(without.recommend(&asks(&["t1"]))).unwrap();
    let again = block_on(without.recommend(&asks(&["t3", "t5", "t7"]))).unwrap().usage;
    assert!(again.prompt_tokens - again.cached_tokens > new, "{again:?}");
}

const RETRIEVER: &str = "[model]\nkind = 'lru_rec'\nhidden_size = 32\nmax_seq_len = 8\n\
    [data]\npath = 'shop'\n[training]\nepochs = 1\nbatch_size = 8\n";
const RANKER: &str = "[model]\nkind = 'mllm4rec'\nretriever = 'retriever'\n\
    [prompt]\nmax_candidates = 5\nmax_prompt_tokens = 400\nmax_title_tokens = 6\n\
    window = { max_items = 4, keep_items = 3, max_tokens = 100, keep_tokens = 80 }\n\
    [language]\nvocab_size = 600\nhidden_size = 32\nintermediate_size = 64\n\
    num_hidden_layers = 2\nnum_attention_heads = 2\nnum_key_value_heads = 2\nhead_dim = 16\n\
    [data]\npath = 'shop'\n[examples]\nper_user = 2\n\
    [training]\nepochs = 2\nbatch_size = 4\nmetric = 'ndcg@5'\nlog_every = 1\n[optimizer]\nlearning_rate = 0.003\n";

#[test]
fn a_ranker_is_trained_resumed_quantised_and_served() {
    let folder = Folder::new("letters-train");
    prepare_shop(&folder.path().join("shop"), 12, 1).unwrap();
    let train = |name: &str, text: &str, out: &str, max_steps: Option<u64>| {
        folder.write(name, text.as_bytes());
        let config = AnyConfig::read(&folder.path().join(name)).unwrap();
        let out = folder.path().join(out);
        config.run(&FitOptions { out, resume: true, max_steps }, &mut |_| ()).unwrap()
    };
    train("retriever.toml", RETRIEVER, "retriever", None);
    let whole = train("ranker.toml", RANKER, "whole", None);
    assert_eq!(whole.stopped, Stopped::Finished);
    let paused = train("ranker.toml", RANKER, "parts", Some(3));
    assert_eq!((paused.stopped, paused.steps), (Stopped::Paused, 3));
    train("ranker.toml", RANKER, "parts", None);
    let bytes =
        |out: &str| std::fs::read(folder.path().join(out).join("model.safetensors")).unwrap();
    assert_eq!(bytes("whole"), bytes("parts"), "resumed to the bit");
    for (name, change) in [
        ("retrieved", ["per_user = 2", "negatives = 'retrieved'\nshuffle = false"]),
        ("spoken", ["per_user = 2", "per_user = 1\nprompt_loss = 1.0"]),
    ] {
        let text =
            RANKER.replace(change[0], change[1]).replace("candidates = 5", "candidates = 26");
        let report = train("other.toml", &text, name, Some(2));
        assert!(report.loss.is_some_and(f64::is_finite), "{name}");
    }

    let found = bundle::from_model(&folder.path().join("whole")).unwrap();
    assert_eq!(found.manifest.recommender, "mllm4rec");
    let served = Kind::load(&found, &Cpu::new()).unwrap();
    let data = Dataset::read(&folder.path().join("shop")).unwrap();
    let result =
        evaluate(&served, served.catalogue(), &data, &EvaluateOptions::default(), |_, _| ());
    let result = result.unwrap();
    let retrieved = result.retrieved.expect("a retriever and a ranker");
    assert_eq!(retrieved.denominator, "over_retrieved_users");
    let share = retrieved.users as f64 / result.users as f64;
    let all = result.metrics["hit_rate@5"];
    assert!((all - share).abs() < 1e-9, "whom it retrieved is among the first 5: {all}, {share}");
    if retrieved.users > 0 {
        assert_eq!(retrieved.metrics["hit_rate@5"], 1.0);
    }
    let item = served.catalogue().get(0).unwrap().id.clone();
    let request = Request { history: history(&[item.as_str()]), ..Request::default() };
    let answer = block_on(served.recommend(&request)).unwrap();
    assert_eq!(answer.items.len(), request.k);

    // QLoRA over what was trained: the language model stays, its adapter goes on.
    let base = "kind = 'mllm4rec'\nlanguage = 'whole'";
    let adapted = RANKER.replace("kind = 'mllm4rec'", base).replace(
        "[language]",
        "[adapter]\nr = 2\nquantization = 'nf4'\ntarget_modules = ['q_proj', 'v_proj']\n[language]",
    );
    let report = train("lora.toml", &adapted, "adapted", Some(2));
    assert!(report.loss.is_some_and(f64::is_finite));
    assert!(folder.path().join("adapted/adapter/adapter_model.safetensors").is_file());
    let adapted = bundle::from_model(&folder.path().join("adapted")).unwrap();
    assert!(Kind::load(&adapted, &Cpu::new()).is_ok());

    // In q8 the retriever and the ranker are smaller, and rank alike.
    let run = Command::new(program())
        .arg("quantize")
        .arg(folder.path().join("whole"))
        .args(["--format", "q8", "--out"])
        .arg(folder.path().join("q8"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let size = |file: &str| std::fs::metadata(folder.path().join(file)).unwrap().len();
    assert!(size("q8/retriever.safetensors") < size("whole/retriever.safetensors") / 2);
    assert!(size("q8/model.safetensors") < size("whole/model.safetensors") / 2);
    let small = bundle::from_model(&folder.path().join("q8")).unwrap();
    let small = Kind::load(&small, &Cpu::new()).unwrap();
    let found = block_on(small.recommend(&request)).unwrap();
    let same = ids(&found).iter().filter(|id| ids(&answer).contains(id)).count();
    assert!(same * 2 >= request.k, "{same} of {} are the same", request.k);
}

#[test]
fn the_retriever_must_know_the_same_items() {
    let folder = Folder::new("letters-other");
    prepare_shop(&folder.path().join("shop"), 12, 1).unwrap();
    std::fs::create_dir_all(folder.path().join("retriever")).unwrap();
    let empty = BTreeMap::new();
    let tensors = [NamedTensor::f32("x", &[1], &[0.0])];
    let mut files = BTreeMap::new();
    tributary_core::weights::save_safetensors(&tensors, &empty, None, &mut files).unwrap();
    folder.write("retriever/model.safetensors", &files["model.safetensors"]);
    folder.write("retriever/config.json", b"{}");
    folder.write("ranker.toml", RANKER.as_bytes());
    let config = AnyConfig::read(&folder.path().join("ranker.toml")).unwrap();
    let options = FitOptions { out: folder.path().join("out"), resume: false, max_steps: Some(1) };
    let error = config.run(&options, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("the 600 items of"), "{error}");
    for (from, to, expected) in [
        ("max_candidates = 5", "max_candidates = 30", "max_candidates"),
        ("per_user = 2", "prompt_loss = -1.0", "prompt_loss"),
        ("[language]", "[adapter]\n[language]", "model.language"),
    ] {
        folder.write("wrong.toml", RANKER.replace(from, to).as_bytes());
        let error = AnyConfig::read(&folder.path().join("wrong.toml")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// The prior is a retriever, too.
#[test]
fn without_a_retriever_the_most_popular_are_offered() {
    let cpu = Cpu::new();
    let model: Mllm4RecRecommender<Cpu, Prior> = recommender(&cpu, config());
    let answer = block_on(model.recommend(&asks(&["t3"]))).unwrap();
    let mut read = ids(&answer)[..4].to_vec();
    read.sort_unstable();
    assert_eq!(read, ["t5", "t6", "t7", "t8"]);
}
