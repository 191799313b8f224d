//! What a backend commits together, and what comes of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::chat::Model;
use crate::error::Error;
use crate::plan::Outcome;
use crate::plan::ledger::{Ledger, Note};
use crate::registry::Position;

/// Changes that are committed together.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The edits, in the order of chat ids.
    pub changes: Vec<Change<'a>>,
    /// Notes that are added to the ledger with the edits, or alone if there are no edits.
    pub notes: Vec<Note<'a>>,
    /// The chats whose debts are void once the edits are made. Each owes a restart in the ledger that was read.
    pub void: Vec<&'a str>,
    /// The time of the run.
    pub now: Timestamp,
}

impl<'a> Batch<'a> {
    /// This batch with the identities of the sessions' present starts, by chat id, in the debts that it will make.
    #[must_use]
    pub(crate) fn identified(mut self, identities: &'a BTreeMap<String, String>) -> Self {
        for change in &mut self.changes {
            let identity = identities.get(change.chat).map(String::as_str);
            change.owes = change.owes.map(|owes| Owes { identity, ..owes });
        }
        self
    }
}

impl Batch<'_> {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.notes.is_empty() && self.void.is_empty()
    }

    /// Whether a debt is gone that the plan was made with: a launch has started that session meanwhile, on the model that the
    /// registry had.
    pub fn is_stale(&self, now: &Ledger) -> bool {
        let planned_on =
            self.changes.iter().filter(|change| change.owes.is_some_and(|owes| owes.planned_on == PlannedOn::Debt));
        let counted_on = planned_on.map(|change| change.chat).chain(self.void.iter().copied());
        counted_on.into_iter().any(|chat| !now.owed.contains_key(chat))
    }

    /// The notes to be saved before the edits are made: those of the batch, and the restarts that the edits will owe.
    pub(crate) fn notes_before(&self) -> Vec<Note<'_>> {
        let mut notes = self.notes.clone();
        for change in &self.changes {
            let chat = change.chat;
            notes.extend(change.owes.map(|Owes { ran, identity, .. }| Note::Owes { chat, ran, identity }));
        }
        notes
    }

    /// The notes to be saved after the edits were made: void debts are settled.
    pub(crate) fn notes_after(&self) -> Vec<Note<'_>> {
        self.void.iter().map(|chat| Note::Settled { chat }).collect()
    }
}

/// One edit of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The chat.
    pub chat: &'a str,
    /// The position of its entry in the snapshot that was planned on.
    pub at: Position,
    /// The model that the entry gets; `None` removes the member that an earlier change added for a first model.
    pub after: Option<&'a Model>,
    /// The restart that will be owed for it, if any.
    pub owes: Option<Owes<'a>>,
}

/// The restart that a change will owe.
#[derive(Clone, Copy, Debug)]
pub struct Owes<'a> {
    /// The model that the session runs, where that is known.
    pub ran: Option<&'a Model>,
    /// The identity of the session's present start. A backend that can tell starts apart sets it right before the commit.
    pub identity: Option<&'a str>,
    /// Whether the chat owed a restart already when the plan was made.
    pub planned_on: PlannedOn,
}

/// What a chat owed when the plan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedOn {
    /// Nothing.
    NoDebt,
    /// A restart. If it is owed no longer, a launch has started the session meanwhile, and the plan is stale.
    Debt,
}

/// The result of a commit.
#[derive(Debug)]
pub enum Committed {
    /// Nothing has happened, because the registry or a debt is not what the plan was made with.
    Stale,
    /// Nothing has happened, because some changes cannot be made: the outcomes of their rows, by chat id. The others
    /// can be committed without them.
    NotTaken(BTreeMap<String, Outcome>),
    /// Nothing has happened, because the registry cannot be changed for now: the outcome of all rows with an edit.
    Blocked(Outcome),
    /// The changes were made.
    Done {
        /// What went wrong after the effect. Void debts are not settled then.
        error: Option<Error>,
    },
}
