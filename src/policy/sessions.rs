//! `[sessions]`: the backend and its settings. What a backend can do is in `backend/`.

use std::time::Duration;

use crate::chat::Model;
use crate::diagnostic::Diagnostic;
use crate::policy::Existing;
use crate::policy::command::inside;
use crate::policy::conversation::ConversationPath;
use crate::policy::fields::{Item, Section};
use crate::policy::fingerprint::Fingerprint;
use crate::policy::read::Reader;
use crate::policy::template::CommandLine;

const RESTART: &str = r#"["supervisorctl", "restart", "{session_slug}"]"#;
const RUNNING: &str = r#"["supervisorctl", "status", "{session_slug}"]"#;
const CONVERSATION: &str = r#"conversation = "~/.claude/projects/{cwd_slug}/{session_id}.jsonl""#;
const URL: &str = r#"url = "ws://127.0.0.1:18789""#;
const TOKEN: &str = r#"token = { env = "OPENCLAW_GATEWAY_TOKEN" }, or { file = "…" }"#;
const FINGERPRINT: &str = r#"fingerprint = "sha256:…""#;
const IDENTITY: &str = r#"["supervisorctl", "pid", "{session_slug}"]"#;

/// A line of `[sessions]` that a first policy suggests in a comment.
#[derive(Clone, Copy, Debug)]
pub struct Suggestion {
    /// The line.
    pub line: &'static str,
    /// What the line is for; empty where that is plain.
    pub purpose: &'static str,
}

/// The lines of `[sessions]` that a first policy suggests.
pub const SUGGESTED: [Suggestion; 5] = [
    Suggestion { line: r#"restart  = ["supervisorctl", "restart", "{session_slug}"]"#, purpose: "" },
    Suggestion { line: r#"running  = ["supervisorctl", "status", "{session_slug}"]"#, purpose: "" },
    Suggestion { line: r#"identity = ["supervisorctl", "pid", "{session_slug}"]"#, purpose: "" },
    Suggestion { line: CONVERSATION, purpose: "where Claude Code keeps them" },
    Suggestion { line: r#"backend = "dispatch""#, purpose: "instead, if the dispatch daemon owns the registry" },
];

/// `[sessions]`.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// The backend, with the settings that only this backend has.
    pub backend: BackendSettings,
    /// How long one command or request may take.
    pub timeout: Duration,
    /// How many restarts may be under way at once.
    pub parallel: usize,
}

/// The settings of one backend.
#[derive(Clone, Debug)]
pub enum BackendSettings {
    /// Commands on this host restart sessions. The registry is a file, or a table of a database.
    File(FileSettings),
    /// The dispatch daemon owns the registry and restarts sessions.
    Dispatch(DispatchSettings),
    /// An OpenClaw gateway keeps the models of its sessions.
    Openclaw(OpenclawSettings),
}

impl BackendSettings {
    /// The value of `sessions.backend` for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Dispatch(_) => "dispatch",
            Self::Openclaw(_) => "openclaw",
        }
    }

    /// Whether its registry can be the file that `registry.path` names.
    pub(crate) fn has_file(&self) -> bool {
        match self {
            Self::File(_) | Self::Dispatch(_) => true,
            Self::Openclaw(_) => false,
        }
    }

    /// Whether a changed model takes effect by itself, so that no session is ever restarted.
    pub(super) fn never_restarts(&self) -> bool {
        match self {
            Self::File(_) | Self::Dispatch(_) => false,
            Self::Openclaw(_) => true,
        }
    }
}

/// The settings of the backend `file`: the commands that restart sessions.
#[derive(Clone, Debug, Default)]
pub struct FileSettings {
    /// The command that restarts one session. Without it nothing is restarted.
    pub restart: Option<CommandLine>,
    /// The command whose exit code says whether one session is running.
    pub running: Option<CommandLine>,
    /// The command that prints an identifier of a session's present start, such as its process id.
    pub identity: Option<CommandLine>,
    /// The model that a session runs on while its entry has none.
    pub unset_runs: Option<Model>,
    /// The path of the file in which the program of a session keeps its conversation.
    pub conversation: Option<ConversationPath>,
}

/// The settings of the backend `dispatch`: how to reach the daemon, and how long to wait for its sessions.
#[derive(Clone, Debug)]
pub struct DispatchSettings {
    /// The path of the daemon's socket, as written.
    pub socket: String,
    /// How long one run waits for all busy sessions together.
    pub drain: Duration,
}

/// The settings of the backend `openclaw`: how to reach the gateway, and which of its sessions are managed.
#[derive(Clone, Debug)]
pub struct OpenclawSettings {
    /// The address of the gateway, as written, such as `ws://127.0.0.1:18789`.
    pub url: String,
    /// Where the gateway's token is; `None` for a gateway that needs no token.
    pub token: Option<TokenSource>,
    /// The only certificate that a gateway on this host may present.
    pub fingerprint: Option<Fingerprint>,
    /// The path of the private key that identifies this program to the gateway, as written.
    pub device_key: Option<String>,
    /// The directory for what runs remember, as written; without it, one below the user's state home.
    pub state: Option<String>,
    /// Whether sessions of scheduled jobs and of subagents are managed as well.
    pub background: bool,
}

impl OpenclawSettings {
    /// A gateway at this address, with defaults for all other settings. The token comes from `OPENCLAW_GATEWAY_TOKEN`.
    pub(crate) fn at(url: String) -> Self {
        let token = Some(TokenSource::Env("OPENCLAW_GATEWAY_TOKEN".to_owned()));
        Self { url, token, fingerprint: None, device_key: None, state: None, background: false }
    }
}

/// Where a token is. A policy must not have the token itself in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// In the environment variable of this name.
    Env(String),
    /// In the file with this path, as written.
    File(String),
}

impl Sessions {
    /// Whether it has commands that are run on this host.
    pub(crate) fn has_commands(&self) -> bool {
        let BackendSettings::File(FileSettings { restart, running, identity, .. }) = &self.backend else {
            return false;
        };
        [restart, running, identity].iter().any(|command| command.is_some())
    }

    /// The path of the files in which the programs of sessions keep their conversations, if the policy has one.
    pub(crate) fn conversation(&self) -> Option<&ConversationPath> {
        match &self.backend {
            BackendSettings::File(file) => file.conversation.as_ref(),
            BackendSettings::Dispatch(_) | BackendSettings::Openclaw(_) => None,
        }
    }

    /// The path of the daemon's socket, as written, if the backend has one.
    pub(crate) fn socket(&self) -> Option<&str> {
        match &self.backend {
            BackendSettings::Dispatch(dispatch) => Some(&dispatch.socket),
            BackendSettings::File(_) | BackendSettings::Openclaw(_) => None,
        }
    }
}

/// A key of `[sessions]` that only some backends have.
struct OwnKey {
    key: &'static str,
    backends: &'static [&'static str],
}

/// The keys of `[sessions]` that only some backends have.
const OWN_KEYS: [OwnKey; 15] = [
    OwnKey { key: "names_in_arguments", backends: &["file"] },
    OwnKey { key: "restart", backends: &["file"] },
    OwnKey { key: "running", backends: &["file"] },
    OwnKey { key: "identity", backends: &["file"] },
    OwnKey { key: "unset_runs", backends: &["file"] },
    OwnKey { key: "conversation", backends: &["file"] },
    OwnKey { key: "socket", backends: &["dispatch"] },
    OwnKey { key: "drain", backends: &["dispatch"] },
    OwnKey { key: "parallel", backends: &["file", "dispatch"] },
    OwnKey { key: "url", backends: &["openclaw"] },
    OwnKey { key: "token", backends: &["openclaw"] },
    OwnKey { key: "fingerprint", backends: &["openclaw"] },
    OwnKey { key: "device_key", backends: &["openclaw"] },
    OwnKey { key: "state", backends: &["openclaw"] },
    OwnKey { key: "background", backends: &["openclaw"] },
];

impl<'r> Reader<'r> {
    /// Reads `[sessions]`. `existing` is what `registry.existing` says.
    pub(super) fn sessions(&self, whole: &mut Section<'r>, existing: &Existing) -> Sessions {
        const BACKENDS: [&str; 3] = ["file", "dispatch", "openclaw"];
        let mut section = whole.section(self.mistakes, "sessions", "a table: [sessions]");
        let backend = section.get(self.mistakes, "backend");
        let backend = backend.and_then(|item| self.word(&item, &BACKENDS)).unwrap_or("file");

        let timeout = section.get(self.mistakes, "timeout");
        let timeout = timeout.and_then(|item| item.duration(self.mistakes, r#"timeout = "30s""#));
        let timeout = timeout.unwrap_or(Duration::from_secs(30));
        let parallel = self.parallel(&mut section, backend);
        let (settings, default_parallel) = match backend {
            "dispatch" => (BackendSettings::Dispatch(self.dispatch(&mut section, existing)), 1),
            "openclaw" => (BackendSettings::Openclaw(self.openclaw(&mut section)), 1),
            _ => (BackendSettings::File(self.file(&mut section)), 4),
        };
        self.refuse_keys_of_others(&mut section, backend);
        section.finish(self.mistakes);
        Sessions { backend: settings, timeout, parallel: parallel.unwrap_or(default_parallel) }
    }

    /// Reads `parallel`, and warns of it where it gains little.
    fn parallel(&self, section: &mut Section<'r>, backend: &str) -> Option<usize> {
        let item = section.get(self.mistakes, "parallel")?;
        let parallel = item.integer(self.mistakes, 1, 1000, "parallel = 4")?;
        if backend == "dispatch" && parallel > 1 {
            self.mistakes.add(|| {
                let message = "`parallel` above 1 gains little: the daemon starts one session at a time";
                let label = "messages to other chats wait for all of these starts";
                Diagnostic::warning("parallel-with-dispatch", message, item.place(), label)
                    .help("remove it: when measured, 20 restarts took 40.7 s with 8 and 41.9 s with 1, and a message waited 13.9 s instead of 1.8 s")
            });
        }
        Some(parallel)
    }

    /// Reports the keys that only other backends have.
    fn refuse_keys_of_others(&self, section: &mut Section<'r>, backend: &str) {
        for OwnKey { key, backends } in OWN_KEYS.into_iter().filter(|own| !own.backends.contains(&backend)) {
            let Some(item) = section.get(self.mistakes, key) else { continue };
            self.mistakes.add(|| {
                let backends: Vec<String> = backends.iter().map(|name| format!("`backend = {name:?}`")).collect();
                let message = format!("`{}` works only with {}", item.name, backends.join(" and "));
                item.mistake("wrong-backend", message, "remove it, or change the backend")
            });
        }
    }

    fn file(&self, section: &mut Section<'r>) -> FileSettings {
        let scope = self.scope(section.get(self.mistakes, "names_in_arguments").as_ref());
        let restart = section.get(self.mistakes, "restart");
        let running = section.get(self.mistakes, "running");
        let identity = section.get(self.mistakes, "identity");
        if let (None, Some(asks)) = (&restart, running.as_ref().or(identity.as_ref())) {
            self.mistakes.add(|| {
                let message = format!("`{}` has no effect without `restart`", asks.name);
                let label = "no run restarts a session, so there is nothing to verify";
                Diagnostic::warning("verification-without-restart", message, asks.place(), label)
                    .help(format!("add restart = {RESTART}"))
            });
        }
        if let (Some(identity), None) = (&identity, &running) {
            self.mistakes.add(|| {
                let message = "`identity` has no effect without `running`";
                let label = "no command tells whether a restarted session comes up";
                Diagnostic::warning("identity-without-running", message, identity.place(), label)
                    .help(format!("add running = {RUNNING}"))
            });
        }
        let restart = restart.and_then(|item| self.command(&item, scope, RESTART));
        let running = running.and_then(|item| self.command(&item, scope, RUNNING));
        let identity = identity.and_then(|item| self.command(&item, scope, IDENTITY));
        let unset_runs = section.get(self.mistakes, "unset_runs").and_then(|item| self.model(&item));
        let conversation = section.get(self.mistakes, "conversation").and_then(|item| self.conversation(&item));
        FileSettings { restart, running, identity, unset_runs, conversation }
    }

    fn conversation(&self, item: &Item<'r>) -> Option<ConversationPath> {
        let text = self.text(item, CONVERSATION)?;
        let mistakes = match ConversationPath::parse(&text) {
            Ok(path) => return Some(path),
            Err(mistakes) => mistakes,
        };
        for mistake in mistakes {
            let code = if mistake.range.is_some() { "unknown-placeholder" } else { "missing-session-id" };
            let place = mistake.range.map_or_else(|| item.place(), |range| inside(item, range));
            self.mistakes.add(|| Diagnostic::error(code, mistake.message, place, "").help(mistake.advice));
        }
        None
    }

    fn openclaw(&self, section: &mut Section<'r>) -> OpenclawSettings {
        let url = section.get(self.mistakes, "url").and_then(|item| self.url(&item));
        let token = section.get(self.mistakes, "token").and_then(|item| self.token(&item));
        let fingerprint = section.get(self.mistakes, "fingerprint").and_then(|item| self.fingerprint(&item));
        let device_key = section.get(self.mistakes, "device_key");
        let device_key = device_key.and_then(|item| self.text(&item, r#"device_key = "gateway-device.pem""#));
        let state = section.get(self.mistakes, "state");
        let state = state.and_then(|item| self.text(&item, r#"state = "/var/lib/reconcile/openclaw""#));
        let background = section.get(self.mistakes, "background");
        let background = background.and_then(|item| item.boolean(self.mistakes, "background = true"));
        OpenclawSettings {
            url: url.unwrap_or_else(|| "ws://127.0.0.1:18789".to_owned()),
            token,
            fingerprint,
            device_key,
            state,
            background: background.unwrap_or(false),
        }
    }

    /// The address of a gateway, in which no secret may stand.
    fn url(&self, item: &Item<'r>) -> Option<String> {
        let url = self.text(item, URL)?;
        let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://"));
        let why = match rest {
            None => "must begin with ws:// or wss://",
            Some(rest) if rest.contains(['@', '?', '#']) => "must not have a user, a query or a fragment",
            Some(_) => return Some(url),
        };
        self.mistakes.add(|| {
            let message = format!("`{}` {why}", item.name);
            Diagnostic::error("not-an-address", message, item.hidden_place(), "").help(format!("write it as {URL}"))
        });
        None
    }

    fn fingerprint(&self, item: &Item<'r>) -> Option<Fingerprint> {
        let text = self.text(item, FINGERPRINT)?;
        let fingerprint = text.parse().ok();
        if fingerprint.is_none() {
            self.mistakes.add(|| {
                let message = format!("`{}` must be the SHA-256 of a certificate, as 64 hexadecimal digits", item.name);
                item.mistake("not-a-fingerprint", message, format!("write it as {FINGERPRINT}"))
            });
        }
        fingerprint
    }

    /// Where a token is. A message must not quote a token that was put into the policy itself.
    fn token(&self, item: &Item<'r>) -> Option<TokenSource> {
        if !item.value.is_table() {
            self.mistakes.add(|| {
                let message = format!("`{}` must name where the token is, and cannot be the token itself", item.name);
                Diagnostic::error("token-in-policy", message, item.hidden_place(), "").help(format!("write {TOKEN}"))
            });
            return None;
        }
        let mut table = item.table(self.mistakes, TOKEN)?;
        let env = table.get(self.mistakes, "env");
        let file = table.get(self.mistakes, "file");
        table.finish(self.mistakes);
        match (env, file) {
            (Some(env), None) => self.text(&env, r#"env = "OPENCLAW_GATEWAY_TOKEN""#).map(TokenSource::Env),
            (None, Some(file)) => self.text(&file, r#"file = "~/.openclaw-token""#).map(TokenSource::File),
            _ => {
                self.mistakes.add(|| {
                    let message = format!("`{}` must name either an environment variable or a file", item.name);
                    item.mistake("missing-key", message, format!("write {TOKEN}"))
                });
                None
            }
        }
    }

    fn dispatch(&self, section: &mut Section<'r>, existing: &Existing) -> DispatchSettings {
        let socket = section.get(self.mistakes, "socket");
        let socket = socket.and_then(|item| self.text(&item, r#"socket = "/tmp/claude-assistant.sock""#));
        let drain = section.get(self.mistakes, "drain");
        let drain = drain.and_then(|item| item.duration(self.mistakes, r#"drain = "60s""#));
        if let Existing::Keep(because) = existing {
            self.mistakes.add(|| {
                let message = "`existing = \"keep\"` also keeps models that the daemon chose";
                let label = "the daemon writes its own default into entries";
                Diagnostic::warning("keep-with-dispatch", message, because.at.place(self.sources), label)
                    .help("use existing = \"keep-manual\", or \"replace\" with the exceptions in [chats]")
            });
        }
        DispatchSettings {
            socket: socket.unwrap_or_else(|| "/tmp/claude-assistant.sock".to_owned()),
            drain: drain.unwrap_or(Duration::from_secs(60)),
        }
    }
}
