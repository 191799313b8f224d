//! What runs remember in a directory: the ledger, the history, what chats were last given, what quiet runs have told, and the
//! key of pseudonyms.

#![allow(clippy::disallowed_methods, reason = "this room is where state is read and written")]

pub mod conditions;
pub mod dir;
pub mod history;
pub mod home;
mod journal;
pub mod kept;
pub mod key;
pub(crate) mod last_applied;
pub mod ledger;
mod problem;
pub mod run;
pub(crate) mod version_1;
pub(crate) mod whole;
