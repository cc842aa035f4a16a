//! `config.json` and its relatives, read field by field with ranges: a bad value is an error that
//! names file, field, expected and found, before anything is computed or allocated from it.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Most bytes of a configuration file.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Deepest nesting of a configuration file: `serde_json`'s own limit, which it checks.
pub const MAX_CONFIG_DEPTH: usize = 128;

/// One JSON object of a configuration. A field that is null counts as missing, as in Python's
/// `config.get(name)`; fields nobody reads are ignored.
#[derive(Clone, Debug)]
pub struct ConfigReader {
    file: String,
    /// Names of the enclosing objects, each with its dot.
    path: String,
    fields: Map<String, Value>,
}

impl ConfigReader {
    /// The object that `text` holds. `file` is its name in messages.
    pub fn new(file: &str, text: &str) -> Result<Self> {
        if text.len() > MAX_CONFIG_BYTES {
            let (limit, found) = (MAX_CONFIG_BYTES as u64, text.len() as u64);
            return Err(Error::Limit { what: format!("{file}: bytes"), limit, found });
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Error::file(file, "content", "a JSON object", e))?;
        match value {
            Value::Object(fields) => {
                Ok(Self { file: file.to_owned(), path: String::new(), fields })
            }
            other => Err(Error::file(file, "content", "a JSON object", brief(&other))),
        }
    }

    /// The same object with `defaults` where it is silent: the sizes that a kind of file leaves out.
    #[must_use]
    pub fn with_defaults(mut self, defaults: &[(&str, usize)]) -> Self {
        for &(name, value) in defaults {
            if !self.has(name) {
                self.fields.insert(name.to_owned(), value.into());
            }
        }
        self
    }

    /// The file's name in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The field's value unless it is missing or null.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// True when the field is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// A whole number within `range`.
    pub fn usize(&self, name: &str, range: RangeInclusive<usize>) -> Result<usize> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let value = self.value(name).ok_or_else(|| self.missing(name, expected()))?;
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        match number.filter(|n| range.contains(n)) {
            Some(number) => Ok(number),
            None => Err(self.wrong(name, expected())),
        }
    }

    /// As [`ConfigReader::usize`], `default` when missing.
    pub fn usize_or(
        &self,
        name: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize> {
        if self.has(name) { self.usize(name, range) } else { Ok(default) }
    }

    /// A finite number within `range`.
    pub fn f32(&self, name: &str, range: RangeInclusive<f32>) -> Result<f32> {
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let value = self.value(name).ok_or_else(|| self.missing(name, expected()))?;
        match value.as_f64().map(|n| n as f32).filter(|n| n.is_finite() && range.contains(n)) {
            Some(number) => Ok(number),
            None => Err(self.wrong(name, expected())),
        }
    }

    /// As [`ConfigReader::f32`], `default` when missing.
    pub fn f32_or(&self, name: &str, default: f32, range: RangeInclusive<f32>) -> Result<f32> {
        if self.has(name) { self.f32(name, range) } else { Ok(default) }
    }

    /// True or false, `default` when missing.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool> {
        match self.value(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false")),
        }
    }

    /// A text.
    pub fn str(&self, name: &str) -> Result<&str> {
        let value = self.value(name).ok_or_else(|| self.missing(name, "a text"))?;
        value.as_str().ok_or_else(|| self.wrong(name, "a text"))
    }

    /// As [`ConfigReader::str`], `default` when missing.
    pub fn str_or<'t>(&'t self, name: &str, default: &'t str) -> Result<&'t str> {
        if self.has(name) { self.str(name) } else { Ok(default) }
    }

    /// Texts: a list of them, or one alone; empty when missing.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let wrong = || self.wrong(name, "a text or a list of texts");
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(list)) => {
                list.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// Whole numbers within `range`: a list of them, or one alone (`eos_token_id`); empty when
    /// missing.
    pub fn usizes(&self, name: &str, range: RangeInclusive<usize>) -> Result<Vec<usize>> {
        let one = std::slice::from_ref;
        let list = match self.value(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.as_slice(),
            Some(value) => one(value),
        };
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        list.iter()
            .map(|v| number(v).filter(|n| range.contains(n)))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                let (start, end) = (range.start(), range.end());
                self.wrong(name, format!("whole numbers from {start} to {end}"))
            })
    }

    /// An object inside this one, `None` when missing.
    pub fn object(&self, name: &str) -> Result<Option<Self>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self {
                file: self.file.clone(),
                path: format!("{}{name}.", self.path),
                fields: fields.clone(),
            })),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    /// Names of all fields, nulls included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// The error for a field whose value does not fit.
    pub fn wrong(&self, name: &str, expected: impl ToString) -> Error {
        let found = self.fields.get(name).map_or("nothing".into(), brief);
        Error::file(&self.file, format!("{}{name}", self.path), expected, found)
    }

    /// The error for a field whose value is understood but not supported.
    pub fn unsupported(&self, name: &str, supported: impl ToString) -> Error {
        Error::Unsupported {
            file: self.file.clone(),
            field: format!("{}{name}", self.path),
            found: self.fields.get(name).map_or("nothing".into(), brief),
            supported: supported.to_string(),
        }
    }

    fn missing(&self, name: &str, expected: impl ToString) -> Error {
        Error::file(&self.file, format!("{}{name}", self.path), expected, "nothing")
    }
}

/// A value as messages show it: short, whatever a file holds.
pub(super) fn brief(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Array(list) if list.len() > 8 => format!("a list of {} values", list.len()),
        Value::Object(fields) if fields.len() > 4 => {
            format!("an object of {} fields", fields.len())
        }
        other => {
            let text = other.to_string();
            match text.char_indices().nth(LONGEST) {
                Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
                None => text,
            }
        }
    }
}
