//! A policy file that is being edited: locked against other edits, and replaced as the registry is. Whoever dies in the
//! middle leaves a note beside it, and the next edit puts it right.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::plan::ledger::Exchange;
use crate::registry::Stamp;
use crate::store::replace::fill;
use crate::store::swap::{Held, Means, Swap};
use crate::store::{Facts, look, open_regular};

const POLL: Duration = Duration::from_millis(10);

/// A policy file that nobody else edits by `reconcile` as long as this is there.
#[derive(Debug)]
pub struct PolicyFile {
    /// As the user would write it.
    path: PathBuf,
    /// The real file, links resolved.
    file: PathBuf,
    name: OsString,
    directory: PathBuf,
    locked: File,
    seen: Stamp,
}

impl PolicyFile {
    /// Locks the policy file at `path`, waiting at most `patience`, and puts right what an edit that died left behind.
    ///
    /// # Errors
    /// Where somebody else edits it for longer, or it cannot be opened.
    pub fn lock(path: &Path, patience: Duration) -> Result<Self> {
        let file = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(Error::other(format!("{} is no file", path.display())));
        };
        let (directory, name) = (directory.to_owned(), name.to_owned());
        let until = Instant::now() + patience;
        loop {
            let locked = open_regular(&file)?;
            match locked.try_lock() {
                Ok(()) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(Error::Locked { path: path.to_owned(), holder: None });
                }
                Err(TryLockError::WouldBlock) => {
                    sleep(POLL);
                    continue;
                }
            }
            // Whoever held the lock has replaced the file, and with it what the lock is on.
            let seen = Facts::of(&locked.metadata().map_err(Error::io("look at", path))?).stamp;
            if look(&file)?.is_some_and(|now| now.stamp == seen) {
                let locked = Self { path: path.to_owned(), file: file.clone(), name, directory, locked, seen };
                if locked.recover()? {
                    // What stands there now is another file.
                    return Self::lock(path, patience);
                }
                return Ok(locked);
            }
        }
    }

    /// Replaces what the file holds. On disk when it returns.
    ///
    /// # Errors
    /// Where the file is no longer what was locked, or cannot be replaced; it is as it was then.
    pub fn replace(&self, text: &str) -> Result<()> {
        let held = File::open(&self.directory).map_err(Error::io("open", &self.directory))?;
        let waiting = self.waiting_name();
        let swap = self.swap(&held, &waiting);
        let changed = || {
            Error::other(format!("{} was changed by somebody else meanwhile", self.path.display()))
                .with_hint("nothing of theirs was lost, and nothing was done: run again")
        };
        let facts = swap.unchanged(self.seen)?.ok_or_else(changed)?;
        let new = create_new(&swap.waiting_path)?;
        let written = fill(&new, std::iter::once(text.as_bytes()), facts, &swap.waiting_path);
        let replaced = written.and_then(|()| Held::open(&swap.waiting_path)).and_then(|new| {
            self.leave_note(&Exchange { seen: self.seen, new: new.stamp })?;
            swap.sync_names()?;
            swap.run(self.seen, new)
        });
        // Where an exchange failed in the middle, the note stays for the next edit.
        if replaced.is_ok() || swap.unchanged(self.seen).is_ok_and(|same| same.is_some()) {
            swap.clear()?;
            remove(&self.note())?;
        }
        replaced?.map(drop).ok_or_else(changed)
    }

    /// Puts right what an edit left that died. Whether the file is another one now.
    fn recover(&self) -> Result<bool> {
        let held = File::open(&self.directory).map_err(Error::io("open", &self.directory))?;
        let waiting = self.waiting_name();
        let swap = self.swap(&held, &waiting);
        let note = self.note();
        if look(&note)?.is_some() {
            let text = fs::read(&note).map_err(Error::io("read", &note))?;
            // A note that is not whole was still being written: nothing had happened.
            if let Ok(exchange) = serde_json::from_slice::<Exchange>(&text) {
                swap.recover(&exchange)?;
            }
        }
        swap.clear()?;
        remove(&note)?;
        Ok(swap.unchanged(self.seen)?.is_none())
    }

    fn swap<'a>(&'a self, directory: &'a File, waiting: &'a str) -> Swap<'a> {
        Swap {
            target: &self.file,
            waiting: (directory.as_fd(), waiting),
            waiting_path: self.directory.join(waiting),
            means: Means::Exchange,
        }
    }

    /// Names that begin with a dot are no policies.
    fn waiting_name(&self) -> String {
        format!(".{}.reconcile", self.name.to_string_lossy())
    }

    fn note(&self) -> PathBuf {
        self.directory.join(format!("{}-note", self.waiting_name()))
    }

    fn leave_note(&self, exchange: &Exchange) -> Result<()> {
        let note = self.note();
        let json = serde_json::to_vec(exchange).map_err(|error| Error::other(error.to_string()))?;
        let mut file = create_new(&note)?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(Error::io("write", &note))
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        // Closing it is not enough: a command that is being started has a copy of every descriptor, until it is.
        let _ = self.locked.unlock();
    }
}

fn create_new(path: &Path) -> Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("create", path))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
