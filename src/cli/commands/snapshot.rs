//! `reconcile snapshot --redact`: a registry that continuous integration may see.

use crate::cli::args::PlaceArgs;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Opened, open_plain};
use crate::error::Error;
use crate::plan::last_applied::{Hint, Origin};
use crate::plan::ledger::Ledger;
use crate::registry::redacted::redacted;
use crate::registry::{Entry, Snapshot};
use crate::report::escape::escape_json;

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs) -> anyhow::Result<Exit> {
    if !place.redact {
        terminal.error("a snapshot is always redacted", Some("say: reconcile snapshot --redact"));
        return Ok(Exit::Usage);
    }
    let Opened { policy, registry, warnings, .. } = open_plain(place)?;
    terminal.diagnostics(&warnings);
    if registry.redacted_with()?.is_some() {
        return Err(Error::other(format!("{} is a redacted snapshot already", registry.file().display()))
            .with_hint("make one of the registry itself")
            .into());
    }
    let (redaction, made) = if let Some(redaction) = place.redaction_key()? {
        (redaction, None)
    } else {
        // No key is made for a registry that cannot be read.
        registry.snapshot()?.each(&mut |_| {})?;
        registry.redaction_key_or_new(place.lock_timeout)?
    };
    let ledger = if policy.existing.keeps_manual() { registry.kept()?.ledger } else { Ledger::default() };
    let by_hand = |entry: &Entry| ledger.origin(&policy, entry, &mut Hint::default()).map(Origin::is_by_hand);
    let shown = registry.snapshot().and_then(|snapshot| redacted(&snapshot, &redaction, &by_hand)).and_then(|json| {
        terminal.to_stdout(|out| json.lines().try_for_each(|line| writeln!(out, "{}", escape_json(line))))
    });
    match (shown, made) {
        (Ok(()), _) => Ok(Exit::Done),
        (Err(error), None) => Err(error.into()),
        (Err(error), Some(key)) => Ok(terminal.failure_after(error, &format!("the key {} was made", key.display()))),
    }
}
