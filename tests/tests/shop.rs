//! The synthetic shop: its rules hold, its users differ by seed only, and there is something to
//! learn.

use std::collections::{BTreeMap, HashSet};

use tributary::data::{Dataset, Split, prepare_shop};
use tributary::evaluate::{EvaluateOptions, Popularity, evaluate_baselines};
use tributary_core::models::sasrec::RepeatedItems;
use tributary_core::shop::{self, Behaviour, ShopUser};
use tributary_tests::folder::Folder;

#[test]
fn the_catalogue_is_always_the_same() {
    let catalogue = shop::catalogue();
    assert_eq!(catalogue.len(), 600);
    let categories: HashSet<_> = catalogue.items().iter().map(|item| &item.category).collect();
    assert_eq!(categories.len(), 12);
    let titles: HashSet<_> = catalogue.items().iter().map(|item| &item.title).collect();
    assert_eq!(titles.len(), 600, "titles tell items apart");
    let first = &catalogue.items()[0];
    assert_eq!((first.id.as_str(), first.title.as_str()), ("camera-01", "Aurel Go Camera"));
    assert_eq!((first.brand.as_deref(), first.price), (Some("Aurel"), Some(270.90)));
    for item in catalogue.items() {
        assert!(item.price.is_some_and(|price| (5.0..1000.0).contains(&price)), "{item:?}");
    }
}

#[test]
fn users_depend_on_the_seed_and_on_nothing_else() {
    let users = shop::users(50, 1);
    assert_eq!(users, shop::users(50, 1));
    assert_eq!(users[..10], shop::users(10, 1)[..], "user n is the same however many there are");
    let others = shop::users(50, 2);
    assert!(users.iter().zip(&others).all(|(a, b)| a.events != b.events));
    // One event of one user, so that a change of generator or rules cannot go unnoticed.
    let event = users[0].events[3];
    let id = shop::catalogue().items()[event.item as usize].id.to_string();
    assert_eq!(
        (id.as_str(), event.behaviour.name(), event.time),
        ("espresso-14", "view", 1_736_841_519)
    );
}

/// (brand, category) of each item the user bought or put into the cart.
fn names(user: &ShopUser, behaviour: Behaviour) -> Vec<(String, String)> {
    let catalogue = shop::catalogue();
    let events = user.events.iter().filter(|event| event.behaviour == behaviour);
    let item = |item: u32| catalogue.items()[item as usize].clone();
    events
        .map(|event| item(event.item))
        .map(|item| (item.brand.unwrap(), item.category.unwrap()))
        .collect()
}

#[test]
fn users_live_by_the_documented_rules() {
    let users = shop::users(500, 3);
    let mut favourites = 0;
    for user in &users {
        assert!(user.events.is_sorted_by_key(|event| event.time), "{}", user.id);
        let (mut viewed, mut carted) = (HashSet::new(), HashSet::new());
        for event in &user.events {
            match event.behaviour {
                Behaviour::View => drop(viewed.insert(event.item)),
                Behaviour::Cart => {
                    assert!(viewed.contains(&event.item), "{}: cart before view", user.id);
                    carted.insert(event.item);
                }
                Behaviour::Buy => {
                    assert!(carted.contains(&event.item), "{}: buy before cart", user.id)
                }
            }
        }
        let looks: HashSet<_> = user.looks.iter().map(|look| look.item).collect();
        assert_eq!((looks.len(), &looks), (user.looks.len(), &viewed), "looks are the new items");
        assert!((14..=36).contains(&looks.len()), "{}: {}", user.id, looks.len());

        let mut brands = BTreeMap::new();
        let carts = names(user, Behaviour::Cart);
        carts.iter().for_each(|(brand, _)| *brands.entry(brand).or_insert(0) += 1);
        let most = brands.values().max().copied().unwrap_or(0);
        favourites += usize::from(2 * most >= carts.len());
    }
    // Ten brands: without loyalty hardly anybody would have half of the cart from one of them.
    assert!(favourites > 350, "{favourites} of 500 have a favourite brand");
}

#[test]
fn what_is_bought_calls_for_its_complement() {
    let next = BTreeMap::from([("Camera", "Memory Card"), ("Memory Card", "Tripod")]);
    let catalogue = shop::catalogue();
    let category = |item: u32| catalogue.items()[item as usize].category.clone().unwrap();
    let (mut followed, mut bought) = (0, 0);
    for user in shop::users(500, 4) {
        for (place, event) in user.events.iter().enumerate() {
            let category_bought = category(event.item);
            let Some(complement) = next.get(category_bought.as_str()) else { continue };
            let later = &user.events[place + 1..];
            if event.behaviour == Behaviour::Buy && later.len() >= 12 {
                bought += 1;
                followed +=
                    usize::from(later[..12].iter().any(|e| category(e.item) == *complement));
            }
        }
    }
    assert!(bought > 200 && followed * 10 > bought * 8, "{followed} of {bought}");
}

#[test]
fn the_shop_is_written_and_read_back() {
    let folder = Folder::new("shop");
    let written = prepare_shop(folder.path(), 120, 9).unwrap();
    let data = Dataset::read(folder.path()).unwrap();
    let users = shop::users(120, 9);
    assert_eq!((written.users, written.items), (120, 600));
    assert_eq!(data.catalogue, shop::catalogue());
    assert_eq!(data.behaviours, ["view", "cart", "buy"]);
    assert_eq!(data.users.len(), 120);
    assert_eq!(data.interactions(), written.interactions);
    for (read, user) in data.users.iter().zip(&users) {
        assert_eq!(read.user, user.id);
        let items: Vec<_> = user.events.iter().map(|event| event.item).collect();
        assert_eq!(read.items, items, "{}", user.id);
        let times: Vec<_> = user.events.iter().map(|event| event.time as f64).collect();
        assert_eq!(read.times, times, "{}", user.id);
    }
    let first = data.without_repeats();
    for (read, user) in first.users.iter().zip(&users) {
        let looks: Vec<_> = user.looks.iter().map(|look| look.item).collect();
        assert_eq!(read.items, looks, "{}", user.id);
    }
    // The `.item` file says the same as the catalogue.
    std::fs::remove_file(folder.path().join("catalogue.jsonl")).unwrap();
    let atomic = Dataset::read(folder.path()).unwrap();
    assert_eq!(atomic.catalogue, shop::catalogue());

    let card = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
    assert!(card.contains("--users 120 --users-seed 9"), "{card}");
    for users in [0, shop::MAX_USERS + 1] {
        let error = prepare_shop(folder.path(), users, 1).unwrap_err().to_string();
        assert!(error.contains("`users`"), "{error}");
    }
}

#[test]
fn there_is_more_to_learn_than_the_last_item_tells() {
    let folder = Folder::new("shop_baselines");
    prepare_shop(folder.path(), shop::DEFAULT_USERS, shop::DEFAULT_USERS_SEED).unwrap();
    let data = Dataset::read(folder.path()).unwrap();
    let follow = Popularity::new(&[], data.catalogue.len(), RepeatedItems::First);
    let options = EvaluateOptions { split: Split::Test, ..EvaluateOptions::default() };
    let baselines = evaluate_baselines(&follow, &data.catalogue, &data, &options).unwrap();
    let rate = |at: usize| baselines[at].1.metrics["hit_rate@10"];
    let (popularity, markov) = (rate(0), rate(1));
    let users = shop::users(shop::DEFAULT_USERS, shop::DEFAULT_USERS_SEED);
    let oracle = shop::oracle_hit_rate(&users, 10);
    println!("hit_rate@10: popularity {popularity}, markov {markov}, oracle {oracle}");
    assert!(3.0 * popularity < markov, "{popularity} {markov}");
    assert!(1.5 * markov < oracle, "{markov} {oracle}");
}
