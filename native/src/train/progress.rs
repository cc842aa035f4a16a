//! What a run tells while it runs, and the bar that shows it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::curve::CurvePoint;

/// What happened, told while a run runs.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run starts, or continues after `step` steps.
    Started {
        /// Steps already done.
        step: u64,
        /// Steps of the whole run.
        total_steps: u64,
    },
    /// A step is done.
    Step {
        /// Steps done.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Rows with a loss (items, tokens) per second, since this process started training.
        rows_per_second: f64,
    },
    /// The validation metric was measured.
    Validated {
        /// The curve's point.
        point: CurvePoint,
        /// Whether it is the best so far.
        is_best: bool,
    },
    /// The run has ended.
    Finished,
}

/// A sink that shows a bar with loss, speed and remaining time on stderr when that is a terminal, or
/// `always`; elsewhere, a line for each validation.
#[expect(clippy::print_stderr, reason = "where no bar can be drawn, lines are what a log wants")]
pub fn bar(always: bool) -> impl FnMut(&Event) {
    let visible = always || std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    let template = "{bar:30} {pos}/{len} steps, {eta} left, {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let mut validation = String::new();
    let mut total = 0;
    move |event| match event {
        Event::Started { step, total_steps } => {
            total = *total_steps;
            bar.set_length(total);
            bar.set_position(*step);
            // Remaining time comes from this process's steps alone.
            bar.reset_eta();
        }
        Event::Step { step, loss, rows_per_second } => {
            bar.set_position(*step);
            bar.set_message(format!("loss {loss:.4}, {rows_per_second:.0} items/s{validation}"));
        }
        Event::Validated { point, is_best } => {
            let star = if *is_best { " (best)" } else { "" };
            let value = point.validation.unwrap_or(f64::NAN);
            validation = format!(", validation {value:.4}{star}");
            if !visible {
                // A log shows no bar; without a line per validation a long run would say nothing.
                let (step, loss) = (point.step, point.loss);
                eprintln!("step {step} of {total}: loss {loss:.4}{validation}");
            }
        }
        Event::Finished => bar.abandon(),
    }
}
