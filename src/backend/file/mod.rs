//! The registry as a file, and the state directory beside it.

#![allow(clippy::disallowed_methods, reason = "this room is where registries are opened")]

pub(crate) mod commit;
mod mapped;
mod register;

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{Files, Locked, changes_while_read};
use crate::backend::file::mapped::{Contents, threads};
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::lock::Lock;
use crate::os::{FileMeta, open_regular};
use crate::plan::Plan;
use crate::plan::json::JsonRun;
use crate::plan::ledger::Ledger;
use crate::redact::Redaction;
use crate::registry::json::edit::Splice;
use crate::registry::redacted::marker;
use crate::registry::{Snapshot, Stamp};
use crate::state::dir::StateDir;
use crate::state::history::Author;
use crate::state::{dir, history, key};

pub use crate::os::exchange::Means;
pub use crate::state::key::redaction_key;
pub use register::{Registered, Registration};

const LEDGER: &str = "owed.json";
const RUN_LOCK: &str = "run.lock";
const DATA_LOCK: &str = "data.lock";
/// Nobody holds the data lock for long, so it is waited for even by who would not wait for another run.
/// The first entry of a registry lies within so many bytes.
const FIRST_ENTRY: u64 = 64 << 10;
const BRIEFLY: Duration = Duration::from_secs(10);

/// A registry and its state directory, for reading.
#[derive(Debug)]
pub struct Store {
    /// The registry's name, as the user would write it.
    name: String,
    /// The real file, links resolved.
    file: PathBuf,
}

/// The same with its state, for the one run that holds the lock, or for a launch, which does without.
#[derive(Debug)]
pub struct LockedStore {
    store: Store,
    dir: StateDir,
    means: Means,
    patience: Duration,
    now: Timestamp,
    by: Author,
    _run: Option<Lock>,
}

impl Store {
    /// The registry at `path`, which must be there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        let file = fs::canonicalize(path).map_err(|source| {
            if source.kind() == ErrorKind::NotFound {
                Error::other(format!("there is no registry {}", path.display()))
                    .with_hint("name it with --registry PATH or registry.path in the policy; a missing one is never \"no sessions\"")
            } else {
                Error::io("find the registry", path)(source)
            }
        })?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// Takes the lock of a run, and puts right what a run that died may have left behind.
    ///
    /// # Errors
    /// Where another run holds the lock for longer than `patience`, or the state cannot be used.
    pub fn lock(self, patience: Duration, now: Timestamp, give_up: &dyn Fn() -> bool) -> Result<LockedStore> {
        let facts = self.facts()?;
        let dir = StateDir::create(&self.file, facts)?;
        let run = Some(dir.lock(RUN_LOCK, patience, give_up)?);
        crash_point!("locked");
        let locked = LockedStore::new(self, dir, patience, now, run);
        locked.with_ledger(|ledger| {
            // Edits that a run that died was about to make, and did not.
            ledger.unconfirmed.pending.clear();
            Ok(())
        })?;
        Ok(locked)
    }

    /// The real file, links resolved.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The state directory, whether it is there or not.
    pub fn state(&self) -> PathBuf {
        dir::path_beside(&self.file)
    }

    /// The user id of the registry's owner.
    ///
    /// # Errors
    /// Where the registry cannot be looked at.
    pub fn owner(&self) -> Result<u32> {
        Ok(self.facts()?.owner)
    }

    /// What past runs did, newest first.
    ///
    /// # Errors
    /// Where the state directory cannot be used; the iterator, where a part of the history cannot.
    pub fn history(&self) -> Result<impl Iterator<Item = Result<JsonRun<'static>>>> {
        let dir = StateDir::open(&self.file, self.facts()?.owner)?;
        Ok(dir.into_iter().flat_map(history::newest_first))
    }

    fn facts(&self) -> Result<FileMeta> {
        let metadata = fs::symlink_metadata(&self.file).map_err(Error::io("look at", &self.file))?;
        Ok(FileMeta::of(&metadata))
    }
}

impl Store {
    /// The key that the registry's chats are redacted with.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn redaction_key(&self) -> Result<Redaction> {
        let dir = StateDir::open(&self.file, self.facts()?.owner)?;
        let key = dir.map(|dir| key::read(&dir)).transpose()?.flatten();
        key.ok_or_else(|| {
            let path = self.state().join(key::KEY);
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
            if let Some(redaction) = key::read(&state.dir)? {
                return Ok(redaction);
            }
            let redaction = key::new()?;
            state.dir.save(key::KEY, redaction.to_text().as_bytes())?;
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

impl Files for Store {
    fn registry(&self) -> Result<Snapshot> {
        // Somebody may write into the file while it is read.
        for _ in 0..10 {
            let mut file = open_regular(&self.file)?;
            let before = FileMeta::of(&file.metadata().map_err(Error::io("look at", &self.file))?);
            let contents = Contents::of(&mut file, before.stamp).map_err(Error::io("read", &self.file))?;
            let after = FileMeta::of(&file.metadata().map_err(Error::io("look at", &self.file))?);
            if before.stamp == after.stamp && contents.len() as u64 == after.stamp.size {
                let (name, path, stamp) = (self.name.clone(), self.file.clone(), after.stamp);
                let snapshot = match contents {
                    Contents::Text(text) => Ok(Snapshot::of_text(name, path, stamp, text)),
                    Contents::Bytes(bytes) => Snapshot::new(name, path, stamp, bytes),
                };
                return snapshot
                    .map(|snapshot| snapshot.read_by(threads(stamp.size)).holding(Arc::new(file)))
                    .map_err(|mistake| Error::Invalid(vec![mistake]));
            }
        }
        Err(changes_while_read(&self.file))
    }

    fn stamp(&self) -> Result<Stamp> {
        Ok(self.facts()?.stamp)
    }

    fn ledger(&self) -> Result<Ledger> {
        match StateDir::open(&self.file, self.facts()?.owner)? {
            Some(dir) => read_ledger(&dir),
            None => Ok(Ledger::default()),
        }
    }
}

impl Files for LockedStore {
    fn registry(&self) -> Result<Snapshot> {
        self.store.registry()
    }

    fn stamp(&self) -> Result<Stamp> {
        self.store.stamp()
    }

    fn ledger(&self) -> Result<Ledger> {
        read_ledger(&self.dir)
    }
}

impl Locked for LockedStore {
    fn amend(&self, change: &mut dyn FnMut(&mut Ledger)) -> Result<Ledger> {
        self.with_ledger(|ledger| {
            change(ledger);
            Ok(())
        })
        .map(|((), ledger)| ledger)
    }

    fn replace(&self, seen: &Snapshot, splices: &[Splice], owing: &[&str]) -> Result<Option<Stamp>> {
        let replaced = self.with_ledger(|ledger| {
            let stand = owing.iter().all(|chat| ledger.owed.contains_key(*chat));
            if stand { self.replace_under(ledger, seen, splices) } else { Ok(None) }
        });
        replaced.map(|(replaced, _)| replaced)
    }

    fn record(&self, plan: &Plan) -> Result<()> {
        history::append(&self.dir, plan, self.now, &self.by)
    }
}

impl LockedStore {
    fn new(store: Store, dir: StateDir, patience: Duration, now: Timestamp, run: Option<Lock>) -> Self {
        Self { store, dir, means: Means::Exchange, patience, now, by: Author::default(), _run: run }
    }

    /// The same, with who it is for, as the history will tell.
    #[must_use]
    pub fn on_behalf_of(self, by: Author) -> Self {
        Self { by, ..self }
    }

    /// The same, with another way to replace the registry: for file systems that cannot exchange two files.
    #[must_use]
    pub fn with_means(self, means: Means) -> Self {
        Self { means, ..self }
    }

    /// Runs `change` on the ledger as the file holds it now, and saves it if it changed. The data lock is held
    /// meanwhile, and what its last holder may have died in the middle of is put right first.
    fn with_ledger<T>(&self, change: impl FnOnce(&mut Ledger) -> Result<T>) -> Result<(T, Ledger)> {
        let _data = self.dir.lock(DATA_LOCK, self.patience.max(BRIEFLY), &|| false)?;
        let left = read_ledger(&self.dir)?;
        let mut before = left.clone();
        self.recover(&mut before)?;
        if before != left {
            // A note of files that are gone would speak of the next ones.
            self.save_ledger(&before)?;
        }
        let mut ledger = before.clone();
        let value = change(&mut ledger)?;
        if ledger != before {
            self.save_ledger(&ledger)?;
        }
        Ok((value, ledger))
    }

    fn save_ledger(&self, ledger: &Ledger) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(ledger).map_err(|error| Error::other(error.to_string()))?;
        json.push(b'\n');
        self.dir.save(LEDGER, &json)
    }
}

fn read_ledger(dir: &StateDir) -> Result<Ledger> {
    history::check(dir)?;
    let Some(bytes) = dir.read(LEDGER)? else { return Ok(Ledger::default()) };
    serde_json::from_slice(&bytes).map_err(|error| {
        let damaged = format!("the ledger {} is damaged", dir.path(LEDGER).display());
        Error::other(format!("{damaged}: {error}"))
            .with_hint(
                "it remembers which restarts are owed: restore it, or restart every session by hand and remove it",
            )
            .or_nameless(damaged)
    })
}
