//! What the tests share.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests stop at the first thing that is not as it should be, and say why"
)]

pub mod folder;
pub mod npz;
pub mod shared;
pub mod tiny_sasrec;
