//! The files of a policy: reading them from disk or from git, and editing them.

#![allow(clippy::disallowed_methods, reason = "this room is where the files of a policy are read and written")]

mod edit;
pub mod git;
mod last;
pub mod last_start;
mod load;
mod new;
mod problem;

pub use edit::PolicyFile;
pub use last::Last;
pub use load::{PolicyFiles, check_size, load};
pub use new::write_new;
