//! Directories that are held open. A name is looked up in the very directory that was opened, wherever its path leads by
//! then: what one name says of a file holds for the next call, too.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::os::FileMeta;
use crate::os::problem::OsProblem;

/// How a file is opened that must not be there yet.
const NEW_FILE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL);

/// A directory that is held open.
#[derive(Debug)]
pub struct Directory {
    /// Where it was opened, without links.
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// Opens the directory at `path`, in which there must be no links. It need not be readable.
    ///
    /// # Errors
    /// Where there is no such directory.
    pub fn open(path: &Path) -> Result<Self> {
        #[cfg(target_os = "linux")]
        let access = OFlags::PATH;
        #[cfg(not(target_os = "linux"))]
        let access = OFlags::RDONLY;
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::io("open", path))?;
        Ok(Self { path: path.to_owned(), fd })
    }

    /// Opens a directory in it, which must be readable and no link.
    pub(crate) fn directory(&self, name: &OsStr) -> std::result::Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Self { path: self.path.join(name), fd })
    }

    /// A name in it.
    pub(crate) fn place<'a>(&'a self, name: &'a (impl AsRef<OsStr> + ?Sized)) -> Place<'a> {
        Place { directory: self, name: name.as_ref() }
    }

    /// Where it was opened, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this user may create and replace files in it: asked, and not tried.
    pub(crate) fn may_write(&self) -> std::result::Result<(), Errno> {
        rustix::fs::accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
    }

    /// What it is itself.
    pub(crate) fn meta(&self) -> Result<FileMeta> {
        let stat = rustix::fs::fstat(&self.fd).map_err(Error::io("access", &self.path))?;
        Ok(FileMeta::of_stat(&stat))
    }

    /// That its path still leads to it.
    ///
    /// # Errors
    /// Where it does not: another directory is there, or none.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        let there = fs::metadata(&self.path).map(|metadata| FileMeta::of(&metadata).stamp);
        if there.is_ok_and(|there| self.meta().is_ok_and(|own| own.stamp.is_same_file(there))) {
            return Ok(());
        }
        Err(moved(&self.path))
    }

    /// Makes the names in it durable.
    pub(crate) fn sync(&self) -> Result<()> {
        // One that was opened as a mere place cannot be saved.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(Error::io("open", &self.path))?;
        rustix::fs::fsync(open).map_err(Error::io("save", &self.path))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error of a directory that is no longer where it was opened.
pub(crate) fn moved(path: &Path) -> Error {
    OsProblem::Moved { directory: path.to_owned() }.into()
}

/// A name in a directory that is held open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) name: &'a OsStr,
}

impl Place<'_> {
    /// Its path, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path.join(self.name)
    }

    /// What is there; `None` where nothing is. A link is looked at itself.
    pub(crate) fn look(&self) -> Result<Option<FileMeta>> {
        Ok(self.stat()?.map(|stat| FileMeta::of_stat(&stat)))
    }

    fn stat(&self) -> Result<Option<rustix::fs::Stat>> {
        match rustix::fs::statat(&self.directory.fd, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io("access", &self.path())(error)),
        }
    }

    /// Whether this file is there.
    pub(crate) fn holds(&self, file: &File) -> Result<bool> {
        let own = FileMeta::of_open(file, &self.path())?.stamp;
        Ok(self.look()?.is_some_and(|there| there.stamp.is_same_file(own)))
    }

    /// Opens what is there. A link is not followed, and the other end of a pipe not waited for.
    pub(crate) fn open(&self, flags: OFlags) -> std::result::Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // What is created is private to its owner.
        rustix::fs::openat(&self.directory.fd, self.name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// Opens the regular file that is there for reading.
    pub(crate) fn open_regular(&self) -> Result<File> {
        let path = self.path();
        let refuse_irregular = |kind: FileType| match kind {
            FileType::RegularFile => Ok(()),
            kind => Err(OsProblem::NotRegular { path: path.clone(), is_directory: kind.is_dir() }),
        };
        // To open a device may do something already. What takes the place of the file in this instant is looked at below.
        if let Some(stat) = self.stat()? {
            refuse_irregular(FileType::from_raw_mode(stat.st_mode))?;
        }
        let file = self.open(OFlags::RDONLY).map_err(Error::io("open", &path))?;
        let stat = rustix::fs::fstat(&file).map_err(Error::io("access", &path))?;
        refuse_irregular(FileType::from_raw_mode(stat.st_mode))?;
        Ok(file)
    }

    /// Creates a file that only this user can use, and that must not be there yet.
    pub(crate) fn create_new(&self) -> Result<File> {
        self.create().map_err(Error::io("create", &self.path()))
    }

    /// Creates a file that only this user can use, under any umask, and that must not be there yet.
    pub(crate) fn create(&self) -> std::result::Result<File, Errno> {
        let file = self.open(NEW_FILE)?;
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        Ok(file)
    }

    /// Removes what is there, if anything is.
    pub(crate) fn remove(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.directory.fd, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // A file system that is read-only answers so before it looks.
            Err(Errno::ROFS) if self.look()?.is_none() => Ok(()),
            Err(error) => Err(Error::io("remove", &self.path())(error)),
        }
    }

    /// Lets what is there take the place of what is at the other.
    pub(crate) fn rename(&self, to: Place) -> Result<()> {
        rustix::fs::renameat(&self.directory.fd, self.name, &to.directory.fd, to.name)
            .map_err(Error::io("replace", &to.path()))
    }
}
