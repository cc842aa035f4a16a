//! How a sentence-transformers folder makes one vector of a text: `modules.json`, and the pooling
//! module's own `config.json`.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::weights::{ConfigReader, MAX_CONFIG_BYTES, check_base_name};

/// What stands for a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolingMode {
    /// The row of its first token.
    Cls,
    /// The mean of all rows.
    #[default]
    Mean,
}

/// The modules behind the transformer. The default is the mean, for folders that say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentencePooling {
    /// Of the pooling module.
    pub mode: PoolingMode,
    /// A module scales every vector to length 1.
    pub normalize: bool,
}

impl SentencePooling {
    /// Reads `modules.json`. `read` gives the text of `config.json` in a folder of the model, by the
    /// folder's base name.
    ///
    /// # Errors
    /// A module that is neither transformer, pooling nor normalisation; a pooling that is neither
    /// the mean nor the first token.
    pub fn parse(
        file: &str,
        text: &str,
        read: impl Fn(&str) -> Result<String>,
    ) -> Result<Self> {
        if text.len() > MAX_CONFIG_BYTES {
            let (limit, found) = (MAX_CONFIG_BYTES as u64, text.len() as u64);
            return Err(Error::Limit { what: format!("{file}: bytes"), limit, found });
        }
        let modules: Value = serde_json::from_str(text)
            .map_err(|e| Error::file(file, "content", "a JSON list of modules", e))?;
        let Value::Array(modules) = modules else {
            return Err(Error::file(file, "content", "a JSON list of modules", "another value"));
        };
        let mut pooling = Self::default();
        for (index, module) in modules.iter().enumerate() {
            let field = |name: &str| {
                let found = module.get(name).and_then(Value::as_str);
                found.ok_or_else(|| Error::file(file, format!("{index}.{name}"), "a text", "none"))
            };
            let kind = field("type")?;
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if index == 0 => {}
                "Pooling" => {
                    let folder = field("path")?;
                    check_base_name(file, &format!("{index}.path"), folder)?;
                    pooling.mode = mode(&format!("{folder}/config.json"), &read(folder)?)?;
                }
                "Normalize" => pooling.normalize = true,
                _ => {
                    return Err(Error::Unsupported {
                        file: file.to_owned(),
                        field: format!("{index}.type"),
                        found: kind.to_owned(),
                        supported: "Transformer, Pooling, Normalize".into(),
                    });
                }
            }
        }
        Ok(pooling)
    }
}

/// The one mode that a pooling module's `config.json` asks for: by name in newer files, one of
/// several flags in older ones.
fn mode(file: &str, text: &str) -> Result<PoolingMode> {
    const SUPPORTED: &str = "pooling_mode_cls_token or pooling_mode_mean_tokens alone";
    let config = ConfigReader::new(file, text)?;
    if config.has("pooling_mode") {
        return match config.str("pooling_mode")? {
            "cls" => Ok(PoolingMode::Cls),
            "mean" => Ok(PoolingMode::Mean),
            _ => Err(config.unsupported("pooling_mode", "cls, mean")),
        };
    }
    let asked: Vec<&str> = config
        .names()
        .filter(|name| name.starts_with("pooling_mode_"))
        .filter(|name| config.bool_or(name, false).unwrap_or(true))
        .collect();
    match asked[..] {
        ["pooling_mode_cls_token"] => Ok(PoolingMode::Cls),
        ["pooling_mode_mean_tokens"] => Ok(PoolingMode::Mean),
        [] => Err(Error::file(file, "pooling_mode", SUPPORTED, "none")),
        [first, ..] => Err(config.unsupported(first, SUPPORTED)),
    }
}
