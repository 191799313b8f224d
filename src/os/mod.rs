//! The operating system: files and their metadata, the exchange of two files, locks, and processes.

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

/// The size of the buffer for writing a file, in bytes. An edited file is written in many small pieces, and a system
/// call for each would take longer than copying them.
const BUFFER: usize = 1 << 20;

/// Identifies one state of a file without its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The id of the device that the file is on.
    pub device: u64,
    /// The number of its inode.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last modified: seconds since 1970, and nanoseconds. A pair, because it is saved as one.
    pub modified: (i64, u64),
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug)]
pub struct FileMeta {
    /// The state that it is in.
    pub stamp: Stamp,
    /// Its permissions, as of `chmod`.
    pub mode: u32,
    /// The user id of its owner.
    pub owner: u32,
    /// The id of its group.
    pub group: u32,
}

impl Stamp {
    /// Whether both are states of one file. This is certain only while the file is held open, because inodes are reused.
    pub(crate) fn is_same_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl FileMeta {
    /// The metadata from a call on a path or an open file.
    pub fn of(metadata: &fs::Metadata) -> Self {
        let modified = (metadata.mtime(), u64::try_from(metadata.mtime_nsec()).unwrap_or_default());
        let stamp = Stamp { device: metadata.dev(), inode: metadata.ino(), size: metadata.size(), modified };
        Self { stamp, mode: metadata.mode() & 0o7777, owner: metadata.uid(), group: metadata.gid() }
    }

    /// The metadata from a call on a name in a directory.
    fn of_stat(stat: &Stat) -> Self {
        let modified = (number(stat.st_mtime), number(stat.st_mtime_nsec));
        let stamp =
            Stamp { device: number(stat.st_dev), inode: number(stat.st_ino), size: number(stat.st_size), modified };
        Self { stamp, mode: number::<u32>(stat.st_mode) & 0o7777, owner: stat.st_uid, group: stat.st_gid }
    }

    /// The metadata of an open file. Errors name the file by `path`.
    ///
    /// # Errors
    /// Where the system does not return it.
    pub(crate) fn of_open(file: &File, path: &Path) -> Result<Self> {
        file.metadata().map(|metadata| Self::of(&metadata)).map_err(Error::io("access", path))
    }
}

/// Converts a number of `stat`, whose integer types differ between systems.
fn number<N: Default>(value: impl TryInto<N>) -> N {
    value.try_into().unwrap_or_default()
}

/// Opens a regular file for reading, without waiting: a fifo or a terminal is an error.
///
/// # Errors
/// Where there is no such file, or it is something else.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let refuse = |kind: FileType| OsProblem::NotRegular { path: path.to_owned(), is_directory: kind.is_dir() };
    // Looked at first, because opening a device may have an effect. The open file is checked again, in case it was
    // replaced since.
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

/// Writes a file. Its content is on disk when this returns.
///
/// # Errors
/// Where it cannot be written.
pub fn fill(file: &File, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    write(&mut writer).and_then(|()| writer.flush()).map_err(Error::io("write", path))?;
    drop(writer);
    file.sync_all().map_err(Error::io("save", path))
}
