//! Mounts: whether one file can replace another, as far as that is known from how their file systems are mounted.

#[cfg(target_os = "linux")]
use std::ffi::OsStr;
use std::fs;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::os::directory::{Directory, Place};
use crate::os::problem::{MOUNT_THE_DIRECTORY, OsProblem};

/// Checks that mounts do not prevent a file in the directory `waits_in` from replacing the file at `target`.
///
/// # Errors
/// Where the file is mounted by itself, its file system is mounted read-only, or the directory is in another mount.
pub(crate) fn check_replaceable(target: Place, waits_in: &Directory) -> Result<()> {
    let path = target.path();
    if is_mount_point(target) {
        return Err(OsProblem::Mounted { path }.into());
    }
    check_writable(target.directory)?;
    if mount_id(target.directory) != mount_id(waits_in) {
        return Err(OsProblem::OtherFileSystem { path, waits_in: waits_in.path().to_owned() }.into());
    }
    Ok(())
}

/// Checks that a directory is not on a file system that is mounted read-only. Permissions are not checked.
///
/// # Errors
/// Where it is.
pub(crate) fn check_writable(directory: &Directory) -> Result<()> {
    match directory.may_write() {
        Err(Errno::ROFS) => Err(Error::ReadOnly { path: directory.path().to_owned(), hint: MOUNT_THE_DIRECTORY }),
        _ => Ok(()),
    }
}

/// The kind of the file system that a directory is on, such as `ext4`; `None` where the system does not say.
pub(crate) fn file_system(directory: &Directory) -> Option<String> {
    let id = mount_id(directory)?.to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').next() == Some(id.as_str()))?;
    // Spaces in paths are written as \040.
    let (_, source) = mount.split_once(" - ")?;
    source.split(' ').next().map(str::to_owned)
}

/// Whether the file at a place is a mount point. `false` where the system does not say.
#[cfg(target_os = "linux")]
fn is_mount_point(place: Place) -> bool {
    use rustix::fs::StatxAttributes;

    let status = status(place.directory, place.name);
    status.is_some_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The id of the mount that a directory is in; `None` where the system does not say.
#[cfg(target_os = "linux")]
fn mount_id(directory: &Directory) -> Option<u64> {
    use rustix::fs::StatxFlags;

    let status = status(directory, OsStr::new("."))?;
    let is_told = status.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    is_told.then_some(status.stx_mnt_id)
}

#[cfg(target_os = "linux")]
fn status(directory: &Directory, name: &OsStr) -> Option<rustix::fs::Statx> {
    use rustix::fs::{AtFlags, StatxFlags, statx};

    statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: Place) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn mount_id(_: &Directory) -> Option<u64> {
    None
}
