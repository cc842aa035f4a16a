//! Drawn candidates as a file, so that every recommender ranks the same ones.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tributary_core::metrics::sample;
use tributary_core::random::Random;
use tributary_core::recommend::{ItemId, ItemIndex};
use tributary_core::{Error, Result};

use crate::data::{read_bytes, utf8};

/// What one user's target is ranked among: one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateSet {
    /// The data's own name of the user.
    pub user: String,
    /// The item that came.
    pub target: ItemId,
    /// The target and its competitors, shuffled.
    pub candidates: Vec<ItemId>,
}

/// Reads what [`write_candidates`] wrote; empty lines do not count.
///
/// # Errors
/// A file that cannot be read; the first line that is no set, does not hold its target, or names an
/// item twice.
pub fn read_candidates(path: &Path) -> Result<Vec<CandidateSet>> {
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let bytes = read_bytes(path)?;
    let mut sets = Vec::new();
    for (number, line) in utf8(&file, &bytes)?.lines().enumerate() {
        let field = || format!("line {}", number + 1);
        if line.trim().is_empty() {
            continue;
        }
        let set: CandidateSet = serde_json::from_str(line)
            .map_err(|e| Error::file(&file, field(), r#"{"user", "target", "candidates"}"#, e))?;
        if !set.candidates.contains(&set.target) {
            let expected = "the target among the candidates";
            return Err(Error::file(&file, field(), expected, &set.target));
        }
        let mut sorted: Vec<_> = set.candidates.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let expected = "each candidate once";
            return Err(Error::file(&file, field(), expected, format!("{} twice", twice[0])));
        }
        sets.push(set);
    }
    if sets.is_empty() {
        return Err(Error::file(&file, "lines", "at least one set of candidates", "none"));
    }
    Ok(sets)
}

/// Writes one set per line of JSON.
///
/// # Errors
/// A file that cannot be written.
pub fn write_candidates(path: &Path, sets: &[CandidateSet]) -> Result<()> {
    let mut text = String::new();
    for set in sets {
        let line = serde_json::to_string(set).map_err(|e| Error::Internal(e.to_string()))?;
        text.push_str(&line);
        text.push('\n');
    }
    std::fs::write(path, text).map_err(|e| Error::io(path.display(), e))
}

/// The target and `draws` of the `eligible` items, shuffled: the same for the same state of
/// `random` everywhere.
pub(super) fn draw(
    random: &mut Random,
    target: ItemIndex,
    eligible: &[ItemIndex],
    draws: usize,
) -> Vec<ItemIndex> {
    let mut candidates = sample(random, eligible, draws);
    candidates.push(target);
    let all = candidates.len();
    sample(random, &candidates, all)
}
