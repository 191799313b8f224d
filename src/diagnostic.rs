//! A mistake, a warning or a note about a file, and its place there. `report::diagnostics` renders it.

use std::ops::Range;
use std::string::FromUtf8Error;

/// At most this many characters of a line are kept before a caret, in it, and after it.
const CONTEXT: usize = 100;

/// How serious a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file cannot be used.
    Error,
    /// The file can be used, but is probably not what was meant.
    Warning,
    /// The file is right, but could say more.
    Note,
}

/// One mistake, warning or note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How serious it is.
    pub level: Level,
    /// A stable name of this kind of diagnostic, such as `unknown-key`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Places, each with what is written under its caret. The first place is the one to fix; the others explain it.
    pub labels: Vec<(Place, String)>,
    /// What to do about it.
    pub help: Option<String>,
    /// What to do about it, with names of chats and people. It replaces `help` in reports that may show names.
    pub private_help: Option<String>,
}

impl Diagnostic {
    /// An error at one place.
    pub fn error(code: &'static str, message: impl Into<String>, place: Place, label: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            code,
            message: message.into(),
            labels: vec![(place, label.into())],
            help: None,
            private_help: None,
        }
    }

    /// The error for a file that is not UTF-8. `what` is the subject of the message, such as `the registry`.
    pub(crate) fn not_utf8(what: &str, file: &str, found: &FromUtf8Error) -> Self {
        let at = found.utf8_error().valid_up_to();
        let place = Place::new(file, &String::from_utf8_lossy(found.as_bytes()), at..at + 1);
        Self::error("not-utf8", format!("{what} is not UTF-8"), place, "the first byte that is not")
    }

    /// A warning at one place.
    pub fn warning(code: &'static str, message: impl Into<String>, place: Place, label: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(code, message, place, label) }
    }

    /// A note at one place.
    pub fn note(code: &'static str, message: impl Into<String>, place: Place, label: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::error(code, message, place, label) }
    }

    /// Adds a place that explains the diagnostic.
    #[must_use]
    pub fn and(mut self, place: Place, label: impl Into<String>) -> Self {
        self.labels.push((place, label.into()));
        self
    }

    /// Sets the advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the advice that names chats or people.
    #[must_use]
    pub(crate) fn private_help(mut self, help: impl Into<String>) -> Self {
        self.private_help = Some(help.into());
        self
    }

    /// What to do about it, with names where there is such advice.
    pub fn advice(&self) -> Option<&str> {
        self.private_help.as_deref().or(self.help.as_deref())
    }

    /// The code and the first place alone, without any text of the file. For reports that may not show names.
    #[must_use]
    pub fn nameless(&self) -> Self {
        let blank = |place: &Place| Place { excerpt: String::new(), caret: 0..0, cut: 0, ..place.clone() };
        let labels = self.labels.iter().take(1).map(|(place, _)| (blank(place), String::new()));
        Self {
            level: self.level,
            code: self.code,
            message: self.code.to_owned(),
            labels: labels.collect(),
            help: None,
            private_help: None,
        }
    }

    /// What diagnostics are sorted by: file, line and column of the first place, then the code.
    pub fn order(&self) -> (Option<(&str, usize, usize)>, &'static str) {
        let place = self.labels.first().map(|(place, _)| (place.file.as_str(), place.line, place.column));
        (place, self.code)
    }
}

/// Replaces a line that may hold a password, because messages end up in logs.
const UNSHOWN: &str = "(not shown: it may hold a password)";

/// Whether a text looks like the connection string of a database with a password in it, as keywords or as a URI.
pub(crate) fn may_hold_password(text: &str) -> bool {
    let has_login = |rest: &str| rest.split_once('@').is_some_and(|(login, _)| login.contains(':'));
    text.contains("password") || text.split("://").skip(1).any(has_login)
}

/// A range of characters in one line of a file. It has a copy of the line, so that it outlives the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the file, as messages show it.
    pub file: String,
    /// The number of the line, counted from 1.
    pub line: usize,
    /// The number of the first character in its line, counted from 1.
    pub column: usize,
    /// The line without its line end. Of a long line, only the part near the caret.
    pub excerpt: String,
    /// The range of the excerpt to be marked, in bytes, on character boundaries.
    pub caret: Range<usize>,
    /// How many characters of the line were cut off before the excerpt.
    pub cut: usize,
}

impl Place {
    /// The place of `span`, a range of bytes, in `text`. A range that goes beyond the end of its line or of the text, or begins
    /// or ends within a character, is narrowed.
    pub fn new(file: &str, text: &str, span: Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = text[line_start..line_end].strip_suffix('\r').unwrap_or(&text[line_start..line_end]);
        let from = (start - line_start).min(line.len());
        let to = floor_boundary(line, span.end.saturating_sub(line_start)).max(from);

        let before = line[..from].char_indices().rev().nth(CONTEXT - 1).map_or(0, |(index, _)| index);
        let marked = line[from..to].char_indices().nth(CONTEXT).map_or(to, |(index, _)| from + index);
        let after = line[marked..].char_indices().nth(CONTEXT).map_or(line.len(), |(index, _)| marked + index);
        let place = Self {
            file: file.to_owned(),
            line: text[..line_start].matches('\n').count() + 1,
            column: line[..from].chars().count() + 1,
            excerpt: line[before..after].to_owned(),
            caret: from - before..marked - before,
            cut: line[..before].chars().count(),
        };
        if may_hold_password(line) { Self { excerpt: UNSHOWN.to_owned(), caret: 0..0, cut: 0, ..place } } else { place }
    }

    /// The place of one byte, by line and column as parsers count them: both from 1, the column in bytes.
    pub(crate) fn at_line(file: &str, text: &str, line: usize, column: usize) -> Self {
        let line_start = match line {
            0 | 1 => 0,
            _ => text.match_indices('\n').nth(line - 2).map_or(text.len(), |(index, _)| index + 1),
        };
        let at = line_start + column.saturating_sub(1);
        Self::new(file, text, at..at.saturating_add(1))
    }
}

/// The last character boundary at or before `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}
