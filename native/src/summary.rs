//! Summaries by rule: what stands in for a language model's where none was asked, and what a new one
//! learns to write. Words that are frequent in a window and rare in the catalogue say what it is about.

use std::collections::{BTreeMap, HashMap, HashSet};

use tributary_core::recommend::{Catalogue, CatalogueItem, ItemIndex};

/// How a preference begins; MLLM-MSR asks its models for the same words.
const BEGINNING: &str = "The user appears to have a preference for";
/// Said of a window whose items have nothing in common.
const NOTHING: &str = "The user appears to have no clear preference.";
/// Words of a preference at most.
const MAX_WORDS: usize = 6;
/// Items of a window that must have a word in common.
const MIN_ITEMS: f64 = 2.0;
/// How many items of the window a word of the summary before is worth.
const REMEMBERED: f64 = 1.5;
/// Letters of a word at least.
const MIN_LETTERS: usize = 3;

/// What the words of a catalogue are worth.
#[derive(Clone, Debug)]
pub struct RuleSummaries {
    /// Words of each item, without those of its title, which name it and nothing else.
    words: Vec<Vec<String>>,
    /// ln(items / items with the word).
    weight: HashMap<String, f64>,
}

impl RuleSummaries {
    /// The rules of this catalogue.
    pub fn new(catalogue: &Catalogue) -> Self {
        let words: Vec<Vec<String>> = catalogue.items().iter().map(item_words).collect();
        let mut counts: HashMap<&String, usize> = HashMap::new();
        for word in words.iter().flatten() {
            *counts.entry(word).or_default() += 1;
        }
        let items = words.len() as f64;
        let weight =
            counts.into_iter().map(|(word, n)| (word.clone(), (items / n as f64).ln())).collect();
        Self { words, weight }
    }

    /// What a window says of the user, with what the summary before it says: its most telling words.
    pub fn preference(&self, window: &[ItemIndex], previous: Option<&str>) -> String {
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for word in window.iter().filter_map(|&item| self.words.get(item as usize)).flatten() {
            *counts.entry(word).or_default() += 1.0;
        }
        let known = previous.and_then(|text| text.strip_prefix(BEGINNING));
        for word in words(known.unwrap_or_default()) {
            if let Some((word, _)) = self.weight.get_key_value(&word) {
                *counts.entry(word).or_default() += REMEMBERED;
            }
        }
        let worth = |(word, count): (&str, f64)| {
            let weight = self.weight.get(word).copied().unwrap_or(0.0);
            (count >= MIN_ITEMS && weight > 0.0).then(|| (count * weight, word.to_owned()))
        };
        let mut worth: Vec<(f64, String)> = counts.into_iter().filter_map(worth).collect();
        worth.sort_by(|a, b| b.0.total_cmp(&a.0));
        worth.truncate(MAX_WORDS);
        match worth.is_empty() {
            true => NOTHING.into(),
            false => {
                let words: Vec<String> = worth.into_iter().map(|(_, word)| word).collect();
                format!("{BEGINNING} {}.", words.join(", "))
            }
        }
    }

    /// Every preference there is begins like one of these.
    pub fn sentences() -> [&'static str; 2] {
        [BEGINNING, NOTHING]
    }
}

/// An item's text and its picture in one; `None` where nothing is known.
pub fn item_summary(item: &CatalogueItem) -> Option<String> {
    let text = item.text();
    let picture = item.caption.as_ref().filter(|caption| !caption.trim().is_empty());
    match (text, picture) {
        (None, None) => None,
        (Some(text), None) => Some(text),
        (None, Some(caption)) => Some(format!("Its picture: {caption}.")),
        (Some(text), Some(caption)) => Some(format!("{} Its picture: {caption}.", ended(text))),
    }
}

/// The catalogue with a summary for every item of which anything is known; those that are there stay.
pub fn with_summaries(catalogue: &Catalogue) -> tributary_core::Result<Catalogue> {
    let mut items = catalogue.items().to_vec();
    for item in &mut items {
        if item.summary.is_none() {
            item.summary = item_summary(item);
        }
    }
    Catalogue::new(items)
}

fn ended(text: String) -> String {
    if text.ends_with('.') { text } else { text + "." }
}

/// Each word once.
fn item_words(item: &CatalogueItem) -> Vec<String> {
    let title: HashSet<String> = words(&item.title).collect();
    let texts = [&item.category, &item.description, &item.caption];
    let mut seen = HashSet::new();
    let texts = texts.into_iter().flatten().flat_map(|text| words(text));
    texts.filter(|word| !title.contains(word) && seen.insert(word.clone())).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '-')
        .filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() >= MIN_LETTERS)
        .map(str::to_lowercase)
}
