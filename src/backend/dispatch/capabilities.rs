//! What the daemon can do, as far as that is known without asking it.

use jiff::SignedDuration;

use crate::chat::{Chat, Model};
use crate::plan::capabilities::{Capabilities, RestartLimit, TakesEffect};

/// The daemon refuses more restarts of a chat.
pub(super) const BREAKER: RestartLimit = RestartLimit { restarts: 3, within: SignedDuration::from_mins(20) };

/// The models that the daemon's `set_model` takes.
const CARRIED: [&str; 3] = ["opus", "sonnet", "haiku"];

/// What the daemon can do.
#[derive(Clone, Copy, Debug)]
pub struct DaemonCapabilities;

impl Capabilities for DaemonCapabilities {
    fn takes_effect(&self) -> TakesEffect {
        TakesEffect::OnRestart
    }

    fn unmanaged(&self, chat: &Chat) -> Option<&'static str> {
        (chat.kind.as_deref() == Some("group")).then_some("the daemon drops a group's model at every start")
    }

    fn refuses_model(&self, model: &Model) -> Option<String> {
        let is_carried = CARRIED.contains(&model.as_str());
        (!is_carried).then(|| format!("the daemon supports {}, but not {model}", CARRIED.join(", ")))
    }

    /// The daemon's own defaults.
    fn unset_runs(&self, chat: &Chat) -> Option<&str> {
        Some(if chat.source.as_deref() == Some("discord") { "sonnet" } else { "opus" })
    }

    fn needs_live_sessions(&self) -> bool {
        true
    }

    fn edits_by_restart(&self) -> bool {
        true
    }

    fn restart_limit(&self) -> Option<RestartLimit> {
        Some(BREAKER)
    }

    fn unset_is_in_sync(&self, model: &Model) -> Option<String> {
        Some(format!("the daemon runs {model} without one: in sync while it is up"))
    }
}
