//! A registry that is a table: the real binary, and a real PostgreSQL server that these tests start.
//!
//! Run with `cargo test --features postgres --test postgres`.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests set the scene with files, processes and the environment, and fail by panicking"
)]

mod apply;
mod batches;
mod connection;
mod cuts;
mod database;
mod encrypted;
mod errors;
mod example;
mod failures;
mod figures;
mod format;
#[path = "../it/journal_text.rs"]
mod journal_text;
mod keep_manual;
mod launch;
mod locked_out;
mod lost;
mod narrowed;
mod odd_names;
mod older;
mod pooler;
mod preflight;
mod reading;
mod refused;
mod server;
mod standby;
mod stopped;
#[allow(dead_code, unused_imports, reason = "these tests need a part of it")]
#[path = "../it/support.rs"]
mod support;
mod traps;
mod worlds;
