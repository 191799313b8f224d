//! The state directory: the ledger, the history, the models that chats were last given, the standing faults that quiet runs
//! have reported, and the redaction key.

#![allow(clippy::disallowed_methods, reason = "this room is where state is read and written")]

pub mod apart;
pub mod dir;
pub mod history;
mod journal;
pub mod kept;
pub mod key;
pub(crate) mod last_applied;
pub mod ledger;
mod problem;
pub mod run;
pub mod standing_faults;
pub(crate) mod version_1;
pub(crate) mod whole;
