//! SASRec from a file of sequences to a folder that another backend loads.

use std::path::Path;

use tributary::burn_backend::{Burn, BurnDevice, BurnOptions};
use tributary::files::open_model;
use tributary::train::{CHECKPOINT, FitOptions, Stopped, TrainConfig, TrainReport, WEIGHTS, run};
use tributary_core::Result;
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::sasrec::SasRecConfig;
use tributary_core::recommend::{Recommender, Scorer, SequenceRecommender};
use tributary_core::weights::Weights;
use tributary_tests::files::tensors;
use tributary_tests::folder::Folder;
use tributary_tests::nmse;

const NUM_ITEMS: usize = 12;

/// A folder with `sequences.txt` (60 users walk a circle of items, forwards or backwards, so two
/// items say which comes next) and `config.toml`.
struct Walk(Folder);

impl Walk {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let user = |user: usize| {
            let step = if user.is_multiple_of(2) { 1 } else { NUM_ITEMS - 1 };
            // Users of one start differ in length, so a longer one shows what comes next.
            let items: Vec<String> = (0..5 + user / 12 % 4)
                .map(|i| format!("{}", 1 + (user * 5 + i * step) % NUM_ITEMS))
                .collect();
            format!("{} {}\n", user + 1, items.join(" "))
        };
        let text: String = (0..60).map(user).collect();
        folder.write("sequences.txt", text);
        Self(folder)
    }

    fn config(&self, change: &str) -> Result<TrainConfig> {
        let text = format!(
            "[model]\nkind = 'sasrec'\nhidden_size = 32\nnum_hidden_layers = 1\nmax_seq_len = 6\n\
             hidden_dropout_prob = 0.1\nattention_probs_dropout_prob = 0.1\n\
             [data]\npath = 'sequences.txt'\n\
             [training]\nbatch_size = 16\nepochs = 150\npatience = 0\n{change}\n\
             [optimizer]\nlearning_rate = 0.004\n"
        );
        TrainConfig::read(&self.0.write("config.toml", text))
    }

    fn train(
        &self,
        out: &str,
        resume: bool,
        max_steps: Option<u64>,
        change: &str,
    ) -> Result<TrainReport> {
        let options = FitOptions { out: self.0.path().join(out), resume, max_steps };
        run(&self.config(change)?, &options, &mut |_| {})
    }
}

fn scores<B: Backend>(b: &B, folder: &Path) -> Result<Vec<f32>> {
    let folder = open_model(folder)?;
    let config = SasRecConfig::parse("config.json", &folder.config)?;
    let weights = Weights::new(b, &folder.checkpoint);
    let recommender = SequenceRecommender::load(&weights, config, None)?;
    assert!(weights.unused().is_empty(), "{:?}", weights.unused());
    pollster::block_on(recommender.score_batch(&[&[3], &[1, 2, 3], &[7, 6, 5, 4, 3, 2, 1]]))
}

#[test]
fn a_trained_folder_scores_the_same_on_the_cpu_backend() {
    let folder = Walk::new("sasrec-folder");
    let report = folder.train("out", false, None, "").expect("a run");
    assert_eq!(report.stopped, Stopped::Finished);
    // The walk's direction is in the history, so nearly every next item can be known.
    let best = report.best.expect("a validation per epoch");
    assert!(best.metric > 0.9, "ndcg@10 {} after {} steps", best.metric, report.steps);

    let out = folder.0.path().join("out");
    for file in ["config.json", "catalogue.jsonl", "curve.csv", "curve.svg"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let burn = Burn::new(BurnDevice::Cpu, BurnOptions::default()).expect("burn-flex");
    let burn = scores(&burn, &out).expect("the burn backend loads it");
    let cpu = scores(&Cpu::default(), &out).expect("the CPU backend loads it");
    assert_eq!(burn.len(), 3 * NUM_ITEMS);
    let truth: Vec<f64> = burn.iter().map(|&x| f64::from(x)).collect();
    assert!(nmse(&cpu, &truth) < 1e-10, "nmse {:.1e}", nmse(&cpu, &truth));
}

/// BPR sees no order, so which item comes next is known by those that were met already.
#[test]
fn bpr_is_trained_by_pairs_resumes_and_serves() {
    let folder = Walk::new("train-bpr");
    let text = "[model]\nkind = 'bpr'\nhidden_size = 16\nmax_seq_len = 6\n\
        [data]\npath = 'sequences.txt'\n[training]\nbatch_size = 16\nepochs = 100\npatience = 0\n\
        log_every = 4\n[optimizer]\nlearning_rate = 0.01\n";
    let config = TrainConfig::read(&folder.0.write("config.toml", text)).expect("bpr");
    let train = |out: &str, resume, max_steps| {
        let options = FitOptions { out: folder.0.path().join(out), resume, max_steps };
        run(&config, &options, &mut |_| {}).expect("bpr")
    };
    let report = train("out", false, None);
    let curve = std::fs::read_to_string(folder.0.path().join("out/curve.csv")).expect("a curve");
    let loss = |line: &str| line.split(',').nth(2).and_then(|loss| loss.parse::<f64>().ok());
    let first = curve.lines().nth(1).and_then(loss).expect("a point");
    let (last, best) = (report.loss.expect("a loss"), report.best.expect("a validation"));
    println!("bpr: loss {first} ... {last}, ndcg@10 {}", best.metric);
    // ln 2 is the loss of scores that say nothing.
    assert!((first - std::f64::consts::LN_2).abs() < 0.01 && last < 0.3, "{first} ... {last}");
    // Of 12 items in any order .45 is expected.
    assert!(best.metric > 0.6, "ndcg@10 {} of {} steps", best.metric, report.steps);
    train("whole", false, Some(5));
    train("parts", false, Some(2));
    train("parts", true, Some(3));
    let weights = |out: &str| tensors(&folder.0.path().join(out).join(WEIGHTS));
    assert_eq!(weights("whole"), weights("parts"));

    let bundle = tributary::bundle::from_model(&folder.0.path().join("out")).expect("a folder");
    let recommender = bundle.sequence_recommender(&Cpu::new()).expect("bpr");
    assert_eq!(recommender.name(), "bpr");
    // A user of nobody's history, on the device.
    let scores = pollster::block_on(recommender.score_batch(&[&[3, 4, 5]])).expect("scores");
    let best = (0..NUM_ITEMS).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("an item");
    assert!([2, 6].contains(&best) || (3..=5).contains(&best), "{best}: {scores:?}");
}

/// The recurrent models learn the same walk from the same file, and their folders are bundles that
/// name them.
#[test]
fn recurrent_models_are_trained_by_the_same_objective() {
    for kind in ["lru_rec", "gru4rec"] {
        let folder = Walk::new(&format!("train-{kind}"));
        let text = format!(
            "[model]\nkind = '{kind}'\nhidden_size = 32\nnum_hidden_layers = 1\nmax_seq_len = 3\n\
             hidden_dropout_prob = 0.1\n[data]\npath = 'sequences.txt'\n\
             [training]\nbatch_size = 16\nepochs = 120\npatience = 0\n\
             [optimizer]\nlearning_rate = 0.004\n"
        );
        let config = TrainConfig::read(&folder.0.write("config.toml", &text)).expect(kind);
        let out = folder.0.path().join("out");
        let options = FitOptions { out: out.clone(), resume: false, max_steps: None };
        let report = run(&config, &options, &mut |_| {}).expect(kind);
        let best = report.best.expect("a validation per epoch");
        assert!(best.metric > 0.9, "{kind}: ndcg@10 {} of {} steps", best.metric, report.steps);
        let bundle = tributary::bundle::from_model(&out).expect("a folder that serves");
        assert_eq!(bundle.manifest.recommender, kind);
        let recommender = bundle.sequence_recommender(&Cpu::new()).expect(kind);
        assert_eq!(recommender.name(), kind);
        let wrong = text.replace("hidden_dropout_prob", "attention_probs_dropout_prob");
        let error = TrainConfig::read(&folder.0.write("wrong.toml", wrong)).expect_err(kind);
        assert!(error.to_string().contains("attention_probs_dropout_prob"), "{error}");
    }
}

/// Everybody buys five items of a circle of six, one after the other, and views whatever there is
/// between two purchases: only what was bought tells what will be.
#[test]
fn a_target_behaviour_is_what_training_and_validation_are_about() {
    let folder = Walk::new("sasrec-behaviour");
    let mut rows = "user,item,behaviour\n".to_string();
    for user in 0..120_usize {
        // Users of one start differ in length, so that every place is trained.
        for look in 0..user / 6 % 10 {
            rows += &format!("{user},first{look},view\n");
        }
        for round in 0..5 {
            let bought = (user + round) % 6;
            rows += &format!("{user},circle{bought},view\n{user},circle{bought},buy\n");
            rows += &format!("{user},look{},view\n", (user * 7 + round * 5) % 19);
        }
    }
    folder.0.write("events.csv", rows);
    let text = "[model]\nkind = 'sasrec'\nhidden_size = 32\nnum_hidden_layers = 1\n\
                hidden_dropout_prob = 0.1\nattention_probs_dropout_prob = 0.1\n\
                [data]\npath = 'events.csv'\ntarget_behaviour = 'BEHAVIOUR'\n\
                validation_candidates = 11\n\
                [training]\nbatch_size = 16\nepochs = 60\npatience = 0\nmetric = 'hit_rate@1'\n\
                [optimizer]\nlearning_rate = 0.004\n";
    let train = |behaviour: &str| {
        let config = folder.0.write("buy.toml", text.replace("BEHAVIOUR", behaviour));
        let out = folder.0.path().join("out");
        let options = FitOptions { out, resume: false, max_steps: None };
        run(&TrainConfig::read(&config)?, &options, &mut |_| {})
    };
    let best = train("buy").expect("a run").best.expect("a validation per epoch");
    assert!(best.metric > 0.9, "hit_rate@1 {} among 11", best.metric);
    let error = train("rent").expect_err("no such behaviour").to_string();
    assert!(error.contains("view, buy"), "{error}");
}

#[test]
fn a_resumed_sasrec_ends_with_the_same_weights_bit_for_bit() {
    let folder = Walk::new("sasrec-resume");
    let short = "checkpoint_every = 3";
    let change = format!("{short}\nlog_every = 2");
    folder.train("whole", false, Some(30), &change).expect("an uninterrupted run");
    for (part, steps) in [7, 4, 19].into_iter().enumerate() {
        folder.train("parts", part > 0, Some(steps), &change).expect("a part");
    }
    for file in [CHECKPOINT, WEIGHTS] {
        let [whole, parts] =
            ["whole", "parts"].map(|out| tensors(&folder.0.path().join(out).join(file)));
        assert!(!whole.is_empty() && whole == parts, "{file}");
    }

    let moved = "sequences.txt";
    let more = std::fs::read_to_string(folder.0.path().join(moved)).expect("ours") + "61 1 2 3 4\n";
    std::fs::write(folder.0.path().join(moved), more).expect("a temporary folder");
    let error = folder.train("parts", true, None, &change).expect_err("other data").to_string();
    assert!(error.contains("data.sha256"), "{error}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_before_training() {
    let folder = Walk::new("sasrec-refused");
    for (change, part) in [
        ("metric = 'ndgc@10'", "ndcg@10"),
        ("metric = 'ndcg'", "training.metric"),
        ("log_every = 0", "training.log_every"),
        ("batchsize = 3", "batchsize"),
    ] {
        let error = folder.train("out", false, None, change).expect_err(change).to_string();
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert!(!folder.0.path().join("out").join(CHECKPOINT).exists());
}
