//! The backend `openclaw`: a gateway owns the sessions, and is asked over a WebSocket which model each of them is pinned to.

#![allow(clippy::disallowed_methods, reason = "waiting for the gateway is counted on the clock")]

mod address;
mod advice;
mod backend;
mod capabilities;
mod catalog;
mod change;
mod connection;
mod dial;
mod fault;
mod frame;
mod gateway;
mod hello;
mod home;
mod listing;
mod locked;
mod problem;
mod remote;
mod snapshot;
mod stream;
mod thinking;
mod timed;
mod token;

pub use address::{Address, BadAddress};
pub use backend::OpenclawBackend;
pub use capabilities::GatewayCapabilities;
pub use catalog::{AgentModel, AgentRow, Configuration, ModelRow};
pub use fault::{Fault, Unavailable};
pub use gateway::{Access, Gateway, Target, TargetOutcome};
pub use hello::Scope;
pub use home::{GatewayHome, TokenAt, token_of};
pub use listing::{Listed, SessionRow};
pub use remote::Device;
pub use snapshot::GatewaySnapshot;
pub use token::Token;
