//! Gives a new file the rights of the file that it replaces: owner, group, mode, access list and other extended
//! attributes. If they cannot be kept, the file is not replaced.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Gid, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::foreign::{Foreign, Sentence, sentence};
use crate::os::FileMeta;
use crate::os::problem::{Fix, OsProblem};

/// The attribute with the access list of a file. A new file inherits the default list of its directory.
const ACCESS_LIST: &CStr = c"system.posix_acl_access";
/// The attribute that marks a registry beside which runs keep state. It follows the file when that is moved, or copied with its
/// attributes.
const HAS_STATE: &CStr = c"user.reconcile.state";
/// Attributes that the system sets itself, some of them from the content.
const NOT_OURS: [&CStr; 3] = [c"security.ima", c"security.evm", c"com.apple.provenance"];
/// The error for an attribute that a file does not have.
#[cfg(target_vendor = "apple")]
const ABSENT: Errno = Errno::NOATTR;
#[cfg(not(target_vendor = "apple"))]
const ABSENT: Errno = Errno::NODATA;
/// The longest list of names and the longest value on Linux, in bytes.
const LONGEST: usize = 64 << 10;

/// The extended attributes of a file: values by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<CString, Vec<u8>>);

impl Attributes {
    /// The attributes of an open file. Errors name it by `path`.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub(crate) fn of(file: &File, path: &Path) -> Result<Self> {
        let names = match read(|list| rustix::fs::flistxattr(file, list)) {
            Ok(names) => names,
            Err(error) if is_unsupported(error) => return Ok(Self::default()),
            Err(error) => return Err(Error::io("read the extended attributes of", path)(error)),
        };
        let mut found = BTreeMap::new();
        for name in names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
            if NOT_OURS.contains(&name) {
                continue;
            }
            match value(file, name) {
                Ok(value) => found.extend(value.map(|value| (name.to_owned(), value))),
                Err(error) => return Err(not_kept(of_name(name), path, error, Fix::Remove)),
            }
        }
        Ok(Self(found))
    }

    /// Sets these attributes on a file, and removes an access list that is not among them.
    fn give(&self, file: &File, path: &Path) -> Result<()> {
        let is_list = |name: &CStr| name == ACCESS_LIST;
        for (name, value) in self.0.iter().filter(|(name, _)| !is_list(name)) {
            set(file, name, value, path)?;
        }
        // Last, because the list may remove the owner's permission to set the others.
        set_access_list(file, self.0.get(ACCESS_LIST).map(Vec::as_slice), path)
    }
}

/// Marks a registry beside which runs keep state. On a file system without attributes, there is no mark.
pub(crate) fn mark_with_state(file: &File) {
    let _ = rustix::fs::fsetxattr(file, HAS_STATE, b"1", XattrFlags::empty());
}

/// Whether a file has that mark.
pub(crate) fn is_marked_with_state(file: &File) -> bool {
    value(file, HAS_STATE).is_ok_and(|value| value.is_some())
}

/// Gives a new file the owner, group, mode and attributes of the file that it is about to replace. Errors name the file
/// by `path`.
///
/// # Errors
/// Where one of them cannot be kept. The error says which, and what to do about it.
pub(crate) fn keep(file: &File, replaced: FileMeta, attributes: &Attributes, path: &Path) -> Result<()> {
    let new = FileMeta::of_open(file, path)?;
    if new.owner != replaced.owner {
        let failed = |error| not_kept("owner", path, error, Fix::Owner(replaced.owner));
        give_to_owner(file, replaced.owner).map_err(failed)?;
    }
    if new.group != replaced.group {
        keep_group(file, replaced.group, path)?;
    }
    // The mode comes last: it must not allow anything before the access list is right.
    attributes.give(file, path)?;
    set_mode(file, replaced.mode, path)
}

/// Gives a new report the rights of the one that it is about to replace, as far as this user can. No user gets more
/// rights than with the old report.
///
/// # Errors
/// Where the access list is needed for that, and cannot be kept.
pub(crate) fn keep_at_most(file: &File, replaced: FileMeta, path: &Path) -> Result<()> {
    // A report may belong to the user who writes it.
    let _ = give_to_owner(file, replaced.owner);
    let list = match read(|value| rustix::fs::getxattr(path, ACCESS_LIST, value)) {
        Ok(list) => Some(list),
        Err(error) if error == ABSENT || is_unsupported(error) => None,
        Err(error) => return Err(not_kept("access list", path, error, Fix::Remove)),
    };
    let mut mode = replaced.mode & 0o777;
    let group = keep_group(file, replaced.group, path);
    if list.is_some() {
        group?;
    } else if group.is_err() {
        // The file is of another group, which gets no more rights than all users have.
        mode &= 0o707 | (mode & 0o007) << 3;
    }
    set_access_list(file, list.as_deref(), path)?;
    set_mode(file, mode, path)
}

fn give_to_owner(file: &File, owner: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(owner)), None)
}

fn keep_group(file: &File, group: u32, path: &Path) -> Result<()> {
    let failed = |error| not_kept("group", path, error, Fix::Group(group));
    rustix::fs::fchown(file, None, Some(Gid::from_raw(group))).map_err(failed)
}

fn set_mode(file: &File, mode: u32, path: &Path) -> Result<()> {
    file.set_permissions(Permissions::from_mode(mode)).map_err(Error::io("keep the mode of", path))
}

/// Sets the access list of a file, or removes the one that it has inherited.
fn set_access_list(file: &File, list: Option<&[u8]>, path: &Path) -> Result<()> {
    if let Some(list) = list {
        return set(file, ACCESS_LIST, list, path);
    }
    match value(file, ACCESS_LIST) {
        Ok(Some(_)) => rustix::fs::fremovexattr(file, ACCESS_LIST)
            .map_err(Error::io("remove the access list that was inherited by", path)),
        _ => Ok(()),
    }
}

/// Sets an attribute, unless the file has that value already: some attributes cannot be set by this user.
fn set(file: &File, name: &CStr, wanted: &[u8], path: &Path) -> Result<()> {
    if value(file, name).is_ok_and(|value| value.as_deref() == Some(wanted)) {
        return Ok(());
    }
    rustix::fs::fsetxattr(file, name, wanted, XattrFlags::empty())
        .map_err(|error| not_kept(of_name(name), path, error, Fix::Remove))
}

/// The value of an attribute; `None` where the file does not have it.
fn value(file: &File, name: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    match read(|value| rustix::fs::fgetxattr(file, name, value)) {
        Ok(value) => Ok(Some(value)),
        Err(ABSENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether this is the error of a file system without extended attributes. Two of these are one number on Linux.
fn is_unsupported(error: Errno) -> bool {
    [Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error)
}

fn read(ask: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = vec![0; LONGEST];
    let length = ask(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The name of an attribute in a message.
fn of_name(name: &CStr) -> Sentence {
    if name == ACCESS_LIST {
        return "access list".into();
    }
    sentence!("extended attribute {}", Foreign::from(name.to_string_lossy()))
}

fn not_kept(what: impl Into<Sentence>, path: &Path, error: Errno, fix: Fix) -> Error {
    OsProblem::NotKept { what: what.into(), path: path.to_owned(), error: error.into(), fix }.into()
}
