//! What an MLLM4Rec recommender is told besides its weights.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::prompt::LetterOptions;

/// How requests become prompts: one JSON file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mllm4RecConfig {
    /// Role, lengths, labels.
    pub prompt: LetterOptions,
    /// Places of a prompt's candidates that are kept for items the retriever has no row for, the newest
    /// first.
    pub cold_candidates: usize,
}

impl Mllm4RecConfig {
    /// Reads a configuration; `file` names it in errors.
    ///
    /// # Errors
    /// Text that is not one, an unknown field, whatever [`Mllm4RecConfig::check`] refuses.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)
            .map_err(|error| Error::file(file, "JSON", "the configuration of mllm4rec", error))?;
        config.check(file)?;
        Ok(config)
    }

    /// The file that [`Mllm4RecConfig::parse`] reads.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|e| Error::Internal(format!("mllm4rec: {e}")))? + "\n")
    }

    /// # Errors
    /// Numbers that contradict each other; `file` names them in errors.
    pub fn check(&self, file: &str) -> Result<()> {
        self.prompt.check(file)?;
        let most = self.prompt.max_candidates;
        if self.cold_candidates > most {
            let expected = format!("at most max_candidates, {most}");
            return Err(Error::file(file, "cold_candidates", expected, self.cold_candidates));
        }
        Ok(())
    }
}
