//! Who restarts and starts sessions.

mod command;
mod dispatch;
mod file;
mod socket;

pub use command::turn_into;
pub use dispatch::DispatchBackend;
pub use file::FileBackend;
