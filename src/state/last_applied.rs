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
use crate::foreign::{Foreign, Sentence};
use crate::json;
use crate::plan::last_applied::{KEY_LENGTH, LastApplied, Reach, Table};
use crate::state::dir::StateDir;
use crate::state::journal::checksum;
use crate::state::problem::StateProblem;

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
    let header: Header =
        serde_json::from_slice(header).map_err(|error| damaged(dir, Foreign::from(error.to_string())))?;
    if header.version != VERSION {
        let path = dir.path(NAME);
        return Err(StateProblem::LaterVersion { path, version: header.version, known: VERSION }.into());
    }
    if checksum(body) != header.checksum {
        return Err(damaged(dir, "its checksum does not match"));
    }
    let (chats, rest) = body.split_at_checked(header.chats.saturating_mul(FINGERPRINT)).unwrap_or_default();
    let (marks, sorted) = rest.split_at_checked(header.chats.saturating_mul(MARK)).unwrap_or_default();
    let table = Table {
        chats: chats.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect(),
        marks: marks.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect(),
        sorted: sorted.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(),
    };
    LastApplied::of(header.key, header.reach, header.models, table)
        .ok_or_else(|| damaged(dir, "its parts do not match"))
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
    let Table { chats, marks, sorted } = last_applied.table();
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
    let mut bytes = json::to_bytes(&header)?;
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

fn damaged(dir: &StateDir, why: impl Into<Sentence>) -> Error {
    StateProblem::LastAppliedDamaged { path: dir.path(NAME), why: why.into() }.into()
}
