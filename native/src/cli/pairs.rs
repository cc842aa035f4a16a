//! `evaluate --pairs`: yes or no for each user's held-out item and one that is not liked.

use tributary_core::recommend::{Catalogue, Scorer};
use tributary_core::{Error, Result};

use super::{Report, progress_bar};
use crate::data::{Dataset, Split};
use crate::evaluate::{Negatives, PairsEvaluation, draw_pairs, evaluate_pairs};

/// The pairs of `negatives`: `random`, or a behaviour.
pub(super) fn pairs(
    scorer: &impl Scorer,
    catalogue: &Catalogue,
    data: &Dataset,
    split: Split,
    (negatives, users, seed): (&str, Option<usize>, u64),
) -> Result<PairsEvaluation> {
    let negatives = Negatives::from(negatives.to_owned());
    let mut pairs = draw_pairs(data, split, &negatives, seed)?;
    pairs.truncate(users.unwrap_or(usize::MAX));
    let bar = progress_bar(pairs.len() as u64, "pairs");
    let progress = |done: usize| bar.set_position(done as u64);
    let result = evaluate_pairs(scorer, catalogue, data, &pairs, &negatives, progress)?;
    bar.finish_and_clear();
    Ok(result)
}

/// Adds them to the report of an evaluation: the area under the curve beside its metrics, the rest by
/// itself.
pub(super) fn add(report: &mut Report, pairs: &PairsEvaluation) -> Result<()> {
    let json = serde_json::to_value(pairs).map_err(|e| Error::Internal(format!("pairs: {e}")))?;
    report.json["metrics"]["auc_pairs"] = json["auc_pairs"].clone();
    report.json["pairs"] = json;
    let [low, high] = pairs.interval;
    report.text += &format!(
        "\n{} users' items against one each ({}), {:.1} s\n{:<24}{:>12.4} [{low:.4}, {high:.4}]\n\
         {:<24}{:>12.4}\n",
        pairs.users,
        pairs.negatives,
        pairs.seconds,
        "auc_pairs",
        pairs.auc_pairs,
        "accuracy_pairs",
        pairs.accuracy_pairs
    );
    if pairs.unknown > 0 {
        report.text += &format!("{} pairs hold an item the model does not know\n", pairs.unknown);
    }
    Ok(())
}
