//! What is remembered of models that sessions were started on: which of them work, and which did not come up on which
//! chat. A model that failed must not take down one session after the other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::plan::backoff::{is_waiting, next_try};

/// What is known of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// A session came up on it. This is when that was last seen.
    Worked(Timestamp),
    /// It is being tried on the session of this chat, or was when a run died.
    Trying(String),
    /// No session has come up on it since one did not. Which one that was, its failed start says.
    Failed,
}

/// A session that did not come up on a model. It is tried again at growing distances, until it comes up, the decision
/// changes, or the user asks for another try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedStart {
    /// The model.
    pub model: Model,
    /// When it first did not come up.
    pub since: Timestamp,
    /// How often it did not.
    pub attempts: u32,
    /// Not to be tried before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
}

impl FailedStart {
    /// Once more, after what is remembered of earlier tries of this session on this model.
    pub(super) fn again(earlier: Option<Self>, model: &Model, now: Timestamp) -> Self {
        let attempts = earlier.as_ref().map_or(0, |earlier| earlier.attempts);
        Self {
            model: model.clone(),
            since: earlier.map_or(now, |earlier| earlier.since),
            attempts: attempts.saturating_add(1),
            next_try: next_try(attempts, now),
        }
    }

    /// Whether it waits for its next try at `now`.
    pub fn waits(&self, now: Timestamp) -> bool {
        is_waiting(self.next_try, now)
    }
}

/// Whether a start that failed says something of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// No session of this run came up on it.
    Model,
    /// Another session of this run came up on it.
    Session,
}
