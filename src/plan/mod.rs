//! What a run would do: sorted rows with an id. A plan is a value; `apply` executes it and decides nothing.

mod drift;
mod guard;
pub mod json;
pub mod ledger;
mod policy_diff;
mod predict;
mod redacted;
pub mod select;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::chat::{Chat, Model};
use crate::plan::ledger::Debt;
use crate::policy::Because;
use crate::registry::Site;

pub use drift::{Drift, Goal, drift};
pub use guard::{Expected, Refusal, guard};
pub use policy_diff::between;
pub use predict::predict;

/// One chat that differs from its decision, owes a restart, or is deliberately left alone.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most combinations occur")]
pub struct Row {
    /// The chat.
    pub chat: Chat<'static>,
    /// What the registry says.
    pub before: Option<Model>,
    /// What it should say; `None` where the chat is not managed.
    pub after: Option<Model>,
    /// What decided.
    pub because: Because,
    /// Whether the registry must change.
    pub edit: bool,
    /// Whether the session must be restarted.
    pub restart: bool,
    /// What `restart` was before anybody asked what the session is doing. The limit counts by it, so that liveness has no
    /// part in that.
    pub stale: bool,
    /// What the session runs for certain, if anything.
    pub runs: Option<Model>,
    /// The restart that an earlier run left, with what this one made of it. Whether it is still owed is an effect.
    pub owed: Option<Debt>,
    /// Whether no session runs on its model yet: one is tried before the others.
    pub unproven: bool,
    /// When earlier corrections of this row were found undone.
    pub undone: Vec<Timestamp>,
    /// What the session is doing, as far as it was asked.
    pub presence: Presence,
    /// What became of the row, or is planned.
    pub outcome: Outcome,
    /// What has happened so far.
    pub effects: Effects,
    /// Where the entry stands in the snapshot that was planned on.
    pub site: Site,
}

/// What has happened to a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The registry was changed.
    pub edited: bool,
    /// The session was restarted.
    pub restarted: bool,
    /// A restart is still owed.
    pub owes: bool,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nobody asked, or nobody could tell.
    #[default]
    Unknown,
    /// There is none to restart.
    Stopped,
    /// There is one.
    Running,
    /// It is in the middle of an answer.
    Busy,
    /// It has not ended its first turn: a restart would lose the conversation.
    Young,
}

/// Who writes the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// We do: nobody else owns it.
    #[default]
    Us,
    /// We do, because the daemon that owns it is down. Sessions read the registry when it starts.
    UsMeanwhile,
    /// The daemon that owns it, when we ask it to.
    Daemon,
}

/// What a backend knows of the sessions.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Who writes the registry.
    pub writer: Writer,
    /// Why no restart would change anything, if so.
    pub hold: Option<String>,
    /// The sessions that it knows of, by chat id.
    pub sessions: BTreeMap<String, Session>,
}

/// What a backend knows of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// What it is doing.
    pub presence: Presence,
    /// Whether it works, as far as that can be told.
    pub healthy: bool,
    /// Which run of it this is: another value, another run.
    pub run: Option<String>,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A run would do it.
    Planned,
    /// It was done.
    Done,
    /// Not now; a later run does it.
    Deferred,
    /// It must not be done.
    Refused,
    /// It was tried, and did not work.
    Failed,
    /// It was tried, and nobody can tell.
    Unknown,
    /// It does not converge: something undoes it again and again.
    Held,
    /// It is not ours to do.
    Unmanaged,
}

/// What became of a row, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What.
    pub verdict: Verdict,
    /// Why, where there is more to say. Holds no times: equal inputs give equal reports.
    pub detail: Option<String>,
    /// When it is tried next, of what waits for that.
    pub next_try: Option<Timestamp>,
}

impl Verdict {
    /// Whether something was done for the row, or tried.
    pub fn was_tried(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Unknown)
    }
}

impl Outcome {
    /// An outcome that speaks for itself.
    pub fn plain(verdict: Verdict) -> Self {
        Self { verdict, detail: None, next_try: None }
    }

    /// An outcome with its reason.
    pub fn because(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { verdict, detail: Some(detail.into()), next_try: None }
    }
}

impl Row {
    /// Whether a run would still do something for it.
    pub fn is_planned(&self) -> bool {
        self.outcome.verdict == Verdict::Planned
    }

    /// Whether something was done for it, or tried.
    pub fn has_effects(&self) -> bool {
        self.effects.edited || self.outcome.verdict.was_tried()
    }

    /// Leaves it owing what it owed.
    fn keep_debt(&mut self, debt: &Debt) {
        self.owed = Some(debt.clone());
        self.effects.owes = true;
    }

    /// Whether it counts against the limit: it replaces an existing model, or its change restarts a session. An owed
    /// restart was consented to when its change was.
    pub fn counts(&self) -> bool {
        self.is_planned() && self.edit && (self.before.is_some() || self.stale)
    }
}

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
    /// Who writes the registry.
    pub writer: Writer,
    /// Debts that are void, and why.
    pub cancelled: BTreeMap<String, &'static str>,
    /// Chats whose corrections no longer count: the decision has changed, or the user said so.
    pub forgiven: Vec<String>,
    /// Chats whose record of a change that was not saved yet says nothing any more.
    pub outdated: Vec<String>,
    /// Why nothing of it may be done.
    pub refused: Option<Refusal>,
}

impl Plan {
    /// Whether anything but the ledger has changed, as far as can be told.
    pub fn has_effects(&self) -> bool {
        self.rows.iter().any(Row::has_effects)
    }

    /// Whether anything has changed, of the ledger too, or was tried: what the history tells of.
    pub fn is_eventful(&self) -> bool {
        !self.cancelled.is_empty() || self.has_effects()
    }
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
    /// Rows that nobody can tell of.
    pub unknown: usize,
    /// Rows that do not converge.
    pub held: usize,
    /// Chats that are left alone.
    pub unmanaged: usize,
    /// Sessions without a row.
    pub in_sync: usize,
}

impl Plan {
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

/// The id of the edits among `rows`: neither liveness, nor the rule that decided, nor anything else but the chats and
/// their models, before and after, has a part in it.
fn id(rows: &[Row]) -> String {
    let model = |model: &Option<Model>| model.as_ref().map(ToString::to_string);
    let edits = rows.iter().filter(|row| row.edit);
    id_of(edits.map(|row| (row.chat.id.as_ref(), model(&row.before), model(&row.after))))
}

/// The same of edits that are known by their names only, sorted by chat id.
fn id_of<'a>(edits: impl Iterator<Item = (&'a str, Option<String>, Option<String>)>) -> String {
    let json = serde_json::json!(edits.collect::<Vec<_>>()).to_string();
    Sha256::digest(json.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
