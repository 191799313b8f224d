//! `launch`, killed at every point before the session starts: the registry is wholly old or wholly new, and the same
//! launch then starts the session as if nothing had been.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::journal_text::{framed, ledger_in};

const POLICY: &str = r#"
[models]
allowed  = ["opus", "haiku"]
fallback = "opus"

[tiers]
bots = "haiku"

[registry]
path = "sessions.json"

[sessions]
restart = ["false"]
"#;

const REGISTRY: &str = "{\n  \"ada\": {\n    \"tier\": \"bots\",\n    \"model\": \"opus\"\n  }\n}\n";

fn reconcile(directory: &Path, arguments: &[&str], crash_at: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command.env("RECONCILE_CRASH_TRACE", "trace");
    if let Some(point) = crash_at {
        command.env("RECONCILE_CRASH_AT", point.to_string());
    }
    command.output().unwrap()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A registry, if there is one, on whose session a restart is owed.
fn scene(registry: Option<&str>) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("policy.toml"), POLICY).unwrap();
    if let Some(registry) = registry {
        fs::write(directory.path().join("sessions.json"), registry).unwrap();
        let debt = json!({ "since": "2026-01-01T00:00:00Z", "began": true, "attempts": 1 });
        let worked = json!({ "worked": "2026-01-01T00:00:00Z" });
        let ledger = json!({ "version": 2, "owed": { "ada": debt }, "trials": { "haiku": worked } });
        let state = directory.path().join("sessions.json.reconcile");
        fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        fs::write(state.join("ledger.journal"), framed(&ledger)).unwrap();
        fs::set_permissions(state.join("ledger.journal"), fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn check(directory: &Path, chat: &str, launched: &Output, story: &str) {
    assert_eq!(String::from_utf8_lossy(&launched.stdout), "on haiku\n", "{story}: {launched:?}");
    let registry = read_json(&directory.join("sessions.json"));
    assert_eq!(registry[chat]["model"], "haiku", "{story}");
    assert_eq!(registry[chat]["tier"], "bots", "{story}");
    let state = directory.join("sessions.json.reconcile");
    let ledger = ledger_in(&state);
    assert_eq!(ledger["owed"].as_object().map_or(0, serde_json::Map::len), 0, "{story}");
    assert!(ledger["exchange"].is_null(), "{story}");
    let left = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let debris: Vec<String> = left.filter(|name| name.contains("new")).collect();
    assert!(debris.is_empty(), "{story}: debris stays behind: {debris:?}");
}

#[test]
fn the_same_launch_starts_the_session_after_a_death_at_any_point() {
    for (chat, registry) in [("ada", Some(REGISTRY)), ("ben", None)] {
        let launch = ["launch", chat, "--tier", "bots", "--", "echo", "on", "{model}"];
        let directory = scene(registry);
        check(directory.path(), chat, &reconcile(directory.path(), &launch, None), "undisturbed");
        let trace = fs::read_to_string(directory.path().join("trace")).unwrap();
        let points: Vec<&str> = trace.lines().collect();
        assert!(!points.is_empty());

        for (at, point) in points.iter().enumerate() {
            let directory = scene(registry);
            let story = format!("{chat}, killed at {}, {point}", at + 1);
            let killed = reconcile(directory.path(), &launch, Some(at + 1));
            assert_eq!(killed.status.signal(), Some(9), "{story}: {killed:?}");
            if let Ok(text) = fs::read_to_string(directory.path().join("sessions.json")) {
                let whole: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(whole.as_object().unwrap().len(), 1, "{story}: {text}");
            }
            check(directory.path(), chat, &reconcile(directory.path(), &launch, None), &story);
        }
    }
}

#[test]
fn nothing_is_lost_where_a_run_dies_and_then_a_launch() {
    let points = |arguments: &[&str]| {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("policy.toml"), POLICY).unwrap();
        fs::write(directory.path().join("sessions.json"), REGISTRY).unwrap();
        reconcile(directory.path(), arguments, None);
        fs::read_to_string(directory.path().join("trace")).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let launch = ["launch", "ben", "--tier", "bots", "--", "echo", "on", "{model}"];
    let (of_run, of_launch) = (points(&[]), points(&launch));
    for (run, of_run) in of_run.iter().enumerate() {
        for (at, of_launch) in of_launch.iter().enumerate() {
            let story = format!("a run killed at {}, {of_run}; a launch at {}, {of_launch}", run + 1, at + 1);
            let directory = TempDir::new().unwrap();
            fs::write(directory.path().join("policy.toml"), POLICY).unwrap();
            fs::write(directory.path().join("sessions.json"), REGISTRY).unwrap();
            assert_eq!(reconcile(directory.path(), &[], Some(run + 1)).status.signal(), Some(9), "{story}");
            reconcile(directory.path(), &launch, Some(at + 1));
            let registry = read_json(&directory.path().join("sessions.json"));
            assert_eq!(registry["ada"]["tier"], "bots", "{story}");
            // The restart command fails, so what drifted is owed in the end.
            let last = reconcile(directory.path(), &["--retry", "ada"], None);
            assert_eq!(last.status.code(), Some(4), "{story}: {last:?}");
            assert_eq!(read_json(&directory.path().join("sessions.json"))["ada"]["model"], "haiku", "{story}");
            let ledger = ledger_in(&directory.path().join("sessions.json.reconcile"));
            assert!(ledger["owed"]["ada"].is_object() && ledger["exchange"].is_null(), "{story}: {ledger}");
            let launched = reconcile(directory.path(), &launch, None);
            assert_eq!(String::from_utf8_lossy(&launched.stdout), "on haiku\n", "{story}: {launched:?}");
        }
    }
}
