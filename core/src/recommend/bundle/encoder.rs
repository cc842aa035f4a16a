//! The encoder of a bundle: what embeds the picture and the text of an item that comes at run time.

use super::{Bundle, ENCODER_FILES};
use crate::backend::Backend;
use crate::encoder::{Encoder, EncoderFiles};
use crate::error::{Error, Result};
use crate::weights::Checkpoint;

impl Bundle {
    /// The encoder that made the bundle's tables, `None` where it came without.
    ///
    /// # Errors
    /// A component that is missing, or that is not an encoder's.
    pub fn encoder<B: Backend>(&self, backend: &B) -> Result<Option<Encoder<B>>> {
        if !self.has("encoder_config") {
            return Ok(None);
        }
        let (name, config) = self.text("encoder_config")?;
        let files = Files {
            config,
            checkpoint: self.checkpoint("encoder")?,
            tokenizer: self.optional_text("encoder_tokenizer")?,
            preprocessor: self.optional_text("encoder_preprocessor")?,
        };
        let encoder = Encoder::load(backend.clone(), Box::new(files), name.into());
        encoder.map(Some).map_err(renamed)
    }

    fn optional_text(&self, component: &str) -> Result<Option<String>> {
        match self.has(component) {
            true => self.text(component).map(|(_, text)| Some(text)),
            false => Ok(None),
        }
    }
}

/// Names the bundle's file where an error names the one of an encoder's folder.
fn renamed(mut error: Error) -> Error {
    let [config, _, tokenizer, preprocessor] = ENCODER_FILES;
    if let Error::File { file, .. } | Error::Unsupported { file, .. } = &mut error {
        let name = match file.as_str() {
            "config.json" => config,
            "tokenizer.json" => tokenizer,
            "preprocessor_config.json" => preprocessor,
            _ => return error,
        };
        *file = name.into();
    }
    error
}

/// The files of [`ENCODER_FILES`] under the names that an encoder's folder has for them.
#[derive(Debug)]
struct Files {
    config: String,
    checkpoint: Checkpoint,
    tokenizer: Option<String>,
    preprocessor: Option<String>,
}

impl EncoderFiles for Files {
    fn config(&self) -> &str {
        &self.config
    }

    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn text(&self, name: &str, max_bytes: usize) -> Result<Option<String>> {
        let [_, _, tokenizer, preprocessor] = ENCODER_FILES;
        let (file, text) = match name {
            "tokenizer.json" => (tokenizer, &self.tokenizer),
            "preprocessor_config.json" => (preprocessor, &self.preprocessor),
            _ => return Ok(None),
        };
        match text.as_ref().map(String::len) {
            Some(found) if found > max_bytes => {
                let (limit, found) = (max_bytes as u64, found as u64);
                Err(Error::Limit { what: format!("{file}: bytes"), limit, found })
            }
            _ => Ok(text.clone()),
        }
    }

    fn inner_text(&self, _: &str, _: &str, _: usize) -> Result<Option<String>> {
        Ok(None)
    }
}
