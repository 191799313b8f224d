//! The backend `openclaw`: a gateway owns the sessions, and is asked over a WebSocket which model each of them is pinned to.

#![allow(clippy::disallowed_methods, reason = "waiting for the gateway is counted on the clock")]

mod address;
mod advice;
mod backend;
mod capabilities;
mod catalog;
mod change;
mod connection;
mod fault;
mod frame;
mod gateway;
mod home;
mod listing;
mod locked;
mod problem;
mod snapshot;
mod thinking;
mod token;

pub use address::{Address, BadAddress};
pub use backend::OpenclawBackend;
pub use capabilities::GatewayCapabilities;
pub use catalog::{AgentModel, AgentRow, Configuration, ModelRow};
pub use fault::{Fault, Unavailable};
pub use gateway::{Gateway, Scope, Target, TargetOutcome};
pub use home::{GatewayHome, TokenAt, token_of};
pub use listing::{Listed, SessionRow};
pub use snapshot::GatewaySnapshot;
pub use token::Token;
