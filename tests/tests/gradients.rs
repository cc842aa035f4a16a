//! The gradient of every trainable operation of the burn backend, with respect to every input and
//! every weight, against central differences of its own forward pass (which the parity suite checks
//! against f64 twins).
//!
//! The loss is sum(c * y) with fixed c, summed in f64. Differences are of fourth order,
//! (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h, with h = 0.02: truncation and the rounding of an
//! f32 forward pass are both near 1e-5 of the gradient, so its nmse is near 1e-10.
//! The bound is 1e-8: tight enough to refuse GELU's tanh approximation in place of its gradient.
//! Attention takes h = 0.08: its gradients by q and k are a hundredth of its values, so rounding
//! weighs more, and softmax is smooth enough for the longer step.

use tributary::burn_backend::{Burn, BurnDevice, BurnOptions, Matrix, Trainable, Vector};
use tributary_core::Result;
use tributary_core::backend::{
    Activation, Attend, Backend, HeadShape, LoraData, Mask, MatrixData, Mix, Prefix, Recurrence,
    Segments,
};
use tributary_tests::suite::elements::ACTIVATIONS;
use tributary_tests::suite::read;
use tributary_tests::uniform;

const BOUND: f64 = 1e-8;
const STEP: f64 = 0.02;

type Tensor = <Burn as Backend>::Tensor;

/// What an operation is differentiated by.
#[derive(Default)]
struct Leaves {
    inputs: Vec<[usize; 2]>,
    /// (out, in) and the rank of a LoRA.
    matrices: Vec<([usize; 2], Option<usize>)>,
    vectors: Vec<usize>,
}

/// The leaves on a backend.
struct Loaded {
    b: Burn,
    inputs: Vec<Tensor>,
    matrices: Vec<Matrix>,
    vectors: Vec<Vector>,
}

impl Leaves {
    /// (name, number of values) of every leaf, in the order of `load`'s values.
    fn slots(&self) -> Vec<(String, usize)> {
        let mut slots = Vec::new();
        for (i, [rows, cols]) in self.inputs.iter().enumerate() {
            slots.push((format!("input {i}"), rows * cols));
        }
        for (i, &([out, input], rank)) in self.matrices.iter().enumerate() {
            slots.push((format!("m{i}.weight"), out * input));
            if let Some(r) = rank {
                slots.push((format!("m{i}.lora_A.weight"), r * input));
                slots.push((format!("m{i}.lora_B.weight"), out * r));
            }
        }
        for (i, &len) in self.vectors.iter().enumerate() {
            slots.push((format!("v{i}"), len));
        }
        slots
    }

    fn load(&self, composed: bool, values: &[Vec<f32>]) -> Result<Loaded> {
        let options = BurnOptions {
            trainable: Trainable::Everything,
            seed: 5,
            composed,
            ..BurnOptions::default()
        };
        let b = Burn::new(BurnDevice::Cpu, options)?;
        let mut values = values.iter();
        let mut next = || values.next().expect("one entry per slot");
        let inputs =
            self.inputs.iter().map(|&shape| b.variable(next(), shape)).collect::<Result<_>>()?;
        let mut matrices = Vec::new();
        for (i, &(shape, rank)) in self.matrices.iter().enumerate() {
            let mut data = MatrixData::from_f32(format!("m{i}.weight"), next(), shape);
            data.lora =
                rank.map(|r| LoraData { r, a: next().clone(), b: next().clone(), scale: 1.7 });
            matrices.push(b.matrix(data)?);
        }
        let vectors = (0..self.vectors.len())
            .map(|i| b.vector(&format!("v{i}"), next()))
            .collect::<Result<_>>()?;
        b.training(3);
        Ok(Loaded { b, inputs, matrices, vectors })
    }
}

/// Values in -1..1, none within 0.1 of zero: ReLU's kink is out of reach of the differences.
fn values(seed: usize, len: usize) -> Vec<f32> {
    uniform(seed as u64, len).iter().map(|value| value * 0.9 + 0.1 * value.signum()).collect()
}

/// The factor of each element of y in the loss.
fn coefficients(len: usize) -> Vec<f32> {
    values(77, len).iter().map(|c| c.abs() + 0.3).collect()
}

fn check(name: &str, leaves: Leaves, operation: impl Fn(&Loaded) -> Result<Tensor>) {
    check_with_step(STEP, name, leaves, operation);
}

/// With the kernels' own backward passes and with burn's operations alone.
fn check_with_step(
    h: f64,
    name: &str,
    leaves: Leaves,
    operation: impl Fn(&Loaded) -> Result<Tensor>,
) {
    for composed in [false, true] {
        let name = format!("{name}{}", if composed { ", composed" } else { "" });
        check_path(h, &name, &leaves, composed, &operation);
    }
}

fn check_path(
    h: f64,
    name: &str,
    leaves: &Leaves,
    composed: bool,
    operation: &impl Fn(&Loaded) -> Result<Tensor>,
) {
    let slots = leaves.slots();
    let start: Vec<Vec<f32>> =
        slots.iter().enumerate().map(|(seed, (_, len))| values(seed, *len)).collect();

    let loaded = leaves.load(composed, &start).expect(name);
    let y = operation(&loaded).expect(name);
    let shape = loaded.b.shape(&y);
    let c = loaded.b.upload(&coefficients(shape[0] * shape[1]), shape).expect(name);
    // relu(c) * y with c > 0: the product that the trait has.
    let loss = loaded.b.gated(&c, &y, Activation::Relu).expect(name);
    let gradients = loaded.b.backward(&loss).expect(name);

    let loss_at = |values: &[Vec<f32>]| -> f64 {
        let loaded = leaves.load(composed, values).expect(name);
        let y = read(&loaded.b, &operation(&loaded).expect(name));
        coefficients(y.len()).iter().zip(&y).map(|(&c, &y)| f64::from(c) * f64::from(y)).sum()
    };
    for (slot, (leaf, len)) in slots.iter().enumerate() {
        let gradient = if let Some(x) = loaded.inputs.get(slot) {
            gradients.of(x)
        } else {
            let parameters = loaded.b.parameters();
            let parameter = parameters.iter().find(|p| p.name() == leaf);
            gradients.of_parameter(parameter.expect("every weight is trainable"))
        };
        let gradient = read(&loaded.b, &gradient.unwrap_or_else(|| panic!("{name}: {leaf}: none")));
        assert_eq!(gradient.len(), *len, "{name}: {leaf}");
        let (mut error, mut size) = (0.0, 0.0);
        for i in 0..*len {
            let at = |distance: f64| {
                let mut moved = start.clone();
                moved[slot][i] = (f64::from(moved[slot][i]) + distance) as f32;
                loss_at(&moved)
            };
            let numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            error += (f64::from(gradient[i]) - numeric).powi(2);
            size += numeric.powi(2);
        }
        let nmse = error / size;
        println!("{name}: {leaf}: nmse {nmse:.1e}");
        assert!(nmse <= BOUND, "{name}: {leaf}: nmse {nmse:.1e}, gradient {gradient:?}");
    }
}

fn inputs(shapes: &[[usize; 2]]) -> Leaves {
    Leaves { inputs: shapes.to_vec(), ..Leaves::default() }
}

#[test]
fn embed_and_row_moves() {
    let leaves = Leaves { matrices: vec![([5, 3], None)], ..Leaves::default() };
    check("embed", leaves, |l| l.b.embed(&l.matrices[0], &[4, 0, 4, 2, 1, 3]));
    check("gather_rows", inputs(&[[4, 3]]), |l| l.b.gather_rows(&l.inputs[0], &[3, 3, 0, 1, 2]));
    for rows in [[1, 2], [4, 0]] {
        check("scatter_rows", inputs(&[[5, 3], [2, 3]]), |l| {
            let mut x = l.inputs[0].clone();
            l.b.scatter_rows(&mut x, &rows, &l.inputs[1])?;
            // The untouched rows twice over, so that their gradient differs from the others'.
            l.b.add(&x, &l.b.activate(&x, Activation::Silu)?)
        });
    }
}

#[test]
fn rearranged_and_mixed_rows() {
    check("concat", inputs(&[[3, 2], [3, 5], [3, 1]]), |l| {
        l.b.concat(&[&l.inputs[0], &l.inputs[1], &l.inputs[2], &l.inputs[0]])
    });
    check("transpose", inputs(&[[6, 5]]), |l| l.b.transpose(&l.inputs[0], 2));
    check("mix_rows", inputs(&[[4, 3]]), |l| {
        let rows = [vec![(3, 0.5), (0, -2.0), (3, 1.5)], vec![], vec![(1, 1.0)], vec![(2, 0.25)]];
        l.b.mix_rows(&l.inputs[0], &Mix::new(4, rows)?)
    });
    check("similarity", inputs(&[[3, 4], [5, 4]]), |l| l.b.similarity(&l.inputs[0], &l.inputs[1]));
    check("similarity with itself", inputs(&[[3, 4]]), |l| {
        l.b.similarity(&l.inputs[0], &l.inputs[0])
    });
    // Rows longer than eps, and rows shorter, where only the constant divides.
    for eps in [1e-12, 30.0] {
        check(&format!("l2_normalize {eps}"), inputs(&[[3, 7]]), |l| {
            l.b.l2_normalize(&l.inputs[0], eps)
        });
    }
}

#[test]
fn a_row_of_zeros_normalised_has_a_finite_gradient() {
    let b = Burn::new(BurnDevice::Cpu, BurnOptions::default()).expect("cpu");
    b.training(0);
    let x = b.variable(&[0.0, 0.0, 3.0, 4.0], [2, 2]).expect("a good shape");
    let y = b.l2_normalize(&x, 0.5).expect("a good eps");
    let gradients = b.backward(&y).expect("a graph");
    let gradient = read(&b, &gradients.of(&x).expect("depends on x"));
    // Below eps y = x / eps; above, d(sum y)/dx = (1 - y (y . 1)) / ||x||.
    let truth = [2.0, 2.0, (1.0 - 0.6 * 1.4) / 5.0, (1.0 - 0.8 * 1.4) / 5.0];
    tributary_tests::assert_parity("l2_normalize at zero", &gradient, &truth, 1e-12);
}

#[test]
fn products_with_and_without_lora() {
    for rank in [None, Some(2)] {
        let leaves =
            |vectors| Leaves { inputs: vec![[3, 5]], matrices: vec![([7, 5], rank)], vectors };
        check(&format!("linear, rank {rank:?}"), leaves(vec![7]), |l| {
            l.b.linear(&l.inputs[0], &l.matrices[0], Some(&l.vectors[0]))
        });
        check(&format!("linear_rows, rank {rank:?}"), leaves(vec![]), |l| {
            // Every row is asked once, one of them twice.
            l.b.linear_rows(&l.inputs[0], &l.matrices[0], &[6, 0, 3, 3, 1, 2, 4, 5])
        });
    }
}

#[test]
fn attention_over_segments_and_prefix() {
    let shapes = [(1, 1, 3), (4, 2, 2), (6, 2, 5)];
    // Unequal lengths: an empty segment, one that is alone in its group, and padding.
    for lengths in [vec![3], vec![2, 2], vec![7, 3, 0, 2, 1]] {
        for (query_heads, key_heads, head_dim) in shapes {
            let heads = HeadShape {
                num_attention_heads: query_heads,
                num_key_value_heads: key_heads,
                head_dim,
            };
            for mask in [Mask::Causal, Mask::Bidirectional] {
                for prefix_len in [0, 3] {
                    let dropout = if prefix_len == 0 { 0.0 } else { 0.3 };
                    let rows = lengths.iter().sum();
                    let mut leaves = inputs(&[
                        [rows, heads.q_size()],
                        [rows, heads.kv_size()],
                        [rows, heads.kv_size()],
                    ]);
                    if prefix_len > 0 {
                        leaves.inputs.extend([[prefix_len, heads.kv_size()]; 2]);
                    }
                    let name =
                        format!("attention {lengths:?} {heads:?} {mask:?} prefix {prefix_len}");
                    check_with_step(0.08, &name, leaves, |l| {
                        let segments = Segments::new(&lengths)?;
                        let prefix = (prefix_len > 0).then(|| Prefix {
                            k: &l.inputs[3],
                            v: &l.inputs[4],
                            len: prefix_len,
                        });
                        let attend = Attend { prefix, dropout, ..Attend::new(&segments, mask) };
                        l.b.attention(&l.inputs[0], &l.inputs[1], &l.inputs[2], &attend, heads)
                    });
                }
            }
        }
    }
}

#[test]
fn attention_over_other_rows() {
    let heads = HeadShape { num_attention_heads: 2, num_key_value_heads: 1, head_dim: 3 };
    for (lengths, keys, mask) in [
        ([2, 2], [3, 3], Mask::Bidirectional),
        ([4, 1], [1, 5], Mask::Bidirectional),
        ([2, 1], [2, 3], Mask::Causal),
        ([1, 3], [4, 5], Mask::Causal),
    ] {
        let rows = keys.iter().sum();
        let name = format!("attention {lengths:?} over {keys:?} {mask:?}");
        check_with_step(
            0.08,
            &name,
            inputs(&[[lengths.iter().sum(), 6], [rows, 3], [rows, 3]]),
            |l| {
                let (segments, keys) = (Segments::new(&lengths)?, Segments::new(&keys)?);
                let attend = Attend { keys: Some(&keys), ..Attend::new(&segments, mask) };
                l.b.attention(&l.inputs[0], &l.inputs[1], &l.inputs[2], &attend, heads)
            },
        );
    }
}

#[test]
fn norms_and_rope() {
    for cols in [3, 8, 17] {
        let leaves =
            |n| Leaves { inputs: vec![[4, cols]], vectors: vec![cols; n], ..Leaves::default() };
        check(&format!("rms_norm {cols}"), leaves(1), |l| {
            l.b.rms_norm(&l.inputs[0], &l.vectors[0], 1e-5)
        });
        check(&format!("layer_norm {cols}"), leaves(2), |l| {
            l.b.layer_norm(&l.inputs[0], &l.vectors[0], &l.vectors[1], 1e-12)
        });
    }
    for (heads, head_dim) in [(1, 2), (3, 6)] {
        check(&format!("rope {heads}x{head_dim}"), inputs(&[[5, heads * head_dim]]), |l| {
            let angles: Vec<f32> = (0..5)
                .flat_map(|row| {
                    let angle = move |i: usize| (row as f32) * 0.7_f32.powi(i as i32);
                    let cos = (0..head_dim / 2).map(move |i| angle(i).cos());
                    cos.chain((0..head_dim / 2).map(move |i| angle(i).sin()))
                })
                .collect();
            l.b.rope(&l.inputs[0], &l.b.upload(&angles, [5, head_dim])?, head_dim)
        });
    }
}

#[test]
fn losses_and_elementwise_operations() {
    check("cross_entropy", inputs(&[[4, 9]]), |l| l.b.cross_entropy(&l.inputs[0], &[8, 0, 3, 3]));
    check("add", inputs(&[[3, 5], [3, 5]]), |l| l.b.add(&l.inputs[0], &l.inputs[1]));
    for f in ACTIVATIONS {
        check(&format!("activate {f:?}"), inputs(&[[3, 11]]), |l| l.b.activate(&l.inputs[0], f));
        check(&format!("gated {f:?}"), inputs(&[[3, 7], [3, 7]]), |l| {
            l.b.gated(&l.inputs[0], &l.inputs[1], f)
        });
    }
    check("dropout", inputs(&[[5, 7]]), |l| l.b.dropout(&l.inputs[0], 0.4));
}

#[test]
fn a_frozen_weight_has_no_gradient_and_inference_no_graph() {
    let options = BurnOptions { trainable: Trainable::Adapters, seed: 0, ..BurnOptions::default() };
    let b = Burn::new(BurnDevice::Cpu, options).expect("cpu");
    let mut data = MatrixData::from_f32("q_proj.weight", &values(1, 15), [3, 5]);
    data.lora = Some(LoraData { r: 2, a: values(2, 10), b: values(3, 6), scale: 0.5 });
    let weight = b.matrix(data).expect("a good matrix");
    let names: Vec<String> = b.parameters().iter().map(|p| p.name().to_owned()).collect();
    assert_eq!(names, ["q_proj.lora_A.weight", "q_proj.lora_B.weight"]);

    let x = b.upload(&values(4, 10), [2, 5]).expect("a good shape");
    let inference = b.linear(&x, &weight, None).expect("shapes fit");
    assert!(b.backward(&inference).is_err(), "inference must not record a graph");
    b.training(0);
    let gradients = b.backward(&b.linear(&x, &weight, None).expect("shapes fit")).expect("a graph");
    for parameter in b.parameters() {
        assert!(gradients.of_parameter(&parameter).is_some(), "{}", parameter.name());
    }
}

#[test]
fn dropout_draws_the_same_mask_for_the_same_seed_and_step() {
    let draw = |seed, step, training| {
        let options = BurnOptions { trainable: Trainable::Nothing, seed, ..BurnOptions::default() };
        let b = Burn::new(BurnDevice::Cpu, options).expect("cpu");
        if training {
            b.training(step);
        }
        let x = b.upload(&[1.0; 4000], [40, 100]).expect("a good shape");
        let (first, second) = (b.dropout(&x, 0.25), b.dropout(&x, 0.25));
        [read(&b, &first.expect("a probability")), read(&b, &second.expect("a probability"))]
    };
    assert_eq!(draw(1, 7, true), draw(1, 7, true));
    assert_ne!(draw(1, 7, true), draw(1, 8, true));
    assert_ne!(draw(1, 7, true), draw(2, 7, true));
    let [first, second] = draw(1, 7, true);
    assert_ne!(first, second, "two calls of one step draw different masks");
    let zeros = first.iter().filter(|&&x| x == 0.0).count();
    assert!((900..1100).contains(&zeros), "{zeros} of 4000 dropped, 1000 expected");
    assert!(first.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
    assert_eq!(draw(1, 7, false), [vec![1.0; 4000], vec![1.0; 4000]], "inference drops nothing");
}

#[test]
fn recurrences() {
    for (lengths, state) in [(vec![1, 0, 6, 3], false), (vec![2, 5], true)] {
        let segments = Segments::new(&lengths).expect("few rows");
        let mut inputs = vec![[segments.rows(), 6]];
        if state {
            inputs.push([segments.len(), 6]);
        }
        let leaves = Leaves { inputs, matrices: Vec::new(), vectors: vec![3; 3] };
        check(&format!("linear_recurrence, state {state}"), leaves, |l| {
            let [nu_log, theta_log, gamma_log] = [0, 1, 2].map(|i| &l.vectors[i]);
            let recurrence = Recurrence { nu_log, theta_log, gamma_log };
            l.b.linear_recurrence(&l.inputs[0], recurrence, &segments, l.inputs.get(1))
        });
    }
}
