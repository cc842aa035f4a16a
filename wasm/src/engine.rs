//! A recommender on one backend, with what the page asks of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::gpu::Gpu;
use tributary_core::encoder::{Encoder, normalize};
use tributary_core::preprocess::Picture;
use tributary_core::recommend::{
    Bundle, CatalogueItem, Explanation, Interaction, ItemId, ItemIndex, Kind, Modality,
    Recommendations, Recommender, Request, explain,
};
use tributary_core::{Error, Result};
use wasm_bindgen::prelude::*;

use crate::values::{self, Failure};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// `Engine` of the contract with `worker.js`.
#[wasm_bindgen]
pub struct Engine(AnyLoaded);

/// What a bundle became on one backend.
struct Loaded<B: Backend> {
    backend: B,
    recommender: Kind<B>,
    encoder: Option<Encoder<B>>,
    about: About,
}

/// The choice of the backend, made once.
enum AnyLoaded {
    Cpu(Loaded<Cpu>),
    Gpu(Loaded<Gpu>),
}

/// Evaluates `$body` with `$l` bound to what is loaded, on whichever backend.
macro_rules! with_loaded {
    ($any:expr, $l:ident => $body:expr) => {
        match $any {
            AnyLoaded::Cpu($l) => $body,
            AnyLoaded::Gpu($l) => $body,
        }
    };
}

/// What does not change while it is loaded.
#[derive(Clone)]
struct About {
    parameters: u64,
    bytes: u64,
    dtype: String,
    licence: String,
    provenance: String,
    quality: serde_json::Value,
}

#[derive(Serialize)]
struct Info<'a> {
    recommender: &'a str,
    items: usize,
    parameters: u64,
    bytes: u64,
    dtype: &'a str,
    device: &'a str,
    adapter: &'a str,
    licence: &'a str,
    provenance: &'a str,
    quality: &'a serde_json::Value,
    max_input_tokens: Option<usize>,
    encodes: Vec<&'static str>,
    modalities: Vec<Modality>,
    behaviours: &'a [String],
}

/// An item as the page gives it: what a catalogue holds, less what only training knows.
#[derive(Deserialize)]
struct NewItem {
    id: ItemId,
    #[serde(default)]
    title: String,
    #[serde(default)]
    brand: Option<String>,
    #[serde(default)]
    category: Option<String>,
    #[serde(default)]
    price: Option<f64>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    caption: Option<String>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

impl Engine {
    /// The bundle on the CPU.
    pub(crate) async fn on_cpu(bundle: &Bundle) -> Result<Self> {
        Loaded::new(bundle, Cpu::new()).await.map(|loaded| Self(AnyLoaded::Cpu(loaded)))
    }

    /// The bundle on an opened GPU.
    pub(crate) async fn on_gpu(bundle: &Bundle, gpu: Gpu) -> Result<Self> {
        Loaded::new(bundle, gpu).await.map(|loaded| Self(AnyLoaded::Gpu(loaded)))
    }
}

#[wasm_bindgen]
impl Engine {
    /// What it is and what it runs on.
    pub fn info(&self) -> Result<JsValue, Failure> {
        with_loaded!(&self.0, loaded => loaded.info())
    }

    /// The catalogue.
    pub fn items(&self) -> Result<JsValue, Failure> {
        let items = with_loaded!(&self.0, loaded => loaded.recommender.catalogue().items());
        values::to_js(&items)
    }

    /// The best items for one user.
    pub async fn recommend(&self, request: JsValue) -> Result<JsValue, Failure> {
        let request: Request = values::from_js("recommend", "request", request)?;
        let answer: Recommendations =
            with_loaded!(&self.0, loaded => loaded.recommender.recommend(&request).await?);
        values::to_js(&answer)
    }

    /// What the scores of items owe to what.
    pub async fn explain(&self, request: JsValue, ids: JsValue) -> Result<JsValue, Failure> {
        let request: Request = values::from_js("explain", "request", request)?;
        let ids: Vec<ItemId> = values::from_js("explain", "ids", ids)?;
        let explanations: Vec<Explanation> = with_loaded!(&self.0, loaded => {
            let modalities = loaded.recommender.modalities();
            explain(&loaded.recommender, &request, &ids, &modalities).await?
        });
        values::to_js(&explanations)
    }

    /// Adds an item that the bundle does not know, with its picture if it has one.
    pub async fn add_item(&mut self, item: JsValue, picture: JsValue) -> Result<u32, Failure> {
        let item: NewItem = values::from_js("add_item", "item", item)?;
        let item = CatalogueItem {
            title: item.title,
            brand: item.brand,
            category: item.category,
            price: item.price,
            description: item.description,
            caption: item.caption,
            summary: item.summary,
            attributes: item.attributes,
            ..CatalogueItem::new(item.id.as_str())
        };
        item.check("add_item", item.id.as_str())?;
        let picture = match picture.is_undefined() || picture.is_null() {
            true => None,
            false => Some(values::picture(&picture)?),
        };
        Ok(with_loaded!(&mut self.0, loaded => loaded.add_item(item, picture).await?))
    }

    /// Embeddings of texts, each of length 1: (texts, dims) row by row.
    pub async fn embed_texts(&self, texts: JsValue) -> Result<Vec<f32>, Failure> {
        let texts: Vec<String> = values::from_js("embed", "texts", texts)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let rows = with_loaded!(&self.0, loaded => loaded.encoder()?.embed_texts(&texts).await?);
        Ok(of_length_one(rows))
    }

    /// The embedding of a picture, of length 1.
    pub async fn embed_picture(&self, picture: JsValue) -> Result<Vec<f32>, Failure> {
        let picture = [values::picture(&picture)?];
        let rows =
            with_loaded!(&self.0, loaded => loaded.encoder()?.embed_pictures(&picture).await?);
        Ok(of_length_one(rows))
    }
}

fn of_length_one(mut rows: Vec<Vec<f32>>) -> Vec<f32> {
    rows.iter_mut().for_each(|row| normalize(row));
    rows.concat()
}

impl About {
    fn new(bundle: &Bundle) -> Result<Self> {
        let manifest = &bundle.manifest;
        let mut parameters = 0;
        // Norms stay f32, and a q4 model keeps some matrices in q8: what most values are stored in.
        let mut values_by_coding = BTreeMap::<String, u64>::new();
        for component in ["model", "fusion", "encoder"] {
            if !bundle.has(component) {
                continue;
            }
            let checkpoint = bundle.checkpoint(component)?;
            for info in checkpoint.names().filter_map(|name| checkpoint.info(name)) {
                let values = info.shape.iter().product::<usize>() as u64;
                parameters += values;
                if component == "model" {
                    *values_by_coding.entry(info.coding.to_string()).or_default() += values;
                }
            }
        }
        let dtype = values_by_coding.into_iter().max_by_key(|(_, values)| *values);
        let dtype = dtype.map_or_else(String::new, |(coding, _)| coding);
        let quality = serde_json::to_value(&manifest.quality);
        Ok(Self {
            parameters,
            dtype,
            bytes: manifest.files().map(|file| file.bytes).sum(),
            licence: manifest.licence.clone(),
            provenance: manifest.provenance.clone(),
            quality: quality.map_err(|error| Error::Internal(error.to_string()))?,
        })
    }
}

impl<B: Backend> Loaded<B> {
    async fn new(bundle: &Bundle, backend: B) -> Result<Self> {
        let recommender = Kind::load(bundle, &backend)?.with_clock(now);
        recommender.warm_up()?;
        // The first request compiles the kernels of a GPU: seconds that belong to loading.
        if let Some(item) = recommender.catalogue().get(0) {
            let history = vec![Interaction::new(item.id.clone())];
            let request = Request { history, k: 1, ..Request::default() };
            recommender.recommend(&request).await?;
        }
        Ok(Self {
            recommender,
            encoder: bundle.encoder(&backend)?,
            about: About::new(bundle)?,
            backend,
        })
    }

    fn info(&self) -> Result<JsValue, Failure> {
        let About { parameters, bytes, dtype, licence, provenance, quality } = &self.about;
        let backend = self.backend.info();
        values::to_js(&Info {
            recommender: self.recommender.name(),
            items: self.recommender.catalogue().len(),
            parameters: *parameters,
            bytes: *bytes,
            dtype,
            device: backend.device,
            adapter: &backend.adapter,
            licence,
            provenance,
            quality,
            max_input_tokens: self.recommender.max_input_tokens(),
            encodes: match &self.encoder {
                Some(encoder) => encoder.encodes(),
                None => Vec::new(),
            },
            modalities: self.recommender.modalities(),
            behaviours: self.recommender.behaviours(),
        })
    }

    fn encoder(&self) -> Result<&Encoder<B>> {
        let expected = "a bundle that came with an encoder";
        self.encoder.as_ref().ok_or_else(|| Error::argument("embed", "model", expected, "none"))
    }

    async fn add_item(
        &mut self,
        item: CatalogueItem,
        picture: Option<Picture>,
    ) -> Result<ItemIndex> {
        let (mut image, mut text) = (None, None);
        if let Some(encoder) = &self.encoder {
            if let Some(picture) = picture {
                image = encoder.embed_pictures(&[picture]).await?.pop();
            }
            if let Some(words) = item.text() {
                text = encoder.embed_texts(&[&words]).await?.pop();
            }
        } else if picture.is_some() {
            let expected = "none: this bundle came without an encoder";
            return Err(Error::argument("add_item", "picture", expected, "one"));
        }
        self.recommender.add_item(item, image.as_deref(), text.as_deref())
    }
}
