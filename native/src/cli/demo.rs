//! `demo`: one of the synthetic shop's users, what they did, what the embedded bundle recommends.

use serde_json::json;
use tributary_core::recommend::{Interaction, Request};
use tributary_core::shop::{self, Behaviour};
use tributary_core::{Error, Result};

use super::Report;
use super::arguments::DemoArguments;
use super::recommend::{describe, table, to_json, tokens};
use crate::bundle::demo as demo_bundle;
use crate::device::Device;
use crate::recommender::AnyRecommender;

/// Shoppers the model was not trained on.
const SHOPPERS_SEED: u64 = 7;
/// Shoppers to choose from.
const MAX_SHOPPERS: usize = 10_000;
/// Events of the history that are shown.
const SHOWN: usize = 12;

pub(super) fn demo(arguments: &DemoArguments, device: Device) -> Result<Report> {
    if arguments.user >= MAX_SHOPPERS {
        let expected = format!("a number below {MAX_SHOPPERS}");
        return Err(Error::argument("demo", "user", expected, arguments.user));
    }
    let recommender = AnyRecommender::load(&demo_bundle()?, device)?;
    let catalogue = recommender.catalogue();
    let shopper = shop::users(arguments.user + 1, SHOPPERS_SEED).pop();
    let shopper = shopper.ok_or_else(|| Error::Internal("the shop has no users".into()))?;
    // What is to be predicted: the last purchase, from before the first event that touches it.
    let events = &shopper.events;
    let target = events.iter().rfind(|event| event.behaviour == Behaviour::Buy).map(|e| e.item);
    let cut = events.iter().position(|event| Some(event.item) == target).unwrap_or(events.len());
    let past = &events[..cut];
    let id = |item: u32| {
        let item = catalogue.get(item);
        item.map(|item| item.id.clone()).ok_or_else(|| Error::Internal("unknown item".into()))
    };
    let mut history = Vec::with_capacity(past.len());
    for event in past {
        let behaviour = Some(event.behaviour.name().to_string());
        history.push(Interaction {
            item: id(event.item)?,
            behaviour,
            time: Some(event.time as f64),
        });
    }
    let request = Request { history, k: arguments.k, ..Request::default() };
    let answer = recommender.recommend(&request)?;

    let mut json = to_json(&answer)?;
    json["user"] = json!(shopper.id);
    json["history"] = serde_json::to_value(&request.history)
        .map_err(|error| Error::Internal(error.to_string()))?;
    let mut text = format!(
        "Shopper {}, the last {} of {} events:\n",
        shopper.id,
        SHOWN.min(past.len()),
        past.len()
    );
    for event in &past[past.len().saturating_sub(SHOWN)..] {
        let item = catalogue.get(event.item).map(describe).unwrap_or_default();
        text += &format!("      {:<5} {item}\n", event.behaviour.name());
    }
    text += "\nRecommended next:\n";
    text += &table(&answer, catalogue);
    if let Some(next) = target {
        let id = id(next)?;
        let place = answer.items.iter().find(|item| item.id == id);
        let place = place.map_or(format!("not among these {}", answer.items.len()), |item| {
            format!("rank {}", item.rank)
        });
        let item = catalogue.get(next).map(describe).unwrap_or_default();
        text += &format!("What the shopper bought next: {item} ({place})\n");
        json["next"] = json!(id);
    }
    let Some(first) = answer.items.first() else { return Ok(Report { json, text }) };
    // The shopper looks at what was recommended: everything before is there already.
    let mut later = request;
    later.history.push(Interaction {
        behaviour: Some(Behaviour::View.name().into()),
        ..Interaction::new(first.id.clone())
    });
    let after = recommender.recommend(&later)?;
    let share = 100.0 * after.timings.total_ms / answer.timings.total_ms;
    let title = after.items.first().and_then(|item| catalogue.index_of(&item.id));
    let title = title.and_then(|item| catalogue.get(item)).map(describe).unwrap_or_default();
    text += &format!(
        "\nOne event more, a look at rank 1: {:.2} ms, {share:.0} % of the first call{}\n\
         First now: {title}\n",
        after.timings.total_ms,
        match after.usage.prompt_tokens {
            0 => String::new(),
            _ => format!("; {}", tokens(&after.usage)),
        }
    );
    json["after_one_event"] = to_json(&after)?;
    Ok(Report { json, text })
}
