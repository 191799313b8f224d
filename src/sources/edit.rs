//! A policy file that is being edited: locked against other edits, and replaced as the registry is. Whoever dies in the
//! middle leaves a note beside it, and the next edit puts it right.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::exchange::{Exchange, ExchangeNote, Method, Pinned};
use crate::os::fill;
use crate::os::{FileMeta, Stamp, look, open_regular};

const POLL: Duration = Duration::from_millis(10);
const PRIVATE: u32 = 0o600;

/// A policy file that no other `reconcile` edits as long as this is there.
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
    owner: u32,
}

impl PolicyFile {
    /// Locks the policy file at `path`, waiting at most `patience` and until `give_up` says so, and puts right what an
    /// edit that died left behind.
    ///
    /// # Errors
    /// Where another process edits it for longer, `give_up` ended the wait, or it cannot be opened.
    pub fn lock(path: &Path, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        let file = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(Error::other(format!("{} is no file", path.display())));
        };
        let (directory, name) = (directory.to_owned(), name.to_owned());
        let since = Instant::now();
        loop {
            let locked = open_regular(&file)?;
            match locked.try_lock() {
                Ok(()) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
                Err(TryLockError::WouldBlock) if give_up() => {
                    return Err(Error::Interrupted { path: path.to_owned(), holder: None });
                }
                Err(TryLockError::WouldBlock) if since.elapsed() >= patience => {
                    return Err(Error::Locked { path: path.to_owned(), holder: None });
                }
                Err(TryLockError::WouldBlock) => {
                    sleep(POLL.min(patience));
                    continue;
                }
            }
            // Whoever held the lock has replaced the file, and with it what the lock is on.
            let meta = FileMeta::of(&locked.metadata().map_err(Error::io("look at", path))?);
            if look(&file)?.is_none_or(|now| now.stamp != meta.stamp) {
                continue;
            }
            let (path, file, directory, name) = (path.to_owned(), file.clone(), directory.clone(), name.clone());
            let locked = Self { path, file, name, directory, locked, seen: meta.stamp, owner: meta.owner };
            // Where something was put back, what stands there now is another file.
            if !locked.recover()? {
                return Ok(locked);
            }
        }
    }

    /// Replaces what the file holds, which must be `before`. On disk when it returns; what went wrong after that is
    /// returned with it.
    ///
    /// # Errors
    /// Where the file is no longer what was locked, or cannot be replaced; it is as it was then.
    pub fn replace(&self, before: &str, text: &str) -> Result<Option<Error>> {
        let held = File::open(&self.directory).map_err(Error::io("open", &self.directory))?;
        let waiting = self.waiting_name();
        let exchange = self.exchange(&held, &waiting);
        let changed = || {
            Error::other(format!("{} was changed by another program meanwhile", self.path.display()))
                .with_hint("nothing of theirs was lost, and nothing was done: run again")
        };
        let same_text = || read_regular(&self.file).is_ok_and(|now| now == before.as_bytes());
        let meta = exchange.unchanged(self.seen)?.filter(|_| same_text()).ok_or_else(changed)?;
        let new = create_new(&exchange.waiting_path)?;
        let replaced = self.write_and_exchange(&exchange, &new, text, meta);
        crash_point!("policy: replaced");
        let is_old = exchange.unchanged(self.seen).is_ok_and(|same| same.is_some());
        // Where an exchange failed in the middle, the note stays for the next edit.
        let cleared = if replaced.is_ok() || is_old { self.clear(&exchange) } else { Ok(()) };
        let stamp = new.metadata().map(|metadata| FileMeta::of(&metadata).stamp);
        match replaced {
            Ok(Some(_)) => Ok(cleared.err()),
            Ok(None) => Err(changed()),
            Err(error) if stamp.is_ok_and(|new| exchange.unchanged(new).is_ok_and(|same| same.is_some())) => {
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }

    fn write_and_exchange(&self, exchange: &Exchange, new: &File, text: &str, meta: FileMeta) -> Result<Option<Stamp>> {
        // Who opens it under the policy's name waits until this edit is over: its note and its waiting file are the next's.
        new.lock().map_err(Error::io("lock", &exchange.waiting_path))?;
        fill(new, std::iter::once(text.as_bytes()), meta, &exchange.waiting_path)?;
        let new = Pinned::open(&exchange.waiting_path)?;
        crash_point!("policy: new file written");
        self.leave_note(&ExchangeNote { seen: self.seen, new: new.stamp, back: None }, meta)?;
        exchange.sync_names()?;
        crash_point!("policy: note left");
        exchange.run(self.seen, new, &mut |note| self.replace_note(note, meta))
    }

    /// Puts right what an edit left that died. Whether the file is another one now.
    fn recover(&self) -> Result<bool> {
        let held = File::open(&self.directory).map_err(Error::io("open", &self.directory))?;
        let waiting = self.waiting_name();
        let exchange = self.exchange(&held, &waiting);
        let note = self.note();
        if let Some(meta) = look(&note)? {
            // In a directory like /tmp anybody can leave a note, and have a policy of theirs put in place.
            if ![0, rustix::process::geteuid().as_raw(), self.owner].contains(&meta.owner) {
                return Err(Error::other(format!("cannot use {}: user {} owns it", note.display(), meta.owner))
                    .with_hint("an edit that died leaves such a file; find out who made this one, and remove it"));
            }
            let text = read_regular(&note)?;
            // A note that is not whole was still being written: nothing had happened.
            if let Ok(left) = serde_json::from_slice::<ExchangeNote>(&text) {
                exchange.recover(&left, &mut |note| self.replace_note(note, meta))?;
            }
        }
        self.clear(&exchange)?;
        Ok(exchange.unchanged(self.seen)?.is_none())
    }

    /// Removes what an edit needs while it goes on.
    fn clear(&self, exchange: &Exchange) -> Result<()> {
        exchange.clear()?;
        crash_point!("policy: displaced file removed");
        remove(&self.next_note())?;
        remove(&self.note())
    }

    fn exchange<'a>(&'a self, directory: &'a File, waiting: &'a str) -> Exchange<'a> {
        Exchange {
            target: &self.file,
            waiting: (directory.as_fd(), waiting),
            waiting_path: self.directory.join(waiting),
            method: Method::Exchange,
        }
    }

    /// Names that begin with a dot are no policies.
    fn waiting_name(&self) -> String {
        format!(".{}.reconcile", self.name.to_string_lossy())
    }

    fn note(&self) -> PathBuf {
        self.directory.join(format!("{}-note", self.waiting_name()))
    }

    fn next_note(&self) -> PathBuf {
        self.directory.join(format!("{}-note.new", self.waiting_name()))
    }

    /// Replaces the note in one step: one that is not whole says that nothing had happened.
    fn replace_note(&self, exchange: &ExchangeNote, meta: FileMeta) -> Result<()> {
        let next = self.next_note();
        remove(&next)?;
        write_note(&next, exchange, meta)?;
        fs::rename(&next, self.note()).map_err(Error::io("replace", &self.note()))
    }

    fn leave_note(&self, exchange: &ExchangeNote, meta: FileMeta) -> Result<()> {
        write_note(&self.note(), exchange, meta)
    }
}

fn write_note(path: &Path, exchange: &ExchangeNote, meta: FileMeta) -> Result<()> {
    let json = serde_json::to_vec(exchange).map_err(|error| Error::other(error.to_string()))?;
    fill(&create_new(path)?, std::iter::once(json.as_slice()), FileMeta { mode: PRIVATE, ..meta }, path)
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        // Closing it is not enough: a command that is being started has a copy of every descriptor, until it is.
        let _ = self.locked.unlock();
    }
}

fn create_new(path: &Path) -> Result<File> {
    File::options().write(true).create_new(true).mode(PRIVATE).open(path).map_err(Error::io("create", path))
}

/// Without waiting, also where a pipe was put there.
fn read_regular(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
