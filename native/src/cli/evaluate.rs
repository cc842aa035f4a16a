//! `evaluate`: ranks of held-out items, beside what simpler rules reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};
use tributary_core::digest::hex;
use tributary_core::models::sequence::RepeatedItems;
use tributary_core::prompt::AnswerRule;
use tributary_core::recommend::{Catalogue, Decoding, EmbeddingTable, Recommender};
use tributary_core::{Error, Result};

use super::arguments::{AnswersName, EvaluateArguments, SplitName};
use super::pairs;
use super::{Report, progress_bar};
use crate::bundle::{self, Bundle};
use crate::data::{Dataset, Split};
use crate::device::Device;
use crate::evaluate::{
    Candidates, EvaluateOptions, Evaluation, MAX_TOP, Popularity, evaluate_baselines,
    read_candidates, write_candidates, write_run,
};
use crate::files;
use crate::recommender::{AnyRecommender, with_recommender};

pub(super) fn evaluate(arguments: &EvaluateArguments, device: Device) -> Result<Report> {
    let mut options = EvaluateOptions {
        split: match arguments.split {
            SplitName::Test => Split::Test,
            SplitName::Valid => Split::Valid,
        },
        candidates: candidates(arguments)?,
        // A name that is written says who comes first, and no more.
        k: if arguments.answers.is_some() { vec![1] } else { arguments.k.clone() },
        users: arguments.users,
        ..EvaluateOptions::default()
    };
    // Before the work, not behind it.
    let longest = options.k.iter().copied().max().unwrap_or_default();
    if arguments.save.is_some() && longest > MAX_TOP {
        let expected =
            format!("at most {MAX_TOP} with --save, which keeps so many items of a user");
        return Err(Error::argument("evaluate", "k", expected, longest));
    }
    let outputs = [&arguments.save, &arguments.save_candidates];
    outputs.into_iter().flatten().try_for_each(|path| files::check_output(path))?;
    let bundle = match (&arguments.bundle, &arguments.model) {
        (Some(folder), _) if arguments.record && !folder.is_dir() => {
            let expected = "a bundle's folder, into which --record writes";
            return Err(Error::argument("evaluate", "bundle", expected, folder.display()));
        }
        (Some(folder), _) if folder == Path::new("demo") => Some(bundle::demo()?),
        (Some(folder), _) => Some(bundle::read(folder)?),
        (None, Some(model)) => Some(bundle::from_model(model)?),
        (None, None) => None,
    };
    let recommender =
        bundle.as_ref().map(|bundle| AnyRecommender::load(bundle, device)).transpose()?;
    let num_items = recommender.as_ref().map(|recommender| recommender.catalogue().len());
    let table = diversity_table(arguments, bundle.as_ref(), num_items)?;
    let diversity = table.as_ref().map(|(name, _)| name.clone());
    options.diversity_table = table.map(|(_, table)| Arc::new(table));
    drop(bundle);
    let Some(data) = &arguments.data else {
        return Err(Error::argument("evaluate", "data", "a file or a folder", "missing"));
    };
    let mut data = Dataset::read(data)?;
    if let Some(behaviour) = &arguments.target_behaviour {
        data.hold_out(behaviour)?;
    }
    let Some(recommender) = recommender else {
        // The baselines know the data's own items, and follow their own protocol.
        let nobody = Popularity::new(&[], data.catalogue.len(), RepeatedItems::Keep);
        let baselines = evaluate_baselines(&nobody, &data.catalogue, &data, &options)?;
        save(arguments, &options, &baselines, &data, &data.catalogue)?;
        return report(arguments, &baselines, diversity);
    };
    with_recommender!(&recommender, scorer => {
        let bar = progress_bar(0, "users");
        let progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let (catalogue, data) = (scorer.catalogue(), &data);
        let result = match arguments.answers {
            None => crate::evaluate::evaluate(scorer, catalogue, data, &options, progress)?,
            Some(answers) => {
                let written = scorer.written(match answers {
                    AnswersName::Free => Decoding::Free(AnswerRule::default()),
                    AnswersName::Constrained => Decoding::Constrained,
                })?;
                crate::evaluate::evaluate(&written, catalogue, data, &options, progress)?
            }
        };
        bar.finish_and_clear();
        let mut results = vec![(scorer.name(), result)];
        if arguments.baselines {
            results.extend(evaluate_baselines(scorer, catalogue, data, &options)?);
        }
        save(arguments, &options, &results, data, catalogue)?;
        let mut report = report(arguments, &results, diversity)?;
        if let Some(negatives) = &arguments.pairs {
            let asked = (negatives.as_str(), options.users, arguments.seed);
            pairs::add(&mut report, &pairs::pairs(scorer, catalogue, data, options.split, asked)?)?;
        }
        Ok(report)
    })
}

/// What lists' diversity is measured by, with the name of the file: the one that was asked for, else
/// what the recommender brings along. Contents come first: they say how alike two items are to
/// somebody who sees them.
fn diversity_table(
    arguments: &EvaluateArguments,
    bundle: Option<&Bundle>,
    num_items: Option<usize>,
) -> Result<Option<(String, EmbeddingTable)>> {
    let all = arguments.candidates == "all";
    if let Some(path) = &arguments.diversity_table {
        if !all {
            let expected = "all, where a list is what is recommended, with --diversity-table";
            return Err(Error::argument("evaluate", "candidates", expected, &arguments.candidates));
        }
        let checkpoint = files::open_checkpoint(path)?;
        return Ok(Some((checkpoint.file().to_string(), EmbeddingTable::load(&checkpoint)?)));
    }
    let Some(bundle) = bundle.filter(|_| all) else { return Ok(None) };
    let Some(component) = ["text", "image", "graph"].into_iter().find(|name| bundle.has(name))
    else {
        return Ok(None);
    };
    // A file of that name that nobody asked for, and that is no table of these items, is no reason to
    // fail: a recommender that needs it has refused it already.
    let Ok(checkpoint) = bundle.checkpoint(component) else { return Ok(None) };
    let table = EmbeddingTable::load(&checkpoint).ok();
    let table = table.filter(|table| num_items == Some(table.len()));
    Ok(table.map(|table| (checkpoint.file().to_string(), table)))
}

/// The first of `results` as `--save` asks for it.
fn save(
    arguments: &EvaluateArguments,
    options: &EvaluateOptions,
    results: &[(&str, Evaluation)],
    data: &Dataset,
    catalogue: &Catalogue,
) -> Result<()> {
    let (Some(path), Some((recommender, result))) = (&arguments.save, results.first()) else {
        return Ok(());
    };
    // Names without folders: those belong to a machine.
    let name = |path: &PathBuf| {
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    };
    let mut hash = Sha256::new();
    data.digest(&mut hash);
    let largest = options.k.iter().max().copied().unwrap_or_default();
    let mut about = BTreeMap::from([
        ("tributary_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("recommender", (*recommender).to_owned()),
        ("data", data.name.clone()),
        ("data_sha256", hex(&hash.finalize())),
        ("split", format!("{:?}", arguments.split).to_lowercase()),
        ("candidates", result.candidates.clone()),
        ("seed", arguments.seed.to_string()),
        ("k", largest.to_string()),
    ]);
    if let Some(model) = arguments.bundle.as_ref().or(arguments.model.as_ref()) {
        about.insert("model", name(model));
    }
    if let Some(behaviour) = &arguments.target_behaviour {
        about.insert("target_behaviour", behaviour.clone());
    }
    let exact = match &options.candidates {
        Candidates::Exact { num_candidates } => Some(*num_candidates),
        _ => None,
    };
    let about = about.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    write_run(path, &about, exact, &result.results, catalogue)
}

fn candidates(arguments: &EvaluateArguments) -> Result<Candidates> {
    let refuse =
        |expected| Err(Error::argument("evaluate", "candidates", expected, &arguments.candidates));
    let number = arguments.candidates.parse::<usize>();
    match (arguments.candidates.as_str(), number) {
        ("all", _) if arguments.exact => refuse("a number, whose draws --exact averages over"),
        ("all", _) if arguments.save_candidates.is_some() => {
            refuse("a number, for the draws that --save-candidates stores")
        }
        ("all", _) => Ok(Candidates::All),
        (_, Ok(num_candidates)) if num_candidates >= 2 => match arguments.exact {
            true if arguments.save_candidates.is_some() => refuse("draws, not --exact, to store"),
            true => Ok(Candidates::Exact { num_candidates }),
            false => Ok(Candidates::Sampled { num_candidates, seed: arguments.seed }),
        },
        (path, Err(_)) if Path::new(path).is_file() && !arguments.exact => {
            Ok(Candidates::Given(read_candidates(path.as_ref())?))
        }
        _ => refuse("`all`, a number of at least 2, or a file of stored sets"),
    }
}

/// What was measured, over what, into the manifest of the bundle in `folder`.
fn record(folder: &Path, arguments: &EvaluateArguments, result: &Evaluation) -> Result<()> {
    let mut quality: BTreeMap<String, serde_json::Value> =
        result.metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    quality.insert("valid_ratio".into(), json!(result.valid_ratio));
    quality.insert("users".into(), json!(result.users));
    quality.insert("candidates".into(), json!(result.candidates.to_string()));
    quality.insert("denominator".into(), json!(result.denominator.to_string()));
    if let Some(behaviour) = &arguments.target_behaviour {
        quality.insert("target_behaviour".into(), json!(behaviour));
    }
    bundle::record_quality(folder, quality)
}

/// The first of `results` in full, all of them in a table.
fn report(
    arguments: &EvaluateArguments,
    results: &[(&str, Evaluation)],
    diversity: Option<String>,
) -> Result<Report> {
    let Some(((name, result), others)) = results.split_first() else {
        return Err(Error::Internal("nothing was evaluated".into()));
    };
    if let Some(path) = &arguments.save_candidates {
        write_candidates(path, &result.sets)?;
    }
    if let (true, Some(folder)) = (arguments.record, &arguments.bundle) {
        record(folder, arguments, result)?;
    }
    let to_json = |evaluation: &Evaluation| {
        serde_json::to_value(evaluation).map_err(|error| Error::Internal(error.to_string()))
    };
    let mut json = to_json(result)?;
    json["recommender"] = json!(name);
    if let Some(table) = diversity {
        json["diversity_table"] = json!(table);
    }
    let baselines: &[(&str, Evaluation)] = match arguments.baselines {
        // Without a model the first result is a baseline, too.
        true if arguments.bundle.is_none() && arguments.model.is_none() => results,
        _ => others,
    };
    let mut named = serde_json::Map::new();
    for (name, baseline) in baselines {
        named.insert((*name).to_string(), to_json(baseline)?);
    }
    if !named.is_empty() {
        json["baselines"] = json!(named);
    }
    let row = |(name, evaluation): &(&str, Evaluation)| {
        let mut row = json!(evaluation.metrics);
        row["recommender"] = json!(name);
        row["valid_ratio"] = json!(evaluation.valid_ratio);
        row
    };
    json["table"] = results.iter().map(row).collect();

    let mut text = format!(
        "{} users, {}, {}, {:.1} s\n\n{:<24}",
        result.users, result.denominator, result.candidates, result.seconds, "metric"
    );
    results.iter().for_each(|(name, _)| text += &format!("{name:>12}"));
    text.push('\n');
    let mut names: Vec<_> = result.metrics.keys().collect();
    // hit_rate@5 before hit_rate@10.
    names.sort_by_key(|name| {
        let (metric, k) = name.split_once('@').unwrap_or((name.as_str(), ""));
        (metric.to_string(), k.parse::<usize>().unwrap_or(0))
    });
    let mut line = |name: &str, value: &dyn Fn(&Evaluation) -> f64| {
        text += &format!("{name:<24}");
        results.iter().for_each(|(_, result)| text += &format!("{:>12.4}", value(result)));
        text.push('\n');
    };
    for metric in names {
        line(metric, &|result| result.metrics.get(metric).copied().unwrap_or(f64::NAN));
    }
    line("valid_ratio", &|result| result.valid_ratio);
    if let Some(retrieved) = &result.retrieved {
        let share = 100.0 * retrieved.users as f64 / result.users.max(1) as f64;
        text += &format!(
            "\n{} users ({share:.1} %), {}: the retriever put the target before the model\n",
            retrieved.users, retrieved.denominator
        );
        for (metric, value) in &retrieved.metrics {
            text += &format!("{metric:<24}{value:>12.4}\n");
        }
    }
    if result.unknown_targets > 0 {
        let n = result.unknown_targets;
        text += &format!("{n} users' targets are unknown to the model and count as misses\n");
    }
    Ok(Report { json, text })
}
