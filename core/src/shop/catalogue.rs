//! The shop's items. Nothing here depends on the users' seed.

use std::collections::{BTreeMap, HashSet};

use super::look::{FAMILIES, Look, PALETTES, Pattern, Shape};
use super::words::{AUDIENCES, BRANDS, MODELS, PRODUCTS, SIZES};
use crate::metrics::sample;
use crate::random::Random;
use crate::recommend::{Catalogue, CatalogueItem};

const CATEGORIES: usize = 12;
const ITEMS_PER_CATEGORY: usize = MODELS.len();
const ITEMS: usize = CATEGORIES * ITEMS_PER_CATEGORY;
/// The seed of everything that is dealt to the items.
const SEED: u64 = 2;

/// What the rules need to know of an item; numbers are places in the lists of words and looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemTraits {
    /// Its place in `PRODUCTS`.
    product: usize,
    pub(super) family: usize,
    shade: usize,
    pub(super) pattern: usize,
    pub(super) brand: usize,
    pub(super) audience: usize,
    size: usize,
    material: usize,
    usage: usize,
    /// 1 to 3.
    pub(super) popularity: u64,
    /// Percent of the product's ordinary price.
    price: u64,
    /// The item that belongs to it, for no reason that anything shows.
    pub(super) companion: usize,
}

impl ItemTraits {
    fn look(&self) -> Look {
        let shape = PRODUCTS[self.product].shape;
        let palette = PALETTES[self.family][self.shade];
        Look { shape, palette, pattern: Pattern::ALL[self.pattern] }
    }
}

/// The numbers below `n`, each equally often over `count` items, in an order that depends on `name`
/// alone: no trait tells anything of another.
fn deal(name: &str, n: usize, count: usize) -> Vec<usize> {
    let deck: Vec<u32> = (0..count as u32).map(|number| number % n as u32).collect();
    let dealt = sample(&mut Random::named(SEED, name), &deck, count);
    dealt.into_iter().map(|number| number as usize).collect()
}

/// All items in catalogue order: by category and shape.
pub(super) fn items() -> Vec<ItemTraits> {
    let families = deal("family", FAMILIES.len(), ITEMS);
    let shades = deal("shade", PALETTES[0].len(), ITEMS);
    let patterns = deal("pattern", Pattern::ALL.len(), ITEMS);
    let seen = products().zip(families).zip(shades).zip(patterns);
    let mut items = with_words(
        seen.map(|(((product, family), shade), pattern)| (product, family, shade, pattern)),
    );
    // Neighbours in a shuffled list are companions.
    let order = deal("companion", ITEMS, ITEMS);
    for pair in order.chunks_exact(2) {
        (items[pair[0]].companion, items[pair[1]].companion) = (pair[1], pair[0]);
    }
    items
}

/// The items whose product, family of colours, shade and pattern are given, all else dealt.
fn with_words(seen: impl Iterator<Item = (usize, usize, usize, usize)>) -> Vec<ItemTraits> {
    let seen: Vec<_> = seen.collect();
    let deal = |name, n| deal(name, n, seen.len());
    let brands = deal("brand", BRANDS.len());
    let audiences = deal("audience", AUDIENCES.len());
    let sizes = deal("size", SIZES.len());
    let materials = deal("material", 3);
    let uses = deal("use", 3);
    let popularity = deal("popularity", 3);
    let prices = deal("price", 50);
    let item = |(index, &(product, family, shade, pattern)): (usize, &_)| ItemTraits {
        product,
        family,
        shade,
        pattern,
        brand: brands[index],
        audience: audiences[index],
        size: sizes[index],
        material: materials[index],
        usage: uses[index],
        popularity: 1 + popularity[index] as u64,
        price: 80 + prices[index] as u64,
        companion: index,
    };
    seen.iter().enumerate().map(item).collect()
}

/// One item for each look that no item of the shop has.
fn unsold_items() -> Vec<ItemTraits> {
    let sold: HashSet<_> =
        items().iter().map(|item| (item.product, item.family, item.shade, item.pattern)).collect();
    let shades = PALETTES[0].len();
    let looks = PRODUCTS.len() * FAMILIES.len() * shades * Pattern::ALL.len();
    let all = (0..looks).map(|number| {
        let (number, pattern) = (number / Pattern::ALL.len(), number % Pattern::ALL.len());
        let (number, shade) = (number / shades, number % shades);
        (number / FAMILIES.len(), number % FAMILIES.len(), shade, pattern)
    });
    with_words(all.filter(|look| !sold.contains(look)))
}

/// The product of each item: a category's items are shared equally by its shapes.
fn products() -> impl Iterator<Item = usize> {
    let of_category = |category: &str| PRODUCTS.iter().filter(|p| p.category == category).count();
    let share = move |product: usize| ITEMS_PER_CATEGORY / of_category(PRODUCTS[product].category);
    (0..PRODUCTS.len()).flat_map(move |product| std::iter::repeat_n(product, share(product)))
}

/// How each item looks, in catalogue order: what its picture shows.
pub fn looks() -> Vec<Look> {
    items().iter().map(ItemTraits::look).collect()
}

/// The shop's catalogue: 600 items in 12 categories, always the same.
pub fn catalogue() -> Catalogue {
    in_words(&items())
}

/// What the shop does not sell: a catalogue of one item for each look that none of its own items has,
/// and these looks. An encoder that learned from it has not seen the shop.
pub fn unsold() -> (Catalogue, Vec<Look>) {
    let items = unsold_items();
    (in_words(&items), items.iter().map(ItemTraits::look).collect())
}

fn in_words(items: &[ItemTraits]) -> Catalogue {
    let mut catalogue = Catalogue::default();
    let mut numbers = [0; Shape::ALL.len()];
    // In each category the model words are dealt anew, by a stride that is coprime to their number.
    let model = |index: usize| MODELS[(index * 7 + index / ITEMS_PER_CATEGORY * 11) % MODELS.len()];
    for (index, item) in items.iter().enumerate() {
        let product = &PRODUCTS[item.product];
        numbers[item.product] += 1;
        let name = product.shape.name();
        let slug = name.to_lowercase().replace(' ', "-");
        let id = format!("{slug}-{:02}", numbers[item.product]);
        let ((brand, about), (audience, people)) = (BRANDS[item.brand], AUDIENCES[item.audience]);
        let size = SIZES[item.size];
        let (material, usage) = (product.materials[item.material], product.uses[item.usage]);
        let lower = name.to_lowercase();
        let article = if lower.starts_with(['a', 'e', 'i', 'o', 'u']) { "An" } else { "A" };
        // Whole units, ending in .90.
        let cents = product.cents * item.price / 100 / 100 * 100 + 90;
        let added = catalogue.push(CatalogueItem {
            title: format!("{brand} {audience} {name} {}, size {size}", model(index)),
            brand: Some(brand.into()),
            category: Some(product.category.into()),
            price: Some(cents as f64 / 100.0),
            description: Some(format!(
                "{article} {lower} of {material}, good for {usage}. Made for {people}, in size \
                 {size}. {brand} is {about}."
            )),
            image: Some(format!("{id}.png")),
            attributes: BTreeMap::from([
                ("audience".into(), audience.into()),
                ("caption".into(), item.look().caption()),
            ]),
            ..CatalogueItem::new(id)
        });
        debug_assert!(matches!(added, Ok(Some(_))), "distinct ids are within every limit");
    }
    catalogue
}
