//! What runs over a surface: the outlines of a pattern on the square of 100 by 100.

use tiny_skia::{Path, PathBuilder, Rect};
use tributary_core::shop::Pattern;

/// How the marks of a pattern are put on.
pub(super) enum Marks {
    /// Filled.
    Filled(Path),
    /// Filled half transparently one after the other, so that crossings are full.
    Crossing([Path; 2]),
    /// Strokes of this width.
    Strokes(Path, f32),
}

/// From the middle of one stripe, dot or line to the next.
const PERIOD: f32 = 13.0;

/// `None` for a plain surface.
pub(super) fn marks(pattern: Pattern) -> Option<Marks> {
    let mut path = PathBuilder::new();
    match pattern {
        Pattern::Plain => return None,
        Pattern::Striped => {
            bands(&mut path, |from| Rect::from_xywh(0.0, from, 100.0, PERIOD / 2.0));
        }
        Pattern::Dotted => {
            for (row, y) in steps().enumerate() {
                let shift = if row % 2 == 0 { 0.0 } else { PERIOD / 2.0 };
                steps().for_each(|x| path.push_circle(x + shift, y, 3.3));
            }
        }
        Pattern::Checked => {
            let mut across = PathBuilder::new();
            bands(&mut path, |from| Rect::from_xywh(0.0, from, 100.0, PERIOD / 2.0));
            bands(&mut across, |from| Rect::from_xywh(from, 0.0, PERIOD / 2.0, 100.0));
            return Some(Marks::Crossing([path.finish()?, across.finish()?]));
        }
        Pattern::Wavy => {
            for y in steps() {
                path.move_to(-PERIOD, y);
                for (half, x) in steps().enumerate() {
                    let bulge = if half % 2 == 0 { -9.0 } else { 9.0 };
                    path.quad_to(x - PERIOD / 2.0, y + bulge, x, y);
                }
            }
            return Some(Marks::Strokes(path.finish()?, 3.6));
        }
        Pattern::Zigzag => {
            for y in steps() {
                path.move_to(-PERIOD, y);
                for x in steps() {
                    path.line_to(x - PERIOD / 2.0, y - 7.0);
                    path.line_to(x, y);
                }
            }
            return Some(Marks::Strokes(path.finish()?, 3.4));
        }
    }
    Some(Marks::Filled(path.finish()?))
}

fn steps() -> impl Iterator<Item = f32> {
    (0..9).map(|step| step as f32 * PERIOD)
}

fn bands(path: &mut PathBuilder, band: impl Fn(f32) -> Option<Rect>) {
    steps().filter_map(|step| band(step + PERIOD / 4.0)).for_each(|band| path.push_rect(band));
}
