//! The shop as files: RecBole atomic files, a catalogue and a data card.

use std::fmt::Write;

use super::{Behaviour, ShopUser, catalogue};
use crate::error::Result;

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
    let id = |item: u32| catalogue.items().get(item as usize).map_or("", |item| item.id.as_str());

    let mut inter = "user_id:token\titem_id:token\tbehaviour:token\ttimestamp:float\n".to_string();
    for user in users {
        for event in &user.events {
            let (item, behaviour) = (id(event.item), event.behaviour.name());
            // Writing to a string cannot fail.
            let _ = writeln!(inter, "{}\t{item}\t{behaviour}\t{}", user.id, event.time);
        }
    }

    let mut item = "item_id:token\ttitle:token_seq\tbrand:token\tcategory:token\tprice:float\t\
                    price_band:token\n"
        .to_string();
    for entry in catalogue.items() {
        let (brand, category) = (text(&entry.brand), text(&entry.category));
        let band = entry.attributes.get("price_band").map_or("", String::as_str);
        let price = entry.price.unwrap_or_default();
        let _ = writeln!(
            item,
            "{}\t{}\t{brand}\t{category}\t{price:.2}\t{band}",
            entry.id, entry.title
        );
    }

    Ok(vec![
        ShopFile { name: "shop.inter", text: inter },
        ShopFile { name: "shop.item", text: item },
        ShopFile { name: "catalogue.jsonl", text: catalogue.to_jsonl()? },
        ShopFile { name: "README.md", text: card(users, users_seed, catalogue.len()) },
    ])
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// How often the best possible guess has a user's last new item among its first `k`: what no model
/// can pass, in the mean over many users.
pub fn oracle_hit_rate(users: &[ShopUser], k: u32) -> f64 {
    let last = users.iter().filter_map(|user| user.looks.last());
    let hits = last.filter(|look| look.oracle_rank < k).count();
    hits as f64 / users.len().max(1) as f64
}

fn card(users: &[ShopUser], users_seed: u64, items: usize) -> String {
    let count = |behaviour| {
        let events = users.iter().flat_map(|user| &user.events);
        events.filter(|event| event.behaviour == behaviour).count()
    };
    let (views, carts, buys) =
        (count(Behaviour::View), count(Behaviour::Cart), count(Behaviour::Buy));
    let oracle: Vec<_> =
        [1, 5, 10, 20].map(|k| format!("@{k} {:.4}", oracle_hit_rate(users, k))).into();
    let rules = RULES.trim();
    format!(
        "# A synthetic shop\n\n\
         {users} users of seed {users_seed}, {items} items, {views} views, {carts} carts, {buys} \
         buys. Made by `tributary prepare shop --users {users} --users-seed {users_seed}`; no real \
         person, brand or product is in it. Free for any use (CC0).\n\n\
         - `shop.inter`: RecBole atomic file, one event per line, by user and time (Unix seconds)\n\
         - `shop.item`: RecBole atomic file, one item per line\n\
         - `catalogue.jsonl`: the same items as JSON lines, the form recommenders read\n\n\
         Hit rate of the oracle, who knows every user's taste, on each user's last new item: \
         {oracle}. No model can do better than that, in the mean.\n\n\
         ## The rules\n\n{rules}\n",
        users = users.len(),
        oracle = oracle.join(", "),
    )
}

/// The rules in words, as in the documentation of the module.
const RULES: &str = "
The catalogue has three worlds (photography, running, coffee) of four categories each. A world's
categories form a chain: whoever is done with cameras needs memory cards, then a tripod, then a bag.
Ten brands sell five items in every category: two budget, two standard, one premium.

A user has a favourite brand, a second brand and a price band, and follows two worlds at once. Each
new item is drawn from a distribution that is explicit and exact:

1. 92 % from the two categories the user is at (65 % the one looked at last, 35 % the other: the
   last item alone does not tell what comes next), 8 % wandering anywhere by popularity;
2. within a category by brand (favourite 16, second 5, others 1), times price band (own 9,
   neighbouring 2, far 0), times the item's popularity (1 to 3);
3. never an item seen before.

After 2 or 3 items of a category the user decides: the best liked one is viewed again, in 80 % of
cases put into the cart, and of these bought in 75 %; then the chain goes on to its next category.
At a chain's end another world begins. Tastes drift: once, between the 10th and 20th item, 30 % of
the users make the second brand their favourite.
";
