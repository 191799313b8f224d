//! A row as JSON, for the report and the history.

use serde::Serialize;

use crate::plan::{Row, Verdict};

/// The JSON form of a row. Minor versions only add fields.
#[derive(Debug, Serialize)]
pub struct WireRow<'a> {
    chat_id: &'a str,
    session_name: Option<&'a str>,
    tier: Option<&'a str>,
    before: Option<&'a str>,
    after: Option<&'a str>,
    because: WireBecause<'a>,
    edit: bool,
    restart: bool,
    owed: bool,
    outcome: &'static str,
    detail: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct WireBecause<'a> {
    rule: &'a str,
    file: &'a str,
    line: usize,
}

impl<'a> From<&'a Row> for WireRow<'a> {
    fn from(row: &'a Row) -> Self {
        Self {
            chat_id: &row.chat.id,
            session_name: row.chat.session_name.as_deref(),
            tier: row.chat.tier.as_deref(),
            before: row.before.as_ref().map(crate::chat::Model::as_str),
            after: row.after.as_ref().map(crate::chat::Model::as_str),
            because: WireBecause { rule: &row.because.rule, file: &row.because.at.file, line: row.because.at.line },
            edit: row.edit,
            restart: row.restart,
            owed: row.owed.is_some() || row.effects.owes,
            outcome: row.outcome.verdict.name(),
            detail: row.outcome.detail.as_deref(),
        }
    }
}

impl WireRow<'_> {
    /// The same without its detail, which may quote what a command said: the history keeps no message text.
    #[must_use]
    pub fn without_detail(self) -> Self {
        Self { detail: None, ..self }
    }
}

impl Verdict {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Done => "done",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Held => "held",
            Self::Unmanaged => "unmanaged",
        }
    }
}
