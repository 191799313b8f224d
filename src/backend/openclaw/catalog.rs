//! The agents and models that a gateway is configured with.

use serde::Deserialize;

/// The method that lists agents.
pub(super) const AGENTS: &str = "agents.list";
/// The method that lists models.
pub(super) const MODELS: &str = "models.list";

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AgentRow {
    /// Its id, as in the keys of its sessions.
    pub id: String,
    /// What its sessions run on that are not pinned.
    #[serde(default)]
    pub model: AgentModel,
}

/// The models that an agent is configured with, as `provider/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AgentModel {
    /// The one that is asked first.
    pub primary: Option<String>,
    /// Those that are asked when it fails, in that order.
    pub fallbacks: Vec<String>,
}

/// A model that sessions may be pinned to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelRow {
    provider: String,
    id: String,
    /// Another name for it, which the gateway takes as well.
    pub alias: Option<String>,
    /// Whether it can think. One that cannot takes a session's thinking level with it.
    #[serde(default)]
    pub reasoning: bool,
}

impl ModelRow {
    /// Its full name, as in `anthropic/claude-opus-5`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }
}

/// The reply to [`AGENTS`].
#[derive(Debug, Deserialize)]
pub(super) struct Agents {
    pub(super) agents: Vec<AgentRow>,
}

/// The reply to [`MODELS`].
#[derive(Debug, Deserialize)]
pub(super) struct Models {
    pub(super) models: Vec<ModelRow>,
}
