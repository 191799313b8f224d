//! Unified diffs: of the registry, made around the edits alone, so that its cost follows them and not the registry; and
//! of a policy's file.

use std::io::{self, Write};

use similar::{ChangeTag, TextDiff};

use crate::registry::json::edit::{Splice, splice, spliced};
use crate::report::Report;
use crate::report::escape::{escape, escape_json};

/// Lines of context.
const CONTEXT: usize = 3;

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let text = report.snapshot.text();
    let edited = report.plan.rows.iter().filter(|row| row.edit && (row.is_planned() || row.effects.edited));
    let mut splices: Vec<Splice> =
        edited.filter_map(|row| Some(splice(report.snapshot, &row.site, row.after.as_ref()?))).collect();
    if splices.is_empty() {
        return Ok(());
    }
    splices.sort_by_key(|splice| splice.range.start);
    let name = escape(&report.snapshot.name);
    writeln!(out, "--- {name}\n+++ {name}")?;

    let (mut counted, mut old_line, mut new_line) = (0, 1, 1);
    let mut rest = splices.as_slice();
    while let Some(first) = rest.first() {
        let start = lines_back(text, first.range.start);
        let mut end = lines_on(text, first.range.end);
        let together = rest.iter().take_while(|splice| {
            // In a long line, looking for its ends once is enough.
            let near = splice.range.start < end || lines_back(text, splice.range.start) <= end;
            if near && end < text.len() {
                end = lines_on(text, splice.range.end).max(end);
            }
            near
        });
        let (group, others) = rest.split_at(together.count());
        rest = others;

        let between = text[counted..start].matches('\n').count();
        (old_line, new_line) = (old_line + between, new_line + between);
        counted = end;
        let shifted: Vec<Splice> = group
            .iter()
            .map(|splice| Splice {
                range: splice.range.start - start..splice.range.end - start,
                text: splice.text.clone(),
            })
            .collect();
        let new: String = spliced(&text[start..end], &shifted).collect();
        (old_line, new_line) = hunk(&lines(&text[start..end]), &lines(&new), (old_line, new_line), out)?;
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

/// Writes one hunk, and returns the numbers of the lines after it.
fn hunk(
    old: &[&str],
    new: &[&str],
    (old_line, new_line): (usize, usize),
    out: &mut dyn Write,
) -> io::Result<(usize, usize)> {
    let diff = TextDiff::from_slices(old, new);
    let (old_count, new_count) = (old.len(), new.len());
    writeln!(out, "@@ -{old_line},{old_count} +{new_line},{new_count} @@")?;
    for change in diff.iter_all_changes() {
        let mark = match change.tag() {
            ChangeTag::Equal => ' ',
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        let line = change.value().strip_suffix('\n').unwrap_or(change.value());
        // A carriage return there belongs to the line's end.
        let (line, end) = line.strip_suffix('\r').map_or((line, ""), |line| (line, "\r"));
        writeln!(out, "{mark}{}{end}", tabbed(line))?;
        if !change.value().ends_with('\n') {
            writeln!(out, "\\ No newline at end of file")?;
        }
    }
    Ok((old_line + old_count, new_line + new_count))
}

/// The lines with their ends. A carriage return alone ends none: whoever applies the diff counts line feeds.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Escaped, except for tabs, which lay out many a registry.
fn tabbed(line: &str) -> String {
    let cells: Vec<_> = line.split('\t').map(escape_json).collect();
    cells.join("\t")
}

fn lines_back(text: &str, from: usize) -> usize {
    let mut start = text[..from].rfind('\n').map_or(0, |newline| newline + 1);
    for _ in 0..CONTEXT {
        start = text[..start.saturating_sub(1)].rfind('\n').map_or(0, |newline| newline + 1);
    }
    start
}

fn lines_on(text: &str, from: usize) -> usize {
    let mut end = from;
    for _ in 0..=CONTEXT {
        end = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    }
    end
}
