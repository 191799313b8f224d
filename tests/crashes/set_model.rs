//! `set-model`, killed at every point: the policy is wholly old or wholly new, and the same command finishes the work.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::supervisor::{Supervisor, models};

const REGISTRY: &str = r#"{ "ada": { "session_name": "ada", "tier": "bots", "model": "opus" } }"#;

const POLICY: &str = r#"# kept by hand
[models]
allowed  = ["opus", "haiku"]
fallback = "opus"

[chats] # exceptions

[registry]
path = "sessions.json"

[sessions]
restart = ["./restart"]
"#;

fn scene() -> (TempDir, Supervisor) {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("sessions.json"), REGISTRY).unwrap();
    fs::write(directory.path().join("policy.toml"), POLICY).unwrap();
    let supervisor = Supervisor::start(directory.path());
    (directory, supervisor)
}

fn set_model(directory: &Path, crash_at: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.args(["set-model", "ada", "haiku"]).current_dir(directory).stdin(Stdio::null());
    command.env("RECONCILE_CRASH_TRACE", "trace");
    if let Some(point) = crash_at {
        command.env("RECONCILE_CRASH_AT", point.to_string());
    }
    command.output().unwrap()
}

fn trace(directory: &Path) -> Vec<String> {
    let trace = fs::read_to_string(directory.join("trace")).unwrap_or_default();
    trace.lines().map(str::to_owned).collect()
}

fn new_policy() -> String {
    POLICY.replace("# exceptions\n", "# exceptions\n\"ada\" = \"haiku\"\n")
}

/// What must hold after an undisturbed command.
fn check(directory: &Path, supervisor: &Supervisor, last: &Output, story: &str) {
    assert_eq!(last.status.code(), Some(0), "{story}: {last:?}");
    assert_eq!(fs::read_to_string(directory.join("policy.toml")).unwrap(), new_policy(), "{story}");
    assert_eq!(models(directory)["ada"], "haiku", "{story}");
    let runs = supervisor.sessions()["ada"].started_on.last().cloned();
    assert_eq!(runs.as_deref(), Some("haiku"), "{story}");
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let debris: Vec<String> = names.filter(|name| name.starts_with('.')).collect();
    assert!(debris.is_empty(), "{story}: debris stays behind: {debris:?}");
}

#[test]
fn the_same_command_finishes_after_a_death_at_any_point() {
    let (directory, supervisor) = scene();
    let undisturbed = set_model(directory.path(), None);
    check(directory.path(), &supervisor, &undisturbed, "undisturbed");
    let points = trace(directory.path());
    let at = |name: &str| points.iter().position(|point| point == name).unwrap_or_else(|| panic!("{name}: {points:?}"));
    assert!(at("policy: replaced") < at("planned"), "the policy is edited before anything else: {points:?}");

    for (at, point) in points.iter().enumerate() {
        let (directory, supervisor) = scene();
        let story = format!("killed at {}, {point}", at + 1);
        assert_eq!(set_model(directory.path(), Some(at + 1)).status.signal(), Some(9), "{story}");
        // A command outlives the run that started it.
        supervisor.wait_for(trace(directory.path()).iter().filter(|point| *point == "command: started").count());
        let policy = fs::read_to_string(directory.path().join("policy.toml")).unwrap();
        assert!(policy == POLICY || policy == new_policy(), "{story}: neither old nor new: {policy}");
        // Where the registry is new, so is the policy: nothing will put the model back.
        assert!(models(directory.path())["ada"] == "opus" || policy == new_policy(), "{story}");
        let last = set_model(directory.path(), None);
        check(directory.path(), &supervisor, &last, &story);
    }
}

#[test]
fn what_a_dying_edit_displaced_is_put_back_by_the_next() {
    let (directory, _supervisor) = scene();
    set_model(directory.path(), None);
    let points = trace(directory.path());
    let exchanged = points.iter().position(|point| point == "exchange: made").unwrap();
    let looked_at = points.iter().position(|point| point == "exchange: looked at").unwrap();
    assert!(exchanged < points.iter().position(|point| point == "planned").unwrap(), "of the policy: {points:?}");
    for point in [looked_at, exchanged] {
        let (directory, supervisor) = scene();
        set_model(directory.path(), Some(point + 1));
        // As if an editor had saved right before the exchange: then theirs is what waits.
        let theirs = POLICY.replace("by hand", "by Ada");
        let waiting = directory.path().join(".policy.toml.reconcile");
        let place = if point == exchanged { waiting } else { directory.path().join("policy.toml") };
        fs::write(directory.path().join("saved"), &theirs).unwrap();
        fs::rename(directory.path().join("saved"), place).unwrap();
        let last = set_model(directory.path(), None);
        assert_eq!(last.status.code(), Some(0), "{last:?}");
        let policy = fs::read_to_string(directory.path().join("policy.toml")).unwrap();
        assert_eq!(policy, new_policy().replace("by hand", "by Ada"));
        assert!(!directory.path().join(".policy.toml.reconcile").exists());
        drop(supervisor);
    }
}
