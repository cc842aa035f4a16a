//! `caption`: a picture in words, or those of a catalogue or a folder.

use std::path::Path;

use pollster::block_on;
use serde_json::json;
use tributary_core::backend::Backend;
use tributary_core::session::{FinishReason, Sampling};
use tributary_core::{Error, Result};

use super::arguments::CaptionArguments;
use super::{Report, progress_bar};
use crate::caption::{
    COLOURS, CaptionOptions, Captioned, VisionLanguage, caption_all, caption_by_colours, describe,
    open,
};
use crate::data::CATALOGUE_FILE;
use crate::device::Device;
use crate::encode::{Inputs, read_picture};
use crate::encoder::Modality;
use crate::with_backend;

pub(super) fn caption(arguments: &CaptionArguments, device: Device) -> Result<Report> {
    let options = CaptionOptions {
        max_new_tokens: arguments.max_new_tokens,
        sampling: match arguments.temperature {
            0.0 => Sampling::Greedy,
            temperature => {
                Sampling::Random { temperature, top_k: 0, top_p: 1.0, seed: arguments.seed }
            }
        },
    };
    if arguments.model == Path::new(COLOURS) {
        return by_colours(arguments);
    }
    with_backend!(device.open()?, b => {
        let model = open(b, &arguments.model)?;
        let model = match arguments.max_picture_tokens {
            Some(tokens) => model.with_max_picture_tokens(tokens),
            None => model,
        };
        match (&arguments.image, &arguments.data) {
            (Some(path), _) => one(&model, path, arguments, &options),
            (None, Some(data)) => all(&model, data, arguments, &options),
            (None, None) => Err(neither()),
        }
    })
}

/// In words that need no model.
fn by_colours(arguments: &CaptionArguments) -> Result<Report> {
    match (&arguments.image, &arguments.data) {
        (Some(path), _) => {
            let caption = describe(&read_picture(path)?);
            Ok(Report { json: json!({"caption": caption}), text: format!("{caption}\n") })
        }
        (None, Some(data)) => written(data, &arguments.out, |inputs, progress| {
            caption_by_colours(inputs, &arguments.out, progress)
        }),
        (None, None) => Err(neither()),
    }
}

fn neither() -> Error {
    Error::argument("caption", "input", "--image FILE or --data FOLDER", "neither")
}

fn one<B: Backend>(
    model: &VisionLanguage<B>,
    path: &Path,
    arguments: &CaptionArguments,
    options: &CaptionOptions,
) -> Result<Report> {
    let picture = read_picture(path)?;
    let caption = block_on(model.caption(&picture, &arguments.prompt, options))?;
    let info = model.backend().info();
    let json = json!({
        "caption": caption.text,
        "token_ids": caption.token_ids,
        "finish_reason": match caption.finish_reason {
            FinishReason::Length => "length",
            FinishReason::Stop | FinishReason::Cancelled => "stop",
        },
        "usage": {"prompt_tokens": caption.prompt_tokens, "image_tokens": caption.image_tokens},
        "backend": {"device": info.device, "adapter": info.adapter},
    });
    Ok(Report { json, text: format!("{}\n", caption.text) })
}

fn all<B: Backend>(
    model: &VisionLanguage<B>,
    data: &Path,
    arguments: &CaptionArguments,
    options: &CaptionOptions,
) -> Result<Report> {
    let (prompt, out) = (&arguments.prompt, &arguments.out);
    written(data, out, |inputs, progress| {
        caption_all(model, inputs, prompt, options, out, progress)
    })
}

/// A prepared folder by its catalogue, any other as a folder of pictures.
fn written(
    data: &Path,
    out: &Path,
    caption: impl FnOnce(&Inputs, &mut dyn FnMut(usize, usize)) -> Result<Captioned>,
) -> Result<Report> {
    let inputs = match data.join(CATALOGUE_FILE).is_file() {
        true => Inputs::of_catalogue(data, Modality::Image)?,
        false => Inputs::of_folder(data)?,
    };
    let bar = progress_bar(inputs.len() as u64, "pictures");
    let started = std::time::Instant::now();
    let done = caption(&inputs, &mut |done, _| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let failures: Vec<_> =
        done.failures.iter().map(|f| json!({"name": f.name, "error": f.error})).collect();
    let json = json!({
        "rows": done.rows,
        "captioned": done.captioned,
        "absent": done.absent,
        "failed": failures,
        "was_current": done.was_current,
        "seconds": seconds,
        "out": out.display().to_string(),
    });
    Ok(Report { json, text: summary(&done, out, seconds) })
}

fn summary(done: &Captioned, out: &Path, seconds: f64) -> String {
    if done.was_current {
        return format!(
            "{} holds the captions of these {} rows already\n",
            out.display(),
            done.rows
        );
    }
    let mut text = format!(
        "{} of {} pictures captioned in {seconds:.1} s ({:.2} per second), {} rows without one, in {}\n",
        done.captioned,
        done.rows,
        done.captioned as f64 / seconds.max(1e-9),
        done.absent,
        out.display()
    );
    for failure in &done.failures {
        text += &format!("skipped {}: {}\n", failure.name, failure.error);
    }
    text
}
