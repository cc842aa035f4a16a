//! The trainer: exact resume, early stopping, refusals; the optimiser against an f64 twin.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use tributary::burn_backend::{Burn, BurnDevice, BurnOptions, Matrix, Trainable, Vector};
use tributary::train::{
    CHECKPOINT, Decay, Event, FitConfig, FitOptions, Losses, Objective, Optimizer, OptimizerConfig,
    OptimizerKind, Schedule, Stopped, Table, TrainReport, WEIGHTS, fit, parse,
};
use tributary_core::backend::{Activation, Backend, MatrixData, Segments};
use tributary_core::{Error, Result};
use tributary_tests::files::tensors;

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tributary-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ITEMS: u32 = 23;

/// Predict the next number of a cyclic walk: learnable by a table and one layer, dropout included.
struct Walk {
    table: Matrix,
    dense: Matrix,
    bias: Vector,
    /// The example whose loss is not a number from this step on.
    poisoned: Option<(u32, u64)>,
    steps: Cell<u64>,
    /// What `validate` answers, the k-th time; the negative loss when exhausted.
    validations: Vec<f64>,
    validated: Cell<usize>,
}

impl Walk {
    fn load(b: &Burn) -> Self {
        let weight = |name: &str, rows: usize, cols: usize, seed: u32| {
            let value = |i: u32| ((i * 37 + seed) % 101) as f32 / 505.0 - 0.1;
            let values: Vec<f32> = (0..(rows * cols) as u32).map(value).collect();
            b.matrix(MatrixData::from_f32(name, &values, [rows, cols])).expect("a good matrix")
        };
        Self {
            table: weight("item_embeddings", ITEMS as usize, 6, 1),
            dense: weight("dense", ITEMS as usize, 6, 2),
            bias: b.vector("dense.bias", &[0.0; ITEMS as usize]).expect("a good vector"),
            poisoned: None,
            steps: Cell::new(0),
            validations: Vec::new(),
            validated: Cell::new(0),
        }
    }
}

impl Objective for Walk {
    fn examples(&self) -> usize {
        31
    }

    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses> {
        let step = self.steps.replace(self.steps.get() + 1);
        // Example i is a walk of 1 + i % 3 positions.
        let walks = || examples.iter().flat_map(|&i| (0..=i % 3).map(move |k| (i + k) % ITEMS));
        let (items, targets): (Vec<u32>, Vec<u32>) =
            (walks().collect(), walks().map(|item| (item + 1) % ITEMS).collect());
        let hidden = b.dropout(&b.embed(&self.table, &items)?, 0.1)?;
        let hidden = b.activate(&hidden, Activation::Gelu)?;
        let mut logits = b.linear(&hidden, &self.dense, Some(&self.bias))?;
        let lengths: Vec<usize> = examples.iter().map(|i| 1 + *i as usize % 3).collect();
        let segments = Segments::new(&lengths)?;
        if let Some((example, from)) = self.poisoned
            && let Some(i) = examples.iter().position(|&e| e == example && step >= from)
        {
            let row = segments.iter().nth(i).expect("one segment per example").start as u32;
            let broken = b.upload(&[f32::NAN; ITEMS as usize], [1, ITEMS as usize])?;
            b.scatter_rows(&mut logits, &[row], &broken)?;
        }
        Ok(Losses { rows: b.cross_entropy(&logits, &targets)?, segments })
    }

    fn example_name(&self, example: u32) -> String {
        format!("user {example}")
    }

    fn metric(&self) -> &str {
        "score"
    }

    fn validate(&self, b: &Burn) -> Result<Option<f64>> {
        let scripted = self.validations.get(self.validated.replace(self.validated.get() + 1));
        if let Some(&metric) = scripted {
            return Ok(Some(metric));
        }
        let steps = self.steps.get();
        let all: Vec<u32> = (0..31).collect();
        let losses = pollster::block_on(b.read(&self.losses(b, &all)?.rows))?;
        self.steps.set(steps);
        Ok(Some(-f64::from(losses.iter().sum::<f32>()) / losses.len() as f64))
    }

    fn describe(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }
}

fn config() -> FitConfig {
    let text = "
        [training]
        batch_size = 8
        epochs = 6
        patience = 0
        log_every = 3
        checkpoint_every = 5
        seed = 9
        [optimizer]
        learning_rate = 0.05
        [schedule]
        decay = 'cosine'
        warmup_steps = 3
    ";
    parse("test.toml", text).expect("a good configuration")
}

/// One process's part of a run.
fn train(
    out: &Path,
    config: &FitConfig,
    resume: bool,
    max_steps: Option<u64>,
    change: impl Fn(&mut Walk),
) -> Result<TrainReport> {
    let seed = u64::from(config.training.seed);
    let b = Burn::new(
        BurnDevice::Cpu,
        BurnOptions { trainable: Trainable::Everything, seed, ..BurnOptions::default() },
    )?;
    let mut walk = Walk::load(&b);
    change(&mut walk);
    let options = FitOptions { out: out.to_owned(), resume, max_steps };
    fit(&b, &walk, config, Table::new(), &options, &mut |_: &Event| {})
}

#[test]
fn a_resumed_run_ends_with_the_same_weights_bit_for_bit() {
    let (whole, parts) = (Folder::new("whole"), Folder::new("parts"));
    let report = train(&whole.0, &config(), false, None, |_| {}).expect("an uninterrupted run");
    assert_eq!((report.stopped, report.steps), (Stopped::Finished, 24));

    // Inside an epoch, at its end, right after it; each part is a new process's worth of state.
    for (part, steps) in [3, 1, 1, 8].into_iter().enumerate() {
        let paused = train(&parts.0, &config(), part > 0, Some(steps), |_| {}).expect("a part");
        assert_eq!(paused.stopped, Stopped::Paused);
    }
    let resumed = train(&parts.0, &config(), true, None, |_| {}).expect("the last part");
    assert_eq!((resumed.stopped, resumed.steps), (Stopped::Finished, 24));
    assert_eq!(resumed.best, report.best);
    for file in [CHECKPOINT, WEIGHTS] {
        let (whole, parts) = (tensors(&whole.0.join(file)), tensors(&parts.0.join(file)));
        assert!(!whole.is_empty());
        for ((name, whole), (other, parts)) in whole.iter().zip(&parts) {
            assert_eq!(name, other);
            assert!(whole == parts, "{file}: {name} differs");
        }
        assert_eq!(whole.len(), parts.len());
    }
    let curve = |folder: &Folder| std::fs::read_to_string(folder.0.join("curve.csv")).expect("csv");
    assert_eq!(curve(&whole), curve(&parts));
}

#[test]
fn a_run_that_is_resumed_from_an_old_checkpoint_repeats_its_steps() {
    let (whole, crashed) = (Folder::new("old-whole"), Folder::new("old-crashed"));
    train(&whole.0, &config(), false, None, |_| {}).expect("an uninterrupted run");
    // NaN in step 13 stands for any crash: the last checkpoint is that of step 12.
    let crash = |walk: &mut Walk| walk.poisoned = Some((3, 13));
    train(&crashed.0, &config(), false, None, crash).expect_err("a loss that is no number");
    train(&crashed.0, &config(), true, None, |_| {}).expect("the rest");
    let weights = |folder: &Folder| tensors(&folder.0.join(CHECKPOINT));
    assert!(weights(&whole) == weights(&crashed));
}

#[test]
fn the_loss_falls_and_the_curve_shows_it() {
    let out = Folder::new("falls");
    let mut config = config();
    config.training.epochs = 40;
    let report = train(&out.0, &config, false, None, |_| {}).expect("a run");
    let csv = std::fs::read_to_string(out.0.join("curve.csv")).expect("csv");
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("step,epoch,loss,learning_rate,gradient_norm,score"));
    let losses: Vec<f64> =
        lines.map(|line| line.split(',').nth(2).expect("loss").parse().expect("number")).collect();
    // Validations at steps 4, 8, .. 160 and points at every third step.
    assert_eq!(losses.len(), 40 + 53 - 13);
    assert!((losses[0] - f64::from(ITEMS).ln()).abs() < 0.2, "chance at first: {losses:?}");
    assert!(losses[79] < 0.5 * losses[0], "{losses:?}");
    assert_eq!(report.loss, Some(losses[79]));
    let svg = std::fs::read_to_string(out.0.join("curve.svg")).expect("svg");
    for text in ["training loss", "validation score", "step"] {
        assert!(svg.contains(text), "curve.svg lacks `{text}`");
    }
    assert!(svg.matches("<polyline").count() >= 2, "two lines: {svg}");
}

#[test]
fn training_stops_when_validation_stops_improving_and_keeps_the_best_weights() {
    let (early, short) = (Folder::new("early"), Folder::new("short"));
    let mut config = config();
    config.training.patience = 2;
    let scripted = |walk: &mut Walk| walk.validations = vec![0.1, 0.3, 0.2, 0.3, 0.9, 0.9];
    let report = train(&early.0, &config, false, None, scripted).expect("a run");
    // Best after epoch 2 (step 8); equal is not better, so epochs 3 and 4 are the patience.
    assert_eq!((report.stopped, report.steps), (Stopped::Early, 16));
    let best = report.best.expect("four validations");
    assert_eq!((best.metric, best.step), (0.3, 8));
    train(&short.0, &config, false, Some(8), scripted).expect("the first two epochs");
    assert!(tensors(&early.0.join(WEIGHTS)) == tensors(&short.0.join(WEIGHTS)));

    let again = train(&early.0, &config, true, None, scripted).expect("a resumed run");
    assert_eq!((again.stopped, again.steps), (Stopped::Early, 16), "it has nothing left to do");
}

#[test]
fn a_loss_that_is_no_number_names_step_and_example_and_keeps_the_checkpoint() {
    let out = Folder::new("nan");
    train(&out.0, &config(), false, Some(5), |_| {}).expect("the first steps");
    let before = tensors(&out.0.join(CHECKPOINT));
    let poison = |walk: &mut Walk| walk.poisoned = Some((17, 0));
    let error = train(&out.0, &config(), true, None, poison).expect_err("NaN in user 17");
    let text = error.to_string();
    assert!(text.contains("user 17") && text.contains("step") && text.contains("NaN"), "{text}");
    let step: u64 = text
        .split_once("step ")
        .and_then(|(_, rest)| rest.split(',').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no step in: {text}"));
    // User 17 comes once per epoch of four steps, and the epoch goes on at step 5.
    assert!((5..12).contains(&step), "{text}");
    if step < 8 {
        assert!(tensors(&out.0.join(CHECKPOINT)) == before, "no checkpoint was due");
    }
    let rest = train(&out.0, &config(), true, None, |_| {}).expect("the checkpoint still works");
    assert_eq!(rest.steps, 24);
}

#[test]
fn a_checkpoint_of_another_configuration_is_refused_by_key() {
    let out = Folder::new("other");
    train(&out.0, &config(), false, Some(2), |_| {}).expect("the first steps");
    let mut other = config();
    other.optimizer.betas[1] = 0.99;
    let text = train(&out.0, &other, true, None, |_| {}).expect_err("other betas").to_string();
    assert!(text.contains("optimizer.betas") && text.contains("0.999"), "{text}");
    train(&out.0, &config(), true, Some(1), |_| {}).expect("its own configuration fits");
}

#[test]
fn a_broken_checkpoint_is_an_error_and_a_missing_one_a_start() {
    let out = Folder::new("broken");
    train(&out.0, &config(), true, Some(2), |_| {}).expect("nothing to resume: a start");
    let path = out.0.join(CHECKPOINT);
    let bytes = std::fs::read(&path).expect("a checkpoint");
    for len in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).expect("a temporary folder");
        let error = train(&out.0, &config(), true, None, |_| {}).expect_err("half a file");
        assert!(error.to_string().contains(CHECKPOINT), "{error}");
    }
}

#[test]
fn mistakes_in_a_configuration_are_refused_by_name() {
    let unknown = "[optimizer]\nlerning_rate = 0.1\n";
    let text = parse::<FitConfig>("mine.toml", unknown).expect_err("a typo").to_string();
    for part in ["mine.toml", "line 2", "lerning_rate", "learning_rate"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    for (text, key) in [
        ("[training]\nbatch_size = 0", "training.batch_size"),
        ("[optimizer]\nbetas = [0.9, 1.0]", "optimizer.betas"),
        ("[optimizer]\nlearning_rate = nan", "optimizer.learning_rate"),
        ("[schedule]\nmin_learning_rate = 1.0", "schedule.min_learning_rate"),
    ] {
        let config: FitConfig = parse("mine.toml", text).expect("known keys");
        let error = config.check().expect_err(text).to_string();
        assert!(error.contains(key), "`{key}` is not in: {error}");
    }
    assert!(FitConfig::default().check().is_ok());
}

#[test]
fn the_learning_rate_warms_up_and_follows_the_cosine() {
    let cosine = Schedule { decay: Decay::Cosine, warmup_steps: 4, min_learning_rate: 0.1 };
    let at = |schedule: &Schedule, step| schedule.learning_rate(1.0, step, 15);
    for (step, expected) in [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (9, 0.55), (14, 0.1)] {
        let found = at(&cosine, step);
        assert!((found - expected).abs() < 1e-12, "step {step}: {found}, not {expected}");
    }
    let constant = Schedule { warmup_steps: 2, ..Schedule::default() };
    assert_eq!([0, 1, 2, 14].map(|step| at(&constant, step)), [0.5, 1.0, 1.0, 1.0]);
    assert_eq!(at(&Schedule::default(), 0), 1.0, "no warm-up starts at the peak");
}

/// One parameter of the f64 twin: weight, first and second moment.
struct Twin {
    weight: Vec<f64>,
    moments: [Vec<f64>; 2],
    decay: f64,
}

impl Twin {
    fn update(&mut self, gradient: &[f64], kind: OptimizerKind, t: i32, learning_rate: f64) {
        let (beta1, beta2, eps) = (0.8, 0.95, 1e-6);
        for (i, &gradient) in gradient.iter().enumerate() {
            let mut g = gradient;
            match kind {
                OptimizerKind::Adam => g += self.decay * self.weight[i],
                OptimizerKind::AdamW | OptimizerKind::Muon => {
                    self.weight[i] -= learning_rate * self.decay * self.weight[i]
                }
            }
            let [m, v] = &mut self.moments;
            m[i] = beta1 * m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
            let (m, v) = (m[i] / (1.0 - beta1.powi(t)), v[i] / (1.0 - f64::powi(beta2, t)));
            self.weight[i] -= learning_rate * m / (v.sqrt() + eps);
        }
    }
}

#[test]
fn muon_moves_every_direction_of_a_matrix_alike() {
    let options =
        BurnOptions { trainable: Trainable::Everything, seed: 0, ..BurnOptions::default() };
    let b = Burn::new(BurnDevice::Cpu, options).expect("cpu");
    let (out, input) = (6, 4);
    let dense = b.matrix(MatrixData::from_f32("dense", &[0.0; 24], [out, input])).expect("matrix");
    let kind = OptimizerKind::Muon;
    let config = OptimizerConfig { kind, weight_decay: 0.0, ..OptimizerConfig::default() };
    b.training(0);
    // A gradient of very different sizes in different directions: x^T times a fixed pattern.
    let x = [3.0, 0.1, 0.2, -0.1, 0.0, 0.5, 0.1, 0.3, 0.2, 0.0, -0.4, 0.1, 0.1, 0.2, 0.0, 0.3];
    let rows = b.upload(&x, [4, 4]).expect("rows");
    let c = b.upload(&tributary_tests::uniform(3, 4 * out), [4, out]).expect("a pattern");
    let y = b.linear(&rows, &dense, None).expect("shapes fit");
    let loss = b.gated(&y, &c, Activation::Sigmoid).expect("shapes fit");
    let gradients = b.backward(&loss).expect("a graph");
    let rate = 0.01;
    let mut optimizer = Optimizer::new(config);
    optimizer.update(&b, &b.parameters(), &gradients, 0, rate).expect("finite gradients");
    b.inference();
    let identity: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
    let identity = b.upload(&identity, [input, input]).expect("identity");
    let moved = b.linear(&identity, &dense, None).expect("fits"); // W^T (input, out)
    let moved = pollster::block_on(b.read(&moved)).expect("values");
    let unit = rate as f32 * 0.2 * (out as f32).sqrt();
    for seed in 0..20 {
        // ||W v|| is near ||v|| times the unit for every v.
        let v = tributary_tests::uniform(seed, input);
        let image = (0..out).map(|o| (0..input).map(|i| moved[i * out + o] * v[i]).sum::<f32>());
        let size = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
        let gain = size(&image.collect::<Vec<_>>()) / size(&v) / unit;
        assert!((0.6..1.3).contains(&gain), "v {seed}: {gain}");
    }
}

#[test]
fn adam_and_adamw_equal_their_f64_twin() {
    for (kind, max_grad_norm) in
        [(OptimizerKind::Adam, 0.0), (OptimizerKind::AdamW, 0.0), (OptimizerKind::AdamW, 0.7)]
    {
        let config = OptimizerConfig {
            kind,
            betas: [0.8, 0.95],
            eps: 1e-6,
            weight_decay: 0.3,
            max_grad_norm,
            ..OptimizerConfig::default()
        };
        let options =
            BurnOptions { trainable: Trainable::Everything, seed: 0, ..BurnOptions::default() };
        let b = Burn::new(BurnDevice::Cpu, options).expect("cpu");
        let (start, bias) = ([0.5_f32, -1.0, 0.25, 2.0, -0.75, 1.5], [0.1_f32, -0.2]);
        let dense = b.matrix(MatrixData::from_f32("dense", &start, [2, 3])).expect("a matrix");
        let dense_bias = b.vector("dense.bias", &bias).expect("a vector");
        let twin = |values: &[f32], decay| Twin {
            weight: values.iter().map(|&x| f64::from(x)).collect(),
            moments: [vec![0.0; values.len()], vec![0.0; values.len()]],
            decay,
        };
        // The bias is never decayed.
        let mut twins = [twin(&start, 0.3), twin(&bias, 0.0)];
        let mut optimizer = Optimizer::new(config);
        for step in 0..7_u64 {
            // The loss is sum(x W^T + bias) with x (1, 3): its gradient by W is x in each row.
            let x = [1.0 + step as f32, -0.5, 0.3 * step as f32];
            b.training(step);
            let row = b.upload(&x, [1, 3]).expect("a row");
            let loss = b.linear(&row, &dense, Some(&dense_bias)).expect("shapes fit");
            let gradients = b.backward(&loss).expect("a graph");
            let learning_rate = 0.1 / (1.0 + step as f64);
            let norm = optimizer
                .update(&b, &b.parameters(), &gradients, step, learning_rate)
                .expect("finite gradients");

            let x = x.map(f64::from);
            let expected = (2.0 * x.iter().map(|x| x * x).sum::<f64>() + 2.0).sqrt();
            assert!((norm - expected).abs() < 1e-5 * expected, "norm {norm}, not {expected}");
            let clip = if max_grad_norm > 0.0 { (max_grad_norm / norm).min(1.0) } else { 1.0 };
            let gradient: Vec<f64> = x.iter().chain(&x).map(|x| x * clip).collect();
            let t = step as i32 + 1;
            twins[0].update(&gradient, kind, t, learning_rate);
            twins[1].update(&[clip, clip], kind, t, learning_rate);
        }
        // What the weights are now, through the products they give.
        b.inference();
        let identity = b.upload(&[1., 0., 0., 0., 1., 0., 0., 0., 1.], [3, 3]).expect("a matrix");
        let zero = b.upload(&[0.0; 3], [1, 3]).expect("a row");
        let read = |y: Result<_, Error>| pollster::block_on(b.read(&y.expect("fits"))).expect("y");
        let columns = read(b.linear(&identity, &dense, None)); // W^T (3, 2)
        let found_bias = read(b.linear(&zero, &dense, Some(&dense_bias)));
        let found = |i: usize| columns[(i % 3) * 2 + i / 3];
        for (i, &expected) in twins[0].weight.iter().enumerate() {
            let found = f64::from(found(i));
            assert!((found - expected).abs() < 2e-6, "{kind:?} W[{i}]: {found}, not {expected}");
        }
        for (&found, &expected) in found_bias.iter().zip(&twins[1].weight) {
            let found = f64::from(found);
            assert!((found - expected).abs() < 2e-6, "{kind:?} bias: {found}, not {expected}");
        }
    }
}
