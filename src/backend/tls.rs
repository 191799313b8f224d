//! What encrypted connections to gateways and databases have in common.

use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, ConfigBuilder, OtherError, RootCertStore, WantsVerifier};

/// The configuration of TLS without a verification of certificates, which the caller adds.
pub(super) fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// The root certificates that the system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(super) fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// Why a server's certificate is not accepted.
pub(super) fn mistrust(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "no authority that this host trusts has issued it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host".to_owned()
        }
        CertificateError::Other(OtherError(why)) => why.to_string(),
        why => why.to_string(),
    }
}
