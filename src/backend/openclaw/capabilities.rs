//! What a gateway can do, as far as that is known without asking it.

use crate::chat::Model;
use crate::plan::capabilities::{Capabilities, TakesEffect};

/// The model of a session that is not pinned: it follows OpenClaw's configuration, with its fallbacks.
pub(super) const DEFAULT: &str = "default";

/// How many sessions one request changes. The gateway takes 100; a rollout that is to stop stops between two requests.
pub(super) const CARRIED: usize = 50;

/// What a gateway can do.
#[derive(Clone, Copy, Debug)]
pub struct GatewayCapabilities;

impl Capabilities for GatewayCapabilities {
    fn takes_effect(&self) -> TakesEffect {
        TakesEffect::AtOnce
    }

    fn refuses_model(&self, model: &Model) -> Option<String> {
        pins_account(model.as_str())
    }
}

/// Why no session is pinned to a model of this name, if so: a gateway takes what follows an `@` for an account.
pub(super) fn pins_account(name: &str) -> Option<String> {
    let why = || format!("the @ in {name} would pin an account as well, which outlives later changes");
    name.contains('@').then(why)
}

/// The model as a request names it; `None` where the session is to follow the configuration.
pub(super) fn pin(model: &Model) -> Option<&str> {
    Some(model.as_str()).filter(|name| *name != DEFAULT)
}
