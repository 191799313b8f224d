//! Where a registry is. What runs remember of it is asked of its backend.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::apply::Backend;
use crate::backend::file::RegistryFile;
use crate::backend::openclaw::{GatewayHome, OpenclawBackend};
#[cfg(feature = "postgres")]
use crate::backend::postgres::RegistryTable;
use crate::checkup::Check;
use crate::error::Result;

/// Where a registry is, as the command line or the policy names it. Nothing is read of it, and nothing is asked, until a
/// backend is.
#[derive(Clone, Debug)]
pub enum Home {
    /// In a file. A policy of a backend that keeps its registry elsewhere can be planned on a file, and not applied to it.
    File(RegistryFile),
    /// With a gateway, which is asked.
    Gateway(GatewayHome),
    /// In a table of a database.
    #[cfg(feature = "postgres")]
    Table(RegistryTable),
}

impl Home {
    /// What a message calls it.
    pub fn name(&self) -> String {
        match self {
            Self::File(registry) => registry.file().display().to_string(),
            Self::Gateway(gateway) => gateway.address.to_string(),
            #[cfg(feature = "postgres")]
            Self::Table(table) => table.name(),
        }
    }

    /// Whether it is a file, whose text can be shown and compared.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// How the command line names it, where its snapshot has this name.
    pub fn argument(&self, name: &str) -> String {
        match self {
            Self::File(_) => format!("--registry {name}"),
            Self::Gateway(_) => format!("--connect {name}"),
            // An address may hold a password.
            #[cfg(feature = "postgres")]
            Self::Table(_) => "--connect ADDRESS".to_owned(),
        }
    }

    /// The files that are read or hold the state, so that no report may take the place of one.
    pub fn needed(&self) -> Vec<PathBuf> {
        match self {
            Self::File(registry) => vec![registry.file().to_owned(), registry.state()],
            Self::Gateway(gateway) => gateway.needed(),
            #[cfg(feature = "postgres")]
            Self::Table(_) => Vec::new(),
        }
    }

    /// The fingerprint of the key that it was redacted with, where it is a redacted snapshot.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn redacted_with(&self) -> Result<Option<String>> {
        match self {
            Self::File(registry) => registry.redacted_with(),
            Self::Gateway(_) => Ok(None),
            #[cfg(feature = "postgres")]
            Self::Table(_) => Ok(None),
        }
    }

    /// Looks at the registry alone, where its backend cannot be opened.
    pub fn checkup(&self) -> Vec<Check> {
        match self {
            Self::File(registry) => registry.checkup(),
            Self::Gateway(gateway) => OpenclawBackend::new(gateway.clone(), BTreeMap::new()).checkup(),
            #[cfg(feature = "postgres")]
            Self::Table(table) => table.checkup(),
        }
    }

    /// The registry as if no run had been on it, for a plan of a user who may not see what runs remember.
    #[must_use]
    pub(crate) fn without_state(self) -> Self {
        match self {
            Self::File(registry) => Self::File(registry.without_state()),
            Self::Gateway(gateway) => Self::Gateway(GatewayHome { state: gateway.state.left_out(), ..gateway }),
            #[cfg(feature = "postgres")]
            Self::Table(table) => Self::Table(table),
        }
    }
}
