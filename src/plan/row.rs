//! One row of a plan: what differs for one chat, what is done about it, and what became of that.

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
    /// Whether the change makes a restart necessary, also where the session is not running. The limit counts by it, so that it
    /// does not depend on which sessions happen to run.
    pub stale: bool,
    /// What the session runs for certain, if anything.
    pub runs: Option<Model>,
    /// Whether a start of its session on what the registry says failed, and none has been seen to succeed since. What has
    /// started it meanwhile, such as a launch, proves nothing.
    pub did_not_come_up: bool,
    /// The restart that an earlier run left, with what this run made of it. Whether it is still owed is an effect.
    pub owed: Option<Debt>,
    /// Whether its model is tried on its session first, because no session is known to work on that. The model's other
    /// rows wait for it.
    pub canary: bool,
    /// Whether an override of the registry's owner wrote the model that the registry says, and the decision was confirmed
    /// before: no person chose the difference.
    pub imposed: bool,
    /// When earlier corrections of this row were found changed back.
    pub changed_back: Vec<Timestamp>,
    /// What the backend found the session doing.
    pub standing: Standing,
    /// What else its change does, if anything.
    pub remark: Option<String>,
    /// What became of the row, or is planned.
    pub outcome: Outcome,
    /// What has happened so far.
    pub effects: Effects,
    /// Where the snapshot that was planned on finds the entry.
    pub at: Position,
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

/// What became of a row, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub verdict: Verdict,
    /// Why, where there is more to say. Holds no times: equal inputs give equal reports.
    pub detail: Option<String>,
    /// When a row that waits is tried next.
    pub next_try: Option<Timestamp>,
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
    pub(crate) fn is_planned(&self) -> bool {
        self.outcome.verdict == Verdict::Planned
    }

    /// Whether something was done for it, or tried.
    pub fn has_effects(&self) -> bool {
        self.effects.edited || self.outcome.verdict.was_tried()
    }

    /// Whether there is nothing to do for it, and nothing to say.
    pub(super) fn is_idle(&self) -> bool {
        !self.edit && self.owed.is_none() && self.outcome.verdict != Verdict::Unmanaged
    }

    /// Whether a restart of its session was begun and did not succeed. Then it is made until one does: that the session is
    /// not running may be what the attempt came to.
    pub fn was_tried(&self) -> bool {
        self.did_not_come_up || self.owed.as_ref().is_some_and(|debt| debt.began)
    }

    /// Whether it counts against the limit: it replaces an existing model, or its change restarts a session. An owed
    /// restart was consented to when its change was, and so was a decision that an override has written over.
    pub fn counts(&self) -> bool {
        self.is_planned() && self.edit && !self.imposed && (self.before.is_some() || self.stale)
    }
}
