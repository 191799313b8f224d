//! What a backend can do, as far as that is known without asking it.

use jiff::SignedDuration;

use crate::chat::{Chat, Model};

/// How often the session of one chat may be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// This many times…
    pub restarts: usize,
    /// …within this time.
    pub within: SignedDuration,
}

/// How a session comes to run on a model that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesEffect {
    /// A restart follows the change.
    OnRestart,
    /// Nothing restarts it: the model takes effect when the session next starts.
    OnNextStart,
    /// The change itself makes it run on the model.
    AtOnce,
}

/// What a backend can do.
pub trait Capabilities: Sync {
    /// How a change takes effect.
    fn takes_effect(&self) -> TakesEffect;

    /// Whether a restart counts only when its session was seen to come up.
    fn verifies_restarts(&self) -> bool {
        true
    }

    /// Why the chat cannot be managed at all, if so.
    fn unmanaged(&self, _chat: &Chat) -> Option<&'static str> {
        None
    }

    /// Why no session can be given this model, if so.
    fn refuses_model(&self, _model: &Model) -> Option<String> {
        None
    }

    /// Why the session of this chat cannot be restarted for this model, if so.
    fn refuses_restart(&self, _chat: &Chat, _model: &Model) -> Option<String> {
        None
    }

    /// What a session of this chat runs on while its entry has no model, where that is known.
    fn unset_runs(&self, _chat: &Chat) -> Option<&str> {
        None
    }

    /// What to say of an entry without a model whose session runs this one anyway, where that leaves nothing to do.
    fn unset_is_in_sync(&self, _model: &Model) -> Option<String> {
        None
    }

    /// Whether only sessions that are live can be changed, as far as their registry's owner is up.
    fn needs_live_sessions(&self) -> bool {
        false
    }

    /// Whether a model is changed and its session restarted by one request, so that an edit waits where the restart does.
    fn edits_by_restart(&self) -> bool {
        false
    }

    /// How often a session may be restarted, where its owner limits that.
    fn restart_limit(&self) -> Option<RestartLimit> {
        None
    }

    /// Whether sessions are known to it by their slugs, so that two must not share one.
    fn uses_slugs(&self) -> bool {
        false
    }
}
