//! Tributary's core: pictures, text and behaviour flow into one small language model, on the
//! user's own device.
//!
//! The modules are floors; each uses only the floors above it in this list (a test enforces it).
#![forbid(unsafe_op_in_unsafe_fn)]

// ground
pub mod digest;
pub mod dtype;
pub mod error;
pub mod random;
// floors 1 and 2: the trait and its implementations
pub mod backend;
// floor 3
pub mod weights;
// floor 4
pub mod nn;
// floor 5
pub mod models;
// floor 6
pub mod preprocess;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub mod prompt;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub mod tokenizer;
// floor 7
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub mod encoder;
pub mod session;
#[cfg(any(feature = "tokenizer", feature = "tokenizer-web"))]
pub mod vision_language;
// floor 8
pub mod metrics;
pub mod recommend;
pub mod shop;

pub use error::{Context, Error, ErrorKind, Result};
