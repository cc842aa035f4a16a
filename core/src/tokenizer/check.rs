//! What a `tokenizer.json` must look like before the `tokenizers` crate may read it.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Largest accepted file.
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;
/// Largest accepted token id; the crate allocates a table up to the largest.
pub const MAX_TOKEN_ID: u64 = 4_194_303;
/// Longest regular expression a file may bring.
const MAX_PATTERN_BYTES: usize = 8192;
/// Bytes that a normalizer may write for each that it replaces: a blank becomes three.
const MAX_GROWTH: usize = 4;
/// Normalizers of one list that replace, each by up to [`MAX_GROWTH`]: together at most 256.
const MAX_REPLACING: usize = 4;
/// Bytes that a normalizer may put before a text.
const MAX_PREPENDED_BYTES: usize = 64;
/// Normalizers, pre-tokenizers or decoders of one list.
const MAX_PARTS: usize = 16;
/// Kinds of model the crate knows.
const MODELS: [&str; 4] = ["BPE", "WordPiece", "Unigram", "WordLevel"];

struct Check<'a> {
    file: &'a str,
}

/// `Err` naming the field for every malformation that the crate answers with a panic, an endless
/// allocation or a silent change of meaning.
pub(super) fn structure(file: &str, bytes: &[u8]) -> Result<()> {
    let limit = MAX_TOKENIZER_BYTES as u64;
    if bytes.len() as u64 > limit {
        let found = bytes.len() as u64;
        return Err(Error::Limit { what: format!("{file}: bytes"), limit, found });
    }
    let root: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::file(file, "JSON", "a JSON object", error))?;
    let check = Check { file };
    let root = check.object("the file", Some(&root))?;
    let model = check.object("model", root.get("model"))?;
    check.model(model)?;
    check.added_tokens(root.get("added_tokens"))?;
    for field in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        check.component(field, root.get(field))?;
    }
    Ok(())
}

impl Check<'_> {
    fn error(&self, field: impl ToString, expected: &str, found: impl ToString) -> Error {
        Error::file(self.file, field, expected, found)
    }

    fn object<'v>(&self, field: &str, value: Option<&'v Value>) -> Result<&'v Map<String, Value>> {
        value.and_then(Value::as_object).ok_or_else(|| self.error(field, "an object", kind(value)))
    }

    fn model(&self, model: &Map<String, Value>) -> Result<()> {
        // Files written before `type` was stored there are BPE or WordPiece by their other keys.
        let kind_of = model.get("type").and_then(Value::as_str).unwrap_or("BPE");
        if !MODELS.contains(&kind_of) {
            return Err(Error::Unsupported {
                file: self.file.to_string(),
                field: "model.type".into(),
                found: kind_of.into(),
                supported: MODELS.join(", "),
            });
        }
        if kind_of == "Unigram" {
            return self.unigram(model);
        }
        let vocabulary = self.object("model.vocab", model.get("vocab"))?;
        if vocabulary.is_empty() {
            return Err(self.error("model.vocab", "at least one token", "none"));
        }
        let mut ids = HashSet::with_capacity(vocabulary.len());
        for (token, id) in vocabulary {
            let field = || format!("model.vocab[{token:?}]");
            self.token_id(&field(), Some(id))?;
            if !ids.insert(id.as_u64()) {
                return Err(self.error(field(), "an id of its own", id));
            }
        }
        if model.get("dropout").is_some_and(|dropout| dropout.as_f64().unwrap_or(0.0) > 0.0) {
            let expected = "none: the same text is the same tokens";
            return Err(self.error("model.dropout", expected, "some"));
        }
        if let Some(token) = model.get("unk_token").and_then(Value::as_str)
            && !vocabulary.contains_key(token)
            && kind_of != "BPE"
        {
            return Err(self.error("model.unk_token", "a token of the vocabulary", token));
        }
        if kind_of == "BPE" { self.merges(model, vocabulary) } else { Ok(()) }
    }

    fn unigram(&self, model: &Map<String, Value>) -> Result<()> {
        let pieces = model.get("vocab").and_then(Value::as_array);
        let pieces = pieces
            .filter(|pieces| !pieces.is_empty() && pieces.len() as u64 <= MAX_TOKEN_ID)
            .ok_or_else(|| {
                self.error("model.vocab", "an array of pieces", kind(model.get("vocab")))
            })?;
        for (i, piece) in pieces.iter().enumerate() {
            let pair = piece.as_array().filter(|pair| pair.len() == 2);
            let good = pair.is_some_and(|pair| {
                pair[0].is_string() && pair[1].as_f64().is_some_and(f64::is_finite)
            });
            if !good {
                let field = format!("model.vocab[{i}]");
                return Err(self.error(field, "[piece, finite score]", piece));
            }
        }
        match model.get("unk_id") {
            None | Some(Value::Null) => Ok(()),
            Some(id) if id.as_u64().is_some_and(|id| id < pieces.len() as u64) => Ok(()),
            Some(id) => Err(self.error("model.unk_id", "an index of the vocabulary", id)),
        }
    }

    fn merges(&self, model: &Map<String, Value>, vocabulary: &Map<String, Value>) -> Result<()> {
        let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
        let merges = model
            .get("merges")
            .and_then(Value::as_array)
            .ok_or_else(|| self.error("model.merges", "an array", kind(model.get("merges"))))?;
        for (i, merge) in merges.iter().enumerate() {
            let pair = match merge {
                Value::String(text) => text.split_once(' '),
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
                    _ => None,
                },
                _ => None,
            };
            let known = pair.is_some_and(|(a, b)| {
                // The crate slices the prefix off the second part without looking.
                let rest = b.get(prefix.len()..);
                let merged = rest.map(|rest| format!("{a}{rest}"));
                vocabulary.contains_key(a)
                    && vocabulary.contains_key(b)
                    && merged.is_some_and(|merged| vocabulary.contains_key(&merged))
            });
            if !known {
                let field = format!("model.merges[{i}]");
                return Err(self.error(field, "two tokens that merge into a third", merge));
            }
        }
        Ok(())
    }

    fn token_id(&self, field: &str, id: Option<&Value>) -> Result<()> {
        match id.and_then(Value::as_u64) {
            Some(id) if id <= MAX_TOKEN_ID => Ok(()),
            _ => {
                let expected = format!("an id of at most {MAX_TOKEN_ID}");
                Err(self.error(field, &expected, id.unwrap_or(&Value::Null)))
            }
        }
    }

    fn added_tokens(&self, tokens: Option<&Value>) -> Result<()> {
        let tokens = match tokens {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(tokens)) => tokens,
            other => return Err(self.error("added_tokens", "an array", kind(other))),
        };
        for (i, token) in tokens.iter().enumerate() {
            let field = format!("added_tokens[{i}]");
            let token = self.object(&field, Some(token))?;
            self.token_id(&format!("{field}.id"), token.get("id"))?;
            let content = token.get("content").and_then(Value::as_str).unwrap_or("");
            if content.is_empty() {
                return Err(self.error(format!("{field}.content"), "a text", "none"));
            }
        }
        Ok(())
    }

    /// A normalizer, pre-tokenizer, post-processor or decoder, and those inside it.
    fn component(&self, field: &str, value: Option<&Value>) -> Result<()> {
        if matches!(value, None | Some(Value::Null)) {
            return Ok(());
        }
        let component = self.object(field, value)?;
        let kind_of = component.get("type").and_then(Value::as_str);
        let Some(kind_of) = kind_of else {
            return Err(self.error(field, "an object with a `type`", "none"));
        };
        if kind_of == "Precompiled" {
            // A table of offsets that the crate follows without looking.
            return Err(Error::Unsupported {
                file: self.file.to_string(),
                field: format!("{field}.type"),
                found: kind_of.into(),
                supported: "normalizers without a precompiled table".into(),
            });
        }
        if let Some(pattern) = component.get("pattern") {
            let text = match pattern {
                Value::Object(pattern) => pattern.get("Regex").or(pattern.get("String")),
                _ => None,
            };
            let text = text.and_then(Value::as_str);
            if text.is_none_or(|text| text.len() > MAX_PATTERN_BYTES) {
                let expected = format!("a Regex or String of at most {MAX_PATTERN_BYTES} bytes");
                return Err(self.error(format!("{field}.pattern"), &expected, kind(Some(pattern))));
            }
            if text.is_some_and(str::is_empty) {
                return Err(self.error(format!("{field}.pattern"), "a pattern", "an empty one"));
            }
        }
        let replaces = field.starts_with("normalizer") && kind_of == "Replace";
        let regex = component.get("pattern").and_then(|pattern| pattern.get("Regex"));
        if let Some(regex) = regex.and_then(Value::as_str).filter(|_| replaces)
            && !takes_a_character(regex)
        {
            let expected = "one that takes a character, without look-around";
            return Err(self.error(format!("{field}.pattern"), expected, format!("`{regex}`")));
        }
        if kind_of == "FixedLength" && component.get("length").and_then(Value::as_u64) == Some(0) {
            return Err(self.error(format!("{field}.length"), "at least 1", "0"));
        }
        self.growth(field, kind_of, component)?;
        if kind_of == "TemplateProcessing" {
            self.template(field, component)?;
        }
        for list in ["normalizers", "pretokenizers", "processors", "decoders"] {
            let Some(parts) = component.get(list) else { continue };
            let parts = parts.as_array().ok_or_else(|| {
                self.error(format!("{field}.{list}"), "an array", kind(Some(parts)))
            })?;
            if parts.len() > MAX_PARTS {
                let what = format!("{}: {field}.{list}: parts", self.file);
                let (limit, found) = (MAX_PARTS as u64, parts.len() as u64);
                return Err(Error::Limit { what, limit, found });
            }
            let growing = |part: &&Value| {
                matches!(part.get("type").and_then(Value::as_str), Some("Replace" | "Sequence"))
            };
            let growing = parts.iter().filter(growing).count();
            if list == "normalizers" && growing > MAX_REPLACING {
                let what = format!("{}: {field}.{list}: parts that replace", self.file);
                let (limit, found) = (MAX_REPLACING as u64, growing as u64);
                return Err(Error::Limit { what, limit, found });
            }
            for (i, part) in parts.iter().enumerate() {
                self.component(&format!("{field}.{list}[{i}]"), Some(part))?;
            }
        }
        Ok(())
    }

    /// What is put into a text is short beside what it stands for: rules that follow each other multiply.
    fn growth(&self, field: &str, kind_of: &str, component: &Map<String, Value>) -> Result<()> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map_or(0, str::len);
        let (name, limit) = match kind_of {
            "Prepend" => ("prepend", MAX_PREPENDED_BYTES),
            "Replace" => {
                let pattern = component.get("pattern").and_then(|pattern| pattern.get("String"));
                ("content", MAX_GROWTH * text(pattern).max(1))
            }
            _ => return Ok(()),
        };
        let found = text(component.get(name));
        if found > limit {
            let what = format!("{}: {field}.{name}: bytes", self.file);
            return Err(Error::Limit { what, limit: limit as u64, found: found as u64 });
        }
        Ok(())
    }

    /// Every special token that a template names must be declared with as many ids as tokens.
    fn template(&self, field: &str, template: &Map<String, Value>) -> Result<()> {
        let declared =
            self.object(&format!("{field}.special_tokens"), template.get("special_tokens"))?;
        for (name, token) in declared {
            let field = format!("{field}.special_tokens[{name:?}]");
            let token = self.object(&field, Some(token))?;
            let count = |key| token.get(key).and_then(Value::as_array).map_or(0, Vec::len);
            if count("ids") == 0 || count("ids") != count("tokens") {
                return Err(self.error(field, "equally many ids and tokens", count("ids")));
            }
        }
        for part in ["single", "pair"] {
            let pieces = template.get(part).and_then(Value::as_array);
            for piece in pieces.into_iter().flatten() {
                let sequence = piece.get("Sequence").and_then(|sequence| sequence.get("id"));
                if part == "single" && sequence.is_some_and(|id| id != "A") {
                    let field = format!("{field}.{part}");
                    return Err(self.error(field, "the sequence A alone", "another"));
                }
                let special = piece.get("SpecialToken").and_then(|special| special.get("id"));
                let name = special.and_then(Value::as_str);
                if let Some(name) = name.filter(|name| !declared.contains_key(*name)) {
                    let field = format!("{field}.{part}");
                    return Err(self.error(field, "tokens of special_tokens", name));
                }
            }
        }
        Ok(())
    }
}

/// Of a match of nothing the crate does not know where it is.
fn takes_a_character(regex: &str) -> bool {
    regex_syntax::parse(regex).is_ok_and(|regex| regex.properties().minimum_len() != Some(0))
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a bool",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    }
}
