//! `generate`, `logits` and `score`.

use std::ops::ControlFlow;
use std::time::Instant;

use serde_json::json;
use tributary_core::backend::Backend;
use tributary_core::session::{FinishReason, Sampler, Sampling, StopRules};
use tributary_core::{Error, Result};

use super::Report;
use super::arguments::{GenerateArguments, LogitsArguments, ModelArguments, ScoreArguments};
use crate::device::Device;
use crate::language::LanguageModel;
use crate::threads::with_ready_threads;
use crate::with_backend;

fn open<B: Backend>(backend: B, arguments: &ModelArguments) -> Result<LanguageModel<B>> {
    LanguageModel::open(backend, &arguments.model, arguments.adapter.as_deref())
}

pub(super) fn generate(
    arguments: &GenerateArguments,
    device: Device,
    quiet: bool,
) -> Result<Report> {
    with_backend!(device.open()?, b => {
        let (on_cpu, model) = (b.info().device == "cpu", open(b, &arguments.model)?);
        match on_cpu {
            true => with_ready_threads(|| generate_on(model, arguments, quiet)),
            false => generate_on(model, arguments, quiet),
        }
    })
}

fn generate_on<B: Backend>(
    model: LanguageModel<B>,
    arguments: &GenerateArguments,
    quiet: bool,
) -> Result<Report> {
    let tokenizer = model.tokenizer();
    let prompt = match (&arguments.ids, &arguments.prompt) {
        (Some(ids), _) => ids.clone(),
        (None, Some(prompt)) => model.tokenizer()?.encode(prompt, true)?,
        (None, None) => Vec::new(),
    };
    let config = model.model().config();
    let stop_token_ids =
        if arguments.ignore_eos { Vec::new() } else { config.eos_token_ids.clone() };
    let stop = StopRules {
        max_new_tokens: arguments.max_tokens,
        stop_token_ids,
        stop_sequences: Vec::new(),
    };
    if !arguments.stop.is_empty() {
        model.tokenizer()?;
    }
    let sampling = if arguments.temperature == 0.0 {
        Sampling::Greedy
    } else {
        Sampling::Random {
            temperature: arguments.temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            seed: arguments.seed,
        }
    };
    let mut sampler = Sampler::new(sampling)?;
    let mut session = model.session()?;
    let started = Instant::now();
    session.prefill(&prompt)?;
    // The first logits wait for the prefill, so this is the time to the first token's logits.
    pollster::block_on(session.logits(Some(&prompt[prompt.len() - 1..])))?;
    let prefill_ms = started.elapsed().as_secs_f64() * 1e3;

    // Whole text so far: a token may be half a character, and a stop may span two.
    let text_of = |ids: &[u32]| tokenizer.as_ref().ok().map(|t| t.decode(ids, true));
    let mut printed = String::new();
    let mut new = Vec::new();
    let mut stopped_at = None;
    let mut failed = None;
    let stream = !quiet && tokenizer.is_ok();
    let generated = pollster::block_on(session.generate(&mut sampler, &stop, |token| {
        new.push(token);
        let text = match text_of(&new) {
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            None => return ControlFlow::Continue(()),
        };
        let end = arguments.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        stopped_at = end;
        let text = &text[..end.unwrap_or_else(|| text.len() - begun(&text, &arguments.stop))];
        if stream && !text.ends_with('\u{fffd}') {
            // A reader that is gone is noticed at the end.
            let new = text.get(printed.len()..).unwrap_or("");
            let _ = super::show(&super::printable(new));
            printed = text.to_string();
        }
        if end.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }))?;
    if let Some(error) = failed {
        return Err(error);
    }
    let total_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut token_ids = prompt.clone();
    token_ids.extend(&generated.token_ids);
    let mut completion = match text_of(&generated.token_ids) {
        Some(text) => Some(text?),
        None => None,
    };
    let mut whole = match text_of(&token_ids) {
        Some(text) => Some(text?),
        None => None,
    };
    if let (Some(completion), Some(whole), Some(end)) = (&mut completion, &mut whole, stopped_at) {
        // Both end with the same text.
        let cut = whole.len().saturating_sub(completion.len() - end);
        whole.truncate(whole.floor_char_boundary(cut));
        completion.truncate(end);
    }
    let finish_reason = match generated.finish_reason {
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::Cancelled => "stop",
    };
    let info = model.backend().info();
    let decoded = generated.token_ids.len();
    let decode_ms = total_ms - prefill_ms;
    let tokens_per_second = decoded as f64 / (decode_ms / 1e3).max(1e-9);
    let json = json!({
        "token_ids": token_ids,
        "text": whole,
        "completion": completion,
        "finish_reason": finish_reason,
        "usage": {"prompt_tokens": prompt.len(), "new_tokens": decoded},
        "timings": {"prefill_ms": prefill_ms, "decode_ms": decode_ms, "total_ms": total_ms},
        "backend": {"device": info.device, "adapter": info.adapter},
    });
    let mut text = match (&completion, stream) {
        (Some(completion), true) => completion.get(printed.len()..).unwrap_or("").to_string(),
        (Some(completion), false) => completion.clone(),
        (None, _) => format!("{:?}", generated.token_ids),
    };
    text += &format!(
        "\n\n{decoded} tokens on {} ({}), prefill of {} in {prefill_ms:.1} ms, \
         {tokens_per_second:.1} tokens/s\n",
        info.device,
        info.adapter,
        prompt.len(),
    );
    Ok(Report { json, text })
}

/// Bytes at the end of `text` that may become one of `stops`.
fn begun(text: &str, stops: &[String]) -> usize {
    let starts = stops.iter().flat_map(|stop| stop.char_indices().map(|(at, _)| &stop[..at]));
    starts.filter(|start| text.ends_with(start)).map(str::len).max().unwrap_or(0)
}

pub(super) fn logits(arguments: &LogitsArguments, device: Device) -> Result<Report> {
    with_backend!(device.open()?, b => logits_on(open(b, &arguments.model)?, arguments))
}

fn logits_on<B: Backend>(model: LanguageModel<B>, arguments: &LogitsArguments) -> Result<Report> {
    let mut session = model.session()?;
    session.prefill(&arguments.ids)?;
    let logits = pollster::block_on(session.logits(None))?;
    if let Some(at) = logits.iter().position(|logit| !logit.is_finite()) {
        let found = format!("{} at token {at}", logits[at]);
        return Err(Error::argument("logits", "logits", "finite values", found));
    }
    let mut best: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut text = format!("{} logits, the largest:\n", logits.len());
    for (token, logit) in best.iter().take(10) {
        let ids = [*token as u32];
        let shown = model.tokenizer().ok().and_then(|t| t.decode(&ids, false).ok());
        text += &format!("{token:>8}  {logit:>10.4}  {}\n", shown.unwrap_or_default());
    }
    Ok(Report { json: json!({ "logits": logits }), text })
}

pub(super) fn score(arguments: &ScoreArguments, device: Device) -> Result<Report> {
    with_backend!(device.open()?, b => score_on(open(b, &arguments.model)?, arguments))
}

fn score_on<B: Backend>(model: LanguageModel<B>, arguments: &ScoreArguments) -> Result<Report> {
    let (prompt, endings) = model.label_tokens(&arguments.prompt, &arguments.labels)?;
    let mut session = model.session()?;
    session.prefill(&prompt)?;
    let scores = pollster::block_on(session.score(&endings))?;
    let scores: Vec<f32> = scores.iter().map(|tokens| tokens.iter().sum()).collect();
    let peak = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = scores.iter().map(|score| (score - peak).exp()).sum();
    let share = |score: f32| (score - peak).exp() / total;
    let mut text = format!("{:>12}  {:>11}  label\n", "log p", "of labels");
    let (mut by_label, mut shares) = (serde_json::Map::new(), serde_json::Map::new());
    for (label, &score) in arguments.labels.iter().zip(&scores) {
        by_label.insert(label.clone(), score.into());
        shares.insert(label.clone(), share(score).into());
        text += &format!("{score:>12.4}  {:>10.2}%  {label}\n", 100.0 * share(score));
    }
    let usage = json!({ "prompt_tokens": prompt.len() });
    Ok(Report { json: json!({"scores": by_label, "probabilities": shares, "usage": usage}), text })
}
