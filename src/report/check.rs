//! What is wrong with a policy: for people, for editors, and as annotations of a workflow.

use std::io::{self, Write};

use serde::Serialize;

use crate::diagnostic::{Diagnostic, Level, Place};
use crate::report::counted;
use crate::report::diagnostics::render;
use crate::report::escape::escape;
use crate::report::json::write_json;
use crate::report::layout::{Width, write_text};

/// How mistakes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckFormat {
    /// For people at a terminal.
    #[default]
    Text,
    /// For editors; stable.
    Json,
    /// Commands to the runner of a GitHub workflow, which shows them at their lines.
    Github,
}

/// A policy, and what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// The policy's name, as the user would write it.
    pub policy: &'a str,
    /// In the order in which they stand in its files.
    pub diagnostics: &'a [Diagnostic],
}

#[derive(Serialize)]
struct Wire<'a> {
    format_version: &'static str,
    policy: &'a str,
    diagnostics: Vec<WireDiagnostic<'a>>,
    errors: usize,
    warnings: usize,
    notes: usize,
}

#[derive(Serialize)]
struct WireDiagnostic<'a> {
    level: &'static str,
    code: &'static str,
    message: &'a str,
    #[serde(flatten)]
    span: Option<WireSpan<'a>>,
    label: Option<&'a str>,
    help: Option<&'a str>,
    related: Vec<WireRelated<'a>>,
}

/// Lines and columns are counted from 1, columns in characters; the end is the first that is not meant.
#[derive(Serialize)]
struct WireSpan<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    end_column: usize,
}

#[derive(Serialize)]
struct WireRelated<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
}

impl Check<'_> {
    /// How many there are of this level.
    pub fn count(&self, level: Level) -> usize {
        self.diagnostics.iter().filter(|found| found.level == level).count()
    }

    /// Writes them.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, format: CheckFormat, out: &mut dyn Write) -> io::Result<()> {
        match format {
            CheckFormat::Text => self.text(out),
            CheckFormat::Json => self.json(out),
            CheckFormat::Github => self.diagnostics.iter().try_for_each(|found| writeln!(out, "{}", annotation(found))),
        }
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.diagnostics.is_empty() {
            writeln!(out, "{}", render(self.diagnostics))?;
        }
        let mistakes = match self.count(Level::Error) {
            0 => "no mistakes".to_owned(),
            errors => counted(errors, "mistake"),
        };
        let warnings = match self.count(Level::Warning) {
            0 => String::new(),
            warnings => format!(", {}", counted(warnings, "warning")),
        };
        let notes = match self.count(Level::Note) {
            0 => String::new(),
            notes => format!(", {}", counted(notes, "note")),
        };
        write_text(&format!("{}: {mistakes}{warnings}{notes}", self.policy), Width::Any, out)
    }

    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let wire = Wire {
            format_version: "1.0",
            policy: self.policy,
            diagnostics: self.diagnostics.iter().map(WireDiagnostic::from).collect(),
            errors: self.count(Level::Error),
            warnings: self.count(Level::Warning),
            notes: self.count(Level::Note),
        };
        write_json(&wire, out)
    }
}

impl<'a> From<&'a Diagnostic> for WireDiagnostic<'a> {
    fn from(found: &'a Diagnostic) -> Self {
        let first = found.labels.first();
        let related = found.labels.iter().skip(1).map(|(place, message)| WireRelated {
            file: &place.file,
            line: place.line,
            column: place.column,
            message,
        });
        Self {
            level: name(found.level),
            code: found.code,
            message: &found.message,
            span: first.map(|(place, _)| place.into()),
            label: first.map(|(_, label)| label.as_str()).filter(|label| !label.is_empty()),
            help: found.advice(),
            related: related.collect(),
        }
    }
}

impl<'a> From<&'a Place> for WireSpan<'a> {
    fn from(place: &'a Place) -> Self {
        let marked = place.excerpt.get(place.caret.clone()).unwrap_or_default();
        let end_column = place.column + marked.chars().count();
        Self { file: &place.file, line: place.line, column: place.column, end_column }
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    }
}

/// One command, on one line.
fn annotation(found: &Diagnostic) -> String {
    let mut properties = Vec::new();
    let mut lines = vec![found.message.clone()];
    if let Some((place, label)) = found.labels.first() {
        let WireSpan { file, line, column, end_column } = place.into();
        properties.push(format!("file={}", property(file)));
        properties.push(format!("line={line},col={column},endColumn={end_column}"));
        lines.extend((!label.is_empty()).then(|| label.clone()));
    }
    properties.push(format!("title={}", property(found.code)));
    lines.extend(found.labels.iter().skip(1).map(|(place, label)| format!("{}:{}: {label}", place.file, place.line)));
    lines.extend(found.help.as_ref().map(|help| format!("help: {help}")));
    let message: Vec<String> = lines.iter().map(|line| data(line)).collect();
    let command = match found.level {
        Level::Note => "notice",
        level => name(level),
    };
    format!("::{command} {}::{}", properties.join(","), message.join("%0A"))
}

/// What the runner decodes in a message. Line ends in it are written out, so only ours become `%0A`.
fn data(text: &str) -> String {
    escape(text).replace('%', "%25")
}

/// What it decodes in a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
