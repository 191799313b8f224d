//! `[sessions]`: which backend keeps the models, and its settings. What a backend can do stands with the backend.

use std::time::Duration;

use crate::chat::Model;
use crate::diagnostic::Diagnostic;
use crate::policy::Existing;
use crate::policy::command::inside;
use crate::policy::conversation::ConversationPath;
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;
use crate::policy::template::CommandLine;

const RESTART: &str = r#"["supervisorctl", "restart", "{session_slug}"]"#;
const RUNNING: &str = r#"["supervisorctl", "status", "{session_slug}"]"#;
const CONVERSATION: &str = r#"conversation = "~/.claude/projects/{cwd_slug}/{session_id}.jsonl""#;
const IDENTITY: &str = r#"["supervisorctl", "pid", "{session_slug}"]"#;

/// The lines of `[sessions]` that a first policy may need, each with what it is for. They are comments there.
pub const SUGGESTED: [(&str, &str); 2] = [
    (r#"restart = ["supervisorctl", "restart", "{session_slug}"]"#, ""),
    (r#"backend = "dispatch""#, "instead, if the dispatch daemon owns the registry"),
];

/// `[sessions]`.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// The backend, and what only that one is told.
    pub backend: BackendSettings,
    /// How long one command or request may take.
    pub timeout: Duration,
    /// How many restarts may be under way at once.
    pub parallel: usize,
}

/// The settings of one backend.
#[derive(Clone, Debug)]
pub enum BackendSettings {
    /// Of `file`.
    File(FileSettings),
    /// Of `dispatch`.
    Dispatch(DispatchSettings),
}

impl BackendSettings {
    /// Its name in a policy.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Dispatch(_) => "dispatch",
        }
    }
}

/// The settings of `file`: a registry that only this program writes, and commands that restart sessions.
#[derive(Clone, Debug, Default)]
pub struct FileSettings {
    /// Restarts one session. Without it nothing is restarted.
    pub restart: Option<CommandLine>,
    /// Asks whether one session is running.
    pub running: Option<CommandLine>,
    /// Prints something of one session that changes with each start of it, such as its process id.
    pub identity: Option<CommandLine>,
    /// What a session without a model runs on.
    pub unset_runs: Option<Model>,
    /// Where the program of a session keeps its conversation.
    pub conversation: Option<ConversationPath>,
}

/// The settings of `dispatch`: where the daemon listens that owns the registry.
#[derive(Clone, Debug)]
pub struct DispatchSettings {
    /// Its socket, as written.
    pub socket: String,
    /// How long one run waits for busy sessions in all.
    pub drain: Duration,
}

impl Sessions {
    /// Whether it has commands that are run on this host.
    pub fn has_commands(&self) -> bool {
        let BackendSettings::File(FileSettings { restart, running, identity, .. }) = &self.backend else {
            return false;
        };
        [restart, running, identity].iter().any(|command| command.is_some())
    }

    /// Where the programs of sessions keep their conversations, if a launch is to know.
    pub fn conversation(&self) -> Option<&ConversationPath> {
        match &self.backend {
            BackendSettings::File(file) => file.conversation.as_ref(),
            BackendSettings::Dispatch(_) => None,
        }
    }

    /// The socket that is asked, as written, if any.
    pub fn socket(&self) -> Option<&str> {
        match &self.backend {
            BackendSettings::Dispatch(dispatch) => Some(&dispatch.socket),
            BackendSettings::File(_) => None,
        }
    }
}

impl<'r> Reader<'r> {
    /// Reads the section. `existing` is what becomes of models that the registry has already.
    pub(super) fn sessions(&self, whole: &mut Section<'r>, existing: &Existing) -> Sessions {
        const BACKENDS: [&str; 2] = ["file", "dispatch"];
        const FILE_ONLY: [&str; 6] =
            ["names_in_arguments", "restart", "running", "identity", "unset_runs", "conversation"];
        const DISPATCH_ONLY: [&str; 2] = ["socket", "drain"];
        let mut section = whole.section(self.mistakes, "sessions", "a table: [sessions]");
        let backend = section.get(self.mistakes, "backend");
        let dispatch = backend.is_some_and(|item| self.word(&item, &BACKENDS) == Some("dispatch"));

        let timeout = section.get(self.mistakes, "timeout");
        let timeout = timeout.and_then(|item| item.duration(self.mistakes, r#"timeout = "30s""#));
        let timeout = timeout.unwrap_or(Duration::from_secs(30));
        let written = section.get(self.mistakes, "parallel");
        let parallel = written.as_ref().and_then(|item| item.integer(self.mistakes, 1, 1000, "parallel = 4"));
        if let Some(item) = written.filter(|_| dispatch && parallel.is_some_and(|parallel| parallel > 1)) {
            self.mistakes.add(|| {
                let message = "`parallel` above 1 gains little: the daemon starts one session at a time";
                let label = "messages to other chats wait for all of these starts";
                Diagnostic::warning("parallel-with-dispatch", message, item.place(), label)
                    .help("remove it: 20 restarts took 40.7 s with 8 and 41.9 s with 1, and a message waited 13.9 s instead of 1.8 s")
            });
        }

        let (foreign, mine) = if dispatch { (&FILE_ONLY[..], "file") } else { (&DISPATCH_ONLY[..], "dispatch") };
        for key in foreign {
            if let Some(item) = section.get(self.mistakes, key) {
                self.mistakes.add(|| {
                    let message = format!("`{}` is for `backend = \"{mine}\"` only", item.name);
                    item.mistake("wrong-backend", message, "remove it, or change the backend")
                });
            }
        }
        let (backend, usual) = if dispatch {
            (BackendSettings::Dispatch(self.dispatch(&mut section, existing)), 1)
        } else {
            (BackendSettings::File(self.file(&mut section)), 4)
        };
        section.finish(self.mistakes);
        Sessions { backend, timeout, parallel: parallel.unwrap_or(usual) }
    }

    fn file(&self, section: &mut Section<'r>) -> FileSettings {
        let scope = self.scope(section.get(self.mistakes, "names_in_arguments").as_ref());
        let restart = section.get(self.mistakes, "restart").and_then(|item| self.command(&item, scope, RESTART));
        let running = section.get(self.mistakes, "running");
        let identity = section.get(self.mistakes, "identity");
        if let (Some(identity), None) = (&identity, &running) {
            self.mistakes.add(|| {
                let message = "`identity` verifies nothing without `running`";
                let label = "nothing asks whether a restarted session comes up";
                Diagnostic::warning("identity-without-running", message, identity.place(), label)
                    .help(format!("add running = {RUNNING}"))
            });
        }
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

    fn dispatch(&self, section: &mut Section<'r>, existing: &Existing) -> DispatchSettings {
        let socket = section.get(self.mistakes, "socket");
        let socket = socket.and_then(|item| self.text(&item, r#"socket = "/tmp/claude-assistant.sock""#));
        let drain = section.get(self.mistakes, "drain");
        let drain = drain.and_then(|item| item.duration(self.mistakes, r#"drain = "60s""#));
        if let Existing::Keep(because) = existing {
            self.mistakes.add(|| {
                let message = "`existing = \"keep\"` keeps what the daemon chose, too";
                let label = "the daemon writes its own default into entries";
                Diagnostic::warning("keep-with-dispatch", message, because.at.place(self.sources), label)
                    .help("write existing = \"keep-manual\", or \"replace\" and the exceptions in [chats]")
            });
        }
        DispatchSettings {
            socket: socket.unwrap_or_else(|| "/tmp/claude-assistant.sock".to_owned()),
            drain: drain.unwrap_or(Duration::from_secs(60)),
        }
    }
}
