//! Files that get their names only when they are complete, so that a process that dies before leaves nothing behind.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::crash::crash_point;

/// The temporary name of a file has at most this many bytes of its final name.
const LONGEST: usize = 200;
/// How many times a file is linked to its temporary name, because another process has removed that, before this gives up.
const TRIES: usize = 100;

/// A file that is about to get its name, and may replace another file there.
#[derive(Debug)]
pub(crate) enum NewFile {
    /// It has no name yet.
    Unnamed(File),
    /// It has a temporary name, because the system has no files without names. A process that is killed leaves it behind.
    Named(NamedTempFile),
}

impl NewFile {
    /// Creates a file in the directory of its future name. The umask may restrict the mode.
    pub(crate) fn create_in(directory: &Path, mode: u32) -> io::Result<Self> {
        if let Some(file) = unnamed_in(directory, mode) {
            return Ok(Self::Unnamed(file));
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        tempfile::Builder::new().permissions(mode).tempfile_in(directory).map(Self::Named)
    }

    pub(crate) fn file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives the file the name `path`, in one step. It replaces a file with that name.
    pub(crate) fn take_place(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
            Self::Unnamed(file) => link_over(&file, path),
        }
    }
}

/// Replaces the file at `path` by one without a name. Only a rename replaces a file, and that needs a name, so the file
/// gets a temporary one. A file with the temporary name is always complete, so another process may remove it or rename
/// it to `path`: then the later report wins.
fn link_over(file: &File, path: &Path) -> io::Result<()> {
    let temporary = path.with_file_name(temporary_name(path.file_name().unwrap_or_default()));
    for _ in 0..TRIES {
        match link(file, &temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                std::fs::remove_file(&temporary).or_else(unless_missing)?;
                continue;
            }
            linked => linked?,
        }
        crash_point!("output: named");
        match std::fs::rename(&temporary, path) {
            // Another process has removed or renamed it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            renamed => return renamed,
        }
    }
    Err(io::Error::other("other processes keep writing it"))
}

/// Removes the temporary name that a process left when it died while replacing the file at `path`. A process that is
/// about to rename notices that, and links its file again.
pub(crate) fn discard_unfinished(path: &Path) -> io::Result<()> {
    let temporary = path.with_file_name(temporary_name(path.file_name().unwrap_or_default()));
    std::fs::remove_file(temporary).or_else(unless_missing)
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn temporary_name(name: &OsStr) -> OsString {
    let name = name.as_bytes();
    let mut temporary = OsString::from(".");
    temporary.push(OsStr::from_bytes(&name[..name.len().min(LONGEST)]));
    temporary.push(".reconcile-new");
    temporary
}

#[cfg(target_os = "linux")]
fn unnamed_in(directory: &Path, mode: u32) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};

    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    // On an error, a file with a name is created instead, which reports the error.
    let file = File::from(open(directory, flags, Mode::from_raw_mode(mode)).ok()?);
    handle(&file).try_exists().unwrap_or(false).then_some(file)
}

/// The name by which the system knows an open file.
#[cfg(target_os = "linux")]
fn handle(file: &File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;

    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};

    linkat(CWD, handle(file), CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn unnamed_in(_: &Path, _: u32) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
