//! Tributary for native targets: files, data sets, training and the command line.

pub mod files;
#[cfg(feature = "train")]
pub mod train;
