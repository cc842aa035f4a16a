//! The 20 shapes, as layers of outlines on a square of 100 by 100, the y axis down.
//!
//! An outline is SVG's path text with absolute `M L Q C Z`, and two words more: `O cx cy r` is a
//! circle, `E x y width height` an ellipse in that rectangle.

use tributary_core::shop::Shape;

/// One step of drawing a shape, back to front.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    /// The surface that carries the pattern, in the main colour.
    Body(&'static str),
    /// A filled part in the main colour, without the pattern.
    Main(&'static str),
    /// A filled part in the trim colour.
    Trim(&'static str),
    /// A filled part in the accent colour.
    Accent(&'static str),
    /// Cream: paper, soles, labels.
    Cream(&'static str),
    /// Leaves, whatever the palette.
    Leaf(&'static str),
    /// A shadow on what is below.
    Dark(&'static str),
    /// A gleam on what is below.
    Gleam(&'static str),
    /// A stroke of this width in the main colour.
    MainLine(&'static str, f32),
    /// A stroke of this width in the trim colour.
    TrimLine(&'static str, f32),
    /// A cream stroke of this width.
    CreamLine(&'static str, f32),
    /// A crease or a seam of this width.
    Crease(&'static str, f32),
}

use Layer::{
    Accent, Body, Cream, CreamLine, Crease, Dark, Gleam, Leaf, Main, MainLine, Trim, TrimLine,
};

pub(super) fn layers(shape: Shape) -> &'static [Layer] {
    match shape {
        Shape::TShirt => &[
            Body(
                "M 36 17 Q 50 28 64 17 L 77 22 L 92 43 L 79 52 L 73 44 L 73 85 Q 50 89 27 85 \
                 L 27 44 L 21 52 L 8 43 L 23 22 Z",
            ),
            TrimLine("M 36 17 Q 50 32 64 17", 3.4),
            TrimLine("M 9.5 44 L 21 51 M 90.5 44 L 79 51", 2.6),
            Crease("M 73 45 Q 70 36 71 30 M 27 45 Q 30 36 29 30", 1.2),
            Crease("M 36 82 Q 40 74 38 66 M 63 83 Q 60 76 62 70", 1.0),
        ],
        Shape::Sweater => &[
            Body(
                "M 34 18 Q 50 26 66 18 L 76 22 Q 86 40 92 72 L 80 76 Q 76 58 73 48 L 73 84 L 27 84 \
                 L 27 48 Q 24 58 20 76 L 8 72 Q 14 40 24 22 Z",
            ),
            Crease("M 73 49 Q 70 38 71 30 M 27 49 Q 30 38 29 30", 1.3),
            Trim("M 37 13 Q 50 19 63 13 L 67 20 Q 50 31 33 20 Z"),
            Trim("M 91 66 L 92.5 74 L 80 78 L 78.5 70 Z M 9 66 L 7.5 74 L 20 78 L 21.5 70 Z"),
            Trim("M 27 79 Q 50 82 73 79 L 73 87 Q 50 90 27 87 Z"),
            Crease("M 33 80 L 33 87 M 40 81 L 40 88 M 47 81 L 47 88.5 M 54 81 L 54 88.5", 0.8),
            Crease("M 61 81 L 61 88 M 68 80 L 68 87", 0.8),
        ],
        Shape::Beanie => &[
            Accent("O 50 17 9"),
            Dark("M 42 21 Q 50 27 58 21 Q 54 27 50 26 Q 45 27 42 21 Z"),
            Body("M 19 68 Q 16 24 50 23 Q 84 24 81 68 Z"),
            Crease("M 36 27 Q 30 44 33 62 M 64 27 Q 70 44 67 62 M 50 24 L 50 62", 0.9),
            Trim("M 15 63 Q 50 56 85 63 L 86 80 Q 50 88 14 80 Z"),
            Crease("M 22 62 L 21 82 M 29 61 L 28 83 M 36 60 L 35.5 84 M 43 60 L 43 84", 0.9),
            Crease("M 50 60 L 50 84.5 M 57 60 L 57 84 M 64 60 L 64.5 84 M 71 61 L 72 83", 0.9),
            Crease("M 78 62 L 79 82", 0.9),
        ],
        Shape::Cap => &[
            Body("M 9 78 Q 6 34 42 32 Q 78 34 79 75 Q 45 84 9 78 Z"),
            Crease("M 42 32 Q 52 54 50 81 M 42 32 Q 25 50 23 79", 1.0),
            Dark("M 9 78 Q 45 84 79 75 L 79 71.5 Q 45 80 9 74.5 Z"),
            Trim("M 43 77 Q 64 72 79 71.5 Q 97 77 98 87 Q 73 83 47 88 Q 37 82 43 77 Z"),
            Gleam("M 51 77.5 Q 68 74 78 74 Q 89 77 93 81.5 Q 72 78.5 51 80.5 Z"),
            Trim("O 42 32 3.2"),
        ],
        Shape::Backpack => &[
            TrimLine("M 41 19 Q 41 9 50 9 Q 59 9 59 19", 4.0),
            Trim("M 24 50 L 16 56 Q 13 70 17 80 L 26 84 Z M 76 50 L 84 56 Q 87 70 83 80 L 74 84 Z"),
            Body(
                "M 25 38 Q 25 15 50 15 Q 75 15 75 38 L 78 80 Q 78 89 69 89 L 31 89 Q 22 89 22 80 Z",
            ),
            TrimLine("M 28 40 Q 30 24 50 24 Q 70 24 72 40", 2.2),
            TrimLine("M 31 58 L 69 58 L 70 79 Q 70 83 66 83 L 34 83 Q 30 83 30 79 Z", 2.4),
            TrimLine("M 31 66 L 69 66", 1.8),
            Cream("O 50 66 2.6"),
            Cream("O 71 39 2"),
        ],
        Shape::ToteBag => &[
            TrimLine("M 36 40 Q 34 10 50 10 Q 66 10 64 40", 4.2),
            Body("M 18 34 L 82 34 L 87 88 L 13 88 Z"),
            TrimLine("M 18.5 37 L 81.5 37", 2.4),
            TrimLine("M 36 36 L 36 46 M 64 36 L 64 46", 4.2),
            Crease("M 24 86 Q 30 70 27 52 M 74 86 Q 70 74 73 60", 1.1),
        ],
        Shape::Sneaker => &[
            Body("M 9 76 Q 6 48 14 36 Q 25 44 38 33 Q 46 46 62 54 Q 86 58 92 76 Z"),
            Trim("M 8 62 Q 9 44 14 36 Q 19 39 24 39.5 Q 20 52 23 76 L 8.5 76 Z"),
            Trim("M 78 58.5 Q 90 62 92 76 L 74 76 Q 72 65 78 58.5 Z"),
            Dark("M 14 36 Q 25 44 38 33 Q 36 42 26 43 Q 18 43 14 36 Z"),
            CreamLine("M 39 44 L 47 38 M 45 50 L 53 44 M 52 55 L 60 49 M 60 59 L 67 53", 2.6),
            Cream("M 6 74 L 93 74 Q 97 82 91 86 L 13 86 Q 4 84 6 74 Z"),
            TrimLine("M 7 82 Q 50 83.5 94 82", 1.6),
        ],
        Shape::RainBoot => &[
            Body(
                "M 30 12 L 62 12 Q 63 40 65 53 Q 82 57 89 67 Q 93 74 92 81 L 31 81 Q 27 46 30 12 Z",
            ),
            Trim("M 29 79 L 93 79 L 93 88 L 66 88 L 62 84.5 L 54 84.5 L 54 89 L 29 89 Z"),
            Trim("M 28.5 10 L 63.5 10 L 64 19 L 28 19 Z"),
            Gleam("M 36 24 Q 33 44 35 66 L 40 66 Q 38 44 41 24 Z"),
            Gleam("M 70 60 Q 80 63 85 70 Q 77 66 68 64 Z"),
        ],
        Shape::Sock => &[
            Body(
                "M 38 12 L 68 12 L 68 52 Q 69 63 58 70 L 36 86 Q 25 92 17 84 Q 11 75 20 67 L 35 56 \
                 Q 39 53 38 47 Z",
            ),
            Trim("M 36.5 9 L 69.5 9 L 69 21 L 37 21 Z"),
            Crease("M 43 10 L 43 21 M 49 10 L 49 21 M 55 10 L 55 21 M 61 10 L 61 21", 0.9),
            Trim("M 26 62.5 Q 38 70 38 84.5 Q 25 92 17 84 Q 11 75 20 67 Z"),
            Trim("M 68.3 47 Q 70 63 58 70 L 51 75 Q 48 56 68.3 47 Z"),
        ],
        Shape::Mitten => &[
            Body(
                "M 27 78 L 26 40 Q 27 11 48 11 Q 68 11 69 40 L 69 47 Q 79 36 87 42 Q 93 49 84 58 \
                 L 68 74 L 68 78 Z",
            ),
            Crease("M 69 47 Q 66 52 66 60", 1.4),
            Trim("M 23 74 Q 47 78 72 74 L 73 89 Q 47 93 22 89 Z"),
            Crease("M 29 75 L 28.5 90 M 35 76 L 34.5 91 M 41 76 L 41 91 M 47 76 L 47 91.5", 0.9),
            Crease("M 53 76 L 53 91 M 59 76 L 59.5 91 M 65 75 L 66 90", 0.9),
        ],
        Shape::Mug => &[
            MainLine("M 68 40 Q 90 36 89 54 Q 87 72 66 70", 7.0),
            Body("M 17 26 L 73 26 L 70 80 Q 69 88 60 88 L 30 88 Q 21 88 20 80 Z"),
            Trim("E 17 20 56 12"),
            Cream("E 20 22 50 8"),
            Dark("E 21.5 23.4 47 6.4"),
            Gleam("M 25 40 Q 25 60 28 76 L 33 76 Q 30 60 31 40 Z"),
        ],
        Shape::Teapot => &[
            MainLine("M 74 46 Q 95 40 94 57 Q 92 72 72 71", 5.6),
            Main("M 32 70 Q 14 62 10 42 L 5 37 L 17 34 Q 20 47 32 50 Z"),
            Body("E 21 34 58 52"),
            Trim("M 37 84 L 63 84 L 66 89 L 34 89 Z"),
            Trim("M 33 40 Q 36 28 50 28 Q 64 28 67 40 Q 50 46 33 40 Z"),
            Trim("O 50 24 5"),
            Gleam("M 29 52 Q 27 62 31 71 L 36 70 Q 33 61 35 52 Z"),
        ],
        Shape::Cushion => &[
            Body("M 12 15 Q 50 25 88 15 Q 79 51 88 88 Q 50 79 12 88 Q 21 51 12 15 Z"),
            TrimLine("M 12 15 Q 50 25 88 15 Q 79 51 88 88 Q 50 79 12 88 Q 21 51 12 15 Z", 2.4),
            Crease("M 18 21 Q 28 27 31 34 M 82 21 Q 72 27 69 34", 1.3),
            Crease("M 18 82 Q 28 77 31 70 M 82 82 Q 72 77 69 70", 1.3),
            Trim("O 50 51 3.6"),
        ],
        Shape::TableLamp => &[
            TrimLine("M 50 50 L 50 84", 5.0),
            Trim("E 38 58 24 18"),
            Gleam("E 42 61 7 11"),
            Trim("E 28 80 44 10"),
            Body("M 35 10 L 65 10 L 86 56 Q 50 62 14 56 Z"),
            TrimLine("M 35 11 L 65 11", 2.2),
            TrimLine("M 14 56 Q 50 62 86 56", 2.4),
            Gleam("M 40 16 L 47 16 L 43 50 L 30 48 Z"),
        ],
        Shape::Vase => &[
            Body(
                "M 38 14 L 62 14 Q 59 30 66 38 Q 84 54 74 76 Q 69 87 62 88 L 38 88 Q 31 87 26 76 \
                 Q 16 54 34 38 Q 41 30 38 14 Z",
            ),
            Trim("E 35 9 30 9"),
            Dark("E 39 11 22 5"),
            Gleam("M 34 48 Q 26 58 31 73 L 36 72 Q 32 58 39 47 Z"),
        ],
        Shape::PlantPot => &[
            Leaf("M 50 44 Q 24 36 22 12 Q 46 16 50 44 Z M 50 44 Q 76 36 78 12 Q 54 16 50 44 Z"),
            Leaf("M 50 46 Q 38 24 50 5 Q 62 24 50 46 Z"),
            Crease("M 50 44 L 50 12 M 50 44 Q 36 34 27 18 M 50 44 Q 64 34 73 18", 1.0),
            Body("M 21 48 L 79 48 L 70 89 L 30 89 Z"),
            Trim("M 16 40 L 84 40 L 82 51 L 18 51 Z"),
            Gleam("M 29 56 L 35 56 L 38 82 L 34 82 Z"),
        ],
        Shape::Notebook => &[
            Cream("M 26 14 L 82 16 L 82 90 L 26 90 Z"),
            Crease("M 80 18 L 80 89 M 78 18 L 78 89", 0.7),
            Body("M 20 10 L 74 10 Q 77 10 77 13 L 77 84 Q 77 87 74 87 L 20 87 Z"),
            Trim("M 18 10 L 29 10 L 29 87 L 18 87 Q 16 87 16 85 L 16 12 Q 16 10 18 10 Z"),
            TrimLine("M 69 10 L 69 87", 2.6),
            Cream("M 37 24 L 61 24 L 61 38 L 37 38 Z"),
            Crease("M 41 29 L 57 29 M 41 33 L 52 33", 1.0),
        ],
        Shape::PencilCase => &[
            TrimLine("M 34 40 L 27 18 M 54 40 L 58 13", 5.4),
            CreamLine("M 27 18 L 25.6 13.5 M 58 13 L 58.8 8.5", 4.4),
            Body(
                "M 16 32 Q 7 32 7 42 L 7 72 Q 7 82 17 82 L 83 82 Q 93 82 93 72 L 93 42 \
                 Q 93 32 84 32 Z",
            ),
            TrimLine("M 9 42 L 91 42", 4.0),
            CreamLine("M 12 42 L 88 42", 0.9),
            Trim("M 76 40 L 82 40 L 84 54 L 74 54 Z"),
            Cream("O 79 50.5 1.7"),
        ],
        Shape::WaterBottle => &[
            TrimLine("M 50 12 Q 70 6 66 24", 3.2),
            Body(
                "M 33 38 Q 33 29 41 26 L 59 26 Q 67 29 67 38 L 69 82 Q 69 90 61 90 L 39 90 \
                 Q 31 90 31 82 Z",
            ),
            Trim("M 39 9 Q 50 6 61 9 L 62 27 Q 50 30 38 27 Z"),
            Trim("M 31 80 L 69 80 Q 70 90 61 90 L 39 90 Q 30 90 31 80 Z"),
            Gleam("M 38 38 L 43 38 L 42 76 L 36.5 76 Z"),
            Crease("M 39 15 L 61 15 M 38.6 20 L 61.4 20", 1.0),
        ],
        Shape::Umbrella => &[
            TrimLine("M 50 10 L 50 20", 3.0),
            TrimLine("M 50 46 L 50 80 Q 50 91 41 91 Q 33 91 33 82", 4.0),
            Body(
                "M 5 56 Q 9 15 50 14 Q 91 15 95 56 Q 87 48 80 56 Q 72 48 65 56 Q 57 48 50 56 \
                 Q 43 48 35 56 Q 28 48 20 56 Q 13 48 5 56 Z",
            ),
            Crease("M 50 14 Q 22 26 20 56 M 50 14 Q 38 28 35 56 M 50 14 L 50 56", 1.1),
            Crease("M 50 14 Q 62 28 65 56 M 50 14 Q 78 26 80 56", 1.1),
        ],
    }
}
