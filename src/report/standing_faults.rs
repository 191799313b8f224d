//! What stays wrong from run to run, in words: what a quiet run tells once and not every time.

use crate::plan::standing_faults::StandingFaults;
use crate::plan::{Plan, Refusal, Verdict};
use crate::report::text::refusal;

/// The standing faults of a plan, and those that these warnings tell of.
pub(crate) fn standing_faults(plan: &Plan, warnings: &[String]) -> StandingFaults {
    let mut found: StandingFaults =
        warnings.iter().map(|warning| (format!("warning {warning}"), warning.clone())).collect();
    if let Some(refusal) = refusal(plan) {
        // That each row of it is refused says nothing more.
        found.insert("limit".to_owned(), refusal);
        return found;
    }
    let standing = plan.rows.iter().filter(|row| matches!(row.outcome.verdict, Verdict::Held | Verdict::Refused));
    found.extend(standing.map(|row| {
        let (chat, verdict) = (row.chat.label(), row.outcome.verdict.name());
        let why = row.outcome.detail.as_deref().map_or_else(String::new, |why| format!(": {why}"));
        (format!("row {}", row.chat.id), format!("{chat} is {verdict}{why}"))
    }));
    found.extend(plan.failed_models.iter().map(|failed| {
        let text = format!("{} did not come up on {}", failed.model, failed.chat);
        (format!("model {}", failed.model), text)
    }));
    found
}

/// Whether a run that came to this has failed by itself, and not only because of what was wrong before it.
pub(crate) fn has_failures(plan: &Plan) -> bool {
    let failed = plan.rows.iter().any(|row| matches!(row.outcome.verdict, Verdict::Failed | Verdict::Unknown));
    failed || matches!(plan.refused, Some(Refusal::OtherPlan { .. } | Refusal::OlderPolicy { .. }))
}
