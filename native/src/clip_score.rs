//! How well texts fit their pictures: CLIPScore (Hessel et al., arXiv 2104.08718), by which MLLM-SRec
//! measures what a model imagined. A number by itself says little, since a CLIP finds all pictures of a
//! shop somewhat like all texts of it; so each picture is compared with other items' texts, too.

use pollster::block_on;
use serde::Serialize;
use tributary_core::backend::Backend;
use tributary_core::random::Random;
use tributary_core::{Error, Result};

use crate::encode::{Failure, Inputs, read_picture};
use crate::encoder::{Encoder, normalize};

/// The factor of CLIPScore, which brings cosines of good captions near 1.
const FACTOR: f64 = 2.5;
/// Other items' texts that each picture is compared with.
const CONTROLS: usize = 16;
/// Pictures or texts in one pass.
const BATCH: usize = 8;

/// Means over the pictures that have a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClipScore {
    /// Pictures with a text.
    pub items: usize,
    /// Cosine of a picture and its text.
    pub cosine: f64,
    /// 2.5 max(cosine, 0).
    pub clip_score: f64,
    /// The same with the texts of other items.
    pub shuffled_cosine: f64,
    /// The same with the texts of other items.
    pub shuffled_clip_score: f64,
    /// Mean of a picture's cosine less those with other items' texts, and its standard error.
    pub margin: [f64; 2],
    /// Share of the other items' texts that fit a picture less well than its own: 0.5 by chance.
    pub own_is_better: f64,
    /// Items without a text or without a picture.
    pub absent: usize,
    /// Pictures and texts that could not be encoded, by name.
    #[serde(skip)]
    pub failures: Vec<Failure>,
}

/// Compares the pictures of `inputs` with what `text` says of each, by name. `progress` is told the rows
/// done.
///
/// # Errors
/// An encoder that does not take both pictures and texts, or fails; fewer than two pictures with a text.
pub fn clip_score<B: Backend>(
    encoder: &Encoder<B>,
    inputs: &Inputs,
    text: impl Fn(&str) -> Option<String>,
    seed: u64,
    mut progress: impl FnMut(usize),
) -> Result<ClipScore> {
    let mut score = ClipScore::default();
    let (mut pictures, mut texts) = (Vec::new(), Vec::new());
    let rows: Vec<_> = inputs.pictures().collect();
    encoder.picture_rule()?;
    encoder.tokens("a picture")?;
    for (done, batch) in rows.chunks(BATCH).enumerate() {
        let (mut decoded, mut said) = (Vec::new(), Vec::new());
        for (name, path) in batch {
            let words = text(name).filter(|words| !words.trim().is_empty());
            let (Some(path), Some(words)) = (path, words) else {
                score.absent += 1;
                continue;
            };
            match read_picture(path) {
                Ok(picture) => {
                    decoded.push(picture);
                    said.push(words);
                }
                Err(error) => {
                    let (name, error) = ((*name).to_owned(), error.to_string());
                    score.failures.push(Failure { name, error });
                }
            }
        }
        if !decoded.is_empty() {
            let said: Vec<&str> = said.iter().map(String::as_str).collect();
            pictures.extend(unit(block_on(encoder.embed_pictures(&decoded))?));
            texts.extend(unit(block_on(encoder.embed_texts(&said))?));
        }
        progress(done * BATCH + batch.len());
    }
    if pictures.len() < 2 {
        let expected = "at least two pictures with a text";
        return Err(Error::argument("clip-score", "texts", expected, pictures.len()));
    }
    score.items = pictures.len();
    means(&mut score, &pictures, &texts, seed);
    Ok(score)
}

fn unit(mut rows: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    rows.iter_mut().for_each(|row| normalize(row));
    rows
}

/// Fills in the means.
fn means(score: &mut ClipScore, pictures: &[Vec<f32>], texts: &[Vec<f32>], seed: u64) {
    let cosine = |picture: &[f32], text: &[f32]| -> f64 {
        picture.iter().zip(text).map(|(&p, &t)| f64::from(p) * f64::from(t)).sum()
    };
    let clip = |cosine: f64| FACTOR * cosine.max(0.0);
    let (items, mut better, mut others) = (pictures.len(), 0.0, 0usize);
    let mut margins = Vec::with_capacity(items);
    for (row, (picture, text)) in pictures.iter().zip(texts).enumerate() {
        let own = cosine(picture, text);
        score.cosine += own;
        score.clip_score += clip(own);
        let mut random = Random::stream(seed, row as u64);
        let (mut sum, mut drawn) = (0.0, 0usize);
        for _ in 0..CONTROLS {
            // Any row but its own.
            let other = (row + 1 + random.below(items as u64 - 1) as usize) % items;
            let Some(text) = texts.get(other) else { continue };
            let control = cosine(picture, text);
            sum += control;
            score.shuffled_clip_score += clip(control);
            better += if own > control { 1.0 } else { f64::from(u8::from(own == control)) / 2.0 };
            drawn += 1;
        }
        score.shuffled_cosine += sum;
        others += drawn;
        margins.push(own - sum / drawn.max(1) as f64);
    }
    let (items, others) = (items as f64, others.max(1) as f64);
    score.cosine /= items;
    score.clip_score /= items;
    score.shuffled_cosine /= others;
    score.shuffled_clip_score /= others;
    score.own_is_better = better / others;
    let mean = margins.iter().sum::<f64>() / items;
    let variance = margins.iter().map(|margin| (margin - mean).powi(2)).sum::<f64>() / items;
    score.margin = [mean, (variance / items).sqrt()];
}
