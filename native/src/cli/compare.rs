//! `evaluate --compare`: two saved runs, user by user.

use std::path::PathBuf;

use serde_json::{Value, json};
use tributary_core::metrics::RankMetric;
use tributary_core::{Error, Result};

use super::arguments::EvaluateArguments;
use super::{Report, progress_bar};
use crate::evaluate::{CompareOptions, Compared, Comparison, Run, compare, histogram, read_run};

pub(super) fn run(arguments: &EvaluateArguments, runs: &[PathBuf]) -> Result<Report> {
    let [a, b] = runs else {
        return Err(Error::argument("evaluate", "compare", "two runs", runs.len()));
    };
    let options = CompareOptions {
        metrics: metrics(arguments)?,
        samples: arguments.samples,
        seed: arguments.seed,
        confidence: arguments.confidence,
    };
    let (a, b) = (read_run(a)?, read_run(b)?);
    let bar = progress_bar(arguments.samples as u64, "samples");
    let comparison = compare(&a, &b, &options, || bar.inc(1))?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.plot {
        let svg = histogram(&comparison, &a.file, &b.file);
        std::fs::write(path, svg).map_err(|error| Error::io(path.display(), error))?;
    }
    report(&a, &b, &comparison)
}

/// Those asked for, each once; else what an evaluation reports.
fn metrics(arguments: &EvaluateArguments) -> Result<Vec<RankMetric>> {
    let at = |name: &'static str| arguments.k.iter().map(move |k| format!("{name}@{k}"));
    let names = match arguments.metric.as_slice() {
        [] => at("hit_rate").chain(at("ndcg")).chain(at("mrr")).chain(["auc".into()]).collect(),
        names => names.to_vec(),
    };
    let mut metrics = Vec::with_capacity(names.len());
    for name in names {
        let metric = RankMetric::parse(&name)?;
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    Ok(metrics)
}

fn report(a: &Run, b: &Run, comparison: &Comparison) -> Result<Report> {
    let internal = |error: serde_json::Error| Error::Internal(error.to_string());
    let mut json = serde_json::to_value(comparison).map_err(internal)?;
    let mut metrics = serde_json::Map::new();
    for compared in &comparison.metrics {
        let value = serde_json::to_value(compared).map_err(internal)?;
        metrics.insert(compared.metric.clone(), value);
    }
    json["metrics"] = Value::Object(metrics);
    for (name, run) in [("a", a), ("b", b)] {
        json[name] = json!({ "file": run.file, "users": run.users.len(), "about": run.about });
    }

    let mut text = String::new();
    for (name, run) in [("A", a), ("B", b)] {
        let about = |key: &str| run.about.get(key).map_or("?", String::as_str);
        let (model, data) = (about("recommender"), about("data"));
        text += &format!("{name}: {} ({model} on {data}; {})\n", run.file, about("candidates"));
    }
    let Comparison { users, only_a, only_b, samples, seed, .. } = comparison;
    text += &format!("{users} users in both, {only_a} only in A, {only_b} only in B (left out)\n");
    for differs in &comparison.differs {
        text += &format!("the runs differ in {differs}\n");
    }
    let confidence = crate::evaluate::percent(comparison.confidence);
    text += &format!(
        "{samples} bootstrap samples of users, seed {seed}; difference is A - B\n\n\
         {:<14}{:>9}{:>9}{:>12}{:>22}{:>9}{:>10}{:>9}{:>10}\n",
        "metric",
        "A",
        "B",
        "difference",
        format!("{confidence} % interval"),
        "p",
        "A better",
        "equal",
        "B better",
    );
    for compared in &comparison.metrics {
        let Compared { metric, a, b, difference, interval: [low, high], p_value, .. } = compared;
        text += &format!(
            "{metric:<14}{a:>9.4}{b:>9.4}{difference:>+12.4}{:>22}{p_value:>9.4}{:>10}{:>9}{:>10}\n",
            format!("[{low:+.4}, {high:+.4}]"),
            compared.a_better,
            compared.equal,
            compared.b_better,
        );
    }
    Ok(Report { json, text })
}
