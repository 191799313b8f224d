//! What a backend reports about the rows of a drift. It reports; what is done about it is decided in `predict`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::chat::Model;
use crate::foreign::Sentence;

/// What a backend reports.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// How the rows are edited.
    pub edits: Edits,
    /// By chat id. A row without a finding is ready.
    pub findings: BTreeMap<String, Finding>,
    /// Models on which no session is known to work: they are tried on one session first.
    pub canaries: BTreeMap<Model, Canary>,
    /// Models on which a session was found to work that should run on it, and its chat.
    pub working: BTreeMap<Model, String>,
    /// When this program has lately restarted sessions, by chat id, where their owner limits that.
    pub restarts: BTreeMap<String, Vec<Timestamp>>,
    /// Chats whose sessions are live and which the registry does not have, in order.
    pub unlisted: Vec<String>,
    /// What the user should know of the edits and restarts, where there are any.
    pub remark: Option<Sentence>,
}

/// How rows are edited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edits {
    /// All at once, before a session is touched.
    #[default]
    Batch,
    /// By requests to the registry's owner.
    PerRow {
        /// How many rows one request can carry.
        batch: usize,
    },
}

/// What a backend reports about one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What its session is doing.
    pub standing: Standing,
    /// Why the restart that it owed is void, if so.
    pub void: Option<Void>,
    /// Which start of the session is going on, where that was asked and could be told.
    pub identity: Option<String>,
    /// What the session runs, where the backend knows it better than the registry says.
    pub runs: Option<Model>,
    /// Whether an override of the registry's owner wrote the model that the registry says.
    pub is_overridden: bool,
    /// What else its change does, if anything.
    pub remark: Option<String>,
}

/// What a session is doing, and what follows for its row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing stands in the way, and nothing more is known.
    #[default]
    Ready,
    /// The session is live.
    Live,
    /// The session is in the middle of an answer: it is waited for.
    Busy,
    /// The session is not running: its change needs no restart.
    NotRunning,
    /// All sessions are down, with the owner of the registry, and start on what the registry then says.
    AllDown,
    /// There is nothing to do after all: the session runs the model, and the registry will say so.
    InSync,
    /// It cannot be done now, for this reason.
    Deferred(String),
    /// It cannot be done as the policy is, for this reason.
    Refused(String),
}

/// What is known of a model that no session is known to work on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canary {
    /// The chat whose session runs on it and is unhealthy, if any.
    pub unhealthy: Option<String>,
}

/// Why an owed restart is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// The registry no longer has the entry.
    Gone,
    /// The chat is no longer managed.
    Unmanaged,
    /// The session runs what the registry says, or will say after this run.
    Back,
    /// Something that only the backend knows.
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
