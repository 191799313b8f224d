//! Where models are kept and how sessions come to run on them.

mod commands;
mod dispatch;
pub mod file;

pub use commands::FileBackend;
pub use dispatch::DispatchBackend;
pub use dispatch::{Meaning, System, meaning};
