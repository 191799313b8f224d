//! The file that says what each chat was last given. It is read whole by every run, and written anew by one that has something
//! to add. It names no chat: only who knows an id can tell whether it is in it.
//!
//! ```text
//! {"version":1,"reach":"all","key":[…],"models":["opus","haiku"],"chats":2,"checksum":"…"}
//! the fingerprints of the chats, of eight bytes each, a mark of two bytes for each, and their places sorted by fingerprint, of
//! four bytes each; all in little-endian order
//! ```

use std::hash::{BuildHasher, RandomState};

use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::error::{Error, Result};
use crate::plan::last_applied::{KEY_LENGTH, LastApplied, Reach, Table};
use crate::state::dir::StateDir;
use crate::state::journal::checksum;

const NAME: &str = "last-applied";
const VERSION: u32 = 1;
/// Of a fingerprint, in bytes.
const FINGERPRINT: usize = 8;
/// Of a mark, in bytes.
const MARK: usize = 2;
/// Of a place, in bytes.
const PLACE: usize = 4;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    reach: Reach,
    key: [u8; KEY_LENGTH],
    models: Vec<Model>,
    chats: usize,
    checksum: String,
}

/// Nothing, with a new key: what a first run adds to.
fn nothing() -> LastApplied {
    // Its hashers are seeded by the system, each anew.
    let half = || RandomState::new().hash_one(()).to_le_bytes();
    let mut key = [0; KEY_LENGTH];
    key[..KEY_LENGTH / 2].copy_from_slice(&half());
    key[KEY_LENGTH / 2..].copy_from_slice(&half());
    LastApplied::nothing(key)
}

/// What is kept; nothing before the first run that has something to keep.
///
/// # Errors
/// Where it is damaged, or was written by a later version. That is never "nothing was set by hand".
pub(crate) fn read(dir: &StateDir) -> Result<LastApplied> {
    let Some(bytes) = dir.read(NAME)? else { return Ok(LastApplied::default()) };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (header, body) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
    let header: Header = serde_json::from_slice(header).map_err(|error| damaged(dir, &error.to_string()))?;
    if header.version != VERSION {
        let path = dir.path(NAME);
        let message = format!(
            "{} has the form {}, and this version of reconcile knows {VERSION}",
            path.display(),
            header.version
        );
        return Err(
            Error::other(message).with_hint("it was written by a later version: use that one, or a later one still")
        );
    }
    if checksum(body) != header.checksum {
        return Err(damaged(dir, "its checksum is another"));
    }
    let (chats, rest) = body.split_at_checked(header.chats.saturating_mul(FINGERPRINT)).unwrap_or_default();
    let (marks, sorted) = rest.split_at_checked(header.chats.saturating_mul(MARK)).unwrap_or_default();
    let table = Table {
        chats: chats.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect(),
        marks: marks.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect(),
        sorted: sorted.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(),
    };
    LastApplied::of(header.key, header.reach, header.models, table)
        .ok_or_else(|| damaged(dir, "its parts do not fit together"))
}

/// What is kept, to be added to.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_to_add(dir: &StateDir) -> Result<LastApplied> {
    let known = read(dir)?;
    Ok(if known.is_empty() { nothing() } else { known })
}

/// Keeps it. On disk when it returns.
///
/// # Errors
/// Where it cannot be saved.
pub(crate) fn save(dir: &StateDir, last_applied: &LastApplied) -> Result<()> {
    let (chats, marks, sorted) = last_applied.table();
    let mut body = Vec::with_capacity(chats.len() * (FINGERPRINT + MARK + PLACE));
    body.extend(chats.iter().flat_map(|chat| chat.to_le_bytes()));
    body.extend(marks.iter().flat_map(|mark| mark.to_le_bytes()));
    body.extend(sorted.iter().flat_map(|place| place.to_le_bytes()));
    let header = Header {
        version: VERSION,
        reach: last_applied.reach(),
        key: *last_applied.key(),
        models: last_applied.models().to_vec(),
        chats: chats.len(),
        checksum: checksum(&body),
    };
    let mut bytes = serde_json::to_vec(&header).map_err(|error| Error::other(error.to_string()))?;
    bytes.push(b'\n');
    bytes.append(&mut body);
    dir.save(NAME, &bytes)
}

/// Forgets it, where it is kept.
///
/// # Errors
/// Where it cannot be removed.
pub(crate) fn forget(dir: &StateDir) -> Result<()> {
    dir.remove(NAME)?;
    dir.sync()
}

/// Removes what a run left that died while it saved the file.
pub(crate) fn discard_unfinished(dir: &StateDir) -> Result<()> {
    dir.discard_unfinished(NAME)
}

fn damaged(dir: &StateDir, why: &str) -> Error {
    let damaged = format!("{} is damaged", dir.path(NAME).display());
    Error::other(format!("{damaged}: {why}"))
        .with_hint(
            "it tells what was set by hand: restore it, or remove it, and the next run keeps every model that is there",
        )
        .or_nameless(damaged)
}
