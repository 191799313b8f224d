//! `reconcile history`: what past runs did.

use clap::Args;

use crate::apply::Backend;
use crate::cli::args::{Moment, PlaceArgs, past};
use crate::cli::contacts::contacts;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::cli::workspace::{Past, open_past};
use crate::error::Result;
use crate::plan::json::JsonRun;
use crate::plan::select::find_one;
use crate::redact::Shown;
use crate::report::history::{Scope, Telling, write};

#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only what was done for this chat
    #[arg(value_name = "CHAT")]
    chat: Option<String>,

    /// Only the N newest runs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Only runs since then: 2026-12-31, 2026-12-31T18:00 (in this host's time zone), with an offset, or a duration
    /// before now: 7d
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Moment>,

    /// Output format: text, or json with a line for each run
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = ["text", "json"])]
    format: String,
}

pub(crate) fn run(terminal: &Terminal, place: &PlaceArgs, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let Past { backend, now, names } = open_past(terminal, place)?;
    let chat = args.chat.as_ref().map(|word| chat_of(word, backend.as_ref())).transpose()?;
    let since = args.since.map(|moment| moment.before(&now)).transpose()?;
    let mut runs = Vec::new();
    for run in backend.history()? {
        if args.limit.is_some_and(|limit| runs.len() >= limit) {
            break;
        }
        let mut run = run?;
        if since.as_ref().is_some_and(|since| run.at < since.timestamp()) {
            continue;
        }
        if let Some(chat) = &chat {
            keep_one(&mut run, chat);
        }
        if chat.is_none() || tells_of_a_chat(&run) {
            runs.push(Shown::under(names.redaction(), run));
        }
    }
    terminal.to_stdout(|page| {
        if args.format == "json" {
            return runs.iter().try_for_each(|run| page.json_line(run));
        }
        let scope = if chat.is_some() { Scope::OneChat } else { Scope::WholeRun };
        let chats = runs.iter().flat_map(|run| &run.changes).map(|row| row.chat_id.as_ref()).collect();
        let contacts = &contacts(backend.as_ref(), &names, &chats);
        let telling = Telling { scope, contacts, now: &now, width: terminal.width() };
        runs.iter().try_for_each(|run| write(run, telling, page))?;
        match &args.chat {
            _ if !runs.is_empty() => Ok(()),
            _ if args.since.is_some() || args.limit.is_some() => page.own("No such run has changed anything."),
            None => page.own("No run has changed anything yet."),
            Some(_) => page.own("No run has changed that chat."),
        }
    })?;
    Ok(Exit::Done)
}

/// The chat that a word stands for. One that the history tells of by its id is not looked for in the registry, which may lie
/// with a program that is down; and a chat that is gone still has a history.
fn chat_of(word: &str, backend: &dyn Backend) -> Result<String> {
    for run in backend.history()? {
        let mut run = run?;
        keep_one(&mut run, word);
        if tells_of_a_chat(&run) {
            return Ok(word.to_owned());
        }
    }
    Ok(find_one(word, backend.snapshot()?.as_ref())?.unwrap_or_else(|| word.to_owned()))
}

/// Leaves of a run what it did for one chat.
fn keep_one(run: &mut JsonRun, chat: &str) {
    run.changes.retain(|row| row.chat_id == chat);
    run.cancelled.retain(|id| id == chat);
    run.completed.retain(|id| id == chat);
    run.conversations.retain(|id, _| id == chat);
}

fn tells_of_a_chat(run: &JsonRun) -> bool {
    !run.changes.is_empty() || !run.cancelled.is_empty() || !run.completed.is_empty()
}
