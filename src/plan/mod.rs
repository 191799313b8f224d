//! What a run would do: sorted rows with an id. A plan is a value; `apply` executes it and decides nothing.

mod backoff;
pub mod capabilities;
mod drift;
mod expected;
mod guard;
pub mod history_lines;
mod input;
pub mod json;
pub mod last_applied;
pub mod ledger;
pub mod listing;
mod note;
pub mod observed;
mod policy_diff;
mod predict;
mod problem;
mod redacted;
mod rollout;
mod row;
pub mod select;
pub mod standing_faults;
pub mod trial;
pub mod untold;
mod verdict;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::chat::Model;
use crate::foreign::Sentence;
use crate::names::Unshared;
use crate::plan::last_applied::Found;
use crate::plan::observed::{Edits, Void};
use crate::redact::hex;
use crate::withdrawn::Withdrawal;

pub use drift::{Drift, Reading, drift};
pub use expected::Expected;
pub use guard::guard;
pub use input::{Limits, PlanInput};
pub use policy_diff::{Side, policy_diff};
pub use predict::predict;
pub use rollout::{FailedModel, failed_models};
pub use row::{Effects, Outcome, Row};
pub use verdict::Verdict;

/// What one run would do, or did.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The chats that differ, owe a restart, or are deliberately left alone, sorted by chat id.
    pub rows: Vec<Row>,
    /// Identifies the edits: plans with equal edits have equal ids.
    pub id: String,
    /// How many sessions the registry has.
    pub sessions: usize,
    /// How many sessions the run was asked to look at.
    pub selected: usize,
    /// Whether the run was asked to look at the whole registry.
    pub complete: bool,
    /// Whether the rows are edited together or each with its own request.
    pub edits: Edits,
    /// Restarts that were owed and are void, by chat id, and why.
    pub void: BTreeMap<String, Void>,
    /// Chats whose corrections and failed starts no longer count: the decision has changed, or the user asked for another
    /// try.
    pub reset: Vec<String>,
    /// Models on which a session was found to work, each with the chat of that session.
    pub working: BTreeMap<Model, String>,
    /// Models that are used for no other chat until they come up on the chat on which they were tried.
    pub failed_models: Vec<FailedModel>,
    /// Chats with a live session that the registry does not have, in order.
    pub unlisted: Vec<String>,
    /// The names that policy and registry do not share. Empty in a plan for some chats only.
    pub unshared: Vec<Unshared>,
    /// The withdrawals of models that affect chats. Empty in a plan for some chats only.
    pub withdrawals: Vec<Withdrawal>,
    /// A remark of the backend on the edits and restarts, where there are any.
    pub remark: Option<Sentence>,
    /// What is to be remembered of the models that chats were given. Only with `existing = "keep-manual"`.
    pub found: Found,
    /// How many chats keep their model because no run has looked at them before. Only with `existing = "keep-manual"`.
    pub unseen: usize,
    /// Why nothing of the plan may be done; `None` where it may.
    pub refused: Option<Refusal>,
}

/// Why nothing of a plan may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has more changes than are allowed.
    Limit {
        /// How many rows count against the limit.
        changes: usize,
        /// How many may.
        limit: usize,
    },
    /// It is not the plan that the user named.
    OtherPlan {
        /// The id that was named.
        expected: String,
        /// What differs, a line each; empty where only the id is known.
        differences: Vec<String>,
        /// Whether the named plan is for some chats only, and this one for all.
        is_of_some: bool,
    },
    /// A run by a newer commit of the policy has changed the registry.
    OlderPolicy {
        /// The id of that commit.
        newer: String,
    },
}

/// The numbers of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Entries of the registry that were changed, or are to be changed.
    pub changed: usize,
    /// Sessions that were restarted, or are to be restarted.
    pub restarted: usize,
    /// Restarts that are owed.
    pub owed: usize,
    /// Rows that were left to a later run.
    pub deferred: usize,
    /// Rows that must not be done.
    pub refused: usize,
    /// Rows that were tried and did not work.
    pub failed: usize,
    /// Rows that were tried with an unknown result.
    pub unknown: usize,
    /// Rows that are left alone because something keeps changing them back.
    pub held: usize,
    /// Chats that the policy or the backend leaves alone.
    pub unmanaged: usize,
    /// Selected sessions without a row.
    pub in_sync: usize,
}

impl Plan {
    /// Whether the registry or a session was changed, or may have been.
    pub fn has_effects(&self) -> bool {
        self.rows.iter().any(Row::has_effects)
    }

    /// Whether the history gets a line: the registry, a session or a debt was changed, or a change was tried.
    pub(crate) fn is_eventful(&self) -> bool {
        !self.void.is_empty() || self.has_effects()
    }

    /// Its numbers. `changed`, `restarted` and `owed` count effects. The others count outcomes: together with the rows that are done
    /// or planned, they add up to the sessions that were selected.
    pub fn summary(&self) -> Summary {
        let verdict = |wanted| self.rows.iter().filter(|row| row.outcome.verdict == wanted).count();
        let effects = |effect: fn(&Row) -> bool| self.rows.iter().filter(|row| effect(row)).count();
        Summary {
            changed: effects(|row| row.effects.edited || (row.is_planned() && row.edit)),
            restarted: effects(|row| row.effects.restarted || (row.is_planned() && row.restart)),
            owed: effects(|row| row.effects.owes),
            deferred: verdict(Verdict::Deferred),
            refused: verdict(Verdict::Refused),
            failed: verdict(Verdict::Failed),
            unknown: verdict(Verdict::Unknown),
            held: verdict(Verdict::Held),
            unmanaged: verdict(Verdict::Unmanaged),
            in_sync: self.selected.saturating_sub(self.rows.len()),
        }
    }
}

/// The length of a plan id, in hexadecimal digits. Two plans with one id of 16 digits can be found by trial, but not with 32.
pub(crate) const ID_LENGTH: usize = 32;

/// The model of a chat before and after an edit, by name; `None` for no model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelChange {
    before: Option<String>,
    after: Option<String>,
}

/// The edits of a plan, by chat id.
type EditedModels = BTreeMap<String, ModelChange>;

/// The edits among these rows.
fn edits(rows: &[Row]) -> EditedModels {
    let name = |model: &Option<Model>| model.as_ref().map(ToString::to_string);
    let edited = rows.iter().filter(|row| row.edit);
    edited
        .map(|row| (row.chat.id.to_string(), ModelChange { before: name(&row.before), after: name(&row.after) }))
        .collect()
}

/// The id of the edits among these rows. It depends on the chats and their models before and after. It does not depend on the rules
/// that decided, nor on what sessions are doing.
fn id(rows: &[Row]) -> String {
    id_of(&edits(rows))
}

/// The id of these edits.
fn id_of(edits: &EditedModels) -> String {
    let rows: Vec<_> = edits.iter().map(|(chat, models)| (chat, &models.before, &models.after)).collect();
    let digest = Sha256::digest(serde_json::json!(rows).to_string().as_bytes());
    hex(&digest[..ID_LENGTH / 2])
}
