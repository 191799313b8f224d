//! Unified diffs: of the registry, made around the edits alone, so that its cost follows them and not the registry; and
//! of a policy's file.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

use crate::chat::Model;
use crate::registry::Position;
use crate::report::Report;
use crate::report::escape::{escape, escape_json};
use crate::report::text::colour;

/// Lines of context.
const CONTEXT: usize = 3;

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let edited = report.plan.rows.iter().filter(|row| row.edit && (row.is_planned() || row.effects.edited));
    let edits: Vec<(Position, &Model)> = edited.filter_map(|row| Some((row.at, row.after.as_ref()?))).collect();
    let preview = report.snapshot.preview(&edits).map_err(|error| io::Error::other(error.text()))?;
    let Some(hunks) = preview else { return Ok(()) };
    let mut is_first = true;
    for found in hunks {
        if is_first {
            let name = escape(report.registry);
            writeln!(out, "--- {name}\n+++ {name}")?;
            is_first = false;
        }
        hunk(&lines(found.old), &lines(&found.new), (found.old_line, found.new_line), out)?;
    }
    Ok(())
}

/// Writes what an edit of a policy's file changes, and an empty line after it; nothing where it changes nothing.
///
/// # Errors
/// Those of `out`.
pub fn policy_diff(name: &str, before: &str, after: &str, out: &mut dyn Write) -> io::Result<()> {
    if before == after {
        return Ok(());
    }
    let name = escape(name);
    writeln!(out, "--- {name}\n+++ {name}")?;
    let (before, after) = (lines(before), lines(after));
    for group in TextDiff::from_slices(&before, &after).grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let (old_range, new_range) =
            (first.old_range().start..last.old_range().end, first.new_range().start..last.new_range().end);
        let at = (old_range.start + 1, new_range.start + 1);
        hunk(&before[old_range], &after[new_range], at, out)?;
    }
    writeln!(out)
}

/// Writes one hunk, which begins at these lines.
fn hunk(old: &[&str], new: &[&str], (old_line, new_line): (usize, usize), out: &mut dyn Write) -> io::Result<()> {
    let diff = TextDiff::from_slices(old, new);
    let (old_count, new_count) = (old.len(), new.len());
    writeln!(out, "@@ -{old_line},{old_count} +{new_line},{new_count} @@")?;
    for change in diff.iter_all_changes() {
        let (mark, style) = match change.tag() {
            ChangeTag::Equal => (' ', Style::new()),
            ChangeTag::Delete => ('-', colour(AnsiColor::Red)),
            ChangeTag::Insert => ('+', colour(AnsiColor::Green)),
        };
        let line = change.value().strip_suffix('\n').unwrap_or(change.value());
        // A carriage return there belongs to the line's end.
        let (line, end) = line.strip_suffix('\r').map_or((line, ""), |line| (line, "\r"));
        writeln!(out, "{style}{mark}{}{style:#}{end}", tabbed(line))?;
        if !change.value().ends_with('\n') {
            writeln!(out, "\\ No newline at end of file")?;
        }
    }
    Ok(())
}

/// The lines with their ends. A carriage return alone ends none: a program that applies the diff counts line feeds.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Escaped, except for tabs, which lay out many a registry.
fn tabbed(line: &str) -> String {
    let cells: Vec<_> = line.split('\t').map(escape_json).collect();
    cells.join("\t")
}
