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
    /// Sorted by chat id.
    pub rows: Vec<Row>,
    /// Identifies the edits: the same id, the same edits.
    pub id: String,
    /// Sessions in the registry.
    pub sessions: usize,
    /// Sessions that the run was asked to look at.
    pub selected: usize,
    /// Whether it speaks of the whole registry.
    pub complete: bool,
    /// How its rows are edited.
    pub edits: Edits,
    /// Restarts that were owed and are void, by chat id, and why.
    pub void: BTreeMap<String, Void>,
    /// Chats whose corrections and failed starts no longer count: the decision has changed, or the user asked for another
    /// try.
    pub reset: Vec<String>,
    /// Models on which a session was found to work, and its chat.
    pub working: BTreeMap<Model, String>,
    /// Models that are not used further until they come up on the chat that they were tried on.
    pub failed_models: Vec<FailedModel>,
    /// Chats whose sessions are live and which the registry does not have, in order.
    pub unlisted: Vec<String>,
    /// The names that policy and registry do not share, of a plan for the whole registry.
    pub unshared: Vec<Unshared>,
    /// What the withdrawal of models comes to, in a plan for the whole registry.
    pub withdrawals: Vec<Withdrawal>,
    /// What the backend says of the edits and restarts, where there are any.
    pub remark: Option<Sentence>,
    /// What is to be remembered of what chats were given. Only where the policy keeps what was set by hand.
    pub found: Found,
    /// Chats that keep their model because no run has looked at them before.
    pub unseen: usize,
    /// Why nothing of it may be done.
    pub refused: Option<Refusal>,
}

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
    /// A newer policy has changed the registry since.
    OlderPolicy {
        /// The commit of that one.
        newer: String,
    },
}

/// The numbers of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Registry entries changed, or to be changed.
    pub changed: usize,
    /// Sessions restarted, or to be restarted.
    pub restarted: usize,
    /// Restarts that are owed.
    pub owed: usize,
    /// Rows put off.
    pub deferred: usize,
    /// Rows that must not be done.
    pub refused: usize,
    /// Rows that did not work.
    pub failed: usize,
    /// Rows of which it cannot be told whether they worked.
    pub unknown: usize,
    /// Rows that do not converge.
    pub held: usize,
    /// Chats that are left alone.
    pub unmanaged: usize,
    /// Sessions without a row.
    pub in_sync: usize,
}

impl Plan {
    /// Whether anything but the ledger has changed, as far as can be told.
    pub fn has_effects(&self) -> bool {
        self.rows.iter().any(Row::has_effects)
    }

    /// Whether anything has changed, of the ledger too, or was tried: what the history tells of.
    pub(crate) fn is_eventful(&self) -> bool {
        !self.void.is_empty() || self.has_effects()
    }

    /// Its numbers. `changed`, `restarted` and `owed` are effects and overlap with the others, which together with the
    /// rows done or planned add up to the sessions that were selected.
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

/// Of a plan id, in hexadecimal digits: two plans with one id can be made at will from about 16 digits, and not from 32.
pub(crate) const ID_LENGTH: usize = 32;

/// The id of the edits among `rows`: the chats and their models, before and after, and nothing else. Neither the rule that
/// decided nor what sessions are doing has a part in it.
fn id(rows: &[Row]) -> String {
    let model = |model: &Option<Model>| model.as_ref().map(ToString::to_string);
    let edits = rows.iter().filter(|row| row.edit);
    id_of(edits.map(|row| (row.chat.id.as_ref(), model(&row.before), model(&row.after))))
}

/// The id of edits that are known by their names only, sorted by chat id.
fn id_of<'a>(edits: impl Iterator<Item = (&'a str, Option<String>, Option<String>)>) -> String {
    let json = serde_json::json!(edits.collect::<Vec<_>>()).to_string();
    Sha256::digest(json.as_bytes()).iter().take(ID_LENGTH / 2).map(|byte| format!("{byte:02x}")).collect()
}
