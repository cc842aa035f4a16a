//! Floor 7, models that see and write: a picture and a prompt in, a text out.
//!
//! `config.json` says which model it is: LLaVA or Qwen2-VL. Pictures become soft tokens of a prompt, and
//! a [`Session`] runs it as any other.

use std::ops::ControlFlow;

use crate::backend::Backend;
use crate::encoder::{EncoderFiles, identity_of};
use crate::error::{Error, Result};
use crate::models::llama::TokenId;
use crate::models::llava::{Llava, LlavaConfig, picture_rows};
use crate::models::qwen2_vl::{PatchGrid, Qwen2Vl, Qwen2VlConfig};
use crate::nn::AxesPosition;
use crate::preprocess::{PatchPreprocessor, Picture, PicturePreprocessor};
use crate::session::{FinishReason, Generated, Sampler, Sampling, Session, SoftTokens, StopRules};
use crate::tokenizer::{MAX_TOKENIZER_BYTES, Tokenizer};
use crate::weights::{ConfigReader, MAX_CONFIG_BYTES, Weights};

/// Most pictures of one prompt.
pub const MAX_PICTURES: usize = 64;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaptionOptions {
    /// Most tokens of the answer.
    pub max_new_tokens: usize,
    /// How each is chosen.
    pub sampling: Sampling,
}

impl Default for CaptionOptions {
    fn default() -> Self {
        Self { max_new_tokens: 64, sampling: Sampling::Greedy }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    /// Without special tokens, and without space around it.
    pub text: String,
    /// New tokens, without the stop.
    pub token_ids: Vec<TokenId>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt, pictures included.
    pub prompt_tokens: usize,
    /// Those of them that are pictures.
    pub image_tokens: usize,
}

/// A picture as its model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenPicture {
    /// LLaVA: (3, image_size, image_size). Qwen2-VL: (patches, values of a patch).
    values: Vec<f32>,
    /// Qwen2-VL's patches.
    grid: Option<PatchGrid>,
    tokens: usize,
}

impl SeenPicture {
    /// Tokens it takes in a prompt.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// A loaded model with what its folder says of pictures and texts.
#[derive(Debug)]
pub struct VisionLanguage<B: Backend> {
    backend: B,
    model: Model<B>,
    tokenizer: Option<Tokenizer>,
    eos_token_ids: Vec<TokenId>,
    files: Box<dyn EncoderFiles>,
    folder: String,
}

#[derive(Debug)]
enum Model<B: Backend> {
    Llava(Box<Llava<B>>, PicturePreprocessor),
    Qwen2Vl(Box<Qwen2Vl<B>>, PatchPreprocessor),
}

impl<B: Backend> VisionLanguage<B> {
    /// Loads a LLaVA or a Qwen2-VL. `folder` names it in errors.
    ///
    /// # Errors
    /// Whatever a file does not hold as it should, by file and field.
    pub fn load(backend: B, files: Box<dyn EncoderFiles>, folder: String) -> Result<Self> {
        const CONFIG: &str = "config.json";
        let config = ConfigReader::new(CONFIG, files.config())?;
        let weights = Weights::new(&backend, files.checkpoint());
        let rule = preprocessor_text(&*files)?;
        let model = match config.str("model_type")? {
            "llava" => {
                let config = LlavaConfig::parse(CONFIG, files.config())?;
                let size = config.vision_config.patches.image_size;
                let pictures = clip_rule(rule, size)?;
                Model::Llava(Box::new(Llava::load(&weights, config)?), pictures)
            }
            "qwen2_vl" => {
                let config = Qwen2VlConfig::parse(CONFIG, files.config())?;
                let pictures = match rule {
                    Some((file, text)) => {
                        PatchPreprocessor::parse(file, &text, &config.vision_config)?
                    }
                    None => PatchPreprocessor::new(&config.vision_config),
                };
                Model::Qwen2Vl(Box::new(Qwen2Vl::load(&weights, config)?), pictures)
            }
            _ => return Err(config.unsupported("model_type", "llava, qwen2_vl")),
        };
        let unused = weights.unused();
        if !unused.is_empty() {
            tracing::info!(?unused, "tensors of the checkpoint that nobody asked for");
        }
        const TOKENIZER: &str = "tokenizer.json";
        let tokenizer = match files.text(TOKENIZER, MAX_TOKENIZER_BYTES)? {
            Some(text) => Some(Tokenizer::from_bytes(TOKENIZER, text.as_bytes())?),
            None => None,
        };
        let mut this = Self { backend, model, tokenizer, eos_token_ids: Vec::new(), files, folder };
        let language = this.language_config();
        if let Some(tokenizer) = &this.tokenizer {
            tokenizer.check_vocab_size(language.vocab_size)?;
        }
        this.eos_token_ids = match end_tokens(&*this.files, language.vocab_size)? {
            ids if ids.is_empty() => language.eos_token_ids.clone(),
            ids => ids,
        };
        Ok(this)
    }

    /// At most `tokens` for a picture, of a model whose pictures have a size of their own.
    #[must_use]
    pub fn with_max_picture_tokens(mut self, tokens: usize) -> Self {
        if let Model::Qwen2Vl(_, rule) = &mut self.model {
            *rule = rule.clone().with_max_tokens(tokens);
        }
        self
    }

    /// Most tokens of a picture.
    pub fn max_picture_tokens(&self) -> usize {
        match &self.model {
            Model::Llava(model, _) => model.config().image_tokens(),
            Model::Qwen2Vl(_, rule) => rule.max_tokens(),
        }
    }

    /// The backend it was loaded on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// `llava` or `qwen2_vl`.
    pub fn name(&self) -> &'static str {
        match &self.model {
            Model::Llava(..) => "llava",
            Model::Qwen2Vl(..) => "qwen2_vl",
        }
    }

    /// What tells one model from another: its name, and the sha256 of its configuration and tensors.
    /// Reads all weights.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn identity(&self) -> Result<String> {
        identity_of(self.name(), &*self.files)
    }

    fn language_config(&self) -> &crate::models::llama::LlamaConfig {
        match &self.model {
            Model::Llava(model, _) => &model.config().text_config,
            Model::Qwen2Vl(model, _) => &model.config().text_config,
        }
    }

    /// The token that stands for a picture in a prompt.
    pub fn image_token_id(&self) -> TokenId {
        match &self.model {
            Model::Llava(model, _) => model.config().image_token_index,
            Model::Qwen2Vl(model, _) => model.config().image_token_id,
        }
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing =
            || Error::file(&self.folder, "tokenizer.json", "a tokenizer for text", "no such file");
        self.tokenizer.as_ref().ok_or_else(missing)
    }

    /// The tokens of a question about one picture. A `prompt` that spells the model's picture token
    /// (`<image>`, `<|image_pad|>`) is the whole prompt; any other is put behind the picture in the
    /// form that the published model was trained with.
    ///
    /// # Errors
    /// A folder without tokenizer; a prompt with another number of picture tokens than one.
    pub fn prompt_ids(&self, prompt: &str) -> Result<Vec<TokenId>> {
        let (tokenizer, id) = (self.tokenizer()?, self.image_token_id());
        let picture = tokenizer.decode(&[id], false)?;
        let text = match &self.model {
            _ if prompt.contains(&picture) => prompt.to_owned(),
            Model::Llava(..) => format!("USER: {picture}\n{prompt} ASSISTANT:"),
            Model::Qwen2Vl(..) => format!(
                "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\
                 <|vision_start|>{picture}<|vision_end|>{prompt}<|im_end|>\n\
                 <|im_start|>assistant\n"
            ),
        };
        let ids = tokenizer.encode(&text, true)?;
        let found = ids.iter().filter(|&&found| found == id).count();
        if found != 1 {
            let expected = format!("one picture token {picture}");
            return Err(Error::argument("caption", "prompt", expected, found));
        }
        Ok(ids)
    }

    /// The picture as the model takes it: resized, normalised.
    ///
    /// # Errors
    /// A picture that the model's rule refuses.
    pub fn see(&self, picture: &Picture) -> Result<SeenPicture> {
        match &self.model {
            Model::Llava(model, rule) => {
                let (values, tokens) = (rule.pixel_values(picture)?, model.config().image_tokens());
                Ok(SeenPicture { values, grid: None, tokens })
            }
            Model::Qwen2Vl(model, rule) => {
                let patches = rule.patches(picture)?;
                let tokens = model.image_tokens(&patches.grid);
                Ok(SeenPicture { values: patches.values, grid: Some(patches.grid), tokens })
            }
        }
    }

    /// A text about `picture`. See [`Self::prompt_ids`] for what a prompt may be.
    ///
    /// # Errors
    /// As for [`Self::prompt_ids`], [`Self::see`] and [`Self::answer`].
    pub async fn caption(
        &self,
        picture: &Picture,
        prompt: &str,
        options: &CaptionOptions,
    ) -> Result<Caption> {
        self.answer(&self.prompt_ids(prompt)?, &[self.see(picture)?], options).await
    }

    /// The answer to a prompt of tokens that has a picture token for each of `pictures`, in their
    /// order. Without a tokenizer the text is empty.
    ///
    /// # Errors
    /// Another number of picture tokens than of pictures, more than [`MAX_PICTURES`], a prompt that
    /// leaves no room for an answer in the model's context.
    pub async fn answer(
        &self,
        ids: &[TokenId],
        pictures: &[SeenPicture],
        options: &CaptionOptions,
    ) -> Result<Caption> {
        if pictures.len() > MAX_PICTURES {
            let (limit, found) = (MAX_PICTURES as u64, pictures.len() as u64);
            return Err(Error::Limit { what: "caption: pictures".into(), limit, found });
        }
        let prompt = self.expanded(ids, pictures)?;
        let mut session = self.prefilled(&prompt, pictures, options.max_new_tokens)?;
        let stop = StopRules {
            max_new_tokens: options.max_new_tokens,
            stop_token_ids: self.eos_token_ids.clone(),
            stop_sequences: Vec::new(),
        };
        let mut sampler = Sampler::new(options.sampling)?;
        let go_on = |_| ControlFlow::Continue(());
        let Generated { token_ids, finish_reason } =
            session.generate(&mut sampler, &stop, go_on).await?;
        let text = match &self.tokenizer {
            Some(tokenizer) => tokenizer.decode(&token_ids, true)?.trim().to_owned(),
            None => String::new(),
        };
        let image_tokens = pictures.iter().map(SeenPicture::tokens).sum();
        Ok(Caption { text, token_ids, finish_reason, prompt_tokens: prompt.len(), image_tokens })
    }

    /// Each picture token as often as its picture has rows.
    fn expanded(&self, ids: &[TokenId], pictures: &[SeenPicture]) -> Result<Vec<TokenId>> {
        let id = self.image_token_id();
        picture_rows(ids, id, pictures.len())?;
        let mut counts = pictures.iter().map(SeenPicture::tokens);
        let repeat = |&token: &TokenId| match token == id {
            true => std::iter::repeat_n(token, counts.next().unwrap_or_default()),
            false => std::iter::repeat_n(token, 1),
        };
        Ok(ids.iter().flat_map(repeat).collect())
    }

    /// A session behind `prompt`, with room for `max_new_tokens`.
    fn prefilled(
        &self,
        prompt: &[TokenId],
        pictures: &[SeenPicture],
        max_new_tokens: usize,
    ) -> Result<Session<B>> {
        let b = &self.backend;
        let limit = self.language_config().max_position_embeddings;
        if prompt.len() >= limit {
            let found = prompt.len() + 1;
            return Err(Error::InputTooLong { what: "a prompt with pictures", limit, found });
        }
        let len = prompt.len().saturating_add(max_new_tokens);
        let values: Vec<f32> = pictures.iter().flat_map(|seen| &seen.values).copied().collect();
        let language = match &self.model {
            Model::Llava(model, _) => model.language_model(),
            Model::Qwen2Vl(model, _) => model.language_model(),
        };
        let mut session = Session::new(b.clone(), language.clone(), len)?;
        if pictures.is_empty() {
            session.prefill(prompt)?;
            return Ok(session);
        }
        let (rows, positions) = match &self.model {
            Model::Llava(model, _) => {
                let positions: Vec<AxesPosition> =
                    (0..prompt.len() as u32).map(|place| [place; 3]).collect();
                (model.image_features(b, &values, None)?, positions)
            }
            Model::Qwen2Vl(model, _) => {
                let grids: Vec<PatchGrid> = pictures.iter().filter_map(|seen| seen.grid).collect();
                let rows = model.image_features(b, &values, &grids, None)?;
                (rows, model.positions(prompt, &grids)?)
            }
        };
        let places = picture_rows(prompt, self.image_token_id(), b.shape(&rows)[0])?;
        // No other session sees these rows, so their places tell them apart.
        let identities: Vec<u64> = places.iter().map(|&place| place.into()).collect();
        let soft = SoftTokens { positions: &places, identities: &identities, rows: &rows };
        session.prefill_axes(prompt, &positions, &soft)?;
        Ok(session)
    }
}

/// `preprocessor_config.json`, or the part of a `processor_config.json` that newer folders have in its
/// place; with the file's name.
fn preprocessor_text(files: &dyn EncoderFiles) -> Result<Option<(&'static str, String)>> {
    const FILE: &str = "preprocessor_config.json";
    const WHOLE: &str = "processor_config.json";
    if let Some(text) = files.text(FILE, MAX_CONFIG_BYTES)? {
        return Ok(Some((FILE, text)));
    }
    let Some(text) = files.text(WHOLE, MAX_CONFIG_BYTES)? else { return Ok(None) };
    let config = ConfigReader::new(WHOLE, &text)?;
    Ok(config.value("image_processor").map(|part| (WHOLE, part.to_string())))
}

/// How a LLaVA's pictures become squares of `image_size`.
fn clip_rule(
    rule: Option<(&'static str, String)>,
    image_size: usize,
) -> Result<PicturePreprocessor> {
    let Some((file, text)) = rule else { return Ok(PicturePreprocessor::clip(image_size)) };
    let rule = PicturePreprocessor::parse(file, &text, true)?;
    match rule.output_size() {
        Some(size) if size == [image_size; 2] => Ok(rule),
        found => {
            let expected = format!("{image_size}x{image_size}, config.json's image_size");
            let found = found.map_or("the picture's own".into(), |[h, w]| format!("{w}x{h}"));
            Err(Error::file(file, "size", expected, found))
        }
    }
}

/// `eos_token_id` of `generation_config.json`; none without it.
fn end_tokens(files: &dyn EncoderFiles, vocab_size: usize) -> Result<Vec<TokenId>> {
    const FILE: &str = "generation_config.json";
    let Some(text) = files.text(FILE, MAX_CONFIG_BYTES)? else { return Ok(Vec::new()) };
    let config = ConfigReader::new(FILE, &text)?;
    let ids = config.usizes("eos_token_id", 0..=u32::MAX as usize)?;
    Ok(ids.into_iter().filter(|&id| id < vocab_size).map(|id| id as TokenId).collect())
}
