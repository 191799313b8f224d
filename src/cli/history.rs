//! `reconcile history`: what past runs did.

use std::io::{self, Write};

use clap::Args;
use jiff::Zoned;

use crate::apply::Files;
use crate::chat::Chat;
use crate::cli::args::PlaceArgs;
use crate::cli::exit::Exit;
use crate::cli::{Opened, open, output};
use crate::plan::Summary;
use crate::plan::select::find_one;
use crate::plan::wire::{WireRow, WireRun};
use crate::redact::Redaction;
use crate::report::escape::{escape, escape_json};
use crate::report::time;

#[derive(Clone, Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only what was done for this chat
    #[arg(value_name = "CHAT")]
    chat: Option<String>,

    /// How it is written: text, or json, a line for each run
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = ["text", "json"])]
    format: String,
}

pub(super) fn run(place: &PlaceArgs, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let Opened { store, now, redaction, .. } = open(place)?;
    // A chat that is gone still has a history.
    let chat = match &args.chat {
        Some(word) => Some(find_one(word, &store.registry()?)?.unwrap_or_else(|| word.clone())),
        None => None,
    };
    let mut runs = Vec::new();
    for run in store.history()? {
        let mut run = run?;
        run.changes.retain(|row| chat.as_deref().is_none_or(|chat| row.chat_id == chat));
        run.cancelled.retain(|id| chat.as_deref().is_none_or(|chat| id == chat));
        if chat.is_none() || !run.changes.is_empty() || !run.cancelled.is_empty() {
            runs.push(match &redaction {
                Some(redaction) => redacted(run, redaction),
                None => run,
            });
        }
    }
    output::to_stdout(|out| {
        if args.format == "json" {
            return runs.iter().try_for_each(|run| writeln!(out, "{}", escape_json(&serde_json::to_string(run)?)));
        }
        runs.iter().try_for_each(|run| write_run(run, &now, out))?;
        if runs.is_empty() { writeln!(out, "No run has changed anything yet.") } else { Ok(()) }
    })?;
    Ok(Exit::Done)
}

fn write_run(run: &WireRun, now: &Zoned, out: &mut dyn Write) -> io::Result<()> {
    let who = run.by.user.clone().or_else(|| run.by.uid.map(|uid| format!("user {uid}")));
    let who = who.into_iter().chain(run.by.host.clone()).collect::<Vec<_>>().join("@");
    let commit = run.by.policy_commit.as_deref().map(|commit| {
        let modified = if run.by.policy_modified == Some(true) { ", modified" } else { "" };
        format!(" · policy {}{modified}", commit.get(..12).unwrap_or(commit))
    });
    let commit = commit.unwrap_or_default();
    writeln!(out, "{} · {} · {}{}", escape(&run.run), time(run.at, now), escape(&who), escape(&commit))?;
    for row in &run.changes {
        let label = row.session_name.as_ref().unwrap_or(&row.chat_id);
        let model = |model: &Option<std::borrow::Cow<str>>| escape(model.as_deref().unwrap_or("(none)")).into_owned();
        let before = model(&row.before);
        let change = if row.is_edit() { format!("{before} → {}", model(&row.after)) } else { before };
        let rule = format!("{}:{} {}", row.because.file, row.because.line, row.because.rule);
        writeln!(out, "  {}   {change}   {}   {}", escape(label), escape(&row.outcome), escape(&rule))?;
    }
    for chat in &run.cancelled {
        writeln!(out, "  {}   its owed restart was void", escape(chat))?;
    }
    let Summary { changed, restarted, deferred, failed, unknown, .. } = run.summary;
    writeln!(out, "  {changed} changed, {restarted} restarted, {deferred} deferred, {} failed\n", failed + unknown)
}

pub(super) fn redacted(run: WireRun<'static>, redaction: &Redaction) -> WireRun<'static> {
    let cancelled = run.cancelled.iter().map(|chat| redaction.chat(chat).into()).collect();
    let changes = run.changes.into_iter().map(|row| redacted_row(row, redaction)).collect();
    WireRun { changes, cancelled, ..run }
}

fn redacted_row(mut row: WireRow<'static>, redaction: &Redaction) -> WireRow<'static> {
    let chat = Chat { id: row.chat_id.clone(), session_name: row.session_name.clone(), ..Chat::default() };
    let chat = chat.redacted(redaction);
    if row.because.rule.starts_with("chats.") {
        row.because.rule = format!("chats.{:?}", chat.id).into();
    }
    WireRow { chat_id: chat.id, session_name: chat.session_name, ..row }
}
