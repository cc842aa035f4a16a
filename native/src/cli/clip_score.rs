//! `clip-score`: whether texts say what their pictures show.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tributary_core::recommend::{Catalogue, CatalogueItem, ItemId};
use tributary_core::{Error, Result};

use super::{Report, progress_bar};
use crate::caption::{Captions, MAX_CAPTIONS_BYTES};
use crate::clip_score::clip_score;
use crate::data::CATALOGUE_FILE;
use crate::device::Device;
use crate::encode::Inputs;
use crate::encoder::{AnyEncoder, Modality};
use crate::{files, with_encoder};

/// Arguments of `clip-score`.
#[derive(Args, Debug)]
pub struct ClipScoreArguments {
    /// A folder of CLIP.
    #[arg(long)]
    pub model: PathBuf,
    /// A prepared folder, whose items' pictures are looked at; or, with --captions, a folder of
    /// pictures.
    #[arg(long)]
    pub data: PathBuf,
    /// Captions as `caption` writes them.
    #[arg(long, conflicts_with = "catalogue")]
    pub captions: Option<PathBuf>,
    /// A catalogue with the texts, such as a bundle's; the data's own without it.
    #[arg(long)]
    pub catalogue: Option<PathBuf>,
    /// Which text of a catalogue's items.
    #[arg(long, value_enum, default_value = "caption")]
    pub field: Field,
    /// Draws the other items' texts.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A text of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Field {
    /// What its picture shows.
    Caption,
    /// Text and picture in one.
    Summary,
    /// Title and description, which nobody made of the picture.
    Text,
}

impl Field {
    fn of(self, item: &CatalogueItem) -> Option<String> {
        match self {
            Self::Caption => item.caption.clone(),
            Self::Summary => item.summary.clone(),
            Self::Text => item.text(),
        }
    }
}

pub(super) fn run(arguments: &ClipScoreArguments, device: Device) -> Result<Report> {
    let prepared = arguments.data.join(CATALOGUE_FILE);
    let inputs = match prepared.is_file() {
        true => Inputs::of_catalogue(&arguments.data, Modality::Image)?,
        false => Inputs::of_folder(&arguments.data)?,
    };
    let captions = arguments.captions.as_deref().map(Captions::read).transpose()?;
    let catalogue = match &captions {
        Some(_) => Catalogue::default(),
        None => {
            let path = arguments.catalogue.as_ref().unwrap_or(&prepared);
            let text = files::read_text(path, CATALOGUE_FILE, MAX_CAPTIONS_BYTES)?;
            Catalogue::from_jsonl(CATALOGUE_FILE, text.as_bytes())?
        }
    };
    let text = |name: &str| match &captions {
        Some(captions) => captions.by_id.get(name).cloned(),
        None => {
            let index = catalogue.index_of(&ItemId::from(name))?;
            arguments.field.of(catalogue.get(index)?)
        }
    };
    let encoder = AnyEncoder::open(&arguments.model, device)?;
    let bar = progress_bar(inputs.len() as u64, "pictures");
    let score = with_encoder!(&encoder, e => {
        clip_score(e, &inputs, text, arguments.seed, |done| bar.set_position(done as u64))?
    });
    bar.finish_and_clear();
    let mut json =
        serde_json::to_value(&score).map_err(|e| Error::Internal(format!("clip-score: {e}")))?;
    json["failed"] = score
        .failures
        .iter()
        .map(|failure| json!({"name": failure.name, "error": failure.error}))
        .collect();
    let mut said = format!(
        "{} pictures with a text, {} without\n{:<24}{:>12}{:>16}\n",
        score.items, score.absent, "", "own text", "others' texts"
    );
    for (name, own, others) in [
        ("cosine", score.cosine, score.shuffled_cosine),
        ("clip_score", score.clip_score, score.shuffled_clip_score),
    ] {
        said += &format!("{name:<24}{own:>12.4}{others:>16.4}\n");
    }
    let [margin, error] = score.margin;
    said += &format!(
        "margin {margin:.4} (standard error {error:.4}); the own text fits better than {:.1} % of others\n",
        100.0 * score.own_is_better
    );
    for failure in &score.failures {
        said += &format!("skipped {}: {}\n", failure.name, failure.error);
    }
    Ok(Report { json, text: said })
}
