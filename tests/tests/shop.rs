//! The synthetic shop: its rules hold, its users differ by seed only, each modality is worth what
//! the data card says, and pictures show what they should.

use std::collections::{BTreeMap, HashMap, HashSet};

use tributary::data::{Dataset, prepare_shop, prepare_unsold};
use tributary::shop_pictures::{PICTURE_SIZE, picture};
use tributary_core::recommend::CatalogueItem;
use tributary_core::shop::{self, Behaviour, FAMILIES, Knowledge, PALETTES, Pattern, Shape};
use tributary_tests::folder::Folder;

#[test]
fn the_catalogue_is_always_the_same() {
    let catalogue = shop::catalogue();
    assert_eq!(catalogue.len(), 600);
    let distinct = |of: &dyn Fn(&CatalogueItem) -> String| {
        catalogue.items().iter().map(of).collect::<HashSet<_>>().len()
    };
    assert_eq!(distinct(&|item| item.category.clone().unwrap()), 12);
    assert_eq!(distinct(&|item| item.brand.clone().unwrap()), 8);
    assert_eq!(distinct(&|item| item.attributes["audience"].clone()), 4);
    assert_eq!(distinct(&|item| item.title.clone()), 600, "titles tell items apart");
    let first = &catalogue.items()[0];
    assert_eq!((first.id.as_str(), first.title.as_str()), FIRST);
    assert_eq!(first.image.as_deref(), Some("t-shirt-01.png"));
    for item in catalogue.items() {
        item.check("catalogue", item.id.as_str()).unwrap();
        assert!(item.price.is_some_and(|price| (5.0..120.0).contains(&price)), "{item:?}");
    }
}

const FIRST: (&str, &str) = ("t-shirt-01", "Borealis Senior T-Shirt Lumo, size M");

#[test]
fn text_names_brand_and_audience_and_never_a_colour_or_a_pattern() {
    let mut forbidden: Vec<&str> = FAMILIES.to_vec();
    forbidden.extend(PALETTES.iter().flatten().map(|palette| palette.name));
    forbidden.extend(Pattern::ALL.map(Pattern::name));
    forbidden.extend(["stripe", "dots", "check", "wave", "white", "black", "brown", "colour"]);
    for (item, look) in shop::catalogue().items().iter().zip(shop::looks()) {
        let description = item.description.clone().unwrap();
        let text = format!("{} {description}", item.title).to_lowercase();
        let words: HashSet<_> = text.split(|c: char| !c.is_alphabetic()).collect();
        for word in &forbidden {
            assert!(!words.contains(word), "{}: {text} names {word}", item.id);
        }
        let (brand, audience) = (item.brand.as_deref().unwrap(), &item.attributes["audience"]);
        assert!(item.title.contains(brand) && item.title.contains(audience.as_str()), "{text}");
        assert!(description.contains(brand), "{description}");
        let caption = &item.attributes["caption"];
        assert_eq!(*caption, look.caption());
        for word in [look.pattern.name(), look.palette.name, look.palette.family] {
            assert!(caption.split(' ').any(|found| found == word), "{caption}");
        }
    }
}

#[test]
fn looks_are_dealt_without_regard_to_brand_and_audience() {
    let (catalogue, looks) = (shop::catalogue(), shop::looks());
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (item, look) in catalogue.items().iter().zip(&looks) {
        let (brand, audience) = (item.brand.clone().unwrap(), &item.attributes["audience"]);
        let (family, pattern) = (look.palette.family, look.pattern.name());
        for pair in [
            format!("{brand} {family}"),
            format!("{brand} {pattern}"),
            format!("{audience} {family}"),
            format!("{audience} {pattern}"),
        ] {
            *seen.entry(pair).or_insert(0) += 1;
        }
    }
    // 9.4, 12.5, 18.75 and 25 on average: no pair is missing, none is common.
    assert_eq!(seen.len(), 8 * 8 + 8 * 6 + 4 * 8 + 4 * 6);
    for (pair, count) in seen {
        assert!((2..=38).contains(&count), "{pair}: {count}");
    }
    let shapes: HashSet<Shape> = looks.iter().map(|look| look.shape).collect();
    assert_eq!(shapes.len(), Shape::ALL.len());
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
    assert_eq!((id.as_str(), event.behaviour.name(), event.time), FOURTH_EVENT);
}

const FOURTH_EVENT: (&str, &str, u64) = ("sneaker-20", "view", 1_737_065_895);

#[test]
fn users_live_by_the_documented_rules() {
    let users = shop::users(500, 3);
    let mut bought_twice = 0;
    for user in &users {
        assert!(user.events.is_sorted_by_key(|event| event.time), "{}", user.id);
        assert!((20..43).contains(&user.events.len()), "{}: {}", user.id, user.events.len());
        let mut touched = HashSet::new();
        for episode in user.events.chunk_by(|a, b| a.item == b.item) {
            assert!(touched.insert(episode[0].item), "{}: an item comes back", user.id);
            let behaviours: Vec<_> = episode.iter().map(|event| event.behaviour).collect();
            assert_eq!(behaviours, Behaviour::ALL[..behaviours.len()], "{}", user.id);
        }
        let buys = user.events.iter().filter(|event| event.behaviour == Behaviour::Buy).count();
        bought_twice += usize::from(buys >= 2);
    }
    assert!(bought_twice > 480, "{bought_twice} of 500 buy at least twice");
}

/// Pairs of items that two users or more buy one after the other.
#[test]
fn companions_are_bought_together_and_nothing_shows_it() {
    let mut pairs: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for user in shop::users(2000, 4) {
        let buys = user.events.iter().filter(|event| event.behaviour == Behaviour::Buy);
        let buys: Vec<u32> = buys.map(|event| event.item).collect();
        for pair in buys.windows(2) {
            *pairs.entry((pair[0].min(pair[1]), pair[0].max(pair[1]))).or_insert(0) += 1;
        }
    }
    let common: Vec<(u32, u32)> =
        pairs.iter().filter(|&(_, &count)| count >= 4).map(|(&pair, _)| pair).collect();
    let partners: HashSet<u32> = common.iter().flat_map(|&(a, b)| [a, b]).collect();
    assert!(common.len() > 200, "{} pairs", common.len());
    assert!(partners.len() * 10 > common.len() * 19, "nearly every item has one partner");
    let (catalogue, looks) = (shop::catalogue(), shop::looks());
    let same = |holds: &dyn Fn(usize, usize) -> bool| {
        common.iter().filter(|&&(a, b)| holds(a as usize, b as usize)).count()
    };
    let items = catalogue.items();
    // By chance an eighth of the pairs agree, a twelfth of the categories.
    for agreeing in [
        same(&|a, b| items[a].brand == items[b].brand),
        same(&|a, b| items[a].category == items[b].category),
        same(&|a, b| looks[a].palette.family == looks[b].palette.family),
    ] {
        assert!(agreeing * 4 < common.len(), "{agreeing} of {}", common.len());
    }
}

#[test]
fn every_modality_is_needed() {
    for seed in [shop::DEFAULT_USERS_SEED, 2] {
        let users = shop::users(shop::DEFAULT_USERS, seed);
        let all = Knowledge::EVERYTHING;
        let whole = shop::oracle_hit_rate(&users, all);
        assert!((0.75..0.90).contains(&whole), "{whole}");
        for (what, less) in [
            ("pictures", Knowledge { pictures: false, ..all }),
            ("text", Knowledge { text: false, ..all }),
            ("companions", Knowledge { companions: false, ..all }),
        ] {
            let less = shop::oracle_hit_rate(&users, less);
            println!("seed {seed}: {whole:.4}, without {what} {less:.4}");
            assert!(less < whole - 0.08, "seed {seed}: {whole}, without {what} {less}");
        }
        let popularity = shop::popularity_hit_rate(&users);
        assert!((0.09..0.2).contains(&popularity), "{popularity}");
    }
}

#[test]
fn pictures_show_shape_colour_and_pattern() {
    let decode = |png: &[u8]| image::load_from_memory(png).unwrap().to_rgb8();
    let (mut bytes, mut seen) = (0, HashSet::new());
    let looks = shop::looks();
    for look in looks.iter().step_by(7) {
        let png = picture(look).unwrap();
        assert_eq!(png, picture(look).unwrap(), "the same look is the same picture");
        let pixels = decode(&png);
        assert_eq!(pixels.dimensions(), (PICTURE_SIZE, PICTURE_SIZE));
        assert!(pixels.get_pixel(0, 0).0.iter().all(|&value| value > 220), "a pale backdrop");
        bytes += png.len();
        assert!(seen.insert(png) || looks.iter().filter(|other| *other == look).count() > 1);
    }
    let pictures = looks.len().div_ceil(7);
    assert!(bytes < 6144 * pictures, "{} bytes a picture", bytes / pictures);
    // A plain umbrella has its palette's main colour, a little shaded.
    let plain =
        shop::Look { shape: Shape::Umbrella, palette: PALETTES[4][2], pattern: Pattern::Plain };
    let [red, green, blue] = decode(&picture(&plain).unwrap()).get_pixel(56, 40).0;
    let [_, r, g, b] = plain.palette.main.to_be_bytes();
    for (found, expected) in [(red, r), (green, g), (blue, b)] {
        assert!(found.abs_diff(expected) < 40, "{found} {expected}");
    }
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
    for item in data.catalogue.items() {
        let path = folder.path().join("images").join(item.image.as_ref().unwrap());
        assert!(path.is_file(), "{}", path.display());
    }
    assert!(folder.path().join("catalogue.png").is_file());
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
fn what_the_shop_does_not_sell_is_every_other_look() {
    let (catalogue, looks) = shop::unsold();
    let sold: HashSet<_> = shop::looks().iter().map(shop::Look::caption).collect();
    let unsold: HashSet<_> = looks.iter().map(shop::Look::caption).collect();
    assert_eq!(unsold.len(), catalogue.len(), "each look once");
    assert_eq!(unsold.intersection(&sold).count(), 0);
    let all = Shape::ALL.len() * FAMILIES.len() * PALETTES[0].len() * Pattern::ALL.len();
    assert_eq!(unsold.len() + sold.len(), all);
    let brands: HashSet<_> = catalogue.items().iter().map(|item| item.brand.clone()).collect();
    assert_eq!(brands.len(), 8);

    let folder = Folder::new("unsold");
    assert_eq!(prepare_unsold(folder.path()).unwrap(), catalogue.len());
    let lines = std::fs::read_to_string(folder.path().join("catalogue.jsonl")).unwrap();
    assert_eq!(lines, catalogue.to_jsonl().unwrap());
    let item = &catalogue.items()[1000];
    assert_eq!(item.attributes["caption"], looks[1000].caption());
    let path = folder.path().join("images").join(item.image.as_ref().unwrap());
    let drawn = std::fs::read(path).unwrap();
    assert_eq!(drawn, picture(&looks[1000]).unwrap());
}
