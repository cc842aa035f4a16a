//! `tributary prepare movielens` and `prepare recbole`: public data sets -> the project's form.
//!
//! What is written is what every reader here reads: `interactions.inter` with behaviours and times,
//! `catalogue.jsonl`, the pictures that are there in `images/`, and a data card.

use std::io::{BufWriter, Write};
use std::path::Path;

use tributary_core::recommend::{Catalogue, CatalogueItem, ItemId};
use tributary_core::{Error, Result};

use super::table::{self, Table};
use super::{Builder, CATALOGUE_FILE, Dataset, IMAGES_FOLDER, detect, read_bytes, utf8};
use crate::files::Folder;

/// The interactions of a prepared folder.
const INTERACTIONS_FILE: &str = "interactions.inter";
/// Its data card.
const CARD_FILE: &str = "README.md";
/// All that is written.
const FILES: [&str; 4] = [INTERACTIONS_FILE, CATALOGUE_FILE, IMAGES_FOLDER, CARD_FILE];
/// A user or item with fewer interactions is left out of MovieLens: its usual 5-core.
const MOVIELENS_CORE: usize = 5;
/// What a rating means where a file has ratings and no behaviours.
const RATINGS: &str = "Ratings are behaviours: up to 2.5 is `dislike`, from 4 on `like`, between \
                       them `neutral`. The target behaviour is `like`.";

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Users.
    pub users: usize,
    /// Items of the catalogue.
    pub items: usize,
    /// Interactions of all users.
    pub interactions: usize,
    /// Interactions that the source has and that were left out: of films without a title, of users
    /// and items with too few.
    pub left_out: usize,
    /// The kinds of interaction.
    pub behaviours: Vec<String>,
    /// Items with a picture.
    pub pictures: usize,
    /// Pictures that the source names and does not have; their items go without.
    pub missing_pictures: usize,
}

/// MovieLens as its site hands it out (`ratings.csv`, `movies.csv`), with posters where `source` has
/// them as `posters/<movieId>.jpg`. Films without a title are left out; then, again and again, users
/// and films with fewer than `core` interactions (5 where it is `None`). Interactions are ordered by
/// time, those of one moment by the film's id.
///
/// # Errors
/// A file that is missing or malformed, by name and line; nothing left to write.
pub fn prepare_movielens(source: &Path, out: &Path, core: Option<usize>) -> Result<Prepared> {
    check_out(out, &FILES)?;
    let mut catalogue = Catalogue::default();
    let posters = Folder::open(&source.join("posters")).ok();
    let file = "movies.csv";
    let bytes = read_bytes(&source.join(file))?;
    let mut movies = Table::new(file, utf8(file, &bytes)?, b',')?;
    let header = movies.header.clone();
    let column = |name: &str| {
        header.iter().position(|column| column.trim() == name).ok_or_else(|| {
            let found = header.iter().collect::<Vec<_>>().join(", ");
            Error::file(file, "line 1", format!("a column `{name}`"), found)
        })
    };
    let (id, title, genres) = (column("movieId")?, column("title")?, column("genres")?);
    while let Some((line, record)) = movies.next()? {
        let field = |column: usize| record.get(column).unwrap_or_default().trim();
        let mut item = film(field(id), field(title), field(genres));
        let at = format!("line {line}");
        if item.id.as_str().is_empty() {
            return Err(Error::file(file, at, "a value for `movieId`", "nothing"));
        }
        let poster = format!("{}.jpg", item.id);
        if let Some(posters) = &posters {
            item.image = posters.find(&poster)?.map(|_| poster);
        }
        item.check(file, &at)?;
        let id = item.id.clone();
        if catalogue.push(item)?.is_none() {
            return Err(Error::file(file, at, "an id not seen before", id));
        }
    }
    let file = "ratings.csv";
    let bytes = read_bytes(&source.join(file))?;
    let builder = Builder { ratings: true, ..Builder::new(file, catalogue) };
    let mut data = table::interactions(builder, utf8(file, &bytes)?, b',')?;
    if data.behaviours.is_empty() {
        return Err(Error::file(file, "line 1", "a column `rating`", "none"));
    }
    let number = |catalogue: &Catalogue, item: u32| catalogue.name(item).parse::<u64>().ok();
    for user in &mut data.users {
        let key =
            |place: &usize| (user.times.get(*place), number(&data.catalogue, user.items[*place]));
        let mut order: Vec<usize> = (0..user.items.len()).collect();
        order.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
        user.reorder(&order);
    }
    let source_interactions = data.interactions();
    let titled = |item: &CatalogueItem| !item.title.is_empty();
    let data = keep(data, core.unwrap_or(MOVIELENS_CORE), titled)?;
    let card = Card {
        name: "MovieLens",
        notes: "From the files that GroupLens hands out under terms of its own: for research, not \
                for sale, and not to be passed on under other terms. Posters belong to the studios.",
        core: core.unwrap_or(MOVIELENS_CORE),
        source_interactions,
    };
    write(&data, out, posters.as_ref(), &card)
}

/// A RecBole folder: a `.inter` file, and if it is there a `.item` file of the same stem, whose
/// `image` column names files in `images/`. A `rating` column stands for behaviours where no column
/// holds any. Users and items with fewer than `core` interactions are left out.
///
/// # Errors
/// A file that is missing or malformed, by name and line; nothing left to write.
pub fn prepare_recbole(source: &Path, out: &Path, core: Option<usize>) -> Result<Prepared> {
    let data = detect::read(source, true)?;
    let folder = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    let real = |path: &Path| path.canonicalize().ok();
    if real(out).is_some_and(|out| real(folder) == Some(out)) {
        let expected = "another folder than the source's";
        return Err(Error::argument("prepare", "out", expected, out.display()));
    }
    check_out(out, &FILES)?;
    let images = Folder::open(&folder.join(IMAGES_FOLDER)).ok();
    let core = core.unwrap_or(1);
    let source_interactions = data.interactions();
    let data = if core > 1 { keep(data, core, |_| true)? } else { data };
    let notes = "From RecBole atomic files; their own terms hold.";
    write(&data, out, images.as_ref(), &Card { name: "RecBole", notes, core, source_interactions })
}

/// The item of one film.
fn film(id: &str, title: &str, genres: &str) -> CatalogueItem {
    let (title, year) = clean_title(title);
    let genres = genres.split('|').filter(|genre| !genre.is_empty() && !genre.starts_with('('));
    let genres: Vec<&str> = genres.collect();
    let mut item = CatalogueItem { title, ..CatalogueItem::new(ItemId::from(id)) };
    if !genres.is_empty() {
        item.category = genres.first().map(|&genre| genre.into());
        item.description = Some(format!("Genres: {}.", genres.join(", ")));
        item.attributes.insert("genres".into(), genres.join("|"));
    }
    item.attributes.extend(year.map(|year| ("year".to_string(), year)));
    item
}

/// MovieLens's `Lost Children, The (Enfants perdus) (1995)` as `The Lost Children (1995)`, and the
/// year: text in round brackets goes, a trailing article comes to the front.
fn clean_title(title: &str) -> (String, Option<String>) {
    let title = title.trim();
    let year = title.strip_suffix(')').and_then(|title| title.rsplit_once('('));
    let year = year.filter(|(_, year)| year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()));
    let (rest, year) = year.map_or((title, None), |(rest, year)| (rest, Some(year.to_string())));
    let mut depth = 0;
    let mut plain = String::with_capacity(rest.len());
    for letter in rest.chars() {
        match letter {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    // `(Untitled)` is nothing but brackets.
    let plain = if plain.trim().is_empty() { rest } else { &plain };
    let mut plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    for article in ["The", "An", "A"] {
        if let Some(rest) = plain.strip_suffix(&format!(", {article}")) {
            plain = format!("{article} {rest}");
            break;
        }
    }
    match &year {
        Some(year) if !plain.is_empty() => (format!("{plain} ({year})"), Some(year.clone())),
        _ => (plain, year),
    }
}

/// The data without items that `wanted` refuses, and without users and items of fewer than `core`
/// interactions, again and again until nothing more goes.
fn keep(
    mut data: Dataset,
    core: usize,
    wanted: impl Fn(&CatalogueItem) -> bool,
) -> Result<Dataset> {
    let mut kept: Vec<bool> = data.catalogue.items().iter().map(wanted).collect();
    loop {
        let mut counts = vec![0; kept.len()];
        let before = data.interactions();
        for user in &mut data.users {
            let places: Vec<usize> =
                (0..user.items.len()).filter(|&place| kept[user.items[place] as usize]).collect();
            if places.len() < user.items.len() {
                user.reorder(&places);
            }
        }
        data.users.retain(|user| user.items.len() >= core.max(1));
        data.users.iter().flat_map(|user| &user.items).for_each(|&item| counts[item as usize] += 1);
        for (kept, &count) in kept.iter_mut().zip(&counts) {
            *kept = *kept && count >= core.max(1);
        }
        let rare = data.users.iter().flat_map(|user| &user.items).any(|&item| !kept[item as usize]);
        if !rare && data.interactions() == before {
            break;
        }
    }
    if data.users.is_empty() {
        let expected = format!("users and items with {core} interactions or more");
        return Err(Error::file(&data.name, "interactions", expected, "none"));
    }
    let mut index = vec![0; kept.len()];
    let mut catalogue = Catalogue::default();
    for (place, item) in data.catalogue.items().iter().enumerate().filter(|&(place, _)| kept[place])
    {
        index[place] = catalogue.push(item.clone())?.unwrap_or_default();
    }
    let items = data.users.iter_mut().flat_map(|user| &mut user.items);
    items.for_each(|item| *item = index[*item as usize]);
    data.catalogue = catalogue;
    Ok(data)
}

/// What the data card says beside the numbers.
struct Card {
    name: &'static str,
    notes: &'static str,
    core: usize,
    source_interactions: usize,
}

/// `Err` where `out` holds what is not this command's own: a source, notes, data of another kind, beside
/// which two files of interactions would lie.
pub(super) fn check_out(out: &Path, own: &[&str]) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(out) else { return Ok(()) };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    // A data card is written last; without a catalogue it is somebody's own notes.
    let prepared = names.iter().any(|name| name == CATALOGUE_FILE);
    let is_own = |name: &str| own.contains(&name) && (prepared || name != CARD_FILE);
    let other = names.iter().find(|name| !is_own(name));
    match other {
        None => Ok(()),
        Some(name) => {
            let expected = "an empty folder, or one that this command has written";
            let found = format!("{} with `{name}`", out.display());
            Err(Error::argument("prepare", "out", expected, found))
        }
    }
}

fn write(data: &Dataset, out: &Path, pictures: Option<&Folder>, card: &Card) -> Result<Prepared> {
    let io = |path: &Path, e| Error::io(path.display(), e);
    let users = data.users.iter().map(|user| user.user.as_str());
    let items = data.catalogue.items().iter().map(|item| item.id.as_str());
    if let Some(word) = users.chain(items).find(|word| word.contains(['\t', '\n', '\r'])) {
        let expected = "ids without tabs and line ends";
        return Err(Error::file(&data.name, "ids", expected, format!("{word:?}")));
    }
    let images = out.join(IMAGES_FOLDER);
    std::fs::create_dir_all(&images).map_err(|e| io(&images, e))?;
    let create = |name: &str| {
        let path = out.join(name);
        std::fs::File::create(&path).map(BufWriter::new).map_err(|e| io(&path, e))
    };

    let path = out.join(INTERACTIONS_FILE);
    let mut file = create(INTERACTIONS_FILE)?;
    let mut header = "user_id:token\titem_id:token".to_string();
    let timed = data.users.iter().all(|user| user.times.len() == user.items.len());
    header += if data.behaviours.is_empty() { "" } else { "\tbehaviour:token" };
    header += if timed { "\ttimestamp:float" } else { "" };
    writeln!(file, "{header}").map_err(|e| io(&path, e))?;
    for user in &data.users {
        for (place, &item) in user.items.iter().enumerate() {
            let id = data.catalogue.items()[item as usize].id.as_str();
            let mut line = format!("{}\t{id}", user.user);
            if let Some(&behaviour) = user.behaviours.get(place) {
                line += &format!("\t{}", data.behaviours[usize::from(behaviour)]);
            }
            if timed {
                line += &format!("\t{}", user.times[place]);
            }
            writeln!(file, "{line}").map_err(|e| io(&path, e))?;
        }
    }
    file.flush().map_err(|e| io(&path, e))?;

    let path = out.join(CATALOGUE_FILE);
    let mut file = create(CATALOGUE_FILE)?;
    let (mut found, mut missing) = (0, 0);
    for item in data.catalogue.items() {
        let mut item = item.clone();
        if let Some(name) = item.image.take() {
            match pictures.map(|folder| folder.find(&name)).transpose()?.flatten() {
                Some(from) => {
                    std::fs::copy(&from, images.join(&name)).map_err(|e| io(&from, e))?;
                    item.image = Some(name);
                    found += 1;
                }
                None => missing += 1,
            }
        }
        let line = serde_json::to_string(&item).map_err(|e| Error::Internal(e.to_string()))?;
        writeln!(file, "{line}").map_err(|e| io(&path, e))?;
    }
    file.flush().map_err(|e| io(&path, e))?;

    let prepared = Prepared {
        users: data.users.len(),
        items: data.catalogue.len(),
        interactions: data.interactions(),
        left_out: card.source_interactions - data.interactions(),
        behaviours: data.behaviours.clone(),
        pictures: found,
        missing_pictures: missing,
    };
    let path = out.join(CARD_FILE);
    std::fs::write(&path, card.text(&prepared)).map_err(|e| io(&path, e))?;
    Ok(prepared)
}

impl Card {
    fn text(&self, data: &Prepared) -> String {
        let ratings = data.behaviours.iter().any(|name| name == "like");
        format!(
            "# {}, prepared\n\n{} users, {} items, {} interactions; {} items have a picture ({} \
             are missing). Users and items have {} interactions or more; {} of the source were left \
             out. {}\n\n{}\n\n\
             - `{INTERACTIONS_FILE}`: RecBole atomic file, by user and time\n\
             - `{CATALOGUE_FILE}`: the items, one per line\n\
             - `{IMAGES_FOLDER}/`: the pictures that the catalogue names\n",
            self.name,
            data.users,
            data.items,
            data.interactions,
            data.pictures,
            data.missing_pictures,
            self.core,
            data.left_out,
            self.notes,
            if ratings { RATINGS } else { "Behaviours are the source's own." },
        )
    }
}
