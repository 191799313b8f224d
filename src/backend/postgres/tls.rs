//! Encrypted connections: the server must have a certificate for its name, which descends from a root that this host trusts.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::backend::postgres::problem::ConnectionProblem;
use crate::backend::tls;
use crate::error::{Bug, Error, Result};
use crate::policy::conninfo::Conninfo;

/// The root certificates that a server's certificate must descend from.
#[derive(Clone)]
pub(super) enum Roots {
    /// The roots that the system trusts.
    System,
    /// The roots in this file.
    In(PathBuf),
}

impl Roots {
    /// The roots of `sslrootcert`; without that setting those of `root.crt` in libpq's directory, or of the system where there is no such
    /// file.
    pub(super) fn of(settings: &Conninfo, directory: Option<PathBuf>) -> Self {
        let usual = directory.map(|directory| directory.join("root.crt")).filter(|file| file.exists());
        match settings.get("sslrootcert") {
            Some("system") => Self::System,
            Some(file) => Self::In(PathBuf::from(file)),
            None => usual.map_or(Self::System, Self::In),
        }
    }
}

/// The connector for encrypted connections.
///
/// # Errors
/// Where the roots cannot be read, or there are none.
pub(super) fn connector(roots: &Roots) -> Result<MakeRustlsConnect> {
    let store = match roots {
        Roots::System => tls::system_roots(),
        Roots::In(file) => in_file(file)?,
    };
    if store.is_empty() {
        return Err(ConnectionProblem::NoRoots.into());
    }
    let builder = tls::builder().map_err(|_| Bug("TLS cannot be set up"))?;
    Ok(MakeRustlsConnect::new(builder.with_root_certificates(store).with_no_client_auth()))
}

fn in_file(file: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|_| unreadable(file))? {
        let certificate = certificate.map_err(|_| unreadable(file))?;
        store.add(certificate).map_err(|_| unreadable(file))?;
    }
    Ok(store)
}

fn unreadable(file: &Path) -> Error {
    ConnectionProblem::NotRoots { file: file.to_owned() }.into()
}
