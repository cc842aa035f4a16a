//! LRURec, GRU4Rec and BPR against plain loops in f64, on three backends; what a recurrence remembers.

use std::collections::BTreeMap;

use tributary::burn_backend::{Burn, BurnDevice, BurnOptions};
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::bpr::BprConfig;
use tributary_core::models::gru4rec::Gru4RecConfig;
use tributary_core::models::lru_rec::LruRecConfig;
use tributary_core::models::sequence::{SequenceConfig, SequenceItems, SequenceModel};
use tributary_core::recommend::{Request, SequenceRecommender};
use tributary_core::weights::{Checkpoint, NamedTensor, Weights};
use tributary_tests::suite::read;
use tributary_tests::tiny_sasrec::{ask, catalogue, history, ids, save};
use tributary_tests::{assert_parity, gpu, twin, uniform};

const ITEMS: usize = 11;
const LENGTHS: [usize; 4] = [1, 7, 0, 4];

/// Tensors by name, for the twin and for the file.
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Tensors {
    fn add(&mut self, name: &str, shape: &[usize]) {
        let seed = 100 + self.0.len() as u64;
        let values = uniform(seed, shape.iter().product());
        let shift = if name.ends_with("norm.weight") { 1.5 } else { 0.0 };
        let values = values.iter().map(|value| 0.6 * value + shift).collect();
        self.0.insert(name.into(), (shape.to_vec(), values));
    }

    fn linear(&mut self, name: &str, [out, input]: [usize; 2]) {
        self.add(&format!("{name}.weight"), &[out, input]);
        self.add(&format!("{name}.bias"), &[out]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.weight"), &[width]);
        self.add(&format!("{name}.bias"), &[width]);
    }

    fn get(&self, name: &str) -> Vec<f64> {
        twin::wide(&self.0[name].1)
    }

    fn checkpoint(&self) -> Checkpoint {
        let tensors: Vec<_> = self
            .0
            .iter()
            .map(|(name, (shape, values))| NamedTensor::f32(name, shape, values))
            .collect();
        Checkpoint::from_bytes("model.safetensors", save(&tensors)).expect("a valid tiny model")
    }

    /// x W^T + b for each row.
    fn apply(&self, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (weight, bias) =
            (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let row = |x: &Vec<f64>| {
            weight.chunks(x.len()).zip(&bias).map(|(weight, bias)| dot(weight, x) + bias).collect()
        };
        x.iter().map(row).collect()
    }

    fn normalise(&self, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (weight, bias) =
            (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        x.iter().map(|x| twin::layer_norm(x, &weight, &bias, f64::from(1e-5f32))).collect()
    }

    fn embed(&self, rows: &[u32], width: usize) -> Vec<Vec<f64>> {
        let table = self.get("item_embeddings.weight");
        rows.iter().map(|&row| table[row as usize * width..][..width].to_vec()).collect()
    }

    fn scores(&self, table: &str, hidden: &[Vec<f64>], bias: &[f64]) -> Vec<f64> {
        let table = self.get(table);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let row = |x: &Vec<f64>| -> Vec<f64> {
            table.chunks(x.len()).zip(bias).map(|(item, bias)| dot(item, x) + bias).collect()
        };
        hidden.iter().flat_map(row).collect()
    }
}

fn sum(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let rows = a.iter().zip(b);
    rows.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

fn lru_rec() -> (LruRecConfig, Tensors) {
    let config = LruRecConfig {
        items: SequenceItems::new(ITEMS, 9),
        hidden_size: 6,
        num_channels: 5,
        intermediate_size: 7,
        ..LruRecConfig::new(ITEMS)
    };
    let mut tensors = Tensors(BTreeMap::new());
    tensors.add("item_embeddings.weight", &[ITEMS, 6]);
    tensors.add("item_scores.bias", &[ITEMS]);
    tensors.norm("layer_norm", 6);
    for layer in 0..2 {
        for vector in ["nu_log", "theta_log", "gamma_log"] {
            tensors.add(&format!("layer.{layer}.lru.{vector}"), &[5]);
        }
        tensors.linear(&format!("layer.{layer}.lru.in_proj"), [10, 6]);
        tensors.linear(&format!("layer.{layer}.lru.out_proj"), [6, 10]);
        tensors.norm(&format!("layer.{layer}.lru.layer_norm"), 6);
        tensors.linear(&format!("layer.{layer}.feed_forward.w_1"), [7, 6]);
        tensors.linear(&format!("layer.{layer}.feed_forward.w_2"), [6, 7]);
        tensors.norm(&format!("layer.{layer}.feed_forward.layer_norm"), 6);
    }
    (config, tensors)
}

fn lru_rec_twin(t: &Tensors, rows: &[u32], segments: &Segments) -> Vec<f64> {
    let mut x = t.normalise("layer_norm", &t.embed(rows, 6));
    for layer in 0..2 {
        let at = |name: &str| format!("layer.{layer}.{name}");
        let input = t.apply(&at("lru.in_proj"), &x).concat();
        let parameters =
            ["nu_log", "theta_log", "gamma_log"].map(|v| t.get(&at(&format!("lru.{v}"))));
        let parameters = parameters.each_ref().map(|v| &v[..]);
        let h = twin::linear_recurrence(&input, parameters, segments, &[]);
        let h: Vec<Vec<f64>> = h.chunks(10).map(<[f64]>::to_vec).collect();
        let y = t.apply(&at("lru.out_proj"), &h);
        x = t.normalise(&at("lru.layer_norm"), &sum(&y, &x));
        let mut inner = t.apply(&at("feed_forward.w_1"), &x);
        let gelu = tributary_core::backend::Activation::Gelu;
        inner.iter_mut().flatten().for_each(|v| *v = twin::activation(*v, gelu));
        let outer = t.apply(&at("feed_forward.w_2"), &inner);
        x = t.normalise(&at("feed_forward.layer_norm"), &sum(&outer, &x));
    }
    t.scores("item_embeddings.weight", &x, &t.get("item_scores.bias"))
}

fn gru4rec() -> (Gru4RecConfig, Tensors) {
    let config = Gru4RecConfig {
        items: SequenceItems::new(ITEMS, 9),
        embedding_size: 4,
        hidden_size: 5,
        num_hidden_layers: 2,
        hidden_dropout_prob: 0.5,
    };
    let mut tensors = Tensors(BTreeMap::new());
    tensors.add("item_embeddings.weight", &[ITEMS, 4]);
    tensors.linear("dense", [4, 5]);
    for layer in 0..2 {
        for gate in ["reset", "update", "new"] {
            tensors.linear(&format!("layer.{layer}.input.{gate}"), [5, 4 + layer]);
            tensors.linear(&format!("layer.{layer}.state.{gate}"), [5, 5]);
        }
    }
    (config, tensors)
}

/// torch.nn.GRU's equations, one sequence after the other.
fn gru4rec_twin(t: &Tensors, rows: &[u32], segments: &Segments) -> Vec<f64> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut x = t.embed(rows, 4);
    for layer in 0..2 {
        let gate = |of: &str, gate: &str, x: &Vec<f64>| {
            t.apply(&format!("layer.{layer}.{of}.{gate}"), std::slice::from_ref(x)).remove(0)
        };
        let mut y = Vec::new();
        for rows in segments.iter() {
            let mut h = vec![0.0; 5];
            for row in rows {
                let [xr, xz, xn] =
                    ["reset", "update", "new"].map(|name| gate("input", name, &x[row]));
                let [hr, hz, hn] = ["reset", "update", "new"].map(|name| gate("state", name, &h));
                for c in 0..5 {
                    let (r, z) = (sigmoid(xr[c] + hr[c]), sigmoid(xz[c] + hz[c]));
                    h[c] = (1.0 - z) * (xn[c] + r * hn[c]).tanh() + z * h[c];
                }
                y.push(h.clone());
            }
        }
        x = y;
    }
    t.scores("item_embeddings.weight", &t.apply("dense", &x), &[0.0; ITEMS])
}

fn bpr() -> (BprConfig, Tensors) {
    let items = SequenceItems::new(ITEMS, 9);
    let config = BprConfig { items, hidden_size: 6, hidden_dropout_prob: 0.5 };
    let mut tensors = Tensors(BTreeMap::new());
    tensors.add("item_embeddings.weight", &[ITEMS, 6]);
    tensors.add("item_factors.weight", &[ITEMS, 6]);
    tensors.add("item_bias.weight", &[ITEMS, 1]);
    (config, tensors)
}

fn bpr_twin(t: &Tensors, rows: &[u32], segments: &Segments) -> Vec<f64> {
    let x = t.embed(rows, 6);
    let mean = |rows: &[Vec<f64>]| -> Vec<f64> {
        (0..6).map(|c| rows.iter().map(|row| row[c]).sum::<f64>() / rows.len() as f64).collect()
    };
    let users =
        segments.iter().flat_map(|rows| (rows.start..rows.end).map(move |row| (rows.start, row)));
    let users: Vec<Vec<f64>> = users.map(|(first, row)| mean(&x[first..=row])).collect();
    t.scores("item_factors.weight", &users, &t.get("item_bias.weight"))
}

fn rows(segments: &Segments) -> Vec<u32> {
    tributary_tests::indices(7, segments.rows(), ITEMS)
}

fn check<B: Backend>(b: &B, name: &str, config: SequenceConfig, t: &Tensors, truth: &[f64]) {
    let checkpoint = t.checkpoint();
    let weights = Weights::new(b, &checkpoint);
    let model = SequenceModel::load(&weights, config).expect("a valid tiny model");
    assert!(weights.unused().is_empty(), "{:?}", weights.unused());
    let segments = Segments::new(&LENGTHS).unwrap();
    let hidden = model.forward(b, &rows(&segments), &segments).unwrap();
    let scores = read(b, &model.scores(b, &hidden).unwrap());
    assert_parity(name, &scores, truth, 1e-10);
}

fn on_every_backend(config: impl Into<SequenceConfig>, t: &Tensors, truth: &[f64]) {
    let config = config.into();
    let name = config.model_type();
    check(&Cpu::new(), &format!("{name} cpu"), config.clone(), t, truth);
    let burn = Burn::new(BurnDevice::Cpu, BurnOptions::default()).expect("burn-flex");
    check(&burn, &format!("{name} burn"), config.clone(), t, truth);
    for subject in gpu::subjects() {
        check(&subject.backend, &format!("{name} {}", subject.name), config.clone(), t, truth);
    }
}

#[test]
fn lru_rec_matches_its_twin() {
    let (config, tensors) = lru_rec();
    let segments = Segments::new(&LENGTHS).unwrap();
    let truth = lru_rec_twin(&tensors, &rows(&segments), &segments);
    on_every_backend(SequenceConfig::LruRec(config), &tensors, &truth);
}

#[test]
fn gru4rec_matches_its_twin() {
    let (config, tensors) = gru4rec();
    let segments = Segments::new(&LENGTHS).unwrap();
    let truth = gru4rec_twin(&tensors, &rows(&segments), &segments);
    on_every_backend(SequenceConfig::Gru4Rec(config), &tensors, &truth);
}

#[test]
fn bpr_matches_its_twin() {
    let (config, tensors) = bpr();
    let segments = Segments::new(&LENGTHS).unwrap();
    let truth = bpr_twin(&tensors, &rows(&segments), &segments);
    on_every_backend(SequenceConfig::Bpr(config), &tensors, &truth);
}

fn lru_recommender() -> SequenceRecommender<Cpu> {
    let (config, tensors) = lru_rec();
    let (cpu, checkpoint) = (Cpu::new(), tensors.checkpoint());
    let weights = Weights::new(&cpu, &checkpoint);
    let config = SequenceConfig::LruRec(config);
    SequenceRecommender::load(&weights, config, Some(catalogue(ITEMS))).expect("a tiny model")
}

#[test]
fn a_new_event_costs_a_recurrence_one_step() {
    let items = ["i3", "i1", "i8", "i0", "i5"];
    let model = lru_recommender();
    for events in 1..=items.len() {
        let request = Request { history: history(&items[..events]), ..Request::default() };
        let answer = ask(&model, request.clone()).unwrap();
        assert_eq!(answer.usage.history_items, events);
        assert_eq!(answer.usage.cached_items, events - 1, "all but the new one were known");
        let afresh = ask(&lru_recommender(), request.clone()).unwrap();
        assert_eq!(afresh.usage.cached_items, 0);
        assert_eq!(ids(&answer), ids(&afresh));
        for (a, b) in answer.items.iter().zip(&afresh.items) {
            assert!((a.score - b.score).abs() < 1e-5, "{a:?} {b:?}");
        }
        let again = ask(&model, request).unwrap();
        assert_eq!(again.usage.cached_items, events, "nothing is computed twice");
        assert_eq!(again.items, answer.items);
    }
    let other = Request { history: history(&["i1", "i3"]), ..Request::default() };
    assert_eq!(ask(&model, other).unwrap().usage.cached_items, 0, "another order is another state");
}

#[test]
fn configurations_read_what_they_write_and_refuse_the_rest() {
    let configs = [
        SequenceConfig::LruRec(lru_rec().0),
        SequenceConfig::Gru4Rec(gru4rec().0),
        SequenceConfig::Bpr(bpr().0),
    ];
    for config in configs {
        let text = config.to_json();
        assert_eq!(SequenceConfig::parse("config.json", &text).unwrap(), config);
        for (field, value, says) in [
            ("model_type", r#""llama""#, "sasrec, lru_rec, gru4rec, bpr"),
            ("num_items", "0", "num_items"),
            ("num_items", "1e30", "num_items"),
            ("hidden_size", "99999999", "hidden_size"),
            ("num_hidden_layers", "1000", "num_hidden_layers"),
            ("first_item_id", "7", "num_embeddings"),
            ("max_seq_len", r#""50""#, "max_seq_len"),
            ("hidden_dropout_prob", "1.5", "hidden_dropout_prob"),
        ] {
            let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
            if json.get(field).is_none() {
                continue;
            }
            json[field] = serde_json::from_str(value).unwrap();
            let error = SequenceConfig::parse("config.json", &json.to_string()).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(says) && error.contains("config.json"), "{field}: {error}");
        }
    }
}
