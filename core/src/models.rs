//! Floor 5, the models: one file each, read top to bottom.

pub mod sasrec;
