//! The state directory `<registry>.reconcile/`: private to the registry's owner, and never entered through a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::foreign::{Octal, Sentence, sentence};
use crate::os::FileMeta;
use crate::os::directory::{Directory, Place, moved};
use crate::os::lock::Lock;
use crate::state::problem::StateProblem;

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// How often a file is created again after another program has removed it at once.
const TRIES: usize = 100;

/// An open state directory that was checked: it is private, and belongs to the registry's owner.
#[derive(Debug)]
pub(crate) struct StateDir {
    /// The directory that it is in: that of a registry's file, where there is one.
    parent: Arc<Directory>,
    name: OsString,
    directory: Directory,
    owner: u32,
    group: Option<u32>,
}

impl StateDir {
    /// Opens the state directory of this name in `parent`, of a registry of that owner; `None` where there is none yet.
    pub(crate) fn open(parent: &Arc<Directory>, name: &OsStr, owner: u32) -> Result<Option<Self>> {
        let place = parent.place(name);
        let directory = match parent.directory(name) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(not_ours(place, "it is not a directory")),
            Err(error) => return Err(Error::io("open", &place.path())(error)),
        };
        check(place, directory.meta()?, owner, DIR_MODE)?;
        Ok(Some(Self { parent: Arc::clone(parent), name: name.to_owned(), directory, owner, group: None }))
    }

    /// Opens the state directory of this name in `parent`, and creates it first where there is none.
    pub(crate) fn create(parent: &Arc<Directory>, name: &OsStr, meta: FileMeta) -> Result<Self> {
        let place = parent.place(name);
        let found = place.look()?;
        let user = rustix::process::geteuid();
        if found.is_some_and(|found| found.owner != meta.owner) && !user.is_root() {
            // A run as root may have died before it gave its new directory to the owner. A directory with files in it stays.
            let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
        }
        let created = place.look()?.is_none() && make(place)?;
        if created {
            make_private(place)?;
        }
        // A run as root makes the directory for the registry's owner, who must be able to use it later. An earlier run as root may
        // have died before it gave the directory away.
        if user.as_raw() != meta.owner
            && (created || user.is_root())
            && let Err(error) = give_new(place, meta)
        {
            if created {
                // A user of the registry must not find a directory of another user. A second error is not reported: the first one
                // is the cause.
                let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
            }
            return Err(error);
        }
        match Self::open(parent, name, meta.owner)? {
            Some(dir) => Ok(Self { group: Some(meta.group), ..dir }),
            None => Err(not_ours(place, "it was removed at once")),
        }
    }

    /// Checks that the paths of the registry's directory and of the state directory still lead to this directory. The next run would not
    /// find what is written into a directory that was moved.
    ///
    /// # Errors
    /// Where one of the paths leads elsewhere by now, or nowhere.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        self.parent.check_in_place()?;
        let place = self.parent.place(&self.name);
        let own = self.directory.meta()?.stamp;
        let is_there = place.look()?.is_some_and(|there| there.stamp.is_same_file(own));
        if is_there { Ok(()) } else { Err(moved(&place.path())) }
    }

    /// The path of the file of this name in the directory, for messages.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place(name).path()
    }

    /// The place of the file of this name in the directory.
    pub(crate) fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        self.directory.place(name)
    }

    /// The content of the file of this name in the directory; `None` where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(name, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &self.path(name)))?;
        Ok(Some(bytes))
    }

    /// Opens the file of this name in the directory; `None` where there is none. A file that is not a regular one of the registry's owner
    /// is an error.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>> {
        let place = self.place(name);
        let file = match place.open(flags) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(not_ours(place, "it is a link")),
            // To open a directory for writing gives this error.
            Err(Errno::ISDIR) => return Err(not_ours(place, "it is not a regular file")),
            Err(error) => return Err(Error::io("open", &place.path())(error)),
        };
        let metadata = file.metadata().map_err(Error::io("access", &place.path()))?;
        if !metadata.is_file() {
            return Err(not_ours(place, "it is not a regular file"));
        }
        check(place, FileMeta::of(&metadata), self.owner, FILE_MODE)?;
        Ok(Some(file))
    }

    /// Opens the file of this name in the directory, and creates it first where there is none.
    pub(crate) fn open_or_create(&self, name: &str, flags: OFlags) -> Result<File> {
        for _ in 0..TRIES {
            if let Some(file) = self.open_file(name, flags)? {
                return Ok(file);
            }
            self.create_empty(name)?;
        }
        Err(not_ours(self.place(name), "it was removed at once"))
    }

    /// Creates an empty file, unless another program does so meanwhile.
    fn create_empty(&self, name: &str) -> Result<()> {
        if rustix::process::geteuid().as_raw() != self.owner {
            return self.create_given(name);
        }
        match self.place(name).create() {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(Error::io("create", &self.path(name))(error)),
        }
    }

    /// Creates an empty file for the registry's owner, as root. The file gets its name only after it was given to the owner: a run as root
    /// may die in between, and a file that only root can use would be in the owner's way.
    fn create_given(&self, name: &str) -> Result<()> {
        let temporary = unfinished(name);
        let place = self.place(&temporary);
        place.remove()?;
        let file = match place.create() {
            Ok(file) => file,
            Err(Errno::EXIST) => return Ok(()),
            Err(error) => return Err(Error::io("create", &place.path())(error)),
        };
        crash_point!("state: file created");
        self.give(&file, place)?;
        if !place.holds(&file)? {
            return Ok(());
        }
        // Unlike a rename, a link never takes the place of a file.
        let linked = rustix::fs::linkat(&self.directory, &temporary, &self.directory, name, AtFlags::empty());
        crash_point!("state: file named");
        place.remove()?;
        match linked {
            // Another run has created the file, or removed the temporary one. The caller looks for the file again.
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("create", &self.path(name))(error)),
        }
    }

    /// Creates a file that must not exist yet.
    pub(crate) fn create_new(&self, name: &str) -> Result<File> {
        let place = self.place(name);
        let file = place.create_new()?;
        self.give(&file, place)?;
        Ok(file)
    }

    /// Gives the registry's owner a file that was created here, and no other: what was there before may be a hard link to
    /// any file.
    fn give(&self, file: &File, place: Place) -> Result<()> {
        if FileMeta::of_open(file, &place.path())?.owner == self.owner {
            return Ok(());
        }
        rustix::fs::fchown(file, Some(Uid::from_raw(self.owner)), self.group.map(Gid::from_raw))
            .map_err(Error::io("give the registry's owner", &place.path()))
    }

    /// Takes the lock on the file of this name. Waits for the lock at most `patience`, and no longer once `give_up` returns true.
    pub(crate) fn lock(&self, name: &str, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Lock> {
        self.discard_ungiven(name)?;
        let place = self.place(name);
        let open = || self.open_or_create(name, OFlags::RDWR);
        let lock = Lock::take(place, &place.path(), &open, patience, give_up)?;
        self.check_held(&lock)?;
        self.discard_unfinished(name)?;
        lock.sign();
        Ok(lock)
    }

    /// Checks that a lock in this directory still keeps other runs away, which find it by the paths of the registry and of the directory.
    ///
    /// # Errors
    /// Where one of the paths leads elsewhere by now.
    pub(crate) fn check_held(&self, lock: &Lock) -> Result<()> {
        self.check_in_place()?;
        lock.check(&self.directory)
    }

    /// Removes the file of a lock that a run as root created, and did not give to the owner before it died. The file cannot be given now:
    /// its name may be a hard link to any file of root's.
    fn discard_ungiven(&self, name: &str) -> Result<()> {
        let Some(meta) = self.place(name).look()? else { return Ok(()) };
        let is_ungiven = meta.owner == 0 && self.owner != 0 && meta.stamp.size == 0;
        if is_ungiven { self.remove(name) } else { Ok(()) }
    }

    /// Replaces the file of this name in the directory. The new content is on disk when this returns.
    pub(crate) fn save(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = unfinished(name);
        let path = self.path(&temporary);
        self.remove(&temporary)?;
        let mut file = self.create_new(&temporary)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // A second error is not reported: the first one is the cause, and nothing refers to the temporary file.
            let _ = self.remove(&temporary);
            return Err(Error::io("write", &path)(error));
        }
        crash_point!("ledger: written");
        self.rename(&temporary, name)?;
        crash_point!("ledger: renamed");
        self.sync()
    }

    /// Removes what a run left that died while it saved this file.
    pub(crate) fn discard_unfinished(&self, name: &str) -> Result<()> {
        self.remove(&unfinished(name))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.place(from).rename(self.place(to))
    }

    /// Removes the file of this name from the directory, where there is one.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.place(name).remove()
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.directory.sync()
    }

    /// The metadata of the file of this name in the directory; `None` where there is none. A link is not followed.
    pub(crate) fn meta(&self, name: &str) -> Result<Option<FileMeta>> {
        self.place(name).look()
    }
}

fn unfinished(name: &str) -> String {
    format!("{name}.new")
}

/// The name of a registry's state directory, which is beside it.
pub(crate) fn name_beside(registry: &OsStr) -> OsString {
    let mut name = registry.to_owned();
    name.push(".reconcile");
    name
}

/// Makes the directory; `false` where another program did so meanwhile.
fn make(place: Place) -> Result<bool> {
    // This is DIR_MODE, whose raw type is not the same on every system.
    let created = match rustix::fs::mkdirat(place.directory, place.name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(Error::io("create the state directory", &place.path())(error)),
    };
    place.directory.sync()?;
    Ok(created)
}

/// Gives a directory that this user has made its mode, of which the umask may have taken a part.
fn make_private(place: Place) -> Result<()> {
    let failed = |error| Error::io("set the mode of", &place.path())(error);
    let opened = match place.directory.directory(place.name) {
        // A directory that this user may not read is opened after its mode was set.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(place.directory, place.name, Mode::RWXU, AtFlags::empty()).map_err(failed)?;
            place.directory.directory(place.name)
        }
        opened => opened,
    };
    // What is wrong with anything else, the look at it says.
    let Ok(directory) = opened else { return Ok(()) };
    let found = directory.meta()?;
    if found.mode & DIR_MODE == DIR_MODE || found.owner != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    rustix::fs::fchmod(&directory, Mode::RWXU).map_err(failed)?;
    directory.sync()
}

/// Gives the registry's owner a directory that this user has just made, and nothing else: the owner may have put any file
/// in its place since, so what is looked at and given is what was opened. Whether it can be used, `StateDir::open` says.
fn give_new(place: Place, meta: FileMeta) -> Result<()> {
    crash_point!("state: directory created");
    let Ok(directory) = place.directory.directory(place.name) else { return Ok(()) };
    let is_ours = check(place, directory.meta()?, rustix::process::geteuid().as_raw(), DIR_MODE).is_ok();
    if !is_ours || !is_empty(&directory).map_err(Error::io("read", &place.path()))? {
        return Ok(());
    }
    let (owner, group) = (Uid::from_raw(meta.owner), Gid::from_raw(meta.group));
    rustix::fs::fchown(&directory, Some(owner), Some(group))
        .map_err(Error::io("give the registry's owner the directory", &place.path()))?;
    // Before anything is in it: after a power cut, what is not empty cannot be given away any more.
    directory.sync()
}

fn is_empty(directory: &Directory) -> std::result::Result<bool, Errno> {
    for entry in Dir::read_from(directory)? {
        if ![&b"."[..], b".."].contains(&entry?.file_name().to_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check(place: Place, meta: FileMeta, owner: u32, mode: u32) -> Result<()> {
    if meta.owner != owner {
        return Err(not_ours(place, sentence!("user {} owns it, but user {} owns the registry", meta.owner, owner)));
    }
    // A directory inherits the set-group-id bit of the one that it stands in.
    if meta.mode & !0o2000 != mode {
        return Err(not_ours(place, sentence!("its mode is {}, not {}", Octal(meta.mode), Octal(mode))));
    }
    Ok(())
}

fn not_ours(place: Place, why: impl Into<Sentence>) -> Error {
    StateProblem::NotOurs { path: place.path(), why: why.into() }.into()
}
