//! Floor 7, encoders whole: pictures and texts in, vectors out.
//!
//! `config.json` says which model it is: CLIP (both), ViT (pictures), BERT (texts). A catalogue is
//! encoded with it once, and an item that comes later at run time.

mod texts;

use std::fmt::Debug;

use sha2::{Digest, Sha256};

use crate::backend::Backend;
use crate::digest::hex;
use crate::error::{Error, Result};
use crate::models::bert::{Bert, BertConfig, SentencePooling};
use crate::models::clip::{Clip, ClipConfig};
use crate::models::llama::TokenId;
use crate::models::vit::{Vit, VitConfig};
use crate::preprocess::{Picture, PicturePreprocessor};
use crate::weights::{Checkpoint, ConfigReader, MAX_CONFIG_BYTES, Weights};
use texts::Texts;

/// Where an encoder's files come from: a folder, or a bundle.
pub trait EncoderFiles: Debug + Send + Sync {
    /// Text of `config.json`.
    fn config(&self) -> &str;
    /// Its tensors.
    fn checkpoint(&self) -> &Checkpoint;
    /// Text of the file `name`, `None` when there is none.
    ///
    /// # Errors
    /// More than `max_bytes`, or not UTF-8.
    fn text(&self, name: &str, max_bytes: usize) -> Result<Option<String>>;
    /// Text of the file `name` in the folder `inner`: where sentence encoders keep how they pool.
    ///
    /// # Errors
    /// As for [`EncoderFiles::text`]; a folder that leads elsewhere.
    fn inner_text(&self, inner: &str, name: &str, max_bytes: usize) -> Result<Option<String>>;
}

/// A loaded encoder with what its folder says of pictures and texts.
#[derive(Debug)]
pub struct Encoder<B: Backend> {
    backend: B,
    model: Model<B>,
    files: Box<dyn EncoderFiles>,
    pictures: Option<PicturePreprocessor>,
    texts: Option<Texts>,
    folder: String,
}

#[derive(Debug)]
enum Model<B: Backend> {
    Clip(Box<Clip<B>>),
    Vit(Box<Vit<B>>),
    Bert(Box<Bert<B>>, SentencePooling),
}

impl<B: Backend> Encoder<B> {
    /// Loads a CLIP, a ViT or a BERT sentence encoder. `folder` names it in errors.
    ///
    /// # Errors
    /// Whatever a file does not hold as it should, by file and field.
    pub fn load(backend: B, files: Box<dyn EncoderFiles>, folder: String) -> Result<Self> {
        const CONFIG: &str = "config.json";
        let config = ConfigReader::new(CONFIG, files.config())?;
        let weights = Weights::new(&backend, files.checkpoint());
        let (model, image_size, max_tokens, vocab_size) = match config.str("model_type")? {
            "clip" => {
                let config = ClipConfig::parse(CONFIG, files.config())?;
                let text = config.text_config;
                let model = Model::Clip(Box::new(Clip::load(&weights, config)?));
                let image_size = config.vision_config.patches.image_size;
                (model, Some(image_size), Some(text.max_position_embeddings), text.vocab_size)
            }
            "vit" | "timm_vit" => {
                let config = VitConfig::parse(CONFIG, files.config())?;
                let model = Model::Vit(Box::new(Vit::load(&weights, config)?));
                (model, Some(config.patches.image_size), None, 0)
            }
            "bert" => {
                let config = BertConfig::parse(CONFIG, files.config())?;
                let model = Box::new(Bert::load(&weights, config)?);
                let model = Model::Bert(model, pooling(&*files)?);
                (model, None, Some(config.max_position_embeddings), config.vocab_size)
            }
            _ => return Err(config.unsupported("model_type", "clip, vit, timm_vit, bert")),
        };
        let unused = weights.unused();
        if !unused.is_empty() {
            tracing::info!(?unused, "tensors of the checkpoint that nobody asked for");
        }
        let is_clip = matches!(model, Model::Clip(_));
        let pictures = match image_size {
            Some(size) => Some(preprocessor(&*files, &config, size, is_clip)?),
            None => None,
        };
        let texts = match max_tokens {
            Some(limit) => Texts::open(&*files, limit, vocab_size, is_clip)?,
            None => None,
        };
        Ok(Self { backend, model, files, pictures, texts, folder })
    }

    /// The backend it was loaded on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// `clip`, `vit` or `bert`.
    pub fn name(&self) -> &'static str {
        match &self.model {
            Model::Clip(_) => "clip",
            Model::Vit(_) => "vit",
            Model::Bert(..) => "bert",
        }
    }

    /// `image` and `text`, as far as it encodes them.
    pub fn encodes(&self) -> Vec<&'static str> {
        let both = [("image", self.pictures.is_some()), ("text", self.texts.is_some())];
        both.into_iter().filter(|(_, can)| *can).map(|(what, _)| what).collect()
    }

    /// Values of an embedding.
    pub fn embedding_size(&self) -> usize {
        match &self.model {
            Model::Clip(clip) => clip.config().projection_dim,
            Model::Vit(vit) => vit.config().encoder.hidden_size,
            Model::Bert(bert, _) => bert.config().encoder.hidden_size,
        }
    }

    /// What tells one encoder from another: its name, and the sha256 of its configuration and
    /// tensors. Reads all weights.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn identity(&self) -> Result<String> {
        identity_of(self.name(), &*self.files)
    }

    /// How pictures become pixel values; `Err` for an encoder of texts.
    pub fn picture_rule(&self) -> Result<&PicturePreprocessor> {
        self.pictures.as_ref().ok_or_else(|| self.lacks("pictures"))
    }

    /// The tokens of a text, special ones included, cut to what the model takes; `Err` without a
    /// tokenizer or for an encoder of pictures.
    pub fn tokens(&self, text: &str) -> Result<Vec<TokenId>> {
        let Some(texts) = &self.texts else { return Err(self.lacks("texts")) };
        texts.tokens(text)
    }

    fn lacks(&self, what: &str) -> Error {
        let expected = match what {
            "texts" => "a CLIP or BERT with a tokenizer.json, for texts",
            _ => "a CLIP or ViT, for pictures",
        };
        Error::file(&self.folder, what, expected, self.name())
    }

    /// Embeddings of pictures given by their normalised values (pictures, 3, image_size,
    /// image_size): CLIP's after projection, ViT's class row after the last norm. Not normalised.
    ///
    /// # Errors
    /// Another number of values; an embedding that is not finite.
    pub async fn embed_pixel_values(&self, pixel_values: &[f32]) -> Result<Vec<Vec<f32>>> {
        let b = &self.backend;
        let embeds = match &self.model {
            Model::Clip(clip) => clip.image_embeds(b, pixel_values, None)?,
            Model::Vit(vit) => vit.image_embeds(b, pixel_values)?,
            Model::Bert(..) => return Err(self.lacks("pictures")),
        };
        self.rows(&embeds).await
    }

    /// Embeddings of texts given by their tokens: CLIP's after projection, not normalised; a
    /// sentence encoder's as its folder says.
    ///
    /// # Errors
    /// A text without tokens or with too many; an embedding that is not finite.
    pub async fn embed_ids(&self, texts: &[&[TokenId]]) -> Result<Vec<Vec<f32>>> {
        let b = &self.backend;
        match &self.model {
            Model::Clip(clip) => self.rows(&clip.text_embeds(b, texts, None)?).await,
            Model::Vit(_) => Err(self.lacks("texts")),
            Model::Bert(bert, pooling) => {
                let (hidden, segments) = bert.forward(b, texts, None)?;
                let mut rows = self.rows(&bert.pool(b, &hidden, &segments, pooling.mode)?).await?;
                if pooling.normalize {
                    rows.iter_mut().for_each(|row| normalize(row));
                }
                Ok(rows)
            }
        }
    }

    /// [`Encoder::embed_pixel_values`] of decoded pictures, in one pass.
    ///
    /// # Errors
    /// As for [`PicturePreprocessor::pixel_values`] and [`Encoder::embed_pixel_values`].
    pub async fn embed_pictures(&self, pictures: &[Picture]) -> Result<Vec<Vec<f32>>> {
        let rule = self.picture_rule()?;
        let values = pictures.iter().map(|picture| rule.pixel_values(picture));
        self.embed_pixel_values(&values.collect::<Result<Vec<_>>>()?.concat()).await
    }

    /// [`Encoder::embed_ids`] of texts, in one pass.
    ///
    /// # Errors
    /// As for [`Encoder::tokens`] and [`Encoder::embed_ids`].
    pub async fn embed_texts(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let ids = texts.iter().map(|text| self.tokens(text)).collect::<Result<Vec<_>>>()?;
        self.embed_ids(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>()).await
    }

    async fn rows(&self, embeds: &B::Tensor) -> Result<Vec<Vec<f32>>> {
        let values = self.backend.read(embeds).await?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let found = format!("{} at {at}", values[at]);
            return Err(Error::file(&self.folder, "embedding", "finite values", found));
        }
        Ok(values.chunks_exact(self.embedding_size()).map(<[f32]>::to_vec).collect())
    }
}

/// `name`, and the sha256 of the configuration and tensors of `files`. Reads all weights.
///
/// # Errors
/// Weights that cannot be read.
pub fn identity_of(name: &str, files: &dyn EncoderFiles) -> Result<String> {
    let (checkpoint, mut hash) = (files.checkpoint(), Sha256::new());
    hash.update(files.config().as_bytes());
    for tensor in checkpoint.names() {
        hash.update(tensor.as_bytes());
        hash.update(checkpoint.raw(tensor)?);
    }
    Ok(format!("{name} sha256:{}", hex(&hash.finalize())))
}

/// Scales a vector to length 1; one of zeros stays.
pub fn normalize(row: &mut [f32]) {
    let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// As `modules.json` says; the mean where there is none.
fn pooling(files: &dyn EncoderFiles) -> Result<SentencePooling> {
    let Some(modules) = files.text("modules.json", MAX_CONFIG_BYTES)? else {
        return Ok(SentencePooling::default());
    };
    SentencePooling::parse("modules.json", &modules, |folder| {
        let text = files.inner_text(folder, "config.json", MAX_CONFIG_BYTES)?;
        text.ok_or_else(|| {
            let expected = format!("the file {folder}/config.json");
            Error::file("modules.json", "path", expected, "no such file")
        })
    })
}

/// As `preprocessor_config.json` says; without one the model's own rule, with the statistics that
/// timm keeps in `config.json`.
fn preprocessor(
    files: &dyn EncoderFiles,
    config: &ConfigReader,
    image_size: usize,
    is_clip: bool,
) -> Result<PicturePreprocessor> {
    const FILE: &str = "preprocessor_config.json";
    let preprocessor = match files.text(FILE, MAX_CONFIG_BYTES)? {
        Some(text) => PicturePreprocessor::parse(FILE, &text, is_clip)?,
        None if is_clip => PicturePreprocessor::clip(image_size),
        None => PicturePreprocessor::vit(image_size).with_statistics(config)?,
    };
    match preprocessor.output_size() {
        Some(size) if size != [image_size; 2] => {
            let expected = format!("{image_size}x{image_size}, config.json's image_size");
            Err(Error::file(FILE, "size", expected, format!("{}x{}", size[0], size[1])))
        }
        _ => Ok(preprocessor),
    }
}
