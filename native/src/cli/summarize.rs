//! `summarize`: the steps of MLLM-SRec's chain that need not wait for a request: what the model says of
//! items, and of users' windows, goes into the bundle, so that the last step is all that is left.

use std::path::PathBuf;

use clap::Args;
use pollster::block_on;
use serde_json::json;
use tributary_core::backend::Backend;
use tributary_core::recommend::{
    BundleManifest, Catalogue, Kind, MllmSrecRecommender, Recommender, SUMMARIES, Scorer, Usage,
};
use tributary_core::{Error, Result};

use super::{Report, progress_bar};
use crate::bundle::{self, BundleText, write_bundle};
use crate::data::Dataset;
use crate::device::Device;
use crate::recommender::{AnyRecommender, with_recommender};

/// Arguments of `summarize`.
#[derive(Args, Debug)]
pub struct SummarizeArguments {
    /// A bundle of MLLM-SRec; it is changed in its place.
    #[arg(long)]
    pub bundle: PathBuf,
    /// Interactions of the users whose windows are summarised.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Only the first users.
    #[arg(long)]
    pub users: Option<usize>,
    /// Also every item without a summary, by its text and its caption; with --again every item.
    #[arg(long)]
    pub items: bool,
    /// Write summaries of items again that are there.
    #[arg(long, requires = "items")]
    pub again: bool,
}

/// What was written.
struct Done {
    catalogue: Catalogue,
    summaries: String,
    users: usize,
    windows: usize,
    items: usize,
    usage: Usage,
}

pub(super) fn run(arguments: &SummarizeArguments, device: Device) -> Result<Report> {
    let bundle = bundle::read(&arguments.bundle)?;
    let manifest = bundle.manifest.clone();
    let data = arguments.data.as_deref().map(Dataset::read).transpose()?;
    let recommender = AnyRecommender::load(&bundle, device)?;
    let done = with_recommender!(&recommender, kind => match kind {
        Kind::MllmSrec(chain) => summarise(chain, data.as_ref(), arguments)?,
        other => return Err(Error::argument("summarize", "bundle", "mllm_srec", other.name())),
    });
    let path = arguments.bundle.join(SUMMARIES);
    std::fs::write(&path, &done.summaries).map_err(|e| Error::io(path.display(), e))?;
    let BundleManifest { recommender, licence, provenance, quality, .. } = manifest;
    let text = BundleText { recommender, licence, provenance, quality };
    write_bundle(&arguments.bundle, &arguments.bundle, &done.catalogue, text)?;
    let Done { users, windows, items, usage, .. } = &done;
    let json = json!({
        "users": users,
        "windows": windows,
        "items": items,
        "usage": serde_json::to_value(usage).map_err(|e| Error::Internal(e.to_string()))?,
        "summaries": path.display().to_string(),
    });
    let text = format!(
        "{windows} windows of {users} users and {items} items summarised: {} tokens written behind {} \
         of prompts, {} of them cached; in {}\n",
        usage.generated_tokens,
        usage.prompt_tokens,
        usage.cached_tokens,
        path.display()
    );
    Ok(Report { json, text })
}

fn summarise<B: Backend, R: Scorer>(
    chain: &MllmSrecRecommender<B, R>,
    data: Option<&Dataset>,
    arguments: &SummarizeArguments,
) -> Result<Done> {
    let mut items = chain.catalogue().items().to_vec();
    let (mut usage, mut written) = (Usage::default(), 0);
    if arguments.items {
        let bar = progress_bar(items.len() as u64, "items");
        for (index, item) in (0..).zip(&mut items) {
            bar.inc(1);
            if item.summary.is_none() || arguments.again {
                item.summary = Some(block_on(chain.summarise_item(index, &mut usage))?);
                written += 1;
            }
        }
        bar.finish_and_clear();
    }
    let (mut users, mut windows) = (0, 0);
    if let Some(data) = data {
        let known = data.catalogue.items().iter().map(|item| chain.catalogue().index_of(&item.id));
        let known: Vec<_> = known.collect();
        let most = arguments.users.unwrap_or(usize::MAX);
        let bar = progress_bar(data.users.len().min(most) as u64, "users");
        for user in data.users.iter().take(most) {
            bar.inc(1);
            let behaviours = user.behaviours.iter();
            let behaviours = behaviours.map(|&b| data.behaviours.get(usize::from(b)));
            let behaviours =
                behaviours.map(|b| b.map(String::as_str)).chain(std::iter::repeat(None));
            let events = user.items.iter().zip(behaviours).filter_map(|(&item, behaviour)| {
                Some((known.get(item as usize).copied().flatten()?, behaviour))
            });
            let history = chain.liked(events);
            windows += block_on(chain.summarise(&history, &mut usage))?.written;
            users += 1;
        }
        bar.finish_and_clear();
    }
    let (catalogue, summaries) = (Catalogue::new(items)?, chain.summaries()?);
    Ok(Done { catalogue, summaries, users, windows, items: written, usage })
}
