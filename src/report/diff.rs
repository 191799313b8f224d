//! Unified diffs: of the registry, made around the edits alone, so that its cost follows them and not the registry; and
//! of a policy's file.

use std::io;

use similar::TextDiff;

use crate::chat::Model;
use crate::registry::Position;
use crate::report::Report;
use crate::report::page::{Hunk, Page};

/// Lines of context.
const CONTEXT: usize = 3;

pub(super) fn write(report: &Report, page: &mut Page) -> io::Result<()> {
    let edited = report.plan.rows.iter().filter(|row| row.edit && (row.is_planned() || row.effects.edited));
    let edits: Vec<(Position, &Model)> = edited.filter_map(|row| Some((row.at, row.after.as_ref()?))).collect();
    let preview = report.snapshot.preview(&edits).map_err(|error| io::Error::other(error.text()))?;
    let Some(hunks) = preview else { return Ok(()) };
    let mut is_first = true;
    for found in hunks {
        if is_first {
            page.begin_diff(report.registry)?;
            is_first = false;
        }
        let (old, new) = (&lines(found.old), &lines(&found.new));
        page.hunk(&Hunk { old, new, old_line: found.old_line, new_line: found.new_line })?;
    }
    Ok(())
}

/// Writes what an edit of a policy's file changes, and an empty line after it; nothing where it changes nothing.
///
/// # Errors
/// Of writing.
pub(crate) fn policy_diff(name: &str, before: &str, after: &str, page: &mut Page) -> io::Result<()> {
    if before == after {
        return Ok(());
    }
    page.begin_diff(name)?;
    let (before, after) = (lines(before), lines(after));
    for group in TextDiff::from_slices(&before, &after).grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let (old, new) = (first.old_range().start..last.old_range().end, first.new_range().start..last.new_range().end);
        let (old_line, new_line) = (old.start + 1, new.start + 1);
        page.hunk(&Hunk { old: &before[old], new: &after[new], old_line, new_line })?;
    }
    page.own("")
}

/// The lines with their ends. A carriage return alone ends none: a program that applies the diff counts line feeds.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}
