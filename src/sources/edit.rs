//! Edits of a policy file. The file is locked against other edits, and replaced by an exchange, like the registry. A
//! note beside it lets the next edit finish or undo one in which a program died.

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

/// The mode of the note.
const PRIVATE: u32 = 0o600;

/// A policy file that is locked: no other `reconcile` edits it.
#[derive(Debug)]
pub struct PolicyFile {
    /// The path that the user has given.
    path: PathBuf,
    /// The directory of the real file. Files are read, replaced and removed by their names in this open directory.
    directory: Directory,
    /// The name of the real file.
    name: OsString,
    /// The lock on the file itself.
    lock: Lock,
    /// The state of the file when it was locked.
    seen: Stamp,
    /// The user id of the file's owner.
    owner: u32,
}

impl PolicyFile {
    /// Locks the policy file at `path`, and finishes or undoes an edit in which a program died. Waits for at most
    /// `patience`, and no longer when `give_up` returns true.
    ///
    /// # Errors
    /// Where another process edits it for longer, `give_up` ended the wait, or it cannot be opened.
    pub fn lock(path: &Path, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        loop {
            let locked = Self::take(path, patience, give_up)?;
            // If another file was put in place, that file must be locked instead.
            if !locked.recover()? {
                return Ok(locked);
            }
        }
    }

    fn take(path: &Path, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Self> {
        let file = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
            // Only the root directory has no name.
            return Err(Error::io("edit", path)(io::Error::from(ErrorKind::IsADirectory)));
        };
        let (directory, name) = (Directory::open(directory)?, name.to_owned());
        let place = directory.place(&name);
        let lock = Lock::take(place, path, &|| place.open_regular(), patience, give_up)?;
        let FileMeta { stamp: seen, owner, .. } = FileMeta::of_open(lock.file(), path)?;
        Ok(Self { path: path.to_owned(), directory, name, lock, seen, owner })
    }

    /// Checks that mounts do not prevent the policy file at `path` from being replaced.
    ///
    /// # Errors
    /// Where they do.
    pub fn check_replaceable(path: &Path) -> Result<()> {
        let file = fs::canonicalize(path).map_err(Error::io("find the policy", path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
        let directory = Directory::open(directory)?;
        check_replaceable(directory.place(name), &directory)
            .map_err(|error| FileProblem::CannotEdit { why: error.sentence() }.into())
    }

    /// Finishes or undoes an edit of the policy file at `path` in which a program died, and removes its files. Does
    /// nothing while an edit is under way.
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

    /// Replaces the content of the file, which must be `before`, by `text`. It is on disk when this returns. An error after the
    /// replacement is returned as a value.
    ///
    /// # Errors
    /// Where the file has changed since it was locked, or cannot be replaced. It is unchanged then.
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
        // If the exchange failed in the middle, the note stays for the next edit.
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
            // If the state of the file cannot be found out, it may have been replaced.
            Err(error) if stamp.map_or(true, |new| exchange.unchanged(new).map_or(true, |same| same.is_some())) => {
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }

    fn write_and_exchange(&self, exchange: &Exchange, new: &File, text: &str, meta: FileMeta) -> Result<Option<Stamp>> {
        let path = exchange.waiting.path();
        // The new file is locked, too, so that an edit that opens it waits until this one has removed its files.
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

    /// Finishes or undoes an edit in which a program died. Returns whether the file is another one now.
    fn recover(&self) -> Result<bool> {
        let waiting = waiting_name(&self.name);
        let exchange = self.exchange(&waiting);
        let note = self.note_name();
        let note = self.directory.place(&note);
        if let Some(meta) = note.look()? {
            // In a directory such as /tmp, any user could leave a note that puts another file in place of the policy.
            if ![0, rustix::process::geteuid().as_raw(), self.owner].contains(&meta.owner) {
                return Err(FileProblem::ForeignNote { note: note.path(), owner: meta.owner }.into());
            }
            let text = read_regular(note)?;
            // An incomplete note was being written when the program died, so the exchange was not begun.
            if let Ok(left) = serde_json::from_slice::<ExchangeNote>(&text) {
                exchange.recover(&left, &mut |note| self.replace_note(note, meta))?;
            }
        }
        exchange.waiting.remove()?;
        self.clear_notes()?;
        Ok(exchange.unchanged(self.seen)?.is_none())
    }

    /// Removes the notes of an edit.
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

    /// Replaces the note in one step, because an incomplete note would mean that the exchange was not begun.
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

/// The name of the new file beside a policy. A file whose name begins with a dot is not read as a policy.
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

/// Reads the regular file at a place. Does not wait if a pipe is there.
fn read_regular(place: Place) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    place.open_regular()?.read_to_end(&mut bytes).map_err(Error::io("read", &place.path()))?;
    Ok(bytes)
}
