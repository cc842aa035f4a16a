//! One request and one answer for all recommenders. The JSON field names are these.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::catalogue::{CatalogueItem, ItemId};
use super::embeddings::Modality;
use crate::backend::BackendInfo;

/// What a user did with an item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Interaction {
    /// The item.
    pub item: ItemId,
    /// The kind of interaction: `view`, `cart`, `buy` or the shop's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<String>,
    /// When, in seconds of any epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
}

impl Interaction {
    /// An interaction of unknown kind and time.
    pub fn new(item: impl Into<ItemId>) -> Self {
        Self { item: item.into(), behaviour: None, time: None }
    }
}

/// An interaction as an object of JSON; `event` is what the npm package calls a behaviour.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InteractionForm {
    item: ItemId,
    #[serde(default, alias = "event")]
    behaviour: Option<String>,
    #[serde(default)]
    time: Option<f64>,
}

/// From the object, or from the bare id.
impl<'de> Deserialize<'de> for Interaction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Interaction;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an item id, or an object with `item`, `behaviour` and `time`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Interaction, A::Error> {
                let form = InteractionForm::deserialize(MapAccessDeserializer::new(map))?;
                let InteractionForm { item, behaviour, time } = form;
                Ok(Interaction { item, behaviour, time })
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Interaction, E> {
                ItemId::deserialize(id.into_deserializer()).map(Interaction::new)
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Interaction, E> {
                ItemId::deserialize(id.into_deserializer()).map(Interaction::new)
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Interaction, E> {
                ItemId::deserialize(id.into_deserializer()).map(Interaction::new)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What is asked of a recommender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The user's interactions, oldest first. When every one has a time they are sorted by it, ties
    /// in the order given.
    pub history: Vec<Interaction>,
    /// The behaviour to predict; recommenders of one behaviour ignore it.
    pub target_behaviour: Option<String>,
    /// Rank these only; everything in the catalogue when `None`.
    pub candidates: Option<Vec<ItemId>>,
    /// Items to return at most.
    pub k: usize,
    /// Do not recommend items of the history (as the model's published protocol says it).
    pub exclude_seen: bool,
    /// Do not recommend these.
    pub exclude: Vec<ItemId>,
    /// Recommend only items that pass.
    pub filter: Filter,
    /// Answer as if nobody knew these of any item; only for recommenders that fuse modalities, an error
    /// elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hide: Vec<Modality>,
    /// What the user asks for in words; only for recommenders that read text, an error elsewhere.
    pub query: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            history: Vec::new(),
            target_behaviour: None,
            candidates: None,
            k: 10,
            exclude_seen: true,
            exclude: Vec::new(),
            filter: Filter::default(),
            hide: Vec::new(),
            query: None,
        }
    }
}

/// Conditions on catalogue items; all that are set must hold. An item that lacks a field fails any
/// condition on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// One of these categories, if any is named.
    pub categories: Vec<String>,
    /// One of these brands, if any is named.
    pub brands: Vec<String>,
    /// At least this price.
    pub min_price: Option<f64>,
    /// At most this price.
    pub max_price: Option<f64>,
    /// These attributes with exactly these values.
    pub attributes: BTreeMap<String, String>,
}

impl Filter {
    /// True when no condition is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True when `item` meets every condition.
    pub fn passes(&self, item: &CatalogueItem) -> bool {
        let one_of = |allowed: &[String], value: &Option<String>| {
            allowed.is_empty() || value.as_ref().is_some_and(|value| allowed.contains(value))
        };
        let priced = |holds: &dyn Fn(f64) -> bool| item.price.is_some_and(holds);
        one_of(&self.categories, &item.category)
            && one_of(&self.brands, &item.brand)
            && self.min_price.is_none_or(|min| priced(&|price| price >= min))
            && self.max_price.is_none_or(|max| priced(&|price| price <= max))
            && self.attributes.iter().all(|(name, value)| item.attributes.get(name) == Some(value))
    }
}

/// The ranked answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendations {
    /// Best first.
    pub items: Vec<RankedItem>,
    /// Where the time went.
    pub timings: Timings,
    /// What was read.
    pub usage: Usage,
    /// What it ran on.
    pub backend: RunsOn,
    /// Every item is one of the catalogue's. Recommenders that score items give valid answers by
    /// construction; free text generation may not.
    pub valid: bool,
}

/// One recommended item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedItem {
    /// The caller's own name of the item.
    pub id: ItemId,
    /// Unnormalized; comparable within one answer.
    pub score: f32,
    /// 1 is the best.
    pub rank: usize,
}

/// Wall-clock milliseconds of one answer; all 0 where the platform has no clock for us (see
/// `Clock`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Ids to indices, filters.
    pub prepare_ms: f64,
    /// The model, until its scores are on the host: the four stages below, where it has them.
    pub forward_ms: f64,
    /// Of `forward_ms`: the retriever chose what a language model ranks.
    #[serde(default)]
    pub retrieve_ms: f64,
    /// Of `forward_ms`: the prompt and its soft tokens.
    #[serde(default)]
    pub encode_ms: f64,
    /// Of `forward_ms`: the prompt's pass. A GPU is not waited for here but in `score_ms`.
    #[serde(default)]
    pub prefill_ms: f64,
    /// Of `forward_ms`: the candidates' pass, or the answer's.
    #[serde(default)]
    pub score_ms: f64,
    /// Scores to ranked items.
    pub rank_ms: f64,
    /// All of it.
    pub total_ms: f64,
}

/// What an answer was computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, soft tokens included; 0 for recommenders without a language model.
    pub prompt_tokens: usize,
    /// Of these, tokens whose keys and values were cached.
    pub cached_tokens: usize,
    /// Tokens that were written, for recommenders that write before they rank.
    #[serde(default)]
    pub generated_tokens: usize,
    /// Of the prompt's tokens, those that stand for pictures; for `tmf` its soft tokens of items.
    pub image_tokens: usize,
    /// Items of the history the model saw.
    pub history_items: usize,
    /// Of these, items whose state was kept from an earlier request, where a model is recurrent.
    #[serde(default)]
    pub cached_items: usize,
    /// Items of the history the catalogue does not know.
    pub unknown_items: usize,
    /// Items that were ranked.
    pub candidates: usize,
}

/// The backend of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsOn {
    /// `cpu`, `gpu` or `burn`.
    pub device: String,
    /// Instruction set, adapter and driver, or burn's device.
    pub adapter: String,
}

impl From<BackendInfo> for RunsOn {
    fn from(info: BackendInfo) -> Self {
        Self { device: info.device.into(), adapter: info.adapter }
    }
}
