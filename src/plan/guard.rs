//! Whether a plan may be done at all: the limit on changes, and the plan that was asked for.

use std::collections::BTreeMap;

use crate::chat::Model;
use crate::plan::expected::Models;
use crate::plan::input::Limits;
use crate::plan::{Plan, Refusal};
use crate::policy::Policy;

/// Why `plan` may not be done, if so.
pub fn guard(plan: &Plan, policy: &Policy, limits: Limits) -> Option<Refusal> {
    if let Some(expected) = limits.expected {
        let redacted = expected.redaction.as_ref().map(|redaction| plan.redacted(redaction));
        let shown = redacted.as_ref().unwrap_or(plan);
        let differences = expected.edits.as_ref().map(|edits| differences(edits, shown));
        let is_other = match &differences {
            Some(differences) => !differences.is_empty(),
            // Both are ids of the same edits.
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

fn differences(expected: &BTreeMap<String, Models>, plan: &Plan) -> Vec<String> {
    let name = |model: &Option<_>| Option::as_deref(model).unwrap_or("(none)").to_owned();
    let show = |(before, after): &Models| format!("{} → {}", name(before), name(after));
    let text = |model: &Option<Model>| model.as_ref().map(ToString::to_string);
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
