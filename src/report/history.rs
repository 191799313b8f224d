//! A past run, as people read it.

use std::borrow::Cow;
use std::io::{self, Write};

use jiff::Zoned;

use crate::plan::Summary;
use crate::plan::json::JsonRun;
use crate::report::escape::escape;
use crate::report::text::time;

/// Writes what a run did, and an empty line after it. `whole`: whether that is all of it, and its numbers are told.
///
/// # Errors
/// Those of `out`.
pub fn write(run: &JsonRun, whole: bool, now: &Zoned, out: &mut dyn Write) -> io::Result<()> {
    let who = run.by.user.clone().or_else(|| run.by.uid.map(|uid| format!("user {uid}")));
    let who = who.into_iter().chain(run.by.host.clone()).collect::<Vec<_>>().join("@");
    let commit = run.by.policy_commit.as_deref().map(|commit| {
        let modified = if run.by.policy_modified == Some(true) { ", modified" } else { "" };
        format!(" · policy {}{modified}", commit.get(..12).unwrap_or(commit))
    });
    let commit = commit.unwrap_or_default();
    let part = |text: &str| if text.is_empty() { String::new() } else { format!(" · {}", escape(text)) };
    let (command, who) = (part(run.by.command.as_deref().unwrap_or_default()), part(&who));
    let end = if run.unfinished { " · did not get to its end" } else { "" };
    writeln!(out, "{} · {}{command}{who}{}{end}", escape(&run.run), time(run.at, now), escape(&commit))?;
    if run.part > 1 {
        writeln!(out, "  … what it did for more chats is no longer kept")?;
    }
    for row in &run.changes {
        let label = row.session_name.as_ref().unwrap_or(&row.chat_id);
        let model = |model: &Option<Cow<str>>| escape(model.as_deref().unwrap_or("(none)")).into_owned();
        let before = model(&row.before);
        let change = if row.is_edit() { format!("{before} → {}", model(&row.after)) } else { before };
        let rule = format!("{}:{} {}", row.because.file, row.because.line, row.because.rule);
        writeln!(out, "  {}   {change}   {}   {}", escape(label), escape(&row.outcome), escape(&rule))?;
    }
    for chat in &run.cancelled {
        writeln!(out, "  {}   its owed restart was void", escape(chat))?;
    }
    for chat in &run.completed {
        writeln!(out, "  {}   its conversation was put back into its entry", escape(chat))?;
    }
    if whole {
        let Summary { changed, restarted, deferred, failed, unknown, .. } = run.summary;
        writeln!(out, "  {changed} changed, {restarted} restarted, {deferred} deferred, {} failed", failed + unknown)?;
    }
    writeln!(out)
}
