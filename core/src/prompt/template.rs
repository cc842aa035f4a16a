//! What a prompt says: a TOML file of texts with placeholders.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::text::{Placed, placeholders, read_template};
use crate::error::{Error, Result};

/// One wording of the prompt, in the order of the prompt: what is stable comes first, so that a new
/// event changes the end only. `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Begins every prompt.
    pub instruction: String,
    /// One interaction: {behaviour}, {behaviour_token}, {title}, {item_token}.
    pub history_entry: Pattern,
    /// Between two of them.
    pub history_separator: String,
    /// In their place when there are none.
    pub history_empty: String,
    /// What is asked for: {behaviour}, {behaviour_token} of the target.
    pub question: Pattern,
    /// Before the candidates.
    pub candidates: String,
    /// One candidate: {title}, {item_token}.
    pub candidate_entry: Pattern,
    /// Between two of them.
    pub candidate_separator: String,
    /// The last words. The answer, a candidate's title, follows after a space.
    pub closing: String,
    /// How a behaviour reads, by its name; one that is not here reads as its name.
    pub behaviours: BTreeMap<String, BehaviourWords>,
}

/// How a behaviour reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviourWords {
    /// In the history: "adds to cart". May be empty, where the behaviour's token says it.
    pub history: String,
    /// As what is asked for: "add to cart".
    pub target: String,
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub(super) Vec<Part>);

/// A piece of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// The behaviour's words; after a space, which is then part of them.
    Behaviour {
        spaced: bool,
    },
    BehaviourToken,
    /// The item's name with the space before it.
    Title,
    ItemToken,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    instruction: String,
    history_entry: String,
    history_separator: String,
    history_empty: String,
    question: String,
    candidates: String,
    candidate_entry: String,
    candidate_separator: String,
    closing: String,
    #[serde(default)]
    behaviours: BTreeMap<String, BehaviourWords>,
}

const BEHAVIOUR: [&str; 2] = ["behaviour", "behaviour_token"];
const ITEM: [&str; 2] = ["title", "item_token"];

impl Template {
    /// The files of the wordings that come with the library, by name; the first is the one to serve
    /// by.
    pub const SOURCES: [(&str, &str); 4] = [
        ("sentence.toml", include_str!("sentence.toml")),
        ("lines.toml", include_str!("lines.toml")),
        ("task.toml", include_str!("task.toml")),
        ("story.toml", include_str!("story.toml")),
    ];

    /// Reads a template; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing or unknown; a placeholder that is missing, unknown, named twice or
    /// not closed; a {title} without a space before it.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let form: TemplateFile = read_template(file, text)?;
        let field = |name: &str, text: &str, names: &[&'static str]| {
            Pattern::parse(file, name, text, names)
        };
        let plain = |name: &str, text: String| -> Result<String> {
            Ok(match field(name, &text, &[])?.0.into_iter().next() {
                Some(Part::Text(text)) => text,
                _ => String::new(),
            })
        };
        Ok(Self {
            instruction: plain("instruction", form.instruction)?,
            history_entry: field(
                "history_entry",
                &form.history_entry,
                &[BEHAVIOUR, ITEM].concat(),
            )?,
            history_separator: plain("history_separator", form.history_separator)?,
            history_empty: plain("history_empty", form.history_empty)?,
            question: field("question", &form.question, &BEHAVIOUR)?,
            candidates: plain("candidates", form.candidates)?,
            candidate_entry: field("candidate_entry", &form.candidate_entry, &ITEM)?,
            candidate_separator: plain("candidate_separator", form.candidate_separator)?,
            closing: plain("closing", form.closing)?,
            behaviours: form.behaviours,
        })
    }

    /// The wordings that come with the library, the one to serve by first; training draws among
    /// them.
    ///
    /// # Errors
    /// None; the files are tested.
    pub fn defaults() -> Result<Vec<Self>> {
        Self::SOURCES.into_iter().map(|(file, text)| Self::parse(file, text)).collect()
    }
}

impl Pattern {
    /// Every name of `names` must be there once, and no other.
    fn parse(file: &str, field: &str, text: &str, names: &[&'static str]) -> Result<Self> {
        let mut parts = Vec::new();
        for piece in placeholders(file, field, text, names)? {
            let name = match piece {
                Placed::Text(text) => {
                    parts.push(Part::Text(text));
                    continue;
                }
                Placed::Name(name) => name,
            };
            let mut spaced = false;
            if let ("title" | "behaviour", Some(Part::Text(before))) = (name, parts.last_mut())
                && before.ends_with(' ')
            {
                spaced = true;
                before.pop();
                if before.is_empty() {
                    parts.pop();
                }
            }
            if name == "title" && !spaced {
                let expected = "a space before {title}, as before the answer";
                return Err(Error::file(file, field, expected, format!("{text:?}")));
            }
            parts.push(match name {
                "title" => Part::Title,
                "item_token" => Part::ItemToken,
                "behaviour" => Part::Behaviour { spaced },
                _ => Part::BehaviourToken,
            });
        }
        Ok(Self(parts))
    }
}
