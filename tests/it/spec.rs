//! What per-chat models are about, from end to end: a new session gets its tier's model, a model that was set is used,
//! it outlives a restart of the daemon, and sessions from before there were models get their tier's. "The daemon" is a
//! small supervisor, whose sessions are launches.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::slow::{Lines, Running, fifo};
use crate::support::Sandbox;

/// A model that the registry has wins over the tiers.
const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "sonnet"

[tiers]
admin    = "opus"
wife     = "opus"
family   = "sonnet"
favorite = "sonnet"
bots     = "haiku"
unknown  = "haiku"

[registry]
path     = "sessions.json"
existing = "keep"

[sessions]
restart = ["./restart"]
"#;

/// Every tier, one that the policy does not know, and its model.
const TIERS: [(&str, &str); 7] = [
    ("admin", "opus"),
    ("wife", "opus"),
    ("family", "sonnet"),
    ("favorite", "sonnet"),
    ("bots", "haiku"),
    ("unknown", "haiku"),
    ("colleague", "sonnet"),
];

struct Daemon {
    /// The chats that it is asked to restart.
    asked: Lines,
    answer: File,
    sessions: BTreeMap<String, Child>,
    sandbox: Sandbox,
}

impl Daemon {
    fn new(registry: &Value) -> Self {
        let sandbox = Sandbox::new(POLICY, &registry.to_string());
        sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID\" > asked\nread -r answer < answered");
        sandbox.script("session", "echo \"$@\"\nexec sleep 2147483647");
        let (asked, answer) = (Lines::listen(sandbox.path("asked")), fifo(&sandbox.path("answered")));
        Self { asked, answer, sessions: BTreeMap::new(), sandbox }
    }

    /// Starts a session, new or resumed, and returns what it is started with.
    fn start(&mut self, chat: &str, tier: &str) -> String {
        let launch = ["launch", chat, "--tier", tier, "--session-name", chat];
        let session = ["--", "./session", "--model", "{model}", "--resume", "{resume_id}"];
        let mut command = self.sandbox.command(&[&launch[..], &session].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        self.sessions.insert(chat.to_owned(), child);
        line.trim_end().to_owned()
    }

    fn stop(&mut self, chat: &str) {
        if let Some(mut child) = self.sessions.remove(chat) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Runs a command that asks for the restart of one session, and returns what that is started with.
    fn restarting(&mut self, arguments: &[&str], chat: &str) -> String {
        let mut run = Running::start(&mut self.sandbox.command(arguments));
        assert_eq!(self.asked.next("a session is to be restarted"), chat);
        self.stop(chat);
        let started = self.start(chat, "");
        self.answer.write_all(b"done\n").unwrap();
        run.finish().expect(0);
        started
    }

    /// The session has had a turn, and can be resumed.
    fn converse(&self, chat: &str) {
        let mut registry: Value = serde_json::from_str(&self.sandbox.read("sessions.json")).unwrap();
        registry[chat]["resume_id"] = conversation(chat).into();
        fs::write(self.sandbox.path("sessions.json"), registry.to_string()).unwrap();
    }
}

/// The id of a chat's conversation.
fn conversation(chat: &str) -> String {
    format!("conversation-{}", chat.trim_start_matches('+'))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for child in self.sessions.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn create_a_new_session_and_verify_that_the_tier_default_is_applied() {
    let mut daemon = Daemon::new(&json!({}));
    for (tier, model) in TIERS {
        assert_eq!(daemon.start(tier, tier), format!("--model {model}"));
        assert_eq!(daemon.sandbox.model(tier).as_deref(), Some(model), "it is registered");
    }
    assert!(daemon.sandbox.run(&[]).expect(0).summary().starts_with("No changes."));
}

#[test]
fn set_the_model_via_the_cli_and_verify_that_the_session_uses_the_new_model() {
    let mut daemon = Daemon::new(&json!({}));
    assert_eq!(daemon.start("+1", "family"), "--model sonnet");
    assert_eq!(daemon.start("+2", "family"), "--model sonnet");
    daemon.converse("+1");
    let pid = daemon.sessions["+1"].id();
    let started = daemon.restarting(&["set-model", "+1", "opus"], "+1");
    assert_eq!(started, format!("--model opus --resume {}", conversation("+1")));
    assert_ne!(daemon.sessions["+1"].id(), pid);
    assert_eq!(daemon.sandbox.model("+1").as_deref(), Some("opus"));
    assert_eq!(daemon.sandbox.model("+2").as_deref(), Some("sonnet"));
    // Neither a model that is not allowed, nor a chat that there is not.
    daemon.sandbox.run(&["set-model", "+1", "gpt"]).expect(1);
    daemon.sandbox.run(&["set-model", "+9", "opus"]).expect(1);
    assert_eq!(daemon.sandbox.model("+1").as_deref(), Some("opus"));
}

#[test]
fn restart_the_daemon_and_verify_that_the_model_is_persisted_and_used_on_resume() {
    let mut daemon = Daemon::new(&json!({}));
    for chat in ["+1", "+2"] {
        daemon.start(chat, "family");
        daemon.converse(chat);
    }
    daemon.restarting(&["set-model", "+1", "opus"], "+1");
    for chat in ["+1", "+2"] {
        daemon.stop(chat);
    }
    // It says no more than which chat it is; the registry knows the rest.
    assert_eq!(daemon.start("+1", ""), format!("--model opus --resume {}", conversation("+1")));
    assert_eq!(daemon.start("+2", ""), format!("--model sonnet --resume {}", conversation("+2")));
    assert!(daemon.sandbox.run(&[]).expect(0).summary().starts_with("No changes."));
}

#[test]
fn upgrade_existing_sessions_and_verify_the_graceful_fallback_to_tier_defaults() {
    let old = |tier: &str| json!({ "chat_id": tier, "session_name": tier, "tier": tier, "resume_id": "old" });
    let mut registry: BTreeMap<&str, Value> = TIERS.iter().map(|(tier, _)| (*tier, old(tier))).collect();
    registry.insert("chosen", json!({ "tier": "bots", "model": "opus", "resume_id": "old" }));
    let mut daemon = Daemon::new(&json!(registry));
    for (tier, model) in TIERS.into_iter().chain([("chosen", "opus")]) {
        assert_eq!(daemon.start(tier, ""), format!("--model {model} --resume old"));
        assert_eq!(daemon.sandbox.model(tier).as_deref(), Some(model), "it is registered");
    }
    assert!(daemon.sandbox.run(&[]).expect(0).summary().starts_with("No changes."));
}
