//! A double that encrypts its connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reconcile::policy::fingerprint::Fingerprint;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::gateway::Accept;

/// A file in `certificates/`.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gateway/certificates").join(format!("{name}.pem"))
}

pub fn fingerprint(certificate: &str) -> Fingerprint {
    Fingerprint::of(&CertificateDer::from_pem_file(file(certificate)).unwrap())
}

/// Encrypts with the certificate of this name.
pub(super) fn with(certificate: &str) -> (Fingerprint, Accept) {
    let chain = vec![CertificateDer::from_pem_file(file(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let accept: Accept = Box::new(move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        Box::new(StreamOwned::new(session, stream))
    });
    (fingerprint(certificate), accept)
}
