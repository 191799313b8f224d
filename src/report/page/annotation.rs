//! Commands to the runner of a GitHub workflow, which shows them at lines of files.

use std::io;

use crate::report::escape::escape;
use crate::report::page::Page;

/// A command to the runner.
pub(in crate::report) struct Annotation<'t> {
    /// `error`, `warning` or `notice`.
    pub(in crate::report) command: &'static str,
    /// The title above the message.
    pub(in crate::report) title: &'static str,
    /// The part of a file beside which the message is shown.
    pub(in crate::report) span: Option<Span<'t>>,
    /// The lines of the message.
    pub(in crate::report) lines: Vec<String>,
}

/// A part of a line. Lines and columns are counted from 1; the end is the first column that is not meant.
pub(in crate::report) struct Span<'t> {
    pub(in crate::report) file: &'t str,
    pub(in crate::report) line: usize,
    pub(in crate::report) column: usize,
    pub(in crate::report) end_column: usize,
}

impl Page<'_> {
    /// Writes a command, on one line.
    pub(in crate::report) fn annotation(&mut self, annotation: &Annotation) -> io::Result<()> {
        let Annotation { command, title, span, lines } = annotation;
        let span = span.as_ref().map(|Span { file, line, column, end_column }| {
            format!("file={},line={line},col={column},endColumn={end_column},", property(file))
        });
        let lines: Vec<String> = lines.iter().map(|line| data(line)).collect();
        let (span, message) = (span.unwrap_or_default(), lines.join("%0A"));
        writeln!(self.0, "::{command} {span}title={}::{message}", property(title))
    }
}

/// A message, written so that the runner decodes it to this text. Line ends in it are written out, so only ours become `%0A`.
fn data(text: &str) -> String {
    escape(text).replace('%', "%25")
}

/// A property, written so that the runner decodes it to this text.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
