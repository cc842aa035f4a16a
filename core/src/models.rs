//! Floor 5: one file per model, generic over the backend.

pub mod almost_rec;
pub mod bert;
pub mod bpr;
pub mod clip;
pub mod fusion;
pub mod gru4rec;
pub mod lightgcn;
pub mod llama;
pub mod llava;
pub mod lru_rec;
pub mod mbht;
pub mod qwen2_vl;
pub mod sasrec;
pub mod sequence;
mod sequence_items;
pub mod vit;
