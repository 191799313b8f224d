//! What is wrong with a policy: for people, for editors, and as annotations of a workflow.

use std::borrow::Cow;
use std::io;

use serde::Serialize;

use crate::diagnostic::{Diagnostic, Level, Place};
use crate::report::counted;
use crate::report::page::{Annotation, Page, Span, Width};
use crate::report::shown::Naming;

/// How mistakes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CheckFormat {
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
pub(crate) struct Check<'a> {
    /// The policy's name, as the user would write it.
    pub(crate) policy: &'a str,
    /// In the order in which they stand in its files.
    pub(crate) diagnostics: &'a [Diagnostic],
    /// Whether what stands there may be told, or only which kind of mistake it is.
    pub(crate) naming: Naming,
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
    /// How many mistakes have this level.
    pub(crate) fn count(&self, level: Level) -> usize {
        self.diagnostics.iter().filter(|found| found.level == level).count()
    }

    /// Writes the mistakes.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn write(&self, format: CheckFormat, page: &mut Page) -> io::Result<()> {
        let told = match self.naming {
            Naming::Plain => Cow::Borrowed(self.diagnostics),
            Naming::Hidden => self.diagnostics.iter().map(Diagnostic::nameless).collect(),
        };
        match format {
            CheckFormat::Text => self.text(page),
            CheckFormat::Json => self.json(&told, page),
            CheckFormat::Github => told.iter().try_for_each(|found| page.annotation(&annotation(found))),
        }
    }

    fn text(&self, page: &mut Page) -> io::Result<()> {
        if !self.diagnostics.is_empty() {
            page.diagnostics(self.diagnostics, self.naming)?;
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
        page.line(&format!("{}: {mistakes}{warnings}{notes}", self.policy), Width::Any)
    }

    fn json(&self, told: &[Diagnostic], page: &mut Page) -> io::Result<()> {
        let wire = Wire {
            format_version: "1.0",
            policy: self.policy,
            diagnostics: told.iter().map(WireDiagnostic::from).collect(),
            errors: self.count(Level::Error),
            warnings: self.count(Level::Warning),
            notes: self.count(Level::Note),
        };
        page.json(&wire)
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

/// The command that shows it.
fn annotation(found: &Diagnostic) -> Annotation<'_> {
    let mut lines = vec![found.message.clone()];
    let span = found.labels.first().map(|(place, label)| {
        lines.extend((!label.is_empty()).then(|| label.clone()));
        let WireSpan { file, line, column, end_column } = place.into();
        Span { file, line, column, end_column }
    });
    lines.extend(found.labels.iter().skip(1).map(|(place, label)| format!("{}:{}: {label}", place.file, place.line)));
    lines.extend(found.help.as_ref().map(|help| format!("help: {help}")));
    let command = match found.level {
        Level::Note => "notice",
        level => name(level),
    };
    Annotation { command, title: found.code, span, lines }
}
