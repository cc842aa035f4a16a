//! Texts with placeholders, and the files they come from.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Bytes of one template file at most.
pub const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// The fields of a template file: TOML as people write it, JSON as bundles hold it. A page has no
/// parser of TOML, which would be 3 % of its download.
///
/// # Errors
/// A file that is too long; a field that is missing or unknown, with its line.
pub(super) fn read_template<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    if text.len() > MAX_TEMPLATE_BYTES {
        let (limit, found) = (MAX_TEMPLATE_BYTES as u64, text.len() as u64);
        return Err(Error::Limit { what: format!("{file}: bytes"), limit, found });
    }
    if !text.trim_start().starts_with('{') {
        return read_toml(file, text);
    }
    serde_json::from_str(text).map_err(|error| {
        Error::file(file, format!("line {}", error.line()), TEMPLATE_FIELDS, error)
    })
}

const TEMPLATE_FIELDS: &str = "the fields of a prompt template";

#[cfg(feature = "tokenizer")]
fn read_toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let found = error.message().to_owned();
        let line = error.span().and_then(|span| text.get(..span.start));
        let line = line.map_or(1, |before| before.matches('\n').count() + 1);
        Error::file(file, format!("line {line}"), TEMPLATE_FIELDS, found)
    })
}

#[cfg(not(feature = "tokenizer"))]
fn read_toml<T>(file: &str, _text: &str) -> Result<T> {
    Err(Error::Unsupported {
        file: file.into(),
        field: "format".into(),
        found: "TOML".into(),
        supported: "JSON, as bundles hold templates".into(),
    })
}

/// A template file as bundles hold it.
///
/// # Errors
/// Text that is neither TOML nor JSON.
#[cfg(feature = "tokenizer")]
pub fn template_json(file: &str, text: &str) -> Result<String> {
    let value: serde_json::Value = read_template(file, text)?;
    Ok(format!("{value:#}\n"))
}

/// A text in which other texts take the places of names in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPattern(Vec<Placed>);

impl TextPattern {
    /// `file` and `field` name it in errors.
    ///
    /// # Errors
    /// A placeholder that is missing, unknown, named twice or not closed.
    pub(super) fn parse(
        file: &str,
        field: &str,
        text: &str,
        names: &[&'static str],
    ) -> Result<Self> {
        placeholders(file, field, text, names).map(Self)
    }

    /// The text with these in the places of their names.
    pub(super) fn fill(&self, texts: &[(&str, &str)]) -> String {
        let piece = |piece: &Placed| match piece {
            Placed::Text(text) => text.clone(),
            Placed::Name(name) => {
                let text = texts.iter().find(|(known, _)| known == name);
                text.map_or_else(String::new, |(_, text)| (*text).to_owned())
            }
        };
        self.0.iter().map(piece).collect()
    }
}

/// A piece of a text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Text(String),
    /// A placeholder, by its name.
    Name(&'static str),
}

/// `text` in pieces. Every name of `names` must be there once, and no other; `{{` and `}}` are braces.
pub(super) fn placeholders(
    file: &str,
    field: &str,
    text: &str,
    names: &[&'static str],
) -> Result<Vec<Placed>> {
    let braced: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
    let expected = match braced.as_slice() {
        [] => "no placeholder".to_owned(),
        names => format!("{}, each once", names.join(", ")),
    };
    let wrong = |found: String| Error::file(file, field, &expected, found);
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            plain.push_str(&from[..1]);
            rest = after;
            continue;
        }
        let end = from.find('}').filter(|&end| end > 0);
        let end = end.ok_or_else(|| wrong(format!("an open brace in {text:?}")))?;
        let found = &from[1..end];
        let Some(name) = names.iter().find(|name| **name == found) else {
            return Err(wrong(format!("{{{found}}}")));
        };
        if pieces.contains(&Placed::Name(name)) {
            return Err(wrong(format!("{{{name}}} twice")));
        }
        if !plain.is_empty() {
            pieces.push(Placed::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Placed::Name(name));
        rest = &from[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Placed::Text(plain));
    }
    match names.iter().find(|name| !pieces.contains(&Placed::Name(name))) {
        Some(missing) => Err(wrong(format!("no {{{missing}}} in {text:?}"))),
        None => Ok(pieces),
    }
}
