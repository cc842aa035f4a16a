//! What an MLLM-SRec recommender is told besides its weights.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::prompt::ChainOptions;
use crate::session::{Sampler, Sampling};

/// Candidates of one pass at most: each stands in it with its whole text.
const MAX_CANDIDATES: usize = 1024;

/// How requests become prompts: one JSON file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MllmSrecConfig {
    /// Windows, lengths, what is said of an item.
    pub prompt: ChainOptions,
    /// Behaviours that tell what a user likes: the history is what these were done to. Empty for all;
    /// an interaction without behaviour always counts.
    pub behaviours: Vec<String>,
    /// Candidates of the retriever that the language model is asked about.
    pub max_candidates: usize,
    /// Of these, places that are kept for items the retriever has no row for, the newest first.
    pub cold_candidates: usize,
    /// Write summaries that nobody has written yet. Without it those that came with the bundle must do,
    /// and what stands behind them is told as it is.
    pub generate: bool,
    /// Summaries that are kept, besides those that came with the bundle.
    pub max_summaries: usize,
    /// 0 for the likeliest tokens of a summary; above it they are drawn.
    pub temperature: f32,
    /// Draws are from the fewest tokens that reach this probability.
    pub top_p: f32,
    /// Of the draws, with the window that is summarised.
    pub seed: u64,
}

impl Default for MllmSrecConfig {
    fn default() -> Self {
        Self {
            prompt: ChainOptions::default(),
            behaviours: Vec::new(),
            max_candidates: 20,
            cold_candidates: 0,
            generate: true,
            max_summaries: 4096,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

impl MllmSrecConfig {
    /// Reads a configuration; `file` names it in errors.
    ///
    /// # Errors
    /// Text that is not one, an unknown field, whatever [`MllmSrecConfig::check`] refuses.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)
            .map_err(|error| Error::file(file, "JSON", "the configuration of mllm_srec", error))?;
        config.check(file)?;
        Ok(config)
    }

    /// The file that [`MllmSrecConfig::parse`] reads.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|e| Error::Internal(format!("mllm_srec: {e}")))? + "\n")
    }

    /// # Errors
    /// Numbers that contradict each other; `file` names them in errors.
    pub fn check(&self, file: &str) -> Result<()> {
        self.prompt.check(file)?;
        let most = self.max_candidates;
        if !(1..=MAX_CANDIDATES).contains(&most) {
            let expected = format!("1 to {MAX_CANDIDATES}");
            return Err(Error::file(file, "max_candidates", expected, most));
        }
        if self.cold_candidates > most {
            let expected = format!("at most max_candidates, {most}");
            return Err(Error::file(file, "cold_candidates", expected, self.cold_candidates));
        }
        Sampler::new(self.sampling(0)).map(drop)
    }

    /// How the summary of the window `key` is written: the same one whatever was written before.
    pub(super) fn sampling(&self, key: u64) -> Sampling {
        let Self { temperature, top_p, seed, .. } = *self;
        match temperature {
            0.0 => Sampling::Greedy,
            _ => Sampling::Random { temperature, top_k: 0, top_p, seed: seed ^ key },
        }
    }
}
