//! Items with both a picture and a text, ready for the towers.

use sha2::{Digest, Sha256};
use tributary_core::digest::hex;
use tributary_core::models::llama::TokenId;
use tributary_core::preprocess::PicturePreprocessor;
use tributary_core::random::Random;
use tributary_core::recommend::Catalogue;
use tributary_core::tokenizer::{Tokenizer, Vocabulary};
use tributary_core::{Error, Result};

use super::Batch;
use super::config::{ClipTrainConfig, SPECIAL_TOKENS};
use crate::data::CATALOGUE_FILE;
use crate::encode::{IMAGES_FOLDER, read_picture};

/// The kind of text that every item has.
const DESCRIPTION: &str = "title and description";
/// Most pixel values that are kept in memory for training: 2 GiB of them.
const MAX_PIXEL_VALUES: usize = 1 << 29;

/// The examples, split.
pub(super) struct Pairs {
    pub(super) ids: Vec<String>,
    /// One picture after the other, (3, image_size, image_size) each.
    pixels: Vec<f32>,
    /// Names of the kinds of text; the first one goes with the pictures in training and validation.
    pub(super) kinds: Vec<String>,
    /// The texts of each item, one per kind.
    texts: Vec<Vec<Vec<TokenId>>>,
    /// Title and description of each item apart, where they are to be paired.
    pub(super) sides: Option<[Vec<Vec<TokenId>>; 2]>,
    /// Indices of the items that are trained on, and of the others.
    pub(super) train: Vec<usize>,
    pub(super) held_out: Vec<usize>,
    pub(super) left_out: usize,
    pub(super) vocab_size: usize,
    /// Texts of the files that go beside the weights.
    pub(super) tokenizer: String,
    pub(super) preprocessor: String,
    pub(super) sha256: String,
}

impl Pairs {
    pub(super) fn read(config: &ClipTrainConfig) -> Result<Self> {
        let folder = &config.data.path;
        let path = folder.join(CATALOGUE_FILE);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(path.display(), e))?;
        let catalogue = Catalogue::from_jsonl(CATALOGUE_FILE, &bytes)?;
        let preprocessor = config.model.preprocessor_json();
        let rule = PicturePreprocessor::parse("preprocessor_config.json", &preprocessor, true)?;

        let caption = config.data.caption.as_ref();
        let kinds = caption.into_iter().cloned().chain([DESCRIPTION.to_owned()]).collect();
        let (mut ids, mut words, mut pixels) = (Vec::new(), Vec::new(), Vec::new());
        let mut sides = [Vec::new(), Vec::new()];
        for item in catalogue.items() {
            let caption = caption.map(|name| item.attributes.get(name).cloned());
            let texts: Option<Vec<String>> = caption.into_iter().chain([item.text()]).collect();
            let (Some(texts), Some(image)) = (texts, &item.image) else { continue };
            let path = folder.join(IMAGES_FOLDER).join(image);
            match read_picture(&path).and_then(|picture| rule.pixel_values(&picture)) {
                Ok(values) => pixels.extend(values),
                Err(error) => {
                    tracing::warn!("item {} is left out: {error}", item.id);
                    continue;
                }
            }
            if pixels.len() > MAX_PIXEL_VALUES {
                let (limit, found) = (MAX_PIXEL_VALUES as u64, pixels.len() as u64);
                let what = "clip: pixel values of all pictures".into();
                return Err(Error::Limit { what, limit, found });
            }
            ids.push(item.id.to_string());
            words.push(texts);
            sides[0].push(item.title.clone());
            // Half a pair would leave the item out of all: a title may stand for its description.
            sides[1].push(item.description.clone().unwrap_or_else(|| item.title.clone()));
        }
        let (train, held_out) = split(config, ids.len())?;

        // The vocabulary, too, knows nothing of what is held out.
        let vocabulary = Vocabulary {
            size: config.model.text.vocab_size,
            special_tokens: SPECIAL_TOKENS.map(str::to_owned).to_vec(),
            around: (Some(SPECIAL_TOKENS[0].into()), Some(SPECIAL_TOKENS[1].into())),
            lowercase: true,
            across_words: false,
        };
        let known: Vec<&str> =
            train.iter().flat_map(|&i| words[i].iter().map(String::as_str)).collect();
        let tokenizer = vocabulary.learn(known.into_iter())?;
        let encoder = Tokenizer::from_bytes("tokenizer.json", tokenizer.as_bytes())?;
        let limit = config.model.text.max_position_embeddings;
        let tokens = |text: &String| encoder.encode_truncated(text, limit);
        let texts = words.iter().map(|texts| texts.iter().map(tokens).collect());
        let texts = texts.collect::<Result<Vec<_>>>()?;
        let sides = match config.data.pair_texts {
            false => None,
            true => {
                let [titles, descriptions] =
                    sides.map(|side| side.iter().map(tokens).collect::<Result<Vec<_>>>());
                Some([titles?, descriptions?])
            }
        };

        let mut hash = Sha256::new();
        hash.update(&bytes);
        pixels.iter().for_each(|value: &f32| hash.update(value.to_le_bytes()));
        let left_out = catalogue.len() - ids.len();
        let (sha256, vocab_size) = (hex(&hash.finalize()), encoder.vocab_size());
        Ok(Self {
            ids,
            pixels,
            kinds,
            texts,
            sides,
            train,
            held_out,
            left_out,
            vocab_size,
            tokenizer,
            preprocessor,
            sha256,
        })
    }

    /// The inputs of items, each with its text of one kind.
    pub(super) fn batch(&self, items: &[usize], kind: usize) -> Batch<'_> {
        let size = self.pixels.len() / self.ids.len().max(1);
        let pixels = items.iter().flat_map(|&i| &self.pixels[i * size..(i + 1) * size]);
        let texts = items.iter().map(|&i| self.texts[i][kind].as_slice());
        (pixels.copied().collect(), texts.collect())
    }
}

/// Items to train on and to hold out, in catalogue order; the seed chooses.
fn split(config: &ClipTrainConfig, items: usize) -> Result<(Vec<usize>, Vec<usize>)> {
    let share = config.data.held_out;
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::file("configuration", "data.held_out", "above 0 and below 1", share));
    }
    let count = (items as f64 * share).round() as usize;
    if count < 2 || items - count < 2 {
        let expected = "items with picture and text, at least two to train on and two to hold out";
        return Err(Error::file(CATALOGUE_FILE, "items", expected, items));
    }
    let mut random = Random::named(u64::from(config.training.seed), "held out");
    let mut order: Vec<usize> = (0..items).collect();
    for last in (1..items).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    let mut held_out = order.split_off(items - count);
    order.sort_unstable();
    held_out.sort_unstable();
    Ok((order, held_out))
}
