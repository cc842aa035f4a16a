//! What was written of users' windows, by what each window holds and what was known before it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::error::{Error, Result};
use crate::recommend::{ItemId, MAX_DESCRIPTION_BYTES};

/// Which summary: a hash of the ids of all items it goes back to, window by window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SummaryKey([u8; 16]);

impl SummaryKey {
    /// Of the window of these items behind the one of `previous`.
    pub(super) fn of<'a>(previous: Option<Self>, items: impl Iterator<Item = &'a ItemId>) -> Self {
        let mut hash = Sha256::new();
        hash.update(previous.map_or([0; 16], |key| key.0));
        for item in items {
            hash.update((item.as_str().len() as u64).to_le_bytes());
            hash.update(item.as_str());
        }
        let digest = hash.finalize();
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(key)
    }

    /// What draws begin with.
    pub(super) fn seed(self) -> u64 {
        self.0.iter().take(8).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
    }
}

/// A line of a bundle's file of summaries.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    window: String,
    summary: String,
}

/// The summaries that came with the bundle, and a bounded number of others.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    given: HashMap<String, Box<str>>,
    written: Mutex<Written>,
    max_written: usize,
}

#[derive(Debug, Default)]
struct Written {
    by_key: HashMap<SummaryKey, (Box<str>, u64)>,
    /// Counts uses: the smallest was used longest ago.
    uses: u64,
}

impl Summaries {
    pub(super) fn new(max_written: usize) -> Self {
        Self { max_written, ..Self::default() }
    }

    /// The same with those of the file `name`, which [`Summaries::to_jsonl`] wrote.
    ///
    /// # Errors
    /// The first line that is not a summary, or one that is longer than a description may be.
    pub(super) fn with_file(mut self, name: &str, text: &str) -> Result<Self> {
        for (number, line) in (1..).zip(text.lines()) {
            let field = || format!("line {number}");
            if line.trim().is_empty() {
                continue;
            }
            let Line { window, summary } = serde_json::from_str(line)
                .map_err(|e| Error::file(name, field(), "a window and its summary", e))?;
            let (limit, found) = (MAX_DESCRIPTION_BYTES as u64, summary.len() as u64);
            if found > limit {
                let what = format!("{name}: {}: bytes of `summary`", field());
                return Err(Error::Limit { what, limit, found });
            }
            self.given.insert(window, summary.into());
        }
        Ok(self)
    }

    /// All there are, one JSON line each, in an order of their own.
    pub(super) fn to_jsonl(&self) -> Result<String> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let given = self.given.iter().map(|(key, text)| (key.clone(), text));
        let written = written.by_key.iter().map(|(key, (text, _))| (hex(&key.0), text));
        let mut lines: Vec<(String, &Box<str>)> = given.chain(written).collect();
        lines.sort();
        lines.dedup_by(|a, b| a.0 == b.0);
        let mut text = String::new();
        for (window, summary) in lines {
            let line = Line { window, summary: summary.to_string() };
            let line = serde_json::to_string(&line);
            text += &line.map_err(|e| Error::Internal(format!("mllm_srec: {e}")))?;
            text.push('\n');
        }
        Ok(text)
    }

    pub(super) fn get(&self, key: SummaryKey) -> Option<String> {
        if let Some(text) = self.given.get(&hex(&key.0)) {
            return Some(text.to_string());
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.uses += 1;
        let uses = written.uses;
        let (text, used) = written.by_key.get_mut(&key)?;
        *used = uses;
        Some(text.to_string())
    }

    pub(super) fn put(&self, key: SummaryKey, text: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if self.max_written == 0 {
            return;
        }
        written.uses += 1;
        let uses = written.uses;
        if written.by_key.len() >= self.max_written {
            let oldest = written.by_key.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                written.by_key.remove(&oldest);
            }
        }
        written.by_key.insert(key, (text.into(), uses));
    }
}
