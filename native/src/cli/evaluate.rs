//! `evaluate`: ranks of held-out items, beside what simpler rules reach.

use serde_json::json;
use tributary_core::recommend::Recommender;
use tributary_core::{Error, Result};

use super::arguments::{EvaluateArguments, SplitName};
use super::{Report, progress_bar};
use crate::bundle::Bundle;
use crate::data::{Dataset, Split};
use crate::device::Device;
use crate::evaluate::{Candidates, EvaluateOptions, Evaluation, evaluate_baselines};
use crate::recommender::AnyRecommender;
use crate::with_recommender;

pub(super) fn evaluate(arguments: &EvaluateArguments, device: Device) -> Result<Report> {
    let options = EvaluateOptions {
        split: match arguments.split {
            SplitName::Test => Split::Test,
            SplitName::Valid => Split::Valid,
        },
        candidates: candidates(arguments)?,
        k: arguments.k.clone(),
        users: arguments.users,
        ..EvaluateOptions::default()
    };
    let recommender = match (&arguments.bundle, &arguments.model) {
        (Some(bundle), _) => AnyRecommender::open(bundle, device)?,
        (None, Some(model)) => AnyRecommender::load(&Bundle::from_model(model)?, device)?,
        (None, None) => {
            return Err(Error::argument("evaluate", "model", "--bundle or --model", "neither"));
        }
    };
    let data = Dataset::read(&arguments.data)?;
    with_recommender!(&recommender, scorer => {
        let bar = progress_bar(0, "users");
        let result = crate::evaluate::evaluate(
            scorer,
            scorer.catalogue(),
            &data,
            &options,
            |done, all| {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
            },
        )?;
        bar.finish_and_clear();
        let baselines = if arguments.baselines {
            evaluate_baselines(scorer, scorer.catalogue(), &data, &options)?
        } else {
            Vec::new()
        };
        report(scorer.name(), &result, &baselines)
    })
}

fn candidates(arguments: &EvaluateArguments) -> Result<Candidates> {
    if arguments.candidates == "all" {
        if arguments.exact {
            let expected = "a number, whose draws --exact averages over";
            return Err(Error::argument("evaluate", "candidates", expected, "all"));
        }
        return Ok(Candidates::All);
    }
    let expected = "`all` or a number of at least 2";
    let num_candidates = arguments.candidates.parse().ok().filter(|&n| n >= 2).ok_or_else(|| {
        Error::argument("evaluate", "candidates", expected, &arguments.candidates)
    })?;
    Ok(match arguments.exact {
        true => Candidates::Exact { num_candidates },
        false => Candidates::Sampled { num_candidates, seed: arguments.seed },
    })
}

fn report(name: &str, result: &Evaluation, baselines: &[(&str, Evaluation)]) -> Result<Report> {
    let to_json = |evaluation: &Evaluation| {
        serde_json::to_value(evaluation).map_err(|error| Error::Internal(error.to_string()))
    };
    let mut json = to_json(result)?;
    let mut text = format!(
        "{} users, {}, {}, {:.1} s\n\n{:<14}{name:>12}",
        result.users, result.denominator, result.candidates, result.seconds, "metric"
    );
    let mut others = serde_json::Map::new();
    for (name, baseline) in baselines {
        text += &format!("{name:>12}");
        others.insert((*name).to_string(), to_json(baseline)?);
    }
    if !others.is_empty() {
        json["baselines"] = json!(others);
    }
    text.push('\n');
    let mut names: Vec<_> = result.metrics.keys().collect();
    // hit_rate@5 before hit_rate@10.
    names.sort_by_key(|name| {
        let (metric, k) = name.split_once('@').unwrap_or((name.as_str(), ""));
        (metric.to_string(), k.parse::<usize>().unwrap_or(0))
    });
    for metric in names {
        text += &format!("{metric:<14}{:>12.4}", result.metrics[metric]);
        for (_, baseline) in baselines {
            let value = baseline.metrics.get(metric).copied().unwrap_or(f64::NAN);
            text += &format!("{value:>12.4}");
        }
        text.push('\n');
    }
    if result.unknown_targets > 0 {
        let n = result.unknown_targets;
        text += &format!("{n} users' targets are unknown to the model and count as misses\n");
    }
    Ok(Report { json, text })
}
