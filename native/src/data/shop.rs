//! `tributary prepare shop`: the synthetic shop as a folder.

use std::path::Path;

use tributary_core::shop::{self, MAX_USERS};
use tributary_core::{Error, Result};

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
    /// Hit rate at 10 of somebody who knows every user's taste, on each user's last new item.
    pub oracle_hit_rate_10: f64,
}

/// Writes the shop's catalogue and the users of one seed into `folder`, which is made if need be.
///
/// # Errors
/// No user or more than [`MAX_USERS`]; a file that cannot be written.
pub fn prepare_shop(folder: &Path, users: usize, users_seed: u64) -> Result<PreparedShop> {
    if !(1..=MAX_USERS).contains(&users) {
        return Err(Error::argument("prepare shop", "users", format!("1 to {MAX_USERS}"), users));
    }
    let users = shop::users(users, users_seed);
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder.display(), e))?;
    let files = shop::files(&users, users_seed)?;
    for file in &files {
        let path = folder.join(file.name);
        std::fs::write(&path, &file.text).map_err(|e| Error::io(path.display(), e))?;
    }
    Ok(PreparedShop {
        users: users.len(),
        items: shop::catalogue().len(),
        interactions: users.iter().map(|user| user.events.len()).sum(),
        files: files.iter().map(|file| file.name).collect(),
        oracle_hit_rate_10: shop::oracle_hit_rate(&users, 10),
    })
}
