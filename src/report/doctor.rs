//! What was found on a host, for people and for programs.

use std::io::{self, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::checkup::{Check, Found};
use crate::diagnostic::Diagnostic;
use crate::error::Error;
use crate::report::TextOrJson;
use crate::report::escape::escape;
use crate::report::json::write_json;
use crate::report::text::{counted, pad};

/// Whether chats and people may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// They may.
    Plain,
    /// They may not: of a mistake, its kind and place are told.
    Hidden,
}

#[derive(Serialize)]
struct Wire {
    format_version: &'static str,
    checks: Vec<WireCheck>,
    problems: usize,
    not_checked: usize,
}

#[derive(Serialize)]
struct WireCheck {
    check: &'static str,
    status: &'static str,
    message: String,
    fix: Option<String>,
}

/// Writes what was found.
///
/// # Errors
/// Those of `out`.
pub fn write(checks: &[Check], format: TextOrJson, naming: Naming, out: &mut dyn Write) -> io::Result<()> {
    let checks: Vec<WireCheck> = checks.iter().map(|check| in_words(check, naming)).collect();
    match format {
        TextOrJson::Text => text(&checks, out),
        TextOrJson::Json => {
            let (problems, not_checked) = (count(&checks, PROBLEM), count(&checks, NOT_CHECKED));
            write_json(&Wire { format_version: "1.0", checks, problems, not_checked }, out)
        }
    }
}

const OK: &str = "ok";
const PROBLEM: &str = "problem";
const NOT_CHECKED: &str = "not-checked";

fn in_words(check: &Check, naming: Naming) -> WireCheck {
    let (status, message, fix) = match &check.found {
        Found::Good(what) => (OK, what.clone(), None),
        Found::Unknown(why) => (NOT_CHECKED, why.clone(), None),
        Found::Problem { error, usual_fix } => {
            let (message, fix) = problem(error, naming);
            (PROBLEM, message, Some(fix.unwrap_or_else(|| (*usual_fix).to_owned())))
        }
    };
    WireCheck { check: check.name, status, message, fix }
}

/// What is wrong, and what to do about it where the error says that.
fn problem(error: &Error, naming: Naming) -> (String, Option<String>) {
    match error {
        Error::Invalid(found) => mistakes(found, naming),
        Error::Other { nameless: Some(nameless), .. } if naming == Naming::Hidden => (nameless.clone(), None),
        Error::Other { message, hint, .. } => (message.clone(), hint.clone()),
        error => (error.to_string(), None),
    }
}

/// The first of some mistakes, and how many there are.
fn mistakes(found: &[Diagnostic], naming: Naming) -> (String, Option<String>) {
    let Some(first) = found.first() else { return (counted(0, "mistake"), None) };
    let shown = if naming == Naming::Hidden { first.nameless() } else { first.clone() };
    let place = shown.labels.first().map(|(place, _)| format!("{}:{}:{}: ", place.file, place.line, place.column));
    let more = match found.len() {
        1 => String::new(),
        count => format!("; {} in all", counted(count, "mistake")),
    };
    (format!("{}{}{more}", place.unwrap_or_default(), shown.message), shown.help)
}

fn count(checks: &[WireCheck], status: &str) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

fn text(checks: &[WireCheck], out: &mut dyn Write) -> io::Result<()> {
    let widest =
        |cell: fn(&WireCheck) -> &str| checks.iter().map(|check| cell(check).width()).max().unwrap_or_default();
    let (status, name) = (widest(|check| check.status), widest(|check| check.check));
    for check in checks {
        let (status, name) = (pad(check.status, status), pad(check.check, name));
        writeln!(out, "  {status}   {name}   {}", escape(&check.message))?;
        if let Some(fix) = &check.fix {
            writeln!(out, "  {}   {}   fix: {}", pad("", status.width()), pad("", name.width()), escape(fix))?;
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
    writeln!(out, "\nDoctor: {problems}, {} ok{left}.", count(checks, OK))
}
