//! Sequence recommenders so small that tests can say what they must answer.

use std::collections::BTreeMap;

use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::models::sasrec::{Block, PaddingSide, SasRecConfig};
use tributary_core::models::sequence::SequenceItems;
use tributary_core::recommend::{
    Catalogue, CatalogueItem, Interaction, ItemId, Recommendations, Recommender, Request,
    SequenceRecommender,
};
use tributary_core::weights::{Checkpoint, NamedTensor, Weights, save_safetensors};

/// The bytes of a safetensors file.
pub fn save(tensors: &[NamedTensor]) -> Vec<u8> {
    let mut files = BTreeMap::new();
    save_safetensors(tensors, &BTreeMap::new(), None, &mut files).expect("small tensors");
    files.remove("model.safetensors").expect("one file")
}

/// The configuration of a tiny `bert` model over these items.
pub fn config(num_items: usize) -> SasRecConfig {
    SasRecConfig {
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 1,
        items: SequenceItems::new(num_items, 5),
        ..SasRecConfig::new(num_items)
    }
}

/// Items `i0`, `i1` ... with brand, category, price n and popularity n.
pub fn catalogue(num_items: usize) -> Catalogue {
    let item = |n: usize| CatalogueItem {
        title: format!("Item {n}"),
        brand: Some(["red", "blue"][n % 2].into()),
        category: n.is_multiple_of(3).then(|| "third".into()),
        price: Some(n as f64),
        popularity: Some(n as u64),
        ..CatalogueItem::new(format!("i{n}"))
    };
    Catalogue::new((0..num_items).map(item).collect()).expect("a valid tiny model")
}

/// The tiny model with random weights.
pub fn recommender(config: SasRecConfig) -> SequenceRecommender<Cpu> {
    let catalogue = catalogue(config.items.num_items);
    SequenceRecommender::load(&Weights::fresh(&Cpu::new(), 3), config, Some(catalogue))
        .expect("a valid tiny model")
}

/// A `llara` model whose score of item i is `scores[i]`, whatever the history: all weights are 0
/// but the bias of `s_fc`, and the row of `s_fc` where the score is NaN, which no bias may be.
pub fn constant(scores: &[f32]) -> SequenceRecommender<Cpu> {
    let config = SasRecConfig {
        block: Block::Llara,
        padding_side: PaddingSide::Right,
        items: SequenceItems {
            num_embeddings: scores.len() + 1,
            ..SequenceItems::new(scores.len(), 5)
        },
        pad_item_id: Some(scores.len()),
        tie_item_embeddings: false,
        num_attention_heads: 1,
        ..config(scores.len())
    };
    let zeros = |name: &str, shape: &[usize]| {
        NamedTensor::f32(name, shape, &vec![0.0; shape.iter().product()])
    };
    let only = |kept: fn(f32) -> bool| scores.iter().map(move |&s| if kept(s) { s } else { 0.0 });
    let rows: Vec<f32> = only(f32::is_nan).flat_map(|score| [score; 8]).collect();
    let bias: Vec<f32> = only(|score| !score.is_nan()).collect();
    let mut tensors = vec![
        zeros("item_embeddings.weight", &[scores.len() + 1, 8]),
        zeros("positional_embeddings.weight", &[5, 8]),
        NamedTensor::f32("s_fc.weight", &[scores.len(), 8], &rows),
        NamedTensor::f32("s_fc.bias", &[scores.len()], &bias),
    ];
    for norm in ["ln_1", "ln_2", "ln_3", "feed_forward.layer_norm"] {
        tensors.push(zeros(&format!("{norm}.weight"), &[8]));
        tensors.push(zeros(&format!("{norm}.bias"), &[8]));
    }
    for name in ["linear_q", "linear_k", "linear_v"] {
        tensors.push(zeros(&format!("mh_attn.{name}.weight"), &[8, 8]));
        tensors.push(zeros(&format!("mh_attn.{name}.bias"), &[8]));
    }
    tensors.push(zeros("feed_forward.w_1.weight", &[12, 8, 1]));
    tensors.push(zeros("feed_forward.w_1.bias", &[12]));
    tensors.push(zeros("feed_forward.w_2.weight", &[8, 12, 1]));
    tensors.push(zeros("feed_forward.w_2.bias", &[8]));
    let bytes = save(&tensors);
    let checkpoint =
        Checkpoint::from_bytes("model.safetensors", bytes).expect("a valid tiny model");
    let cpu = Cpu::new();
    let weights = Weights::new(&cpu, &checkpoint);
    let model = SequenceRecommender::load(&weights, config, Some(catalogue(scores.len())))
        .expect("a valid tiny model");
    assert!(weights.unused().is_empty());
    model
}

/// Interactions of unknown kind and time.
pub fn history(ids: &[&str]) -> Vec<Interaction> {
    ids.iter().map(|&id| Interaction::new(id)).collect()
}

/// The answer, waited for.
pub fn ask(model: &SequenceRecommender<Cpu>, request: Request) -> Result<Recommendations> {
    pollster::block_on(model.recommend(&request))
}

/// The ranked ids.
pub fn ids(answer: &Recommendations) -> Vec<&str> {
    answer.items.iter().map(|item| item.id.as_str()).collect()
}

/// The ranked ids of an answer.
pub fn ids_of(model: &SequenceRecommender<Cpu>, request: Request) -> Vec<String> {
    ids(&ask(model, request).expect("a valid tiny model")).into_iter().map(str::to_owned).collect()
}

/// These candidates.
pub fn candidates(ids: &[&str]) -> Option<Vec<ItemId>> {
    Some(ids.iter().map(|&id| ItemId::from(id)).collect())
}
