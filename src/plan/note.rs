//! The facts that are noted in the ledger.

use crate::chat::Model;
use crate::plan::history_lines::{JsonRow, Record};
use crate::plan::trial::Blame;

/// One fact to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note<'a> {
    /// The chat's entry is about to be changed, and its session then runs another model than the registry says.
    Owes {
        /// The chat.
        chat: &'a str,
        /// The model that its session runs, where that is known.
        ran: Option<&'a Model>,
        /// The identity of the session's present start, where the backend can tell starts apart.
        identity: Option<&'a str>,
    },
    /// A restart of the chat's session is about to be tried.
    Begun {
        /// The chat.
        chat: &'a str,
        /// The debt that the restart is to pay.
        begin: Begin<'a>,
    },
    /// The restart was tried and failed. Each failure makes the wait for the next try longer.
    Failed {
        /// The chat.
        chat: &'a str,
    },
    /// An attempt has ended without an effect on the debt.
    Unchanged {
        /// The chat.
        chat: &'a str,
    },
    /// Nothing is owed any more: the session was restarted, needed no restart, or the debt is void.
    Settled {
        /// The chat.
        chat: &'a str,
    },
    /// The change was read back.
    Confirmed {
        /// The chat.
        chat: &'a str,
        /// The model that was set.
        model: &'a Model,
    },
    /// A change that was confirmed when it was committed was not found when it was read back: that it is changed back does not count.
    NotConfirmed {
        /// The chat.
        chat: &'a str,
    },
    /// A model is about to be written into the chat's entry, or was. Only with `existing = "keep-manual"`.
    Wrote {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
        /// The model that the entry had before.
        before: Option<&'a Model>,
    },
    /// The chat's entry was seen to have the model that was written.
    ReadBack {
        /// The chat.
        chat: &'a str,
    },
    /// A confirmed correction was found changed back.
    ChangedBack {
        /// The chat.
        chat: &'a str,
        /// What is done about it.
        then: Then,
    },
    /// A model that no session is known to work on is about to be tried on the chat's session.
    Trying {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
    },
    /// The chat's session came up on a model, or was found to run on it.
    Worked {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
    },
    /// The chat's session did not come up on a model.
    DidNotComeUp {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
        /// What the failure is blamed on.
        blame: Blame,
    },
    /// This program puts the chat's entry back on its former model, because the session did not come up on the new one. So the
    /// difference that follows does not count as changed back by something else.
    Reverted {
        /// The chat.
        chat: &'a str,
    },
    /// The row is edited by the exchange that is about to be made.
    Edits {
        /// The run that makes the edit.
        record: &'a Record,
        /// The row as it goes into the history if the run dies right after the exchange.
        row: &'a JsonRow<'a>,
    },
    /// Something was done for the row, or is about to be tried.
    Does {
        /// The run that does it.
        record: &'a Record,
        /// The row with its outcome, as far as that is known.
        row: &'a JsonRow<'a>,
    },
    /// The chat's corrections and failed starts no longer count: the decision has changed, or the user asked for another try.
    Reset {
        /// The chat.
        chat: &'a str,
    },
}

/// The debt that a restart is to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin<'a> {
    /// The debt that is owed already. If it is gone, a launch has started the session meanwhile, and the session is left alone.
    Owed,
    /// A debt about this run of the session, which is owed from now on. It is paid when the session has another run.
    Owing(&'a str),
    /// None, because the request can be made again without harm.
    Free,
}

/// What is done about a row whose correction was found changed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is corrected again.
    Corrected,
    /// It is left alone from now on.
    Held,
}

impl<'a> Note<'a> {
    /// The chat that the fact is about.
    pub fn chat(&self) -> &'a str {
        match self {
            Self::Owes { chat, .. }
            | Self::Begun { chat, .. }
            | Self::Failed { chat }
            | Self::Unchanged { chat }
            | Self::Settled { chat }
            | Self::Confirmed { chat, .. }
            | Self::NotConfirmed { chat }
            | Self::Wrote { chat, .. }
            | Self::ReadBack { chat }
            | Self::ChangedBack { chat, .. }
            | Self::Trying { chat, .. }
            | Self::Worked { chat, .. }
            | Self::DidNotComeUp { chat, .. }
            | Self::Reverted { chat }
            | Self::Reset { chat } => chat,
            Self::Edits { row, .. } | Self::Does { row, .. } => &row.chat_id,
        }
    }
}
