//! Rules of the house: floors, file lengths, nothing that belongs to one machine.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of the repository: what git tracks or would.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git");
    let text = String::from_utf8(output.stdout).unwrap();
    let files: Vec<_> = text.lines().map(PathBuf::from).collect();
    assert!(files.len() > 100, "git lists the repository's files");
    files.into_iter().filter(|file| root().join(file).is_file()).collect()
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known))
}

/// The modules of `core`, ground first; a module uses only what stands before it.
const FLOORS: [&[&str]; 12] = [
    &["error", "dtype", "digest", "random"],
    &["backend"],
    &["weights"],
    &["nn"],
    &["models"],
    &["tokenizer", "preprocess"],
    &["prompt"],
    &["session", "encoder"],
    &["vision_language"],
    &["metrics"],
    &["recommend"],
    &["shop"],
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn a_module_uses_only_the_floors_below_it() {
    let mut uses = 0;
    for file in files() {
        let Ok(inside) = file.strip_prefix("core/src") else { continue };
        if inside == Path::new("lib.rs") || !has_ending(&file, &["rs"]) {
            continue;
        }
        let module = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        let own = floor(module).unwrap_or_else(|| panic!("{module} has no floor"));
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let used: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                // `crate::{Error, Result}` and such are the ground's.
                let Some(used_floor) = floor(&used) else { continue };
                uses += 1;
                assert!(
                    used == module || used_floor < own || (used_floor == 0 && own == 0),
                    "{} uses `{used}`, which is not below `{module}`: {line}",
                    file.display()
                );
            }
        }
    }
    assert!(uses > 100, "only {uses} uses were seen: the test no longer reads the code");
}

#[test]
fn no_file_is_above_500_lines() {
    for file in files() {
        if has_ending(
            &file,
            &["rs", "wgsl", "template", "mjs", "js", "ts", "css", "html", "py", "sh", "toml", "md"],
        ) || file == Path::new("run")
        {
            let lines = std::fs::read_to_string(root().join(&file)).unwrap().lines().count();
            assert!(lines <= 500, "{}: {lines} lines", file.display());
        }
    }
}

#[test]
fn nothing_of_one_machine_is_in_the_repository() {
    // Joined here, so that this file does not hold what it looks for.
    let banned =
        [["/wo", "rk/"], ["/ro", "ot/"], ["/home", "/"], ["/tm", "p/"]].map(|p| p.concat());
    for file in files() {
        const TEXTS: [&str; 13] = [
            "rs", "wgsl", "toml", "md", "json", "mjs", "js", "ts", "css", "html", "py", "sh",
            "jsonl",
        ];
        if !has_ending(&file, &TEXTS) {
            continue;
        }
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for path in &banned {
            assert!(!text.contains(path.as_str()), "{} holds {path}", file.display());
        }
    }
}

#[test]
fn library_code_does_not_panic_on_purpose() {
    for file in files() {
        let library =
            ["core/src", "native/src", "wasm/src"].iter().any(|dir| file.starts_with(dir));
        if !library || !has_ending(&file, &["rs"]) {
            continue;
        }
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for word in [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "dbg!("] {
            assert!(!text.contains(word), "{} holds `{word}`", file.display());
        }
    }
}
