//! Floor 4: the parts that every model is built of. Field names are the checkpoint's.

mod encoder;
mod kv_cache;
mod linear;
mod norm;
mod patch_embedding;
mod rope;

pub use encoder::{
    Encoder, EncoderConfig, EncoderLayer, EncoderPass, LayerNames, NormOrder, QkvNames,
};
pub use kv_cache::{Branches, CachedRows, KvCache, KvUse};
pub use linear::Linear;
pub use norm::{LayerNorm, RmsNorm};
pub use patch_embedding::{CHANNELS, PatchConfig, PatchEmbedding, PatchNames};
pub use rope::{AxesPosition, Rope, RopeScaling};
