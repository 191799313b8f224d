//! The plan that a run may apply: an id, or the report of a dry run, that the user has named.

use serde::Deserialize;

use crate::error::Result;
use crate::plan::problem::PlanProblem;
use crate::plan::{EditedModels, ModelChange, Plan, edits, id_of};
use crate::redact::Redaction;

/// The length of a plan id of version 0.1, in hexadecimal digits.
const OLD_ID_LENGTH: usize = 16;

/// The plan that a run may apply.
#[derive(Clone, Debug)]
pub struct Expected {
    pub(super) id: String,
    /// The edits of a report, or of a plan that was shown; `None` where only the id is known. They are compared instead of the ids:
    /// an id is for users, who cannot compare all edits.
    pub(super) edits: Option<EditedModels>,
    /// Whether the plan is for the whole registry. An id does not say, and counts as such a plan.
    pub(super) complete: bool,
    /// What makes the pseudonyms in the named plan, if it has pseudonyms.
    pub(super) redaction: Option<Redaction>,
}

impl Expected {
    /// The plan with this id of [`ID_LENGTH`] digits. No plan has a shorter id.
    ///
    /// [`ID_LENGTH`]: crate::plan::ID_LENGTH
    pub(crate) fn from_id(id: &str) -> Self {
        Self { id: id.to_owned(), edits: None, complete: true, redaction: None }
    }

    /// This plan, which was shown.
    pub(crate) fn of_plan(plan: &Plan) -> Self {
        Self { id: plan.id.clone(), edits: Some(edits(&plan.rows)), complete: plan.complete, redaction: None }
    }

    /// The plan of a JSON report. Messages call the report `name`.
    ///
    /// # Errors
    /// Where the text is not the report of a dry run, or its rows do not match its plan id.
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
        let edits = edits.map(|change| {
            let Change { chat_id, before, after, .. } = change;
            (chat_id, ModelChange { before, after })
        });
        let edits: EditedModels = edits.collect();
        // If rows of the file were removed or changed, it is not the plan that was reviewed under that id.
        let id = id_of(&edits);
        if report.plan_id != id && report.plan_id != id[..OLD_ID_LENGTH] {
            return Err(PlanProblem::ReportChanged { file: name.into() }.into());
        }
        Ok(Self { id, edits: Some(edits), complete: report.complete != Some(false), redaction: None })
    }

    /// This plan with the pseudonyms of `redaction`, to be compared with a plan that has them.
    #[must_use]
    pub fn redacted(self, redaction: Option<Redaction>) -> Self {
        let Some(key) = &redaction else { return self };
        // The report may have real chat ids.
        let chat = |id: String| if Redaction::is_chat(&id) { id } else { key.chat(&id) };
        let edits = self.edits.map(|edits| edits.into_iter().map(|(id, models)| (chat(id), models)).collect());
        Self { edits, redaction, ..self }
    }
}
