//! Runs are killed while a daemon owns the registry: at each point where a run can be killed, no session is restarted
//! twice, and none is forgotten.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::handle::Double;
use crate::journal_text::ledger_in;

const REGISTRY: &str = include_str!("../dispatch/sessions.json");
const LIVE: [&str; 2] = ["+16175550103", "+16175550107"];

const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "opus"

[tiers]
family = "sonnet"
bots   = "haiku"

[registry]
path = "sessions.json"

[sessions]
backend = "dispatch"
socket  = "daemon.sock"
timeout = "5s"
"#;

fn run(directory: &Path, crash_at: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.current_dir(directory).stdin(Stdio::null()).env("RECONCILE_CRASH_TRACE", "trace");
    if let Some(point) = crash_at {
        command.env("RECONCILE_CRASH_AT", point.to_string());
    }
    command.output().unwrap()
}

fn scene() -> (TempDir, Double) {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("sessions.json"), REGISTRY).unwrap();
    fs::write(directory.path().join("policy.toml"), POLICY).unwrap();
    let double = Double::start(directory.path(), &["--live", LIVE[0], "--live", LIVE[1]]);
    (directory, double)
}

#[test]
fn the_next_run_finishes_after_a_death_at_any_point_of_a_run_with_a_daemon() {
    let (directory, _double) = scene();
    assert_eq!(run(directory.path(), None).status.code(), Some(0));
    let trace = fs::read_to_string(directory.path().join("trace")).unwrap();
    let points: Vec<&str> = trace.lines().collect();
    assert!(points.len() > 15, "{points:?}");
    for (at, point) in points.iter().enumerate() {
        let (directory, double) = scene();
        let story = format!("killed at {}, {point}", at + 1);
        let killed = run(directory.path(), Some(at + 1));
        // Where what two workers say is noted together, there are fewer points.
        let trace = fs::read_to_string(directory.path().join("trace")).unwrap();
        let is_over = trace.lines().count() <= at && killed.status.success();
        assert!(is_over || killed.status.signal() == Some(9), "{story}: {killed:?}");
        for chat in LIVE {
            double.tell(&format!("turn-ends {chat}"));
        }
        let last = run(directory.path(), None);
        assert_eq!(last.status.code(), Some(0), "{story}: {last:?}");
        for (chat, model) in LIVE.iter().zip(["sonnet", "haiku"]) {
            let truth = double.truth(chat);
            assert_eq!((&truth["model"], &truth["starts"]), (&json!(model), &json!(2)), "{story}: {chat}");
            assert_eq!(double.entry(chat)["model"], model, "{story}: {chat}");
        }
        let state = directory.path().join("sessions.json.reconcile");
        assert_eq!(ledger_in(&state)["owed"], json!({}), "{story}");
        let left = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let debris: Vec<String> = left.filter(|name| name.contains(".new")).collect();
        assert!(debris.is_empty(), "{story}: debris stays behind: {debris:?}");
    }
}
