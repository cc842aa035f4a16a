//! The bootstrap's distributions as a picture: one panel per metric.

use std::fmt::Write;

use super::{Compared, Comparison};

/// Greys and colours of middle lightness: legible on a light and on a dark page alike, so the
/// picture needs no background of its own.
const TEXT: &str = "#7d8590";
const BARS: &str = "#2f81f7";
const DIFFERENCE: &str = "#db6d28";

const WIDTH: f64 = 860.0;
const HEADER: f64 = 62.0;
const PANEL: f64 = 168.0;
const LEFT: f64 = 28.0;
/// Of a panel, from its top: where bars may begin and where they stand.
const BARS_TOP: f64 = 40.0;
const BARS_FOOT: f64 = 124.0;
/// Bars of a panel, about.
const BINS: f64 = 48.0;

/// The distribution of the mean differences `a` - `b` over bootstrap samples, with their intervals,
/// as SVG.
pub fn histogram(comparison: &Comparison, a: &str, b: &str) -> String {
    let height = HEADER + PANEL * comparison.metrics.len() as f64;
    let (a, b) = (escaped(a), escaped(b));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"{TEXT}\">\n<title>{a} - {b}</title>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\">{a} - {b}</text>\n\
         <text x=\"{LEFT}\" y=\"48\">Mean difference over {} users in {} bootstrap samples; full \
         colour: {} % interval, dashed: no difference</text>\n",
        comparison.users,
        comparison.samples,
        percent(comparison.confidence),
    );
    for (place, compared) in comparison.metrics.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate(0 {})\">", HEADER + PANEL * place as f64);
        panel(&mut svg, compared);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// A share in percent, with no more digits than it has: 95, 99.9.
pub(crate) fn percent(share: f64) -> f64 {
    (share * 1e5).round() / 1e3
}

fn panel(svg: &mut String, compared: &Compared) {
    let Compared { metric, difference, interval: [low, high], p_value, .. } = compared;
    let means = compared.distribution.sorted();
    let (mut from, mut to) = (
        means.first().copied().unwrap_or_default().min(*difference),
        means.last().copied().unwrap_or_default().max(*difference),
    );
    let width = bin_width(means, to - from);
    // No difference is shown when it is not too far away.
    if from > 0.0 && from < 2.0 * (to - from) {
        from = 0.0;
    } else if to < 0.0 && -to < 2.0 * (to - from) {
        to = 0.0;
    }
    (from, to) = (from - width, to + width);
    let x = |value: f64| LEFT + (value - from) / (to - from) * (WIDTH - 2.0 * LEFT);

    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{metric}</text>\n\
         <text x=\"{:.1}\" y=\"22\" text-anchor=\"end\">{difference:+.4} [{low:+.4}, {high:+.4}], \
         p = {p_value:.4}; better for {} users, worse for {}</text>",
        WIDTH - LEFT,
        compared.a_better,
        compared.b_better,
    );
    bars(svg, means, width, [*low, *high], &x);
    let line = |svg: &mut String, value: f64, colour: &str, more: &str| {
        let x = x(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BARS_TOP}\" y2=\"{BARS_FOOT}\" \
             stroke=\"{colour}\" {more}/>"
        );
    };
    if from < 0.0 && to > 0.0 {
        line(svg, 0.0, TEXT, "stroke-dasharray=\"4 4\" ");
    }
    line(svg, *difference, DIFFERENCE, "stroke-width=\"2\" ");
    // The interval again, as a bracket on the axis.
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {BARS_FOOT}H{:.1}\" stroke=\"{TEXT}\"/>\n\
         <path d=\"M{l:.1} {top}v8M{l:.1} {middle}H{h:.1}M{h:.1} {top}v8\" \
         stroke=\"{DIFFERENCE}\" stroke-width=\"2\" fill=\"none\"/>",
        WIDTH - LEFT,
        l = x(*low),
        h = x(*high),
        top = BARS_FOOT - 4.0,
        middle = BARS_FOOT,
    );
    ticks(svg, from, to, &x);
}

/// Bars from `means`, ascending; those outside the interval are pale.
fn bars(
    svg: &mut String,
    means: &[f64],
    width: f64,
    [low, high]: [f64; 2],
    x: &dyn Fn(f64) -> f64,
) {
    let first = means.first().copied().unwrap_or_default();
    let bin = |mean: &f64| ((mean - first) / width + 0.5).floor();
    let counted: Vec<(f64, usize)> = means
        .chunk_by(|a, b| bin(a) == bin(b))
        .map(|same| (same.first().map_or(0.0, bin), same.len()))
        .collect();
    let most = counted.iter().map(|&(_, count)| count).max().unwrap_or(1) as f64;
    for (place, count) in counted {
        let middle = first + place * width;
        let (left, right) = (x(middle - width / 2.0), x(middle + width / 2.0));
        let height = (BARS_FOOT - BARS_TOP) * count as f64 / most;
        // An end of the interval may be this very lattice point, rounded otherwise.
        let inside = middle >= low - 1e-6 * width && middle <= high + 1e-6 * width;
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\" \
             fill=\"{BARS}\" fill-opacity=\"{}\"/>",
            BARS_FOOT - height,
            (right - left - 1.0).max(0.5),
            if inside { 0.85 } else { 0.35 },
        );
    }
}

/// About a `BINS`th of the span, but whole steps where the means lie on a lattice, as those of hit
/// rates do: other bars would hold now one step and now two.
fn bin_width(means: &[f64], span: f64) -> f64 {
    if span <= 0.0 {
        return means.first().map_or(1e-3, |mean| (mean.abs() * 0.01).max(1e-3));
    }
    let wanted = span / BINS;
    let gaps = means.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > span * 1e-6);
    let step = gaps.fold(f64::INFINITY, f64::min);
    match step.is_finite() && step > span * 1e-3 {
        true => step * (wanted / step).round().max(1.0),
        false => wanted,
    }
}

fn ticks(svg: &mut String, from: f64, to: f64, x: &dyn Fn(f64) -> f64) {
    let rough = (to - from) / 7.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let digits = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let last = (to / step).floor() as i64;
    for place in (from / step).ceil() as i64..=last {
        let value = place as f64 * step;
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {BARS_FOOT}v5\" stroke=\"{TEXT}\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{value:.digits$}</text>",
            BARS_FOOT + 20.0,
            x = x(value),
        );
    }
}

fn escaped(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    let mut escaped = String::new();
    for c in printable {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c => escaped.push(c),
        }
    }
    escaped
}
