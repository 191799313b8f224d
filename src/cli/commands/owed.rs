//! `reconcile owed`: the restarts that are still to be done.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::apply::Backend;
use crate::cli::args::PlaceArgs;
use crate::cli::commands::problem::CommandProblem;
use crate::cli::contacts::contacts;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Past, open_past, warn_of_lost_state};
use crate::error::Error;
use crate::foreign::sentence;
use crate::plan::capabilities::TakesEffect;
use crate::plan::json::JsonFailedModel;
use crate::plan::ledger::Note;
use crate::plan::select::find_registered;
use crate::plan::{FailedModel, failed_models};
use crate::report::{Width, counted, failed_model, time};

#[derive(Clone, Debug, Args)]
pub(crate) struct OwedArgs {
    /// Forget the restart that this chat is owed, because it was restarted by hand
    #[arg(long, value_name = "CHAT")]
    forget: Option<String>,

    /// Forget every restart that is owed, because the sessions were restarted by hand
    #[arg(long, conflicts_with = "forget")]
    forget_all: bool,

    /// Output format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = ["text", "json"])]
    format: String,
}

#[derive(Serialize)]
struct Wire<'a> {
    format_version: &'static str,
    owed: Vec<WireDebt>,
    failed_models: Vec<JsonFailedModel<'a>>,
}

#[derive(Serialize)]
struct WireDebt {
    chat_id: String,
    since: Timestamp,
    attempts: u32,
    next_try: Option<Timestamp>,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &OwedArgs) -> anyhow::Result<Exit> {
    let Past { backend, now, names } = open_past(terminal, place)?;
    // Where it may not be read, that is an error, and no warning.
    let ledger = backend.ledger()?;
    warn_of_lost_state(terminal, backend.as_ref())?;
    let now = &now;
    if backend.capabilities().takes_effect() == TakesEffect::AtOnce {
        terminal.note("with this backend a changed model takes effect by itself, so no restart is ever owed");
        if args.forget.is_some() || args.forget_all {
            return Ok(Exit::Done);
        }
    }
    if args.forget_all {
        return forget_all(terminal, place, backend.as_ref(), now.timestamp());
    }
    let Some(word) = args.forget.as_deref() else {
        let shown = |failed: FailedModel| FailedModel { chat: names.of(&failed.chat).raw().to_owned(), ..failed };
        let failed: Vec<FailedModel> = failed_models(&ledger, &[]).into_iter().map(shown).collect();
        let owed = names.named(ledger.owed.iter().map(|(chat, debt)| (chat.as_str(), (chat, debt))));
        if args.format == "json" {
            let owed = owed.into_iter().map(|(name, (_, debt))| WireDebt {
                chat_id: name.raw().to_owned(),
                since: debt.since,
                attempts: debt.attempts,
                next_try: debt.next_try.filter(|_| debt.waits(now.timestamp())),
            });
            let failed_models = failed.iter().map(JsonFailedModel::from).collect();
            let wire = Wire { format_version: "1.0", owed: owed.collect(), failed_models };
            terminal.to_stdout(|page| page.json(&wire))?;
            return Ok(Exit::Done);
        }
        let contacts = contacts(backend.as_ref(), &names, &ledger.owed.keys().map(String::as_str).collect());
        terminal.to_stdout(|page| {
            for (name, (chat, debt)) in &owed {
                let since = time(debt.since, now);
                let attempts = counted(debt.attempts as usize, "attempt");
                let contact = contacts.get(*chat).map(|name| format!("   {name}")).unwrap_or_default();
                let next = debt.next_try.filter(|_| debt.waits(now.timestamp()));
                let next = next.map_or_else(String::new, |next| format!(", next try at {}", time(next, now)));
                page.item(&format!("{}{contact}   restart owed since {since}, {attempts}{next}", name.raw()))?;
            }
            for failed in &failed {
                page.item(&failed_model(failed, now))?;
            }
            match ledger.owed.len() {
                0 => page.own("No restarts are owed."),
                1 => page.own("1 restart is owed."),
                many => page.line(&format!("{many} restarts are owed."), Width::Any),
            }
        })?;
        return Ok(Exit::Done);
    };

    let is_owed = ledger.owed.contains_key(word);
    let chat = if is_owed { word.to_owned() } else { find_registered(word, backend.snapshot()?.as_ref())? };
    let name = names.of(&chat);
    let locked = backend.lock(place.lock_timeout, &|| false)?;
    let is_owed = backend.ledger()?.owed.contains_key(&chat);
    if !is_owed {
        return Err(Error::from(CommandProblem::NotOwed { chat: name }).into());
    }
    let is_still_owed = || backend.ledger().is_ok_and(|ledger| ledger.owed.contains_key(&chat));
    let told = match locked.note(&forgotten(&chat), now.timestamp()) {
        Err(error) if is_still_owed() => return Err(error.into()),
        Err(error) => Err(error),
        Ok(_) => {
            let text = format!("Forgot the restart owed to {}.", name.raw());
            terminal.to_stdout(|page| page.line(&text, Width::Any))
        }
    };
    Ok(match told {
        Ok(()) => Exit::Done,
        Err(error) => terminal.failure_after(&error, sentence!("the restart owed to {} is forgotten", name)),
    })
}

/// What is noted of a session that the user has restarted: it owes nothing, and that it did not come up counts no more.
fn forgotten(chat: &str) -> [Note<'_>; 2] {
    [Note::Settled { chat }, Note::Reset { chat }]
}

fn forget_all(terminal: &Terminal, place: &PlaceArgs, backend: &dyn Backend, now: Timestamp) -> anyhow::Result<Exit> {
    let locked = backend.lock(place.lock_timeout, &|| false)?;
    let owed = backend.ledger()?.owed;
    let notes: Vec<Note> = owed.keys().flat_map(|chat| forgotten(chat)).collect();
    let told = match locked.note(&notes, now) {
        Err(error) if backend.ledger().is_ok_and(|ledger| ledger.owed == owed) => return Err(error.into()),
        Err(error) => Err(error),
        Ok(_) => terminal.to_stdout(|page| match owed.len() {
            0 => page.own("No restarts are owed."),
            count => page.line(&format!("Forgot {}.", counted(count, "owed restart")), Width::Any),
        }),
    };
    Ok(match told {
        Ok(()) => Exit::Done,
        Err(error) if owed.is_empty() => return Err(error.into()),
        Err(error) => terminal.failure_after(&error, "the restarts that were owed are forgotten"),
    })
}
