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
    pub fn parse(file: &str, text: &str, read: impl Fn(&str) -> Result<String>) -> Result<Self> {
        let mut pooling = Self::default();
        for (index, (kind, path)) in modules(file, text)?.iter().enumerate() {
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if index == 0 => {}
                "Pooling" => {
                    check_base_name(file, &format!("{index}.path"), path)?;
                    pooling.mode = mode(&format!("{path}/config.json"), &read(path)?)?;
                }
                "Normalize" => pooling.normalize = true,
                _ => {
                    return Err(Error::Unsupported {
                        file: file.to_owned(),
                        field: format!("{index}.type"),
                        found: kind.clone(),
                        supported: "Transformer, Pooling, Normalize".into(),
                    });
                }
            }
        }
        Ok(pooling)
    }

    /// The base names of the folders in which modules of `modules.json` keep files.
    ///
    /// # Errors
    /// A file that is no list of modules; a path that could leave the model's folder.
    pub fn folders(file: &str, text: &str) -> Result<Vec<String>> {
        let paths = modules(file, text)?.into_iter().map(|(_, path)| path);
        let paths: Vec<String> = paths.filter(|path| !path.is_empty()).collect();
        paths.iter().try_for_each(|path| check_base_name(file, "path", path))?;
        Ok(paths)
    }
}

/// Type and path of each module.
fn modules(file: &str, text: &str) -> Result<Vec<(String, String)>> {
    if text.len() > MAX_CONFIG_BYTES {
        let (limit, found) = (MAX_CONFIG_BYTES as u64, text.len() as u64);
        return Err(Error::Limit { what: format!("{file}: bytes"), limit, found });
    }
    let modules: Vec<Value> = serde_json::from_str(text)
        .map_err(|e| Error::file(file, "content", "a JSON list of modules", e))?;
    let field = |index: usize, module: &Value, name: &str| {
        let found = module.get(name).and_then(Value::as_str).map(str::to_owned);
        found.ok_or_else(|| Error::file(file, format!("{index}.{name}"), "a text", "none"))
    };
    let module = |(index, module): (usize, &Value)| {
        Ok((field(index, module, "type")?, field(index, module, "path")?))
    };
    modules.iter().enumerate().map(module).collect()
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
