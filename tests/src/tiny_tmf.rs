//! A TMF recommender so small that tests can look into it: random weights, byte-level tokens.

use tributary_core::backend::{Backend, MatrixData};
use tributary_core::models::fusion::{Fusion, FusionConfig};
use tributary_core::models::llama::{Llama, LlamaConfig};
use tributary_core::prompt::{Level, PromptOptions, Template, Window};
use tributary_core::recommend::{
    Catalogue, CatalogueItem, EmbeddingTable, Interaction, ItemEmbeddings, TmfConfig, TmfParts,
    TmfRecommender,
};
use tributary_core::weights::{Checkpoint, NamedTensor, Weights};

use crate::tiny_sasrec::save;
use crate::tiny_tokenizer::{VOCABULARY, bytes};
use crate::uniform;

/// Widths of the picture, text and graph embeddings.
pub const WIDTHS: [usize; 3] = [5, 6, 3];
/// Width of the language model.
pub const HIDDEN: usize = 24;

/// Titles of the items; two are equal.
pub const TITLES: [&str; 9] = [
    "red tent",
    "red tent large",
    "boots",
    "blue bottle",
    "red boots",
    "backpack",
    "boots",
    "lamp",
    "pants",
];

/// The language model's configuration.
pub fn llama_config() -> LlamaConfig {
    let text = format!(
        r#"{{"model_type": "llama", "vocab_size": {VOCABULARY}, "hidden_size": {HIDDEN},
        "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "tie_word_embeddings": true,
        "bos_token_id": 0, "eos_token_id": 1}}"#
    );
    LlamaConfig::parse("config.json", &text).expect("a tiny configuration")
}

/// Weights whose logits differ enough to be told apart on any backend.
pub fn llama<B: Backend>(b: &B, seed: u64) -> Llama<B> {
    let config = llama_config();
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.heads.q_size(), config.heads.kv_size());
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, hidden])];
    for layer in 0..config.num_hidden_layers {
        let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
        for (name, shape) in [
            ("self_attn.q_proj", vec![q, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, q]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ] {
            shapes.push((at(name), shape));
        }
    }
    shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
    let checkpoint = random(&shapes, seed);
    Llama::load(&Weights::new(b, &checkpoint), config).expect("tiny weights")
}

/// Items `t0`, `t1` ... of these titles; popularity n.
pub fn catalogue(titles: &[&str]) -> Catalogue {
    let item = |(n, title): (usize, &&str)| CatalogueItem {
        title: (*title).to_owned(),
        category: Some(["even", "odd"][n % 2].into()),
        popularity: Some(n as u64),
        ..CatalogueItem::new(format!("t{n}"))
    };
    Catalogue::new(titles.iter().enumerate().map(item).collect()).expect("a tiny catalogue")
}

/// Random rows for these items; every fourth lacks its picture.
pub fn embeddings(items: usize) -> ItemEmbeddings {
    let [image, text, graph] = WIDTHS.map(|width| {
        let mut table = EmbeddingTable::new(width);
        for item in 0..items {
            let row = uniform((item * 10 + width) as u64, width);
            let absent = width == WIDTHS[0] && item % 4 == 3;
            table.push((!absent).then_some(&row[..])).expect("a tiny row");
        }
        table
    });
    ItemEmbeddings { image, text, graph }
}

/// view, cart and buy; small limits.
pub fn config(level: Level) -> TmfConfig {
    TmfConfig {
        level,
        prompt: PromptOptions {
            bos_token_id: Some(0),
            end_token_id: 1,
            max_prompt_tokens: 1500,
            max_title_tokens: 20,
            window: Window { max_items: 12, keep_items: 8, max_tokens: 700, keep_tokens: 500 },
            pointer: false,
        },
        max_candidates: 6,
        cold_candidates: 2,
        seed: 5,
        ..TmfConfig::new(&["view", "cart", "buy"], "buy")
    }
}

/// A fusion of random weights, large enough for what it says to be heard.
pub fn fusion<B: Backend>(b: &B, causal: bool) -> Fusion<B> {
    let [image_size, text_size, graph_size] = WIDTHS;
    let config = FusionConfig {
        image_size,
        text_size,
        graph_size,
        behaviour_size: 3,
        modality_size: 4,
        hidden_size: HIDDEN,
        intermediate_size: 10,
        num_attention_heads: 0,
        amsa: true,
        cma: true,
        causal,
        residual: true,
        normalize: false,
        events: false,
    };
    let mut shapes = Vec::new();
    let mut linear = |name: &str, out: usize, width: usize| {
        shapes.push((format!("{name}.weight"), vec![out, width]));
        shapes.push((format!("{name}.bias"), vec![out]));
    };
    for (name, size) in ["image", "text", "graph"].into_iter().zip(WIDTHS) {
        linear(&format!("{name}_proj"), config.modality_size, size);
    }
    linear("cma.query", config.modality_size, 3 * config.modality_size);
    for (name, width) in [("item", config.modality_size), ("behaviour", config.behaviour_size)] {
        linear(&format!("{name}_adaptor.up"), config.intermediate_size, width);
        linear(&format!("{name}_adaptor.down"), HIDDEN, config.intermediate_size);
    }
    for (name, size) in ["image", "text", "graph"].into_iter().zip(WIDTHS) {
        shapes.push((format!("absent.{name}.weight"), vec![1, size]));
    }
    let checkpoint = random(&shapes, 100);
    let table = MatrixData::from_f32("behaviours", &uniform(99, 9), [3, 3]);
    let table = b.matrix(table).expect("a tiny table");
    Fusion::load(&Weights::new(b, &checkpoint), config, Some(table)).expect("a tiny fusion")
}

/// Uniform values of these shapes, scaled so that a product keeps its size.
fn random(shapes: &[(String, Vec<usize>)], seed: u64) -> Checkpoint {
    let tensor = |(seed, (name, shape)): (u64, &(String, Vec<usize>))| {
        let width = if shape.len() == 1 { 1 } else { shape[1] };
        let scale = (3.0 / width as f32).sqrt();
        let values = uniform(seed, shape.iter().product());
        let values: Vec<f32> = values.into_iter().map(|value| value * scale).collect();
        NamedTensor::f32(name, shape, &values)
    };
    let tensors: Vec<NamedTensor> = (seed..).zip(shapes).map(tensor).collect();
    Checkpoint::from_bytes("model.safetensors", save(&tensors)).expect("tiny weights")
}

/// What a recommender of [`TITLES`] is made of.
pub fn parts<B: Backend>(b: &B) -> TmfParts<B> {
    TmfParts {
        model: llama(b, 1),
        tokenizer: bytes(),
        template: Template::defaults().expect("tested templates").remove(0),
        catalogue: catalogue(&TITLES),
        fusion: Some((fusion(b, true), embeddings(TITLES.len()))),
    }
}

/// The recommender of these parts.
pub fn recommender<B: Backend>(b: &B, level: Level) -> TmfRecommender<B> {
    TmfRecommender::new(b.clone(), parts(b), config(level)).expect("tiny parts fit")
}

/// `id:behaviour` pairs.
pub fn history(pairs: &[(&str, &str)]) -> Vec<Interaction> {
    let interaction = |(item, behaviour): &(&str, &str)| Interaction {
        behaviour: Some((*behaviour).to_owned()),
        ..Interaction::new(*item)
    };
    pairs.iter().map(interaction).collect()
}
