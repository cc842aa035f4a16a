//! Saved runs: written, read back, refused when damaged, and compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parquet::data_type::Int64Type;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;
use tributary::evaluate::{
    CompareOptions, MAX_ID_BYTES, MAX_TOP, Run, UserResult, compare, histogram, read_run, read_top,
    write_run,
};
use tributary_core::metrics::{AtK, RankMetric};
use tributary_core::random::Random;
use tributary_core::recommend::ItemId;
use tributary_tests::folder::Folder;
use tributary_tests::program;
use tributary_tests::tiny_sasrec::catalogue;

fn user(name: &str, rank: Option<usize>) -> UserResult {
    let target = ItemId::from(format!("target of {name}"));
    UserResult { user: name.into(), target, rank, num_candidates: 100, top: None }
}

fn run(file: &str, users: Vec<UserResult>) -> Run {
    Run { file: file.into(), about: BTreeMap::new(), users }
}

/// Users u0, u1, ... whose targets have these ranks.
fn ranked(file: &str, ranks: impl IntoIterator<Item = usize>) -> Run {
    let users = ranks.into_iter().enumerate();
    run(file, users.map(|(n, rank)| user(&format!("u{n}"), Some(rank))).collect())
}

fn options(metrics: &[&str]) -> CompareOptions {
    let metrics = metrics.iter().map(|name| RankMetric::parse(name).unwrap()).collect();
    CompareOptions { metrics, samples: 2000, ..CompareOptions::default() }
}

/// A file of `users` users with every kind of row.
fn saved(path: &Path, users: usize) -> Vec<UserResult> {
    let mut random = Random::new(4);
    let mut one = |n: usize| {
        let rank = (n % 5 != 3).then(|| random.below(100) as usize);
        let items = random.below(4);
        let top = (n % 3 != 1).then(|| (0..items).map(|_| random.below(9) as u32).collect());
        UserResult { top, ..user(&format!("Ünal {n}"), rank) }
    };
    let results: Vec<UserResult> = (0..users).map(&mut one).collect();
    let about = BTreeMap::from([("data".to_owned(), "shop".to_owned())]);
    write_run(path, &about, None, &results, &catalogue(9)).unwrap();
    results
}

#[test]
fn a_run_is_read_as_it_was_written() {
    let folder = Folder::new("runs");
    let path = folder.path().join("run.parquet");
    for users in [0, 1, 7, 20_000] {
        let mut expected = saved(&path, users);
        let found = read_run(&path).unwrap();
        assert_eq!((found.file.as_str(), found.about["data"].as_str()), ("run.parquet", "shop"));
        let lists = read_top(&path).unwrap();
        let id = |item: u32| ItemId::from(format!("i{item}"));
        for (list, user) in lists.into_iter().zip(&expected) {
            let items = user.top.clone().map(|top| top.into_iter().map(id).collect());
            assert_eq!(list, items, "{}", user.user);
        }
        expected.iter_mut().for_each(|user| user.top = None);
        assert!(found.users == expected, "{users} users");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap()).collect();
    assert_eq!(names.len(), 1, "nothing half written stays: {names:?}");
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let folder = Folder::new("limits");
    let path = folder.path().join("run.parquet");
    let long = UserResult { top: Some(vec![0; MAX_TOP + 1]), ..user("u", None) };
    let name = "u".repeat(MAX_ID_BYTES + 1);
    for (result, says) in [(long, "items of a list"), (user(&name, None), "user's name")] {
        let error = write_run(&path, &BTreeMap::new(), None, &[result], &catalogue(2)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(!path.exists());
    }
}

/// Both readers' answer to these bytes, which may be anything but a panic.
fn read_both(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).unwrap();
    let run = read_run(path).map_err(|error| error.to_string());
    let top = read_top(path).map_err(|error| error.to_string());
    run.and_then(|_| top.map(|_| ()))
}

#[test]
fn damaged_runs_are_errors() {
    let folder = Folder::new("damaged");
    let path = folder.path().join("run.parquet");
    saved(&path, 50);
    let good = std::fs::read(&path).unwrap();
    for end in (0..good.len()).step_by(7) {
        let error = read_both(&path, &good[..end]).unwrap_err();
        assert!(error.contains("run.parquet"), "cut at {end}: {error}");
    }
    let mut random = Random::new(1);
    let mut refused = 0;
    for _ in 0..800 {
        let mut bad = good.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(bad.len() as u64) as usize;
            bad[place] = random.next_u64() as u8;
        }
        refused += usize::from(read_both(&path, &bad).is_err());
    }
    assert!(refused > 200, "{refused} of 800");
    for (bytes, says) in [
        (&b""[..], "PAR1"),
        (b"user,target\n", "PAR1"),
        (b"PAR1\xff\xff\xff\x7fPAR1", "bytes of the footer"),
        (b"PAR1\xff\xff\x00\x00PAR1", "footer"),
    ] {
        let error = read_both(&path, bytes).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_file_cannot_claim_more_rows_than_it_has() {
    let folder = Folder::new("claims");
    let path = folder.path().join("run.parquet");
    // A row group of 8192 users, and its count as Thrift writes it; then as if it were a million.
    saved(&path, 8192);
    let good = std::fs::read(&path).unwrap();
    let (count, million) = ([0x80, 0x80, 0x01], [0x80, 0x89, 0x7a]);
    let places: Vec<usize> = (0..good.len() - 3).filter(|&n| good[n..n + 3] == count).collect();
    let footer = good.len()
        - 8
        - u32::from_le_bytes(good[good.len() - 8..][..4].try_into().unwrap()) as usize;
    let claim = |places: &[usize]| {
        let mut bad = good.clone();
        places.iter().for_each(|&place| bad[place..place + 3].copy_from_slice(&million));
        read_both(&path, &bad).unwrap_err()
    };
    let footers: Vec<usize> = places.iter().copied().filter(|&place| place >= footer).collect();
    assert!(footers.len() >= 6, "of the file, the group and the columns: {footers:?}");
    let error = claim(&footers);
    assert!(error.contains("1000000 rows, as it claims, found 8192"), "{error}");
    // And the pages claim it, too.
    let error = claim(&places);
    assert!(error.contains("column `user`"), "{error}");
}

/// A Parquet file of this schema with one row of numbers.
fn numbers(path: &Path, message: &str, values: &[i64]) {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let file = File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for value in values {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[*value], None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn other_parquet_files_are_named_by_their_columns() {
    let folder = Folder::new("columns");
    let path = folder.path().join("other.parquet");
    numbers(&path, "message m { required int64 user; required int64 item; }", &[1, 2]);
    for error in [read_run(&path).unwrap_err(), read_top(&path).unwrap_err()] {
        let error = error.to_string();
        assert!(error.contains("user INT64, item INT64") && error.contains("--save"), "{error}");
    }
}

#[test]
fn equal_runs_do_not_differ() {
    let a = ranked("a", (0..200).map(|n| n % 30));
    let found = compare(&a, &a, &options(&["hit_rate@10", "ndcg@10", "auc"]), || ()).unwrap();
    assert_eq!((found.users, found.only_a, found.only_b), (200, 0, 0));
    for metric in &found.metrics {
        assert_eq!((metric.difference, metric.interval, metric.p_value), (0.0, [0.0; 2], 1.0));
        assert_eq!((metric.a_better, metric.equal, metric.b_better), (0, 200, 0));
    }
}

#[test]
fn a_comparison_is_what_it_says_by_hand() {
    let a = ranked("a", [0, 1, 9, 50]);
    let b = ranked("b", [1, 1, 60, 10]);
    let found = compare(&a, &b, &options(&["mrr@10", "hit_rate@11", "auc"]), || ()).unwrap();
    let [mrr, hit, auc] = found.metrics.as_slice() else { panic!("{found:?}") };
    assert_eq!((mrr.a, mrr.b), ((1.0 + 0.5 + 0.1) / 4.0, (0.5 + 0.5) / 4.0));
    assert_eq!((mrr.difference, mrr.a_better, mrr.equal, mrr.b_better), (mrr.a - mrr.b, 2, 2, 0));
    assert_eq!((hit.a, hit.b), (0.75, 0.75));
    assert_eq!((hit.a_better, hit.equal, hit.b_better), (1, 2, 1));
    assert!(hit.interval[0] < 0.0 && hit.interval[1] > 0.0 && hit.p_value > 0.5, "{hit:?}");
    assert!((auc.a - (4.0 - 60.0 / 99.0) / 4.0).abs() < 1e-12, "{}", auc.a);
    assert_eq!(found.denominator, "over_all_users");
    // The other way round.
    let back = compare(&b, &a, &options(&["mrr@10"]), || ()).unwrap();
    assert_eq!(back.metrics[0].difference, -mrr.difference);
    let [low, high] = back.metrics[0].interval;
    assert!((low + mrr.interval[1]).abs() < 1e-12 && (high + mrr.interval[0]).abs() < 1e-12);
}

#[test]
fn a_clear_difference_is_found_and_samples_follow_the_seed() {
    let mut random = Random::new(2);
    let mut hits = |percent| -> Vec<usize> {
        (0..1000).map(|_| if random.percent(percent) { 0 } else { 99 }).collect()
    };
    let (a, b) = (ranked("a", hits(60)), ranked("b", hits(45)));
    let found = compare(&a, &b, &options(&["hit_rate@1"]), || ()).unwrap();
    let metric = &found.metrics[0];
    assert!(metric.interval[0] > 0.05 && metric.p_value < 0.01, "{metric:?}");
    assert_eq!(compare(&a, &b, &options(&["hit_rate@1"]), || ()).unwrap(), found);
    let other = CompareOptions { seed: 2, ..options(&["hit_rate@1"]) };
    assert_ne!(compare(&a, &b, &other, || ()).unwrap().metrics[0].interval, metric.interval);
}

#[test]
fn users_of_one_run_alone_are_counted_and_left_out() {
    let a = run("a", vec![user("u", Some(0)), user("v", Some(5)), user("x", Some(0))]);
    let b = run("b", vec![user("w", Some(1)), user("v", None), user("u", Some(0))]);
    let found = compare(&a, &b, &options(&["hit_rate@10"]), || ()).unwrap();
    assert_eq!((found.users, found.only_a, found.only_b), (2, 1, 1));
    let metric = &found.metrics[0];
    assert_eq!((metric.a, metric.b), (1.0, 0.5), "a target without a rank is a miss");

    let mut other = b.clone();
    other.users[2].target = "another".into();
    let twice = run("twice", vec![user("u", Some(0)), user("u", Some(0))]);
    let nobody = run("nobody", vec![user("z", Some(0))]);
    for (b, says) in [
        (&other, "target of user u: expected target of u as in a, found another"),
        (&twice, "each user once, found u"),
        (&nobody, "some of those of a"),
        (&run("empty", vec![]), "some of those of a"),
    ] {
        let error = compare(&a, b, &options(&["auc"]), || ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    for (options, says) in [
        (CompareOptions { samples: 0, ..options(&["auc"]) }, "`samples` is 0"),
        (CompareOptions { samples: 1 << 40, ..options(&["auc"]) }, "1 to 1000000"),
        (CompareOptions { confidence: f64::NAN, ..options(&["auc"]) }, "NaN"),
        (options(&[]), "neither of them 0"),
    ] {
        let error = compare(&a, &b, &options, || ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn expectations_over_draws_are_compared_as_such() {
    let folder = Folder::new("exact");
    let path = folder.path().join("run.parquet");
    let users = [user("u", Some(3)), user("v", Some(40))];
    write_run(&path, &BTreeMap::new(), Some(20), &users, &catalogue(1)).unwrap();
    let exact = read_run(&path).unwrap();
    let found = compare(&exact, &exact, &options(&["ndcg@5"]), || ()).unwrap();
    let expected = [3, 40].map(|rank| AtK::expected(rank, 99, 19, 5).ndcg);
    assert!((found.metrics[0].a - (expected[0] + expected[1]) / 2.0).abs() < 1e-12);
}

#[test]
fn the_picture_shows_every_metric_and_holds_no_markup_of_file_names() {
    let (a, b) = (ranked("a", [0, 1, 9, 50]), ranked("b", [1, 1, 60, 10]));
    for runs in [(&a, &b), (&a, &a)] {
        let found = compare(runs.0, runs.1, &options(&["mrr@10", "hit_rate@11"]), || ()).unwrap();
        let svg = histogram(&found, "<a&b>", "b");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("&lt;a&amp;b&gt; - b") && !svg.contains("<a&b>"));
        assert_eq!(svg.matches("<g ").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.len() < 100_000, "{}", svg.len());
    }
}

fn call(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program()).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_saves_and_compares() {
    let folder = Folder::new("compare-cli");
    let at = |name: &str| -> String { folder.path().join(name).to_str().unwrap().into() };
    let lines: String = (0..60)
        .map(|u| {
            let item = |n: usize| format!("u{u},i{}\n", (u * 7 + n * n) % 23);
            (0..6).map(item).collect::<String>()
        })
        .collect();
    let data = folder.write("data.csv", format!("user,item\n{lines}"));
    let data = data.to_str().unwrap();
    let (a, b, exact) = (at("a.parquet"), at("b.parquet"), at("exact.parquet"));
    let json = |arguments: &[&str]| -> Value {
        let (code, out, error) = call(&[&["evaluate", "--json"], arguments].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {error}");
        serde_json::from_str(&out).unwrap()
    };
    let evaluated = json(&["--baselines", "--data", data, "--save", &a]);
    let metrics = &evaluated["metrics"];
    assert!(metrics["catalogue_coverage@10"].is_number() && metrics["novelty@10"].is_number());
    assert!(metrics["auc"].is_number() && metrics["intra_list_diversity@10"].is_null());
    json(&["--baselines", "--data", data, "--split", "valid", "--save", &b]);
    let sampled = ["--baselines", "--data", data, "--candidates", "5", "--exact"];
    let expected = json(&[&sampled[..], &["--save", &exact]].concat());
    assert!(expected["metrics"]["novelty@10"].is_null());

    let plot = at("plot.svg");
    let same = json(&["--compare", &a, &a, "--samples", "500", "--plot", &plot]);
    assert!(std::fs::read_to_string(&plot).unwrap().contains("hit_rate@10"));
    assert_eq!((&same["users"], &same["a"]["about"]["data"]), (&60.into(), &"data.csv".into()));
    assert_eq!(same["metrics"]["ndcg@10"]["a"], metrics["ndcg@10"]);
    assert_eq!(same["metrics"]["auc"]["p_value"], 1.0);
    let asked = ["--compare", &a, &exact, "--metric", "hit_rate@1,recall@1", "--samples", "99"];
    let draws = json(&asked);
    assert_eq!(draws["metrics"].as_object().unwrap().len(), 1);
    let hit = draws["metrics"]["hit_rate@1"]["b"].as_f64().unwrap();
    assert!((hit - expected["metrics"]["hit_rate@1"].as_f64().unwrap()).abs() < 1e-12);
    assert!(draws["differs"][0].as_str().unwrap().contains("exact expectation"), "{draws}");
    let (_, text, _) = call(&["evaluate", "--compare", &a, &exact, "--samples", "99"]);
    assert!(text.contains("60 users in both") && text.contains("95 % interval"), "{text}");

    let table: PathBuf = folder.write("table.safetensors", b"nothing");
    for (arguments, code, says) in [
        (&["--compare", &a, &b][..], 1, "target of user"),
        (&["--compare", &a], 2, "2 values"),
        (&["--compare", &a, &b, "--data", data], 2, "--data"),
        (&["--baselines", "--data", data, "--samples", "9"], 2, "--samples"),
        (&["--baselines", "--data", data, "--plot", &plot], 2, "--plot"),
        (&["--compare", &a, data], 1, "PAR1"),
        (&["--compare", &a, &a, "--metric", "map@3"], 1, "map@3"),
        (&["--compare", &a, &a, "--k", "0"], 1, "hit_rate@0"),
        (&["--baselines", "--data", data, "--save", &b, "--k", "5000"], 1, "at most 1000"),
        (
            &["--baselines", "--data", data, "--diversity-table", table.to_str().unwrap()],
            1,
            "table.safetensors",
        ),
    ] {
        let (found, _, error) = call(&[&["evaluate"], arguments].concat());
        assert_eq!(found, Some(code), "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}
