//! What was found on a host, for people and for programs.

use std::io;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::checkup::{Check, Found};
use crate::diagnostic::Diagnostic;
use crate::error::Error;
use crate::report::TextOrJson;
use crate::report::page::{Cell, Page, Width};
use crate::report::shown::{Explained, Naming, shown};
use crate::report::text::{colour, counted, pad};

#[derive(Serialize)]
struct Wire {
    format_version: &'static str,
    checks: Vec<WireCheck>,
    problems: usize,
    warnings: usize,
    not_checked: usize,
}

#[derive(Serialize)]
struct WireCheck {
    check: &'static str,
    status: &'static str,
    code: Option<&'static str>,
    message: String,
    fix: Option<String>,
}

/// What was found, and how it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkup<'a> {
    /// The checks, in the order in which they are shown.
    pub(crate) checks: &'a [Check],
    /// Whether chats and people may be named.
    pub(crate) naming: Naming,
    /// How much room a line of text has.
    pub(crate) width: Width,
}

impl Checkup<'_> {
    /// Writes the checkup.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn write(&self, format: TextOrJson, page: &mut Page) -> io::Result<()> {
        let checks: Vec<WireCheck> = self.checks.iter().map(|check| in_words(check, self.naming)).collect();
        match format {
            TextOrJson::Text => text(&checks, self.width, page),
            TextOrJson::Json => {
                let (problems, warnings) = (count(&checks, PROBLEM), count(&checks, WARNING));
                let not_checked = count(&checks, NOT_CHECKED);
                page.json(&Wire { format_version: "1.2", checks, problems, warnings, not_checked })
            }
        }
    }
}

const OK: &str = "ok";
const PROBLEM: &str = "problem";
const WARNING: &str = "warning";
const NOT_CHECKED: &str = "not-checked";

fn in_words(check: &Check, naming: Naming) -> WireCheck {
    let (status, code, message, fix) = match &check.found {
        Found::Good(what) => (OK, None, shown(what, naming), None),
        Found::Unknown(why) => (NOT_CHECKED, None, shown(why, naming), None),
        Found::Warning(found) => {
            let Explained { message, hint } = mistakes(std::slice::from_ref(found), naming);
            (WARNING, Some(found.code), message, Some(hint.unwrap_or_else(|| "run: reconcile check".to_owned())))
        }
        Found::Problem { error, usual_fix } => {
            let Explained { message, hint } = problem(error, naming);
            (PROBLEM, Some(error.code()), message, Some(hint.unwrap_or_else(|| (*usual_fix).to_owned())))
        }
    };
    WireCheck { check: check.name, status, code, message, fix }
}

/// What is wrong, and what to do about it where the error says that.
fn problem(error: &Error, naming: Naming) -> Explained {
    match error {
        Error::Invalid(found) => mistakes(found, naming),
        error => Explained::of(error, naming),
    }
}

/// The first of some mistakes, and how many there are.
fn mistakes(found: &[Diagnostic], naming: Naming) -> Explained {
    let Some(first) = found.first() else { return Explained { message: counted(0, "mistake"), hint: None } };
    let shown = if naming == Naming::Hidden { first.nameless() } else { first.clone() };
    let place = shown.labels.first().map(|(place, _)| format!("{}:{}:{}: ", place.file, place.line, place.column));
    let more = match found.len() {
        1 => String::new(),
        count => format!("; {} in all", counted(count, "mistake")),
    };
    let message = format!("{}{}{more}", place.unwrap_or_default(), shown.message);
    Explained { message, hint: shown.help }
}

fn count(checks: &[WireCheck], status: &str) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

fn text(checks: &[WireCheck], width: Width, page: &mut Page) -> io::Result<()> {
    let widest =
        |cell: fn(&WireCheck) -> &str| checks.iter().map(|check| cell(check).width()).max().unwrap_or_default();
    let (status, name) = (widest(|check| check.status), widest(|check| check.check));
    // Two spaces before the status, and three after it and after the name.
    let indent = 2 + status + 3 + name + 3;
    for check in checks {
        let colour = match check.status {
            OK => colour(AnsiColor::Green),
            PROBLEM => colour(AnsiColor::Red),
            WARNING => colour(AnsiColor::Yellow),
            _ => colour(AnsiColor::Cyan),
        };
        let start = Cell::plain("  ").and(colour, check.status);
        let gap = " ".repeat(status - check.status.width() + 3);
        let start = start.and(Style::new(), format!("{gap}{}   ", pad(check.check, name)));
        page.after(&start, indent, &check.message, width)?;
        if let Some(fix) = &check.fix {
            let start = Cell::plain(" ".repeat(indent));
            page.after(&start, indent, &format!("fix: {fix}"), width)?;
        }
    }
    let left = match count(checks, NOT_CHECKED) {
        0 => String::new(),
        left => format!(", {left} not checked"),
    };
    let problems = match count(checks, PROBLEM) {
        0 => "no problems".to_owned(),
        problems => counted(problems, "problem"),
    };
    let warnings = match count(checks, WARNING) {
        0 => String::new(),
        warnings => format!(", {}", counted(warnings, "warning")),
    };
    page.own("")?;
    page.line(&format!("Doctor: {problems}{warnings}, {} ok{left}.", count(checks, OK)), Width::Any)
}
