//! `tributary prepare shop`: the synthetic shop as a folder.

use std::path::Path;

use tributary_core::recommend::Catalogue;
use tributary_core::shop::{self, Knowledge, Look, MAX_USERS};
use tributary_core::{Error, Result};

use super::prepare::check_out;
use super::{CATALOGUE_FILE, IMAGES_FOLDER};
use crate::shop_pictures::{contact_sheet, picture};

/// All pictures on one sheet.
const SHEET_FILE: &str = "catalogue.png";

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedShop {
    /// Users.
    pub users: usize,
    /// Items of the catalogue.
    pub items: usize,
    /// Views, carts and buys.
    pub interactions: usize,
    /// Base names of the files.
    pub files: Vec<&'static str>,
    /// Files in the folder of pictures.
    pub pictures: usize,
    /// hit_rate@1 of somebody who knows all there is to know, as the data card has it.
    pub oracle_hit_rate: f64,
}

/// Writes the shop's catalogue with its pictures and the users of one seed into `folder`, which is made if need be.
///
/// # Errors
/// No user or more than [`MAX_USERS`]; a file that cannot be written.
pub fn prepare_shop(folder: &Path, users: usize, users_seed: u64) -> Result<PreparedShop> {
    if !(1..=MAX_USERS).contains(&users) {
        return Err(Error::argument("prepare shop", "users", format!("1 to {MAX_USERS}"), users));
    }
    let users = shop::users(users, users_seed);
    let files = shop::files(&users, users_seed)?;
    let (catalogue, looks) = (shop::catalogue(), shop::looks());
    let names: Vec<&'static str> = files.iter().map(|file| file.name).chain([SHEET_FILE]).collect();
    check_out(folder, &[&names[..], &[IMAGES_FOLDER]].concat())?;
    write_pictures(folder, &catalogue, &looks)?;
    for file in &files {
        write(&folder.join(file.name), file.text.as_bytes())?;
    }
    write(&folder.join(SHEET_FILE), &contact_sheet(&looks)?)?;
    Ok(PreparedShop {
        users: users.len(),
        items: catalogue.len(),
        interactions: users.iter().map(|user| user.events.len()).sum(),
        files: names,
        pictures: looks.len(),
        oracle_hit_rate: shop::oracle_hit_rate(&users, Knowledge::EVERYTHING),
    })
}

/// Writes a catalogue of what the shop does not sell and its pictures into `folder`, which is made if need
/// be: one item for each look that nothing in the shop has. Returns their number.
///
/// # Errors
/// A file that cannot be written.
pub fn prepare_unsold(folder: &Path) -> Result<usize> {
    check_out(folder, &[CATALOGUE_FILE, IMAGES_FOLDER])?;
    let (catalogue, looks) = shop::unsold();
    write_pictures(folder, &catalogue, &looks)?;
    write(&folder.join(CATALOGUE_FILE), catalogue.to_jsonl()?.as_bytes())?;
    Ok(catalogue.len())
}

fn write_pictures(folder: &Path, catalogue: &Catalogue, looks: &[Look]) -> Result<()> {
    let images = folder.join(IMAGES_FOLDER);
    std::fs::create_dir_all(&images).map_err(|e| Error::io(images.display(), e))?;
    for (item, look) in catalogue.items().iter().zip(looks) {
        let Some(name) = &item.image else { continue };
        write(&images.join(name), &picture(look)?)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| Error::io(path.display(), e))
}
