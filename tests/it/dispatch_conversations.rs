//! What a conversation can be resumed by outlives a crash of the daemon soon after a run has restarted its session.

use serde_json::{Value, json};

use crate::dispatch::{BOT, CAL, became, daemon, sandbox};
use crate::handle::Double;
use crate::support::Sandbox;

/// A run restarts the session of a chat, and the daemon dies before it has saved the conversation.
fn crashed() -> (Sandbox, Value) {
    let sandbox = sandbox();
    let mut daemon = daemon(&sandbox, &[CAL]);
    let id = daemon.status(CAL)["session_id"].clone();
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    daemon.tell("flush");
    assert_eq!(daemon.entry(CAL).get("session_id"), None, "the start has dropped it");
    daemon.die();
    (sandbox, id)
}

fn entry(sandbox: &Sandbox, chat: &str) -> Value {
    let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    registry[chat].clone()
}

#[test]
fn a_conversation_that_a_crash_has_lost_is_put_back_while_the_daemon_is_down() {
    let (sandbox, id) = crashed();
    let before = sandbox.read("sessions.json");
    sandbox.run(&["--dry-run"]).expect(0);
    assert_eq!(sandbox.read("sessions.json"), before, "by a run alone");
    sandbox.run(&[]).expect(0);
    assert_eq!(entry(&sandbox, CAL)["session_id"], id);
    let history = sandbox.run(&["history", CAL]).expect(0);
    assert!(history.stdout.contains("its conversation was put back into its entry"), "{history:#?}");
    let after = sandbox.read("sessions.json");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("sessions.json"), after, "once");

    let daemon = Double::start(&sandbox.path(""), &["--live", CAL]);
    assert_eq!((&daemon.truth(CAL)["resumed"], &daemon.truth(CAL)["model"]), (&id, &json!("sonnet")));
}

#[test]
fn a_conversation_is_put_back_together_with_edits() {
    let (sandbox, id) = crashed();
    let policy = sandbox.read("policy.toml").replace("family   = \"sonnet\"", "family   = \"haiku\"");
    sandbox.write("policy.toml", policy);
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    let entry = entry(&sandbox, CAL);
    assert_eq!((&entry["session_id"], &entry["model"]), (&id, &json!("haiku")));
}

#[test]
fn what_the_daemon_has_saved_by_itself_is_left_as_it_is() {
    let sandbox = sandbox();
    let mut daemon = daemon(&sandbox, &[CAL]);
    sandbox.json(&[]);
    daemon.tell(&format!("turn-ends {CAL} another"));
    daemon.tell("check-health");
    daemon.die();
    sandbox.run(&[]).expect(0);
    assert_eq!(entry(&sandbox, CAL)["session_id"], "another");
    let pending: Value = serde_json::from_str(&sandbox.read("sessions.json.reconcile/pending.json")).unwrap();
    assert_eq!(pending["conversations"].get(CAL), None, "and no longer remembered");
}

#[test]
fn a_conversation_that_was_put_back_too_late_is_remembered() {
    let (sandbox, id) = crashed();
    // It has read the registry, and its socket is not there yet.
    let daemon = Double::start(&sandbox.path(""), &["--pause-start-up"]);
    sandbox.run(&[]).expect(0);
    daemon.tell("open-socket");
    daemon.tell("flush");
    assert_eq!(entry(&sandbox, CAL).get("session_id"), None, "it saved what it had read");
    sandbox.json(&[]);
    drop(daemon);
    sandbox.run(&[]).expect(0);
    assert_eq!(entry(&sandbox, CAL)["session_id"], id);
}

#[test]
fn the_history_has_the_conversations_of_restarted_sessions() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    let id = |chat| daemon.status(chat)["session_id"].clone();
    let ids = json!({ CAL: id(CAL), BOT: id(BOT) });
    sandbox.json(&[]);
    let history = sandbox.run(&["history", "--format", "json"]).expect(0);
    let run: Value = serde_json::from_str(history.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(run["conversations"], ids);
}

#[test]
fn a_conversation_is_put_back_also_into_an_entry_that_has_its_field_without_a_value() {
    let (sandbox, id) = crashed();
    let mut registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    registry[CAL]["session_id"] = Value::Null;
    sandbox.write("sessions.json", serde_json::to_string_pretty(&registry).unwrap());
    sandbox.run(&[]).expect(0);
    assert_eq!(entry(&sandbox, CAL)["session_id"], id);
    assert_eq!(
        sandbox.read("sessions.json").matches("session_id").count(),
        registry.to_string().matches("session_id").count()
    );
}
