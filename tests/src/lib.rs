//! What the tests share: the twins, the suite every backend runs, seeded data and parity.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code stops at the first surprise and says why it skips"
)]

pub mod cpu;
pub mod files;
pub mod folder;
pub mod gpu;
pub mod language;
pub mod npz;
pub mod suite;
pub mod tiny_sasrec;
pub mod tiny_tmf;
pub mod tiny_tokenizer;
pub mod twin;

use std::path::{Path, PathBuf};

/// `n` values in [-1, 1), the same for the same seed on every machine (SplitMix64).
pub fn uniform(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// `n` indices below `limit`, seeded.
pub fn indices(seed: u64, n: usize, limit: usize) -> Vec<u32> {
    let share = uniform(seed, n).into_iter().map(|u| f64::from(u) * 0.5 + 0.5);
    share.map(|share| ((share * limit as f64) as usize).min(limit - 1) as u32).collect()
}

/// Mean square error / mean square of the truth; the plain mean square error where the truth is
/// zero everywhere.
pub fn nmse(found: &[f32], truth: &[f64]) -> f64 {
    let error: f64 = found.iter().zip(truth).map(|(f, t)| (f64::from(*f) - t).powi(2)).sum();
    let power: f64 = truth.iter().map(|t| t * t).sum();
    if power > 0.0 { error / power } else { error / truth.len().max(1) as f64 }
}

/// Panics unless `found` has the length of `truth`, is finite, and agrees within `bound` (nmse).
#[track_caller]
pub fn assert_parity(label: &str, found: &[f32], truth: &[f64], bound: f64) {
    assert_eq!(found.len(), truth.len(), "{label}: number of values");
    if let Some(i) = found.iter().position(|value| !value.is_finite()) {
        panic!("{label}: value {i} is {}, expected {}", found[i], truth[i]);
    }
    let error = nmse(found, truth);
    if std::env::var_os("TRIBUTARY_PARITY").is_some() {
        println!("{label}: nmse {error:.2e}, bound {bound:.0e}");
    }
    if error > bound {
        let worst = (0..truth.len())
            .max_by(|&a, &b| {
                let far = |i: usize| (f64::from(found[i]) - truth[i]).abs();
                far(a).total_cmp(&far(b))
            })
            .unwrap();
        panic!(
            "{label}: nmse {error:.3e} is over {bound:.0e}; worst at {worst}: {} instead of {}",
            found[worst], truth[worst]
        );
    }
}

/// The program of this build: cargo puts it beside the folder of the test programs.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = format!("tributary{}", std::env::consts::EXE_SUFFIX);
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "build it first: cargo build --workspace ({})", path.display());
    path
}

/// Runs the program with `--json`; its one JSON object, or what it says of its failure.
pub fn tributary(arguments: &[&str]) -> Result<serde_json::Value, String> {
    let output = std::process::Command::new(program()).args(arguments).arg("--json").output();
    let output = output.expect("it runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).expect("one JSON object"))
}

/// The folder of read-only test material beside the repository, if this machine has it.
pub fn shared() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let folder = std::env::var_os("TRIBUTARY_SHARED").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no folder {}; TRIBUTARY_SHARED can name one", folder.display());
    None
}
