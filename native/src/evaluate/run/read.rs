//! Reading a saved run: a file that may come from anybody.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use tributary_core::recommend::ItemId;
use tributary_core::{Error, Result};

use super::pages::CheckedPages;
use super::{EXACT_CANDIDATES, MAX_ID_BYTES, MAX_TEXT_BYTES, MAX_TOP, MAX_USERS, Run};
use crate::evaluate::UserResult;
use crate::files;

/// Name, type, greatest definition and repetition level of each column.
const COLUMNS: [(&str, Type, i16, i16); 5] = [
    ("user", Type::BYTE_ARRAY, 0, 0),
    ("target", Type::BYTE_ARRAY, 0, 0),
    ("rank", Type::INT64, 1, 0),
    ("candidates", Type::INT64, 0, 0),
    ("top.list.element", Type::BYTE_ARRAY, 2, 1),
];
const USER: usize = 0;
const TARGET: usize = 1;
const RANK: usize = 2;
const CANDIDATES: usize = 3;
const TOP: usize = 4;
/// Most bytes of a file's own description: ten million users take one of them.
const MAX_FOOTER_BYTES: usize = 8 << 20;
/// Most bytes of one value of the metadata that is kept.
const MAX_ABOUT_BYTES: usize = 4096;
/// Rows read at once.
const BATCH: usize = 4096;

/// Reads what [`write_run`](super::write_run) wrote, but for the lists.
///
/// # Errors
/// A file that is no run, that is damaged, or that is over the limits of this module.
pub fn read_run(path: &Path) -> Result<Run> {
    let reader = Reader::open(path)?;
    let about = reader.about()?;
    let mut users = Vec::new();
    let mut text_bytes = 0;
    reader.groups(|group| {
        let names = reader.texts(group, USER, &mut text_bytes)?.values;
        let targets = reader.texts(group, TARGET, &mut text_bytes)?.values;
        let ranks = reader.numbers(group, RANK)?;
        let candidates = reader.numbers(group, CANDIDATES)?;
        let rows = reader.rows(group)?;
        for (column, found) in
            [names.len(), targets.len(), ranks.len(), candidates.len()].into_iter().enumerate()
        {
            if found != rows {
                return Err(reader.refuse(column, format!("{rows} rows, as it claims"), found));
            }
        }
        let rows = names.into_iter().zip(targets).zip(ranks.into_iter().zip(candidates));
        for ((user, target), (rank, num_candidates)) in rows {
            let num_candidates = num_candidates.unwrap_or(0);
            if rank.is_some_and(|rank| rank >= num_candidates) {
                let expected = format!("a place below the {num_candidates} candidates");
                let found = format!("{} of user {user}", rank.unwrap_or(0));
                return Err(reader.refuse(RANK, expected, found));
            }
            let target = ItemId::from(target);
            users.push(UserResult { user, target, rank, num_candidates, top: None });
        }
        Ok(())
    })?;
    Ok(Run { file: reader.file, about, users })
}

/// Each user's list of best items in a saved run, best first; `None` where not all items were ranked.
///
/// # Errors
/// As for [`read_run`]; a list of more than [`MAX_TOP`] items.
pub fn read_top(path: &Path) -> Result<Vec<Option<Vec<ItemId>>>> {
    let reader = Reader::open(path)?;
    let mut lists: Vec<Option<Vec<ItemId>>> = Vec::new();
    let mut text_bytes = 0;
    reader.groups(|group| {
        let before = lists.len();
        let Texts { values, defined, repeated } = reader.texts(group, TOP, &mut text_bytes)?;
        let mut values = values.into_iter();
        for (&defined, &repeated) in defined.iter().zip(&repeated) {
            if repeated == 0 {
                lists.push((defined > 0).then(Vec::new));
            }
            if defined < 2 {
                continue;
            }
            let (Some(value), Some(Some(list))) = (values.next(), lists.last_mut()) else {
                return Err(reader.refuse(TOP, "an item in a list", "one outside of any"));
            };
            if list.len() == MAX_TOP {
                return Err(reader.limit("items of a list", MAX_TOP, MAX_TOP + 1));
            }
            list.push(ItemId::from(value));
        }
        let (rows, found) = (reader.rows(group)?, lists.len() - before);
        match rows == found {
            true => Ok(()),
            false => Err(reader.refuse(TOP, format!("{rows} rows, as it claims"), found)),
        }
    })?;
    Ok(lists)
}

struct Reader {
    file: String,
    parquet: SerializedFileReader<Bytes>,
}

/// The texts of a column with their levels; without levels where there are none.
struct Texts {
    values: Vec<String>,
    defined: Vec<i16>,
    repeated: Vec<i16>,
}

impl Reader {
    fn open(path: &Path) -> Result<Self> {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let bytes = files::map(path)?;
        let footer = match bytes.len().checked_sub(8).and_then(|end| bytes.get(end..)) {
            Some(&[a, b, c, d, b'P', b'A', b'R', b'1']) => u32::from_le_bytes([a, b, c, d]),
            _ => return Err(Error::file(file, "end", "PAR1, as Parquet has it", "something else")),
        };
        if footer as usize > MAX_FOOTER_BYTES {
            let what = format!("{file}: bytes of the footer");
            return Err(Error::Limit {
                what,
                limit: MAX_FOOTER_BYTES as u64,
                found: footer.into(),
            });
        }
        let parquet = caught(|| SerializedFileReader::new(bytes))
            .map_err(|error| Error::file(&file, "footer", "that of a Parquet file", error))?;
        let reader = Self { file, parquet };
        reader.check_columns()?;
        Ok(reader)
    }

    fn check_columns(&self) -> Result<()> {
        let metadata = self.parquet.metadata().file_metadata();
        let found = metadata.schema_descr().columns();
        let same = found.len() == COLUMNS.len()
            && found.iter().zip(COLUMNS).all(|(found, (name, kind, defined, repeated))| {
                found.path().string() == name
                    && found.physical_type() == kind
                    && found.max_def_level() == defined
                    && found.max_rep_level() == repeated
            });
        if same {
            return Ok(());
        }
        let found: Vec<String> =
            found.iter().map(|c| format!("{} {}", c.path().string(), c.physical_type())).collect();
        let expected = "those of `evaluate --save`: user, target, rank, candidates, top";
        Err(Error::file(&self.file, "columns", expected, found.join(", ")))
    }

    /// The file's metadata, but for what other writers put there.
    fn about(&self) -> Result<BTreeMap<String, String>> {
        let pairs = self.parquet.metadata().file_metadata().key_value_metadata();
        let mut about = BTreeMap::new();
        for pair in pairs.into_iter().flatten() {
            let Some(value) = pair.value.as_ref().filter(|value| value.len() <= MAX_ABOUT_BYTES)
            else {
                continue;
            };
            if pair.key == EXACT_CANDIDATES && !value.parse().is_ok_and(|n: usize| n >= 2) {
                let expected = "a number of at least 2";
                return Err(Error::file(&self.file, EXACT_CANDIDATES, expected, value));
            }
            about.insert(pair.key.clone(), value.clone());
        }
        Ok(about)
    }

    /// Calls `each` with each row group; rows are within the limit.
    fn groups(&self, mut each: impl FnMut(&dyn RowGroupReader) -> Result<()>) -> Result<()> {
        let mut rows = 0_usize;
        for group in 0..self.parquet.num_row_groups() {
            let group = caught(|| self.parquet.get_row_group(group))
                .map_err(|error| Error::file(&self.file, "row group", "a readable one", error))?;
            rows = rows.saturating_add(self.rows(group.as_ref())?);
            if rows > MAX_USERS {
                return Err(self.limit("users", MAX_USERS, rows));
            }
            each(group.as_ref())?;
        }
        Ok(())
    }

    fn rows(&self, group: &dyn RowGroupReader) -> Result<usize> {
        let rows = group.metadata().num_rows();
        usize::try_from(rows).map_err(|_| Error::file(&self.file, "rows", "0 or more", rows))
    }

    /// A column of texts. `text_bytes` counts those of the whole file.
    fn texts(
        &self,
        group: &dyn RowGroupReader,
        column: usize,
        text_bytes: &mut usize,
    ) -> Result<Texts> {
        let mut texts = Vec::new();
        let add = |value: &ByteArray| {
            if value.len() > MAX_ID_BYTES {
                return Err(self.limit("bytes of an id", MAX_ID_BYTES, value.len()));
            }
            *text_bytes += value.len();
            if *text_bytes > MAX_TEXT_BYTES {
                return Err(self.limit("bytes of all ids", MAX_TEXT_BYTES, *text_bytes));
            }
            let text = std::str::from_utf8(value.data())
                .map_err(|error| self.refuse(column, "UTF-8", error))?;
            texts.push(text.to_owned());
            Ok(())
        };
        let (defined, repeated) = self.column::<ByteArrayType>(group, column, 4, add)?;
        Ok(Texts { values: texts, defined, repeated })
    }

    /// A column of numbers that are 0 or more, and maybe null.
    fn numbers(&self, group: &dyn RowGroupReader, column: usize) -> Result<Vec<Option<usize>>> {
        let mut values = Vec::new();
        let add = |&value: &i64| {
            let number = usize::try_from(value);
            values.push(number.map_err(|_| self.refuse(column, "0 or more", value))?);
            Ok(())
        };
        let (defined, _) = self.column::<Int64Type>(group, column, 8, add)?;
        let (_, _, nullable, _) = COLUMNS[column];
        if nullable == 0 {
            return Ok(values.into_iter().map(Some).collect());
        }
        let mut values = values.into_iter();
        let value = |&defined: &i16| if defined > 0 { values.next() } else { None };
        Ok(defined.iter().map(value).collect())
    }

    /// Calls `add` with each value of a column that is not null; its definition and repetition
    /// levels. `value_bytes` is the fewest bytes that a value takes in the file.
    fn column<T: DataType>(
        &self,
        group: &dyn RowGroupReader,
        column: usize,
        value_bytes: usize,
        mut add: impl FnMut(&T::T) -> Result<()>,
    ) -> Result<(Vec<i16>, Vec<i16>)> {
        let damaged = |error| self.refuse(column, "a readable column", error);
        let mut reader = caught(|| {
            let pages = group.get_column_page_reader(column)?;
            let pages = CheckedPages { pages, value_bytes, levels: 0 };
            let descriptor = group.metadata().schema_descr().column(column);
            Ok(ColumnReaderImpl::<T>::new(descriptor, Box::new(pages)))
        })
        .map_err(damaged)?;
        let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            values.clear();
            let (records, _, _) = caught(|| {
                reader.read_records(BATCH, Some(&mut defined), Some(&mut repeated), &mut values)
            })
            .map_err(damaged)?;
            values.iter().try_for_each(&mut add)?;
            if records == 0 {
                return Ok((defined, repeated));
            }
        }
    }

    fn refuse(&self, column: usize, expected: impl ToString, found: impl ToString) -> Error {
        let (name, ..) = COLUMNS[column];
        Error::file(&self.file, format!("column `{name}`"), expected, found)
    }

    fn limit(&self, what: &str, limit: usize, found: usize) -> Error {
        let what = format!("{}: {what}", self.file);
        Error::Limit { what, limit: limit as u64, found: found as u64 }
    }
}

/// What the parquet crate says, its panics included: it asserts that offsets are not negative and that
/// values do not end early. What panicked is not used again.
fn caught<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ParquetError::General("damaged metadata or pages".into())))
}
