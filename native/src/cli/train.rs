//! `train`: a configuration becomes weights, a curve and a bundle.

use serde_json::json;
use tributary_core::Result;

use super::Report;
use super::arguments::TrainArguments;
use crate::train::{self, FitOptions, Stopped, TrainConfig};

pub(super) fn train(arguments: &TrainArguments) -> Result<Report> {
    let config = TrainConfig::read(&arguments.config)?;
    let options =
        FitOptions { out: arguments.out.clone(), resume: arguments.resume, max_steps: None };
    let report = train::run(&config, &options, &mut train::bar(false))?;
    let how = match report.stopped {
        Stopped::Finished => "finished",
        Stopped::Early => "stopped early: validation no longer improved",
        Stopped::Paused => "paused",
    };
    let best = report.best.as_ref();
    let json = json!({
        "stopped": how,
        "steps": report.steps,
        "total_steps": report.total_steps,
        "best": best.map(|best| json!({"step": best.step, "validation": best.validation})),
        "loss": report.loss,
        "rows_per_second": report.rows_per_second,
        "weights": report.weights.display().to_string(),
    });
    let mut text = format!("{how} after {} of {} steps\n", report.steps, report.total_steps);
    if let Some(best) = best {
        text += &format!("best validation {:.4} at step {}\n", best.validation, best.step);
    }
    text += &format!(
        "{:.0} items/s; weights in {}, curve beside them\n",
        report.rows_per_second,
        report.weights.display()
    );
    Ok(Report { json, text })
}
