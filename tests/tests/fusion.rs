//! The fusion of TMF against its equations.

use tributary_core::backend::{Activation, Backend, HeadShape, Mask, MatrixData, Segments};
use tributary_core::models::fusion::{Fusion, FusionConfig, ItemRows};
use tributary_core::recommend::{EmbeddingTable, ItemEmbeddings, Modality};
use tributary_core::weights::{Checkpoint, NamedTensor, Weights};
use tributary_tests::on_each_backend;
use tributary_tests::tiny_sasrec::save;
use tributary_tests::twin;
use tributary_tests::{assert_parity, uniform};

/// Pictures and texts of one width, as CMA without projections needs them; odd widths elsewhere.
const IMAGE: usize = 6;
const GRAPH: usize = 3;
const ITEM: usize = 2 * IMAGE + GRAPH;
const INNER: usize = 7;
const HIDDEN: usize = 10;
/// A history of three, one of one, one of four.
const LENGTHS: [usize; 3] = [3, 1, 4];

fn config() -> FusionConfig {
    FusionConfig {
        image_size: IMAGE,
        text_size: IMAGE,
        graph_size: GRAPH,
        behaviour_size: GRAPH,
        modality_size: 0,
        hidden_size: HIDDEN,
        intermediate_size: INNER,
        num_attention_heads: 0,
        amsa: true,
        cma: true,
        causal: false,
        residual: false,
        normalize: false,
        events: false,
    }
}

/// Values of every tensor a fusion of [`config`] asks for, with or without heads.
fn tensors(heads: bool) -> Vec<NamedTensor> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut linear = |name: &str, out: usize, input: usize| {
        shapes.push((format!("{name}.weight"), vec![out, input]));
        shapes.push((format!("{name}.bias"), vec![out]));
    };
    linear("cma.query", IMAGE, ITEM);
    linear("item_adaptor.up", INNER, IMAGE);
    linear("item_adaptor.down", HIDDEN, INNER);
    linear("behaviour_adaptor.up", INNER, GRAPH);
    linear("behaviour_adaptor.down", HIDDEN, INNER);
    if heads {
        for (at, width) in [("amsa", ITEM), ("cma.text", IMAGE), ("cma.image", IMAGE)] {
            for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
                linear(&format!("{at}.{part}"), width, width);
            }
        }
        for (at, width) in [("amsa", ITEM), ("cma.text", IMAGE), ("cma.image", IMAGE)] {
            shapes.push((format!("{at}.norm.weight"), vec![width]));
            shapes.push((format!("{at}.norm.bias"), vec![width]));
        }
    }
    for (name, width) in [("image", IMAGE), ("text", IMAGE), ("graph", GRAPH)] {
        shapes.push((format!("absent.{name}.weight"), vec![1, width]));
        shapes.push((format!("{name}_norm.weight"), vec![width]));
    }
    let value = |(seed, (name, shape)): (u64, &(String, Vec<usize>))| {
        NamedTensor::f32(name, shape, &uniform(seed, shape.iter().product()))
    };
    (30..).zip(&shapes).map(value).collect()
}

fn load<B: Backend>(b: &B, config: FusionConfig) -> Fusion<B> {
    let tensors = tensors(config.num_attention_heads > 0);
    let checkpoint = Checkpoint::from_bytes("fusion.safetensors", save(&tensors)).unwrap();
    let table = MatrixData::from_f32("behaviours", &uniform(3, 3 * GRAPH), [3, GRAPH]);
    let table = b.matrix(table).unwrap();
    Fusion::load(&Weights::new(b, &checkpoint), config, Some(table)).unwrap()
}

/// Rows of three modalities; the values of absent rows are whatever `noise` says.
struct Items {
    values: [Vec<f32>; 3],
    present: [Vec<bool>; 3],
}

impl Items {
    fn new(rows: usize) -> Self {
        let values = [(10, IMAGE), (11, IMAGE), (12, GRAPH)]
            .map(|(seed, width)| uniform(seed, rows * width));
        Self { values, present: std::array::from_fn(|_| vec![true; rows]) }
    }

    fn tokens<B: Backend>(&self, b: &B, fusion: &Fusion<B>, lengths: &[usize]) -> Vec<f32> {
        let rows = self.present[0].len();
        let up = |m: usize| b.upload(&self.values[m], [rows, self.values[m].len() / rows]).unwrap();
        let (image, text, graph) = (up(0), up(1), up(2));
        let [image_present, text_present, graph_present] = &self.present;
        let rows = ItemRows {
            image: &image,
            text: &text,
            graph: &graph,
            image_present,
            text_present,
            graph_present,
        };
        let tokens = fusion.item_tokens(b, rows, &Segments::new(lengths).unwrap()).unwrap();
        pollster::block_on(b.read(&tokens)).unwrap()
    }
}

/// The equations in f64, with the weights of [`tensors`].
struct Twin {
    tensors: Vec<NamedTensor>,
    config: FusionConfig,
}

impl Twin {
    fn values(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.iter().find(|tensor| tensor.spec.name == name).expect(name);
        tensor.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn linear(&self, name: &str, x: &[f64], input: usize) -> Vec<f64> {
        let weight = twin::wide(&self.values(&format!("{name}.weight")));
        let bias = self.values(&format!("{name}.bias"));
        twin::linear(x, &weight, Some(&bias), input, bias.len())
    }

    fn attention(&self, at: &str, [q, k, v]: [&[f64]; 3], width: usize) -> Vec<f64> {
        let count = self.config.num_attention_heads.max(1);
        let heads = HeadShape {
            num_attention_heads: count,
            num_key_value_heads: count,
            head_dim: width / count,
        };
        let segments = Segments::new(&LENGTHS).unwrap();
        let mask = if self.config.causal { Mask::Causal } else { Mask::Bidirectional };
        let attend = |q: &[f64], k: &[f64], v: &[f64]| {
            twin::attention(q, k, v, [&segments, &segments], mask, None, heads)
        };
        let context = if self.config.num_attention_heads == 0 {
            attend(q, k, v)
        } else {
            let norm = |part: &str| twin::wide(&self.values(&format!("{at}.norm.{part}")));
            let normal = twin::layer_norm(q, &norm("weight"), &norm("bias"), 1e-5);
            let q = self.linear(&format!("{at}.q_proj"), &normal, width);
            let k = self.linear(&format!("{at}.k_proj"), k, width);
            let v = self.linear(&format!("{at}.v_proj"), v, width);
            self.linear(&format!("{at}.o_proj"), &attend(&q, &k, &v), width)
        };
        match self.config.residual {
            true => q.iter().zip(&context).map(|(q, c)| q + c).collect(),
            false => context,
        }
    }

    fn tokens(&self, items: &Items) -> Vec<f64> {
        let rows = items.present[0].len();
        let [image, text, graph] = [(0, "image"), (1, "text"), (2, "graph")].map(|(m, name)| {
            let values = twin::wide(&items.values[m]);
            match self.config.normalize {
                true => {
                    let weight = twin::wide(&self.values(&format!("{name}_norm.weight")));
                    twin::rms_norm(&values, &weight, 1e-5)
                }
                false => values,
            }
        });
        let all = twin::concat(&[(&image, IMAGE), (&text, IMAGE), (&graph, GRAPH)], rows); // Eq. 5
        let amsa = self.attention("amsa", [&all, &all, &all], ITEM); // Eq. 6
        let query = self.linear("cma.query", &amsa, ITEM);
        let first = self.attention("cma.text", [&query, &image, &text], IMAGE); // Eq. 7
        let fused = self.attention("cma.image", [&first, &text, &image], IMAGE); // Eq. 8
        self.adaptor("item_adaptor", &fused, IMAGE)
    }

    fn adaptor(&self, name: &str, x: &[f64], width: usize) -> Vec<f64> {
        let inner = self.linear(&format!("{name}.up"), x, width);
        let inner: Vec<f64> =
            inner.into_iter().map(|x| twin::activation(x, Activation::Gelu)).collect();
        self.linear(&format!("{name}.down"), &inner, INNER)
    }
}

#[test]
fn tokens_are_equations_5_to_8() {
    let variants = [
        ("as printed", config()),
        ("causal", FusionConfig { causal: true, ..config() }),
        ("with residuals", FusionConfig { residual: true, ..config() }),
        ("normalized", FusionConfig { normalize: true, ..config() }),
        ("with 3 heads", FusionConfig { num_attention_heads: 3, residual: true, ..config() }),
    ];
    on_each_backend!(name, b => {
        for (variant, config) in &variants {
            let items = Items::new(LENGTHS.iter().sum());
            let truth = Twin { tensors: tensors(config.num_attention_heads > 0), config: config.clone() };
            let found = items.tokens(&b, &load(&b, config.clone()), &LENGTHS);
            assert_parity(&format!("{name} {variant}"), &found, &truth.tokens(&items), 1e-11);
        }
    });
}

#[test]
fn an_item_whose_graph_is_hidden_is_one_that_has_none() {
    let tables = |known: bool| {
        let table = |width: usize, present: bool| {
            let mut table = EmbeddingTable::new(width);
            for item in 0..3 {
                let row = uniform(70 + item + width as u64, width);
                table.push(Some(&row[..]).filter(|_| present || item != 1)).unwrap();
            }
            table
        };
        let (image, text) = (table(IMAGE, true), table(IMAGE, true));
        ItemEmbeddings { image, text, graph: table(GRAPH, known) }
    };
    on_each_backend!(name, b => {
        let fusion = load(&b, config());
        let (items, segments) = ([2, 1, 0], Segments::one(3).unwrap());
        let read = |x| pollster::block_on(b.read(&x)).unwrap();
        let tokens = |known| read(tables(known).tokens(&b, &fusion, &items, &segments).unwrap());
        let hide = |item, modality| item == 1 && modality == Modality::Graph;
        let hidden = tables(true).tokens_hiding(&b, &fusion, &items, &segments, hide).unwrap();
        assert_eq!(read(hidden), tokens(false), "{name}");
        assert_ne!(tokens(true), tokens(false), "{name}");
    });
}

#[test]
fn behaviours_go_through_their_adaptor() {
    let truth = Twin { tensors: tensors(false), config: config() };
    let table = twin::wide(&uniform(3, 3 * GRAPH));
    let expected =
        truth.adaptor("behaviour_adaptor", &twin::rows(&table, GRAPH, &[2, 0, 2]), GRAPH);
    on_each_backend!(name, b => {
        let tokens = load(&b, config()).behaviour_tokens(&b, &[2, 0, 2]).unwrap();
        let found = pollster::block_on(b.read(&tokens)).unwrap();
        assert_parity(name, &found, &expected, 1e-11);
    });
}

#[test]
fn a_causal_token_does_not_know_what_came_later() {
    let config = FusionConfig { causal: true, residual: true, ..config() };
    on_each_backend!(name, b => {
        let fusion = load(&b, config.clone());
        let mut items = Items::new(4);
        let before = items.tokens(&b, &fusion, &[4]);
        items.values[0][3 * IMAGE] += 1.0;
        let after = items.tokens(&b, &fusion, &[4]);
        assert_eq!(before[..3 * HIDDEN], after[..3 * HIDDEN], "{name}");
        assert_ne!(before[3 * HIDDEN..], after[3 * HIDDEN..], "{name}");
    });
}

#[test]
fn what_stands_in_an_absent_row_does_not_count() {
    let config = FusionConfig { residual: true, ..config() };
    on_each_backend!(name, b => {
        let fusion = load(&b, config.clone());
        let mut items = Items::new(3);
        items.present[0][1] = false;
        let one = items.tokens(&b, &fusion, &[3]);
        items.values[0][IMAGE..2 * IMAGE].fill(77.0);
        assert_eq!(one, items.tokens(&b, &fusion, &[3]), "{name}");
        items.present[0][1] = true;
        assert_ne!(one, items.tokens(&b, &fusion, &[3]), "{name}");
    });
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_field() {
    let cases = [
        (FusionConfig { hidden_size: 0, ..config() }, "hidden_size"),
        (FusionConfig { events: true, behaviour_size: 0, ..config() }, "behaviour_size"),
        (FusionConfig { text_size: 5, ..config() }, "text_size"),
        (FusionConfig { image_size: 0, text_size: 0, ..config() }, "image_size"),
        (FusionConfig { num_attention_heads: 4, ..config() }, "num_attention_heads"),
        (FusionConfig { graph_size: 1 << 40, ..config() }, "graph_size"),
    ];
    for (config, field) in cases {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    let error = FusionConfig::parse("fusion.json", "{\"image\": 3}").unwrap_err().to_string();
    assert!(error.contains("fusion.json"), "{error}");
}
