//! RecBole's atomic files: tab-separated tables whose header says `name:type`.

use tributary_core::recommend::{Catalogue, CatalogueItem, ItemId};
use tributary_core::{Error, Result};

use super::table::{self, Table};
use super::{Builder, Dataset, number};

const TYPES: [&str; 4] = ["token", "token_seq", "float", "float_seq"];

/// True when every column of this line is `name:type`.
pub(super) fn is_header(line: &str) -> bool {
    !line.is_empty() && line.trim_end().split('\t').all(|column| name(column).is_some())
}

fn name(column: &str) -> Option<&str> {
    column.rsplit_once(':').filter(|(_, kind)| TYPES.contains(kind)).map(|(name, _)| name)
}

/// A `.inter` file.
pub(super) fn interactions(builder: Builder, text: &str) -> Result<Dataset> {
    table::rows(builder, text, b'\t', |header| {
        header.iter().map(|column| name(column).unwrap_or(column)).collect()
    })
}

/// A `.item` file: id, title, brand, category, price, description and image where there are columns
/// for them, all else as attributes.
pub(super) fn items(file: &str, text: &str) -> Result<Catalogue> {
    let mut table = Table::new(file, text, b'\t')?;
    let header = table.header.clone();
    let names: Vec<&str> = header.iter().map(|column| name(column).unwrap_or(column)).collect();
    if !names.contains(&"item_id") {
        let expected = "a column `item_id:token`";
        return Err(Error::file(file, "line 1", expected, names.join(", ")));
    }
    let mut catalogue = Catalogue::default();
    while let Some((line, record)) = table.next()? {
        let field = || format!("line {line}");
        let mut item = CatalogueItem::new("");
        for (&name, value) in names.iter().zip(record).filter(|(_, value)| !value.is_empty()) {
            match name {
                "item_id" => item.id = ItemId::from(value),
                "title" | "name" | "movie_title" => item.title = value.into(),
                "brand" => item.brand = Some(value.into()),
                "description" => item.description = Some(value.into()),
                "image" => item.image = Some(value.into()),
                "category" | "categories" => item.category = Some(value.into()),
                "price" => {
                    let price = number(value);
                    item.price =
                        Some(price.ok_or_else(|| {
                            Error::file(file, field(), "a price as a number", value)
                        })?);
                }
                _ => {
                    item.attributes.insert(name.into(), value.into());
                }
            }
        }
        item.check(file, &field())?;
        let id = item.id.clone();
        if id.as_str().is_empty() {
            return Err(Error::file(file, field(), "a value for `item_id`", "nothing"));
        }
        if catalogue.push(item)?.is_none() {
            return Err(Error::file(file, field(), "an id not seen before", id));
        }
    }
    Ok(catalogue)
}
