//! The parts of a unified diff.

use std::borrow::Cow;
use std::io;

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

use crate::report::escape::{escape, escape_json};
use crate::report::page::Page;

/// Lines that change, with those around them. Each has its end.
pub(in crate::report) struct Hunk<'t> {
    pub(in crate::report) old: &'t [&'t str],
    pub(in crate::report) new: &'t [&'t str],
    /// At which line of the old text it begins.
    pub(in crate::report) old_line: usize,
    /// At which line of the new text it begins.
    pub(in crate::report) new_line: usize,
}

impl Page<'_> {
    /// Writes of which file the hunks after it are.
    pub(in crate::report) fn begin_diff(&mut self, name: &str) -> io::Result<()> {
        let name = escape(name);
        writeln!(self.0, "--- {name}\n+++ {name}")
    }

    /// Writes a hunk.
    pub(in crate::report) fn hunk(&mut self, hunk: &Hunk) -> io::Result<()> {
        let Hunk { old, new, old_line, new_line } = *hunk;
        let diff = TextDiff::from_slices(old, new);
        writeln!(self.0, "@@ -{old_line},{} +{new_line},{} @@", old.len(), new.len())?;
        for change in diff.iter_all_changes() {
            self.changed(change.tag(), change.value())?;
        }
        Ok(())
    }

    fn changed(&mut self, tag: ChangeTag, whole: &str) -> io::Result<()> {
        let (mark, style) = match tag {
            ChangeTag::Equal => (' ', Style::new()),
            ChangeTag::Delete => ('-', Style::new().fg_color(Some(AnsiColor::Red.into()))),
            ChangeTag::Insert => ('+', Style::new().fg_color(Some(AnsiColor::Green.into()))),
        };
        let line = whole.strip_suffix('\n').unwrap_or(whole);
        // A carriage return there belongs to the line's end.
        let (line, end) = line.strip_suffix('\r').map_or((line, ""), |line| (line, "\r"));
        let line = if tag == ChangeTag::Equal { after_blank(line) } else { line.into() };
        writeln!(self.0, "{style}{mark}{}{style:#}{end}", tabbed(&line))?;
        if !whole.ends_with('\n') {
            writeln!(self.0, "\\ No newline at end of file")?;
        }
        Ok(())
    }
}

/// A line behind the blank that marks it as unchanged: workflow runners skip blanks before they look for a command.
fn after_blank(line: &str) -> Cow<'_, str> {
    let blanks = line.len() - line.trim_start().len();
    match line.get(blanks..).and_then(|rest| rest.strip_prefix("::")) {
        Some(rest) => Cow::Owned(format!("{}\\u003a:{rest}", &line[..blanks])),
        None => Cow::Borrowed(line),
    }
}

/// Escaped, except for tabs, which lay out many a registry.
fn tabbed(line: &str) -> String {
    let cells: Vec<_> = line.split('\t').map(escape_json).collect();
    cells.join("\t")
}
