//! Fingerprints of certificates.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::redact::hex;

/// The length of a SHA-256, in bytes.
const BYTES: usize = 32;

/// The SHA-256 of a certificate in its binary form (DER), as in `sha256:9f86…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; BYTES]);

/// The error for a text that is not a fingerprint. One is 64 hexadecimal digits, or 32 pairs of them separated by colons, with or
/// without `sha256:` before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFingerprint;

impl Fingerprint {
    /// The fingerprint of a certificate in its binary form.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let parts: Vec<&str> = digits.split(':').collect();
        let is_whole = [1, BYTES].contains(&parts.len());
        if !is_whole || parts.iter().any(|part| part.len() * parts.len() != 2 * BYTES) {
            return Err(NotAFingerprint);
        }
        let digit = |digit: char| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(NotAFingerprint);
        let digits: Vec<u8> = parts.concat().chars().map(digit).collect::<Result<_, _>>()?;
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}
