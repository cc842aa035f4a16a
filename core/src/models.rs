//! Floor 5: one file per model, generic over the backend.

pub mod bert;
pub mod clip;
pub mod fusion;
pub mod lightgcn;
pub mod llama;
pub mod llava;
pub mod mbht;
pub mod qwen2_vl;
pub mod sasrec;
pub mod vit;
