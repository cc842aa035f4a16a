//! One user per line: ICLRec's `user item item ...`, and `user  items  timestamps` with a header.

use tributary_core::Result;

use super::{Builder, Dataset, Row, number};

/// True for the header `user items [timestamps]`, tab-separated.
pub(super) fn is_header(line: &str) -> bool {
    matches!(
        line.trim_end().split('\t').collect::<Vec<_>>()[..],
        ["user", "items"] | ["user", "items", "timestamps"]
    )
}

/// True for at least a user and an item, all of them plain numbers.
pub(super) fn is_row(line: &str) -> bool {
    let mut words = 0;
    let all = line.split_whitespace().all(|word| {
        words += 1;
        word.bytes().all(|byte| byte.is_ascii_digit())
    });
    all && words >= 2
}

/// ICLRec's text. Items are in order; a user may have several lines.
pub(super) fn users(mut builder: Builder, text: &str) -> Result<Dataset> {
    for (line, row) in (1..).zip(text.lines()) {
        if row.trim().is_empty() {
            continue;
        }
        if !is_row(row) {
            let expected = "a user and items, all of them numbers";
            return Err(builder.error(line, expected, format!("{row:.80}")));
        }
        let mut words = row.split_whitespace();
        let user = words.next().unwrap_or_default();
        for item in words {
            builder.push(line, Row { user, item, behaviour: None, time: None })?;
        }
    }
    builder.finish()
}

/// `user`, its items, their times: each column a list separated by spaces.
pub(super) fn sequences(mut builder: Builder, text: &str) -> Result<Dataset> {
    let columns = text.lines().next().unwrap_or_default().trim_end().split('\t').count();
    for (line, row) in (1..).zip(text.lines()).skip(1) {
        if row.trim().is_empty() {
            continue;
        }
        let fields: Vec<_> = row.trim_end_matches('\r').split('\t').collect();
        if fields.len() != columns {
            return Err(builder.error(line, format!("{columns} columns"), fields.len()));
        }
        let items: Vec<_> = fields[1].split_whitespace().collect();
        let times: Option<Vec<_>> = fields.get(2).map(|times| times.split_whitespace().collect());
        if let Some(times) = times.as_ref().filter(|times| times.len() != items.len()) {
            return Err(builder.error(line, format!("{} timestamps", items.len()), times.len()));
        }
        for (place, &item) in items.iter().enumerate() {
            let time = times.as_ref().map(|times| times[place]);
            let time = time
                .map(|text| number(text).ok_or_else(|| builder.error(line, "a time", text)))
                .transpose()?;
            builder.push(line, Row { user: fields[0], item, behaviour: None, time })?;
        }
    }
    builder.finish()
}
