//! Drafts of lines of the history. A draft is noted together with the effect that it is about, so that the history gets the line also
//! where the command dies before it can write one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Summary;
use crate::plan::history_lines::{Head, JsonRow, JsonRun, LINE_VERSION};
use crate::plan::verdict::Verdict;

/// What a command has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// What all rows have in common. A draft that is merged into an earlier one need not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
    /// The rows that the exchange under way edits, by chat id. They become part of `rows` once the exchange is made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub begun: BTreeMap<String, JsonRow<'static>>,
    /// The rows for which something was done or tried, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, DraftRow>,
}

/// A row for which something was done or tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftRow {
    /// The row with its outcome so far.
    #[serde(flatten)]
    pub row: JsonRow<'static>,
    /// Whether the registry was changed for it.
    #[serde(default)]
    pub edited: bool,
}

impl Draft {
    /// Adds what was done since.
    pub fn merge(&mut self, newer: Self) {
        self.head = newer.head.or(self.head.take());
        self.begun.extend(newer.begun);
        for (chat, mut newer) in newer.rows {
            newer.edited |= self.rows.get(&chat).is_some_and(|row| row.edited);
            self.rows.insert(chat, newer);
        }
    }

    /// Records that the exchange under way was made.
    pub fn made(&mut self) {
        let made = std::mem::take(&mut self.begun).into_iter();
        self.rows.extend(made.map(|(chat, row)| (chat, DraftRow { row, edited: true })));
    }

    /// Records that the exchange under way was not made.
    pub(crate) fn unmade(&mut self) {
        self.begun.clear();
    }

    /// The line of a command that died before it could write one; `None` where it had done nothing.
    pub(crate) fn into_run(self, name: &str) -> Option<JsonRun<'static>> {
        let Head { at, by, plan_id } = self.head?;
        let tried = [Verdict::Done, Verdict::Failed, Verdict::Unknown].map(Verdict::name);
        let was_tried = |row: &DraftRow| row.edited || tried.contains(&row.row.outcome.as_ref());
        let rows: Vec<DraftRow> = self.rows.into_values().filter(was_tried).collect();
        let outcome = |verdict: Verdict| rows.iter().filter(|row| row.row.outcome == verdict.name()).count();
        let summary = Summary {
            changed: rows.iter().filter(|row| row.edited).count(),
            restarted: rows.iter().filter(|row| row.row.restart && row.row.outcome == Verdict::Done.name()).count(),
            owed: rows.iter().filter(|row| row.row.owed).count(),
            deferred: outcome(Verdict::Deferred),
            failed: outcome(Verdict::Failed),
            unknown: outcome(Verdict::Unknown),
            ..Summary::default()
        };
        let changes: Vec<JsonRow> = rows.into_iter().map(|row| row.row).collect();
        (!changes.is_empty()).then(|| JsonRun {
            version: LINE_VERSION,
            run: name.to_owned().into(),
            at,
            by,
            plan_id: plan_id.into(),
            changes,
            cancelled: Vec::new(),
            conversations: BTreeMap::new(),
            completed: Vec::new(),
            summary,
            unfinished: true,
            part: 1,
            more: false,
        })
    }
}
