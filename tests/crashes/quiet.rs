//! A quiet run, killed at every point: what stays wrong is told all the same, and then not again.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const POLICY: &str = "models = { allowed = [\"opus\"], fallback = \"opus\" }\nregistry.path = \"sessions.json\"\n\
                      chats.a = { model = \"opus\", until = 2020-01-01 }\n";
const TOLD: &str = "ended after 2020-01-01";

fn scene() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("policy.toml"), POLICY).unwrap();
    fs::write(directory.path().join("sessions.json"), r#"{ "a": { "tier": "bots", "model": "opus" } }"#).unwrap();
    directory
}

fn run(directory: &Path, crash_at: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.arg("--quiet").current_dir(directory).stdin(Stdio::null()).env("RECONCILE_CRASH_TRACE", "trace");
    if let Some(point) = crash_at {
        command.env("RECONCILE_CRASH_AT", point.to_string());
    }
    command.output().unwrap()
}

fn tells(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains(TOLD)
}

#[test]
fn what_stays_wrong_is_told_after_a_death_at_any_point() {
    let undisturbed = scene();
    assert!(tells(&run(undisturbed.path(), None)));
    let trace = fs::read_to_string(undisturbed.path().join("trace")).unwrap();
    let points: Vec<&str> = trace.lines().collect();
    assert!(
        points.ends_with(&["closed", "ledger: written", "ledger: renamed"]),
        "it is told before it is saved: {points:?}"
    );
    for (at, point) in points.iter().enumerate() {
        let directory = scene();
        let story = format!("killed at {}, {point}", at + 1);
        let killed = run(directory.path(), Some(at + 1));
        assert_eq!(killed.status.signal(), Some(9), "{story}");
        let next = run(directory.path(), None);
        assert_eq!(next.status.code(), Some(0), "{story}: {next:?}");
        assert!(tells(&killed) || tells(&next), "{story}");
        let last = run(directory.path(), None);
        assert!(last.stdout.is_empty() && last.stderr.is_empty(), "{story}: {last:?}");
        let state = directory.path().join("sessions.json.reconcile");
        assert!(!state.join("conditions.json.new").exists(), "{story}: debris stays behind");
    }
}
