//! Prompts that offer items by index letters, and the tokens by which the answer is read (LlamaRec,
//! arXiv 2311.02089; MLLM4Rec, J. Intell. Inf. Syst. 2024, Figure 3).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::labels;
use super::names::Names;
use super::text::{TextPattern, read_template};
use super::window::Window;
use crate::error::{Context, Error, Result};
use crate::models::llama::TokenId;
use crate::tokenizer::Tokenizer;

/// Candidates of one prompt at most: the letters there are.
pub const MAX_LETTERS: usize = 26;

/// The wording of prompts with letters: a TOML file, or its JSON. `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq)]
pub struct LetterTemplate {
    instruction: TextPattern,
    history_empty: String,
    index: TextPattern,
    item: TextPattern,
    item_without_caption: TextPattern,
    separator: String,
    candidates: String,
    closing: String,
    roles: BTreeMap<String, Role>,
}

/// Whom the model plays on a data set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    /// A sentence: takes the place of {role}.
    role: String,
    /// What the items are called: takes the place of {items}.
    items: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    instruction: String,
    history_empty: String,
    index: String,
    item: String,
    item_without_caption: String,
    separator: String,
    candidates: String,
    closing: String,
    roles: BTreeMap<String, Role>,
}

impl LetterTemplate {
    /// The wording that comes with the library: file name and text.
    pub const SOURCE: (&str, &str) = ("letters.toml", include_str!("letters.toml"));

    /// Reads a template; `file` names it in errors.
    ///
    /// # Errors
    /// A field that is missing or unknown; a placeholder that is missing, unknown or named twice.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let form: TemplateFile = read_template(file, text)?;
        let pattern = |field, text: &str, names: &[&'static str]| {
            TextPattern::parse(file, field, text, names)
        };
        Ok(Self {
            instruction: pattern("instruction", &form.instruction, &["role", "items"])?,
            history_empty: form.history_empty,
            index: pattern("index", &form.index, &["index"])?,
            item: pattern("item", &form.item, &["title", "caption"])?,
            item_without_caption: pattern(
                "item_without_caption",
                &form.item_without_caption,
                &["title"],
            )?,
            separator: form.separator,
            candidates: form.candidates,
            closing: form.closing,
            roles: form.roles,
        })
    }
}

/// Which token stands for a letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelToken {
    /// The token that the letter is behind this prompt: what training teaches.
    #[default]
    InContext,
    /// The first token of the letter by itself, as LlamaRec's code has it. Behind a line feed
    /// Llama 2's tokenizer writes another one, so its model is asked for a token it was not taught.
    Alone,
}

/// What all prompts with letters of one recommender have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterOptions {
    /// The role, by its name in the template.
    pub role: String,
    /// How much history.
    pub window: Window,
    /// Most candidates; at most [`MAX_LETTERS`].
    pub max_candidates: usize,
    /// Most tokens of a prompt, its answer counted.
    pub max_prompt_tokens: usize,
    /// A longer title is cut to this many tokens.
    pub max_title_tokens: usize,
    /// A longer caption is cut to this many tokens; 0: no captions.
    pub max_caption_tokens: usize,
    /// Which token stands for a letter.
    pub label_token: LabelToken,
    /// Begins every prompt, if the language model wants it.
    pub bos_token_id: Option<TokenId>,
    /// Ends every answer.
    pub end_token_id: TokenId,
}

impl Default for LetterOptions {
    fn default() -> Self {
        Self {
            role: "shop".into(),
            window: Window { max_items: 20, keep_items: 15, max_tokens: 768, keep_tokens: 576 },
            max_candidates: 20,
            max_prompt_tokens: 1536,
            max_title_tokens: 32,
            max_caption_tokens: 32,
            label_token: LabelToken::default(),
            bos_token_id: None,
            end_token_id: 0,
        }
    }
}

impl LetterOptions {
    /// # Errors
    /// Numbers that contradict each other; `file` names them in errors.
    pub fn check(&self, file: &str) -> Result<()> {
        let Self { max_candidates, max_title_tokens, .. } = *self;
        if !(1..=MAX_LETTERS).contains(&max_candidates) {
            let expected = format!("1 to {MAX_LETTERS}: each has a letter");
            return Err(Error::file(file, "max_candidates", expected, max_candidates));
        }
        if max_title_tokens == 0 {
            return Err(Error::file(file, "max_title_tokens", "at least 1", max_title_tokens));
        }
        self.window.check()
    }
}

/// A prompt with letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterPrompt {
    /// Token ids.
    pub token_ids: Vec<TokenId>,
    /// The items of the request that the prompt holds: its last ones.
    pub history: Range<usize>,
    /// Positions of the letter and the end in `token_ids`; empty without an answer. The row before
    /// each of them predicts it.
    pub answer: Range<usize>,
}

/// Makes the prompts of one catalogue.
#[derive(Debug)]
pub struct LetterPrompts {
    template: LetterTemplate,
    tokenizer: Arc<Tokenizer>,
    options: LetterOptions,
    titles: Names,
    /// By item; `None` where nobody knows what its picture shows.
    captions: Vec<Option<Box<str>>>,
    /// What the prompt says of an item behind its index.
    entries: Vec<OnceLock<Box<[TokenId]>>>,
    head: Vec<TokenId>,
    history_empty: Vec<TokenId>,
    /// The index of each place of the history; the first entry has no separator before it.
    numbers: Vec<Vec<TokenId>>,
    letters: Vec<Vec<TokenId>>,
    candidates: Vec<TokenId>,
    closing: Vec<TokenId>,
    /// The token that answers with each letter.
    labels: Vec<TokenId>,
    /// The token that training teaches for each letter.
    taught: Vec<TokenId>,
}

impl LetterPrompts {
    /// Prompts without any item yet.
    ///
    /// # Errors
    /// Options that contradict each other or the template; a tokenizer by which letters cannot be told
    /// apart; a wording that alone fills a prompt.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        template: LetterTemplate,
        options: LetterOptions,
    ) -> Result<Self> {
        options.check("prompt")?;
        let role = template.roles.get(&options.role).ok_or_else(|| {
            let known: Vec<_> = template.roles.keys().map(String::as_str).collect();
            Error::argument("prompt", "role", format!("one of {}", known.join(", ")), &options.role)
        })?;
        let words = |text: &str| match text {
            "" => Ok(Vec::new()),
            text => tokenizer.encode_within(text, false),
        };
        let instruction =
            template.instruction.fill(&[("role", &role.role), ("items", &role.items)]);
        let mut head: Vec<TokenId> = options.bos_token_id.into_iter().collect();
        head.extend(tokenizer.encode(&instruction, false)?);
        let index = |place: usize, index: &str| {
            let separator = if place == 0 { "" } else { template.separator.as_str() };
            words(&format!("{separator}{}", template.index.fill(&[("index", index)])))
        };
        let letters: Vec<String> = (0..options.max_candidates).map(letter).collect();
        let (closing, taught) = labels::labels(&tokenizer, &template.closing, &letters)?;
        let labels = match options.label_token {
            LabelToken::InContext => taught.clone(),
            LabelToken::Alone => labels::alone(&tokenizer, &letters)?,
        };
        let prompts = Self {
            titles: Names::new(tokenizer.clone(), options.max_title_tokens),
            captions: Vec::new(),
            entries: Vec::new(),
            head,
            history_empty: words(&template.history_empty)?,
            numbers: (0..options.window.max_items)
                .map(|place| index(place, &(place + 1).to_string()))
                .collect::<Result<_>>()?,
            letters: letters
                .iter()
                .enumerate()
                .map(|(place, letter)| index(place, letter))
                .collect::<Result<_>>()?,
            candidates: words(&template.candidates)?,
            closing,
            labels,
            taught,
            template,
            tokenizer,
            options,
        };
        match prompts.build(&[], &[], None) {
            Err(Error::InputTooLong { limit, found, .. }) => {
                let expected = format!("room for more than the template's own {found}");
                Err(Error::argument("prompt", "max_prompt_tokens", expected, limit))
            }
            built => built.map(|_| prompts),
        }
    }

    /// Adds the next item: its title, or its `id` where the title is empty, and what its picture shows.
    pub fn push(&mut self, title: &str, id: &str, caption: Option<&str>) {
        self.titles.push(title, id);
        let caption = caption.filter(|_| self.options.max_caption_tokens > 0);
        self.captions.push(caption.map(Into::into));
        self.entries.push(OnceLock::new());
    }

    /// The options it was made with.
    pub fn options(&self) -> &LetterOptions {
        &self.options
    }

    /// The tokens whose logits rank the first `candidates` candidates.
    pub fn labels(&self, candidates: usize) -> &[TokenId] {
        self.labels.get(..candidates).unwrap_or(&self.labels)
    }

    /// How many of `candidates`, from the first on, a prompt has room for, with an entry of the history
    /// before them.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn offered(&self, history: &[u32], candidates: &[u32]) -> Result<usize> {
        let newest = history.last().map_or(Ok(0), |&item| Ok(self.entry(item)?.len() + 8))?;
        let mut used = self.own_tokens() + newest;
        for (place, &item) in candidates.iter().take(self.options.max_candidates).enumerate() {
            used += self.letters.get(place).map_or(0, Vec::len) + self.entry(item)?.len();
            if used > self.options.max_prompt_tokens {
                return Ok(place);
            }
        }
        Ok(candidates.len().min(self.options.max_candidates))
    }

    /// Tokens of every prompt, its answer counted.
    fn own_tokens(&self) -> usize {
        self.head.len() + self.candidates.len() + self.closing.len() + 2
    }

    /// The prompt that offers `candidates` in this order, with as much history as fits; for training
    /// with the letter of the candidate at the place `answer`.
    ///
    /// # Errors
    /// An item that is not there, more candidates than letters, candidates that fill the prompt.
    pub fn build(
        &self,
        history: &[u32],
        candidates: &[u32],
        answer: Option<usize>,
    ) -> Result<LetterPrompt> {
        let mut tail = self.candidates.clone();
        for (place, &item) in candidates.iter().enumerate() {
            let Some(letter) = self.letters.get(place) else {
                let expected = format!("at most {}", self.letters.len());
                return Err(Error::argument("prompt", "candidates", expected, candidates.len()));
            };
            tail.extend_from_slice(letter);
            tail.extend_from_slice(self.entry(item).at(|| "candidates")?);
        }
        tail.extend_from_slice(&self.closing);

        let limit = self.options.max_prompt_tokens;
        let found = self.head.len() + tail.len() + 2;
        let Some(room) = limit.checked_sub(found) else {
            return Err(Error::InputTooLong { what: "the prompt without history", limit, found });
        };
        let indexed = self.numbers.iter().map(Vec::len).max().unwrap_or(0);
        let recent = Window::recent(history.len());
        let tokens = |&item: &u32| Ok(indexed + self.entry(item).at(|| "history")?.len());
        let tokens = history[recent..].iter().map(tokens).collect::<Result<Vec<_>>>()?;
        let start = recent + self.options.window.first(&tokens, room);

        let mut token_ids = self.head.clone();
        let kept = history.get(start..).unwrap_or_default();
        if kept.is_empty() && self.history_empty.len() <= room {
            token_ids.extend_from_slice(&self.history_empty);
        }
        for (number, &item) in self.numbers.iter().zip(kept) {
            token_ids.extend_from_slice(number);
            token_ids.extend_from_slice(self.entry(item)?);
        }
        token_ids.extend(tail);
        let asked = token_ids.len();
        if let Some(place) = answer {
            let letter = self.taught.get(place).ok_or_else(|| {
                let expected = format!("a place below {}", self.taught.len());
                Error::argument("prompt", "answer", expected, place)
            })?;
            token_ids.extend([*letter, self.options.end_token_id]);
        }
        let answer = asked..token_ids.len();
        Ok(LetterPrompt { token_ids, history: start..history.len(), answer })
    }

    fn entry(&self, item: u32) -> Result<&[TokenId]> {
        let (Some(entry), Some(caption)) =
            (self.entries.get(item as usize), self.captions.get(item as usize))
        else {
            let expected = format!("an item below {}", self.entries.len());
            return Err(Error::argument("prompt", "item", expected, item));
        };
        if let Some(tokens) = entry.get() {
            return Ok(tokens);
        }
        let title = self.titles.text(item)?;
        let text = match caption {
            Some(caption) => {
                let mut cut = Names::new(self.tokenizer.clone(), self.options.max_caption_tokens);
                cut.push(caption, "");
                let caption = cut.text(0)?;
                self.template.item.fill(&[("title", &title), ("caption", &caption)])
            }
            None => self.template.item_without_caption.fill(&[("title", &title)]),
        };
        let tokens = self.tokenizer.encode_within(&text, true)?;
        Ok(entry.get_or_init(|| tokens.into()))
    }
}

fn letter(place: usize) -> String {
    char::from(b'A' + place as u8).to_string()
}
