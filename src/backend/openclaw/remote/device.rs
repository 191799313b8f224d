//! The identity of a device: a key pair whose public half a gateway's operator approves once.

use std::fmt;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::backend::openclaw::problem::GatewayProblem;
use crate::error::Result;
use crate::os::private;
use crate::redact::hex;

/// The largest file of a key, in bytes.
const LONGEST: u64 = 4 << 10;

/// The identity of a device. Its signatures prove that this host has the private key, which is never sent.
pub struct Device {
    key: Ed25519KeyPair,
    id: String,
}

impl Device {
    /// The identity whose private key is in this file. Only PEM of an Ed25519 key is one.
    ///
    /// # Errors
    /// Where the file does not exist, other users can read it, or it is not such a key. No error quotes the file.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(GatewayProblem::NoDeviceKey { path: path.to_owned() }.into());
        }
        let text = private::read(path, "device key", LONGEST)?;
        let pem = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).ok();
        // openssl writes the private half alone, from which the public one follows.
        let key = pem.and_then(|key| Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).ok());
        let key = key.ok_or_else(|| GatewayProblem::NotADeviceKey { path: path.to_owned() })?;
        let id = hex(&Sha256::digest(key.public_key()));
        Ok(Self { key, id })
    }

    /// The device's name at the gateway, as `openclaw devices list` shows it: 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key in base64url.
    pub(in crate::backend::openclaw) fn public_key(&self) -> String {
        BASE64URL_NOPAD.encode(self.key.public_key().as_ref())
    }

    /// The signature of a text, in base64url.
    pub(in crate::backend::openclaw) fn sign(&self, text: &str) -> String {
        BASE64URL_NOPAD.encode(self.key.sign(text.as_bytes()).as_ref())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Device").field(&self.id).finish()
    }
}
