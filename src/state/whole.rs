//! Reads the state of runs without changing it. Before the first run there is no directory, and the state is empty.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::plan::json::JsonRun;
use crate::redact::Redaction;
use crate::state::dir::StateDir;
use crate::state::kept::Kept;
use crate::state::problem::StateProblem;
use crate::state::{history, key, last_applied, ledger};

/// What runs remember. `dir` is `None` before the first run.
///
/// # Errors
/// Where it is damaged or cannot be read. It is then not taken to be empty.
pub(crate) fn kept(dir: Option<&StateDir>) -> Result<Kept> {
    let Some(dir) = dir else { return Ok(Kept::default()) };
    history::check(dir)?;
    let mut kept = ledger::read(dir)?;
    kept.ledger.last_applied = Arc::new(last_applied::read(dir)?);
    Ok(kept)
}

/// The lines of the history, newest first. Runs that died before they could append their lines come before all others.
///
/// # Errors
/// Where the ledger cannot be read; the iterator, where a part of the history cannot.
pub(crate) fn history(dir: Option<StateDir>) -> Result<impl Iterator<Item = Result<JsonRun<'static>>> + use<>> {
    let mut untold = Vec::new();
    if let Some(dir) = &dir {
        let told = history::told(dir)?;
        let drafts = ledger::read(dir)?.ledger.unrecorded.into_iter().rev();
        let drafts = drafts.filter(|(name, _)| !told.contains(name));
        untold.extend(drafts.filter_map(|(name, draft)| draft.into_run(&name)).map(Ok));
    }
    Ok(untold.into_iter().chain(dir.into_iter().flat_map(history::newest_first)))
}

/// The key for redacting chats. `path` is that of the directory, which need not exist.
///
/// # Errors
/// Where there is none, or it cannot be read.
pub(crate) fn redaction_key(dir: Option<&StateDir>, path: &Path) -> Result<Redaction> {
    dir.map(key::read).transpose()?.flatten().ok_or_else(|| StateProblem::NoKey { path: path.join(key::KEY) }.into())
}
