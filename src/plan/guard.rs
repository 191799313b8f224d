//! Whether a plan may be done at all: the limit on changes, and the plan that was asked for.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::plan::{Goal, Plan, id_of};
use crate::redact::Redaction;

/// Without a limit in the policy: this many rows…
const LEAST: usize = 10;
/// …or this share of all sessions, in percent, where that is more.
const SHARE: usize = 30;

/// Why nothing of a plan may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It changes too much.
    Limit {
        /// Rows that count.
        changes: usize,
        /// How many may.
        limit: usize,
    },
    /// It is not the plan that was named.
    OtherPlan {
        /// The id that was named.
        expected: String,
        /// What differs, a line each; empty where only the id is known.
        differences: Vec<String>,
        /// Whether that plan is of some chats alone, and this one of all.
        is_of_some: bool,
    },
}

/// The plan that a run is to apply: an id, or the report of a dry run.
#[derive(Clone, Debug)]
pub struct Expected {
    id: String,
    edits: Option<BTreeMap<String, Models>>,
    /// Whether it is of the whole registry, as far as it says.
    complete: bool,
    redaction: Option<Redaction>,
}

type Models = (Option<String>, Option<String>);

impl Expected {
    /// From an id, as a report shows it; `None` where the text is none.
    pub fn from_id(text: &str) -> Option<Self> {
        let is_id = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self { id: text.to_owned(), edits: None, complete: true, redaction: None })
    }

    /// From the JSON report of a dry run.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn from_report(name: &str, json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Report {
            plan_id: String,
            complete: Option<bool>,
            changes: Vec<Change>,
        }
        #[derive(Deserialize)]
        struct Change {
            chat_id: String,
            before: Option<String>,
            after: Option<String>,
            edit: bool,
        }
        let report: Report = serde_json::from_str(json).map_err(|error| {
            Error::other(format!("{name} is not the report of a dry run: {error}"))
                .with_hint("write one with: reconcile --dry-run --output json=FILE")
                .or_nameless(format!("{name} is not the report of a dry run"))
        })?;
        let edits = report.changes.into_iter().filter(|change| change.edit);
        let edits: BTreeMap<String, Models> =
            edits.map(|change| (change.chat_id, (change.before, change.after))).collect();
        // The id decides. Rows that somebody took out, or changed, would be applied all the same.
        let says = id_of(edits.iter().map(|(chat, (before, after))| (chat.as_str(), before.clone(), after.clone())));
        if says != report.plan_id {
            return Err(Error::other(format!("{name} was changed: its rows are not those of its plan id"))
                .with_hint(
                    "a plan is applied as it is or not at all; write one with: reconcile --dry-run --output json=FILE",
                )
                .or_nameless("the report of the dry run was changed: its rows are not those of its plan id"));
        }
        Ok(Self { id: report.plan_id, edits: Some(edits), complete: report.complete != Some(false), redaction: None })
    }

    /// The same, of a plan whose chats have pseudonyms.
    #[must_use]
    pub fn redacted(self, redaction: Option<Redaction>) -> Self {
        let Some(key) = &redaction else { return self };
        // The report may be one that names chats.
        let chat = |id: String| if Redaction::is_chat(&id) { id } else { key.chat(&id) };
        let edits = self.edits.map(|edits| edits.into_iter().map(|(id, models)| (chat(id), models)).collect());
        Self { edits, redaction, ..self }
    }
}

/// Why `plan` may not be done, if so.
pub fn guard(plan: &Plan, goal: &Goal) -> Option<Refusal> {
    if let Some(expected) = goal.expected {
        let redacted = expected.redaction.as_ref().map(|redaction| plan.redacted(redaction));
        let shown = redacted.as_ref().unwrap_or(plan);
        // Both are ids of the same edits.
        if expected.id != shown.id && expected.id != plan.id {
            let differences = expected.edits.as_ref().map_or_else(Vec::new, |edits| differences(edits, shown));
            let is_of_some = plan.complete && !expected.complete;
            return Some(Refusal::OtherPlan { expected: expected.id.clone(), differences, is_of_some });
        }
    }
    let changes = plan.rows.iter().filter(|row| row.counts()).count();
    let default = || LEAST.max(plan.sessions.saturating_mul(SHARE) / 100);
    let limit = goal.allow_changes.or(goal.policy.max_changes).unwrap_or_else(default);
    (changes > limit).then_some(Refusal::Limit { changes, limit })
}

fn differences(expected: &BTreeMap<String, Models>, plan: &Plan) -> Vec<String> {
    let name = |model: &Option<_>| Option::as_deref(model).unwrap_or("(none)").to_owned();
    let show = |(before, after): &Models| format!("{} → {}", name(before), name(after));
    let text = |model: &Option<crate::chat::Model>| model.as_ref().map(ToString::to_string);
    let edits = plan.rows.iter().filter(|row| row.edit);
    let now: BTreeMap<&str, Models> =
        edits.map(|row| (row.chat.id.as_ref(), (text(&row.before), text(&row.after)))).collect();
    let gone = expected.iter().filter(|(chat, _)| !now.contains_key(chat.as_str()));
    let gone = gone.map(|(chat, models)| format!("- {chat}: {}, no longer planned", show(models)));
    let new = now.iter().filter_map(|(chat, models)| match expected.get(*chat) {
        None => Some(format!("+ {chat}: {}, not in that plan", show(models))),
        Some(earlier) if earlier != models => Some(format!("~ {chat}: {}, was {}", show(models), show(earlier))),
        Some(_) => None,
    });
    gone.chain(new).collect()
}
