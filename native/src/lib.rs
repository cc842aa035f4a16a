//! Tributary for native programs: files, data sets, evaluation, bundles, training and the command
//! line.

pub mod bundle;
pub mod data;
pub mod evaluate;
pub mod files;
#[cfg(feature = "train")]
pub mod train;
