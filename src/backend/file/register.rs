//! What a launch does before its session starts, in one hold of the data lock: the registry's entry, and the debt that the
//! start pays.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::apply::Files;
use crate::backend::file::commit::NEW;
use crate::backend::file::{LockedStore, Store};
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::FileMeta;
use crate::registry::json::edit::Splice;
use crate::registry::{Snapshot, Stamp};
use crate::state::dir::StateDir;

/// How often it is tried again because the registry was replaced meanwhile.
const TRIES: usize = 100;
/// For a registry that a launch creates: who the chats are is nobody else's business.
const PRIVATE: u32 = 0o600;

/// What was registered.
#[derive(Debug)]
pub struct Registered<T> {
    /// What the caller wanted to know.
    pub value: T,
    /// Whether the registry was changed.
    pub changed: bool,
    /// Whether a restart was owed, which the start pays.
    pub paid: bool,
}

/// What is to be registered.
#[derive(Debug)]
pub struct Registration<T> {
    /// The chat that is started, whose debt is thereby paid.
    pub chat: String,
    /// What the registry lacks.
    pub splices: Vec<Splice>,
    /// What the caller wants to know afterwards.
    pub value: T,
}

impl Store {
    /// The registry at `path`, which need not be there yet.
    ///
    /// # Errors
    /// Where its directory is not there.
    pub fn open_or_new(path: &Path, name: &str) -> Result<Self> {
        // Of a link to nothing it is an error: what it should lead to is somewhere else, and not mounted, perhaps.
        if path.symlink_metadata().is_ok() {
            return Self::open(path, name);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = std::fs::canonicalize(parent).map_err(Error::io("find the directory", parent))?;
        let file = path.file_name().ok_or_else(|| Error::other(format!("{} names no file", path.display())))?;
        Ok(Self { name: name.to_owned(), file: parent.join(file) })
    }

    /// Registers a session that is about to be started, and strikes its debt. `decide` is asked once or more, with the
    /// registry as it is, and what it says last is done. A missing registry is created.
    ///
    /// # Errors
    /// Those of `decide`, and where the registry or its state cannot be used. Nothing was changed then, except where it
    /// is the ledger that could not be saved afterwards.
    pub fn register<T>(
        self,
        patience: Duration,
        now: Timestamp,
        mut decide: impl FnMut(&Snapshot) -> Result<Registration<T>>,
    ) -> Result<Registered<T>> {
        let facts = if self.is_missing() { new_file() } else { self.facts()? };
        let dir = StateDir::create(&self.file, facts)?;
        let state = LockedStore::new(self, dir, patience, now, None);
        for _ in 0..TRIES {
            let (done, _) = state.with_ledger(|ledger| {
                let is_missing = state.store.is_missing();
                let seen = if is_missing { state.store.no_sessions()? } else { state.registry()? };
                let Registration { chat, splices, value } = decide(&seen)?;
                let registered = match splices.is_empty() {
                    true => state.store.facts()?.stamp == seen.stamp,
                    false if is_missing => state.create(&seen, &splices)?,
                    false => state.replace_under(ledger, &seen, &splices)?.is_some(),
                };
                // Only now: a launch that died before would have paid for nothing.
                let paid = registered && ledger.owed.remove(&chat).is_some();
                Ok(registered.then_some(Registered { value, changed: !splices.is_empty(), paid }))
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Err(Error::other(format!("the registry was replaced {TRIES} times while a session was to be registered"))
            .with_hint("nothing was changed; find out what writes it so often, and try again"))
    }

    /// Notes that a session which was registered did not start: another may still run on what it did before.
    ///
    /// # Errors
    /// Where the state cannot be used.
    pub fn owe(self, chat: &str, patience: Duration, now: Timestamp) -> Result<()> {
        let dir = StateDir::create(&self.file, self.facts()?)?;
        let state = LockedStore::new(self, dir, patience, now, None);
        state.with_ledger(|ledger| {
            ledger.owe(chat, None, now);
            Ok(())
        })?;
        Ok(())
    }

    fn is_missing(&self) -> bool {
        self.file.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    fn no_sessions(&self) -> Result<Snapshot> {
        Snapshot::new(self.name.clone(), self.file.clone(), Stamp::default(), b"{}\n".to_vec())
            .map_err(|mistake| Error::Invalid(vec![mistake]))
    }
}

/// Of a registry that this user creates.
fn new_file() -> FileMeta {
    let (owner, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    FileMeta { stamp: Stamp::default(), mode: PRIVATE, owner, group }
}

impl LockedStore {
    /// Creates the registry; `false` where somebody else did so meanwhile.
    fn create(&self, seen: &Snapshot, splices: &[Splice]) -> Result<bool> {
        self.write_new(seen, splices, new_file())?;
        crash_point!("registry: first file written");
        // Unlike a rename, a link never takes the place of a file.
        let created = match rustix::fs::linkat(self.dir.fd(), NEW, CWD, &self.store.file, AtFlags::empty()) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(Error::io("create", &self.store.file)(error)),
        };
        crash_point!("registry: created");
        self.dir.remove(NEW)?;
        self.swap().sync_names()?;
        crash_point!("registry: names saved");
        Ok(created)
    }
}
