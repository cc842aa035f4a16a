//! Floor 5: one file per model, generic over the backend.

pub mod lightgcn;
pub mod llama;
pub mod mbht;
pub mod sasrec;
