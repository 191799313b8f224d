//! Makes the model that every chat's AI session runs on match a TOML policy kept in git.
//!
//! Data flows one way: a [`policy`] and a [`registry`] are read, [`resolve`] decides, [`plan`] says what differs,
//! [`apply`] makes the changes in an order in which a run may be killed at any point, and [`report`] shows the outcome.
//! `ARCHITECTURE.md` has the map.

#[cfg(not(unix))]
compile_error!(
    "reconcile builds only on Unix systems such as Linux and macOS, so on Windows build and run it inside WSL 2"
);

pub mod adopt;
pub mod apply;
pub mod backend;
pub mod chat;
pub mod checkup;
pub mod cli;
mod crash;
pub mod diagnostic;
pub mod error;
pub mod file_name;
pub mod foreign;
pub mod form;
mod json;
pub mod launch;
pub mod length;
pub mod lint;
pub mod names;
pub mod os;
pub mod plan;
pub mod policy;
pub mod redact;
pub mod registry;
pub mod report;
pub mod resolve;
pub mod sources;
pub mod splice;
pub mod state;
pub mod suggest;
pub mod withdrawn;
