//! A copy of `examples/claude-code`, whose sessions are real ones, and talk to nothing but a stand-in for the provider.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::claude::provider::{Provider, Turn};
use crate::slow::until;
use crate::support::{Run, finish};

/// The chats of the kit, and the slugs of their sessions.
pub const ADMIN: (&str, &str) = ("+16175550101", "imessage-_16175550101");
pub const FAMILY: (&str, &str) = ("+16175550103", "imessage-_16175550103");
pub const BOT: (&str, &str) = ("discord:428190331", "discord-428190331");

/// Between two looks at what a session has written.
const PAUSE: Duration = Duration::from_millis(50);

/// What the sessions of the kit need.
pub const PROGRAMS: [&str; 3] = ["claude", "supervisord", "supervisorctl"];

/// A copy of the kit. Its supervisor is shut down with it.
pub struct Kit {
    pub provider: Provider,
    root: TempDir,
}

impl Kit {
    pub fn new() -> Self {
        let kit = Self { provider: Provider::start(), root: TempDir::new().unwrap() };
        fs::create_dir(kit.root.path().join("kit")).unwrap();
        fs::create_dir(kit.root.path().join("home")).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/claude-code");
        for file in fs::read_dir(example).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), kit.path(file.file_name().to_str().unwrap())).unwrap();
        }
        kit
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("kit").join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A command in the kit's directory, with nothing in its environment that could lead it elsewhere.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let ours = Path::new(env!("CARGO_BIN_EXE_reconcile")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([ours].into_iter().chain(std::env::split_paths(&path))).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path("")).stdin(Stdio::null());
        command.env_clear().env("PATH", path).env("HOME", self.root.path().join("home")).env("TZ", "UTC");
        command.env("ANTHROPIC_BASE_URL", self.provider.url()).env("ANTHROPIC_API_KEY", "none");
        for name in ["DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] {
            command.env(name, "1");
        }
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Run {
        finish(&mut self.command(program, arguments))
    }

    pub fn reconcile(&self, arguments: &[&str]) -> Run {
        self.run("reconcile", arguments)
    }

    pub fn supervisorctl(&self, arguments: &[&str]) -> Run {
        self.run("supervisorctl", &[&["-c", "supervisord.conf"], arguments].concat())
    }

    /// Starts the supervisor, and waits until its sessions are up.
    pub fn start(&self) {
        self.run("supervisord", &["-c", "supervisord.conf"]).expect(0);
        for (_, slug) in [ADMIN, FAMILY, BOT] {
            self.wait_until_up(slug);
        }
    }

    pub fn wait_until_up(&self, slug: &str) {
        until("supervisord says that it runs", || {
            sleep(PAUSE);
            self.supervisorctl(&["status", slug]).stdout.contains("RUNNING")
        });
    }

    /// Shuts the supervisor down, and waits for its end.
    pub fn stop(&self) {
        self.supervisorctl(&["shutdown"]);
        until("supervisord ends", || {
            sleep(PAUSE);
            !self.path("supervisord.pid").exists()
        });
    }

    /// The process of a session.
    pub fn pid(&self, slug: &str) -> String {
        self.supervisorctl(&["pid", slug]).expect(0).stdout
    }

    /// Says something to a session. Returns what the provider is asked, once the session has ended the turn.
    pub fn say(&self, slug: &str, text: &str) -> Turn {
        let before = self.turns(slug).len();
        self.run("./say", &[slug, text]).expect(0);
        let turn = self.provider.turn(text);
        self.wait_for_turn(slug, before);
        turn
    }

    /// Waits until a session has ended more turns than so many.
    pub fn wait_for_turn(&self, slug: &str, before: usize) {
        until("the session ends its turn", || {
            sleep(PAUSE);
            self.turns(slug).len() > before
        });
    }

    /// What a session has said at the end of each turn.
    pub fn turns(&self, slug: &str) -> Vec<Value> {
        let log = self.read(&format!("{slug}.log"));
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["type"] == "result").collect()
    }

    /// The entry of a chat in the registry.
    pub fn entry(&self, chat: &str) -> Value {
        let registry: Value = serde_json::from_str(&self.read("sessions.json")).unwrap();
        registry[chat].clone()
    }

    pub fn change_policy(&self, from: &str, to: &str) {
        let policy = self.read("policy.toml");
        assert!(policy.contains(from), "{policy}");
        fs::write(self.path("policy.toml"), policy.replace(from, to)).unwrap();
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        if self.path("supervisord.pid").exists() {
            self.supervisorctl(&["shutdown"]);
            let ended = || !self.path("supervisord.pid").exists();
            for _ in 0..200 {
                if ended() {
                    break;
                }
                sleep(PAUSE);
            }
        }
    }
}
