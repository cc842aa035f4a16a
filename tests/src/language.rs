//! Committed language-model fixtures: a folder of Hugging Face's form and what its library
//! computes from it, in f64.

use std::path::PathBuf;

use serde_json::json;
use tributary::files::{self, ModelFolder};
use tributary_core::weights::Checkpoint;

use crate::files::fixtures;
use crate::folder::Folder;

/// A fixture's expected values.
pub struct Expected(Checkpoint);

impl Expected {
    /// Of the fixture `name`.
    pub fn open(name: &str) -> Self {
        let path = fixtures().join(name).join("expected.safetensors");
        Self(files::open_checkpoint(&path).expect("committed expected values"))
    }

    /// A list of token ids.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        let bytes = self.0.raw(name).expect("committed ids");
        let ids = bytes.as_chunks::<4>().0.iter();
        ids.map(|id| u32::try_from(i32::from_le_bytes(*id)).expect("an id")).collect()
    }

    /// A tensor.
    pub fn values(&self, name: &str) -> Vec<f64> {
        let values = self.0.values(name).expect("committed values");
        values.into_iter().map(f64::from).collect()
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }
}

/// The folder of the fixture `name`.
pub fn folder(name: &str) -> PathBuf {
    fixtures().join(name)
}

/// The fixture `name`, opened as a user's folder.
pub fn open(name: &str) -> ModelFolder {
    files::open_model(&folder(name)).expect("a committed fixture")
}

/// A copy of a CLIP's fixture with a tokenizer of its own: of the words blue, cup and tea.
pub fn with_tokenizer(name: &str) -> Folder {
    let copy = Folder::new("embed-model");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(folder(name).join(file), copy.path().join(file))
            .expect("a committed fixture");
    }
    // Six letters and the special tokens fit into the fixture's 61 rows.
    let tokenizer = json!({
        "model": {"type": "WordLevel", "unk_token": "?",
                  "vocab": {"?": 1, "blue": 2, "cup": 3, "tea": 4, "<s>": 5, "</s>": 60}},
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]},
                               "</s>": {"id": "</s>", "ids": [60], "tokens": ["</s>"]}},
        },
        "added_tokens": [],
    });
    copy.write("tokenizer.json", tokenizer.to_string());
    copy
}

/// Runs the body on the CPU, on a GPU adapter (a software one is fine; its absence is printed) and
/// on burn, with the backend's name and the backend bound.
#[macro_export]
macro_rules! on_each_backend {
    ($name:ident, $b:ident => $body:expr) => {{
        {
            let ($name, $b) = ("cpu", tributary_core::backend::cpu::Cpu::new());
            $body
        }
        if let Some($b) = $crate::gpu::open(Default::default()) {
            let $name = "gpu";
            $body
        }
        {
            let options = tributary::burn_backend::BurnOptions::default();
            let burn = tributary::burn_backend::Burn::new(
                tributary::burn_backend::BurnDevice::Cpu,
                options,
            );
            let ($name, $b) = ("burn", burn.expect("burn on the CPU"));
            $body
        }
    }};
}
