//! What the double of a gateway holds: sessions, and a configuration of models and agents.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The path that replies name.
const STORE: &str = "/home/user/.openclaw/agents/main/agent/openclaw-agent.sqlite";

/// A gateway without its connections.
pub struct World {
    /// The release that it says it is.
    pub version: &'static str,
    /// The methods that it says it has, besides those that every release has.
    pub methods: Vec<&'static str>,
    pub token: &'static str,
    pub models: Vec<Model>,
    /// What sessions may be pinned to. Empty: everything of a known provider.
    pub allowed: Vec<String>,
    /// What sessions run on that are not pinned.
    pub default_model: String,
    /// The agents, and what each may use, where that differs.
    pub agents: BTreeMap<String, Option<Vec<String>>>,
    /// What a change of model applies to; absent from the list of early releases.
    pub selection_target: Option<&'static str>,
    /// What it is configured with besides.
    pub config: Value,
    /// The rows of the session list, in its order.
    pub sessions: Vec<Value>,
    /// Milliseconds that have passed. Every change takes one.
    pub now: u64,
}

/// A configured model.
#[derive(Clone)]
pub struct Model {
    pub id: &'static str,
    pub alias: Option<&'static str>,
    pub reasoning: bool,
}

/// A refusal: the error of a reply.
pub type Refused = Value;

impl Default for World {
    fn default() -> Self {
        let model = |id, alias, reasoning| Model { id, alias, reasoning };
        Self {
            version: "2026.9.6",
            methods: vec!["sessions.patchMany"],
            token: "TOKEN-FOR-TESTS",
            models: vec![
                model("big", Some("opus"), true),
                model("mid", Some("sonnet"), false),
                model("small", Some("haiku"), false),
            ],
            allowed: ["fake/big", "fake/mid", "fake/small"].map(str::to_owned).to_vec(),
            default_model: "fake/mid".to_owned(),
            agents: [("main".to_owned(), None)].into(),
            selection_target: Some("session"),
            config: json!({ "session": { "dmScope": "per-channel-peer" } }),
            sessions: Vec::new(),
            now: 1_700_000_000_000,
        }
    }
}

pub fn invalid(message: impl Into<String>) -> Refused {
    json!({ "code": "INVALID_REQUEST", "message": message.into() })
}

pub fn missing_scope(scope: &str) -> Refused {
    json!({
        "code": "FORBIDDEN",
        "message": format!("missing scope: {scope}"),
        "details": { "code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope] },
    })
}

impl World {
    /// Adds a chat, as the last of the list. `more` are fields of its row, beside those that every row has.
    pub fn add(&mut self, key: &str, more: &Value) {
        self.now += 1;
        let mut row = self.new_row(key);
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.sessions.push(row);
    }

    pub fn row(&self, key: &str) -> &Value {
        self.sessions.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no session {key}"))
    }

    /// What a session is pinned to, as `provider/name`; `None` where it follows the configuration.
    pub fn pinned(&self, key: &str) -> Option<String> {
        let row = self.row(key);
        let text = |field: &str| row[field].as_str().unwrap();
        (!row["modelOverrideSource"].is_null()).then(|| format!("{}/{}", text("modelProvider"), text("model")))
    }

    /// A chat is deleted and written to again.
    pub fn make_anew(&mut self, key: &str) {
        self.now += 1;
        let fresh = self.new_row(key);
        *self.sessions.iter_mut().find(|row| row["key"] == key).unwrap() = fresh;
    }

    /// Answers a request. `scopes` are those of the connection.
    pub fn answer(&mut self, scopes: &[String], method: &str, params: &Value) -> Result<Value, Refused> {
        let has = |scope: &str| scopes.iter().any(|held| held == scope || held == "operator.admin");
        let may_read = has("operator.read") || has("operator.write");
        match method {
            "sessions.list" | "models.list" | "agents.list" | "config.get" if !may_read => {
                Err(missing_scope("operator.read"))
            }
            "sessions.patch" | "sessions.patchMany" | "sessions.create" if !has("operator.write") => {
                Err(missing_scope("operator.write"))
            }
            "sessions.list" => self.list(params),
            "sessions.create" => self.create(params),
            "sessions.patch" => self.patch_one(params),
            "sessions.patchMany" => self.patch_many(params),
            "models.list" => Ok(self.list_models(params)),
            "agents.list" => Ok(self.list_agents()),
            "config.get" => Ok(json!({ "path": "/home/user/.openclaw/openclaw.json", "config": self.config })),
            _ => Err(missing_scope("operator.admin")),
        }
    }

    fn list(&self, params: &Value) -> Result<Value, Refused> {
        let params = params.as_object().unwrap();
        if let Some(unknown) = params.keys().find(|key| !["limit", "offset"].contains(&key.as_str())) {
            return Err(invalid(format!("invalid sessions.list params: at root: unexpected property '{unknown}'")));
        }
        let number = |name: &str, default: usize| {
            params.get(name).map_or(default, |value| usize::try_from(value.as_u64().unwrap()).unwrap())
        };
        let (limit, offset) = (number("limit", 100), number("offset", 0));
        if limit == 0 {
            return Err(invalid("invalid sessions.list params: at /limit: must be >= 1"));
        }
        let page: Vec<&Value> = self.sessions.iter().skip(offset).take(limit).collect();
        let end = offset + page.len();
        let has_more = end < self.sessions.len();
        let (provider, model) = self.default_model.split_once('/').unwrap();
        let mut defaults = json!({ "modelProvider": provider, "model": model, "contextTokens": 128_000 });
        if let Some(target) = self.selection_target {
            defaults["modelSelectionTarget"] = target.into();
        }
        let mut reply = json!({
            "ts": self.now, "path": STORE, "count": page.len(), "totalCount": self.sessions.len(), "limitApplied": limit,
            "nextOffset": has_more.then_some(end), "hasMore": has_more, "owners": [], "defaults": defaults, "sessions": page,
        });
        if params.contains_key("offset") {
            reply["offset"] = offset.into();
        }
        Ok(reply)
    }

    fn list_models(&self, params: &Value) -> Value {
        let allowed = self.allowed_for(params["agentId"].as_str().unwrap_or("main")).unwrap_or_default();
        let is_listed = |model: &&Model| allowed.is_empty() || allowed.contains(&format!("fake/{}", model.id));
        let models = self.models.iter().filter(is_listed).map(|model| {
            let mut row = json!({
                "id": model.id, "name": model.id, "provider": "fake", "reasoning": model.reasoning, "available": true,
            });
            if let Some(alias) = model.alias {
                row["alias"] = alias.into();
            }
            row
        });
        json!({ "models": models.collect::<Vec<_>>() })
    }

    fn list_agents(&self) -> Value {
        let agents = self
            .agents
            .keys()
            .map(|id| json!({ "id": id, "model": { "primary": self.default_model, "fallbacks": ["fake/small"] } }));
        json!({ "defaultId": "main", "mainKey": "main", "scope": "per-sender", "agents": agents.collect::<Vec<_>>() })
    }

    fn create(&mut self, params: &Value) -> Result<Value, Refused> {
        let key = params["key"].as_str().unwrap();
        let agent = agent_of(key);
        if !self.agents.contains_key(agent) {
            return Err(invalid(format!("Unknown agent id \"{agent}\"")));
        }
        self.now += 1;
        if !self.sessions.iter().any(|row| row["key"] == key) {
            let row = self.new_row(key);
            self.sessions.insert(0, row);
        }
        let row = self.row(key);
        Ok(json!({ "ok": true, "key": key, "sessionId": row["sessionId"], "entry": entry(row), "runStarted": false }))
    }

    fn patch_one(&mut self, params: &Value) -> Result<Value, Refused> {
        let mut patch = params.as_object().unwrap().clone();
        let key = patch.remove("key").unwrap();
        let expected = patch.remove("expectedSessionId");
        let key = key.as_str().unwrap();
        self.patch(key, expected.as_ref(), &patch)?;
        let row = self.row(&full_key(key));
        let resolved = json!({ "modelProvider": row["modelProvider"], "model": row["model"] });
        Ok(json!({ "ok": true, "path": STORE, "key": row["key"], "entry": entry(row), "resolved": resolved }))
    }

    fn patch_many(&mut self, params: &Value) -> Result<Value, Refused> {
        let targets = params["targets"].as_array().unwrap();
        if targets.len() > 100 {
            let message = "invalid sessions.patchMany params: at /targets: must not have more than 100 items";
            return Err(invalid(message));
        }
        let mut keys = BTreeSet::new();
        if !targets.iter().all(|target| keys.insert(target["key"].as_str())) {
            return Err(invalid("Duplicate target."));
        }
        let patch = params["patch"].as_object().unwrap();
        let outcomes = targets.iter().map(|target| {
            let key = target["key"].as_str().unwrap();
            match self.patch(key, target.get("expectedSessionId"), patch) {
                Ok(()) => json!({ "ok": true, "key": key }),
                Err(error) => json!({ "ok": false, "key": key, "error": error }),
            }
        });
        Ok(json!({ "outcomes": outcomes.collect::<Vec<_>>() }))
    }

    /// Changes one session. One that is not there is made, unless the request says which it expects.
    fn patch(&mut self, key: &str, expected: Option<&Value>, patch: &Map<String, Value>) -> Result<(), Refused> {
        const KNOWN: [&str; 6] = ["model", "thinkingLevel", "fastMode", "label", "category", "archived"];
        if !patch.keys().all(|field| KNOWN.contains(&field.as_str())) {
            return Err(missing_scope("operator.admin"));
        }
        let agent = agent_of(key).to_owned();
        let key = full_key(key);
        let at = self.sessions.iter().position(|row| row["key"] == key.as_str());
        let held = at.map(|at| &self.sessions[at]["sessionId"]);
        if expected.is_some() && expected != held {
            let mut error = invalid(format!("Session {key} changed before patch. Retry."));
            error["details"] = json!({ "reason": "session-changed" });
            return Err(error);
        }
        let mut row = at.map_or_else(|| self.new_row(&key), |at| self.sessions[at].clone());
        self.apply(&agent, &mut row, patch)?;
        self.now += 1;
        row["updatedAt"] = self.now.into();
        if let Some(at) = at {
            self.sessions.remove(at);
        }
        self.sessions.insert(0, row);
        Ok(())
    }

    fn apply(&self, agent: &str, row: &mut Value, patch: &Map<String, Value>) -> Result<(), Refused> {
        if let Some(model) = patch.get("model") {
            let (name, source) = match model {
                Value::Null => (self.default_model.clone(), Value::Null),
                model => (self.resolve(agent, model)?, "user".into()),
            };
            let (provider, id) = name.split_once('/').unwrap();
            row["modelProvider"] = provider.into();
            row["model"] = id.into();
            row["modelOverrideSource"] = source;
        }
        let name = format!("{}/{}", row["modelProvider"].as_str().unwrap(), row["model"].as_str().unwrap());
        let can_think = self.models.iter().any(|model| model.reasoning && name == format!("fake/{}", model.id));
        let fields = row.as_object_mut().unwrap();
        match patch.get("thinkingLevel") {
            Some(Value::Null) => drop(fields.remove("thinkingLevel")),
            Some(level) if !can_think && level != "off" => {
                let level = level.as_str().unwrap();
                return Err(invalid(format!("thinkingLevel \"{level}\" is not supported for {name} (use off)")));
            }
            Some(level) => drop(fields.insert("thinkingLevel".to_owned(), level.clone())),
            // It is lost for good.
            None if !can_think && fields.contains_key("thinkingLevel") => {
                fields.insert("thinkingLevel".to_owned(), "off".into());
            }
            None => {}
        }
        for field in ["label", "category", "archived", "fastMode"] {
            match patch.get(field) {
                Some(Value::Null) => drop(fields.remove(field)),
                Some(value) if field == "label" && self.sessions.iter().any(|other| other["label"] == *value) => {
                    return Err(invalid(format!("label already in use: {}", value.as_str().unwrap())));
                }
                Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
                None => {}
            }
        }
        Ok(())
    }

    /// The model that a name means, as `provider/id`.
    fn resolve(&self, agent: &str, model: &Value) -> Result<String, Refused> {
        let invalid_params = |what: &str| {
            let tail = "at /model: must be null; at /model: must match a schema in anyOf";
            invalid(format!("invalid sessions.patch params: at /model: {what}; {tail}"))
        };
        let text = model.as_str().ok_or_else(|| invalid_params("must be string"))?;
        if text.is_empty() {
            return Err(invalid_params("must not have fewer than 1 characters"));
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(invalid("invalid model: empty"));
        }
        let text = text.split_once('@').map_or(text, |(text, _)| text);
        let Some(allowed) = self.allowed_for(agent) else {
            let message = "Session patch failed unexpectedly. Retry the request.";
            return Err(json!({ "code": "UNAVAILABLE", "message": message, "retryable": true }));
        };
        let named = |model: &&Model| model.alias.is_some_and(|alias| text.eq_ignore_ascii_case(alias));
        let name = match (self.models.iter().find(named), text.split_once('/')) {
            (Some(model), _) if !allowed.is_empty() => format!("fake/{}", model.id),
            (_, Some((provider, id))) => format!("{}/{}", provider.to_ascii_lowercase(), id.trim()),
            (_, None) => format!("fake/{text}"),
        };
        let provider = name.split('/').next().unwrap();
        if !allowed.is_empty() && !allowed.contains(&name) {
            return Err(invalid(format!("model not allowed: {name}")));
        }
        match provider {
            "fake" => Ok(name),
            // A provider that the gateway knows by itself, and cannot use.
            "openai" => Err(invalid(format!(
                "Model {name} requires agent harness \"codex\", but no enabled plugin provides it. \
                 Install and enable its plugin, restart the Gateway, then select the model again."
            ))),
            _ => Err(invalid(format!("Unknown provider \"{provider}\". Use /models to list providers."))),
        }
    }

    fn allowed_for(&self, agent: &str) -> Option<Vec<String>> {
        let own = self.agents.get(agent)?;
        Some(own.clone().unwrap_or_else(|| self.allowed.clone()))
    }

    fn new_row(&self, key: &str) -> Value {
        let (provider, model) = self.default_model.split_once('/').unwrap();
        json!({
            "key": key, "sessionId": format!("00000000-0000-4000-8000-{:012}", self.now % 1_000_000_000_000),
            "createdAt": self.now, "updatedAt": self.now, "kind": "direct", "classification": classification(key),
            "agentId": agent_of(key), "isMain": key.ends_with(":main"),
            "isBackground": matches!(classification(key), "cron" | "subagent"), "archived": false, "pinned": false,
            "modelProvider": provider, "model": model, "modelOverrideSource": null, "hasActiveRun": false,
            "activeRunIds": [],
        })
    }
}

/// A key as a gateway completes it.
fn full_key(key: &str) -> String {
    if key.starts_with("agent:") { key.to_owned() } else { format!("agent:main:{key}") }
}

fn agent_of(key: &str) -> &str {
    key.strip_prefix("agent:").and_then(|rest| rest.split(':').next()).unwrap_or("main")
}

fn classification(key: &str) -> &'static str {
    let parts: Vec<&str> = key.split(':').skip(2).collect();
    let kinds = ["direct", "group", "channel", "dashboard", "explicit", "cron", "subagent", "main"];
    kinds.into_iter().find(|kind| parts.contains(kind)).unwrap_or("custom")
}

/// A session as the store has it, in the reply to a change.
fn entry(row: &Value) -> Value {
    let mut entry =
        json!({ "sessionId": row["sessionId"], "updatedAt": row["updatedAt"], "createdAt": row["createdAt"] });
    if !row["modelOverrideSource"].is_null() {
        entry["providerOverride"] = row["modelProvider"].clone();
        entry["modelOverride"] = row["model"].clone();
        entry["modelOverrideSource"] = row["modelOverrideSource"].clone();
    }
    if let Some(level) = row.get("thinkingLevel") {
        entry["thinkingLevel"] = level.clone();
    }
    entry
}
