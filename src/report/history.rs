//! A past run, as people read it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use anstyle::{AnsiColor, Style};
use jiff::Zoned;

use crate::plan::json::{JsonRow, JsonRun};
use crate::plan::{Summary, Verdict};
use crate::redact::Shown;
use crate::report::page::{Cell, Page, TableRow, Width};
use crate::report::text::{WIDEST, colour, time};

/// How much is told of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of the run, with its numbers.
    WholeRun,
    /// Only what the run did for one chat.
    OneChat,
}

/// How past runs are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telling<'a> {
    /// How much is told of each run.
    pub(crate) scope: Scope,
    /// The names of contacts by chat id, as far as they may be shown. The history has none.
    pub(crate) contacts: &'a BTreeMap<String, String>,
    /// The time.
    pub(crate) now: &'a Zoned,
    /// How much room a line has.
    pub(crate) width: Width,
}

/// Writes what a run did, and an empty line after it.
///
/// # Errors
/// Of writing.
pub(crate) fn write(run: &Shown<JsonRun>, telling: Telling, page: &mut Page) -> io::Result<()> {
    let Telling { scope, contacts, now, width } = telling;
    let who = run.by.user.clone().or_else(|| run.by.uid.map(|uid| format!("user {uid}")));
    let who = who.into_iter().chain(run.by.host.clone()).collect::<Vec<_>>().join("@");
    let commit = run.by.policy_commit.as_deref().map(|commit| {
        let modified = if run.by.policy_modified == Some(true) { ", modified" } else { "" };
        format!(" · policy {}{modified}", commit.get(..12).unwrap_or(commit))
    });
    let commit = commit.unwrap_or_default();
    let part = |text: &str| if text.is_empty() { String::new() } else { format!(" · {text}") };
    let (command, who) = (part(run.by.command.as_deref().unwrap_or_default()), part(&who));
    let end = if run.unfinished { " · did not finish" } else { "" };
    let head = format!("{} · {}{command}{who}{commit}{end}", run.run, time(run.at, now));
    page.line(&head, width)?;
    if run.part > 1 {
        page.own("  … what it did for more chats is no longer kept")?;
    }
    let void = run.cancelled.iter().map(|chat| remark(chat, "its owed restart was no longer needed"));
    let completed = run.completed.iter().map(|chat| remark(chat, "its conversation was put back into its entry"));
    let rows: Vec<TableRow> =
        run.changes.iter().map(|change| row(change, contacts)).chain(void).chain(completed).collect();
    page.rows(&rows, width)?;
    if scope == Scope::WholeRun {
        let Summary { changed, restarted, deferred, failed, unknown, .. } = run.summary;
        let failed = failed + unknown;
        page.item(&format!("{changed} changed, {restarted} restarted, {deferred} deferred, {failed} failed"))?;
    }
    page.own("")
}

fn row(row: &JsonRow, contacts: &BTreeMap<String, String>) -> TableRow {
    let label = row.session_name.as_ref().unwrap_or(&row.chat_id);
    let model = |model: &Option<Cow<str>>| model.as_deref().unwrap_or("(none)").to_owned();
    let before = model(&row.before);
    let change = if row.is_edit() {
        let old = Cell::default().and(colour(AnsiColor::Red), before);
        old.and(Style::new(), " → ").and(colour(AnsiColor::Green), model(&row.after))
    } else {
        Cell::plain(before)
    };
    let (mark, style) = match () {
        () if row.outcome != Verdict::Done.name() => ('!', colour(AnsiColor::Red)),
        () if row.is_edit() => ('~', colour(AnsiColor::Yellow)),
        () => ('^', colour(AnsiColor::Cyan)),
    };
    let contact = contacts.get(row.chat_id.as_ref()).map(Cell::plain);
    let contact = if contacts.is_empty() { None } else { Some(contact.unwrap_or(Cell::plain("-"))) };
    let ends = [change, Cell::plain(row.outcome.as_ref())];
    let cells = [Cell::plain(label.as_ref())].into_iter().chain(contact).chain(ends);
    let rule = format!("{}:{} {}", row.because.file, row.because.line, row.because.rule);
    let cells = cells.map(|cell| cell.cut(WIDEST));
    TableRow::new(Cell::default().and(style, mark), cells).remarked(Cell::plain(rule).cut(WIDEST))
}

/// A chat of which something is told in words.
fn remark(chat: &str, what: &str) -> TableRow {
    TableRow::new(Cell::plain(" "), [Cell::plain(chat)]).remarked(Cell::plain(what))
}
