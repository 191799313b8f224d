//! What a command has done, as long as the history does not say so yet. It is remembered with the effect itself, so that the
//! history has a line of it also where the command dies before it can write one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Summary;
use crate::plan::history_lines::{Head, JsonRow, JsonRun, LINE_VERSION};
use crate::plan::verdict::Verdict;

/// What a command has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// What its rows have in common. Missing where it is known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
    /// Rows whose edits are those of the exchange under way, by chat id. They count once that is made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub begun: BTreeMap<String, JsonRow<'static>>,
    /// Rows of which something was done or tried, by chat id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, DraftRow>,
}

/// A row, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftRow {
    /// The row, with what became of it so far.
    #[serde(flatten)]
    pub row: JsonRow<'static>,
    /// Whether the registry was changed for it.
    #[serde(default)]
    pub edited: bool,
}

impl Draft {
    /// Takes what was done since.
    pub fn merge(&mut self, newer: Self) {
        self.head = newer.head.or(self.head.take());
        self.begun.extend(newer.begun);
        for (chat, mut newer) in newer.rows {
            newer.edited |= self.rows.get(&chat).is_some_and(|row| row.edited);
            self.rows.insert(chat, newer);
        }
    }

    /// The exchange under way has ended, and its edits were made.
    pub fn made(&mut self) {
        let made = std::mem::take(&mut self.begun).into_iter();
        self.rows.extend(made.map(|(chat, row)| (chat, DraftRow { row, edited: true })));
    }

    /// The exchange under way has ended, and nothing was changed.
    pub(crate) fn unmade(&mut self) {
        self.begun.clear();
    }

    /// The line of a command that did not get to write one; `None` where it did nothing.
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
