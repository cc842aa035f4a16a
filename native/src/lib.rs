//! Tributary for native programs: files, data sets, evaluation, bundles, training and the command
//! line.

pub mod bundle;
pub mod cli;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod files;
pub mod language;
pub mod recommender;
#[cfg(feature = "train")]
pub mod train;
