//! Checks that the program of a command can be executed. It is looked up as the system looks it up when the command is run.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::foreign::reason;

/// The search path for programs if `PATH` is not set.
const USUAL: &str = "/bin:/usr/bin";

/// Why a command that runs in `directory` cannot execute this program; `None` where it can.
pub(crate) fn refusal(program: &str, directory: &Path) -> Option<String> {
    if program.contains('/') {
        return executable(&directory.join(program)).err().map(|error| reason(&error));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL.into());
    // An empty entry is the directory in which the command runs.
    let mut found = std::env::split_paths(&path).map(|entry| executable(&directory.join(entry).join(program)));
    let is_missing = found.all(|found| found.is_err());
    is_missing.then(|| format!("there is no such program in PATH ({})", PathBuf::from(path).display()))
}

/// Checks that this process may execute a file.
fn executable(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    // By the effective ids, which count for execution.
    Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}
