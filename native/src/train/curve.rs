//! The training curve, as `curve.csv` and as a picture.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use tributary_core::{Error, Result};

use crate::files::write_atomically;

/// One line of `curve.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// Steps done.
    pub step: u64,
    /// Epoch of the last of them, from 0.
    pub epoch: u64,
    /// Mean training loss since the point before.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's gradients before clipping.
    pub gradient_norm: f64,
    /// The validation metric, where it was measured.
    pub validation: Option<f64>,
}

/// Writes `curve.csv` and `curve.svg` into `folder`; `metric` names the validation metric.
pub(super) fn write(folder: &Path, points: &[CurvePoint], metric: &str) -> Result<()> {
    let mut csv = format!("step,epoch,loss,learning_rate,gradient_norm,{metric}\n");
    for point in points {
        let validation = point.validation.map_or_else(String::new, |value| value.to_string());
        let CurvePoint { step, epoch, loss, learning_rate, gradient_norm, .. } = point;
        csv += &format!("{step},{epoch},{loss},{learning_rate},{gradient_norm},{validation}\n");
    }
    write_atomically(&folder.join("curve.csv"), csv.as_bytes())?;
    write_atomically(&folder.join("curve.svg"), picture(points, metric)?.as_bytes())
}

/// Greys and colours of middle lightness: legible on a light and on a dark page alike, so the
/// picture needs no background of its own.
const TEXT: RGBColor = RGBColor(125, 133, 144);
const LOSS: RGBColor = RGBColor(47, 129, 247);
const VALIDATION: RGBColor = RGBColor(219, 109, 40);
const SIZE: (u32, u32) = (860, 620);

fn picture(points: &[CurvePoint], metric: &str) -> Result<String> {
    let loss: Vec<_> = points.iter().map(|point| (point.step as f64, point.loss)).collect();
    let validation: Vec<_> =
        points.iter().filter_map(|point| Some((point.step as f64, point.validation?))).collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (upper, lower) = area.split_vertically(SIZE.1 / 2);
        let steps = points.last().map_or(1.0, |point| point.step.max(1) as f64);
        panel(&upper, "training loss", LOSS, &loss, steps)
            .and_then(|()| {
                panel(&lower, &format!("validation {metric}"), VALIDATION, &validation, steps)
            })
            .and_then(|()| area.present().map_err(|e| e.to_string()))
            .map_err(|e| Error::Internal(format!("curve.svg: {e}")))?;
    }
    Ok(svg)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    colour: RGBColor,
    points: &[(f64, f64)],
    steps: f64,
) -> Result<(), String> {
    let (low, high) = points
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p.1), high.max(p.1)));
    let (low, high) = if points.is_empty() { (0.0, 1.0) } else { (low, high) };
    let margin = ((high - low) * 0.05).max(high.abs().max(1e-6) * 0.01);
    let font = |size| ("sans-serif", size).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(area)
        .caption(title, font(18))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..steps, low - margin..high + margin)
        .map_err(|e| e.to_string())?;
    chart
        .configure_mesh()
        .x_desc("step")
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .label_style(font(14))
        .axis_desc_style(font(14))
        .axis_style(TEXT)
        .bold_line_style(TEXT.mix(0.25))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(|e| e.to_string())?;
    let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
    chart.draw_series(line).map_err(|e| e.to_string())?;
    // A single validation is a point, which a line does not show.
    let dots =
        points.iter().filter(|_| points.len() < 60).map(|&p| Circle::new(p, 3, colour.filled()));
    chart.draw_series(dots).map_err(|e| e.to_string())?;
    Ok(())
}
