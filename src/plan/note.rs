//! The facts that the ledger is told.

use crate::chat::Model;
use crate::plan::history_lines::{JsonRow, Record};
use crate::plan::trial::Blame;

/// One fact to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note<'a> {
    /// The entry of this chat is about to be changed, and its session will not run what the registry then says. `ran` is
    /// what the session runs, where that is known.
    Owes {
        /// The chat.
        chat: &'a str,
        /// What its session runs.
        ran: Option<&'a Model>,
        /// Which start of the session that is, where its backend can tell starts apart.
        identity: Option<&'a str>,
    },
    /// A restart of this chat's session is about to be tried.
    Begun {
        /// The chat.
        chat: &'a str,
        /// What is owed for it.
        begin: Begin<'a>,
    },
    /// The restart was tried and failed: the next try waits, longer each time.
    Failed {
        /// The chat.
        chat: &'a str,
    },
    /// An attempt has ended, and what is owed is as it was.
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
    /// A model is about to be written into the entry of this chat, or was. Only where the policy keeps what was set by hand.
    Wrote {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
        /// What the entry had before.
        before: Option<&'a Model>,
    },
    /// The entry of this chat has the model that was written.
    ReadBack {
        /// The chat.
        chat: &'a str,
    },
    /// A confirmed correction was found changed back.
    ChangedBack {
        /// The chat.
        chat: &'a str,
        /// What becomes of the row.
        then: Then,
    },
    /// A model that no session is known to work on is about to be tried on this chat's.
    Trying {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
    },
    /// The session of this chat came up on a model, or was found to run on it.
    Worked {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
    },
    /// The session of this chat did not come up on a model.
    DidNotComeUp {
        /// The chat.
        chat: &'a str,
        /// The model.
        model: &'a Model,
        /// What that says of the model.
        blame: Blame,
    },
    /// The chat's entry is put back on what its session ran, because it did not come up on its new model. What was
    /// corrected earlier is not changed back by something else then.
    Reverted {
        /// The chat.
        chat: &'a str,
    },
    /// The row's edit is one of those of the exchange that is about to be made.
    Edits {
        /// Whose edit it is.
        record: &'a Record,
        /// The row, as the history tells of it where nothing more becomes of it.
        row: &'a JsonRow<'a>,
    },
    /// Something is done for the row, or tried.
    Does {
        /// Who does it.
        record: &'a Record,
        /// The row, with what becomes of it as far as that is known.
        row: &'a JsonRow<'a>,
    },
    /// Corrections of this chat and starts that failed no longer count: the decision has changed, or the user asked for
    /// another try.
    Reset {
        /// The chat.
        chat: &'a str,
    },
}

/// What is owed for a restart that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin<'a> {
    /// It is owed already. If it no longer is, a launch has started the session meanwhile, and it is left alone.
    Owed,
    /// From now on a restart of this run of the session is owed: another run of it, and the debt is met.
    Owing(&'a str),
    /// Nothing: the request can be made again.
    Free,
}

/// What becomes of a row whose correction was found changed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is corrected again.
    Corrected,
    /// It is left alone from now on.
    Held,
}

impl<'a> Note<'a> {
    /// The chat that it is about.
    pub fn chat(&self) -> &'a str {
        match self {
            Self::Owes { chat, .. }
            | Self::Begun { chat, .. }
            | Self::Failed { chat }
            | Self::Unchanged { chat }
            | Self::Settled { chat }
            | Self::Confirmed { chat, .. }
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
