//! Keeps thinking levels of sessions. When a session gets a model that cannot think, the gateway sets its thinking
//! level to `off`, and does not restore the level later. So the level is saved before, and put back when the session
//! gets a model that can think.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backend::openclaw::catalog::ModelRow;
use crate::backend::openclaw::listing::SessionRow;
use crate::backend::openclaw::problem::GatewayProblem;
use crate::backend::openclaw::snapshot::Sessions;
use crate::error::Result;
use crate::foreign::Foreign;
use crate::json;
use crate::state::dir::StateDir;

const NAME: &str = "thinking.json";
const VERSION: u32 = 1;
/// The level of a session that does not think.
const OFF: &str = "off";

/// The effect of a change of model on a session's thinking level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thought {
    /// The session loses this level, which is saved before.
    Lost(String),
    /// The session may lose this level, which is saved before. It is not known whether the new model can think.
    AtRisk(String),
    /// The session gets this level back, which it lost earlier.
    PutBack(String),
}

/// A level that a session lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// The id of the session. If the chat was recreated, its session has another id, and never had the level.
    session: String,
    level: String,
}

impl Saved {
    fn is_of(&self, session: &SessionRow) -> bool {
        session.session_id.as_ref() == Some(&self.session)
    }
}

/// The levels that sessions lost, by chat id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Levels {
    version: u32,
    saved: BTreeMap<String, Saved>,
}

impl Levels {
    /// Reads the saved levels. There are none before the first run.
    ///
    /// # Errors
    /// Where it is damaged, or was written by a later version.
    pub(super) fn read(dir: Option<&StateDir>) -> Result<Self> {
        let none = Self { version: VERSION, saved: BTreeMap::new() };
        let Some(dir) = dir else { return Ok(none) };
        let Some(text) = dir.read(NAME)? else { return Ok(none) };
        let unusable = |why| GatewayProblem::LevelsUnusable { path: dir.path(NAME), why };
        let levels: Self =
            serde_json::from_slice(&text).map_err(|error| unusable(Foreign::from(error.to_string()).into()))?;
        if levels.version > VERSION {
            return Err(unusable("a newer reconcile wrote it".into()).into());
        }
        Ok(levels)
    }

    /// Saves the levels. They are on disk when this returns.
    pub(super) fn save(&self, dir: &StateDir) -> Result<()> {
        dir.save(NAME, &json::to_bytes(self)?)
    }

    /// Whether a change of the session's model may have an effect on its thinking level.
    pub(super) fn concern(&self, session: &SessionRow) -> bool {
        own_level(session).is_some() || self.of(session).is_some()
    }

    /// The effect of giving a session this model; `None` for a model that the gateway does not list.
    pub(super) fn thought(&self, session: &SessionRow, model: Option<&ModelRow>) -> Option<Thought> {
        match (own_level(session), model) {
            (Some(level), None) => Some(Thought::AtRisk(level.to_owned())),
            (Some(level), Some(model)) => (!model.reasoning).then(|| Thought::Lost(level.to_owned())),
            (None, Some(model)) => {
                let saved = self.of(session).filter(|level| model.has_level(level));
                saved.map(|level| Thought::PutBack(level.to_owned()))
            }
            (None, None) => None,
        }
    }

    /// Adds the level of a session that is about to lose it.
    pub(super) fn lose(&mut self, session: &SessionRow, level: &str) {
        let Some(id) = session.session_id.clone() else { return };
        self.saved.insert(session.key.clone(), Saved { session: id, level: level.to_owned() });
    }

    /// Removes the levels of sessions that are gone, or have a level of their own again.
    pub(super) fn prune(&mut self, sessions: &Sessions) {
        self.saved.retain(|chat, saved| {
            let session = sessions.get(chat).filter(|session| saved.is_of(session));
            session.is_some_and(|session| own_level(session).is_none())
        });
    }

    fn of(&self, session: &SessionRow) -> Option<&str> {
        let saved = self.saved.get(&session.key).filter(|saved| saved.is_of(session));
        saved.map(|saved| saved.level.as_str())
    }
}

/// The session's own thinking level; `None` where it has none, or it is `off`.
fn own_level(session: &SessionRow) -> Option<&str> {
    session.thinking.as_deref().filter(|level| *level != OFF)
}

impl Thought {
    /// The remark in the row of a change to this model.
    pub(super) fn words(&self, model: &str) -> String {
        match self {
            Self::Lost(level) => format!("its thinking level {level} is saved: {model} cannot think"),
            Self::AtRisk(level) => {
                format!("its thinking level {level} is saved: OpenClaw does not say whether {model} can think")
            }
            Self::PutBack(level) => format!("its thinking level {level} is put back"),
        }
    }
}
