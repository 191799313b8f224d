//! One row of a plan: what differs for one chat, what is to be done about it, and the outcome.

use jiff::Timestamp;

use crate::chat::{Chat, Model};
use crate::plan::ledger::Debt;
use crate::plan::observed::Standing;
use crate::plan::verdict::Verdict;
use crate::policy::Because;
use crate::registry::Position;

/// One chat that differs from its decision, owes a restart, or is deliberately left alone.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most combinations occur")]
pub struct Row {
    /// The chat.
    pub chat: Chat<'static>,
    /// The model that the registry has for it.
    pub before: Option<Model>,
    /// The model that the registry should have; `None` where the chat is not managed.
    pub after: Option<Model>,
    /// The part of the policy that decided.
    pub because: Because,
    /// Whether the registry must be changed.
    pub edit: bool,
    /// Whether the session must be restarted.
    pub restart: bool,
    /// Whether the change would need a restart if the session were running. The limit on changes counts by this, so that it does not
    /// depend on which sessions are running.
    pub stale: bool,
    /// The model that the session certainly runs; `None` where that is not known.
    pub runs: Option<Model>,
    /// Whether the last verified start of the session on the registry's model failed. A later start by something else, such as a
    /// launch, does not count, because it is not verified.
    pub did_not_come_up: bool,
    /// The debt of an earlier run, updated by this run. [`Effects::owes`] says whether it is still owed.
    pub owed: Option<Debt>,
    /// Whether the model is tried on this row's session first. The other rows of the model wait for the result.
    pub canary: bool,
    /// Whether the difference comes from an override of the registry's owner, and no person chose it: the decision was confirmed
    /// before.
    pub imposed: bool,
    /// When earlier corrections of this row were found changed back.
    pub changed_back: Vec<Timestamp>,
    /// What the session is doing, according to the backend.
    pub standing: Standing,
    /// A remark on a side effect of the change, if it has one.
    pub remark: Option<String>,
    /// The outcome so far: [`Verdict::Planned`] before the row is done.
    pub outcome: Outcome,
    /// What has happened so far.
    pub effects: Effects,
    /// The position of the entry in the snapshot that was planned on.
    pub at: Position,
}

/// What has happened to a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Whether the registry was changed.
    pub edited: bool,
    /// Whether the session was restarted.
    pub restarted: bool,
    /// Whether a restart is still owed.
    pub owes: bool,
}

/// The outcome of a row, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The outcome in a word.
    pub verdict: Verdict,
    /// Why, if there is more to say. It has no times in it, so that equal inputs give equal reports.
    pub detail: Option<String>,
    /// When a row that waits is tried next.
    pub next_try: Option<Timestamp>,
}

impl Outcome {
    /// An outcome without a detail.
    pub fn plain(verdict: Verdict) -> Self {
        Self { verdict, detail: None, next_try: None }
    }

    /// An outcome with a detail.
    pub fn because(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { verdict, detail: Some(detail.into()), next_try: None }
    }
}

impl Row {
    /// Whether it has yet to be done.
    pub(crate) fn is_planned(&self) -> bool {
        self.outcome.verdict == Verdict::Planned
    }

    /// Whether something was done for it, or tried.
    pub fn has_effects(&self) -> bool {
        self.effects.edited || self.outcome.verdict.was_tried()
    }

    /// Whether it needs no edit, owes no restart, and is managed.
    pub(super) fn is_idle(&self) -> bool {
        !self.edit && self.owed.is_none() && self.outcome.verdict != Verdict::Unmanaged
    }

    /// Whether a restart of its session was begun and did not succeed. Then the session is restarted even if it is not running: it may
    /// be down because of that restart.
    pub fn was_tried(&self) -> bool {
        self.did_not_come_up || self.owed.as_ref().is_some_and(|debt| debt.began)
    }

    /// Whether it counts against the limit on changes: it replaces a model, or its change restarts a session. An owed restart does not
    /// count, because its change was counted. A decision that an override has replaced does not count, because it was made before.
    pub fn counts(&self) -> bool {
        self.is_planned() && self.edit && !self.imposed && (self.before.is_some() || self.stale)
    }
}
