//! MBHT and LightGCN: the same on every backend, true to the formulas where these are short, and
//! independent of what they are packed with.

use std::collections::BTreeMap;

use tributary::burn_backend::{Burn, BurnDevice, BurnOptions, Trainable};
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, Segments};
use tributary_core::models::lightgcn::{Event, InteractionGraph, LightGcn, LightGcnConfig};
use tributary_core::models::mbht::{Mbht, MbhtConfig, Slot};
use tributary_core::recommend::{
    Catalogue, CatalogueItem, GraphModel, GraphRecommender, Interaction, ItemId, Recommendations,
    Recommender, Request,
};
use tributary_core::weights::{Checkpoint, NamedTensor, Weights};
use tributary_tests::files::assert_refused;
use tributary_tests::suite::read;
use tributary_tests::tiny_sasrec::save;
use tributary_tests::{assert_parity, cpu, gpu, nmse, twin, uniform};

const NUM_ITEMS: usize = 9;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

fn burn() -> Burn {
    let options =
        BurnOptions { trainable: Trainable::Everything, seed: 1, ..BurnOptions::default() };
    Burn::new(BurnDevice::Cpu, options).expect("burn-flex")
}

fn mbht_config() -> MbhtConfig {
    MbhtConfig {
        max_seq_len: 7,
        hidden_size: 6,
        intermediate_size: 10,
        low_rank: 3,
        pool_sizes: vec![2, 3],
        hyperedge_size: 2,
        window_before: 3,
        window_after: 1,
        layer_norm_eps: 1e-5,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        hypergraph_dropout_prob: 0.0,
        ..MbhtConfig::new(NUM_ITEMS, names(&["view", "buy"]), "buy".into())
    }
}

fn lightgcn_config() -> LightGcnConfig {
    LightGcnConfig {
        num_items: 5,
        behaviours: names(&["view", "buy"]),
        target_behaviour: "buy".into(),
        hidden_size: 3,
        num_hidden_layers: 2,
    }
}

/// Values of every tensor that `load` asks for, far enough from zero that each part matters.
fn values(load: impl Fn(&Weights<'_, Burn>)) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let b = burn();
    load(&Weights::fresh(&b, 1));
    let value = |(seed, p): (usize, &std::sync::Arc<_>)| {
        let p: &tributary::burn_backend::Parameter = p;
        let len = p.axes().iter().product();
        let values = uniform(seed as u64 + 50, len).iter().map(|x| x * 0.7).collect();
        (p.name().to_owned(), (p.axes().to_vec(), values))
    };
    b.parameters().iter().enumerate().map(value).collect()
}

fn checkpoint(values: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Checkpoint {
    let tensors: Vec<_> =
        values.iter().map(|(name, (axes, values))| NamedTensor::f32(name, axes, values)).collect();
    Checkpoint::from_bytes("model.safetensors", save(&tensors)).expect("a valid tiny model")
}

fn mbht_values() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    values(|weights| drop(Mbht::load(weights, mbht_config()).expect("a valid configuration")))
}

/// Sequences of (item, behaviour), asked where the item is `?`: repeats, one full, one short.
fn sequences() -> Vec<Vec<Slot>> {
    let slots = |text: &str| {
        let slot = |word: &str| {
            let (item, behaviour) = word.split_at(1);
            Slot { item: item.parse().ok(), behaviour: behaviour.parse().expect("a number") }
        };
        text.split(' ').map(slot).collect()
    };
    ["30 31 50 ?0 70 71 ?1", "20 ?1", "80 10 ?1", "?1", "40 40 41 60 ?1"].map(slots).to_vec()
}

fn forward<B: Backend>(b: &B, file: &Checkpoint, sequences: &[Vec<Slot>]) -> Result<Vec<f32>> {
    let weights = Weights::new(b, file);
    let model = Mbht::load(&weights, mbht_config())?;
    assert!(weights.unused().is_empty(), "{:?}", weights.unused());
    let segments = Segments::new(&sequences.iter().map(Vec::len).collect::<Vec<_>>())?;
    let slots = sequences.concat();
    let hypergraph = pollster::block_on(model.hypergraph(b, &slots, &segments))?;
    let hidden = model.forward(b, &slots, &segments, &hypergraph)?;
    Ok(read(b, &model.scores(b, &hidden)?))
}

#[test]
fn mbht_scores_the_same_on_every_backend() {
    let file = checkpoint(&mbht_values());
    let truth = twin::wide(&forward(&burn(), &file, &sequences()).unwrap());
    assert_eq!(truth.len(), 6 * NUM_ITEMS, "six asked slots");
    for subject in cpu::subjects() {
        let scores = forward(&subject.backend, &file, &sequences()).unwrap();
        assert_parity(subject.name, &scores, &truth, 1e-10);
    }
    for subject in gpu::subjects() {
        let scores = forward(&subject.backend, &file, &sequences()).unwrap();
        assert_parity(subject.name, &scores, &truth, 1e-10);
    }
}

#[test]
fn mbht_does_not_see_what_a_sequence_is_packed_with() {
    let file = checkpoint(&mbht_values());
    let cpu = Cpu::new();
    let packed = forward(&cpu, &file, &sequences()).unwrap();
    let alone: Vec<f32> = sequences()
        .iter()
        .flat_map(|sequence| forward(&cpu, &file, std::slice::from_ref(sequence)).unwrap())
        .collect();
    assert_parity("alone and packed", &alone, &twin::wide(&packed), 1e-11);
}

#[test]
fn mbht_hears_every_part_of_a_sequence() {
    let file = checkpoint(&mbht_values());
    let cpu = Cpu::new();
    let [known, asked] = [Some(3), None];
    let slot = |item, behaviour| Slot { item, behaviour };
    let base = vec![slot(Some(8), 0), slot(known, 0), slot(Some(5), 1), slot(asked, 1)];
    let scores = |sequence: &[Slot]| forward(&cpu, &file, &[sequence.to_vec()]).unwrap();
    let truth = twin::wide(&scores(&base));
    let changed = |place: usize, slot: Slot| {
        let mut sequence = base.clone();
        sequence[place] = slot;
        nmse(&scores(&sequence), &truth)
    };
    for (what, difference) in [
        ("the asked behaviour", changed(3, slot(None, 0))),
        ("the behaviour of an event", changed(1, slot(known, 1))),
        ("the item of an event", changed(0, slot(Some(7), 0))),
        ("the order", {
            let swapped = [base[1], base[0], base[2], base[3]];
            nmse(&scores(&swapped), &truth)
        }),
    ] {
        assert!(difference > 1e-6, "{what} changes nothing: nmse {difference:.1e}");
    }
}

#[test]
fn mbht_refuses_what_does_not_fit() {
    let file = checkpoint(&mbht_values());
    let cpu = Cpu::new();
    let slot = |item, behaviour| Slot { item, behaviour };
    let long = vec![slot(Some(1), 0); 8];
    assert_refused("long", forward(&cpu, &file, &[long]), &["mbht", "8", "7"]);
    let unknown = vec![slot(Some(9), 0), slot(None, 0)];
    assert_refused("item", forward(&cpu, &file, &[unknown]), &["item_embedding", "9"]);
    let behaviour = vec![slot(Some(1), 2), slot(None, 0)];
    assert_refused("behaviour", forward(&cpu, &file, &[behaviour]), &["embed", "2"]);

    let text = mbht_config().to_json();
    assert_eq!(MbhtConfig::parse("config.json", &text).unwrap(), mbht_config());
    for (from, to, word) in [
        ("\"buy\"\n  ]", "\"view\"\n  ]", "behaviours"),
        ("\"max_seq_len\": 7", "\"max_seq_len\": 5000", "max_seq_len"),
        ("\"num_attention_heads\": 2", "\"num_attention_heads\": 4", "num_attention_heads"),
        ("\"target_behaviour\": \"buy\"", "\"target_behaviour\": \"cart\"", "target_behaviour"),
        ("\"mbht\"", "\"sasrec\"", "model_type"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        assert_refused(from, MbhtConfig::parse("config.json", &changed), &[word]);
    }
}

/// Central differences of fourth order of the whole model's loss, with a hypergraph held still: the
/// gradient does not see it, and a step could change which items are similar.
#[test]
fn mbht_gradients_match_finite_differences() {
    let start = mbht_values();
    let targets = [4, 2, 0, 8, 5, 3];
    let slots = sequences().concat();
    let segments = Segments::new(&sequences().iter().map(Vec::len).collect::<Vec<_>>()).unwrap();
    let b = burn();
    let file = checkpoint(&start);
    let model = Mbht::load(&Weights::new(&b, &file), mbht_config()).unwrap();
    let graph = pollster::block_on(model.hypergraph(&b, &slots, &segments)).unwrap();
    b.training(0);
    let hidden = model.forward(&b, &slots, &segments, &graph).unwrap();
    let loss = b.cross_entropy(&model.scores(&b, &hidden).unwrap(), &targets).unwrap();
    let gradients = b.backward(&loss).unwrap();

    let cpu = Cpu::new();
    let loss_at = |values: &BTreeMap<_, _>| -> f64 {
        let file = checkpoint(values);
        let model = Mbht::load(&Weights::new(&cpu, &file), mbht_config()).unwrap();
        let hidden = model.forward(&cpu, &slots, &segments, &graph).unwrap();
        let loss = cpu.cross_entropy(&model.scores(&cpu, &hidden).unwrap(), &targets).unwrap();
        read(&cpu, &loss).iter().map(|&x| f64::from(x)).sum()
    };
    for parameter in b.parameters() {
        let name = parameter.name();
        let h: f64 = 0.02;
        let gradient = gradients.of_parameter(&parameter).unwrap_or_else(|| panic!("{name}: none"));
        let gradient = read(&b, &gradient);
        let (mut error, mut size) = (0.0, 0.0);
        // Every seventh value: each part of every tensor, in bounded time.
        for i in (0..gradient.len()).step_by(7) {
            let at = |distance: f64| {
                let mut moved = start.clone();
                let (_, values) = moved.get_mut(name).expect("every parameter has a value");
                values[i] = (f64::from(values[i]) + distance) as f32;
                loss_at(&moved)
            };
            let numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            error += (f64::from(gradient[i]) - numeric).powi(2);
            size += numeric.powi(2);
        }
        // Keys' biases have no effect at all: a softmax does not see what all its scores share. And
        // a loss of 15 in f32 is rounded to 1e-6, so a difference over h knows a gradient to about 2e-6 / h.
        let count = gradient.len().div_ceil(7) as f64;
        let bound = 1e-6 * size + (2e-6 / h).powi(2) * count;
        println!("{name}: error {error:.1e} of {size:.1e}");
        assert!(error <= bound, "{name}: error {error:.1e} of {size:.1e}");
    }
}

/// The formulas in f64, one interaction at a time.
fn lightgcn_truth(
    values: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    users: &[Vec<Event>],
    histories: &[(&[Event], u32)],
) -> Vec<f64> {
    let LightGcnConfig { num_items, hidden_size: d, num_hidden_layers, .. } = lightgcn_config();
    let table = |name: &str| twin::wide(&values[name].1);
    let gates: Vec<f64> =
        table("behaviour_gate.weight").iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    let behaviours = table("behaviour_embedding.weight");
    let once: Vec<Vec<Event>> = users
        .iter()
        .map(|events| {
            let set: std::collections::BTreeSet<_> = events.iter().copied().collect();
            set.into_iter().collect()
        })
        .collect();
    let degree = |item: u32| once.iter().flatten().filter(|event| event.0 == item).count() as f64;
    let mut layer = table("item_embedding.weight");
    let mut items = layer.clone();
    for _ in 0..num_hidden_layers {
        let mut next = vec![0.0; num_items * d];
        for events in &once {
            let weight = |item: u32| 1.0 / (events.len() as f64 * degree(item)).sqrt();
            let mut user = vec![0.0; d];
            for &(item, behaviour) in events {
                for c in 0..d {
                    let gate = gates[behaviour as usize * d + c];
                    user[c] += weight(item) * gate * layer[item as usize * d + c];
                }
            }
            for &(item, behaviour) in events {
                for c in 0..d {
                    let gate = gates[behaviour as usize * d + c];
                    next[item as usize * d + c] += weight(item) * gate * user[c];
                }
            }
        }
        layer = next;
        items.iter_mut().zip(&layer).for_each(|(sum, x)| *sum += x);
    }
    let mut scores = Vec::new();
    for (history, asked) in histories {
        let mut user: Vec<f64> = behaviours[*asked as usize * d..][..d].to_vec();
        for &(item, behaviour) in *history {
            for c in 0..d {
                let gate = gates[behaviour as usize * d + c];
                user[c] += gate * items[item as usize * d + c] / history.len() as f64;
            }
        }
        scores.extend(
            (0..num_items)
                .map(|item| -> f64 { (0..d).map(|c| user[c] * items[item * d + c]).sum() }),
        );
    }
    scores
}

#[test]
fn lightgcn_matches_its_formulas_on_every_backend() {
    fn scores<B: Backend>(
        b: &B,
        file: &Checkpoint,
        users: &[Vec<Event>],
        histories: &[(&[Event], u32)],
    ) -> Vec<f32> {
        let weights = Weights::new(b, file);
        let model = LightGcn::load(&weights, lightgcn_config()).unwrap();
        assert!(weights.unused().is_empty(), "{:?}", weights.unused());
        let graph = InteractionGraph::new(5, 2, users).unwrap();
        let items = model.propagated(b, &graph).unwrap();
        let events: Vec<_> = histories.iter().map(|(events, _)| *events).collect();
        let asked: Vec<_> = histories.iter().map(|(_, asked)| *asked).collect();
        let users = model.users(b, &items, &events).unwrap();
        read(b, &model.scores(b, &users, &items, &asked).unwrap())
    }
    let values = values(|w| drop(LightGcn::load(w, lightgcn_config()).expect("valid")));
    let file = checkpoint(&values);
    // A repeated event, an item of two behaviours, a user of nothing, an item nobody met.
    let users = [vec![(0, 0), (0, 0), (1, 1)], vec![(1, 0), (1, 1), (2, 0)], vec![], vec![(3, 1)]];
    let histories: [(&[Event], u32); 3] = [(&[(0, 0), (2, 1)], 1), (&[], 0), (&[(3, 0); 3], 0)];
    let truth = lightgcn_truth(&values, &users, &histories);
    let found = scores(&burn(), &file, &users, &histories);
    assert_parity("burn", &found, &truth, 1e-12);
    for subject in cpu::subjects() {
        let found = scores(&subject.backend, &file, &users, &histories);
        assert_parity(subject.name, &found, &truth, 1e-12);
    }
    for subject in gpu::subjects() {
        let found = scores(&subject.backend, &file, &users, &histories);
        assert_parity(subject.name, &found, &truth, 1e-12);
    }
}

#[test]
fn lightgcn_refuses_what_does_not_fit() {
    for events in [vec![(5, 0)], vec![(0, 2)]] {
        assert_refused("event", InteractionGraph::new(5, 2, &[events]), &["lightgcn", "events"]);
    }
    let cpu = Cpu::new();
    let model = LightGcn::load(&Weights::fresh(&cpu, 1), lightgcn_config()).unwrap();
    let items = model.items(&cpu).unwrap();
    for history in [[(5, 0)], [(0, 2)]] {
        assert_refused("history", model.users(&cpu, &items, &[&history]), &["below"]);
    }
    let text = lightgcn_config().to_json();
    assert_eq!(LightGcnConfig::parse("config.json", &text).unwrap(), lightgcn_config());
    let wrong = text.replace("\"hidden_size\": 3", "\"hidden_size\": 0");
    assert_refused("size", LightGcnConfig::parse("config.json", &wrong), &["hidden_size"]);
}

#[test]
fn a_graph_recommender_answers_requests_with_behaviours() {
    let cpu = Cpu::new();
    let items = (0..NUM_ITEMS).map(|n| CatalogueItem {
        popularity: Some(n as u64),
        ..CatalogueItem::new(format!("i{n}"))
    });
    let catalogue = Catalogue::new(items.collect()).unwrap();
    let file = checkpoint(&mbht_values());
    let model = Mbht::load(&Weights::new(&cpu, &file), mbht_config()).unwrap();
    let shop = GraphRecommender::new(cpu, GraphModel::Mbht(model), catalogue).unwrap();
    let ask = |request: &Request| pollster::block_on(shop.recommend(request));
    let ids = |answer: &Recommendations| -> Vec<String> {
        answer.items.iter().map(|item| item.id.as_str().to_owned()).collect()
    };
    let event = |item: &str, behaviour: &str| Interaction {
        behaviour: Some(behaviour.into()),
        ..Interaction::new(item)
    };

    let history = vec![event("i3", "view"), event("i3", "buy"), event("i5", "view")];
    let request = Request { history, k: 99, ..Request::default() };
    let answer = ask(&request).unwrap();
    assert_eq!(answer.items.len(), NUM_ITEMS - 2, "what was seen is not recommended");
    assert_eq!(answer.usage.history_items, 3);
    let truth = {
        let slot = |item, behaviour| Slot { item, behaviour };
        let known = [slot(Some(3), 0), slot(Some(3), 1), slot(Some(5), 0), slot(None, 1)];
        forward(&cpu, &file, &[known.to_vec()]).unwrap()
    };
    for item in &answer.items {
        let index: usize = item.id.as_str()[1..].parse().unwrap();
        assert_eq!(item.score, truth[index], "{}", item.id.as_str());
    }
    let viewed =
        ask(&Request { target_behaviour: Some("view".into()), ..request.clone() }).unwrap();
    assert_ne!(viewed.items[0].score, answer.items[0].score, "another question, another answer");

    let nobody = ask(&Request { k: 2, ..Request::default() }).unwrap();
    assert_eq!(ids(&nobody), ["i8", "i7"], "the prior");
    let wanted = ["i1", "i4"].map(ItemId::from).to_vec();
    let two = ask(&Request { candidates: Some(wanted), ..request.clone() }).unwrap();
    assert_eq!(two.items.len(), 2);
    let long = vec![event("i2", "view"); 30];
    let long = ask(&Request { history: long, ..Request::default() }).unwrap();
    assert_eq!(long.usage.history_items, 6, "the newest events beside the question");

    let unknown = Request { history: vec![event("i1", "wish")], ..Request::default() };
    assert_refused("behaviour", ask(&unknown), &["behaviour", "view, buy", "wish"]);
    let asked = Request { target_behaviour: Some("wish".into()), ..request };
    assert_refused("asked", ask(&asked), &["behaviour", "view, buy", "wish"]);
}
