//! JSON lines: one interaction per line, or LLaRA's held-out windows.

use serde::Deserialize;
use tributary_core::Result;
use tributary_core::recommend::ItemId;

use super::{Builder, Dataset, Row, SplitRule};

/// LLaRA drops windows with fewer items than this.
const SHORTEST_WINDOW: usize = 3;

#[derive(Deserialize)]
struct InteractionLine {
    user: ItemId,
    item: ItemId,
    #[serde(default)]
    behaviour: Option<String>,
    #[serde(default)]
    time: Option<f64>,
}

/// `seq` is padded on the right; its first `len_seq` elements count.
#[derive(Deserialize)]
struct WindowLine {
    seq: Vec<Entry>,
    len_seq: usize,
    next: Entry,
}

/// An item, alone or with its rating.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Rated(ItemId, serde::de::IgnoredAny),
    Bare(ItemId),
}

impl Entry {
    fn id(&self) -> &str {
        match self {
            Self::Rated(id, _) | Self::Bare(id) => id.as_str(),
        }
    }
}

/// Reads all lines as what the first one is.
pub(super) fn read(mut builder: Builder, text: &str) -> Result<Dataset> {
    let first: serde_json::Value = text
        .lines()
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| builder.error(1, "one JSON object per line", "something else"))?;
    let windows = first.get("seq").is_some();
    if windows {
        builder.split = SplitRule::Given;
    }
    for (line, row) in (1..).zip(text.lines()) {
        if row.trim().is_empty() {
            continue;
        }
        if windows {
            window(&mut builder, line, row)?
        } else {
            interaction(&mut builder, line, row)?
        }
    }
    builder.finish()
}

fn interaction(builder: &mut Builder, line: u64, row: &str) -> Result<()> {
    let row: InteractionLine = serde_json::from_str(row).map_err(|e| {
        builder.error(line, r#"{"user", "item", and maybe "behaviour", "time"}"#, e)
    })?;
    let (user, item) = (row.user.as_str(), row.item.as_str());
    builder.push(line, Row { user, item, behaviour: row.behaviour.as_deref(), time: row.time })
}

fn window(builder: &mut Builder, line: u64, row: &str) -> Result<()> {
    let window: WindowLine = serde_json::from_str(row)
        .map_err(|e| builder.error(line, r#"{"seq", "len_seq", "next"}"#, e))?;
    let Some(items) = window.seq.get(..window.len_seq) else {
        let expected = format!("`len_seq` at most {}, the length of `seq`", window.seq.len());
        return Err(builder.error(line, expected, window.len_seq));
    };
    if items.len() < SHORTEST_WINDOW {
        return Ok(());
    }
    // Windows are cases, not users: each line is a sequence of its own.
    let user = line.to_string();
    for item in items.iter().chain([&window.next]) {
        builder.push(line, Row { user: &user, item: item.id(), behaviour: None, time: None })?;
    }
    Ok(())
}
