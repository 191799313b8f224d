//! A policy file that is being edited: locked against other edits, and replaced as the registry is. A program that dies in
//! the middle leaves a note beside it, and the next edit puts it right.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::json;
use crate::os::directory::{Directory, Place};
use crate::os::exchange::{Exchange, ExchangeNote, Method, Pinned};
use crate::os::fill;
use crate::os::lock::Lock;
use crate::os::mount::check_replaceable;
use crate::os::rights::{Attributes, keep};
use crate::os::{FileMeta, Stamp};
use crate::sources::problem::FileProblem;

const PRIVATE: u32 = 0o600;

/// A policy file that no other `reconcile` edits as long as this is there.
#[derive(Debug)]
pub struct PolicyFile {
    /// As the user would write it.
    path: PathBuf,
    /// The directory of the real file, links resolved. What is read, replaced and removed are names in this very directory.
    directory: Directory,
    name: OsString,
    /// The lock on the file itself.
    lock: Lock,
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
        loop {
            let locked = Self::take(path, patience, give_up)?;
            // Where something was put back, what stands there now is another file.
            if !locked.recover()? {
                return Ok(locked);
            }
        }
    }

    fn take(path: &Path, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        let file = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
            // Only the topmost directory has no name.
            return Err(Error::io("edit", path)(io::Error::from(ErrorKind::IsADirectory)));
        };
        let (directory, name) = (Directory::open(directory)?, name.to_owned());
        let place = directory.place(&name);
        let lock = Lock::take(place, path, &|| place.open_regular(), patience, give_up)?;
        let FileMeta { stamp: seen, owner, .. } = FileMeta::of_open(lock.file(), path)?;
        Ok(Self { path: path.to_owned(), directory, name, lock, seen, owner })
    }

    /// That the policy file at `path` can be replaced, as far as mounts have a say in it.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn check_replaceable(path: &Path) -> Result<()> {
        let file = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
        let directory = Directory::open(directory)?;
        check_replaceable(directory.place(name), &directory)
            .map_err(|error| FileProblem::CannotEdit { why: error.sentence() }.into())
    }

    /// Puts right what an edit of the policy file at `path` left that died, and removes its files. Where an edit is under
    /// way, they are that edit's.
    ///
    /// # Errors
    /// Where they cannot be used or removed.
    pub fn tidy(path: &Path) -> Result<()> {
        let file = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
        let waiting = waiting_name(name);
        let left = [waiting.clone(), note_name(&waiting), next_note_name(&waiting)];
        if !left.iter().any(|name| directory.join(name).symlink_metadata().is_ok()) {
            return Ok(());
        }
        match Self::lock(path, Duration::ZERO, &|| false) {
            Ok(_) | Err(Error::Locked { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replaces what the file holds, which must be `before`. On disk when it returns; what went wrong after that is
    /// returned with it.
    ///
    /// # Errors
    /// Where the file is no longer what was locked, or cannot be replaced; it is as it was then.
    pub fn replace(&self, before: &str, text: &str) -> Result<Option<Error>> {
        let waiting = waiting_name(&self.name);
        let exchange = self.exchange(&waiting);
        let changed = || FileProblem::Changed { path: self.path.clone() };
        let meta = exchange.unchanged(self.seen)?.ok_or_else(changed)?;
        if read_regular(exchange.target)? != before.as_bytes() {
            return Err(changed().into());
        }
        self.directory.check_in_place()?;
        let new = exchange.waiting.create_new()?;
        let replaced = self.write_and_exchange(&exchange, &new, text, meta);
        crash_point!("policy: replaced");
        let is_old = exchange.unchanged(self.seen).is_ok_and(|same| same.is_some());
        let stamp = FileMeta::of_open(&new, &exchange.waiting.path()).map(|meta| meta.stamp);
        // Where an exchange failed in the middle, the note stays for the next edit.
        let cleared = match &stamp {
            Ok(new) if replaced.is_ok() || is_old => {
                exchange.clear([self.seen, *new]).and_then(|()| self.clear_notes())
            }
            _ => Ok(()),
        };
        match replaced {
            Ok(Some(_)) => Ok(cleared.err()),
            Ok(None) => Err(changed().into()),
            Err(error) if is_old => Err(error),
            // Where even the look at it fails, it may have been made.
            Err(error) if stamp.map_or(true, |new| exchange.unchanged(new).map_or(true, |same| same.is_some())) => {
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }

    fn write_and_exchange(&self, exchange: &Exchange, new: &File, text: &str, meta: FileMeta) -> Result<Option<Stamp>> {
        let path = exchange.waiting.path();
        // Who opens it under the policy's name waits until this edit is over: its note and its waiting file are the next's.
        new.lock().map_err(Error::io("lock", &path))?;
        keep(new, meta, &Attributes::of(self.lock.file(), &self.path)?, &self.path)?;
        fill(new, &path, |out| out.write_all(text.as_bytes()))?;
        let new = Pinned::of(new.try_clone().map_err(Error::io("access", &path))?, exchange.waiting)?;
        crash_point!("policy: new file written");
        self.leave_note(&ExchangeNote { seen: self.seen, new: new.stamp, back: None }, meta)?;
        exchange.sync_names()?;
        crash_point!("policy: note left");
        exchange.run(self.seen, new, &mut |note| self.replace_note(note, meta))
    }

    /// Puts right what an edit left that died. Whether the file is another one now.
    fn recover(&self) -> Result<bool> {
        let waiting = waiting_name(&self.name);
        let exchange = self.exchange(&waiting);
        let note = self.note_name();
        let note = self.directory.place(&note);
        if let Some(meta) = note.look()? {
            // In a directory like /tmp any user can leave a note, and have a policy of theirs put in place.
            if ![0, rustix::process::geteuid().as_raw(), self.owner].contains(&meta.owner) {
                return Err(FileProblem::ForeignNote { note: note.path(), owner: meta.owner }.into());
            }
            let text = read_regular(note)?;
            // A note that is not whole was still being written: nothing had happened.
            if let Ok(left) = serde_json::from_slice::<ExchangeNote>(&text) {
                exchange.recover(&left, &mut |note| self.replace_note(note, meta))?;
            }
        }
        exchange.waiting.remove()?;
        self.clear_notes()?;
        Ok(exchange.unchanged(self.seen)?.is_none())
    }

    /// Removes the notes that an edit needs while it goes on.
    fn clear_notes(&self) -> Result<()> {
        crash_point!("policy: displaced file removed");
        self.directory.place(&self.next_note_name()).remove()?;
        self.directory.place(&self.note_name()).remove()
    }

    fn exchange<'a>(&'a self, waiting: &'a OsStr) -> Exchange<'a> {
        let (target, waiting) = (self.directory.place(&self.name), self.directory.place(waiting));
        Exchange { target, waiting, method: Method::Exchange }
    }

    fn note_name(&self) -> OsString {
        note_name(&waiting_name(&self.name))
    }

    fn next_note_name(&self) -> OsString {
        next_note_name(&waiting_name(&self.name))
    }

    /// Replaces the note in one step: one that is not whole says that nothing had happened.
    fn replace_note(&self, exchange: &ExchangeNote, meta: FileMeta) -> Result<()> {
        let next = self.next_note_name();
        let next = self.directory.place(&next);
        next.remove()?;
        write_note(next, exchange, meta)?;
        next.rename(self.directory.place(&self.note_name()))
    }

    fn leave_note(&self, exchange: &ExchangeNote, meta: FileMeta) -> Result<()> {
        write_note(self.directory.place(&self.note_name()), exchange, meta)
    }
}

/// Of the file that takes a policy's place. Names that begin with a dot are no policies.
fn waiting_name(policy: &OsStr) -> OsString {
    [".".as_ref(), policy, ".reconcile".as_ref()].into_iter().collect()
}

fn note_name(waiting: &OsStr) -> OsString {
    [waiting, "-note".as_ref()].into_iter().collect()
}

fn next_note_name(waiting: &OsStr) -> OsString {
    [waiting, "-note.new".as_ref()].into_iter().collect()
}

fn write_note(place: Place, exchange: &ExchangeNote, meta: FileMeta) -> Result<()> {
    let json = json::to_bytes(exchange)?;
    let (file, path) = (place.create_new()?, place.path());
    keep(&file, FileMeta { mode: PRIVATE, ..meta }, &Attributes::default(), &path)?;
    fill(&file, &path, |out| out.write_all(&json))
}

/// Without waiting, also where a pipe was put there.
fn read_regular(place: Place) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    place.open_regular()?.read_to_end(&mut bytes).map_err(Error::io("read", &place.path()))?;
    Ok(bytes)
}
