//! The words of titles and descriptions. None of them names a colour or a pattern.

use super::look::Shape;

/// A shape's category, the price of an ordinary one in cents, and what its descriptions say.
pub(super) struct Product {
    pub(super) shape: Shape,
    pub(super) category: &'static str,
    pub(super) cents: u64,
    pub(super) materials: [&'static str; 3],
    pub(super) uses: [&'static str; 3],
}

const fn product(
    shape: Shape,
    category: &'static str,
    cents: u64,
    materials: [&'static str; 3],
    uses: [&'static str; 3],
) -> Product {
    Product { shape, category, cents, materials, uses }
}

/// In catalogue order; the shapes of one category stand together.
pub(super) const PRODUCTS: [Product; Shape::ALL.len()] = [
    product(
        Shape::TShirt,
        "Tops",
        1_900,
        ["organic cotton", "light jersey", "a hemp and cotton blend"],
        ["warm days", "the gym and the sofa", "wearing under everything"],
    ),
    product(
        Shape::Sweater,
        "Tops",
        5_400,
        ["merino wool", "recycled fleece", "thick cotton"],
        ["cold offices", "evenings by the fire", "autumn walks"],
    ),
    product(
        Shape::Beanie,
        "Hats",
        1_700,
        ["soft lambswool", "alpaca yarn", "a warm acrylic knit"],
        ["frosty mornings", "winter runs", "windy harbours"],
    ),
    product(
        Shape::Cap,
        "Hats",
        2_100,
        ["washed canvas", "quick-drying nylon", "brushed cotton twill"],
        ["long days in the sun", "the running track", "hiding bad hair"],
    ),
    product(
        Shape::Backpack,
        "Bags",
        6_900,
        ["waxed canvas", "recycled nylon", "tough polyester"],
        ["school and travel", "a laptop and lunch", "weekends in the hills"],
    ),
    product(
        Shape::ToteBag,
        "Bags",
        2_600,
        ["heavy cotton", "linen", "recycled sailcloth"],
        ["the farmers' market", "books and groceries", "the beach"],
    ),
    product(
        Shape::Sneaker,
        "Shoes",
        7_900,
        ["breathable mesh", "soft canvas", "vegan leather"],
        ["city walks", "the playground", "all-day standing"],
    ),
    product(
        Shape::RainBoot,
        "Shoes",
        4_500,
        ["natural rubber", "recycled rubber", "a light foam"],
        ["puddles", "wet gardens", "muddy festivals"],
    ),
    product(
        Shape::Sock,
        "Knitwear",
        900,
        ["combed cotton", "bamboo yarn", "merino wool"],
        ["cold floors", "long hikes", "every day of the week"],
    ),
    product(
        Shape::Mitten,
        "Knitwear",
        1_600,
        ["boiled wool", "padded nylon", "alpaca yarn"],
        ["snowball fights", "cold commutes", "skating"],
    ),
    product(
        Shape::Mug,
        "Tea and Coffee",
        1_300,
        ["stoneware", "fine porcelain", "enamelled steel"],
        ["the first coffee", "long letters", "the camp fire"],
    ),
    product(
        Shape::Teapot,
        "Tea and Coffee",
        3_800,
        ["glazed earthenware", "fine porcelain", "cast iron"],
        ["a slow afternoon", "guests", "two cups and a chat"],
    ),
    product(
        Shape::Cushion,
        "Cushions",
        2_400,
        ["linen", "cotton velvet", "wool felt"],
        ["the reading chair", "the garden bench", "a nap"],
    ),
    product(
        Shape::TableLamp,
        "Lamps",
        5_800,
        ["a turned ash foot and a linen shade", "ceramic and cotton", "steel and paper"],
        ["the bedside", "late homework", "a dim corner"],
    ),
    product(
        Shape::Vase,
        "Vases and Pots",
        3_200,
        ["hand-thrown clay", "blown glass", "fine porcelain"],
        ["a bunch of tulips", "dried grasses", "the hall table"],
    ),
    product(
        Shape::PlantPot,
        "Vases and Pots",
        1_800,
        ["fired clay", "recycled plastic", "fibre cement"],
        ["kitchen herbs", "a sunny sill", "a stubborn cactus"],
    ),
    product(
        Shape::Notebook,
        "Stationery",
        1_100,
        ["recycled paper", "thick cotton paper", "stone paper"],
        ["plans and lists", "lectures", "sketches on the train"],
    ),
    product(
        Shape::PencilCase,
        "Stationery",
        1_400,
        ["canvas", "soft felt", "wipeable vinyl"],
        ["pens and brushes", "the first day of school", "cables and small things"],
    ),
    product(
        Shape::WaterBottle,
        "Bottles",
        2_200,
        ["stainless steel", "light aluminium", "tough copolyester"],
        ["long bike rides", "the desk", "the gym bag"],
    ),
    product(
        Shape::Umbrella,
        "Umbrellas",
        2_900,
        ["recycled polyester", "a fibreglass frame", "tightly woven nylon"],
        ["sudden showers", "stormy seasons", "the walk to the bus"],
    ),
];

/// Brands with what descriptions tell of them.
pub(super) const BRANDS: [(&str, &str); 8] = [
    ("Aurel", "a family workshop on the coast"),
    ("Borealis", "a young studio in the far north"),
    ("Cascada", "a cooperative of mountain villages"),
    ("Dunmore", "an old house with a famous guarantee"),
    ("Elvika", "two sisters who sew and design everything"),
    ("Fennec", "an outdoor maker from the edge of the desert"),
    ("Hinode", "a maker known for quiet craft"),
    ("Iskra", "a former factory, now owned by its workers"),
];

/// Who an item is for: the word of titles, the word of descriptions.
pub(super) const AUDIENCES: [(&str, &str); 4] =
    [("Kids", "kids"), ("Student", "students"), ("Family", "families"), ("Senior", "seniors")];

pub(super) const SIZES: [&str; 3] = ["S", "M", "L"];

/// Model words: each occurs once in a category.
pub(super) const MODELS: [&str; 50] = [
    "Lumo", "Tarn", "Pico", "Vela", "Nori", "Ondo", "Kesta", "Brisk", "Marlo", "Tibo", "Sano",
    "Juno", "Peri", "Rook", "Dori", "Falk", "Gala", "Hobo", "Inka", "Jola", "Kito", "Lino", "Milo",
    "Nova", "Orbi", "Quill", "Rio", "Sora", "Tika", "Ursa", "Vito", "Wren", "Xeno", "Yola", "Zeno",
    "Ardo", "Bela", "Ciro", "Duna", "Emil", "Fino", "Gusto", "Hali", "Ivo", "Jaro", "Kobi", "Lark",
    "Mira", "Nilo", "Pavo",
];
