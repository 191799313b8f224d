//! Who restarts sessions.

mod command;
mod file;

pub use file::FileBackend;
