//! What a backend reports about the rows of a drift. The backend only reports: `predict` decides what is done.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::chat::Model;
use crate::foreign::Sentence;

/// What a backend reports about the rows of a drift.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Whether the rows are edited together or each with its own request.
    pub edits: Edits,
    /// Findings by chat id. A row without a finding is [`Standing::Ready`].
    pub findings: BTreeMap<String, Finding>,
    /// Models on which no session is known to work: each is tried on one session first.
    pub canaries: BTreeMap<Model, Canary>,
    /// Models on which a session was found to work, each with the chat of that session.
    pub working: BTreeMap<Model, String>,
    /// The times at which this program has recently restarted sessions, by chat id. Only where their owner limits restarts.
    pub restarts: BTreeMap<String, Vec<Timestamp>>,
    /// Chats with a live session that the registry does not have, in order.
    pub unlisted: Vec<String>,
    /// A remark for the user on the edits and restarts, where there are any.
    pub remark: Option<Sentence>,
}

/// How rows are edited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edits {
    /// All at once, before any session is restarted.
    #[default]
    Batch,
    /// By requests to the registry's owner.
    PerRow {
        /// The largest number of rows in one request.
        batch: usize,
    },
}

/// What a backend reports about one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What its session is doing.
    pub standing: Standing,
    /// Why the restart that it owed is void; `None` where it is not.
    pub void: Option<Void>,
    /// The identity of the session's present start, where it was asked for and the session has one.
    pub identity: Option<String>,
    /// The model that the session runs, where the backend knows that better than the registry does.
    pub runs: Option<Model>,
    /// Whether the entry's model comes from an override of the registry's owner.
    pub is_overridden: bool,
    /// A remark on a side effect of the change, if it has one.
    pub remark: Option<String>,
}

/// What a session is doing, which decides how its row is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It can be changed. Nothing more is known.
    #[default]
    Ready,
    /// It is live, and can be changed.
    Live,
    /// It is in the middle of an answer: the run waits for it.
    Busy,
    /// It is not running: its change needs no restart.
    NotRunning,
    /// It is down together with all others and with the owner of the registry. When they start, they run what the registry says.
    AllDown,
    /// It runs the model already, and the owner of the registry will save that: there is nothing to do.
    InSync,
    /// It cannot be changed now, for this reason.
    Deferred(String),
    /// It cannot be changed by this policy, for this reason.
    Refused(String),
}

/// A model that is tried on one session first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canary {
    /// The chat of a session that runs on the model and is unhealthy, if there is one.
    pub unhealthy: Option<String>,
}

/// Why an owed restart is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// The registry no longer has the entry.
    Gone,
    /// The chat is no longer managed.
    Unmanaged,
    /// The session runs the model that the registry has, or will have after this run.
    Back,
    /// A reason that only the backend knows.
    Because(&'static str),
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "its entry is gone",
            Self::Unmanaged => "the chat is no longer managed",
            Self::Back => "the registry again has the model that the session runs",
            Self::Because(why) => why,
        })
    }
}
