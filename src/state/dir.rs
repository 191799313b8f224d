//! The state directory `<registry>.reconcile/`: private to the registry's owner, and never entered through a link.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::os::lock::Lock;
use crate::os::{FileMeta, look};

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// An open state directory that was found to be ours.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    fd: OwnedFd,
    owner: u32,
    group: Option<u32>,
}

impl StateDir {
    /// Opens the state directory of a registry; `None` where there is none yet.
    pub(crate) fn open(registry: &Path, owner: u32) -> Result<Option<Self>> {
        let path = path_beside(registry);
        let file = match open_directory(&path) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(not_ours(&path, "it is not a directory")),
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        let meta = FileMeta::of(&file.metadata().map_err(Error::io("look at", &path))?);
        check(&path, meta, owner, DIR_MODE)?;
        Ok(Some(Self { path, fd: file.into(), owner, group: None }))
    }

    /// Opens it, and creates it first where there is none.
    pub(crate) fn create(registry: &Path, meta: FileMeta) -> Result<Self> {
        let path = path_beside(registry);
        let created = look(&path)?.is_none() && make(&path)?;
        let user = rustix::process::geteuid();
        // Root works for the registry's owner, who must be able to use the directory later. It may have died before.
        if user.as_raw() != meta.owner {
            crash_point!("state: directory created");
        }
        if user.as_raw() != meta.owner
            && (created || user.is_root())
            && let Err(error) = give_new(&path, meta)
        {
            if created {
                // A user of the registry must not find a directory of another user. The error that matters is the first.
                let _ = fs::remove_dir(&path);
            }
            return Err(error);
        }
        match Self::open(registry, meta.owner)? {
            Some(dir) => Ok(Self { group: Some(meta.group), ..dir }),
            None => Err(not_ours(&path, "it was removed at once")),
        }
    }

    /// The path of one of its files, for messages.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// What one of its files holds; `None` where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(name, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &self.path(name)))?;
        Ok(Some(bytes))
    }

    /// Opens one of its files, which must be ours; `None` where there is none, unless `flags` create it.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>> {
        let path = self.path(name);
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // This is FILE_MODE, whose raw type is not the same on every system.
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) if !flags.contains(OFlags::CREATE) => return Ok(None),
            Err(Errno::LOOP) => return Err(not_ours(&path, "it is a link")),
            // Where it is opened for writing.
            Err(Errno::ISDIR) => return Err(not_ours(&path, "it is not a regular file")),
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        let metadata = file.metadata().map_err(Error::io("look at", &path))?;
        if !metadata.is_file() {
            return Err(not_ours(&path, "it is not a regular file"));
        }
        let mut meta = FileMeta::of(&metadata);
        if flags.contains(OFlags::CREATE) && meta.owner != self.owner && meta.stamp.size == 0 {
            crash_point!("state: file created");
            self.give(&file, name)?;
            meta.owner = self.owner;
        }
        check(&path, meta, self.owner, FILE_MODE)?;
        Ok(Some(file))
    }

    /// Creates a file that must not exist yet.
    pub(crate) fn create_new(&self, name: &str) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_file(name, flags)?.ok_or_else(|| not_ours(&self.path(name), "it was removed at once"))
    }

    /// Takes the lock on one of its files, waiting for it at most `patience` and until `give_up` says so.
    pub(crate) fn lock(&self, name: &str, patience: Duration, give_up: &dyn Fn() -> bool) -> Result<Lock> {
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE)?;
        let file = file.ok_or_else(|| Error::other(format!("{} was removed at once", self.path(name).display())))?;
        Lock::take(file, self.path(name), patience, give_up)
    }

    fn give(&self, file: &File, name: &str) -> Result<()> {
        rustix::fs::fchown(file, Some(Uid::from_raw(self.owner)), self.group.map(Gid::from_raw))
            .map_err(Error::io("give the registry's owner", &self.path(name)))
    }

    /// Replaces one of its files as a whole. On disk when it returns.
    pub(crate) fn save(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = unfinished(name);
        let path = self.path(&temporary);
        self.remove(&temporary)?;
        let mut file = self.create_new(&temporary)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Nothing refers to it; the error that matters is the first.
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
        rustix::fs::renameat(&self.fd, from, &self.fd, to).map_err(Error::io("replace", &self.path(to)))
    }

    /// Removes one of its files, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("remove", &self.path(name))(error)),
        }
    }

    /// Makes the names in it durable.
    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(Error::io("save", &self.path))
    }

    /// What one of its files is; `None` where there is none. A link is looked at itself.
    pub(crate) fn meta(&self, name: &str) -> Result<Option<FileMeta>> {
        look(&self.path(name))
    }
}

fn unfinished(name: &str) -> String {
    format!("{name}.new")
}

pub(crate) fn path_beside(registry: &Path) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(".reconcile");
    PathBuf::from(name)
}

fn open_directory(path: &Path) -> std::result::Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

/// Makes the directory; `false` where another program did so meanwhile.
fn make(path: &Path) -> Result<bool> {
    let created = match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create the state directory", path)(error));
        }
        created => created.is_ok(),
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::io("save", parent))?;
    Ok(created)
}

/// Gives the registry's owner a directory that this user has just made, and nothing else: the owner may have put any file
/// in its place since, so what is looked at and given is what was opened. Whether it can be used, `StateDir::open` says.
fn give_new(path: &Path, meta: FileMeta) -> Result<()> {
    let Ok(directory) = open_directory(path) else { return Ok(()) };
    let found = FileMeta::of(&directory.metadata().map_err(Error::io("look at", path))?);
    let is_ours = check(path, found, rustix::process::geteuid().as_raw(), DIR_MODE).is_ok();
    if !is_ours || !is_empty(&directory).map_err(Error::io("read", path))? {
        return Ok(());
    }
    let (owner, group) = (Uid::from_raw(meta.owner), Gid::from_raw(meta.group));
    rustix::fs::fchown(&directory, Some(owner), Some(group))
        .map_err(Error::io("give the registry's owner the directory", path))
}

fn is_empty(directory: &File) -> std::result::Result<bool, Errno> {
    for entry in Dir::read_from(directory)? {
        if ![&b"."[..], b".."].contains(&entry?.file_name().to_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check(path: &Path, meta: FileMeta, owner: u32, mode: u32) -> Result<()> {
    if meta.owner != owner {
        return Err(not_ours(path, &format!("user {} owns it, and user {owner} the registry", meta.owner)));
    }
    // A directory inherits the set-group-id bit of the one that it stands in.
    if meta.mode & !0o2000 != mode {
        return Err(not_ours(path, &format!("its mode is {:04o}, not {mode:04o}", meta.mode)));
    }
    Ok(())
}

fn not_ours(path: &Path, why: &str) -> Error {
    Error::other(format!("cannot use {}: {why}", path.display()))
        .with_hint("only the registry's owner may write there; find out who made it, then fix or remove it")
}
