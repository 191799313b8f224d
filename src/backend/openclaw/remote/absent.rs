//! A build without the feature `remote`. There are no values of its types, so nothing is ever asked of them.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::backend::openclaw::address::Address;
use crate::backend::openclaw::fault::Fault;
use crate::backend::openclaw::problem::GatewayProblem;
use crate::backend::openclaw::timed::Timed;
use crate::error::Result;
use crate::policy::fingerprint::Fingerprint;

/// Encrypts nothing.
pub(in crate::backend::openclaw) fn encrypt(
    _: Timed,
    address: &Address,
    _: Option<Fingerprint>,
) -> Result<Encrypted, Fault> {
    let reason = "this build of reconcile cannot verify it".to_owned();
    Err(Fault::Untrusted { address: address.clone(), reason })
}

/// An encrypted stream.
pub(in crate::backend::openclaw) enum Encrypted {}

impl Encrypted {
    pub(in crate::backend::openclaw) fn carrier(&mut self) -> &mut Timed {
        match *self {}
    }
}

impl Read for Encrypted {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for Encrypted {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}

/// The identity of a device.
#[derive(Debug)]
pub enum Device {}

impl Device {
    /// None.
    ///
    /// # Errors
    /// Always.
    pub fn read(_: &Path) -> Result<Self> {
        Err(GatewayProblem::NoDevices.into())
    }

    /// The device's name at the gateway.
    pub fn id(&self) -> &str {
        match *self {}
    }

    pub(in crate::backend::openclaw) fn public_key(&self) -> String {
        match *self {}
    }

    pub(in crate::backend::openclaw) fn sign(&self, _: &str) -> String {
        match *self {}
    }
}
