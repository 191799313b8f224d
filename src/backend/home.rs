//! Where a registry is, before its backend is opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::apply::Backend;
use crate::backend::file::RegistryFile;
use crate::backend::openclaw::{GatewayHome, OpenclawBackend};
#[cfg(feature = "postgres")]
use crate::backend::postgres::RegistryTable;
use crate::checkup::Check;
use crate::error::Result;

/// Where a registry is, as the command line or the policy says. The registry is not read, and no server is asked, before a backend
/// is opened.
#[derive(Clone, Debug)]
pub enum Home {
    /// In a file. With a policy whose backend keeps its registry elsewhere, a run can plan on the file, but not apply to it.
    File(RegistryFile),
    /// With a gateway.
    Gateway(GatewayHome),
    /// In a table of a database.
    #[cfg(feature = "postgres")]
    Table(RegistryTable),
}

impl Home {
    /// Its name in messages.
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

    /// The arguments that name it on the command line. `name` is the name of its snapshot.
    pub fn argument(&self, name: &str) -> String {
        match self {
            Self::File(_) => format!("--registry {name}"),
            Self::Gateway(_) => format!("--connect {name}"),
            // An address may hold a password.
            #[cfg(feature = "postgres")]
            Self::Table(_) => "--connect ADDRESS".to_owned(),
        }
    }

    /// The files that are read, and those that have the state. No report may replace one of them.
    pub fn needed(&self) -> Vec<PathBuf> {
        match self {
            Self::File(registry) => vec![registry.file().to_owned(), registry.state()],
            Self::Gateway(gateway) => gateway.needed(),
            #[cfg(feature = "postgres")]
            Self::Table(_) => Vec::new(),
        }
    }

    /// The fingerprint of the key with which it was redacted; `None` where it is not a redacted snapshot.
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

    /// Looks at the registry alone: for a checkup without a valid policy, where no backend can be opened.
    pub fn checkup(&self) -> Vec<Check> {
        match self {
            Self::File(registry) => registry.checkup(),
            Self::Gateway(gateway) => OpenclawBackend::new(gateway.clone(), BTreeMap::new()).checkup(),
            #[cfg(feature = "postgres")]
            Self::Table(table) => table.checkup(),
        }
    }

    /// The registry without what runs remember, for a plan by a user who may not read that.
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
