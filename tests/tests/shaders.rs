//! Every linked shader through Tint, Chrome's compiler, which refuses what naga accepts (a barrier
//! after a lane-dependent return, for one), and the header comment of every shader file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tributary_core::backend::gpu::{Shader, shaders};

/// The text as a browser gets it.
fn text(shader: &Shader) -> String {
    format!("{}{}", shader.directives, shader.source)
}

/// A folder with one file per linked shader.
fn linked(folder: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&folder).unwrap();
    for shader in shaders() {
        fs::write(folder.join(format!("{}.wgsl", shader.name)), text(shader)).unwrap();
    }
    folder
}

/// Compiles every shader of the folder with the program `tint`; `None` when there is none.
fn by_program(folder: &Path) -> Option<Vec<String>> {
    let mut refused = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "wgsl") {
            continue;
        }
        let written = file.with_extension("out");
        let mut tint = Command::new("tint");
        tint.args(["--format", "wgsl", "-o"]).args([&written, &file]);
        let output = match tint.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            output => output.unwrap(),
        };
        if !output.status.success() {
            refused.push(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Some(refused)
}

/// Compiles with the npm package `webgpu` in Node; `None` when it is not installed.
fn by_node(folder: &Path) -> Option<Vec<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tint/check.mjs");
    if !script.with_file_name("node_modules").join("webgpu").is_dir() {
        return None;
    }
    let output = match Command::new("node").arg(script).arg(folder).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Some(Vec::new()),
        false => Some(vec![report, String::from_utf8_lossy(&output.stderr).into_owned()]),
    }
}

#[test]
fn every_linked_shader_passes_tint() {
    assert!(shaders().len() > 20, "only {} shaders are listed", shaders().len());
    let folder = linked("linked");
    let Some(refused) = by_program(&folder).or_else(|| by_node(&folder)) else {
        println!(
            "skipped: no program `tint` on the PATH, and no npm package `webgpu` in tests/tint \
             (`npm ci` there installs it)"
        );
        return;
    };
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The gate must be able to refuse.
#[test]
fn tint_refuses_a_barrier_after_a_lane_dependent_return() {
    let bad = "@compute @workgroup_size(64)
        fn main(@builtin(local_invocation_index) lane: u32) {
            if (lane > 3u) { return; }
            workgroupBarrier();
        }";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("bad.wgsl"), bad).unwrap();
    match by_program(&folder).or_else(|| by_node(&folder)) {
        None => println!("skipped: no Tint on this machine"),
        Some(refused) => {
            let text = refused.join("\n");
            assert!(text.contains("uniform control flow"), "Tint said: {text}");
        }
    }
}

/// The baseline is WebGPU's: a shader that asks for nothing may use nothing optional.
#[test]
fn optional_features_are_declared() {
    for shader in shaders() {
        let text = text(shader);
        let uses = |word: &str| {
            text.lines().any(|line| line.split("//").next().unwrap_or_default().contains(word))
        };
        let name = shader.name;
        assert_eq!(shader.needs.subgroups, uses("subgroup"), "{name}: subgroups");
        assert_eq!(shader.needs.f16, uses("f16>"), "{name}: f16");
        assert_eq!(shader.needs.dot4, uses("dot4I8Packed"), "{name}: dot4");
    }
}

#[test]
fn every_shader_file_says_what_it_computes_on_which_grid_how_exactly_and_where() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/shaders");
    let list = fs::read_to_string(folder.join("variants.txt")).unwrap();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if file == "variants.txt" {
            continue;
        }
        assert!(list.split_whitespace().any(|word| word == file), "{file}: no variant links it");
        let text = fs::read_to_string(&path).unwrap();
        let header: Vec<_> = text.lines().take_while(|line| line.starts_with("//")).collect();
        let name = file.split('.').next().unwrap();
        let first = format!("// {name}: ");
        assert!(header.first().is_some_and(|line| line.starts_with(&first)), "{file}: {first}");
        for word in ["// grid      ", "// numerics  ", "// baseline  "] {
            assert!(header.iter().any(|line| line.starts_with(word)), "{file}: no line `{word}`");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{file}: a line is too long");
    }
}
