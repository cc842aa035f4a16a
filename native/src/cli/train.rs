//! `train`: a configuration becomes weights, a curve and a bundle.

use std::collections::BTreeMap;

use serde_json::json;
use tributary_core::Result;
use tributary_core::recommend::Recommender;

use super::Report;
use super::arguments::TrainArguments;
use crate::bundle::{self, BundleText, write_bundle};
use crate::device::Device;
use crate::recommender::{AnyRecommender, with_recommender};
use crate::train::clip::{ClipReport, ClipTrainConfig};
use crate::train::{self, AnyConfig, FitOptions, Stopped, TrainReport};

/// Every step of a training takes and frees the same large buffers. glibc gives them back to the
/// system each time and gets them again page by page, which is a third of the time; here they stay
/// with the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a setting of the C library's allocator")]
fn keep_memory() {
    const MIB: i32 = 1 << 20;
    let settings = [
        (libc::M_TRIM_THRESHOLD, 1024 * MIB),
        (libc::M_TOP_PAD, 64 * MIB),
        (libc::M_MMAP_THRESHOLD, 32 * MIB), // the most it accepts
    ];
    for (parameter, value) in settings {
        // SAFETY: `mallopt` takes two numbers and may be called at any time; what it refuses stays
        // as it was.
        unsafe { libc::mallopt(parameter, value) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}

pub(super) fn train(arguments: &TrainArguments) -> Result<Report> {
    keep_memory();
    let config = AnyConfig::read_with(&arguments.config, &arguments.set)?;
    let options =
        FitOptions { out: arguments.out.clone(), resume: arguments.resume, max_steps: None };
    if let AnyConfig::Clip(config) = &config {
        return clip(config, &options);
    }
    let report = config.run(&options, &mut train::bar(false))?;
    let how = match report.stopped {
        Stopped::Finished => "finished",
        Stopped::Early => "stopped early: validation no longer improved",
        Stopped::Paused => "paused",
    };
    bundle(arguments, &config, &report)?;
    let best = report.best.as_ref();
    let json = json!({
        "stopped": how,
        "steps": report.steps,
        "total_steps": report.total_steps,
        "best": best.map(|best| json!({"step": best.step, "validation": best.metric})),
        "loss": report.loss,
        "rows_per_second": report.rows_per_second,
        "weights": report.weights.display().to_string(),
    });
    let mut text = format!("{how} after {} of {} steps\n", report.steps, report.total_steps);
    if let Some(best) = best {
        text += &format!("best validation {:.4} at step {}\n", best.metric, best.step);
    }
    text += &format!(
        "{:.0} items/s; {} is a bundle now, with curve.svg beside it\n",
        report.rows_per_second,
        arguments.out.display()
    );
    Ok(Report { json, text })
}

fn clip(config: &ClipTrainConfig, options: &FitOptions) -> Result<Report> {
    let report = train::clip::run(config, options, &mut train::bar(false))?;
    let ClipReport { fit, retrieval, parameters, items, left_out } = &report;
    let json = json!({
        "steps": fit.steps,
        "total_steps": fit.total_steps,
        "best": fit.best.map(|best| json!({"step": best.step, "validation": best.metric})),
        "loss": fit.loss,
        "parameters": parameters,
        "items": items,
        "left_out": left_out,
        "retrieval": retrieval,
        "weights": fit.weights.display().to_string(),
    });
    let mut text = format!(
        "{} of {} steps on {items} items ({left_out} left out), {parameters} parameters\n",
        fit.steps, fit.total_steps,
    );
    for (kind, found) in retrieval {
        text += &format!(
            "zero-shot among {} held-out items by {kind}, recall@1 and recall@5:\n\
             text -> picture {:>8.4} {:>8.4}\npicture -> text {:>8.4} {:>8.4}\n",
            found.items,
            found.text_to_image_recall_1,
            found.text_to_image_recall_5,
            found.image_to_text_recall_1,
            found.image_to_text_recall_5,
        );
    }
    text += &format!("{} is an encoder now, with curve.svg beside it\n", options.out.display());
    Ok(Report { json, text })
}

/// Makes the output folder a bundle, so that `recommend` and `evaluate` take it at once.
fn bundle(arguments: &TrainArguments, config: &AnyConfig, report: &TrainReport) -> Result<()> {
    let model = bundle::from_model(&arguments.out)?;
    let recommender = AnyRecommender::load(&model, Device::Cpu)?;
    let name = with_recommender!(&recommender, recommender => recommender.name().to_string());
    let mut quality = BTreeMap::new();
    if let Some(best) = &report.best {
        quality.insert(format!("validation {}", config.training().metric), json!(best.metric));
    }
    let text = BundleText {
        recommender: name,
        licence: config.licence().unwrap_or("not stated").into(),
        provenance: format!(
            "tributary {} train, seed {}, {} steps",
            env!("CARGO_PKG_VERSION"),
            config.training().seed,
            report.steps
        ),
        quality,
    };
    write_bundle(&arguments.out, &arguments.out, recommender.catalogue(), text).map(|_| ())
}
