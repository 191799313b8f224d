//! The redaction key in the state directory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::os::private;
use crate::redact::{KEY_LENGTH, Redaction};
use crate::state::dir::StateDir;
use crate::state::problem::StateProblem;

/// The name of the key's file.
pub(crate) const KEY: &str = "redact.key";
/// The largest file of a key, in bytes.
const LONGEST: u64 = 1024;

/// Reads a key file that the user names.
///
/// # Errors
/// Where it cannot be read, other users can read it, or it is not a key.
pub(crate) fn redaction_key(path: &Path) -> Result<Redaction> {
    let text = private::read(path, "redaction key", LONGEST)?;
    Redaction::from_text(&text).ok_or_else(|| StateProblem::NotAKey { path: path.to_owned() }.into())
}

/// Reads the key of a directory; `None` where there is none yet.
///
/// # Errors
/// Where it cannot be read, or is damaged.
pub(crate) fn read(dir: &StateDir) -> Result<Option<Redaction>> {
    let Some(bytes) = dir.read(KEY)? else { return Ok(None) };
    let key = std::str::from_utf8(&bytes).ok().and_then(Redaction::from_text);
    key.map(Some).ok_or_else(|| StateProblem::KeyDamaged { path: dir.path(KEY) }.into())
}

/// The key of a directory whose `data.lock` is held. If there is none, it is created, and the path of its file returned.
///
/// # Errors
/// Where it cannot be read or written.
pub(crate) fn read_or_new(dir: &StateDir) -> Result<(Redaction, Option<PathBuf>)> {
    if let Some(redaction) = read(dir)? {
        // The program that has created the file may have died before the file's name was durable.
        dir.sync()?;
        return Ok((redaction, None));
    }
    let redaction = new()?;
    if let Err(error) = dir.save(KEY, redaction.to_text().as_bytes()) {
        // The file may have its name already. The error of saving is returned, and not one of the removal.
        let _ = dir.remove(KEY);
        return Err(error);
    }
    Ok((redaction, Some(dir.path(KEY))))
}

fn new() -> Result<Redaction> {
    let source = Path::new("/dev/urandom");
    let mut key = [0; KEY_LENGTH];
    File::open(source).and_then(|mut file| file.read_exact(&mut key)).map_err(Error::io("read", source))?;
    Ok(Redaction::new(key))
}
