//! The key for redaction, in the state directory.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::redact::{KEY_LENGTH, Redaction};
use crate::registry::redacted::marker;
use crate::store::dir::StateDir;
use crate::store::{LockedStore, Store, open_regular};

const KEY: &str = "redact.key";
/// The first entry of a registry lies within so many bytes.
const FIRST_ENTRY: u64 = 64 << 10;

impl Store {
    /// The key that the registry's chats are redacted with.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn redaction_key(&self) -> Result<Redaction> {
        let dir = StateDir::open(&self.file, self.facts()?.owner)?;
        let key = dir.map(|dir| read(&dir)).transpose()?.flatten();
        key.ok_or_else(|| {
            let path = self.state().join(KEY);
            Error::other(format!(
                "there is no key for redaction: {}; make it with `reconcile snapshot --redact`, or name one with --redact-key",
                path.display()
            ))
        })
    }

    /// The same, and a new one where there is none.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn redaction_key_or_new(self, patience: Duration, now: Timestamp) -> Result<(Self, Redaction)> {
        let dir = StateDir::create(&self.file, self.facts()?)?;
        let state = LockedStore::new(self, dir, patience, now, None);
        let (redaction, _) = state.with_ledger(|_| {
            if let Some(redaction) = read(&state.dir)? {
                return Ok(redaction);
            }
            let redaction = new()?;
            state.dir.save(KEY, redaction.to_text().as_bytes())?;
            Ok(redaction)
        })?;
        Ok((state.store, redaction))
    }

    /// The fingerprint of the key that the registry was redacted with, where it is a redacted snapshot.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn redacted_with(&self) -> Result<Option<String>> {
        let mut start = Vec::new();
        open_regular(&self.file)?.take(FIRST_ENTRY).read_to_end(&mut start).map_err(Error::io("read", &self.file))?;
        Ok(marker(&String::from_utf8_lossy(&start)))
    }
}

/// Reads a key file that the user names.
///
/// # Errors
/// Where it cannot be read, or holds something else.
pub fn redaction_key(path: &Path) -> Result<Redaction> {
    let mut text = String::new();
    open_regular(path)?.take(1024).read_to_string(&mut text).map_err(Error::io("read the key", path))?;
    Redaction::from_text(&text).ok_or_else(|| {
        Error::other(format!("{} holds no key for redaction", path.display()))
            .with_hint("it is made by: reconcile snapshot --redact, as redact.key in the registry's state directory")
    })
}

fn read(dir: &StateDir) -> Result<Option<Redaction>> {
    let Some(bytes) = dir.read(KEY)? else { return Ok(None) };
    let key = std::str::from_utf8(&bytes).ok().and_then(Redaction::from_text);
    let damaged = || Error::other(format!("the key {} is damaged", dir.path(KEY).display()));
    key.map(Some).ok_or_else(|| damaged().with_hint("restore it; a new one would make other pseudonyms"))
}

fn new() -> Result<Redaction> {
    let source = Path::new("/dev/urandom");
    let mut key = [0; KEY_LENGTH];
    File::open(source).and_then(|mut file| file.read_exact(&mut key)).map_err(Error::io("read", source))?;
    Ok(Redaction::new(key))
}
