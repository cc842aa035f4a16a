//! Folders in, folders out: `prepare`, `quantize`, `merge`.

use std::collections::BTreeMap;
use std::path::Path;

use indicatif::ProgressBar;
use serde_json::json;
use tributary_core::dtype::Format;
use tributary_core::models::bert::SentencePooling;
use tributary_core::recommend::{
    ALMOST_REC_WEIGHTS, BUNDLE_FILE, BundleManifest, ENCODER_FILES, FUSION_WEIGHTS, RETRIEVER_FILES,
};
use tributary_core::weights::{
    BUNDLE_SHARD_BYTES, Checkpoint, MAX_CONFIG_BYTES, format_of, merge as merge_weights,
    quantize_checkpoint,
};
use tributary_core::{Error, Result};

use super::arguments::{MergeArguments, PrepareArguments, QuantizeArguments, Source};
use super::{Report, progress_bar};
use crate::bundle::{self, BundleText, files_beside_the_model, write_bundle};
use crate::data::{prepare_movielens, prepare_recbole, prepare_shop, prepare_unsold};
use crate::files::{self, FolderSink, ModelFolder};

/// Users of the synthetic shop, and the seed that draws them.
const SHOP_USERS: (usize, u64) = (2000, 1);

pub(super) fn prepare(arguments: &PrepareArguments) -> Result<Report> {
    let is_read = matches!(arguments.source, Source::Movielens | Source::Recbole);
    let given = [
        ("users", arguments.users.is_some(), arguments.source == Source::Shop),
        ("users-seed", arguments.users_seed.is_some(), arguments.source == Source::Shop),
        ("min-interactions", arguments.min_interactions.is_some(), is_read),
    ];
    if let Some((name, ..)) = given.into_iter().find(|(_, given, fits)| *given && !fits) {
        let expected = "an option of this source";
        return Err(Error::argument("prepare", "option", expected, format!("--{name}")));
    }
    let prepare = match (arguments.source, &arguments.path) {
        (Source::Shop, None) => return prepare_the_shop(arguments),
        (Source::Unsold, None) => return prepare_the_unsold(arguments),
        (Source::Shop | Source::Unsold, Some(path)) => {
            let expected = "none: the shop is made, not read";
            return Err(Error::argument("prepare", "path", expected, path.display()));
        }
        (_, None) => {
            return Err(Error::argument("prepare", "path", "the source's folder", "none"));
        }
        (Source::Movielens, Some(_)) => prepare_movielens,
        (Source::Recbole, Some(_)) => prepare_recbole,
    };
    let source = arguments.path.as_deref().unwrap_or(Path::new("."));
    let data = prepare(source, &arguments.out, arguments.min_interactions)?;
    let json = json!({
        "users": data.users,
        "items": data.items,
        "interactions": data.interactions,
        "left_out": data.left_out,
        "behaviours": data.behaviours,
        "pictures": data.pictures,
        "missing_pictures": data.missing_pictures,
    });
    let text = format!(
        "{} users, {} items, {} interactions ({}; {} left out), {} pictures in {}; {} pictures are \
         missing\n",
        data.users,
        data.items,
        data.interactions,
        data.behaviours.join(", "),
        data.left_out,
        data.pictures,
        arguments.out.display(),
        data.missing_pictures,
    );
    Ok(Report { json, text })
}

fn prepare_the_shop(arguments: &PrepareArguments) -> Result<Report> {
    let users = arguments.users.unwrap_or(SHOP_USERS.0);
    let shop = prepare_shop(&arguments.out, users, arguments.users_seed.unwrap_or(SHOP_USERS.1))?;
    let json = json!({
        "users": shop.users,
        "items": shop.items,
        "interactions": shop.interactions,
        "files": shop.files,
        "pictures": shop.pictures,
        "oracle_hit_rate@1": shop.oracle_hit_rate,
    });
    let text = format!(
        "{} users, {} items, {} interactions, {} pictures in {} ({})\n\
         somebody who knew every taste would find the last purchase among {} in {:.1} %\n",
        shop.users,
        shop.items,
        shop.interactions,
        shop.pictures,
        arguments.out.display(),
        shop.files.join(", "),
        tributary_core::shop::NUM_CANDIDATES,
        100.0 * shop.oracle_hit_rate
    );
    Ok(Report { json, text })
}

fn prepare_the_unsold(arguments: &PrepareArguments) -> Result<Report> {
    let items = prepare_unsold(&arguments.out)?;
    let json = json!({ "items": items, "pictures": items });
    let text = format!("{items} items and their pictures in {}\n", arguments.out.display());
    Ok(Report { json, text })
}

pub(super) fn quantize(arguments: &QuantizeArguments) -> Result<Report> {
    let format = Format::parse(&arguments.format)
        .filter(|format| *format != Format::F32)
        .ok_or_else(|| Error::argument("quantize", "format", "q8, q4 or f16", &arguments.format))?;
    let model = source(&arguments.model, &arguments.out)?;
    if let (Some(encoder), false) =
        (&arguments.encoder, arguments.model.join(BUNDLE_FILE).is_file())
    {
        let expected = "a bundle, which takes an encoder along";
        return Err(Error::argument("quantize", "encoder", expected, encoder.display()));
    }
    let mut sink = FolderSink::create(&arguments.out)?;
    let bar = progress_bar(model.checkpoint.bytes(), "bytes");
    let rule = |name: &str, shape: &[usize]| format_of(name, shape, format);
    let shards = Some(BUNDLE_SHARD_BYTES);
    quantize_checkpoint(&model.checkpoint, &rule, shards, &mut sink, &mut shown(&bar))?;
    sink.finish()?;
    bar.finish_and_clear();
    let mut written = Vec::new();
    for name in [FUSION_WEIGHTS, ALMOST_REC_WEIGHTS, RETRIEVER_FILES[1]] {
        let weights = model.path().join(name);
        // A candidate's score is a product with its fused token: of a fusion in q4 every tenth first choice is
        // another, of a language model in q4 every thirtieth.
        let coarse = name == FUSION_WEIGHTS && format == Format::Q4;
        let format = if coarse { Format::Q8 } else { format };
        if weights.is_file() {
            quantize_file(&files::open_checkpoint(&weights)?, &arguments.out, name, format)?;
            written.push(name);
        }
    }
    if let Some(encoder) = &arguments.encoder {
        take_along(encoder, &arguments.out, format)?;
        written.extend(ENCODER_FILES);
    }
    finish(&model, &arguments.out, format.name(), &written)
}

/// Writes the file `name` of `out`: the tensors of `checkpoint` in `format`.
fn quantize_file(checkpoint: &Checkpoint, out: &Path, name: &str, format: Format) -> Result<()> {
    // The sink names its file itself, so it gets a folder of its own for as long as it writes.
    let inner = out.join(format!("{name}.part"));
    let io = |e| Error::io(inner.display(), e);
    let write = || {
        let mut sink = FolderSink::create(&inner)?;
        let rule = |name: &str, shape: &[usize]| format_of(name, shape, format);
        quantize_checkpoint(checkpoint, &rule, None, &mut sink, &mut |_, _, _| ())?;
        sink.finish()?;
        std::fs::rename(inner.join("model.safetensors"), out.join(name)).map_err(io)
    };
    // Nothing half written is left behind, and what went wrong first is what is told.
    let written = write();
    written.and(std::fs::remove_dir_all(&inner).map_err(io))
}

/// Puts the encoder of `folder` among the files of a bundle in `out`.
fn take_along(folder: &Path, out: &Path, format: Format) -> Result<()> {
    let encoder = files::open_model(folder)?;
    let [config, weights, tokenizer, preprocessor] = ENCODER_FILES;
    quantize_file(&encoder.checkpoint, out, weights, format)?;
    let copies = [
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("preprocessor_config.json", preprocessor),
    ];
    for (from, to) in copies {
        let from = folder.join(from);
        if from.is_file() {
            files::copy(&from, &out.join(to))?;
        }
    }
    Ok(())
}

pub(super) fn merge(arguments: &MergeArguments) -> Result<Report> {
    let model = source(&arguments.model, &arguments.out)?;
    let adapter = files::open_adapter(&arguments.adapter, &model.checkpoint)?;
    let mut sink = FolderSink::create(&arguments.out)?;
    let bar = progress_bar(model.checkpoint.bytes(), "bytes");
    let shards = Some(BUNDLE_SHARD_BYTES);
    merge_weights(&model.checkpoint, &adapter, shards, &mut sink, &mut shown(&bar))?;
    sink.finish()?;
    bar.finish_and_clear();
    finish(&model, &arguments.out, "merged", &[])
}

/// Opens the model unless it would be overwritten while it is read.
fn source(model: &Path, out: &Path) -> Result<ModelFolder> {
    let real = |path: &Path| path.canonicalize().ok();
    if real(model).is_some_and(|model| real(out) == Some(model)) {
        let expected = "another folder than the model's";
        return Err(Error::argument("write", "out", expected, out.display()));
    }
    files::open_model(model)
}

fn shown(bar: &ProgressBar) -> impl FnMut(u64, u64, &str) {
    |done, _, name| {
        bar.set_position(done);
        bar.set_message(name.to_string());
    }
}

/// Copies what goes with the weights and is not among the `written`, and compares the sizes.
fn finish(model: &ModelFolder, out: &Path, what: &str, written: &[&str]) -> Result<Report> {
    const FILES: [&str; 5] = [
        "generation_config.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "modules.json",
        "sentence_bert_config.json",
    ];
    let mut copied = Vec::new();
    let mut copy = |name: &str| -> Result<()> {
        let (from, to) = (model.path().join(name), out.join(name));
        if from.is_file() {
            let folder = to.parent().unwrap_or(out);
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder.display(), e))?;
            files::copy(&from, &to)?;
            copied.push(name.to_owned());
        }
        Ok(())
    };
    let beside = files_beside_the_model().filter(|name| !written.contains(name));
    FILES.into_iter().chain(beside).try_for_each(&mut copy)?;
    // The folders in which a sentence encoder keeps how it pools.
    if let Some(modules) = model.text("modules.json", MAX_CONFIG_BYTES)? {
        for folder in SentencePooling::folders("modules.json", &modules)? {
            copy(&format!("{folder}/config.json"))?;
        }
    }
    if model.path().join(BUNDLE_FILE).is_file() {
        let source = bundle::read(model.path())?;
        let BundleManifest { recommender, licence, provenance, .. } = source.manifest.clone();
        // What was measured was measured with other weights.
        let (provenance, quality) = (format!("{provenance}; {what}"), BTreeMap::new());
        let text = BundleText { recommender, licence, provenance, quality };
        if let Some(catalogue) = source.catalogue()? {
            write_bundle(out, out, &catalogue, text)?;
        }
    }
    let before = model.checkpoint.bytes();
    let after = files::open_checkpoint(out)?.bytes();
    let share = 100.0 * after as f64 / before.max(1) as f64;
    let json = json!({"format": what, "bytes_before": before, "bytes": after, "copied": copied});
    let text = format!(
        "{what}: {before} bytes of tensors became {after} ({share:.1} %) in {}\n",
        out.display()
    );
    Ok(Report { json, text })
}
