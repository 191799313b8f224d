//! Plans the request to the gateway for a session whose model is to be changed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::backend::openclaw::capabilities::{pin, pins_account};
use crate::backend::openclaw::catalog::{ModelRow, named};
use crate::backend::openclaw::listing::SessionRow;
use crate::backend::openclaw::snapshot::Sessions;
use crate::backend::openclaw::thinking::{Levels, Thought};
use crate::chat::Model;
use crate::plan::Row;

/// A session whose model is to be changed.
pub(super) struct Change<'a> {
    pub(super) row: &'a Row,
    pub(super) session: &'a SessionRow,
    /// The wanted model, by its name in the policy.
    pub(super) model: &'a Model,
}

/// The configuration of an agent.
pub(super) struct Agent {
    /// The model of its sessions that are not pinned.
    pub(super) default: Option<String>,
    /// The models to which its sessions can be pinned.
    pub(super) models: Vec<ModelRow>,
}

/// The request for one session. By default, the session is to follow OpenClaw's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intent {
    /// The full name of the model to which the session is to be pinned; `None` to follow OpenClaw's configuration.
    pub(super) pin: Option<String>,
    /// The effect on the thinking level of the session, if there is one.
    pub(super) thought: Option<Thought>,
}

/// The requests for the changes of the last plan, by chat id.
pub(super) type Intents = Mutex<BTreeMap<String, Intent>>;

impl<'a> Change<'a> {
    pub(super) fn of(row: &'a Row, sessions: &'a Sessions) -> Option<Self> {
        let session = sessions.get(row.chat.id.as_ref())?;
        let model = row.after.as_ref().filter(|_| row.edit && row.is_planned())?;
        Some(Self { row, session, model })
    }

    /// Whether the configuration of its agent is needed to plan the request.
    pub(super) fn concerns_agent(&self, levels: &Levels) -> bool {
        pin(self.model).is_some() || levels.concern(self.session)
    }

    /// Checks that the request can name the session's id, without which the gateway could change a new session of the chat.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn is_guarded(&self) -> Result<(), String> {
        let without =
            "OpenClaw does not say which session of the chat this is (sessionId), so no change of it would be safe";
        self.session.session_id.as_ref().map(drop).ok_or_else(|| without.to_owned())
    }

    /// The request, given the configuration of the session's agent; `None` for an agent that is not configured.
    ///
    /// # Errors
    /// Why the session cannot be changed.
    pub(super) fn intent(
        &self,
        agent: Option<&Agent>,
        levels: &Levels,
        aliases: &BTreeMap<String, Model>,
    ) -> Result<Intent, String> {
        let name = &self.session.agent;
        let agent = agent.ok_or_else(|| format!("the agent {name} is not configured in OpenClaw"))?;
        let Some(wanted) = pin(self.model) else {
            let runs = agent.default.as_deref().and_then(|default| named(&agent.models, default));
            return Ok(Intent { pin: None, thought: levels.thought(self.session, runs) });
        };
        let unlisted = || format!("OpenClaw lists no model {wanted} for the agent {name}");
        let model = named(&agent.models, wanted).ok_or_else(unlisted)?;
        let full = model.name();
        if !model.is_meant_by(wanted, aliases) {
            return Err(format!("{wanted} is OpenClaw's alias of {full}: write that, or map it in models.aliases"));
        }
        match pins_account(&full) {
            Some(why) => Err(why),
            None => Ok(Intent { pin: Some(full), thought: levels.thought(self.session, Some(model)) }),
        }
    }
}
