//! The backend `openclaw`: a gateway owns the sessions, and is asked over a WebSocket which model each of them is pinned to.

#![allow(clippy::disallowed_methods, reason = "waiting for the gateway is counted on the clock")]

mod address;
mod catalog;
mod connection;
mod fault;
mod frame;
mod gateway;
mod listing;
mod token;

pub use address::{Address, BadAddress};
pub use catalog::{AgentModel, AgentRow, ModelRow};
pub use fault::{Fault, Unavailable};
pub use gateway::{Gateway, Scope, Target, TargetOutcome};
pub use listing::{Listed, SessionRow};
pub use token::Token;
