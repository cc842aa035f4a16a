//! The wording of the four steps, and what all prompts of one recommender have in common.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::llama::TokenId;
use crate::prompt::text::{TextPattern, read_template};
use crate::prompt::window::Window;

/// The wording of the four steps: a TOML file. `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainTemplate {
    pub(super) picture_before: String,
    pub(super) item: ItemWords,
    pub(super) preference: PreferenceWords,
    pub(super) choice: ChoiceWords,
    pub(super) index: TextPattern,
    question: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PictureWords {
    question: String,
    before: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemWords {
    pub(super) before: String,
    pub(super) closing: String,
    pub(super) unknown: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreferenceWords {
    pub(super) before: String,
    pub(super) previous: String,
    pub(super) history: String,
    pub(super) closing: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChoiceWords {
    pub(super) behind: String,
    pub(super) before: String,
    pub(super) preference: String,
    pub(super) history: String,
    pub(super) item: String,
    pub(super) closing: String,
    pub(super) yes: String,
    pub(super) no: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryWords {
    index: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    picture: PictureWords,
    item: ItemWords,
    preference: PreferenceWords,
    choice: ChoiceWords,
    entry: EntryWords,
}

impl ChainTemplate {
    /// The wording that comes with the library: file name and text.
    pub const SOURCE: (&str, &str) = ("chain.toml", include_str!("../chain.toml"));

    /// Reads a template; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing or unknown; a placeholder that is missing, unknown or named twice.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let TemplateFile { picture, item, preference, choice, entry } = read_template(file, text)?;
        let before = TextPattern::parse(file, "picture.before", &picture.before, &["question"])?;
        Ok(Self {
            picture_before: before.fill(&[("question", &picture.question)]),
            question: picture.question,
            item,
            preference,
            choice,
            index: TextPattern::parse(file, "entry.index", &entry.index, &["index"])?,
        })
    }

    /// Its pieces as prompts hold them: what the vocabulary of a new language model should know.
    pub fn texts(&self) -> Vec<String> {
        let Self { picture_before, item, preference, choice, index, .. } = self;
        let numbers = (1..30).map(|n: usize| index.fill(&[("index", &n.to_string())]));
        let pieces = [
            picture_before,
            &item.before,
            &item.closing,
            &preference.before,
            &preference.previous,
            &preference.history,
            &preference.closing,
            &choice.behind,
            &choice.before,
            &choice.preference,
            &choice.history,
            &choice.item,
            &choice.closing,
            &choice.yes,
            &choice.no,
        ];
        pieces.into_iter().cloned().chain(numbers).collect()
    }

    /// p1: what a vision-language model is asked about an item's picture.
    pub fn question(&self) -> &str {
        &self.question
    }
}

/// How much of the chain stands before the question of step 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// Nothing: the history itself.
    None,
    /// The last window's summary, and what came behind that window.
    Summary,
    /// Question and answer of step 3, whose items are answers of step 2: the paper's 4-step chain, in
    /// which each step's prompt and answer are the next step's prefix.
    #[default]
    Prefix,
}

/// What prompts say of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemWording {
    /// What its picture shows: its caption.
    Picture,
    /// Title and description.
    Text,
    /// Its summary; title, description and caption where it has none.
    #[default]
    Both,
}

/// What all prompts of one recommender have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChainOptions {
    /// How the steps stand behind each other.
    pub chain: Chain,
    /// What is said of an item.
    pub wording: ItemWording,
    /// How much history: its windows begin where it does.
    pub history: Window,
    /// Items of a window that is summarised.
    pub window: usize,
    /// Items by which a window stands behind the one before.
    pub step: usize,
    /// What is said of an item is cut to this many tokens.
    pub max_item_tokens: usize,
    /// Most tokens of a summary of a window.
    pub max_summary_tokens: usize,
    /// Most tokens of a prompt, with a candidate and its answer, or with a summary.
    pub max_prompt_tokens: usize,
    /// Begins every prompt, if the language model wants it.
    pub bos_token_id: Option<TokenId>,
    /// Ends every answer.
    pub end_token_id: TokenId,
}

impl Default for ChainOptions {
    fn default() -> Self {
        Self {
            chain: Chain::default(),
            wording: ItemWording::default(),
            history: Window { max_items: 60, keep_items: 40, max_tokens: 4096, keep_tokens: 3072 },
            window: 10,
            step: 5,
            max_item_tokens: 48,
            max_summary_tokens: 64,
            max_prompt_tokens: 1536,
            bos_token_id: None,
            end_token_id: 0,
        }
    }
}

impl ChainOptions {
    /// # Errors
    /// Numbers that contradict each other; `file` names them in errors.
    pub fn check(&self, file: &str) -> Result<()> {
        for (field, found) in [
            ("window", self.window),
            ("step", self.step),
            ("max_item_tokens", self.max_item_tokens),
            ("max_summary_tokens", self.max_summary_tokens),
        ] {
            if found == 0 {
                return Err(Error::file(file, field, "at least 1", found));
            }
        }
        if self.step > self.window {
            let expected = format!("at most window, {}: every item stands in one", self.window);
            return Err(Error::file(file, "step", expected, self.step));
        }
        self.history.check()
    }
}
