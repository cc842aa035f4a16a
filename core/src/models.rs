//! Floor 5: one file per model, generic over the backend.

pub mod llama;
pub mod sasrec;
