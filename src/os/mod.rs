//! What the system does for the program: files and what they are, the exchange of two files, locks, and processes.

#![allow(clippy::disallowed_methods, reason = "this room is where files are opened and commands are run")]

pub mod directory;
pub mod exchange;
pub mod lock;
pub(crate) mod mount;
pub mod private;
mod problem;
pub mod process;
pub(crate) mod program;
pub mod rights;
pub(crate) mod unnamed;

use std::fs::{self, File, FileType};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::Stat;

use crate::error::{Error, Result};
use crate::os::problem::OsProblem;

/// In bytes. There may be an edit every few lines, and a write for each piece between them takes longer than the copy.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// What tells one state of a file from another, without its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The device that holds the file.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// When it was last modified: seconds and nanoseconds since 1970.
    pub modified: (i64, u64),
}

/// What a file is, beyond its content.
#[derive(Clone, Copy, Debug)]
pub struct FileMeta {
    /// Which state of the file this is.
    pub stamp: Stamp,
    /// Its permissions.
    pub mode: u32,
    /// The user id of its owner.
    pub owner: u32,
    /// The id of its group.
    pub group: u32,
}

impl Stamp {
    /// Whether both are of one file, now or at different times. Only as long as it is held open: an inode is used again.
    pub(crate) fn is_same_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl FileMeta {
    /// Takes it from what the system says of a file.
    pub fn of(metadata: &fs::Metadata) -> Self {
        let modified = (metadata.mtime(), u64::try_from(metadata.mtime_nsec()).unwrap_or_default());
        let stamp = Stamp { device: metadata.dev(), inode: metadata.ino(), size: metadata.size(), modified };
        Self { stamp, mode: metadata.mode() & 0o7777, owner: metadata.uid(), group: metadata.gid() }
    }

    /// Takes it from what the system says of a name in a directory.
    fn of_stat(stat: &Stat) -> Self {
        let modified = (number(stat.st_mtime), number(stat.st_mtime_nsec));
        let stamp =
            Stamp { device: number(stat.st_dev), inode: number(stat.st_ino), size: number(stat.st_size), modified };
        Self { stamp, mode: number::<u32>(stat.st_mode) & 0o7777, owner: stat.st_uid, group: stat.st_gid }
    }

    /// Asks an open file.
    ///
    /// # Errors
    /// Where the system does not tell. `path` is the file's name for that.
    pub(crate) fn of_open(file: &File, path: &Path) -> Result<Self> {
        file.metadata().map(|metadata| Self::of(&metadata)).map_err(Error::io("access", path))
    }
}

/// Each system has integers of its own for what it says of a file.
fn number<N: Default>(value: impl TryInto<N>) -> N {
    value.try_into().unwrap_or_default()
}

/// Opens a regular file for reading, without waiting: a fifo or a terminal is an error.
///
/// # Errors
/// Where there is no such file, or it is something else.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let refuse = |kind: FileType| OsProblem::NotRegular { path: path.to_owned(), is_directory: kind.is_dir() };
    // To open a device may do something already. What takes the place of the file in this instant is looked at below.
    let found = fs::metadata(path).map_err(Error::io("open", path))?.file_type();
    if !found.is_file() {
        return Err(refuse(found).into());
    }
    let no_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(no_waiting).open(path).map_err(Error::io("open", path))?;
    let kind = file.metadata().map_err(Error::io("access", path))?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(refuse(kind).into())
}

/// The length of the file at `path`, in bytes. Links are followed.
///
/// # Errors
/// Where there is no such file, or it cannot be looked at.
pub fn length(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.len())
}

/// Writes a file. On disk when it returns.
///
/// # Errors
/// Where it cannot be written.
pub fn fill(file: &File, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut writer = BufWriter::with_capacity(WRITTEN_AT_ONCE, file);
    write(&mut writer).and_then(|()| writer.flush()).map_err(Error::io("write", path))?;
    drop(writer);
    file.sync_all().map_err(Error::io("save", path))
}
