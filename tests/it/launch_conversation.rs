//! `reconcile launch`: which conversation a session goes on with, and under which id it begins one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::launch::sandbox;
use crate::support::{POLICY, Run, Sandbox, finish};

/// What a session is started with: one line for a new conversation and for one to resume.
const COMMAND: [&str; 8] =
    ["--", "./show", "--model", "{model}", "--session-id", "{new_session_id}", "--resume", "{resume_id}"];

/// Conversations are kept beside the policy.
fn policy() -> String {
    format!("{POLICY}\n[sessions]\nconversation = \"kept/{{session_id}}.jsonl\"\n")
}

fn scene(registry: &str) -> Sandbox {
    let sandbox = sandbox(&policy(), registry);
    fs::create_dir(sandbox.path("kept")).unwrap();
    sandbox
}

fn launch(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    sandbox.run(&[&["launch"], arguments, &COMMAND].concat())
}

/// The arguments that a session was started with.
fn started(run: Run) -> Vec<String> {
    run.expect(0).stdout.lines().map(str::to_owned).collect()
}

/// The id under which the registry has the conversation of a chat.
fn recorded(sandbox: &Sandbox, chat: &str) -> String {
    let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    registry[chat]["session_id"].as_str().unwrap_or_default().to_owned()
}

/// The session has had its first turn.
fn converse(sandbox: &Sandbox, id: &str) {
    sandbox.write(&format!("kept/{id}.jsonl"), "a turn");
}

#[test]
fn a_session_begins_a_conversation_under_an_id_that_its_next_start_resumes() {
    let sandbox = scene("{}");
    // The id is there before the session is.
    sandbox.script("show", "cat sessions.json; printf '%s\\n' \"$@\"");
    let run = launch(&sandbox, &["+1", "--tier", "bots"]);
    let id = recorded(&sandbox, "+1");
    assert_eq!(uuid::Uuid::try_parse(&id).unwrap().get_version_num(), 4, "{id}");
    let registry = sandbox.read("sessions.json");
    assert_eq!(run.stdout, format!("{registry}--model\nhaiku\n--session-id\n{id}\n"));
    assert_eq!(run.stderr, "note: +1 is new in sessions.json\n");

    converse(&sandbox, &id);
    sandbox.script("show", r#"printf '%s\n' "$@""#);
    for _ in 0..2 {
        let run = launch(&sandbox, &["+1"]);
        assert_eq!(run.stderr, "");
        assert_eq!(started(run), ["--model", "haiku", "--resume", &id]);
        assert_eq!(sandbox.read("sessions.json"), registry);
    }
    // Each chat has its own.
    launch(&sandbox, &["+2"]).expect(0);
    assert_ne!(recorded(&sandbox, "+2"), id);
}

#[test]
fn a_session_that_ended_before_its_first_turn_begins_again_under_its_id() {
    let sandbox = scene("{}");
    launch(&sandbox, &["+1"]).expect(0);
    let id = recorded(&sandbox, "+1");
    let run = launch(&sandbox, &["+1"]);
    assert!(
        run.stderr.starts_with("note: the conversation of +1 was not found, so a new conversation begins"),
        "{run:?}"
    );
    assert!(run.stderr.contains(&format!("kept/{id}.jsonl")), "{run:?}");
    assert_eq!(started(run), ["--model", "sonnet", "--session-id", &id]);
    assert_eq!(recorded(&sandbox, "+1"), id);
}

#[test]
fn an_empty_file_is_no_conversation_and_its_id_is_used_up() {
    let registry = r#"{"+1": {"session_id": "old", "model": "sonnet", "x": 1}}"#;
    let sandbox = scene(registry);
    sandbox.write("kept/old.jsonl", "");
    let run = launch(&sandbox, &["+1"]);
    let id = recorded(&sandbox, "+1");
    assert!(run.stderr.contains("note: the conversation of +1 is an empty file"), "{run:?}");
    assert_eq!(started(run), ["--model", "sonnet", "--session-id", &id]);
    assert_eq!(sandbox.read("sessions.json"), registry.replace("old", &id));
}

#[test]
fn a_recorded_id_is_replaced_where_it_stands_and_a_missing_one_is_added() {
    for (entry, expected) in [
        (
            r#"{"type": "x", "session_id": null, "model": "sonnet"}"#,
            r#"{"type": "x", "session_id": "ID", "model": "sonnet"}"#,
        ),
        (
            r#"{"type": "x", "session_id": "", "x": [1,  2]}"#,
            r#"{"type": "x", "session_id": "ID", "x": [1,  2], "model": "sonnet"}"#,
        ),
        (
            r#"{"type": "x", "model": "opus", "session_id": "a b"}"#,
            r#"{"type": "x", "model": "sonnet", "session_id": "ID"}"#,
        ),
        (
            r#"{"type": "x", "session_id": 5, "session_id": "é"}"#,
            r#"{"type": "x", "session_id": 5, "session_id": "ID", "model": "sonnet"}"#,
        ),
        (r#"{"type": "x", "model": "sonnet"}"#, r#"{"type": "x", "model": "sonnet", "session_id": "ID"}"#),
        (
            r#"{"type": "x", "resume_id": "", "model": "opus"}"#,
            r#"{"type": "x", "resume_id": "", "model": "sonnet", "session_id": "ID"}"#,
        ),
        (r#"{"type": "x"}"#, r#"{"type": "x", "session_id": "ID", "model": "sonnet"}"#),
    ] {
        let sandbox = scene(&format!("{{\"+1\": {entry}}}"));
        // A model that is in use is not tried first.
        sandbox.has_seen(&["sonnet"]);
        launch(&sandbox, &["+1"]).expect(0);
        let id = recorded(&sandbox, "+1");
        assert_eq!(id.len(), 36, "{entry}");
        assert_eq!(sandbox.read("sessions.json"), format!("{{\"+1\": {}}}", expected.replace("ID", &id)));
    }
}

#[test]
fn what_cannot_be_an_id_counts_as_absent() {
    let long = "a".repeat(129);
    for bad in ["a b", "../x", "é", "a.b", "{cwd_slug}", "a\u{1b}[2J", "a\u{0}b", "a/b", &long] {
        let sandbox = scene(&json!({ "+1": { "model": "sonnet", "session_id": bad } }).to_string());
        let run = launch(&sandbox, &["+1"]);
        assert!(run.stderr.starts_with("warning: the session id of +1 is ignored"), "{run:?}");
        assert!(!run.stderr.contains(['\u{1b}', '\u{0}']), "{run:?}");
        assert_eq!(started(run), ["--model", "sonnet", "--session-id", &recorded(&sandbox, "+1")]);
    }
    // Another id that can be one counts.
    for (session_id, resume_id) in [("a b", "r"), ("r", "a b")] {
        let entry = json!({ "model": "sonnet", "session_id": session_id, "resume_id": resume_id });
        let sandbox = scene(&json!({ "+1": entry }).to_string());
        converse(&sandbox, "r");
        assert_eq!(started(launch(&sandbox, &["+1"])), ["--model", "sonnet", "--resume", "r"]);
    }
    let longest = "a".repeat(128);
    let sandbox = scene(&json!({ "+1": { "model": "sonnet", "session_id": longest } }).to_string());
    converse(&sandbox, &longest);
    assert_eq!(started(launch(&sandbox, &["+1"])), ["--model", "sonnet", "--resume", &longest]);
}

#[test]
fn a_program_that_makes_its_own_ids_is_started_anew_where_its_conversation_is_gone() {
    let registry = r#"{"+1": {"session_id": "s", "model": "sonnet"}}"#;
    let sandbox = scene(registry);
    let command = ["launch", "+1", "--", "./show", "--resume", "{resume_id}", "x"];
    let run = sandbox.run(&command);
    assert!(
        run.stderr.contains("note: the conversation of +1 was not found, so a new conversation begins:"),
        "{run:?}"
    );
    assert_eq!(started(run), ["x"]);
    converse(&sandbox, "s");
    assert_eq!(started(sandbox.run(&command)), ["--resume", "s", "x"]);
    assert_eq!(sandbox.read("sessions.json"), registry);
    // One option for both, and the environment of a script.
    sandbox.script("show", r#"echo "$@" "$RECONCILE_SESSION_ID.$RECONCILE_RESUME_ID.$RECONCILE_NEW_SESSION_ID""#);
    let run = sandbox.run(&["launch", "+1", "--", "./show", "--id", "{session_id}"]);
    assert_eq!(started(run), ["--id s s.s."]);
}

#[test]
fn whether_a_conversation_is_there_is_said_where_it_cannot_be_told() {
    let sandbox = scene(r#"{"+1": {"session_id": "s", "model": "sonnet"}}"#);
    let refused = format!("{POLICY}\n[sessions]\nconversation = \"policy.toml/{{session_id}}\"\n");
    for (policy, home) in [(refused, "/"), (policy().replace("kept/", "~/"), "")] {
        sandbox.write("policy.toml", policy);
        let arguments = [&["launch", "+1"], &COMMAND[..]].concat();
        let run = finish(sandbox.command(&arguments).env("HOME", home));
        assert!(run.stderr.contains("warning: it is not known whether the conversation of +1 exists"), "{run:?}");
        assert_eq!(started(run), ["--model", "sonnet", "--resume", "s"]);
    }
}

#[test]
fn where_conversations_are_is_said_by_the_policy_or_by_the_command_line() {
    let sandbox = sandbox(POLICY, r#"{"+1": {"session_id": "s", "model": "sonnet"}}"#);
    let run = launch(&sandbox, &["+1"]).expect(64);
    assert!(run.stderr.contains("error: {new_session_id} needs to know where the program keeps its"), "{run:?}");
    assert!(!sandbox.path("sessions.json.reconcile").exists());
    for (path, complaint) in [
        ("x", "the path has no `{session_id}`"),
        ("", "the path has no `{session_id}`"),
        ("{session_id}/{chat_id}", "unknown placeholder `{chat_id}` in this path"),
        ("{sesion_id}", "did you mean `session_id`?"),
    ] {
        let run = launch(&sandbox, &["+1", "--conversation", path]).expect(64);
        assert!(run.stderr.contains(complaint), "{run:?}");
    }
    let real: PathBuf = fs::canonicalize(sandbox.path("")).unwrap();
    let slug: String =
        real.to_str().unwrap().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    for (path, file) in [
        ("{session_id}", "s".to_owned()),
        ("~/in/{cwd_slug}/{session_id}.jsonl", format!("in/{slug}/s.jsonl")),
        ("{session_id}/{session_id}{x y}", "s/s{x y}".to_owned()),
    ] {
        let run = || {
            let arguments = [&["launch", "+1", "--conversation", path], &COMMAND[..]].concat();
            started(finish(sandbox.command(&arguments).env("HOME", sandbox.path(""))))
        };
        assert_eq!(run(), ["--model", "sonnet", "--session-id", "s"], "{path}");
        fs::create_dir_all(sandbox.path(&file).parent().unwrap()).unwrap();
        sandbox.write(&file, "a turn");
        assert_eq!(run(), ["--model", "sonnet", "--resume", "s"], "{path}");
        fs::remove_file(sandbox.path(&file)).unwrap();
    }
}

#[test]
fn the_slug_of_a_directory_is_what_claude_code_calls_it() {
    let long = format!("/tmp/h2cc/{}/{}", "a".repeat(120), "b".repeat(120));
    // Each was seen: an accent, a mark of its own, what is two units in UTF-16, 200 units, and more.
    for (directory, slug) in [
        ("/tmp/h2cc/é x".to_owned(), "-tmp-h2cc---x".to_owned()),
        ("/tmp/h2cc/e\u{301}z".to_owned(), "-tmp-h2cc-e-z".to_owned()),
        ("/tmp/h2cc/😀y".to_owned(), "-tmp-h2cc---y".to_owned()),
        (format!("/tmp/h2cc/{}", "c".repeat(190)), format!("-tmp-h2cc-{}", "c".repeat(190))),
        (format!("/tmp/h2cc/{}", "c".repeat(191)), format!("-tmp-h2cc-{}-7apqit", "c".repeat(190))),
        (long, format!("-tmp-h2cc-{}-{}-z6fk6p", "a".repeat(120), "b".repeat(69))),
        (format!("/tmp/h2cc/{}/{}", "é".repeat(100), "é".repeat(100)), format!("-tmp-h2cc{}-uv2ozz", "-".repeat(191))),
    ] {
        assert_eq!(reconcile::policy::conversation::cwd_slug(&directory), slug);
    }
}

#[test]
fn a_broken_policy_still_says_where_conversations_are() {
    let sandbox = scene(r#"{"+1": {"session_id": "s", "model": "opus"}}"#);
    converse(&sandbox, "s");
    sandbox.write("policy.toml", policy().replace("fallback = \"sonnet\"", "fallback = \"sonet\""));
    assert_eq!(started(launch(&sandbox, &["+1"])), ["--model", "opus", "--resume", "s"]);
    fs::remove_file(sandbox.path("kept/s.jsonl")).unwrap();
    assert_eq!(started(launch(&sandbox, &["+1"])), ["--model", "opus", "--session-id", "s"]);
}

#[test]
fn the_id_of_a_new_conversation_is_private_to_the_registrys_owner() {
    let sandbox = scene("");
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    launch(&sandbox, &["+1"]).expect(0);
    assert_eq!(recorded(&sandbox, "+1").len(), 36);
    let mode = fs::metadata(sandbox.path("sessions.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}
