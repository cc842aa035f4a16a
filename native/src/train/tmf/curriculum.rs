//! Which task a step learns from: Eqs. 12 to 14.

use serde::{Deserialize, Serialize};
use tributary_core::prompt::Level;
use tributary_core::random::Random;
use tributary_core::{Error, Result};

/// `[curriculum]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CurriculumConfig {
    /// T1 / T: the share of all steps after which the hard task begins.
    pub hard_from: f64,
    /// The last share of all steps, all of the hardest task. The paper's ramp reaches it only at the
    /// very end.
    pub hardest_only: f64,
}

impl Default for CurriculumConfig {
    fn default() -> Self {
        Self { hard_from: 0.2, hardest_only: 0.0 }
    }
}

impl CurriculumConfig {
    pub(super) fn check(&self) -> Result<()> {
        for (field, share) in [
            ("curriculum.hard_from", self.hard_from),
            ("curriculum.hardest_only", self.hardest_only),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::file("configuration", field, "from 0 to 1", share));
            }
        }
        Ok(())
    }

    /// The task of `step` of `total` when `hardest` is the hardest there is. A text-only model has
    /// one task; without items the ramp of Eq. 12 goes on to the end.
    pub(super) fn level(
        &self,
        hardest: Level,
        step: u64,
        total: u64,
        random: &mut Random,
    ) -> Level {
        let (tau, t) = (step as f64, total.max(1) as f64);
        if tau >= t * (1.0 - self.hardest_only) {
            return hardest;
        }
        let t = t * (1.0 - self.hardest_only);
        let draw = random.unit();
        let t1 = match hardest {
            Level::Text => return Level::Text,
            Level::Behaviour => t,
            Level::Item => t * self.hard_from,
        };
        if tau < t1 {
            // Eq. 12
            if draw <= tau / t { Level::Behaviour } else { Level::Text }
        } else {
            // Eq. 13
            if draw <= (tau - t1) / (t - t1) { Level::Item } else { Level::Behaviour }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(config: CurriculumConfig, step: u64, level: Level) -> f64 {
        let draws = (0..4000).map(|seed| {
            config.level(Level::Item, step, 1000, &mut Random::stream(7, seed)) == level
        });
        draws.filter(|&hit| hit).count() as f64 / 4000.0
    }

    #[test]
    fn tasks_follow_equations_12_and_13() {
        let config = CurriculumConfig { hard_from: 0.4, hardest_only: 0.0 };
        assert_eq!(share(config, 0, Level::Text), 1.0);
        assert!((share(config, 300, Level::Behaviour) - 0.3).abs() < 0.03);
        assert!((share(config, 700, Level::Item) - 0.5).abs() < 0.03);
        assert!((share(config, 700, Level::Text)).abs() < 1e-9);
    }

    #[test]
    fn the_last_share_is_of_the_hardest_task() {
        let config = CurriculumConfig { hard_from: 0.2, hardest_only: 0.25 };
        assert_eq!(share(config, 750, Level::Item), 1.0);
        assert!(share(config, 740, Level::Item) < 1.0);
    }
}
