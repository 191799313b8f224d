//! A policy file that is written for the first time.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::sources::problem::FileProblem;

/// Writes a file that must not be there yet. On disk when it returns.
///
/// # Errors
/// Where a file is there, or cannot be written. Then nothing of it stays behind: half a policy must not be taken for one.
pub fn write_new(path: &Path, text: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => FileProblem::IsThere { path: path.to_owned() }.into(),
        _ => Error::io("create", path)(error),
    })?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    if written.is_err() {
        // The error that matters is the first.
        let _ = fs::remove_file(path);
    }
    written.map_err(Error::io("write", path))
}
