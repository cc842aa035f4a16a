//! Which form a file has, and which file of a folder is the data.

use std::path::{Path, PathBuf};

use tributary_core::recommend::Catalogue;
use tributary_core::{Error, Result};

use super::{Builder, CATALOGUE_FILE, Dataset, atomic, json_lines, lists, table};

/// Bytes of one data file at most.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// File extensions that may be data.
const EXTENSIONS: [&str; 5] = ["inter", "csv", "tsv", "txt", "jsonl"];
/// Names that are never the interactions of a folder.
const NOT_DATA: [&str; 3] = [CATALOGUE_FILE, "items.tsv", "LICENSE.txt"];

/// `ratings`: where a table has ratings and no behaviours, they stand for behaviours.
pub(super) fn read(path: &Path, ratings: bool) -> Result<Dataset> {
    let path = &if path.is_dir() { data_file(path)? } else { path.to_path_buf() };
    let file = base_name(path);
    let bytes = read_bytes(path)?;
    let text = utf8(&file, &bytes)?;
    let catalogue = catalogue_beside(path)?;
    let builder = Builder { ratings, ..Builder::new(&file, catalogue) };
    let first = text.lines().next().unwrap_or_default();
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension {
        _ if atomic::is_header(first) => atomic::interactions(builder, text),
        "inter" => {
            let expected = "RecBole columns `name:type`, tab-separated";
            Err(Error::file(file, "line 1", expected, format!("{first:.80}")))
        }
        _ if first.trim_start().starts_with('{') => json_lines::read(builder, text),
        _ if lists::is_header(first) => lists::sequences(builder, text),
        "csv" => table::interactions(builder, text, b','),
        "tsv" => table::interactions(builder, text, b'\t'),
        _ if first.contains('\t') && table::is_header(first, b'\t') => {
            table::interactions(builder, text, b'\t')
        }
        _ if first.contains(',') => table::interactions(builder, text, b','),
        _ if lists::is_row(first) => lists::users(builder, text),
        _ => {
            let expected = "RecBole columns, a CSV or TSV header, JSON lines, or `user item item`";
            Err(Error::file(file, "line 1", expected, format!("{first:.80}")))
        }
    }
}

/// The one data file of a folder: the `.inter` file if there is one, else the only file of a known
/// extension.
fn data_file(folder: &Path) -> Result<PathBuf> {
    let io = |e| Error::io(folder.display(), e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let known = path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known));
        if known && path.is_file() && !NOT_DATA.contains(&base_name(&path).as_str()) {
            found.push(path);
        }
    }
    let atomic: Vec<_> =
        found.iter().filter(|path| path.extension().is_some_and(|e| e == "inter")).collect();
    match (atomic.as_slice(), found.as_slice()) {
        ([only], _) => Ok((*only).clone()),
        ([], [only]) => Ok(only.clone()),
        _ => {
            found.sort();
            let names: Vec<_> = found.iter().map(|path| base_name(path)).collect();
            let found = if names.is_empty() { "none".into() } else { names.join(", ") };
            let expected = "exactly one data file, or the file's own path";
            Err(Error::file(base_name(folder), "folder", expected, found))
        }
    }
}

/// `catalogue.jsonl`, else the `.item` file of the same stem, else no item yet.
fn catalogue_beside(path: &Path) -> Result<Catalogue> {
    let jsonl = path.with_file_name(CATALOGUE_FILE);
    if jsonl.is_file() && jsonl != path {
        return Catalogue::from_jsonl(CATALOGUE_FILE, &read_bytes(&jsonl)?);
    }
    let items = path.with_extension("item");
    if items.is_file() && items != path {
        let file = base_name(&items);
        let bytes = read_bytes(&items)?;
        let text = utf8(&file, &bytes)?;
        if text.lines().next().is_some_and(atomic::is_header) {
            return atomic::items(&file, text);
        }
    }
    Ok(Catalogue::default())
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The file's bytes, up to 4 GiB.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let io = |e| Error::io(path.display(), e);
    let found = std::fs::metadata(path).map_err(io)?.len();
    if found > MAX_FILE_BYTES {
        let what = format!("{}: bytes", base_name(path));
        return Err(Error::Limit { what, limit: MAX_FILE_BYTES, found });
    }
    std::fs::read(path).map_err(io)
}

/// The text without its byte order mark.
pub(crate) fn utf8<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = &bytes[..e.valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let expected = "UTF-8 text";
        Error::file(file, format!("line {line}"), expected, "a byte that is not UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
