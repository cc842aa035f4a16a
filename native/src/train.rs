//! Training: the burn backend gives gradients through the unchanged model files, the trainer turns
//! them into weights that every backend loads.

mod almost_rec;
mod any_config;
mod checkpoint;
pub mod clip;
mod config;
mod curve;
mod graph;
mod induction;
mod language;
mod mllm4rec;
mod mllm_srec;
mod optimizer;
mod progress;
mod random;
mod retriever;
mod schedule;
mod sequence;
mod tmf;
mod trainer;

pub use almost_rec::{AlmostRecKind, AlmostRecModelConfig, AlmostRecTrainConfig};
pub use any_config::AnyConfig;
pub use checkpoint::{Best, CHECKPOINT, RunState};
pub use config::{FitConfig, TrainingConfig, parse};
pub use curve::CurvePoint;
pub use graph::{
    GraphDataConfig, GraphModelConfig, GraphTrainConfig, LightGcnOptions, MbhtOptions,
};
pub use language::{AdapterOptions, LanguageOptions, Quantization};
pub use mllm_srec::{
    LossOn, MllmSrecDataConfig, MllmSrecKind, MllmSrecLossConfig, MllmSrecModelConfig,
    MllmSrecTrainConfig,
};
pub use mllm4rec::{
    ExamplesConfig, Mllm4RecKind, Mllm4RecModelConfig, Mllm4RecTrainConfig, Negatives,
};
pub use optimizer::{Optimizer, OptimizerConfig, OptimizerKind};
pub use progress::{Event, bar};
pub use schedule::{Decay, Schedule};
pub use sequence::{
    BprOptions, DataConfig, Gru4RecOptions, LruRecOptions, ModelConfig, SasRecOptions, TrainConfig,
    run,
};
pub use tmf::{
    CurriculumConfig, FusionOptions, TablesConfig, TmfDataConfig, TmfKind, TmfModelConfig,
    TmfTrainConfig,
};
pub use toml::Table;
pub use trainer::{FitOptions, Losses, Objective, Stopped, TrainReport, WEIGHTS, fit};
