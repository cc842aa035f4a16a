//! `evaluate`: ranks of held-out items, beside what simpler rules reach.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use tributary_core::models::sequence::RepeatedItems;
use tributary_core::prompt::AnswerRule;
use tributary_core::recommend::{Decoding, Recommender};
use tributary_core::{Error, Result};

use super::arguments::{AnswersName, EvaluateArguments, SplitName};
use super::{Report, progress_bar};
use crate::bundle;
use crate::data::{Dataset, Split};
use crate::device::Device;
use crate::evaluate::{
    Candidates, EvaluateOptions, Evaluation, Popularity, evaluate_baselines, read_candidates,
    write_candidates,
};
use crate::recommender::AnyRecommender;
use crate::with_recommender;

pub(super) fn evaluate(arguments: &EvaluateArguments, device: Device) -> Result<Report> {
    let options = EvaluateOptions {
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
    let recommender = match (&arguments.bundle, &arguments.model) {
        (Some(bundle), _) => Some(AnyRecommender::open(bundle, device)?),
        (None, Some(model)) => Some(AnyRecommender::load(&bundle::from_model(model)?, device)?),
        (None, None) => None,
    };
    let mut data = Dataset::read(&arguments.data)?;
    if let Some(behaviour) = &arguments.target_behaviour {
        data.hold_out(behaviour)?;
    }
    let Some(recommender) = recommender else {
        // The baselines know the data's own items, and follow their own protocol.
        let nobody = Popularity::new(&[], data.catalogue.len(), RepeatedItems::Keep);
        let baselines = evaluate_baselines(&nobody, &data.catalogue, &data, &options)?;
        return report(arguments, &baselines);
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
        report(arguments, &results)
    })
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
fn report(arguments: &EvaluateArguments, results: &[(&str, Evaluation)]) -> Result<Report> {
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
        "{} users, {}, {}, {:.1} s\n\n{:<14}",
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
        text += &format!("{name:<14}");
        results.iter().for_each(|(_, result)| text += &format!("{:>12.4}", value(result)));
        text.push('\n');
    };
    for metric in names {
        line(metric, &|result| result.metrics.get(metric).copied().unwrap_or(f64::NAN));
    }
    line("valid_ratio", &|result| result.valid_ratio);
    if result.unknown_targets > 0 {
        let n = result.unknown_targets;
        text += &format!("{n} users' targets are unknown to the model and count as misses\n");
    }
    Ok(Report { json, text })
}
