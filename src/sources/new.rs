//! Writes new policy files.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::sources::problem::FileProblem;

/// Writes a file that must not exist yet. It is on disk when this returns.
///
/// # Errors
/// Where the file exists, or cannot be written. An incomplete file is removed, because it could be read as a policy.
pub fn write_new(path: &Path, text: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => FileProblem::IsThere { path: path.to_owned() }.into(),
        _ => Error::io("create", path)(error),
    })?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    if written.is_err() {
        // The error of the write is returned, and not one of the removal.
        let _ = fs::remove_file(path);
    }
    written.map_err(Error::io("write", path))
}
