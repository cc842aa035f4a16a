//! The learning rate over the steps of a run.

use serde::{Deserialize, Serialize};

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// The learning rate stays.
    #[default]
    Constant,
    /// Half a cosine, from the learning rate to `min_learning_rate` at the last step.
    Cosine,
}

/// `[schedule]`: linear warm-up, then [`Decay`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// What follows the warm-up.
    pub decay: Decay,
    /// Steps until the learning rate is reached, from learning_rate / warmup_steps.
    pub warmup_steps: u64,
    /// Where the cosine ends.
    pub min_learning_rate: f64,
}

impl Schedule {
    /// The learning rate of `step` (from 0) of `total_steps`, where `peak` is the optimizer's.
    pub fn learning_rate(&self, peak: f64, step: u64, total_steps: u64) -> f64 {
        if step < self.warmup_steps {
            return peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.decay {
            Decay::Constant => peak,
            Decay::Cosine => {
                // The step after the warm-up has the peak, the last one the minimum.
                let length = total_steps.saturating_sub(self.warmup_steps + 1).max(1);
                let done = ((step - self.warmup_steps) as f64 / length as f64).min(1.0);
                let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                self.min_learning_rate + (peak - self.min_learning_rate) * share
            }
        }
    }
}
