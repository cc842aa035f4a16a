//! MLLM-SRec from a configuration to a bundle: tuned, asked yes or no, summarised offline, quantised.

use std::path::Path;

use serde_json::{Value, json};
use tributary::bundle;
use tributary::data::{Dataset, Split};
use tributary::device::Device;
use tributary::evaluate::{Negatives, draw_pairs};
use tributary::recommender::AnyRecommender;
use tributary::summary::{RuleSummaries, item_summary};
use tributary::train::{AnyConfig, FitOptions, TrainReport};
use tributary_core::Result;
use tributary_core::recommend::{Catalogue, CatalogueItem};
use tributary_tests::files::{assert_refused, tensors};
use tributary_tests::folder::Folder;

fn tributary(arguments: &[&str]) -> Value {
    tributary_tests::tributary(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

const ITEMS: usize = 24;

/// Everybody likes even items, which are of wood, and dislikes odd ones, which are of iron.
fn tastes(folder: &Folder) {
    let mut rows = String::from("user,item,behaviour\n");
    for user in 0..60usize {
        // Twelve places, each with an item of either material; nobody meets an item twice.
        let of = |nth: usize, iron: usize| (user * 6 + nth * 10) % ITEMS + iron;
        for nth in 0..8 {
            rows += &format!("u{user},i{},dislike\nu{user},i{},like\n", of(nth + 3, 1), of(nth, 0));
        }
        rows += &format!("u{user},i{},dislike\n", of(11, 1));
    }
    folder.write("events.csv", rows);
    let item = |n: usize| {
        let (material, picture) = [("wood", "brown"), ("iron", "grey")][n % 2];
        let item = json!({
            "id": format!("i{n}"),
            "title": format!("thing {n}"),
            "description": format!("Made of {material}."),
            "caption": format!("a {picture} picture"),
        });
        format!("{item}\n")
    };
    folder.write("catalogue.jsonl", (0..ITEMS).map(item).collect::<String>());
}

fn train(folder: &Folder, text: &str, out: &str) -> Result<TrainReport> {
    let config = AnyConfig::read(&folder.write("config.toml", text))?;
    let out = folder.path().join(out);
    config.run(&FitOptions { out, resume: false, max_steps: None }, &mut |_| {})
}

const SASREC: &str = "[model]\nkind = 'sasrec'\nhidden_size = 8\nnum_hidden_layers = 1\n\
    [data]\npath = 'events.csv'\n[training]\nbatch_size = 16\nepochs = 1\n";

const CONFIG: &str = "[model]\nkind = 'mllm_srec'\nretriever = 'sasrec'\nmax_candidates = 5\n\
    [model.prompt]\nchain = 'prefix'\nwording = 'both'\nwindow = 3\nstep = 2\nmax_item_tokens = 16\n\
    max_summary_tokens = 16\nmax_prompt_tokens = 600\n\
    [language]\nvocab_size = 320\nhidden_size = 48\nintermediate_size = 64\n\
    num_hidden_layers = 2\nhead_dim = 24\nnum_attention_heads = 2\nnum_key_value_heads = 2\n\
    [data]\npath = 'events.csv'\ntarget_behaviour = 'like'\nnegatives = 'dislike'\n\
    prompts_per_user = 2\ntargets = 3\nvalidation_users = 20\n\
    [training]\nbatch_size = 12\nepochs = 12\npatience = 0\nmetric = 'auc'\n\
    [optimizer]\nlearning_rate = 0.004\n";

#[test]
fn it_learns_to_say_yes_to_what_a_user_likes() {
    let folder = Folder::new("mllm-srec");
    tastes(&folder);
    train(&folder, SASREC, "sasrec").expect("a retriever");
    let config = folder.write("srec.toml", CONFIG);
    let out = folder.path().join("srec");
    let report = tributary(&["train", text(&config), "--out", text(&out)]);
    println!("{report}");
    let data = folder.path().join("events.csv");
    let evaluate = |bundle: &Path, negatives: &str| {
        tributary(&[
            "evaluate",
            "--bundle",
            text(bundle),
            "--data",
            text(&data),
            "--target-behaviour",
            "like",
            "--pairs",
            negatives,
            "--users",
            "30",
        ])
    };
    let result = evaluate(&out, "dislike");
    let auc = result["metrics"]["auc_pairs"].as_f64().unwrap();
    assert!(auc > 0.9, "auc {auc}, training {report}");
    assert_eq!(result["metrics"]["auc_pairs"], result["pairs"]["auc_pairs"]);
    assert_eq!(result["pairs"]["pairs"].as_array().unwrap().len(), 30);
    assert!(result["retrieved"]["users"].as_u64().is_some(), "a retriever chose");

    // What waits for nobody is written before; then nothing is left to write.
    let before = bundle::read(&out).unwrap();
    let recommender = AnyRecommender::load(&before, Device::Cpu).unwrap();
    assert!(recommender.catalogue().get(0).unwrap().summary.is_some(), "by rule");
    let history = "i0:like,i1:dislike,i2:like,i4:like,i6:like";
    let ask =
        || tributary(&["recommend", "--bundle", text(&out), "--history", history, "--k", "3"]);
    let answer = ask();
    assert_eq!(answer["items"].as_array().unwrap().len(), 3);
    assert!(answer["usage"]["generated_tokens"].as_u64().unwrap() > 0);
    let one = "user,item,behaviour\nu,i0,like\nu,i1,dislike\nu,i2,like\nu,i4,like\nu,i6,like\n";
    let one = folder.write("one.csv", one);
    let done = tributary(&["summarize", "--bundle", text(&out), "--data", text(&one), "--items"]);
    assert_eq!((&done["windows"], &done["items"]), (&json!(1), &json!(0)));
    assert!(bundle::read(&out).unwrap().has("summaries"));
    let again = ask();
    assert_eq!(again["usage"]["generated_tokens"], 0);
    for (a, b) in again["items"].as_array().unwrap().iter().zip(answer["items"].as_array().unwrap())
    {
        let [a_score, b_score] = [a, b].map(|item| item["score"].as_f64().unwrap());
        assert!(a["id"] == b["id"] && (a_score - b_score).abs() < 1e-4, "{a}, {b}");
    }

    // Fewer bits keep the order of most pairs, and the summaries.
    let small = folder.path().join("small");
    tributary(&["quantize", text(&out), "--format", "q8", "--out", text(&small)]);
    assert!(bundle::read(&small).unwrap().has("summaries"));
    let auc = evaluate(&small, "random")["metrics"]["auc_pairs"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&auc));
    let auc = evaluate(&small, "dislike")["metrics"]["auc_pairs"].as_f64().unwrap();
    assert!(auc > 0.85, "q8: {auc}");
}

#[test]
fn whole_prompts_and_items_can_be_lessons_and_runs_repeat() {
    let folder = Folder::new("mllm-srec-prompt");
    tastes(&folder);
    train(&folder, SASREC, "sasrec").expect("a retriever");
    let config = CONFIG.replace("epochs = 12", "epochs = 1").replace("'prefix'", "'summary'")
        + "[loss]\non = 'prompt'\ntext = 0.5\n";
    let config = config.replace("targets = 3", "targets = 1\nitem_lessons = 1");
    let runs = ["a", "b"].map(|out| {
        train(&folder, &config, out).expect("a run");
        tensors(&folder.path().join(out).join("model.safetensors"))
    });
    assert!(runs[0] == runs[1], "the same run twice");
    for (from, to, says) in [
        ("metric = 'auc'", "metric = 'ndcg@10'", "training.metric"),
        ("'dislike'", "'buy'", "negatives"),
        ("retriever = 'sasrec'", "retriever = 'none'", "none"),
        ("window = 3", "window = 1", "step"),
        ("text = 0.5", "text = -1.0", "loss.text"),
        ("targets = 1", "targets = 0", "data.targets"),
    ] {
        assert_refused(says, train(&folder, &config.replace(from, to), "c"), &[says]);
    }
}

#[test]
fn pairs_hold_nothing_that_training_may_see() {
    let folder = Folder::new("mllm-srec-pairs");
    tastes(&folder);
    let mut data = Dataset::read(&folder.path().join("events.csv")).unwrap();
    data.hold_out("like").unwrap();
    let disliked = Negatives::Behaviour("dislike".into());
    for negatives in [Negatives::Random, disliked] {
        let pairs = draw_pairs(&data, Split::Test, &negatives, 3).unwrap();
        assert_eq!(pairs, draw_pairs(&data, Split::Test, &negatives, 3).unwrap());
        assert!(pairs.len() > 20, "{negatives}: {}", pairs.len());
        for pair in pairs {
            let user = &data.users[pair.user];
            let seen = &user.items[..data.training_len(user)];
            assert!(!seen.contains(&pair.positive) && !seen.contains(&pair.negative), "{pair:?}");
            let touched = user.items.contains(&pair.negative);
            assert_eq!(touched, negatives != Negatives::Random);
        }
    }
    let none = Negatives::Behaviour("love".into());
    assert_refused("no such", draw_pairs(&data, Split::Test, &none, 3), &["love", "dislike"]);
}

#[test]
fn rules_say_what_a_window_has_in_common() {
    let item = |id: &str, description: &str, caption: Option<&str>| CatalogueItem {
        title: format!("Title {id}"),
        description: Some(description.into()),
        caption: caption.map(str::to_owned),
        ..CatalogueItem::new(id)
    };
    let catalogue = Catalogue::new(vec![
        item("a", "Genres: Drama, Crime", Some("a dark picture")),
        item("b", "Genres: Drama", None),
        item("c", "Genres: Comedy", Some("a red picture")),
        CatalogueItem::new("d"),
    ])
    .unwrap();
    let rules = RuleSummaries::new(&catalogue);
    let says = |words: &str| format!("The user appears to have a preference for {words}.");
    assert_eq!(rules.preference(&[0, 1], None), says("drama, genres"));
    assert_eq!(rules.preference(&[2, 3], None), "The user appears to have no clear preference.");
    // What was known before counts on, and fades where nothing new supports it.
    let second = rules.preference(&[0, 3], Some(&says("drama")));
    assert_eq!(second, says("drama"));
    assert_eq!(
        rules.preference(&[2, 3], Some(&second)),
        "The user appears to have no clear preference."
    );
    assert_eq!(
        item_summary(&catalogue.items()[0]).as_deref(),
        Some("Title a. Genres: Drama, Crime. Its picture: a dark picture.")
    );
    assert_eq!(item_summary(&catalogue.items()[3]), None);
}
