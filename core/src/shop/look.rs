//! How the shop's items look: what their pictures show, and nothing else tells.

/// What an item is, as one sees it at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the product it is named after")]
pub enum Shape {
    TShirt,
    Sweater,
    Beanie,
    Cap,
    Backpack,
    ToteBag,
    Sneaker,
    RainBoot,
    Sock,
    Mitten,
    Mug,
    Teapot,
    Cushion,
    TableLamp,
    Vase,
    PlantPot,
    Notebook,
    PencilCase,
    WaterBottle,
    Umbrella,
}

impl Shape {
    /// All of them, in catalogue order.
    pub const ALL: [Self; 20] = [
        Self::TShirt,
        Self::Sweater,
        Self::Beanie,
        Self::Cap,
        Self::Backpack,
        Self::ToteBag,
        Self::Sneaker,
        Self::RainBoot,
        Self::Sock,
        Self::Mitten,
        Self::Mug,
        Self::Teapot,
        Self::Cushion,
        Self::TableLamp,
        Self::Vase,
        Self::PlantPot,
        Self::Notebook,
        Self::PencilCase,
        Self::WaterBottle,
        Self::Umbrella,
    ];

    /// Its name, as titles and captions write it (captions in lower case).
    pub fn name(self) -> &'static str {
        match self {
            Self::TShirt => "T-Shirt",
            Self::Sweater => "Sweater",
            Self::Beanie => "Beanie",
            Self::Cap => "Cap",
            Self::Backpack => "Backpack",
            Self::ToteBag => "Tote Bag",
            Self::Sneaker => "Sneaker",
            Self::RainBoot => "Rain Boot",
            Self::Sock => "Sock",
            Self::Mitten => "Mitten",
            Self::Mug => "Mug",
            Self::Teapot => "Teapot",
            Self::Cushion => "Cushion",
            Self::TableLamp => "Table Lamp",
            Self::Vase => "Vase",
            Self::PlantPot => "Plant Pot",
            Self::Notebook => "Notebook",
            Self::PencilCase => "Pencil Case",
            Self::WaterBottle => "Water Bottle",
            Self::Umbrella => "Umbrella",
        }
    }
}

/// The families of colours, as tastes know them.
pub const FAMILIES: [&str; 8] =
    ["red", "orange", "yellow", "green", "blue", "purple", "pink", "grey"];

/// Colours that go together, as 0xRRGGBB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// One of [`FAMILIES`].
    pub family: &'static str,
    /// What a caption calls it, beside its family.
    pub name: &'static str,
    /// Most of the item.
    pub main: u32,
    /// The pattern.
    pub accent: u32,
    /// Trimmings: handles, soles, lids.
    pub trim: u32,
}

/// All palettes, three of each family.
pub const PALETTES: [[Palette; 3]; FAMILIES.len()] = [
    [
        palette(0, "cherry", 0xC9_2A_42, 0xFC_E7_D8, 0x7A_16_2B),
        palette(0, "brick", 0xB2_43_2F, 0xF0_CF_A8, 0x5F_27_1E),
        palette(0, "scarlet", 0xE5_3A_2E, 0xFF_F4_E8, 0x8E_1D_1A),
    ],
    [
        palette(1, "pumpkin", 0xE0_6E_1C, 0xFF_E3_BF, 0x7C_38_12),
        palette(1, "tangerine", 0xF7_93_26, 0xFF_F3_DA, 0x9A_4A_0F),
        palette(1, "apricot", 0xF8_B0_6C, 0xB0_55_1B, 0x7B_41_20),
    ],
    [
        palette(2, "lemon", 0xF8_DC_45, 0xB5_86_0E, 0x8A_69_18),
        palette(2, "honey", 0xEF_BE_2E, 0xFF_F7_D9, 0x8B_62_10),
        palette(2, "mustard", 0xD3_A6_24, 0x5C_46_10, 0x4A_39_12),
    ],
    [
        palette(3, "fern", 0x3F_92_4F, 0xE2_F3_CC, 0x1E_4D_2B),
        palette(3, "olive", 0x7D_87_34, 0xF1_EC_C4, 0x43_49_1C),
        palette(3, "mint", 0x7F_D2_A9, 0x1D_6D_50, 0x17_52_40),
    ],
    [
        palette(4, "navy", 0x25_3C_72, 0xCE_DC_F5, 0x14_20_42),
        palette(4, "sky", 0x6F_B7_EA, 0xF5_FB_FF, 0x2A_67_99),
        palette(4, "cobalt", 0x2E_63_CC, 0xE6_EE_FF, 0x17_35_78),
    ],
    [
        palette(5, "plum", 0x6F_2F_75, 0xEE_D3_EE, 0x3E_17_43),
        palette(5, "lavender", 0xAE_92_E0, 0x4C_2F_85, 0x3F_28_6E),
        palette(5, "violet", 0x7B_46_C9, 0xF0_E3_FF, 0x41_20_75),
    ],
    [
        palette(6, "rose", 0xEA_70_98, 0xFF_EC_F2, 0x9A_2F_57),
        palette(6, "blush", 0xF5_AE_C3, 0xA9_38_62, 0x8A_33_55),
        palette(6, "magenta", 0xD0_33_8A, 0xFF_E0_F0, 0x78_15_4E),
    ],
    [
        palette(7, "slate", 0x5E_69_75, 0xE2_E8_ED, 0x2E_36_3E),
        palette(7, "silver", 0xB6_BD_C5, 0x49_52_5B, 0x52_5A_63),
        palette(7, "charcoal", 0x3A_3E_45, 0xD2_D7_DD, 0x1C_1F_23),
    ],
];

const fn palette(family: usize, name: &'static str, main: u32, accent: u32, trim: u32) -> Palette {
    Palette { family: FAMILIES[family], name, main, accent, trim }
}

/// What runs over an item's surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the pattern it is named after")]
pub enum Pattern {
    Plain,
    Striped,
    Dotted,
    Checked,
    Wavy,
    Zigzag,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Striped, Self::Dotted, Self::Checked, Self::Wavy, Self::Zigzag];

    /// The word of captions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Striped => "striped",
            Self::Dotted => "dotted",
            Self::Checked => "checked",
            Self::Wavy => "wavy",
            Self::Zigzag => "zigzag",
        }
    }
}

/// Everything that an item's picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub shape: Shape,
    /// In which colours.
    pub palette: Palette,
    /// What runs over it.
    pub pattern: Pattern,
}

impl Look {
    /// The picture in words, such as `a striped rain boot in cherry red`.
    pub fn caption(&self) -> String {
        let (pattern, shape) = (self.pattern.name(), self.shape.name().to_lowercase());
        format!("a {pattern} {shape} in {} {}", self.palette.name, self.palette.family)
    }
}
