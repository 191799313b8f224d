//! The plan that the user consents to, by its id or by the report of a dry run.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::plan::id_of;
use crate::redact::Redaction;

/// The plan that a run is to apply: an id, or the report of a dry run.
#[derive(Clone, Debug)]
pub struct Expected {
    pub(super) id: String,
    pub(super) edits: Option<BTreeMap<String, Models>>,
    /// Whether it is of the whole registry, as far as it says.
    pub(super) complete: bool,
    pub(super) redaction: Option<Redaction>,
}

/// The model of a chat before and after.
pub(super) type Models = (Option<String>, Option<String>);

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
        // The id decides. A row that was taken out of the report, or changed, would be applied all the same.
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

    /// Expects it of a plan whose chats have pseudonyms.
    #[must_use]
    pub fn redacted(self, redaction: Option<Redaction>) -> Self {
        let Some(key) = &redaction else { return self };
        // The report may be one that names chats.
        let chat = |id: String| if Redaction::is_chat(&id) { id } else { key.chat(&id) };
        let edits = self.edits.map(|edits| edits.into_iter().map(|(id, models)| (chat(id), models)).collect());
        Self { edits, redaction, ..self }
    }
}
