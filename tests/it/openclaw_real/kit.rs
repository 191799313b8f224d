//! An OpenClaw gateway in a directory of its own, which talks to nothing but stand-ins. It is killed with the test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use reconcile::backend::openclaw::{Access, Fault, Gateway, Scope, SessionRow, Target, Token};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gateway::Client;
use crate::openclaw_real::SLOW;
use crate::openclaw_real::provider::Provider;
use crate::openclaw_real::telegram::Telegram;
use crate::support::{Run, Sandbox, finish};

/// Between two looks at what the gateway brings about by itself.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Kit {
    pub provider: Provider,
    pub telegram: Telegram,
    root: TempDir,
    pub port: u16,
    gateway: Child,
}

impl Kit {
    /// Starts a gateway, and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(|_| (), Self::is_ready)
    }

    /// Starts one that listens on all addresses of this host, and encrypts with a certificate that it makes.
    #[cfg(feature = "remote")]
    pub fn start_encrypted() -> Self {
        let alter = |gateway: &mut Value| {
            gateway["bind"] = "lan".into();
            gateway["tls"] = json!({ "enabled": true });
        };
        Self::start_with(alter, |kit| fs::read_to_string(kit.path("log")).unwrap().contains("[gateway] ready"))
    }

    /// Starts a gateway whose settings about itself are altered, and waits until it is ready.
    fn start_with(alter: fn(&mut Value), is_ready: fn(&Self) -> bool) -> Self {
        let (provider, telegram, root) = (Provider::start(), Telegram::start(), TempDir::new().unwrap());
        // It is free again when the listener is dropped.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut configuration = configuration(port, &provider, &telegram, &root);
        alter(&mut configuration["gateway"]);
        fs::write(root.path().join("openclaw.json"), configuration.to_string()).unwrap();
        let gateway = run(&root);
        let kit = Self { provider, telegram, root, port, gateway };
        kit.until("the gateway is ready", || is_ready(&kit));
        kit
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// A command of OpenClaw's own program, for this gateway.
    pub fn openclaw(&self, arguments: &[&str]) -> Command {
        command_of_openclaw(&self.root, arguments)
    }

    pub fn connect(&self, scope: Scope) -> Result<Gateway, Fault> {
        let access = Access::with_token(self.url().parse().unwrap(), Some(Token::new(TOKEN)));
        Gateway::connect(access, scope, SLOW)
    }

    /// Sorts chats into a group of the sidebar. One that is not there is made.
    pub fn sort_into(&self, group: &str, keys: &[&str]) {
        let mut client = Client::connect(&self.url(), TOKEN, &["operator.read", "operator.write"]);
        for keys in keys.chunks(100) {
            let targets: Vec<Value> = keys.iter().map(|key| json!({ "key": key })).collect();
            let patch = json!({ "category": group });
            let reply = client.call("sessions.patchMany", &json!({ "targets": targets, "patch": patch }));
            let outcomes = reply["payload"]["outcomes"].as_array().unwrap();
            assert!(outcomes.iter().all(|outcome| outcome["ok"] == true), "{reply}");
        }
    }

    /// A directory with a policy for this gateway, which allows all models, and `default` where nothing else is said.
    pub fn sandbox(&self, rules: &str) -> Sandbox {
        let models =
            "[models]\nallowed = [\"fake/big\", \"fake/mid\", \"fake/small\", \"default\"]\nfallback = \"default\"\n";
        let sessions = format!(
            "[sessions]\nbackend = \"openclaw\"\nurl = {:?}\ntoken = {{ env = \"GATEWAY_TOKEN\" }}\nstate = {:?}\ntimeout = \"60s\"\n",
            self.url(),
            self.path("reconcile").to_str().unwrap(),
        );
        Sandbox::new(&format!("{models}{rules}{sessions}"), "{}")
    }

    /// Starts the gateway again, after it was killed.
    pub fn start_again(&mut self) {
        self.gateway = run(&self.root);
        self.until("the gateway is ready again", || self.is_ready());
    }

    /// Waits until something holds that the gateway brings about by itself.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let since = Instant::now();
        while !holds() {
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(since.elapsed() < SLOW, "this never happened: {what}\n{}", log());
            sleep(PAUSE);
        }
    }

    fn is_ready(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            stream.set_read_timeout(Some(SLOW)).ok()?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).ok()?;
            Some(reply)
        };
        ask().is_some_and(|reply| reply.starts_with("HTTP/1.1 200"))
    }

    /// The gateway dies at once.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// The gateway ends what it has begun, and tells its clients.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        // It may have ended already.
        let _ = kill_process_group(Pid::from_child(&self.gateway), signal);
        drop(self.gateway.wait());
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        self.kill();
    }
}

pub const TOKEN: &str = "TOKEN-FOR-TESTS";

/// Three models of one provider, none of which is forbidden, and a Telegram bot that everybody may write to.
fn configuration(port: u16, provider: &Provider, telegram: &Telegram, root: &TempDir) -> Value {
    let model = |id: &str, reasoning: bool| json!({ "id": id, "name": id, "reasoning": reasoning, "contextWindow": 128_000, "maxTokens": 4096 });
    let models = [model("big", true), model("mid", false), model("small", false)];
    json!({
        "gateway": {
            "mode": "local", "bind": "loopback", "port": port, "auth": { "mode": "token", "token": TOKEN },
            "controlUi": { "enabled": false },
        },
        "models": {
            "mode": "replace", "catalogRefresh": { "enabled": false },
            "providers": {
                "fake": { "baseUrl": provider.url(), "apiKey": "none", "api": "openai-completions", "models": models },
            },
        },
        "agents": {
            "defaults": { "model": { "primary": "fake/mid", "fallbacks": ["fake/small"] }, "heartbeat": { "every": "0m" } },
        },
        "channels": {
            "telegram": {
                "enabled": true, "botToken": "4242:NONE", "apiRoot": telegram.url(), "dmPolicy": "open",
                "allowFrom": ["*"], "groupPolicy": "open", "groups": { "*": { "requireMention": false } },
            },
        },
        "session": { "dmScope": "per-channel-peer" },
        "logging": { "file": root.path().join("gateway.log") },
        "update": { "checkOnStart": false },
        "telemetry": { "enabled": false },
        "discovery": { "mdns": { "mode": "off" } },
    })
}

/// A command of OpenClaw's own program, with nothing in its environment that could lead it elsewhere.
fn command_of_openclaw(root: &TempDir, arguments: &[&str]) -> Command {
    let path = |name: &str| root.path().join(name);
    for directory in ["home", "tmp"] {
        fs::create_dir_all(path(directory)).unwrap();
    }
    let mut command = Command::new("openclaw");
    command.args(arguments).current_dir(root.path()).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", path("home")).env("TMPDIR", path("tmp")).env("OPENCLAW_STATE_DIR", path("state"));
    command.env("OPENCLAW_CONFIG_PATH", path("openclaw.json"));
    command
}

/// Runs the gateway.
fn run(root: &TempDir) -> Child {
    let log = File::options().create(true).append(true).open(root.path().join("log")).unwrap();
    let mut command = command_of_openclaw(root, &["gateway", "run"]);
    command.stderr(log.try_clone().unwrap()).stdout(log).process_group(0).spawn().unwrap()
}

/// The session of a chat, as it is listed.
pub fn session(gateway: &mut Gateway, key: &str) -> SessionRow {
    let rows = gateway.sessions().unwrap().rows;
    rows.into_iter().find(|row| row.key == key).unwrap_or_else(|| panic!("no session {key}"))
}

/// The sessions of these chats, to be changed.
pub fn targets(gateway: &mut Gateway, keys: &[&str]) -> Vec<Target> {
    let rows = keys.iter().map(|key| session(gateway, key));
    rows.map(|row| Target { key: row.key, session_id: row.session_id.unwrap() }).collect()
}

pub fn command(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(arguments);
    command.env("GATEWAY_TOKEN", TOKEN);
    command
}

pub fn reconcile(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    finish(&mut command(sandbox, arguments))
}
