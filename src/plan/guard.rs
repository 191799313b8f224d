//! Whether a plan may be done: it must be the plan that the user named, and stay within the limit on changes.

use crate::plan::input::Limits;
use crate::plan::{EditedModels, ModelChange, Plan, Refusal, edits};
use crate::policy::Policy;
use crate::redact::Redact;

/// Why `plan` may not be done; `None` where it may.
pub fn guard(plan: &Plan, policy: &Policy, limits: Limits) -> Option<Refusal> {
    if let Some(expected) = limits.expected {
        let redacted = expected.redaction.as_ref().map(|redaction| plan.clone().redacted(redaction));
        let shown = redacted.as_ref().unwrap_or(plan);
        let differences = expected.edits.as_ref().map(|edits| differences(edits, shown));
        let is_other = match &differences {
            Some(differences) => !differences.is_empty(),
            // The user may name the id with pseudonyms or the one without.
            None => expected.id != shown.id && expected.id != plan.id,
        };
        if is_other {
            let differences = differences.unwrap_or_default();
            let is_of_some = plan.complete && !expected.complete;
            return Some(Refusal::OtherPlan { expected: expected.id.clone(), differences, is_of_some });
        }
    }
    let changes = plan.rows.iter().filter(|row| row.counts()).count();
    let limit = limits.allow_changes.unwrap_or_else(|| policy.limit(plan.sessions));
    (changes > limit).then_some(Refusal::Limit { changes, limit })
}

/// The differences between the edits of the named plan and those of `plan`, one line for each chat.
fn differences(expected: &EditedModels, plan: &Plan) -> Vec<String> {
    let name = |model: &Option<_>| Option::as_deref(model).unwrap_or("(none)").to_owned();
    let show = |ModelChange { before, after }: &ModelChange| format!("{} → {}", name(before), name(after));
    let now = edits(&plan.rows);
    let gone = expected.iter().filter(|(chat, _)| !now.contains_key(*chat));
    let gone = gone.map(|(chat, models)| format!("- {chat}: {}, no longer planned", show(models)));
    let new = now.iter().filter_map(|(chat, models)| match expected.get(chat) {
        None => Some(format!("+ {chat}: {}, not in that plan", show(models))),
        Some(earlier) if earlier != models => Some(format!("~ {chat}: {}, was {}", show(models), show(earlier))),
        Some(_) => None,
    });
    gone.chain(new).collect()
}
