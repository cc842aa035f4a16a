//! `recommend`, and the table of an answer.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use tributary_core::recommend::{
    Catalogue, CatalogueItem, Explanation, Interaction, ItemId, Modality, Recommendations, Request,
    Timings, Usage,
};
use tributary_core::{Error, Result};

use super::Report;
use super::arguments::RecommendArguments;
use crate::device::Device;
use crate::recommender::AnyRecommender;

/// Items whose reasons are shown, and items of the history for each.
const EXPLAINED_ITEMS: usize = 3;

pub(super) fn recommend(arguments: &RecommendArguments, device: Device) -> Result<Report> {
    if let Some(file) = &arguments.requests {
        let recommender = AnyRecommender::open(&arguments.bundle, device)?;
        return answer_all(&recommender, file);
    }
    let request = Request {
        history: list(&arguments.history).map(interaction).collect(),
        candidates: arguments.candidates.as_deref().map(|ids| list(ids).map(id).collect()),
        k: arguments.k,
        exclude_seen: !arguments.include_seen,
        exclude: list(&arguments.exclude).map(id).collect(),
        target_behaviour: arguments.target_behaviour.clone(),
        hide: list(&arguments.hide).map(modality).collect::<Result<_>>()?,
        ..Request::default()
    };
    let recommender = AnyRecommender::open(&arguments.bundle, device)?;
    let answer = recommender.recommend(&request)?;
    let mut json = to_json(&answer)?;
    let mut text = table(&answer, recommender.catalogue());
    if arguments.explain {
        let first = answer.items.iter().take(EXPLAINED_ITEMS).map(|item| item.id.clone());
        let explanations = recommender.explain(&request, &first.collect::<Vec<_>>())?;
        text += &reasons(&explanations, recommender.catalogue());
        json["explanations"] = to_json(&explanations)?;
    }
    Ok(Report { json, text })
}

/// Answers to the requests of a file, in order.
fn answer_all(recommender: &AnyRecommender, file: &Path) -> Result<Report> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|e| Error::io(&name, e))?;
    let (mut answers, mut failed) = (Vec::new(), 0);
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let request = serde_json::from_str(text);
        let request = request.map_err(|e| {
            let found = format!("in line {line} of {name}: {e}");
            Error::argument("recommend", "requests", "one request as JSON per line", found)
        });
        let answer = request.and_then(|request: Request| recommender.recommend(&request));
        answers.push(match answer {
            Ok(answer) => to_json(&answer)?,
            Err(error) => {
                failed += 1;
                json!({"error": {"code": error.kind().code(), "message": error.to_string()}})
            }
        });
    }
    let mut lines = String::new();
    answers.iter().for_each(|answer| lines += &format!("{answer}\n"));
    let text = format!("{lines}{} answers, {failed} of them errors\n", answers.len());
    Ok(Report { json: answers.into(), text })
}

fn modality(name: &str) -> Result<Modality> {
    serde_json::from_value(name.into())
        .map_err(|_| Error::argument("recommend", "hide", "image, text or graph", name))
}

/// What each explained item owes most to.
fn reasons(explanations: &[Explanation], catalogue: &Catalogue) -> String {
    let mut text = String::from("\nWhat a score loses without it:\n");
    let title = |id: &ItemId| {
        let item = catalogue.index_of(id).and_then(|index| catalogue.get(index));
        item.map_or(id.to_string(), |item| name(item).to_owned())
    };
    for explanation in explanations {
        text += &format!("      {}\n", title(&explanation.id));
        for change in explanation.by_item.iter().take(EXPLAINED_ITEMS) {
            text += &format!("        {:>+7.3}  {}\n", change.change, title(&change.id));
        }
        for change in &explanation.by_modality {
            let name = format!("{:?}", change.modality).to_lowercase();
            text += &format!("        {:>+7.3}  {name}\n", change.change);
        }
    }
    text
}

/// The parts of `a,b,c`; none of an empty text.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn id(text: &str) -> ItemId {
    ItemId::from(text.to_string())
}

/// `id:behaviour`, or an id alone. An id may hold colons of its own if a behaviour follows.
fn interaction(text: &str) -> Interaction {
    match text.rsplit_once(':') {
        Some((item, behaviour)) => {
            Interaction { behaviour: Some(behaviour.to_string()), ..Interaction::new(id(item)) }
        }
        None => Interaction::new(id(text)),
    }
}

/// The answer's JSON form.
pub(super) fn to_json(answer: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(answer).map_err(|error| Error::Internal(error.to_string()))
}

/// One line per item with what a person calls it, then what it took.
pub(super) fn table(answer: &Recommendations, catalogue: &Catalogue) -> String {
    let mut text = format!("{:>4}  {:>8}  {:<16}  item\n", "rank", "score", "id");
    for item in &answer.items {
        let title = catalogue
            .index_of(&item.id)
            .and_then(|index| catalogue.get(index))
            .map_or(String::new(), describe);
        text += &format!(
            "{:>4}  {:>8.3}  {:<16}  {title}\n",
            item.rank,
            item.score,
            plain(item.id.as_str())
        );
    }
    if answer.items.is_empty() {
        text += "      no items\n";
    }
    let (usage, timings) = (&answer.usage, &answer.timings);
    if usage.unknown_items > 0 {
        text += &format!("{} items of the history are not known here\n", usage.unknown_items);
    }
    text += &format!(
        "\n{:.2} ms for {} candidates on {} ({}): {}\n",
        timings.total_ms,
        usage.candidates,
        answer.backend.device,
        answer.backend.adapter,
        stages(timings)
    );
    if usage.prompt_tokens > 0 {
        text += &format!("{}\n", tokens(usage));
    }
    text
}

/// Milliseconds of each stage that took any.
fn stages(timings: &Timings) -> String {
    let known = [
        ("retrieve", timings.retrieve_ms),
        ("encode", timings.encode_ms),
        ("prefill", timings.prefill_ms),
        ("score", timings.score_ms),
    ];
    let known: Vec<_> = known.into_iter().filter(|(_, ms)| *ms > 0.0).collect();
    let model = match known.is_empty() {
        true => vec![("model", timings.forward_ms)],
        false => known,
    };
    let stages = [("prepare", timings.prepare_ms)].into_iter().chain(model);
    let stages = stages.chain([("rank", timings.rank_ms)]);
    stages.map(|(stage, ms)| format!("{stage} {ms:.2}")).collect::<Vec<_>>().join(", ")
}

/// What the prompt held, and how much of it was new.
pub(super) fn tokens(usage: &Usage) -> String {
    format!(
        "{} tokens about {} events, {} of them computed and {} from the cache",
        usage.prompt_tokens,
        usage.history_items,
        usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens),
        usage.cached_tokens
    )
}

/// Title, brand and price, as far as they are known.
pub(super) fn describe(item: &CatalogueItem) -> String {
    let price = item.price.map(|price| format!("{price:.2}"));
    let category = item.category.clone();
    let details: Vec<String> = [category, price].into_iter().flatten().collect();
    let text = match details.is_empty() {
        true => name(item).to_owned(),
        false => format!("{} ({})", name(item), details.join(", ")),
    };
    plain(&text)
}

/// `text` on one line: a line end in a title must not begin a row of its own.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// What a person calls an item: its title, or where it has none its id.
fn name(item: &CatalogueItem) -> &str {
    if item.title.is_empty() { item.id.as_str() } else { &item.title }
}
