//! The shop's items. Nothing here depends on a seed.

use std::collections::BTreeMap;

use crate::recommend::{Catalogue, CatalogueItem};

pub(super) const WORLDS: usize = 3;
pub(super) const STAGES: usize = 4;
pub(super) const BRANDS: usize = 10;
const ITEMS_PER_BRAND: usize = 5;
const ITEMS_PER_CATEGORY: usize = BRANDS * ITEMS_PER_BRAND;

/// A category: its slug for ids, its name, the price of an ordinary item in cents, five series.
type Category = (&'static str, &'static str, u64, [&'static str; ITEMS_PER_BRAND]);

/// Each row is a world, its categories in the order of the chain.
const CATEGORIES: [[Category; STAGES]; WORLDS] = [
    [
        ("camera", "Camera", 45_000, ["Go", "Pocket", "Scout", "Vista", "Atelier"]),
        ("card", "Memory Card", 2_500, ["32 GB", "64 GB", "128 GB", "256 GB", "512 GB Pro"]),
        ("tripod", "Tripod", 8_000, ["Mini", "Flex", "Travel", "Studio", "Carbon"]),
        ("bag", "Camera Bag", 6_000, ["Pouch", "Sling", "Messenger", "Backpack", "Leather"]),
    ],
    [
        ("shoe", "Running Shoe", 9_000, ["Daily", "Tempo", "Road", "Trail", "Marathon"]),
        ("watch", "Sports Watch", 16_000, ["Start", "Pulse", "Pace", "Summit", "Titan"]),
        ("bottle", "Water Bottle", 1_800, ["500 ml", "750 ml", "Squeeze", "Insulated", "Steel"]),
        ("earphones", "Earphones", 7_000, ["Wire", "Clip", "Air", "Open", "Silence"]),
    ],
    [
        ("espresso", "Espresso Machine", 30_000, ["Uno", "Casa", "Duo", "Barista", "Maestro"]),
        ("grinder", "Coffee Grinder", 9_000, ["Hand", "Compact", "Burr", "Stepless", "Titanium"]),
        ("beans", "Coffee Beans", 1_600, ["House", "Mild", "Dark Roast", "Single Farm", "Reserve"]),
        ("cup", "Cup", 1_400, ["Enamel", "Glass", "Stoneware", "Porcelain", "Handmade"]),
    ],
];

const BRAND_NAMES: [&str; BRANDS] = [
    "Aurel", "Borealis", "Cascada", "Dunmore", "Elvika", "Fennec", "Grauwald", "Hinode", "Iskra",
    "Juniper",
];

/// Of a brand's five items in a category, by place.
const BANDS: [u8; ITEMS_PER_BRAND] = [0, 0, 1, 1, 2];
const BAND_NAMES: [&str; 3] = ["budget", "standard", "premium"];
/// Percent of a category's ordinary price.
const BAND_PRICE: [u64; 3] = [60, 100, 190];

/// What the rules need to know of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemTraits {
    pub(super) world: usize,
    pub(super) stage: usize,
    pub(super) brand: usize,
    /// 0 budget, 1 standard, 2 premium.
    pub(super) band: u8,
    /// 1 to 3.
    pub(super) popularity: u64,
}

/// All items in catalogue order: by world, category, brand, price band.
pub(super) fn items() -> Vec<ItemTraits> {
    let mut items = Vec::with_capacity(WORLDS * STAGES * ITEMS_PER_CATEGORY);
    for world in 0..WORLDS {
        for stage in 0..STAGES {
            for number in 0..ITEMS_PER_CATEGORY {
                let (brand, place) = (number / ITEMS_PER_BRAND, number % ITEMS_PER_BRAND);
                // A fixed scatter of 1, 2, 3 over the items.
                let popularity = 1 + ((number * 7 + stage * 5 + world * 11) % 6 / 2) as u64;
                items.push(ItemTraits { world, stage, brand, band: BANDS[place], popularity });
            }
        }
    }
    items
}

/// The shop's catalogue: 600 items in 12 categories, always the same.
pub fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (index, item) in items().iter().enumerate() {
        let number = index % ITEMS_PER_CATEGORY;
        let (slug, category, ordinary, series) = CATEGORIES[item.world][item.stage];
        let brand = BRAND_NAMES[item.brand];
        let band = usize::from(item.band);
        // Up to 12 % above the band's price, always ending in .90.
        let cents = ordinary * BAND_PRICE[band] / 100;
        let cents = (cents + cents * (number as u64 * 5 % 13) / 100) / 100 * 100 + 90;
        let attributes = BTreeMap::from([("price_band".into(), BAND_NAMES[band].into())]);
        let added = catalogue.push(CatalogueItem {
            title: format!("{brand} {} {category}", series[number % ITEMS_PER_BRAND]),
            brand: Some(brand.into()),
            category: Some(category.into()),
            price: Some(cents as f64 / 100.0),
            attributes,
            ..CatalogueItem::new(format!("{slug}-{:02}", number + 1))
        });
        debug_assert!(matches!(added, Ok(Some(_))), "600 distinct ids are within every limit");
    }
    catalogue
}
