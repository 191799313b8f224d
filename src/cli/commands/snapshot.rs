//! `reconcile snapshot --redact`: a registry that continuous integration may see.

use std::path::Path;

use crate::backend::Probe;
use crate::cli::args::PlaceArgs;
use crate::cli::commands::problem::CommandProblem;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::open_plain;
use crate::error::Error;
use crate::foreign::sentence;
use crate::plan::last_applied::{Hint, Origin};
use crate::plan::ledger::Ledger;
use crate::registry::Entry;
use crate::registry::redacted::redacted;

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs) -> anyhow::Result<Exit> {
    if !place.redact {
        terminal.refused("a snapshot is always redacted", "run: reconcile snapshot --redact");
        return Ok(Exit::Usage);
    }
    let opened = open_plain(place)?;
    terminal.diagnostics(&opened.warnings);
    if opened.home.redacted_with()?.is_some() {
        return Err(Error::from(CommandProblem::AlreadyRedacted { registry: opened.home.name().into() }).into());
    }
    let backend = opened.backend(Probe::Nothing)?;
    let snapshot = backend.snapshot()?;
    let (redaction, made) = if let Some(redaction) = place.redaction_key()? {
        (redaction, None)
    } else {
        // No key is made for a registry that cannot be read.
        snapshot.each(&mut |_| {})?;
        backend.redaction_key_or_new(place.lock_timeout)?
    };
    let policy = &opened.policy;
    let redaction = redaction.telling(policy.tier_names());
    let ledger = if policy.existing.keeps_manual() { backend.ledger()? } else { Ledger::default() };
    let by_hand = |entry: &Entry| ledger.origin(policy, entry, &mut Hint::default()).map(Origin::is_by_hand);
    let shown = redacted(snapshot.as_ref(), &redaction, &by_hand)
        .and_then(|json| terminal.to_stdout(|page| page.json_text(&json)));
    match (shown, made) {
        (Ok(()), _) => Ok(Exit::Done),
        (Err(error), None) => Err(error.into()),
        (Err(error), Some(key)) => {
            let directory = key.parent().unwrap_or(Path::new("."));
            Ok(terminal.failure_after(&error, sentence!("the key redact.key was made in {}", directory)))
        }
    }
}
