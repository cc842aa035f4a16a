//! What an evaluation found for each user, as a Parquet file: to be compared with another
//! (`compare.rs`), or read by whatever reads Parquet.
//!
//! | column | type | |
//! |---|---|---|
//! | `user` | string | the data's own name |
//! | `target` | string | id of the held-out item |
//! | `rank` | int64, null | its place, 0 the best; null where it is unknown or the answer was not valid |
//! | `candidates` | int64 | what it was ranked among, itself included; 0 where it is unknown |
//! | `top` | list of string, null | ids of the best items; null where not all items were ranked |
//!
//! The file's metadata says what was evaluated on what ([`Run::about`]). Metrics have no columns: the
//! rank decides them.

mod pages;
mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
pub use read::{read_run, read_top};
use tributary_core::metrics::RankMetric;
use tributary_core::recommend::Catalogue;
use tributary_core::{Error, Result};

use super::UserResult;

/// Most users of a run.
pub const MAX_USERS: usize = 10_000_000;
/// Most bytes of a user's or an item's id.
pub const MAX_ID_BYTES: usize = 1024;
/// Most bytes of all ids of a run that are kept in memory.
pub const MAX_TEXT_BYTES: usize = 2 << 30;
/// Most items of a user's list.
pub const MAX_TOP: usize = 1000;

/// The metadata's key for the candidates of which a run is the exact expectation.
const EXACT_CANDIDATES: &str = "exact_candidates";
const MESSAGE: &str = "message run {
    required binary user (STRING);
    required binary target (STRING);
    optional int64 rank;
    required int64 candidates;
    optional group top (LIST) { repeated group list { required binary element (STRING); } }
}";
/// Users per row group: what is in memory at once, at `MAX_TOP` about a quarter of a gigabyte.
const GROUP_USERS: usize = 8192;

/// A saved evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The file's name, without its folder.
    pub file: String,
    /// What was evaluated on what: `recommender`, `model`, `data`, `split`, `candidates`, `seed`,
    /// `tributary_version` and so on.
    pub about: BTreeMap<String, String>,
    /// One per user, without the lists, which [`read_top`] reads.
    pub users: Vec<UserResult>,
}

impl Run {
    /// A metric of one of its users.
    pub fn metric(&self, metric: RankMetric, user: &UserResult) -> f64 {
        let exact = self.about.get(EXACT_CANDIDATES).and_then(|number| number.parse().ok());
        let draws = exact.map(|candidates: usize| candidates.saturating_sub(1));
        metric.of(user.rank, user.num_candidates, draws)
    }
}

/// Saves what came out for each user; the lists name items of `catalogue`. `exact_candidates` is
/// that of [`Candidates::Exact`](super::Candidates::Exact).
///
/// # Errors
/// More users, longer ids or longer lists than the limits of this module; a file that cannot be
/// written.
pub fn write_run(
    path: &Path,
    about: &BTreeMap<String, String>,
    exact_candidates: Option<usize>,
    results: &[UserResult],
    catalogue: &Catalogue,
) -> Result<()> {
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    check(&file, results, catalogue)?;
    let failed = |error: ParquetError| match error {
        ParquetError::External(source) => Error::io(path.display(), std::io::Error::other(source)),
        error => Error::Internal(format!("{file}: {error}")),
    };
    let mut pairs: Vec<_> =
        about.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    if let Some(number) = exact_candidates {
        pairs.push(KeyValue::new(EXACT_CANDIDATES.to_owned(), number.to_string()));
    }
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(pairs))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        // Every user is another one.
        .set_column_dictionary_enabled(ColumnPath::from("user"), false)
        .build();
    let schema = Arc::new(parse_message_type(MESSAGE).map_err(failed)?);
    // Under another name until it is whole.
    let part = path.with_added_extension("part");
    let io = |error| Error::io(path.display(), error);
    let output = File::create(&part).map_err(io)?;
    let mut writer =
        SerializedFileWriter::new(output, schema, Arc::new(properties)).map_err(failed)?;
    for users in results.chunks(GROUP_USERS) {
        let mut group = writer.next_row_group().map_err(failed)?;
        write_group(&mut group, users, catalogue).map_err(failed)?;
        group.close().map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    std::fs::rename(&part, path).map_err(io)
}

/// What would not be read back is not written.
fn check(file: &str, results: &[UserResult], catalogue: &Catalogue) -> Result<()> {
    let limit = |what: &str, limit: usize, found: usize| match found > limit {
        true => Err(Error::Limit {
            what: format!("{file}: {what}"),
            limit: limit as u64,
            found: found as u64,
        }),
        false => Ok(()),
    };
    limit("users", MAX_USERS, results.len())?;
    for result in results {
        limit("bytes of a user's name", MAX_ID_BYTES, result.user.len())?;
        limit("bytes of an item's id", MAX_ID_BYTES, result.target.as_str().len())?;
        limit("items of a list", MAX_TOP, result.top.as_ref().map_or(0, Vec::len))?;
    }
    let longest = catalogue.items().iter().map(|item| item.id.as_str().len()).max();
    limit("bytes of an item's id", MAX_ID_BYTES, longest.unwrap_or(0))
}

fn write_group(
    group: &mut SerializedRowGroupWriter<'_, File>,
    users: &[UserResult],
    catalogue: &Catalogue,
) -> Result<(), ParquetError> {
    let place = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let names: Vec<ByteArray> = users.iter().map(|user| user.user.as_str().into()).collect();
    write_texts(group, &names, None)?;
    let targets: Vec<ByteArray> = users.iter().map(|user| user.target.as_str().into()).collect();
    write_texts(group, &targets, None)?;
    let ranks: Vec<i64> = users.iter().filter_map(|user| user.rank.map(place)).collect();
    let present: Vec<i16> = users.iter().map(|user| i16::from(user.rank.is_some())).collect();
    write_numbers(group, &ranks, Some(&present))?;
    let candidates: Vec<i64> = users.iter().map(|user| place(user.num_candidates)).collect();
    write_numbers(group, &candidates, None)?;

    // Dremel's levels: 0 is no list, 1 an empty one, 2 an item; an item that is not its list's first
    // repeats.
    let (mut items, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for user in users {
        let list = user.top.as_deref().unwrap_or_default();
        for (place, &item) in list.iter().enumerate() {
            let id = catalogue.get(item).map_or("", |item| item.id.as_str());
            items.push(ByteArray::from(id));
            defined.push(2);
            repeated.push(i16::from(place > 0));
        }
        if list.is_empty() {
            defined.push(i16::from(user.top.is_some()));
            repeated.push(0);
        }
    }
    write_texts(group, &items, Some((&defined, &repeated)))
}

fn write_texts(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[ByteArray],
    levels: Option<(&[i16], &[i16])>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    let (defined, repeated) = levels.unzip();
    column.typed::<ByteArrayType>().write_batch(values, defined, repeated)?;
    column.close()
}

fn write_numbers(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[i64],
    defined: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    column.typed::<Int64Type>().write_batch(values, defined, None)?;
    column.close()
}
