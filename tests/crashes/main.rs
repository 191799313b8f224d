//! The real binary, killed by SIGKILL at every point of a run: with a real supervisor and real processes.
//!
//! Run with `cargo test --features crash-points --test crashes -- --include-ignored`; without the last two words, the test
//! that needs root is left out.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests set the scene with files, processes and the environment, and fail by panicking"
)]

mod daemon;
mod debris;
#[path = "../double/handle.rs"]
mod handle;
#[path = "../it/journal_text.rs"]
mod journal_text;
mod keep_manual;
mod launch;
mod other_owner;
mod points;
mod quiet;
mod set_model;
mod supervisor;
mod swapped;
