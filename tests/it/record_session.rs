//! `reconcile record-session`: assistants that make their own ids keep their conversations, too.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::launch::sandbox;
use crate::support::{POLICY, Run, Sandbox, registry};

const REGISTRY: &str = r#"{"+1": {"session_name": "im/1", "x": [1,  2]}, "+2": {"session_id": "old", "tier": "bots"}}"#;

/// With this on standard input.
fn told(sandbox: &Sandbox, arguments: &[&str], input: &str) -> Run {
    let mut command = sandbox.command(&[&["record-session"], arguments].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn recorded(sandbox: &Sandbox, chat: &str) -> Value {
    let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    registry[chat]["session_id"].clone()
}

#[test]
fn an_id_is_recorded_where_it_stands_and_nothing_else_changes() {
    let added = REGISTRY.replace("[1,  2]}", r#"[1,  2], "session_id": "new-1_A"}"#);
    for (chat, expected) in [("+1", added.clone()), ("im/1", added), ("+2", REGISTRY.replace("old", "new-1_A"))] {
        let sandbox = sandbox(POLICY, REGISTRY);
        let run = sandbox.run(&["record-session", chat, "new-1_A"]).expect(0);
        assert_eq!(sandbox.read("sessions.json"), expected);
        assert_eq!(
            (run.stdout.as_str(), run.stderr),
            ("", format!("note: {chat} resumes new-1_A when it next starts\n"))
        );
        // Once more: there is nothing to do.
        let again = sandbox.run(&["record-session", chat, "new-1_A"]).expect(0);
        assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
        assert_eq!(sandbox.read("sessions.json"), expected);
    }
}

#[test]
fn a_hook_of_claude_code_tells_the_id_on_standard_input() {
    let hook = json!({
        "session_id": "0c7e6a52-3d0f-4a57-9f42-8b1f1d2c9a06", "transcript_path": "/home/u/.claude/projects/-x/0c7e6a52.jsonl",
        "cwd": "/x", "hook_event_name": "SessionStart", "source": "startup", "model": "claude-sonnet-5",
    });
    let sandbox = sandbox(POLICY, REGISTRY);
    // What is printed on stdout becomes part of the conversation.
    assert_eq!(told(&sandbox, &["+1", "--stdin"], &hook.to_string()).expect(0).stdout, "");
    assert_eq!(recorded(&sandbox, "+1"), hook["session_id"]);
    let before = sandbox.read("sessions.json");
    for (input, complaint) in [
        ("", "is not the input of a SessionStart hook"),
        ("{", "is not the input of a SessionStart hook"),
        ("[]", "it has no session_id"),
        (r#"{"session_id": 5}"#, "it has no session_id"),
        (r#"{"session_id": ""}"#, "is not a valid session id"),
        (r#"{"session_id": "../../x"}"#, "is not a valid session id"),
    ] {
        let run = told(&sandbox, &["+1", "--stdin"], input).expect(1);
        assert!(run.stderr.contains(complaint), "{input}: {run:#?}");
    }
    let endless = "{".repeat(2 << 20);
    told(&sandbox, &["+1", "--stdin"], &endless).expect(1);
    assert_eq!(sandbox.read("sessions.json"), before);
}

#[test]
fn a_program_that_makes_its_own_ids_is_resumed_by_the_next_launch() {
    let sandbox = sandbox(POLICY, "{}");
    // It makes an id where it is given none, and tells it as a hook would.
    let tell = format!(
        "echo \"$@\"\n[ \"$3\" = --resume ] || echo '{{\"session_id\": \"made-by-it\"}}' | '{}' record-session \
         \"$RECONCILE_CHAT_ID\" --stdin",
        env!("CARGO_BIN_EXE_reconcile")
    );
    sandbox.script("show", &tell);
    let launch = || sandbox.run(&["launch", "+1", "--", "./show", "--model", "{model}", "--resume", "{resume_id}"]);
    assert_eq!(launch().expect(0).stdout, "--model sonnet\n");
    assert_eq!(recorded(&sandbox, "+1"), "made-by-it");
    assert_eq!(launch().expect(0).stdout, "--model sonnet --resume made-by-it\n");
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_written() {
    let sandbox = sandbox(POLICY, REGISTRY);
    let long = "a".repeat(129);
    for arguments in [
        vec!["record-session"],
        vec!["record-session", "+1"],
        vec!["record-session", "+1", "id", "--stdin"],
        vec!["record-session", "+1", ""],
        vec!["record-session", "+1", "a b"],
        vec!["record-session", "+1", "é"],
        vec!["record-session", "+1", &long],
        vec!["--redact", "record-session", "+1", "id"],
    ] {
        sandbox.run(&arguments).expect(64);
    }
    for (id, hint) in [("a b", "at most 128 characters"), ("-", "pass --stdin")] {
        let run = sandbox.run(&["record-session", "+1", id]).expect(64);
        assert!(run.stderr.starts_with("error[no-session-id]: ") && run.stderr.contains(hint), "{run:#?}");
    }
    let run = sandbox.run(&["record-session", "+9", "id"]).expect(1);
    assert!(run.stderr.contains("+9 is not in sessions.json"), "{run:#?}");
    assert_eq!(sandbox.read("sessions.json"), REGISTRY);
    // Whose ids are the daemon's.
    sandbox.write("policy.toml", format!("{POLICY}\n[sessions]\nbackend = \"dispatch\"\n"));
    let run = sandbox.run(&["record-session", "+1", "id"]).expect(1);
    assert!(run.stderr.contains("started by their daemon"), "{run:#?}");
    // No registry is created.
    sandbox.write("policy.toml", POLICY);
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    sandbox.run(&["record-session", "+1", "id"]).expect(1);
    assert!(!sandbox.path("sessions.json").exists());
}

#[test]
fn what_a_session_owes_stays_owed_when_it_tells_its_id() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n");
    let sandbox = sandbox(&policy, &registry(&[("+1", "family", "opus")]));
    sandbox.run(&[]).expect(4);
    assert!(sandbox.ledger()["owed"]["+1"].is_object());
    sandbox.run(&["record-session", "+1", "id"]).expect(0);
    assert!(sandbox.ledger()["owed"]["+1"].is_object() && sandbox.ledger()["exchange"].is_null());
    assert_eq!(recorded(&sandbox, "+1"), "id");
}

#[test]
fn an_id_is_recorded_while_the_policy_cannot_be_read() {
    let sandbox = sandbox(&POLICY.replace("haiku\"\n", "haiku\n"), REGISTRY);
    let run = sandbox.run(&["record-session", "+1", "id"]).expect(0);
    assert!(run.stderr.contains("policy.toml could not be read: line "), "{run:#?}");
    assert_eq!(recorded(&sandbox, "+1"), "id");
}
