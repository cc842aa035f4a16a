//! Drawing layers on pixels: colours, shading and the outlines' text.

use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Mask, Paint, Path,
    PathBuilder, Pixmap, Point, RadialGradient, Rect, Shader, SpreadMode, Stroke, Transform,
};
use tributary_core::shop::Look;

use super::pattern::{Marks, marks};
use super::shapes::Layer;

/// Outlines live on a square of this width.
const SQUARE: f32 = 100.0;
/// Between two values that a colour may have.
const STEP: u8 = 6;
const WALL: u32 = 0xF4_F0_EA;
const CREAM: u32 = 0xF7_F1_E4;
const LEAF: u32 = 0x84_94_80;
const WHITE: u32 = 0xFF_FF_FF;
/// Shadows are a warm black.
const SHADOW: u32 = 0x2B_1F_1A;

/// A square picture in the making. Methods give `None` where an outline is malformed.
pub(super) struct Canvas {
    pixels: Pixmap,
    /// From the outlines' square to pixels.
    scale: Transform,
}

impl Canvas {
    pub(super) fn new(size: u32) -> Option<Self> {
        let scale = size as f32 / SQUARE;
        Some(Self { pixels: Pixmap::new(size, size)?, scale: Transform::from_scale(scale, scale) })
    }

    /// A pale wall, and the shadow of something that stands before it.
    pub(super) fn backdrop(&mut self) -> Option<()> {
        self.pixels.fill(colour(WALL, 1.0));
        // A circle's shadow, flattened onto the floor.
        let flat = Transform::from_row(1.0, 0.0, 0.0, 0.14, 0.0, 76.5);
        let stops = [(0.0, SHADOW, 0.34), (0.55, SHADOW, 0.2), (1.0, SHADOW, 0.0)];
        let shader = radial([50.0, 89.0], 42.0, &stops, flat)?;
        let floor = Rect::from_xywh(4.0, 80.0, 92.0, 18.0)?;
        self.paint(&PathBuilder::from_rect(floor), shader, None);
        Some(())
    }

    pub(super) fn draw(&mut self, layer: &Layer, look: &Look) -> Option<()> {
        let palette = look.palette;
        match *layer {
            Layer::Body(outline) => self.body(&path(outline)?, look)?,
            Layer::Main(outline) => self.part(&path(outline)?, palette.main)?,
            Layer::Trim(outline) => self.part(&path(outline)?, palette.trim)?,
            Layer::Accent(outline) => self.part(&path(outline)?, palette.accent)?,
            Layer::Cream(outline) => self.part(&path(outline)?, CREAM)?,
            Layer::Leaf(outline) => self.part(&path(outline)?, LEAF)?,
            Layer::Dark(outline) => self.fill(&path(outline)?, SHADOW, 0.32),
            Layer::Gleam(outline) => self.fill(&path(outline)?, WHITE, 0.38),
            Layer::MainLine(outline, width) => {
                self.line(&path(outline)?, palette.main, 1.0, width);
            }
            Layer::TrimLine(outline, width) => {
                self.line(&path(outline)?, palette.trim, 1.0, width);
            }
            Layer::CreamLine(outline, width) => self.line(&path(outline)?, CREAM, 1.0, width),
            Layer::Crease(outline, width) => self.line(&path(outline)?, SHADOW, 0.26, width),
        }
        Some(())
    }

    /// The main colour under the pattern, lit from the upper left.
    fn body(&mut self, outline: &Path, look: &Look) -> Option<()> {
        self.fill(outline, look.palette.main, 1.0);
        let mut clip = Mask::new(self.pixels.width(), self.pixels.height())?;
        clip.fill_path(outline, FillRule::Winding, true, self.scale);
        let accent = |alpha| Shader::SolidColor(colour(look.palette.accent, alpha));
        match marks(look.pattern) {
            None => {}
            Some(Marks::Filled(path)) => self.paint(&path, accent(0.95), Some(&clip)),
            Some(Marks::Crossing(paths)) => {
                paths.iter().for_each(|path| self.paint(path, accent(0.5), Some(&clip)));
            }
            Some(Marks::Strokes(path, width)) => {
                let paint = paint(accent(0.95));
                let stroke = stroke(width);
                self.pixels.stroke_path(&path, &paint, &stroke, self.scale, Some(&clip));
            }
        }
        self.light(outline, 0.30)?;
        self.line(outline, SHADOW, 0.22, 0.9);
        Some(())
    }

    /// A part of one colour, lit as the body is.
    fn part(&mut self, outline: &Path, rgb: u32) -> Option<()> {
        self.fill(outline, rgb, 1.0);
        self.light(outline, 0.20)?;
        self.line(outline, SHADOW, 0.2, 0.7);
        Some(())
    }

    /// Light from the upper left, shade to the lower right, up to this opacity.
    fn light(&mut self, outline: &Path, strength: f32) -> Option<()> {
        let at = outline.bounds();
        let stops = [
            (0.0, WHITE, strength),
            (0.42, WHITE, 0.0),
            (0.58, SHADOW, 0.0),
            (1.0, SHADOW, strength),
        ];
        let (start, end) = ([at.left(), at.top()], [at.right(), at.bottom()]);
        let shader = LinearGradient::new(
            point(start),
            point(end),
            stops_of(&stops),
            SpreadMode::Pad,
            Transform::identity(),
        )?;
        self.paint(outline, shader, None);
        Some(())
    }

    fn fill(&mut self, outline: &Path, rgb: u32, alpha: f32) {
        self.paint(outline, Shader::SolidColor(colour(rgb, alpha)), None);
    }

    fn paint(&mut self, outline: &Path, shader: Shader<'_>, clip: Option<&Mask>) {
        self.pixels.fill_path(outline, &paint(shader), FillRule::Winding, self.scale, clip);
    }

    fn line(&mut self, outline: &Path, rgb: u32, alpha: f32, width: f32) {
        let paint = paint(Shader::SolidColor(colour(rgb, alpha)));
        self.pixels.stroke_path(outline, &paint, &stroke(width), self.scale, None);
    }

    /// (size, size, 3) bytes; the backdrop left nothing transparent. Each is rounded to a multiple
    /// of [`STEP`]: nobody sees it, and the file is half as large.
    pub(super) fn rgb(&self) -> Vec<u8> {
        let coarse = |value: u8| value.saturating_add(STEP / 2) / STEP * STEP;
        let pixels = self.pixels.pixels().iter();
        pixels.flat_map(|p| [p.red(), p.green(), p.blue()].map(coarse)).collect()
    }
}

fn paint(shader: Shader<'_>) -> Paint<'_> {
    Paint { shader, anti_alias: true, ..Paint::default() }
}

fn stroke(width: f32) -> Stroke {
    let (line_cap, line_join) = (LineCap::Round, LineJoin::Round);
    Stroke { width, line_cap, line_join, ..Stroke::default() }
}

fn colour(rgb: u32, alpha: f32) -> Color {
    let [_, red, green, blue] = rgb.to_be_bytes();
    let mut colour = Color::from_rgba8(red, green, blue, u8::MAX);
    colour.set_alpha(alpha);
    colour
}

fn point([x, y]: [f32; 2]) -> Point {
    Point::from_xy(x, y)
}

/// (place, colour, opacity).
fn stops_of(stops: &[(f32, u32, f32)]) -> Vec<GradientStop> {
    stops.iter().map(|&(at, rgb, alpha)| GradientStop::new(at, colour(rgb, alpha))).collect()
}

fn radial(
    centre: [f32; 2],
    radius: f32,
    stops: &[(f32, u32, f32)],
    transform: Transform,
) -> Option<Shader<'static>> {
    let (centre, stops) = (point(centre), stops_of(stops));
    RadialGradient::new(centre, 0.0, centre, radius, stops, SpreadMode::Pad, transform)
}

/// The outline of this text; see [`super::shapes`] for its words.
fn path(text: &str) -> Option<Path> {
    let mut words = text.split_whitespace();
    let mut path = PathBuilder::new();
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<f32>().ok();
        match word {
            "M" => path.move_to(number()?, number()?),
            "L" => path.line_to(number()?, number()?),
            "Q" => path.quad_to(number()?, number()?, number()?, number()?),
            "C" => {
                let first = [number()?, number()?, number()?, number()?];
                path.cubic_to(first[0], first[1], first[2], first[3], number()?, number()?);
            }
            "O" => path.push_circle(number()?, number()?, number()?),
            "E" => path.push_oval(Rect::from_xywh(number()?, number()?, number()?, number()?)?),
            "Z" => path.close(),
            _ => return None,
        }
    }
    path.finish()
}
