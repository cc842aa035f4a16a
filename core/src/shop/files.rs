//! The shop as files: RecBole atomic files, a catalogue and a data card.

use std::fmt::Write;

use super::{
    Behaviour, Knowledge, NUM_CANDIDATES, ShopUser, catalogue, oracle_hit_rate, popularity_hit_rate,
};
use crate::error::Result;
use crate::recommend::Catalogue;

/// One file of the shop's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShopFile {
    /// Base name.
    pub name: &'static str,
    /// What it holds.
    pub text: String,
}

/// `shop.inter`, `shop.item`, `catalogue.jsonl` and `README.md` for these users.
pub fn files(users: &[ShopUser], users_seed: u64) -> Result<Vec<ShopFile>> {
    let catalogue = catalogue();
    Ok(vec![
        ShopFile { name: "shop.inter", text: interactions(users, &catalogue) },
        ShopFile { name: "shop.item", text: items(&catalogue) },
        ShopFile { name: "catalogue.jsonl", text: catalogue.to_jsonl()? },
        ShopFile { name: "README.md", text: card(users, users_seed, catalogue.len()) },
    ])
}

fn interactions(users: &[ShopUser], catalogue: &Catalogue) -> String {
    let id = |item: u32| catalogue.items().get(item as usize).map_or("", |item| item.id.as_str());
    let mut text = "user_id:token\titem_id:token\tbehaviour:token\ttimestamp:float\n".to_string();
    for user in users {
        for event in &user.events {
            let (item, behaviour) = (id(event.item), event.behaviour.name());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\t{item}\t{behaviour}\t{}", user.id, event.time);
        }
    }
    text
}

fn items(catalogue: &Catalogue) -> String {
    let mut text = "item_id:token\ttitle:token_seq\tbrand:token\tcategory:token\tprice:float\t\
                    description:token_seq\timage:token\taudience:token\tcaption:token_seq\n"
        .to_string();
    for item in catalogue.items() {
        let attribute = |name: &str| item.attributes.get(name).map_or("", String::as_str);
        let text_of = |value: &'_ Option<String>| value.clone().unwrap_or_default();
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{:.2}\t{}\t{}\t{}\t{}",
            item.id,
            item.title,
            text_of(&item.brand),
            text_of(&item.category),
            item.price.unwrap_or_default(),
            text_of(&item.description),
            text_of(&item.image),
            attribute("audience"),
            attribute("caption"),
        );
    }
    text
}

fn card(users: &[ShopUser], users_seed: u64, items: usize) -> String {
    let count = |behaviour| {
        let events = users.iter().flat_map(|user| &user.events);
        events.filter(|event| event.behaviour == behaviour).count()
    };
    let [views, carts, buys] = Behaviour::ALL.map(count);
    let all = Knowledge::EVERYTHING;
    let mut bounds = String::new();
    for (who, rate) in [
        ("everything", oracle_hit_rate(users, all)),
        ("all but pictures", oracle_hit_rate(users, Knowledge { pictures: false, ..all })),
        ("all but text", oracle_hit_rate(users, Knowledge { text: false, ..all })),
        ("all but companions", oracle_hit_rate(users, Knowledge { companions: false, ..all })),
        ("popularity alone", popularity_hit_rate(users)),
    ] {
        let _ = writeln!(bounds, "| {who} | {rate:.4} |");
    }
    format!(
        "# A synthetic shop\n\n\
         {users} users of seed {users_seed}, {items} items, {views} views, {carts} carts, {buys} \
         buys. Made by `tributary prepare shop --users {users} --users-seed {users_seed}`; no real \
         person, brand or product is in it. Free for any use (CC0).\n\n\
         - `shop.inter`: RecBole atomic file, one event per line, by user and time (Unix seconds)\n\
         - `shop.item`: RecBole atomic file, one item per line\n\
         - `catalogue.jsonl`: the same items as JSON lines, the form recommenders read\n\
         - `images/`: one drawn picture per item, PNG, named in the item's `image`; all of them on \
         one sheet: `catalogue.png`\n\n\
         Titles and descriptions never name a colour or a pattern, and pictures never show a brand \
         or an audience. The attribute `caption` does describe the picture: it is there to train \
         and test picture encoders, and must not reach a recommender's text.\n\n\
         ## What can be known\n\n\
         hit_rate@1 on each user's last bought item among {NUM_CANDIDATES} candidates (the others \
         uniform among the items the user never touches; exact expectation), from what came before \
         the first event that touches it, by somebody who knows the rules, every user's taste, and:\
         \n\n| who knows | hit_rate@1 |\n|---|---|\n{bounds}\n\
         No model passes the first line, in the mean. What a modality shows can be had without it \
         only as far as many users' behaviour tells which items are alike.\n\n\
         ## The rules\n\n{RULES}",
        users = users.len(),
    )
}

/// The rules in words, which are the module's documentation too.
const RULES: &str = include_str!("rules.md");
