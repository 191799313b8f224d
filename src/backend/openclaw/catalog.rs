//! The configuration of a gateway, as far as it concerns the models of sessions: agents and models.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::chat::Model;

/// The method that lists agents.
pub(super) const AGENTS: &str = "agents.list";
/// The method that tells the configuration, without secrets.
pub(super) const CONFIGURATION: &str = "config.get";
/// The method that lists models.
pub(super) const MODELS: &str = "models.list";

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AgentRow {
    /// Its id, as in the keys of its sessions.
    pub id: String,
    /// The models of its sessions that are not pinned.
    #[serde(default)]
    pub model: AgentModel,
}

/// The models that an agent is configured with, as `provider/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AgentModel {
    /// The model that is used first.
    pub primary: Option<String>,
    /// The models that are used when the first one fails, in this order.
    pub fallbacks: Vec<String>,
}

/// A model that sessions may be pinned to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelRow {
    provider: String,
    id: String,
    /// Another name for it, which the gateway accepts, too.
    pub alias: Option<String>,
    /// Whether it can think. If it cannot, a session that gets it loses its thinking level.
    #[serde(default)]
    pub reasoning: bool,
    thinking_levels: Option<Vec<ThinkingLevel>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct ThinkingLevel {
    id: String,
}

impl ModelRow {
    /// Its full name, as in `anthropic/claude-opus-5`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }

    /// Whether it has this thinking level. The gateway refuses a change to a model together with a level that it does not have.
    pub fn has_level(&self, level: &str) -> bool {
        let listed = self.thinking_levels.as_ref();
        self.reasoning && listed.is_none_or(|levels| levels.iter().any(|known| known.id == level))
    }

    /// Whether a policy with these aliases calls it by this name: by the name to which the aliases map its full name, or
    /// else by the full name. The gateway lists sessions with full names, so with another name of OpenClaw's, a session
    /// would never be in sync.
    pub(super) fn is_meant_by(&self, name: &str, aliases: &BTreeMap<String, Model>) -> bool {
        let full = self.name();
        aliases.get(&full).map_or(full.as_str(), Model::as_str) == name
    }
}

/// The model with this full name, or else with this alias.
pub(super) fn named<'m>(models: &'m [ModelRow], name: &str) -> Option<&'m ModelRow> {
    let by_alias = || models.iter().find(|model| model.alias.as_deref() == Some(name));
    models.iter().find(|model| model.name() == name).or_else(by_alias)
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

/// The part of the configuration that a policy about sessions depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Which direct messages share a session. With `main` and with `None`, all of them do.
    pub dm_scope: Option<String>,
    /// The names of the channels in `channels.modelByChannel`, which sets the models of sessions that are not pinned.
    pub channels_with_models: Vec<String>,
}

/// The reply to [`CONFIGURATION`].
#[derive(Debug, Deserialize)]
pub(super) struct Configured {
    config: Config,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    session: SessionConfig,
    #[serde(default)]
    channels: ChannelConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SessionConfig {
    dm_scope: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ChannelConfig {
    model_by_channel: Option<BTreeMap<String, BTreeMap<String, Value>>>,
}

impl From<Configured> for Configuration {
    fn from(Configured { config }: Configured) -> Self {
        let by_channel = config.channels.model_by_channel.unwrap_or_default().into_iter();
        let with_models = by_channel.filter(|(_, models)| !models.is_empty());
        Self {
            dm_scope: config.session.dm_scope,
            channels_with_models: with_models.map(|(channel, _)| channel).collect(),
        }
    }
}
