//! What version 0.1 kept, all in `owed.json`: the ledger, the replacement under way, and what only a backend remembers. It
//! is read until the first run of this version has moved it.
//!
//! A file of that name stays, because version 0.1 would take its absence for "nothing is owed": it names a form that
//! version 0.1 refuses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::foreign::Foreign;
use crate::json;
use crate::os::exchange::ExchangeNote;
use crate::plan::ledger::{Correction, Debt, Ledger};
use crate::state::dir::StateDir;
use crate::state::journal::damaged;
use crate::state::problem::StateProblem;

const NAME: &str = "owed.json";
/// The file in which a backend keeps what only it must remember.
pub(crate) const PENDING: &str = "pending.json";

/// The file in which this version keeps the ledger.
pub(crate) const MOVED_TO: &str = "ledger.journal";

/// `owed.json` as this version leaves it.
const CLOSED: &str = "{\"version\": 2, \"moved_to\": \"ledger.journal\"}\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    owed: BTreeMap<String, Debt>,
    #[serde(default)]
    corrected: BTreeMap<String, Correction>,
    #[serde(default)]
    exchange: Option<ExchangeNote>,
    #[serde(default)]
    unconfirmed: Option<Value>,
    #[serde(default)]
    unsaved: Option<Value>,
    /// Where the ledger is instead.
    #[serde(default)]
    moved_to: Option<String>,
}

/// What a backend of version 0.1 remembered, as it stood there. Only that backend can read it.
#[derive(Serialize)]
pub(crate) struct BackendNotes {
    version: u32,
    exchange: Option<ExchangeNote>,
    unconfirmed: Option<Value>,
    unsaved: Option<Value>,
}

/// The content of `owed.json`.
pub(crate) enum Left<T> {
    /// There is no such file.
    Nothing,
    /// The state of version 0.1.
    Kept(T),
    /// A reference to the new files: the state was moved there.
    Moved,
}

/// The ledger, and the replacement under way.
pub(crate) fn ledger(dir: &StateDir) -> Result<Left<(Ledger, Option<ExchangeNote>)>> {
    Ok(match read(dir)? {
        Left::Nothing => Left::Nothing,
        Left::Kept(File { owed, corrected, exchange, .. }) => {
            Left::Kept((Ledger { owed, corrected, ..Ledger::default() }, exchange))
        }
        Left::Moved => Left::Moved,
    })
}

/// The error of a ledger that was moved, and is not where it was moved to.
pub(crate) fn missing(dir: &StateDir) -> Error {
    StateProblem::LedgerMissing { path: dir.path(MOVED_TO) }.into()
}

/// What only a backend remembers; `None` where version 0.1 left nothing of that, or it was moved with the ledger.
pub(crate) fn backend_notes(dir: &StateDir) -> Result<Option<BackendNotes>> {
    if dir.meta(MOVED_TO)?.is_some() {
        return Ok(None);
    }
    let Left::Kept(File { exchange, unconfirmed, unsaved, .. }) = read(dir)? else { return Ok(None) };
    let notes = BackendNotes { version: 1, exchange, unconfirmed, unsaved };
    Ok(Some(notes).filter(|notes| notes.unconfirmed.is_some() || notes.unsaved.is_some()))
}

/// Moves what only a backend remembers into that backend's file. Nothing else is moved yet, so it can be done again.
pub(crate) fn move_backend_notes(dir: &StateDir) -> Result<()> {
    let Some(notes) = backend_notes(dir)? else { return Ok(()) };
    dir.save(PENDING, &json::to_bytes(&notes)?)
}

/// Leaves the file that keeps version 0.1 away from a directory that it cannot read.
pub(crate) fn close(dir: &StateDir) -> Result<()> {
    if dir.read(NAME)?.is_some_and(|text| text == CLOSED.as_bytes()) {
        return Ok(());
    }
    dir.discard_unfinished(NAME)?;
    dir.save(NAME, CLOSED.as_bytes())
}

fn read(dir: &StateDir) -> Result<Left<File>> {
    #[derive(Deserialize)]
    struct Form {
        version: u32,
    }
    let Some(text) = dir.read(NAME)? else { return Ok(Left::Nothing) };
    let wrong = |error: serde_json::Error| damaged(dir, NAME, Foreign::from(error.to_string()));
    let Form { version } = serde_json::from_slice(&text).map_err(wrong)?;
    if version > 2 {
        return Err(StateProblem::LaterVersion { path: dir.path(NAME), version, known: 2 }.into());
    }
    let file: File = serde_json::from_slice(&text).map_err(wrong)?;
    match (file.version, &file.moved_to) {
        (1, None) => Ok(Left::Kept(file)),
        (2, Some(_)) => Ok(Left::Moved),
        _ => Err(damaged(dir, NAME, "its form and its contents do not match")),
    }
}
