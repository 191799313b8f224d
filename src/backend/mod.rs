//! The backends: where models are kept, and how sessions come to run on them. This file has the one list of all backends.

mod commands;
pub mod dispatch;
pub mod file;
mod give_up;
mod home;
mod listener;
mod observe;
pub mod openclaw;
mod planned_on_file;
#[cfg(feature = "postgres")]
pub mod postgres;
mod problem;
#[cfg(any(feature = "postgres", feature = "remote"))]
mod tls;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::apply::Backend;
use crate::backend::planned_on_file::PlannedOnFile;
#[cfg(feature = "postgres")]
use crate::backend::postgres::PostgresBackend;
#[cfg(feature = "postgres")]
use crate::error::Bug;
use crate::error::Result;
use crate::plan::capabilities::Capabilities;
use crate::policy::{BackendSettings, Policy};

pub use commands::{Commands, Probe};
pub use dispatch::DispatchBackend;
pub use file::FileBackend;
pub use give_up::GiveUp;
pub use home::Home;
pub use listener::{Deaf, Listener};
pub use openclaw::OpenclawBackend;

/// Where a policy and its registry are on this host.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the registry is.
    pub home: Home,
    /// The policy's directory, in which its commands run.
    pub directory: PathBuf,
    /// The socket that the policy names, if it names one.
    pub socket: Option<PathBuf>,
    /// Which commands of the policy may be run to make a plan.
    pub probe: Probe,
}

/// The backend that a policy names.
///
/// # Errors
/// Where its registry cannot be looked at.
pub fn open(policy: &Policy, place: Place) -> Result<Box<dyn Backend>> {
    open_heard(policy, place, Arc::new(Deaf), GiveUp::default())
}

/// The backend that a policy names, with a listener that is told of its commands and requests. Its waits for a gateway end
/// when `give_up` says so.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_heard(
    policy: &Policy,
    place: Place,
    listener: Arc<dyn Listener>,
    give_up: GiveUp,
) -> Result<Box<dyn Backend>> {
    let Place { home, directory, socket, probe } = place;
    Ok(match (&policy.sessions.backend, home) {
        (_, Home::File(registry)) if policy.table.is_some() => {
            Box::new(PlannedOnFile { registry, capabilities: capabilities(policy) })
        }
        (BackendSettings::File(settings), Home::File(registry)) => {
            let commands = Commands::new(policy, settings, directory, probe).heard_by(listener);
            Box::new(FileBackend::new(registry, policy.aliases.clone(), commands))
        }
        (BackendSettings::Dispatch(settings), Home::File(registry)) => {
            let socket = socket.unwrap_or_else(|| PathBuf::from(&settings.socket));
            Box::new(DispatchBackend::new(registry, policy, settings, socket)?.heard_by(listener))
        }
        (BackendSettings::Openclaw(_), Home::File(registry)) => {
            Box::new(PlannedOnFile { registry, capabilities: capabilities(policy) })
        }
        (_, Home::Gateway(gateway)) => {
            Box::new(OpenclawBackend::new(gateway, policy.aliases.clone()).heard_by(listener).ended_by(give_up))
        }
        #[cfg(feature = "postgres")]
        (BackendSettings::File(settings), Home::Table(table)) => {
            let commands = Commands::new(policy, settings, directory, probe).heard_by(listener);
            Box::new(PostgresBackend::new(table, policy.aliases.clone(), commands))
        }
        #[cfg(feature = "postgres")]
        (BackendSettings::Dispatch(_) | BackendSettings::Openclaw(_), Home::Table(_)) => {
            return Err(Bug("a policy whose registry is a table has another backend than commands").into());
        }
    })
}

/// The backend of a registry without a policy: for commands that only read the registry, or what runs remember.
pub(crate) fn of_home(home: Home) -> Box<dyn Backend> {
    match home {
        Home::File(registry) => Box::new(FileBackend::new(registry, BTreeMap::new(), Commands::none())),
        Home::Gateway(gateway) => Box::new(OpenclawBackend::new(gateway, BTreeMap::new())),
        #[cfg(feature = "postgres")]
        Home::Table(table) => Box::new(PostgresBackend::new(table, BTreeMap::new(), Commands::none())),
    }
}

/// What the backend that a policy names can do.
pub fn capabilities(policy: &Policy) -> Box<dyn Capabilities> {
    match &policy.sessions.backend {
        BackendSettings::File(settings) => Box::new(Commands::new(policy, settings, PathBuf::new(), Probe::Nothing)),
        BackendSettings::Dispatch(_) => Box::new(dispatch::DaemonCapabilities),
        BackendSettings::Openclaw(_) => Box::new(openclaw::GatewayCapabilities),
    }
}

/// Why a launch must not start the sessions of a backend.
pub(crate) struct LaunchRefusal {
    pub(crate) message: &'static str,
    /// What to do instead.
    pub(crate) hint: &'static str,
}

/// Why a launch must not start the sessions of the backend with this name; `None` where it may.
pub(crate) fn refuses_launch(name: &str) -> Option<LaunchRefusal> {
    match name {
        "dispatch" => Some(LaunchRefusal {
            message: "sessions of the dispatch backend are started by their daemon, not by reconcile launch",
            hint: "send the chat a message, or set backend = \"file\" if nothing else owns the registry",
        }),
        "openclaw" => Some(LaunchRefusal {
            message: "sessions of the openclaw backend are started by their gateway, not by reconcile launch",
            hint: "there is nothing to do: a changed model takes effect at the next turn",
        }),
        _ => None,
    }
}
