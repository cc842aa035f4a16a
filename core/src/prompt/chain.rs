//! The four steps of MLLM-SRec as prompts: pictures in words, items in a sentence, what a window of the
//! history says of the user, and whether the user will like the next item.

mod template;

use std::ops::Range;
use std::sync::Arc;

pub use template::{Chain, ChainOptions, ChainTemplate, ItemWording};

use super::labels::labels;
use super::names::{Names, line};
use super::window::Window;
use crate::error::{Context, Error, Result};
use crate::models::llama::TokenId;
use crate::tokenizer::Tokenizer;

/// What is known of an item, in words.
#[derive(Clone, Copy, Debug, Default)]
pub struct ItemWords<'a> {
    /// Stands for it where nothing else is known.
    pub id: &'a str,
    /// Title and description.
    pub text: Option<&'a str>,
    /// What its picture shows.
    pub caption: Option<&'a str>,
    /// Both in one.
    pub summary: Option<&'a str>,
}

impl ItemWords<'_> {
    /// What a prompt says of the item; `None` where nothing is known.
    fn said(&self, wording: ItemWording) -> Option<String> {
        let own =
            |text: Option<&str>| text.filter(|text| !text.trim().is_empty()).map(str::to_owned);
        match wording {
            ItemWording::Picture => own(self.caption),
            ItemWording::Text => own(self.text),
            ItemWording::Both => own(self.summary).or_else(|| {
                let parts: Vec<_> =
                    [own(self.text), own(self.caption)].into_iter().flatten().collect();
                (!parts.is_empty()).then(|| parts.join(" "))
            }),
        }
    }
}

/// A user as step 4 is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference<'a> {
    /// The items of the last window that was summarised.
    pub window: &'a [u32],
    /// The summary that its prompt held: of the window before.
    pub previous: Option<&'a str>,
    /// Its own; `None` where no window was summarised.
    pub summary: Option<&'a str>,
    /// What came behind that window.
    pub recent: &'a [u32],
}

/// Makes the prompts of one catalogue.
#[derive(Debug)]
pub struct ChainPrompts {
    tokenizer: Arc<Tokenizer>,
    template: ChainTemplate,
    options: ChainOptions,
    /// What is said of each item.
    items: Names,
    /// The index of each place of a list.
    numbers: Vec<Vec<TokenId>>,
    bos: Vec<TokenId>,
    picture: Vec<TokenId>,
    item: [Vec<TokenId>; 2],
    preference: [Vec<TokenId>; 4],
    choice: [Vec<TokenId>; 5],
    closing: Vec<TokenId>,
    answers: [TokenId; 2],
}

impl ChainPrompts {
    /// Prompts without any item yet.
    ///
    /// # Errors
    /// Options that contradict each other; a tokenizer by which yes and no cannot be told apart; a
    /// wording that alone fills a prompt.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        template: ChainTemplate,
        options: ChainOptions,
    ) -> Result<Self> {
        options.check("prompt")?;
        let words = |text: &str| match text {
            "" => Ok(Vec::new()),
            text => tokenizer.encode_within(text, false),
        };
        let begin = |text: &str| tokenizer.encode(text, false);
        let (preference, choice) = (&template.preference, &template.choice);
        let (closing, answers) =
            labels(&tokenizer, &choice.closing, &[choice.yes.as_str(), choice.no.as_str()])?;
        let answers = <[TokenId; 2]>::try_from(answers)
            .map_err(|found| Error::Internal(format!("two answers became {found:?}")))?;
        let longest = options.history.max_items.max(options.window);
        let number = |place: usize| words(&template.index.fill(&[("index", &place.to_string())]));
        let prompts = Self {
            items: Names::new(tokenizer.clone(), options.max_item_tokens),
            numbers: (1..=longest).map(number).collect::<Result<_>>()?,
            bos: options.bos_token_id.into_iter().collect(),
            picture: begin(&template.picture_before)?,
            item: [words(&template.item.before)?, words(&template.item.closing)?],
            preference: [
                begin(&preference.before)?,
                words(&preference.previous)?,
                words(&preference.history)?,
                words(&preference.closing)?,
            ],
            choice: [
                words(&choice.behind)?,
                begin(&choice.before)?,
                words(&choice.preference)?,
                words(&choice.history)?,
                words(&choice.item)?,
            ],
            closing,
            answers,
            tokenizer,
            template,
            options,
        };
        let found = prompts.own_tokens();
        match prompts.options.max_prompt_tokens > found {
            true => Ok(prompts),
            false => {
                let expected = format!("room for more than the template's own {found}");
                let limit = prompts.options.max_prompt_tokens;
                Err(Error::argument("prompt", "max_prompt_tokens", expected, limit))
            }
        }
    }

    /// Adds the next item.
    pub fn push(&mut self, item: ItemWords<'_>) {
        let said = item.said(self.options.wording);
        let unknown = match self.options.wording {
            // An id would tell what the picture does not.
            ItemWording::Picture => self.template.item.unknown.as_str(),
            _ => item.id,
        };
        self.items.push(said.as_deref().unwrap_or_default(), unknown);
    }

    /// The options it was made with.
    pub fn options(&self) -> &ChainOptions {
        &self.options
    }

    /// What [`ChainPrompts::answers`] are called: yes and no.
    pub fn answer_names(&self) -> [&str; 2] {
        [&self.template.choice.yes, &self.template.choice.no]
    }

    /// The tokens of yes and no.
    pub fn answers(&self) -> [TokenId; 2] {
        self.answers
    }

    /// Tokens of a prompt of the longest form without any item of a history.
    fn own_tokens(&self) -> usize {
        let sum = |pieces: &[Vec<TokenId>]| pieces.iter().map(Vec::len).sum::<usize>();
        let summaries = 2 * (self.options.max_summary_tokens + 1);
        self.bos.len() + sum(&self.preference) + summaries + sum(&self.choice) + self.longest()
    }

    /// Tokens of a candidate with its answer at most.
    fn longest(&self) -> usize {
        self.options.max_item_tokens + self.closing.len() + 1
    }

    /// The first item of a history that prompts look at: it moves on in steps.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn first(&self, history: &[u32]) -> Result<usize> {
        let recent = Window::recent(history.len());
        let indexed = self.numbers.iter().map(Vec::len).max().unwrap_or(0);
        let tokens = |&item: &u32| Ok(indexed + self.items.tokens(item).at(|| "history")?.len());
        let tokens = history.get(recent..).unwrap_or_default().iter().map(tokens);
        let tokens = tokens.collect::<Result<Vec<_>>>()?;
        Ok(recent + self.options.history.first(&tokens, usize::MAX))
    }

    /// The complete windows of so many items, oldest first.
    pub fn windows(&self, items: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (window, step) = (self.options.window, self.options.step);
        let complete = match self.options.chain {
            Chain::None => 0,
            _ => (items + step).saturating_sub(window) / step,
        };
        (0..complete).map(move |nth| nth * step..nth * step + window)
    }

    /// A summary as prompts hold it: on one line, as content, cut.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn summary(&self, text: &str) -> Result<Vec<TokenId>> {
        let mut tokens = self.tokenizer.encode_within(&format!(" {}", line(text)), true)?;
        tokens.truncate(self.options.max_summary_tokens);
        Ok(tokens)
    }

    /// What a generated summary says.
    ///
    /// # Errors
    /// Tokens that the tokenizer does not know.
    pub fn summary_text(&self, tokens: &[TokenId]) -> Result<String> {
        Ok(line(&self.tokenizer.decode(tokens, true)?))
    }

    /// Step 2: the prompt whose answer is the item's summary, behind question and answer of step 1.
    ///
    /// # Errors
    /// A tokenizer that fails; texts that fill the prompt.
    pub fn item_prompt(&self, item: ItemWords<'_>) -> Result<Vec<TokenId>> {
        let content = |text: &str| -> Result<Vec<TokenId>> {
            self.tokenizer.encode_within(&format!(" {}", line(text)), true)
        };
        let [before, closing] = &self.item;
        let mut prompt = self.bos.clone();
        if let Some(caption) = item.caption {
            prompt.extend_from_slice(&self.picture);
            prompt.extend(content(caption)?);
        }
        prompt.extend_from_slice(before);
        prompt.extend(content(item.text.unwrap_or(item.id))?);
        prompt.extend_from_slice(closing);
        let limit = self.options.max_prompt_tokens.saturating_sub(self.options.max_summary_tokens);
        if prompt.len() > limit {
            let found = prompt.len();
            return Err(Error::InputTooLong { what: "an item's text and caption", limit, found });
        }
        Ok(prompt)
    }

    /// Step 3: the prompt whose answer is what a window says of the user, with what was known before.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn preference(&self, window: &[u32], previous: Option<&str>) -> Result<Vec<TokenId>> {
        let [before, known, history, closing] = &self.preference;
        let mut prompt = self.bos.clone();
        prompt.extend_from_slice(before);
        if let Some(previous) = previous {
            prompt.extend_from_slice(known);
            prompt.extend(self.summary(previous)?);
        }
        prompt.extend_from_slice(history);
        let room = self.options.max_prompt_tokens.saturating_sub(self.own_tokens());
        self.entries(&mut prompt, window, room)?;
        prompt.extend_from_slice(closing);
        Ok(prompt)
    }

    /// Step 4 up to where a candidate follows: what all candidates share. Also how many items of
    /// `recent` it holds, its last ones.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn choice(&self, user: &Preference<'_>) -> Result<(Vec<TokenId>, usize)> {
        let [behind, before, known, history, item] = &self.choice;
        let mut prompt = match (self.options.chain, user.summary) {
            (Chain::Prefix, Some(summary)) => {
                let mut prompt = self.preference(user.window, user.previous)?;
                prompt.extend(self.summary(summary)?);
                prompt.push(self.options.end_token_id);
                prompt.extend_from_slice(behind);
                prompt
            }
            _ => self.bos.clone(),
        };
        prompt.extend_from_slice(before);
        if let (Chain::Summary, Some(summary)) = (self.options.chain, user.summary) {
            prompt.extend_from_slice(known);
            prompt.extend(self.summary(summary)?);
        }
        let mut kept = 0;
        if !user.recent.is_empty() {
            prompt.extend_from_slice(history);
            let used = prompt.len() + item.len() + self.longest();
            let room = self.options.max_prompt_tokens.saturating_sub(used);
            kept = self.entries(&mut prompt, user.recent, room)?;
        }
        prompt.extend_from_slice(item);
        Ok((prompt, kept))
    }

    /// What a candidate adds behind [`ChainPrompts::choice`]; its answer follows.
    ///
    /// # Errors
    /// An item that is not there.
    pub fn candidate(&self, item: u32) -> Result<Vec<TokenId>> {
        let mut tokens = self.items.tokens(item).at(|| "candidates")?.to_vec();
        tokens.extend_from_slice(&self.closing);
        Ok(tokens)
    }

    /// Adds the last of `items` that `room` tokens hold, numbered; how many these are.
    fn entries(&self, prompt: &mut Vec<TokenId>, items: &[u32], room: usize) -> Result<usize> {
        let indexed = self.numbers.iter().map(Vec::len).max().unwrap_or(0);
        let (mut used, mut kept) = (0, 0);
        for &item in items.iter().rev().take(self.numbers.len()) {
            used += indexed + self.items.tokens(item)?.len();
            if used > room {
                break;
            }
            kept += 1;
        }
        let first = items.len() - kept;
        for (number, &item) in self.numbers.iter().zip(items.get(first..).unwrap_or_default()) {
            prompt.extend_from_slice(number);
            prompt.extend_from_slice(self.items.tokens(item)?);
        }
        Ok(kept)
    }
}
