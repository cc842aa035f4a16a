//! Tributary for native programs: files, data sets, evaluation, bundles.

pub mod bundle;
pub mod data;
pub mod evaluate;
