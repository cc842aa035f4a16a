//! What a TMF recommender is told besides its weights.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::prompt::{Level, PromptOptions};
use crate::session::Likelihood;

/// How requests become prompts and prompts become answers: one JSON file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmfConfig {
    /// Kinds of interactions, in the order of the behaviour table.
    pub behaviours: Vec<String>,
    /// The behaviour that is predicted when a request names none.
    pub target_behaviour: String,
    /// What an interaction of unknown kind counts as; the first of `behaviours` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_behaviour: Option<String>,
    /// What stands behind the names.
    #[serde(default)]
    pub level: Level,
    /// How long prompts and titles may be.
    #[serde(default)]
    pub prompt: PromptOptions,
    /// What candidates are ranked by.
    #[serde(default)]
    pub likelihood: Likelihood,
    /// Most candidates of one prompt; more are first cut down by the retriever.
    #[serde(default = "max_candidates")]
    pub max_candidates: usize,
    /// Places of these that are kept for items the retriever has no row for, the newest first.
    #[serde(default = "cold_candidates")]
    pub cold_candidates: usize,
    /// Shuffles the candidates of a prompt.
    #[serde(default)]
    pub seed: u64,
}

fn max_candidates() -> usize {
    20
}

fn cold_candidates() -> usize {
    5
}

impl TmfConfig {
    /// Everything by default for these behaviours.
    pub fn new(behaviours: &[&str], target_behaviour: &str) -> Self {
        Self {
            behaviours: behaviours.iter().map(|name| (*name).to_owned()).collect(),
            target_behaviour: target_behaviour.to_owned(),
            default_behaviour: None,
            level: Level::default(),
            prompt: PromptOptions::default(),
            likelihood: Likelihood::default(),
            max_candidates: max_candidates(),
            cold_candidates: cold_candidates(),
            seed: 0,
        }
    }

    /// Reads a configuration; `file` names it in errors.
    ///
    /// # Errors
    /// Text that is not one, an unknown field, whatever [`TmfConfig::check`] refuses.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)
            .map_err(|error| Error::file(file, "JSON", "the configuration of tmf", error))?;
        config.check(file)?;
        Ok(config)
    }

    /// # Errors
    /// No behaviours, one named twice or not at all, a target or default that is none of them,
    /// numbers of candidates that contradict each other.
    pub fn check(&self, file: &str) -> Result<()> {
        let names = || self.behaviours.join(", ");
        if self.behaviours.is_empty() {
            return Err(Error::file(file, "behaviours", "at least one", "none"));
        }
        for (place, name) in self.behaviours.iter().enumerate() {
            if name.is_empty() || self.behaviours[..place].contains(name) {
                return Err(Error::file(file, "behaviours", "different names", names()));
            }
        }
        let default = self.default_behaviour.iter().map(|name| ("default_behaviour", name));
        for (field, name) in default.chain([("target_behaviour", &self.target_behaviour)]) {
            if !self.behaviours.contains(name) {
                return Err(Error::file(file, field, format!("one of {}", names()), name));
            }
        }
        if self.max_candidates == 0 {
            return Err(Error::file(file, "max_candidates", "at least 1", 0));
        }
        if self.cold_candidates > self.max_candidates {
            let expected = format!("at most max_candidates, {}", self.max_candidates);
            return Err(Error::file(file, "cold_candidates", expected, self.cold_candidates));
        }
        Ok(())
    }

    /// The place of a behaviour, `default` without a name.
    pub(super) fn behaviour(
        &self,
        field: &'static str,
        name: Option<&String>,
        default: &str,
    ) -> Result<u32> {
        let name = name.map_or(default, String::as_str);
        let place = self.behaviours.iter().position(|known| known == name);
        place.map(|place| place as u32).ok_or_else(|| {
            let expected = format!("one of {}", self.behaviours.join(", "));
            Error::argument("recommend", field, expected, format!("`{name}`"))
        })
    }
}
