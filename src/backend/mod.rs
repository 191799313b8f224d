//! Who restarts sessions.

mod command;
mod dispatch;
mod file;
mod socket;

pub use dispatch::DispatchBackend;
pub use file::FileBackend;
