//! What is asked of the gateway for a session whose model is to be changed.

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
    /// As the policy calls it.
    pub(super) model: &'a Model,
}

/// What an agent is configured with.
pub(super) struct Agent {
    /// What its sessions run on that are not pinned.
    pub(super) default: Option<String>,
    /// What they can be pinned to.
    pub(super) models: Vec<ModelRow>,
}

/// What is asked for one session: by default, to follow OpenClaw's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intent {
    /// The model by its full name, also where the policy calls it by an alias;
    /// `None` to follow OpenClaw's configuration.
    pub(super) pin: Option<String>,
    /// What it means for the thinking of the session, if anything.
    pub(super) thought: Option<Thought>,
}

/// What the changes of the last plan ask for, by chat id.
pub(super) type Intents = Mutex<BTreeMap<String, Intent>>;

impl<'a> Change<'a> {
    pub(super) fn of(row: &'a Row, sessions: &'a Sessions) -> Option<Self> {
        let session = sessions.get(row.chat.id.as_ref())?;
        let model = row.after.as_ref().filter(|_| row.edit && row.is_planned())?;
        Some(Self { row, session, model })
    }

    /// Whether what its agent is configured with has to be known.
    pub(super) fn concerns_agent(&self, levels: &Levels) -> bool {
        pin(self.model).is_some() || levels.concern(self.session)
    }

    /// That it can be asked for in such a way that the gateway makes no new session of it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn is_guarded(&self) -> Result<(), String> {
        let without =
            "OpenClaw does not say which session of the chat this is (sessionId), so no change of it would be safe";
        self.session.session_id.as_ref().map(drop).ok_or_else(|| without.to_owned())
    }

    /// What it asks of an agent of this configuration; `None` for one that is not configured.
    ///
    /// # Errors
    /// Why it cannot be asked for.
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
