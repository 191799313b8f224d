//! Directories that are held open. Names are looked up in the directory that was opened, even if its path leads
//! elsewhere by then, so that two calls with one name are about one directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::os::FileMeta;
use crate::os::problem::OsProblem;

/// The flags for creating a file that must not exist yet.
const NEW_FILE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL);

/// A directory that is held open.
#[derive(Debug)]
pub struct Directory {
    /// The path by which it was opened, which has no links in it.
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// Opens the directory at `path`, which must have no links in it. On Linux, the directory need not be readable.
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

    /// Opens a directory in it, which must be readable and must not be a link.
    pub(crate) fn directory(&self, name: &OsStr) -> std::result::Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Self { path: self.path.join(name), fd })
    }

    /// A name in it.
    pub(crate) fn place<'a>(&'a self, name: &'a (impl AsRef<OsStr> + ?Sized)) -> Place<'a> {
        Place { directory: self, name: name.as_ref() }
    }

    /// The path by which it was opened, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that this user may create and replace files in it, without creating one.
    pub(crate) fn may_write(&self) -> std::result::Result<(), Errno> {
        rustix::fs::accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
    }

    /// Its metadata.
    pub(crate) fn meta(&self) -> Result<FileMeta> {
        let stat = rustix::fs::fstat(&self.fd).map_err(Error::io("access", &self.path))?;
        Ok(FileMeta::of_stat(&stat))
    }

    /// Checks that its path still leads to it.
    ///
    /// # Errors
    /// Where another directory is there, or none.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        let there = fs::metadata(&self.path).map(|metadata| FileMeta::of(&metadata).stamp);
        if there.is_ok_and(|there| self.meta().is_ok_and(|own| own.stamp.is_same_file(there))) {
            return Ok(());
        }
        Err(moved(&self.path))
    }

    /// Makes changes of the names in it durable.
    pub(crate) fn sync(&self) -> Result<()> {
        // A descriptor with `O_PATH` cannot be used for fsync.
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

    /// The metadata of what is there; `None` where nothing is. Links are not followed.
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

    /// Whether this open file is the one that is there.
    pub(crate) fn holds(&self, file: &File) -> Result<bool> {
        let own = FileMeta::of_open(file, &self.path())?.stamp;
        Ok(self.look()?.is_some_and(|there| there.stamp.is_same_file(own)))
    }

    /// Opens what is there. A link is an error, and opening a pipe does not wait for its other end.
    pub(crate) fn open(&self, flags: OFlags) -> std::result::Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // A file that is created is private to its owner.
        rustix::fs::openat(&self.directory.fd, self.name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// Opens the regular file that is there for reading.
    pub(crate) fn open_regular(&self) -> Result<File> {
        let path = self.path();
        let refuse_irregular = |kind: FileType| match kind {
            FileType::RegularFile => Ok(()),
            kind => Err(OsProblem::NotRegular { path: path.clone(), is_directory: kind.is_dir() }),
        };
        // Looked at first, because opening a device may have an effect. The open file is checked again, in case it was replaced
        // since.
        if let Some(stat) = self.stat()? {
            refuse_irregular(FileType::from_raw_mode(stat.st_mode))?;
        }
        let file = self.open(OFlags::RDONLY).map_err(Error::io("open", &path))?;
        let stat = rustix::fs::fstat(&file).map_err(Error::io("access", &path))?;
        refuse_irregular(FileType::from_raw_mode(stat.st_mode))?;
        Ok(file)
    }

    /// Creates a file as [`Place::create`] does, and names it in an error.
    pub(crate) fn create_new(&self) -> Result<File> {
        self.create().map_err(Error::io("create", &self.path()))
    }

    /// Creates a file with mode 0600, independent of the umask. It must not exist yet.
    pub(crate) fn create(&self) -> std::result::Result<File, Errno> {
        let file = self.open(NEW_FILE)?;
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        Ok(file)
    }

    /// Removes what is there, if anything is.
    pub(crate) fn remove(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.directory.fd, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // A read-only file system returns this error also for a name that does not exist.
            Err(Errno::ROFS) if self.look()?.is_none() => Ok(()),
            Err(error) => Err(Error::io("remove", &self.path())(error)),
        }
    }

    /// Renames what is there, and so replaces what is at `to`.
    pub(crate) fn rename(&self, to: Place) -> Result<()> {
        rustix::fs::renameat(&self.directory.fd, self.name, &to.directory.fd, to.name)
            .map_err(Error::io("replace", &to.path()))
    }
}
