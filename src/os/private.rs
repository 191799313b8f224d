//! Files with a secret in them, such as a token.

use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::os::problem::{NotPrivate, OsProblem};
use crate::os::{FileMeta, open_regular};

/// Reads a file that belongs to this user and that no other user can read. `what` is the word for its content in
/// messages, such as `token`.
///
/// # Errors
/// Where the file does not exist, other users can read or change it, it has more than `longest` bytes, or it is not
/// text. No error quotes its content.
pub fn read(path: &Path, what: &'static str, longest: u64) -> Result<String> {
    let absent = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound);
    let named = |error| if absent(&error) { OsProblem::NoSecret { what, path: path.to_owned() }.into() } else { error };
    let file = open_regular(path).map_err(named)?;
    let FileMeta { owner, mode, .. } = FileMeta::of_open(&file, path)?;
    let refused = |why| Error::from(OsProblem::NotPrivate { what, path: path.to_owned(), why });
    let user = rustix::process::geteuid().as_raw();
    if owner != user {
        return Err(refused(NotPrivate::Owner { owner, user }));
    }
    if mode & 0o077 != 0 {
        return Err(refused(NotPrivate::Mode(mode)));
    }
    let mut text = String::new();
    // One byte more than allowed, to find out that it is longer.
    let read = file.take(longest + 1).read_to_string(&mut text);
    if read.is_err() || text.len() as u64 > longest {
        return Err(refused(NotPrivate::Content { longest }));
    }
    Ok(text)
}
