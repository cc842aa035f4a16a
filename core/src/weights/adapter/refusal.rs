//! How what an adapter asks for is refused.

use serde_json::Value;

use crate::error::Error;
use crate::weights::config::brief;

/// The configuration's file name.
pub(super) const CONFIG_FILE: &str = "adapter_config.json";

/// A file's text as messages show it.
pub(super) fn short(text: &str) -> String {
    brief(&Value::String(text.to_owned())).trim_matches('"').to_owned()
}

pub(super) fn adapter_error(file: &str, field: &str, expected: String, found: String) -> Error {
    Error::Adapter { file: file.to_owned(), field: field.to_owned(), expected, found }
}
