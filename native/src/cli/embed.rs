//! `embed`: one input as a vector, or a catalogue or a folder of pictures as a table.

use std::path::Path;

use pollster::block_on;
use serde_json::json;
use tributary_core::backend::Backend;
use tributary_core::{Error, Result};

use super::arguments::EmbedArguments;
use super::{Report, progress_bar};
use crate::device::Device;
use crate::encode::{Encoded, Inputs, encode, read_picture};
use crate::encoder::{AnyEncoder, Encoder, normalize};
use crate::files;
use crate::with_encoder;

/// Largest file of pixel values.
const MAX_PIXEL_VALUES_BYTES: usize = 256 << 20;

pub(super) fn embed(arguments: &EmbedArguments, device: Device) -> Result<Report> {
    let encoder = AnyEncoder::open(&arguments.model, device)?;
    with_encoder!(&encoder, e => match (&arguments.catalogue, &arguments.images) {
        (Some(folder), _) => {
            let modality = arguments.modality.ok_or_else(|| {
                Error::argument("embed", "modality", "--modality image or text", "neither")
            })?;
            table(e, &Inputs::of_catalogue(folder, modality)?, arguments)
        }
        (None, Some(folder)) => table(e, &Inputs::of_folder(folder)?, arguments),
        (None, None) => one(e, arguments),
    })
}

fn one<B: Backend>(encoder: &Encoder<B>, arguments: &EmbedArguments) -> Result<Report> {
    let EmbedArguments { image, text, ids, pixel_values, .. } = arguments;
    let mut rows = match (image, text, ids, pixel_values) {
        (Some(path), ..) => block_on(encoder.embed_pictures(&[read_picture(path)?]))?,
        (_, Some(text), ..) => block_on(encoder.embed_texts(&[text]))?,
        (_, _, Some(ids), _) => block_on(encoder.embed_ids(&[ids]))?,
        (_, _, _, Some(path)) => block_on(encoder.embed_pixel_values(&read_pixel_values(path)?))?,
        (None, None, None, None) => {
            let expected = "--image, --text, --ids, --pixel-values, --catalogue or --images";
            return Err(Error::argument("embed", "input", expected, "none"));
        }
    };
    if rows.len() != 1 {
        let expected = "the values of one picture";
        return Err(Error::argument("embed", "pixel-values", expected, rows.len()));
    }
    let mut embedding = rows.swap_remove(0);
    if arguments.normalize {
        normalize(&mut embedding);
    }
    let info = encoder.backend().info();
    let length = embedding.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let shown: Vec<String> = embedding.iter().take(8).map(|x| format!("{x:.4}")).collect();
    let more = if embedding.len() > shown.len() { " ..." } else { "" };
    let text = format!(
        "{} values of length {length:.4} from {} on {}: {}{more}\n",
        embedding.len(),
        encoder.name(),
        info.device,
        shown.join(" ")
    );
    let backend = json!({"device": info.device, "adapter": info.adapter});
    Ok(Report { json: json!({"embedding": embedding, "backend": backend}), text })
}

/// A JSON list of numbers.
fn read_pixel_values(path: &Path) -> Result<Vec<f32>> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let text = files::read_text(path, &name, MAX_PIXEL_VALUES_BYTES)?;
    serde_json::from_str(&text)
        .map_err(|e| Error::file(name, "content", "a JSON list of 3 * height * width numbers", e))
}

fn table<B: Backend>(
    encoder: &Encoder<B>,
    inputs: &Inputs,
    arguments: &EmbedArguments,
) -> Result<Report> {
    let out = arguments.out.as_deref().ok_or_else(|| {
        Error::argument("embed", "out", "--out FILE.safetensors for a table", "none")
    })?;
    let bar = progress_bar(inputs.len() as u64, "rows");
    let started = std::time::Instant::now();
    let done = encode(encoder, inputs, out, &mut |done, _| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let failures: Vec<_> =
        done.failures.iter().map(|f| json!({"name": f.name, "error": f.error})).collect();
    let json = json!({
        "rows": done.rows,
        "encoded": done.encoded,
        "absent": done.absent,
        "failed": failures,
        "embedding_size": encoder.embedding_size(),
        "was_current": done.was_current,
        "seconds": seconds,
        "out": out.display().to_string(),
    });
    Ok(Report { json, text: summary(&done, out, seconds) })
}

fn summary(done: &Encoded, out: &Path, seconds: f64) -> String {
    if done.was_current {
        return format!("{} holds these {} rows already\n", out.display(), done.rows);
    }
    let mut text = format!(
        "{} of {} rows encoded in {seconds:.1} s ({:.1} per second), {} without input, in {}\n",
        done.encoded,
        done.rows,
        done.encoded as f64 / seconds.max(1e-9),
        done.absent,
        out.display()
    );
    for failure in &done.failures {
        text += &format!("skipped {}: {}\n", failure.name, failure.error);
    }
    text
}
