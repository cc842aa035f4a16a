//! Data sets: interaction files in the forms the field uses -> users' sequences over a catalogue.
//!
//! | form | recognised by |
//! |---|---|
//! | RecBole atomic files | `.inter`, or a first line of `name:type` columns; a `.item` file beside it |
//! | CSV, TSV with a header | `.csv`, `.tsv`, or a first line with commas or tabs |
//! | sequences | a first line `user items [timestamps]`, tab-separated lists |
//! | JSON lines of interactions | `.jsonl`, rows `{"user", "item", "behaviour", "time"}` |
//! | LLaRA's windows | `.jsonl`, rows `{"seq", "len_seq", "next"}` |
//! | ICLRec's text | `user item item ...`, whitespace-separated, no header |
//!
//! A folder is the one data file it holds. A `catalogue.jsonl` in the same folder gives items their
//! titles; it may list more items than the interactions name. Files are UTF-8, with or without a
//! byte order mark, lines end in LF or CRLF, and a file has at most 4 GiB.

mod atomic;
mod detect;
mod json_lines;
mod lists;
mod prepare;
mod shop;
mod table;

use std::collections::{HashMap, HashSet};
use std::path::Path;

pub(crate) use detect::{read_bytes, utf8};
pub use prepare::{Prepared, prepare_movielens, prepare_recbole};
pub use shop::{PreparedShop, prepare_shop, prepare_unsold};

use tributary_core::recommend::{Catalogue, CatalogueItem, ItemId, ItemIndex, first_occurrences};
use tributary_core::{Error, Result};

/// The name of the catalogue file beside a data file.
pub use tributary_core::recommend::CATALOGUE_FILE;
/// The folder beside it that holds the items' pictures.
pub const IMAGES_FOLDER: &str = "images";

/// Interactions of many users with the items of one catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The file it came from, without folder.
    pub name: String,
    /// All items; those without a line of their own have an id and nothing else.
    pub catalogue: Catalogue,
    /// The kinds of interaction, in order of first appearance; empty when the file names none.
    pub behaviours: Vec<String>,
    /// Users in order of first appearance.
    pub users: Vec<UserSequence>,
    /// How test and validation targets are found.
    pub split: SplitRule,
}

/// One user's interactions, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserSequence {
    /// The file's own name of the user.
    pub user: String,
    /// Indices into the catalogue.
    pub items: Vec<ItemIndex>,
    /// Indices into [`Dataset::behaviours`], one per item; empty when there are none.
    pub behaviours: Vec<u16>,
    /// When, one per item, in the file's unit; empty when the file has no times.
    pub times: Vec<f64>,
}

impl UserSequence {
    /// The interactions of these places, in their order. Places are below the number of items.
    fn reorder(&mut self, places: &[usize]) {
        self.items = places.iter().map(|&place| self.items[place]).collect();
        if !self.behaviours.is_empty() {
            self.behaviours = places.iter().map(|&place| self.behaviours[place]).collect();
        }
        if !self.times.is_empty() {
            self.times = places.iter().map(|&place| self.times[place]).collect();
        }
    }
}

/// How a data set is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitRule {
    /// A user's last item is for testing, the second last for validation, the rest for training.
    /// Users with fewer than 3 interactions are for training only.
    LeaveOneOut,
    /// The item that a user did this to last is for testing, the one before it for validation; an
    /// index into [`Dataset::behaviours`]. A target's history is what came before the first event
    /// that touches it, whatever the behaviour, so no target is in its own history; what came before
    /// all held out items is for training. Competitors are items that the user never touches.
    LastOf(u16),
    /// Somebody split already: each sequence is one case, its last item the target, whichever part
    /// is asked for.
    Given,
}

/// Which targets to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Validation.
    Valid,
    /// Test.
    Test,
}

impl Split {
    /// By its name on the command line: `valid` or `test`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "valid" => Some(Self::Valid),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// One question to a recommender: what comes after `history`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case<'a> {
    /// Index into [`Dataset::users`].
    pub user: usize,
    /// Items before the target, oldest first; never empty.
    pub history: &'a [ItemIndex],
    /// What was done to each of them, as [`UserSequence::behaviours`].
    pub behaviours: &'a [u16],
    /// The item that came.
    pub target: ItemIndex,
    /// Items that cannot be drawn as competitors; the target may be among them.
    pub touched: &'a [ItemIndex],
}

impl Dataset {
    /// Reads a file or the one data file of a folder.
    ///
    /// # Errors
    /// A file that cannot be read; a form that is not recognised; a malformed line, by file and
    /// line number.
    pub fn read(path: &Path) -> Result<Self> {
        detect::read(path, false)
    }

    /// From now on the targets are what users did `behaviour` to: see [`SplitRule::LastOf`].
    ///
    /// # Errors
    /// A behaviour that the data does not have, naming those it has; data that somebody split.
    pub fn hold_out(&mut self, behaviour: &str) -> Result<()> {
        if self.split == SplitRule::Given {
            let expected = "interactions that are not split yet";
            return Err(Error::file(&self.name, "target behaviour", expected, "given cases"));
        }
        let place = self.behaviours.iter().position(|name| name == behaviour);
        let place = place.and_then(|place| u16::try_from(place).ok()).ok_or_else(|| {
            let known = match self.behaviours.as_slice() {
                [] => "data with behaviours; this has none".to_string(),
                known => format!("one of {}", known.join(", ")),
            };
            Error::file(&self.name, "target behaviour", known, behaviour)
        })?;
        self.split = SplitRule::LastOf(place);
        Ok(())
    }

    /// The behaviour of the targets, where the split is by one.
    pub fn target_behaviour(&self) -> Option<&str> {
        match self.split {
            SplitRule::LastOf(place) => self.behaviours.get(usize::from(place)).map(String::as_str),
            SplitRule::LeaveOneOut | SplitRule::Given => None,
        }
    }

    /// The targets of one part of the split.
    pub fn cases<'a>(&'a self, split: Split) -> Vec<Case<'a>> {
        let case = |(user, sequence): (usize, &'a UserSequence)| -> Option<Case<'a>> {
            let (place, target) = self.held_out(sequence, split)?;
            let touched = match self.split {
                SplitRule::LastOf(_) => sequence.items.as_slice(),
                SplitRule::LeaveOneOut | SplitRule::Given => &sequence.items[..place],
            };
            let behaviours = sequence.behaviours.get(..place).unwrap_or_default();
            Some(Case { user, history: &sequence.items[..place], behaviours, target, touched })
        };
        self.users.iter().enumerate().filter_map(case).collect()
    }

    /// Where the history of a user's target ends, at least 1, and the target.
    fn held_out(&self, sequence: &UserSequence, split: Split) -> Option<(usize, ItemIndex)> {
        let items = &sequence.items;
        let later = match split {
            Split::Test => 0,
            Split::Valid => 1,
        };
        let (place, target) = match self.split {
            SplitRule::Given => (items.len().checked_sub(1)?, *items.last()?),
            SplitRule::LeaveOneOut if items.len() < 3 => return None,
            SplitRule::LeaveOneOut => (items.len() - 1 - later, items[items.len() - 1 - later]),
            SplitRule::LastOf(asked) => {
                let pairs = items.iter().zip(&sequence.behaviours).rev();
                let asked = pairs.filter(|&(_, &behaviour)| behaviour == asked);
                let asked: Vec<_> = asked.map(|(&item, _)| item).collect();
                let target = *first_occurrences(&asked).get(later)?;
                (items.iter().position(|&item| item == target)?, target)
            }
        };
        (place > 0).then_some((place, target))
    }

    /// How many of a user's interactions, from the first on, may be trained on: those before
    /// whatever the split holds out.
    pub fn training_len(&self, sequence: &UserSequence) -> usize {
        let held_out = match self.split {
            SplitRule::Given => return sequence.items.len(),
            _ => [Split::Test, Split::Valid].map(|split| self.held_out(sequence, split)),
        };
        let places = held_out.into_iter().flatten().map(|(place, _)| place);
        places.min().unwrap_or(sequence.items.len())
    }

    /// What may be trained on, one sequence per user: see [`Dataset::training_len`].
    pub fn training(&self) -> Vec<&[ItemIndex]> {
        self.users.iter().map(|user| &user.items[..self.training_len(user)]).collect()
    }

    /// How often each item occurs in [`Dataset::training`], in catalogue order.
    pub fn popularity(&self) -> Vec<u64> {
        let mut counts = vec![0; self.catalogue.len()];
        for &item in self.training().into_iter().flatten() {
            counts[item as usize] += 1;
        }
        counts
    }

    /// What decides the result of training on it: a run is resumed on the same data only.
    pub fn digest(&self, hash: &mut sha2::Sha256) {
        use sha2::Digest;
        hash.update((self.catalogue.len() as u64).to_le_bytes());
        hash.update(self.behaviours.join(","));
        for user in &self.users {
            hash.update((user.items.len() as u64).to_le_bytes());
            user.items.iter().for_each(|item| hash.update(item.to_le_bytes()));
            user.behaviours.iter().for_each(|behaviour| hash.update(behaviour.to_le_bytes()));
        }
    }

    /// All interactions of all users.
    pub fn interactions(&self) -> usize {
        self.users.iter().map(|user| user.items.len()).sum()
    }

    /// The same data with each user's first interaction per item only: the task of the next *new*
    /// item, where view, cart and buy of one item are one step. Where the targets are of one
    /// behaviour ([`SplitRule::LastOf`]) nothing is dropped, since a first interaction rarely is of
    /// that behaviour: there models drop the repeats of a history themselves.
    #[must_use]
    pub fn without_repeats(&self) -> Self {
        let mut data = self.clone();
        if self.target_behaviour().is_some() {
            return data;
        }
        for user in &mut data.users {
            if first_occurrences(&user.items).len() == user.items.len() {
                continue;
            }
            let mut seen = HashSet::new();
            let keep: Vec<bool> = user.items.iter().map(|&item| seen.insert(item)).collect();
            retain(&mut user.items, &keep);
            retain(&mut user.behaviours, &keep);
            retain(&mut user.times, &keep);
        }
        data
    }
}

/// Keeps the elements whose flag is set; an empty list, for "not known", stays empty.
fn retain<T>(list: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    list.retain(|_| flags.next().copied().unwrap_or(false));
}

/// One interaction as a reader finds it.
struct Row<'a> {
    user: &'a str,
    item: &'a str,
    behaviour: Option<&'a str>,
    time: Option<f64>,
}

/// Collects rows into a [`Dataset`]; every reader ends here.
struct Builder {
    file: String,
    catalogue: Catalogue,
    behaviours: Vec<String>,
    users: Vec<UserSequence>,
    user_index: HashMap<String, usize>,
    split: SplitRule,
    /// Ratings stand for behaviours where a file has no behaviours.
    ratings: bool,
}

impl Builder {
    fn new(file: &str, catalogue: Catalogue) -> Self {
        Self {
            file: file.into(),
            catalogue,
            behaviours: Vec::new(),
            users: Vec::new(),
            user_index: HashMap::new(),
            split: SplitRule::LeaveOneOut,
            ratings: false,
        }
    }

    fn item(&mut self, id: &str) -> Result<ItemIndex> {
        let key = ItemId::from(id);
        if let Some(index) = self.catalogue.index_of(&key) {
            return Ok(index);
        }
        let index = self.catalogue.push(CatalogueItem::new(key))?;
        index.ok_or_else(|| Error::Internal(format!("item {id} is both known and unknown")))
    }

    fn user(&mut self, name: &str) -> usize {
        if let Some(&index) = self.user_index.get(name) {
            return index;
        }
        let index = self.users.len();
        self.user_index.insert(name.into(), index);
        self.users.push(UserSequence { user: name.into(), ..UserSequence::default() });
        index
    }

    /// Adds the row of this line. Either all rows of a file have a time, or none; so with
    /// behaviours.
    fn push(&mut self, line: u64, row: Row<'_>) -> Result<()> {
        for (name, value) in [("user", row.user), ("item", row.item)] {
            if value.is_empty() {
                return Err(self.error(line, format!("a value for the {name}"), "nothing"));
            }
        }
        let behaviour = row.behaviour.map(|name| self.behaviour(line, name)).transpose()?;
        let item = self.item(row.item)?;
        let user = self.user(row.user);
        let sequence = &mut self.users[user];
        sequence.items.push(item);
        sequence.behaviours.extend(behaviour);
        sequence.times.extend(row.time);
        let n = sequence.items.len();
        if [sequence.behaviours.len(), sequence.times.len()].iter().any(|&len| len != 0 && len != n)
        {
            let expected = "time and behaviour as in the user's other lines";
            return Err(self.error(line, expected, "one more or one less"));
        }
        Ok(())
    }

    fn behaviour(&mut self, line: u64, name: &str) -> Result<u16> {
        let index = self.behaviours.iter().position(|known| known == name).unwrap_or_else(|| {
            self.behaviours.push(name.into());
            self.behaviours.len() - 1
        });
        u16::try_from(index)
            .map_err(|_| self.error(line, "at most 65536 kinds of behaviour", "one more"))
    }

    fn error(&self, line: u64, expected: impl ToString, found: impl ToString) -> Error {
        Error::file(&self.file, format!("line {line}"), expected, found)
    }

    /// Orders each user's interactions by time; ties keep the file's order.
    fn finish(mut self) -> Result<Dataset> {
        if self.users.is_empty() {
            return Err(Error::file(&self.file, "lines", "at least one interaction", "none"));
        }
        for user in &mut self.users {
            if user.times.is_sorted() {
                continue;
            }
            let mut order: Vec<usize> = (0..user.times.len()).collect();
            order.sort_by(|&a, &b| user.times[a].total_cmp(&user.times[b]));
            user.reorder(&order);
        }
        Ok(Dataset {
            name: self.file,
            catalogue: self.catalogue,
            behaviours: self.behaviours,
            users: self.users,
            split: self.split,
        })
    }
}

/// A finite number of a text file.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}
