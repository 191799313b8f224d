//! The kit that gives new chats their model: it follows the daemon's bus.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::dispatch::{changes, daemon, sandbox, set_model};
use crate::handle::Double;
use crate::slow::{fifo, until};
use crate::support::Sandbox;

const NEW: &str = "+15550009999";
const OTHER: &str = "signal:+15550008888";

/// The kit, which ends with the test.
struct Kit {
    process: Child,
    bus: File,
}

impl Kit {
    /// Starts it with a bus that says what the test writes.
    fn start(sandbox: &Sandbox) -> Self {
        sandbox.script(
            "bus",
            "test \"$*\" = 'tail sessions --type session.created' && exec cat \"$(dirname \"$0\")/events\"",
        );
        let bus = fifo(&sandbox.path("events"));
        let program = Path::new(env!("CARGO_BIN_EXE_reconcile")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/dispatch/on-session-created");
        let mut command = Command::new(kit);
        command.current_dir(sandbox.path("")).env("PATH", path).env("TZ", "UTC").env("PAUSE", "0.05");
        command.env("DISPATCH_BUS", sandbox.path("bus")).env_remove("RECONCILE_REGISTRY");
        command.env("RECONCILE_POLICY", sandbox.path("policy.toml"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, bus }
    }

    /// The daemon has started the session of a chat.
    fn created(&mut self, record: &str) {
        writeln!(self.bus, "{record}").unwrap();
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// How often a run has asked what the sessions are doing.
fn looks(daemon: &Double) -> usize {
    daemon.requests().iter().filter(|request| request["cmd"] == "status").count()
}

fn until_looked_at_again(daemon: &Double) {
    let before = looks(daemon);
    until("another run", || looks(daemon) > before + 4);
}

#[test]
fn a_new_chat_gets_its_model_as_soon_as_its_first_turn_has_ended() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[]);
    let mut kit = Kit::start(&sandbox);
    for (chat, tier) in [(NEW, "family"), (OTHER, "bots")] {
        daemon.tell(&format!("new {chat} {tier} unlisted"));
        assert_eq!(daemon.truth(chat)["model"], "opus", "the daemon's default");
    }
    kit.created(&format!(
        "[sessions:0@7] 2026-11-22 07:41:21 key={NEW} type=session.created source=daemon {{\"chat_id\": \"{NEW}\", \"tier\": \"family\"}}"
    ));
    kit.created(&format!("[sessions:0@8] 2026-11-22 07:41:22 key={OTHER} type=session.created source=daemon {{}}"));

    until_looked_at_again(&daemon);
    daemon.tell("check-health");
    until_looked_at_again(&daemon);
    assert_eq!(changes(&daemon), Vec::<Value>::new(), "a restart would lose the conversation");

    for (chat, model) in [(NEW, "sonnet"), (OTHER, "haiku")] {
        daemon.tell(&format!("turn-ends {chat}"));
        until("it has its model", || daemon.truth(chat)["model"] == model);
        assert!(changes(&daemon).contains(&set_model(chat, model)));
        assert_eq!(
            (&daemon.truth(chat)["starts"], &daemon.truth(chat)["conversation_lost"]),
            (&json!(2), &json!(false))
        );
    }
    assert_eq!(changes(&daemon).len(), 2);
}
