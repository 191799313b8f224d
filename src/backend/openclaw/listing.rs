//! The list of all sessions of a gateway.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::backend::openclaw::fault::Fault;

/// The method that lists sessions.
pub(super) const METHOD: &str = "sessions.list";
/// The size of a page. It is larger than the list of any gateway, because sessions move between pages when they are written to.
const LIMIT: u32 = 100_000;
/// What is missing where pinned sessions cannot be distinguished from others.
const PINNED: &str = "its rows lack modelOverrideSource";

/// All sessions of a gateway that are not archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The sessions, each once, in the gateway's order: the last written to comes first.
    pub rows: Vec<SessionRow>,
    /// The model that the configuration gives the default agent, as `provider/name`.
    pub default_model: Option<String>,
}

/// One session.
///
/// The gateway's `displayName` is not read: it can be the text of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The chat id, such as `agent:main:telegram:direct:100301`.
    pub key: String,
    /// The id of the session. A chat that was deleted and written to again has another one. `None` where the gateway
    /// does not give it: then this one session cannot be changed.
    pub session_id: Option<String>,
    /// The model that it is pinned to, as `provider/name`; `None` where it follows OpenClaw's configuration.
    pub pinned: Option<String>,
    /// The kind of the chat: `main`, `direct`, `group`, `channel`, `dashboard`, `custom`, `explicit`, `cron` or `subagent`.
    pub classification: String,
    /// Whether no person takes part in it: a scheduled job or a subagent.
    pub is_background: bool,
    /// The agent that it belongs to.
    pub agent: String,
    /// The account of the channel through which it was last written to.
    pub account: Option<String>,
    /// The channel, such as `telegram`; `None` where no message has come through a channel.
    pub channel: Option<String>,
    /// Its group in OpenClaw's sidebar.
    pub category: Option<String>,
    /// The name that an operator gave it.
    pub label: Option<String>,
    /// The name that the sender or the group uses.
    pub own_name: Option<String>,
    /// Its own thinking level, if it has one.
    pub thinking: Option<String>,
}

/// The parameters of the request.
pub(super) fn params() -> Value {
    json!({ "limit": LIMIT })
}

/// A list as the gateway sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    total_count: usize,
    has_more: bool,
    defaults: Defaults,
    sessions: Vec<WireRow>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Defaults {
    model_provider: Option<String>,
    model: Option<String>,
    /// What a change of a model is about. Releases before 2026.9 change the session, and do not send this.
    model_selection_target: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRow {
    key: String,
    session_id: Option<String>,
    model_provider: Option<String>,
    model: Option<String>,
    #[serde(default)]
    model_override_source: Source,
    classification: String,
    is_background: bool,
    agent_id: String,
    last_account_id: Option<String>,
    channel: Option<String>,
    category: Option<String>,
    label: Option<String>,
    subject: Option<String>,
    origin: Option<Origin>,
    thinking_level: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Origin {
    label: Option<String>,
    account_id: Option<String>,
}

/// Where a session's model comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Option<String>")]
enum Source {
    /// The row does not have the field.
    #[default]
    Missing,
    Configuration,
    Pin,
    /// The pin of a parent session.
    Parent,
}

impl From<Option<String>> for Source {
    fn from(text: Option<String>) -> Self {
        match text.as_deref() {
            None => Self::Configuration,
            Some("auto") => Self::Parent,
            Some(_) => Self::Pin,
        }
    }
}

impl Wire {
    /// Checks that the list has every session once, and that each session can be changed by itself.
    pub(super) fn checked(self, version: &str) -> Result<Listed, Fault> {
        let Self { total_count, has_more, defaults, sessions } = self;
        if let Some(target) = defaults.model_selection_target.filter(|target| target != "session") {
            return Err(Fault::SelectionTarget(target));
        }
        if has_more || sessions.len() != total_count {
            return Err(Fault::Truncated { rows: sessions.len(), total: total_count });
        }
        let mut keys = BTreeSet::new();
        if let Some(doubled) = sessions.iter().find(|row| !keys.insert(&row.key)) {
            return Err(Fault::Doubled(doubled.key.clone()));
        }
        let rows = sessions.into_iter().map(|row| row.checked(version));
        let default_model = full_name(defaults.model_provider, defaults.model);
        Ok(Listed { rows: rows.collect::<Result<_, _>>()?, default_model })
    }
}

impl WireRow {
    fn checked(self, version: &str) -> Result<SessionRow, Fault> {
        let pinned = match self.model_override_source {
            Source::Missing => return Err(Fault::TooOld { version: version.to_owned(), lacks: PINNED }),
            Source::Configuration => None,
            Source::Pin | Source::Parent => {
                let reason = format!("{} is pinned to no model", self.key);
                let name = full_name(self.model_provider, self.model);
                Some(name.ok_or(Fault::Malformed { method: METHOD, reason })?)
            }
        };
        let (name, account) = self.origin.map_or((None, None), |origin| (origin.label, origin.account_id));
        Ok(SessionRow {
            key: self.key,
            session_id: self.session_id,
            pinned,
            classification: self.classification,
            is_background: self.is_background,
            agent: self.agent_id,
            account: account.or(self.last_account_id),
            channel: self.channel,
            category: self.category,
            label: self.label,
            own_name: self.subject.or(name),
            thinking: self.thinking_level,
        })
    }
}

/// A model by its full name.
fn full_name(provider: Option<String>, model: Option<String>) -> Option<String> {
    Some(format!("{}/{}", provider?, model?))
}
