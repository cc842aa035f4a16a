//! The loop: batches, loss, gradients, update; validation, checkpoints, early stopping.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Tensor;
use tributary_core::backend::{Backend, Segments};
use tributary_core::{Context, Error, Result};

use super::checkpoint::{self, Best, RunState};
use super::config::{self, FitConfig};
use super::curve::{self, CurvePoint};
use super::optimizer::Optimizer;
use super::progress::Event;
use super::random;
use crate::burn_backend::Burn;

/// What is trained: examples with a loss, and how well the model does on others.
pub trait Objective {
    /// Number of training examples (users, prompts).
    fn examples(&self) -> usize;

    /// The losses of these examples as one batch. The training loss is their mean.
    fn losses(&self, b: &Burn, examples: &[u32]) -> Result<Losses>;

    /// An example's name in errors.
    fn example_name(&self, example: u32) -> String;

    /// Name of the validation metric; larger is better.
    fn metric(&self) -> &str;

    /// The validation metric; `None` when there is nothing to validate on.
    fn validate(&self, b: &Burn) -> Result<Option<f64>>;

    /// Writes what the weights need beside them to be loaded, such as `config.json`.
    fn describe(&self, folder: &Path) -> Result<()>;
}

/// The losses of a batch.
pub struct Losses {
    /// (rows, 1).
    pub rows: Tensor<2>,
    /// Segment i is the rows of the batch's example i.
    pub segments: Segments,
}

/// Where a run writes and how much of it is done now.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Folder of checkpoint, weights and curve; made when missing.
    pub out: PathBuf,
    /// Continue from the folder's checkpoint; without one, start.
    pub resume: bool,
    /// Stop with a checkpoint after this many steps of this process.
    pub max_steps: Option<u64>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All epochs are done.
    Finished,
    /// The validation metric has not improved for `patience` validations.
    Early,
    /// [`FitOptions::max_steps`] are done; the run can be resumed.
    Paused,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct TrainReport {
    /// Why it ended.
    pub stopped: Stopped,
    /// Steps done, over all parts of the run.
    pub steps: u64,
    /// Steps of all epochs.
    pub total_steps: u64,
    /// Best validation.
    pub best: Option<Best>,
    /// Loss of the last point of the curve.
    pub loss: Option<f64>,
    /// Rows with a loss (items, tokens) trained on per second.
    pub rows_per_second: f64,
    /// The trained weights.
    pub weights: PathBuf,
}

/// File name of the best weights inside a run's folder.
pub const WEIGHTS: &str = "model.safetensors";

/// Trains what `b` has been given as trainable; the model must have been loaded already.
///
/// The best weights by validation (the last ones without validation) are in `model.safetensors` of
/// `options.out`. A checkpoint is resumed exactly: on the CPU, a resumed run ends with the same
/// weights as one that was never interrupted.
///
/// # Errors
/// A loss or gradient that is not finite, with its step and example, leaves the last checkpoint and
/// the best weights in place. A checkpoint of another configuration is refused by the first key
/// that differs; `identity` is whatever besides `config` decides what is trained.
pub fn fit<O: Objective>(
    b: &Burn,
    objective: &O,
    config: &FitConfig,
    identity: toml::Table,
    options: &FitOptions,
    progress: &mut dyn FnMut(&Event),
) -> Result<TrainReport> {
    config.check()?;
    if objective.examples() == 0 {
        return Err(Error::argument("train", "data", "at least one training example", "none"));
    }
    let out = options.out.as_path();
    std::fs::create_dir_all(out).map_err(|e| Error::io(out.display(), e))?;
    let mut run = Run::start(b, objective, config, identity, options)?;
    objective.describe(out)?;
    progress(&Event::Started { step: run.state.step, total_steps: run.total_steps });
    let stopped = run.steps(options.max_steps, progress)?;
    progress(&Event::Finished);
    Ok(TrainReport {
        stopped,
        steps: run.state.step,
        total_steps: run.total_steps,
        best: run.state.best,
        loss: run.state.curve.last().map(|point| point.loss),
        rows_per_second: run.state.rows as f64 / run.state.seconds.max(1e-9),
        weights: out.join(WEIGHTS),
    })
}

struct Run<'a, O> {
    b: &'a Burn,
    objective: &'a O,
    config: &'a FitConfig,
    out: &'a Path,
    optimizer: Optimizer,
    state: RunState,
    batches_per_epoch: u64,
    total_steps: u64,
}

impl<'a, O: Objective> Run<'a, O> {
    fn start(
        b: &'a Burn,
        objective: &'a O,
        config: &'a FitConfig,
        mut identity: toml::Table,
        options: &'a FitOptions,
    ) -> Result<Self> {
        identity.extend(config::table(config)?);
        identity.insert("examples".into(), (objective.examples() as i64).into());
        let mut optimizer = Optimizer::new(config.optimizer.clone());
        let out = options.out.as_path();
        let restored = match options.resume {
            true => checkpoint::restore(out, b, &b.parameters(), &mut optimizer, &identity)?,
            false => None,
        };
        let state = restored.unwrap_or_else(|| RunState { identity, ..RunState::default() });
        let batches_per_epoch = objective.examples().div_ceil(config.training.batch_size) as u64;
        let total_steps = batches_per_epoch.saturating_mul(config.training.epochs);
        Ok(Self { b, objective, config, out, optimizer, state, batches_per_epoch, total_steps })
    }

    fn steps(
        &mut self,
        max_steps: Option<u64>,
        progress: &mut dyn FnMut(&Event),
    ) -> Result<Stopped> {
        let training = &self.config.training;
        let started = Instant::now();
        let (first_step, first_rows) = (self.state.step, self.state.rows);
        while self.state.epoch < training.epochs {
            if training.patience > 0 && self.state.stale >= training.patience {
                return Ok(Stopped::Early);
            }
            if max_steps.is_some_and(|most| self.state.step - first_step >= most) {
                self.checkpoint()?;
                return Ok(Stopped::Paused);
            }
            let (epoch, seed) = (self.state.epoch, u64::from(training.seed));
            let order = random::permutation(seed, epoch, self.objective.examples());
            let skipped = self.state.position as usize;
            for batch in order.chunks(training.batch_size).skip(skipped) {
                let done = self.step(batch)?;
                let ends_epoch = self.state.position == self.batches_per_epoch;
                if ends_epoch {
                    (self.state.epoch, self.state.position) = (epoch + 1, 0);
                }
                let rows = (self.state.rows - first_rows) as f64;
                let rows_per_second = rows / started.elapsed().as_secs_f64().max(1e-9);
                let step = self.state.step;
                progress(&Event::Step { step, loss: done.loss, rows_per_second });

                let is_multiple = |every: u64| every > 0 && step.is_multiple_of(every);
                let is_last = step == self.total_steps;
                let validates = match training.eval_every {
                    0 => ends_epoch,
                    every => is_multiple(every) || is_last,
                };
                if validates || is_last || is_multiple(training.log_every) {
                    self.point(epoch, &done, validates, progress)?;
                }
                let stops = training.patience > 0 && self.state.stale >= training.patience;
                let pauses = max_steps.is_some_and(|most| step - first_step >= most);
                if ends_epoch || stops || pauses || is_multiple(training.checkpoint_every) {
                    self.checkpoint()?;
                }
                if stops {
                    return Ok(Stopped::Early);
                }
                if pauses && !is_last {
                    return Ok(Stopped::Paused);
                }
            }
        }
        Ok(Stopped::Finished)
    }

    /// One update.
    fn step(&mut self, batch: &[u32]) -> Result<Done> {
        let started = Instant::now();
        let step = self.state.step;
        let learning_rate = self.config.schedule.learning_rate(
            self.config.optimizer.learning_rate,
            step,
            self.total_steps,
        );
        self.b.training(step);
        let losses = self.objective.losses(self.b, batch).at(|| format!("step {step}"))?;
        let loss = losses.rows.clone().mean_dim(0);
        let value = self.read_one(&loss)?;
        if !value.is_finite() {
            return Err(self.not_finite("loss", value, batch, &losses)?);
        }
        let gradients = self.b.backward(&loss)?;
        let parameters = self.b.parameters();
        let gradient_norm =
            self.optimizer.update(self.b, &parameters, &gradients, step, learning_rate)?;
        if !gradient_norm.is_finite() {
            return Err(self.not_finite("gradient norm", gradient_norm, batch, &losses)?);
        }
        self.state.step += 1;
        self.state.position += 1;
        self.state.rows += losses.rows.dims()[0] as u64;
        self.state.seconds += started.elapsed().as_secs_f64();
        self.state.open = (self.state.open.0 + value, self.state.open.1 + 1);
        Ok(Done { loss: value, learning_rate, gradient_norm })
    }

    fn read_one(&self, x: &Tensor<2>) -> Result<f64> {
        let values = pollster::block_on(self.b.read(x))?;
        Ok(values.first().copied().map_or(f64::NAN, f64::from))
    }

    /// The error for a step that must not be applied.
    fn not_finite(
        &self,
        argument: &'static str,
        value: f64,
        batch: &[u32],
        losses: &Losses,
    ) -> Result<Error> {
        let rows = pollster::block_on(self.b.read(&losses.rows))?;
        let is_broken =
            |range: &std::ops::Range<usize>| rows[range.clone()].iter().any(|x| !x.is_finite());
        let example = batch.iter().zip(losses.segments.iter()).find(|(_, rows)| is_broken(rows));
        let place = match example {
            Some((&example, _)) => self.objective.example_name(example),
            None => format!(
                "the batch from {} on",
                batch.first().map_or_else(String::new, |&i| self.objective.example_name(i))
            ),
        };
        let found = format!("{value} at step {}, {place}", self.state.step);
        Ok(Error::argument("train", argument, "a finite number", found))
    }

    /// A point of the curve, with validation or without.
    fn point(
        &mut self,
        epoch: u64,
        done: &Done,
        validates: bool,
        progress: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        self.b.inference();
        let validation = if validates { self.objective.validate(self.b)? } else { None };
        let (sum, count) = std::mem::take(&mut self.state.open);
        let point = CurvePoint {
            step: self.state.step,
            epoch,
            loss: sum / count as f64,
            learning_rate: done.learning_rate,
            gradient_norm: done.gradient_norm,
            validation,
        };
        self.state.curve.push(point);
        if let Some(metric) = validation {
            let is_best = self.state.best.is_none_or(|best| metric > best.metric);
            if is_best {
                self.state.best = Some(Best { metric, step: self.state.step });
                self.state.stale = 0;
                self.save_weights()?;
            } else {
                self.state.stale += 1;
            }
            progress(&Event::Validated { point, is_best });
        }
        Ok(())
    }

    fn save_weights(&self) -> Result<()> {
        checkpoint::save_weights(&self.out.join(WEIGHTS), self.b, &self.b.parameters())
    }

    fn checkpoint(&self) -> Result<()> {
        curve::write(self.out, &self.state.curve, self.objective.metric())?;
        if self.state.best.is_none() {
            self.save_weights()?;
        }
        let parameters = self.b.parameters();
        checkpoint::save(self.out, self.b, &parameters, &self.optimizer, &self.state)
    }
}

/// What a step found.
struct Done {
    loss: f64,
    learning_rate: f64,
    gradient_norm: f64,
}
