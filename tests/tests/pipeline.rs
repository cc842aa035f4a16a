//! Stages of a file: run once, left out afterwards, run again when something changed.

use std::process::Command;

use serde_json::Value;
use tributary_tests::folder::Folder;
use tributary_tests::program;

fn run(folder: &Folder) -> Result<Vec<(String, bool)>, String> {
    let output = Command::new(program())
        .current_dir(folder.path())
        .args(["pipeline", "stages.toml", "--json"])
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = json["stages"].as_array().unwrap().iter();
    Ok(stages
        .map(|stage| {
            (stage["name"].as_str().unwrap().to_owned(), stage["skipped"].as_bool().unwrap())
        })
        .collect())
}

const STAGES: &str = r#"
record = "done.json"

[[stage]]
name = "shop"
command = "prepare shop --out shop --users 3"
writes = ["shop"]

[[stage]]
name = "baselines"
command = "evaluate --data shop --target-behaviour buy --candidates 11 --baselines --save-candidates sets.jsonl"
reads = ["shop/shop.inter"]
writes = ["sets.jsonl"]
"#;

#[test]
fn a_stage_runs_when_something_changed_and_only_then() {
    let folder = Folder::new("pipeline");
    folder.write("stages.toml", STAGES);
    let both = |first, second| vec![("shop".to_owned(), first), ("baselines".to_owned(), second)];
    assert_eq!(run(&folder).unwrap(), both(false, false));
    assert_eq!(run(&folder).unwrap(), both(true, true));

    // What a stage wrote is gone; what it reads is not.
    std::fs::remove_file(folder.path().join("sets.jsonl")).unwrap();
    assert_eq!(run(&folder).unwrap(), both(true, false));
    // What both depend on has changed.
    folder.write("stages.toml", STAGES.replace("--users 3", "--users 4"));
    assert_eq!(run(&folder).unwrap(), both(false, false));
    assert_eq!(run(&folder).unwrap(), both(true, true));

    folder.write("stages.toml", STAGES.replace("prepare shop", "prepare nothing"));
    let error = run(&folder).unwrap_err();
    assert!(error.contains("stage shop") && error.contains("nothing"), "{error}");
    // A command that cannot be read stops all, also what stands before it.
    std::fs::remove_dir_all(folder.path().join("shop")).unwrap();
    folder.write("stages.toml", STAGES.replace("--baselines", "--basslines"));
    let error = run(&folder).unwrap_err();
    assert!(error.contains("stage baselines") && error.contains("--basslines"), "{error}");
    assert!(!folder.path().join("shop").exists(), "nothing ran");
    folder.write(
        "stages.toml",
        STAGES.replace("prepare shop --out shop --users 3", "pipeline stages.toml"),
    );
    let error = run(&folder).unwrap_err();
    assert!(error.contains("stage shop") && error.contains("another pipeline"), "{error}");
    folder.write("stages.toml", STAGES.replace("\"baselines\"", "\"shop\""));
    let error = run(&folder).unwrap_err();
    assert!(error.contains("a name of its own"), "{error}");
    let words = r#"["prepare", "shop", "--out", "the shop", "--users", "3"]"#;
    let blanks = STAGES.replace(r#""prepare shop --out shop --users 3""#, words);
    let blanks = blanks.replace(r#"writes = ["shop"]"#, r#"writes = ["the shop"]"#);
    folder.write("stages.toml", blanks.replace("--data shop", "--data 'the shop'"));
    let error = run(&folder).unwrap_err();
    assert!(error.contains("stage baselines") && error.contains("quotes"), "{error}");
    folder.write("stages.toml", &blanks[..blanks.rfind("[[stage]]").unwrap()]);
    assert_eq!(run(&folder).unwrap(), [("shop".to_owned(), false)]);
    assert!(folder.path().join("the shop/shop.inter").exists());
    folder.write("stages.toml", STAGES);
    let record = std::fs::read_to_string(folder.path().join("done.json")).unwrap();
    folder.write("done.json", &record[..record.len() / 2]);
    let error = run(&folder).unwrap_err();
    assert!(error.contains("done.json") && error.contains("without this file"), "{error}");
    folder.write("stages.toml", STAGES.replace("writes", "rites"));
    let error = run(&folder).unwrap_err();
    assert!(error.contains("stages.toml") && error.contains("rites"), "{error}");
}
