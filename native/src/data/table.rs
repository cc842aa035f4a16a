//! Tables with a header: CSV, TSV and, with typed columns, RecBole's atomic files.

use csv::StringRecord;
use tributary_core::{Error, Result};

use super::{Builder, Dataset, Row, number};

/// Column names that mean the user, the item, the behaviour, the time, compared without case.
const USER: &[&str] = &["user", "user_id", "userid", "visitorid", "session_id", "reviewerid"];
const ITEM: &[&str] =
    &["item", "item_id", "itemid", "movieid", "product_id", "productid", "asin", "parent_asin"];
const BEHAVIOUR: &[&str] =
    &["behaviour", "behavior", "event", "event_type", "interaction_type", "type", "action"];
const RATING: &[&str] = &["rating", "stars", "overall"];
const TIME: &[&str] = &["time", "timestamp", "unixreviewtime", "event_time"];

/// True when this line names a user and an item column.
pub(super) fn is_header(line: &str, delimiter: u8) -> bool {
    let columns: Vec<_> = line.trim_end().split(char::from(delimiter)).collect();
    position(&columns, USER).is_some() && position(&columns, ITEM).is_some()
}

/// Interactions under a header, one per line.
pub(super) fn interactions(builder: Builder, text: &str, delimiter: u8) -> Result<Dataset> {
    rows(builder, text, delimiter, |header| header.iter().collect())
}

/// As [`interactions`]; `names` gives the names of the header's columns.
pub(super) fn rows(
    mut builder: Builder,
    text: &str,
    delimiter: u8,
    names: impl Fn(&StringRecord) -> Vec<&str>,
) -> Result<Dataset> {
    let mut table = Table::new(&builder.file, text, delimiter)?;
    let header = table.header.clone();
    let names = names(&header);
    let find = |what: &str, known: &[&str]| {
        position(&names, known).ok_or_else(|| {
            let expected = format!("a column for the {what}: {}", known.join(", "));
            Error::file(&builder.file, "line 1", expected, names.join(", "))
        })
    };
    let (user, item) = (find("user", USER)?, find("item", ITEM)?);
    let (behaviour, time) = (position(&names, BEHAVIOUR), position(&names, TIME));
    let rating = match (builder.ratings, behaviour) {
        (true, None) => position(&names, RATING),
        _ => None,
    };
    while let Some((line, record)) = table.next()? {
        let field = |column: usize| record.get(column).unwrap_or_default();
        let time = time
            .map(field)
            .map(|text| number(text).ok_or_else(|| builder.error(line, "a time as a number", text)))
            .transpose()?;
        let rated = rating
            .map(field)
            .map(|text| {
                let stars = number(text).filter(|stars| (0.0..=5.0).contains(stars));
                stars.ok_or_else(|| builder.error(line, "a rating from 0 to 5", text))
            })
            .transpose()?
            .map(rating_behaviour);
        let row = Row {
            user: field(user).trim(),
            item: field(item).trim(),
            behaviour: behaviour.map(|column| field(column).trim()).or(rated),
            time,
        };
        builder.push(line, row)?;
    }
    builder.finish()
}

/// The behaviour that stands for a rating of one to five stars.
pub(super) fn rating_behaviour(stars: f64) -> &'static str {
    match stars {
        _ if stars <= 2.5 => "dislike",
        _ if stars >= 4.0 => "like",
        _ => "neutral",
    }
}

fn position(columns: &[&str], known: &[&str]) -> Option<usize> {
    let matches = |column: &&str| {
        let column = column.trim().trim_matches('"');
        known.iter().any(|known| known.eq_ignore_ascii_case(column))
    };
    // The first known name that is there: `user_id` before `session_id`.
    columns.iter().position(matches)
}

/// Records of a table with the line each starts on.
pub(super) struct Table<'a> {
    file: String,
    pub(super) header: StringRecord,
    text: &'a [u8],
    reader: csv::Reader<&'a [u8]>,
    record: StringRecord,
}

impl<'a> Table<'a> {
    pub(super) fn new(file: &str, text: &'a str, delimiter: u8) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            // Tab-separated files of the field hold titles with bare quotes.
            .quoting(delimiter == b',')
            .flexible(true)
            .from_reader(text.as_bytes());
        let header = reader.headers().map_err(|e| Error::file(file, "line 1", "a header", e))?;
        let header = header.clone();
        let (text, record) = (text.as_bytes(), StringRecord::new());
        Ok(Self { file: file.into(), header, text, reader, record })
    }

    /// The next record with its line, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &StringRecord)>> {
        let more = self.reader.read_record(&mut self.record);
        // After CRLF the reader stands before the LF, a line too high up.
        let pending = |at: &csv::Position| self.text.get(at.byte() as usize) == Some(&b'\n');
        let line = self.record.position().map_or(0, |at| at.line() + u64::from(pending(at)));
        let field = || format!("line {line}");
        if !more.map_err(|e| Error::file(&self.file, field(), "a row of the table", e))? {
            return Ok(None);
        }
        let (expected, found) = (self.header.len(), self.record.len());
        if expected != found {
            let expected = format!("{expected} columns, as the header has");
            return Err(Error::file(&self.file, field(), expected, found));
        }
        Ok(Some((line, &self.record)))
    }
}
