//! Encrypted connections to a gateway. Its certificate is verified before any data is sent.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, OtherError, SignatureScheme, StreamOwned,
};

use crate::backend::openclaw::address::Address;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::timed::{Timed, words};
use crate::backend::tls;
use crate::policy::fingerprint::Fingerprint;

/// Completes the handshake, before which no data is sent. The certificate must have the given fingerprint. Without one,
/// it must be a certificate for this host that the system trusts.
pub(in crate::backend::openclaw) fn encrypt(
    mut carrier: Timed,
    address: &Address,
    pinned: Option<Fingerprint>,
) -> Result<Encrypted, Fault> {
    let failed = |reason: String| Fault::NotAGateway { address: address.clone(), reason };
    let name = ServerName::try_from(address.host().to_string());
    let name = name.map_err(|_| failed(format!("{} is not a host name", address.host())))?;
    let session = config(pinned).and_then(|config| ClientConnection::new(Arc::new(config), name));
    let mut session = session.map_err(|error| failed(error.to_string()))?;
    session.complete_io(&mut carrier).map_err(|error| fault(address, &error))?;
    Ok(Encrypted(StreamOwned::new(session, carrier)))
}

fn config(pinned: Option<Fingerprint>) -> Result<ClientConfig, rustls::Error> {
    let builder = tls::builder()?;
    let builder = match pinned {
        None => builder.with_root_certificates(tls::system_roots()),
        Some(fingerprint) => {
            let algorithms = builder.crypto_provider().signature_verification_algorithms;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { fingerprint, algorithms }))
        }
    };
    Ok(builder.with_no_client_auth())
}

/// Why a handshake was not completed.
fn fault(address: &Address, error: &io::Error) -> Fault {
    let address = address.clone();
    let refused = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match refused {
        Some(rustls::Error::InvalidCertificate(why)) => Fault::Untrusted { address, reason: tls::mistrust(why) },
        Some(rustls::Error::InvalidMessage(_)) => {
            Fault::NotAGateway { address, reason: "it does not speak TLS".to_owned() }
        }
        Some(refused) => Fault::NotAGateway { address, reason: refused.to_string() },
        None => Fault::Unreachable { address, reason: words(error) },
    }
}

/// Accepts one certificate, whose dates and names are not checked.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The certificate is not the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("its fingerprint is {presented}, but {pinned} is pinned")]
struct Mismatch {
    presented: Fingerprint,
    pinned: Fingerprint,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (presented, pinned) = (Fingerprint::of(certificate), self.fingerprint);
        if presented == pinned {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::Other(OtherError(Arc::new(Mismatch { presented, pinned }))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// An encrypted stream.
pub(in crate::backend::openclaw) struct Encrypted(StreamOwned<ClientConnection, Timed>);

impl Encrypted {
    /// The stream with the encrypted bytes.
    pub(in crate::backend::openclaw) fn carrier(&mut self) -> &mut Timed {
        &mut self.0.sock
    }
}

impl Read for Encrypted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Encrypted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
