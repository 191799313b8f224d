//! What goes to a terminal, a pipe or a report's file.
//!
//! A [`Page`] has no other way in than its methods, and each of them makes safe what it is given, or takes a type that can be
//! made of safe text alone. So a report cannot forget to:
//!
//! ```
//! use reconcile::report::{Page, Width};
//!
//! let mut written = Vec::new();
//! Page::onto(&mut written).line("Cal\u{1b}[2J\n::error::x", Width::Any)?;
//! assert_eq!(String::from_utf8_lossy(&written), "Cal\\u{1b}[2J\\n::error::x\n");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! ```compile_fail,E0599
//! use std::io::Write;
//! use reconcile::report::Page;
//!
//! let mut written: Vec<u8> = Vec::new();
//! writeln!(Page::onto(&mut written), "{}", "Cal\u{1b}[2J").unwrap();
//! ```

mod annotation;
mod comment;
mod hunk;
mod layout;
mod sample;
mod toml;

use std::io::{self, Write};

use serde::Serialize;

use crate::diagnostic::Diagnostic;
use crate::redact::Shown;
use crate::report::diagnostics::render;
use crate::report::escape::{beginning, escape_but_tabs, escape_json, has_plain_lines};
use crate::report::shown::Naming;

pub(super) use annotation::{Annotation, Span};
pub(super) use comment::{Comment, Details, Markup};
pub(super) use hunk::Hunk;
pub use layout::Width;
pub(super) use layout::{Cell, TableRow, cut, fits};
pub(crate) use sample::{Gauge, Label};
pub use toml::{Key, Toml, Value};

/// A place that text is written to, line by line.
pub struct Page<'o>(&'o mut dyn Write);

impl<'o> Page<'o> {
    /// A page that ends up in `out`.
    pub fn onto(out: &'o mut dyn Write) -> Self {
        Self(out)
    }

    /// Writes a line of the program's own words.
    ///
    /// # Errors
    /// Of writing.
    pub fn own(&mut self, line: &'static str) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    /// Writes text whose lines count, such as a manual page or statements of SQL. Its tabs are kept.
    ///
    /// # Errors
    /// Of writing.
    pub fn lines(&mut self, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| writeln!(self.0, "{}", beginning(&escape_but_tabs(line))))
    }

    /// Writes a value as JSON, laid out for people.
    ///
    /// # Errors
    /// Of writing.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.json_text(&serde_json::to_string_pretty(value)?)
    }

    /// Writes a value as a line of JSON.
    ///
    /// # Errors
    /// Of writing.
    pub fn json_line(&mut self, value: &Shown<impl Serialize>) -> io::Result<()> {
        self.json_text(&serde_json::to_string(&**value)?)
    }

    /// Writes text that is JSON already. Line ends are its layout's own: inside strings they are escaped.
    ///
    /// # Errors
    /// Of writing.
    pub fn json_text(&mut self, json: &str) -> io::Result<()> {
        if has_plain_lines(json) {
            return writeln!(self.0, "{}", json.strip_suffix('\n').unwrap_or(json));
        }
        json.lines().try_for_each(|line| writeln!(self.0, "{}", escape_json(line)))
    }

    /// Writes mistakes, and an empty line after them.
    ///
    /// # Errors
    /// Of writing.
    pub fn diagnostics(&mut self, found: &[Diagnostic], naming: Naming) -> io::Result<()> {
        writeln!(self.0, "{}", render(found, naming))
    }
}
