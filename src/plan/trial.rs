//! Which models are known to work, and on which chats models failed. A model that has failed must not take down one session after the
//! other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chat::Model;
use crate::plan::backoff::{is_waiting, next_try};

/// What is known of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// A session came up on it, most recently at this time.
    Worked(Timestamp),
    /// It is being tried on the session of this chat, or was when a run died.
    Trying(String),
    /// A session did not come up on it, and none has since. Each such session has a [`FailedStart`].
    Failed,
}

/// A session that did not come up on a model. It is tried again after longer and longer waits, until it comes up, another model is
/// decided, or the user asks for another try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedStart {
    /// The model.
    pub model: Model,
    /// When it first did not come up.
    pub since: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// The time before which it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
}

impl FailedStart {
    /// One more failed start. `earlier` is what is remembered of this session on this model.
    pub(super) fn again(earlier: Option<Self>, model: &Model, now: Timestamp) -> Self {
        let attempts = earlier.as_ref().map_or(0, |earlier| earlier.attempts);
        Self {
            model: model.clone(),
            since: earlier.map_or(now, |earlier| earlier.since),
            attempts: attempts.saturating_add(1),
            next_try: next_try(attempts, now),
        }
    }

    /// Whether its next try is not due at `now`.
    pub fn waits(&self, now: Timestamp) -> bool {
        is_waiting(self.next_try, now)
    }
}

/// What a failed start is blamed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The model: no session of this run came up on it.
    Model,
    /// The session: another session of this run came up on the model.
    Session,
}
