//! `reconcile owed`: the restarts that are still to be done.

use std::collections::BTreeSet;

use clap::Args;

use crate::apply::{Files, Locked};
use crate::cli::args::PlaceArgs;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::{Opened, open};
use crate::error::Error;
use crate::plan::select::find;
use crate::report::escape::escape;
use crate::report::{counted, time};

#[derive(Clone, Debug, Args)]
pub(super) struct OwedArgs {
    /// Forget the restart that this chat is owed, because it was restarted by hand
    #[arg(long, value_name = "CHAT")]
    forget: Option<String>,
}

pub(super) fn run(place: &PlaceArgs, args: &OwedArgs) -> anyhow::Result<Exit> {
    let Opened { store, now, redaction, .. } = open(place)?;
    let name = |chat: &str| redaction.as_ref().map_or_else(|| chat.to_owned(), |redaction| redaction.chat(chat));
    let Some(word) = args.forget.as_deref() else {
        let ledger = store.ledger()?;
        output::to_stdout(|out| {
            for (chat, debt) in &ledger.owed {
                let since = time(debt.since, &now);
                let attempts = counted(debt.attempts as usize, "attempt");
                write!(out, "  {}   restart owed since {since}, {attempts}", escape(&name(chat)))?;
                match debt.next_try.filter(|_| debt.waits(now.timestamp())) {
                    Some(next) => writeln!(out, ", next try at {}", time(next, &now))?,
                    None => writeln!(out)?,
                }
            }
            match ledger.owed.len() {
                0 => writeln!(out, "No restarts are owed."),
                1 => writeln!(out, "1 restart is owed."),
                many => writeln!(out, "{many} restarts are owed."),
            }
        })?;
        return Ok(Exit::Done);
    };

    let chat = if store.ledger()?.owed.contains_key(word) {
        word.to_owned()
    } else {
        let found = find(&BTreeSet::from([word]), &store.registry()?)?;
        found.get(word).cloned().unwrap_or_else(|| word.to_owned())
    };
    let locked = store.lock(place.lock_timeout, now.timestamp(), &|| false)?;
    let mut owed = false;
    locked.amend(&mut |ledger| {
        owed = ledger.owed.contains_key(&chat);
        ledger.strike(&chat);
    })?;
    if !owed {
        return Err(Error::other(format!("no restart is owed to {}", name(&chat)))
            .with_hint("see what is owed with: reconcile owed")
            .into());
    }
    output::to_stdout(|out| writeln!(out, "Forgot the restart owed to {}.", escape(&name(&chat))))?;
    Ok(Exit::Done)
}
