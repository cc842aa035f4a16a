//! Floor 4: the parts that every model is built of. Field names are the checkpoint's.

mod kv_cache;
mod linear;
mod norm;
mod rope;

pub use kv_cache::{KvCache, KvUse};
pub use linear::Linear;
pub use norm::{LayerNorm, RmsNorm};
pub use rope::{Rope, RopeScaling};
