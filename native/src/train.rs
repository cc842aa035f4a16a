//! Training: the burn backend gives gradients through the unchanged model files, the trainer turns
//! them into weights that every backend loads.

pub mod burn_backend;
mod checkpoint;
pub mod clip;
mod config;
mod curve;
mod graph;
mod optimizer;
mod progress;
mod random;
mod sasrec;
mod schedule;
mod tmf;
mod trainer;

pub use burn_backend::{Burn, BurnDevice, BurnOptions, Trainable};
pub use checkpoint::{Best, CHECKPOINT, RunState};
pub use config::{AnyConfig, FitConfig, TrainingConfig, parse};
pub use curve::CurvePoint;
pub use graph::{
    GraphDataConfig, GraphModelConfig, GraphTrainConfig, LightGcnOptions, MbhtOptions,
};
pub use optimizer::{Optimizer, OptimizerConfig, OptimizerKind};
pub use progress::{Event, bar};
pub use sasrec::{DataConfig, ModelConfig, ModelKind, TrainConfig, run};
pub use schedule::{Decay, Schedule};
pub use tmf::{
    AdapterOptions, CurriculumConfig, FusionOptions, LanguageOptions, TablesConfig, TmfDataConfig,
    TmfKind, TmfModelConfig, TmfTrainConfig,
};
pub use toml::Table;
pub use trainer::{FitOptions, Losses, Objective, Stopped, TrainReport, WEIGHTS, fit};
