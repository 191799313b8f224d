//! What a backend can do, as far as that is known from the policy alone.

use jiff::SignedDuration;

use crate::chat::{Chat, Model};

/// How often the session of one chat may be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// How many restarts are allowed within the time `within`.
    pub restarts: usize,
    /// The length of the time in which restarts are counted.
    pub within: SignedDuration,
}

/// When a changed model takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesEffect {
    /// When the run restarts the session after the change.
    OnRestart,
    /// When the session next starts: the run restarts nothing.
    OnNextStart,
    /// With the change itself.
    AtOnce,
}

/// What a backend can do.
pub trait Capabilities: Sync {
    /// When a changed model takes effect.
    fn takes_effect(&self) -> TakesEffect;

    /// Whether a restart succeeds only if its session was seen to come up.
    fn verifies_restarts(&self) -> bool {
        true
    }

    /// Why the chat cannot be managed; `None` where it can.
    fn unmanaged(&self, _chat: &Chat) -> Option<&'static str> {
        None
    }

    /// Why no session can be given this model; `None` where sessions can.
    fn refuses_model(&self, _model: &Model) -> Option<String> {
        None
    }

    /// Why the session of this chat cannot be restarted on this model; `None` where it can.
    fn refuses_restart(&self, _chat: &Chat, _model: &Model) -> Option<String> {
        None
    }

    /// The model that a session of this chat runs on while its entry has none; `None` where that is not known.
    fn unset_runs(&self, _chat: &Chat) -> Option<&str> {
        None
    }

    /// Why an entry without a model needs no change, where its session runs this model anyway; `None` where it needs one.
    fn unset_is_in_sync(&self, _model: &Model) -> Option<String> {
        None
    }

    /// Whether only live sessions can be changed while the registry's owner is up.
    fn needs_live_sessions(&self) -> bool {
        false
    }

    /// Whether one request changes a model and restarts the session, so that an edit waits as long as its restart.
    fn edits_by_restart(&self) -> bool {
        false
    }

    /// How often a session may be restarted; `None` where its owner sets no limit.
    fn restart_limit(&self) -> Option<RestartLimit> {
        None
    }

    /// Whether its commands name sessions by their slugs, so that no two sessions may have the same slug.
    fn names_slugs(&self) -> bool {
        false
    }
}
