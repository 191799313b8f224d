//! The plan that the user consents to, by its id or by the report of a dry run.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::chat::Model;
use crate::error::Result;
use crate::plan::problem::PlanProblem;
use crate::plan::{Plan, id_of};
use crate::redact::Redaction;

/// Of a plan id of version 0.1, in hexadecimal digits.
const OLD_ID_LENGTH: usize = 16;

/// The plan that a run is to apply: an id, or the report of a dry run.
#[derive(Clone, Debug)]
pub struct Expected {
    pub(super) id: String,
    /// The rows of a report. They are what is compared then: ids are for people, who cannot compare rows.
    pub(super) edits: Option<BTreeMap<String, Models>>,
    /// Whether it is of the whole registry, as far as it says.
    pub(super) complete: bool,
    pub(super) redaction: Option<Redaction>,
}

/// The model of a chat before and after.
pub(super) type Models = (Option<String>, Option<String>);

impl Expected {
    /// From an id of [`ID_LENGTH`] digits. A shorter one is equal to none.
    ///
    /// [`ID_LENGTH`]: crate::plan::ID_LENGTH
    pub(crate) fn from_id(id: &str) -> Self {
        Self { id: id.to_owned(), edits: None, complete: true, redaction: None }
    }

    /// A plan that was shown.
    pub(crate) fn of_plan(plan: &Plan) -> Self {
        let name = |model: &Option<Model>| model.as_ref().map(ToString::to_string);
        let edits = plan.rows.iter().filter(|row| row.edit);
        let edits = edits.map(|row| (row.chat.id.clone().into_owned(), (name(&row.before), name(&row.after))));
        Self { id: plan.id.clone(), edits: Some(edits.collect()), complete: plan.complete, redaction: None }
    }

    /// From the JSON report of a dry run.
    ///
    /// # Errors
    /// Where it is something else.
    pub(crate) fn from_report(name: &str, json: &str) -> Result<Self> {
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
        let report: Report = serde_json::from_str(json)
            .map_err(|error| PlanProblem::NotAReport { file: name.into(), why: error.to_string().into() })?;
        let edits = report.changes.into_iter().filter(|change| change.edit);
        let edits: BTreeMap<String, Models> =
            edits.map(|change| (change.chat_id, (change.before, change.after))).collect();
        // A file whose rows were taken out or changed is not the plan that was reviewed under that id.
        let id = id_of(edits.iter().map(|(chat, (before, after))| (chat.as_str(), before.clone(), after.clone())));
        if report.plan_id != id && report.plan_id != id[..OLD_ID_LENGTH] {
            return Err(PlanProblem::ReportChanged { file: name.into() }.into());
        }
        Ok(Self { id, edits: Some(edits), complete: report.complete != Some(false), redaction: None })
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
