//! What the tests share.

pub mod files;
