//! With `existing = "keep-manual"`, killed at every point: what this program has written never looks as if it had been set by
//! hand, and what was set by hand stays.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Bots run on this model, and cal's was set by hand.
fn write_policy(directory: &Path, bots: &str) {
    let policy = format!(
        "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"opus\"\n[tiers]\nbots = \"{bots}\"\n\
         [registry]\npath = \"sessions.json\"\nexisting = \"keep-manual\"\n"
    );
    fs::write(directory.join("policy.toml"), policy).unwrap();
}

fn reconcile(directory: &Path, arguments: &[&str], crash_at: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).env("RECONCILE_CRASH_TRACE", "trace");
    if let Some(point) = crash_at {
        command.env("RECONCILE_CRASH_AT", point.to_string());
    }
    command.output().unwrap()
}

fn models(directory: &Path) -> Vec<Option<String>> {
    let registry: Value = serde_json::from_str(&fs::read_to_string(directory.join("sessions.json")).unwrap()).unwrap();
    let model = |chat| registry[chat]["model"].as_str().map(str::to_owned);
    ["ada", "ben", "cal"].map(model).to_vec()
}

/// A registry that a run has looked at, and of which cal's model was set by hand since.
fn scene() -> TempDir {
    let directory = TempDir::new().unwrap();
    write_policy(directory.path(), "haiku");
    let registry = |cal| {
        let bot = |model| json!({ "tier": "bots", "model": model });
        json!({ "ada": bot("haiku"), "ben": bot("haiku"), "cal": bot(cal) }).to_string()
    };
    fs::write(directory.path().join("sessions.json"), registry("haiku")).unwrap();
    assert!(reconcile(directory.path(), &[], None).status.success());
    fs::write(directory.path().join("sessions.json"), registry("opus")).unwrap();
    fs::remove_file(directory.path().join("trace")).unwrap();
    directory
}

/// Kills this command at every point, on a policy that has changed, and then runs with another policy still.
fn killed_at_every_point(arguments: &[&str]) {
    let undisturbed = scene();
    write_policy(undisturbed.path(), "sonnet");
    reconcile(undisturbed.path(), arguments, None);
    let trace = fs::read_to_string(undisturbed.path().join("trace")).unwrap();
    let points: Vec<&str> = trace.lines().collect();
    assert!(points.len() > 3, "{points:?}");
    for (at, point) in points.iter().enumerate() {
        let directory = scene();
        let story = format!("killed at {}, {point}", at + 1);
        write_policy(directory.path(), "sonnet");
        let killed = reconcile(directory.path(), arguments, Some(at + 1));
        assert_eq!(killed.status.signal(), Some(9), "{story}: {killed:?}");
        write_policy(directory.path(), "opus");
        let run = reconcile(directory.path(), &[], None);
        assert!(run.status.success(), "{story}: {run:?}");
        let all_on_opus = vec![Some("opus".to_owned()); 3];
        assert_eq!(models(directory.path()), all_on_opus, "{story}: {run:?}");
        // From now on the policy agrees with what was set by hand: it counts for cal, too.
        write_policy(directory.path(), "haiku");
        reconcile(directory.path(), &[], None);
        assert_eq!(models(directory.path()), vec![Some("haiku".to_owned()); 3], "{story}");
    }
}

#[test]
fn a_run_that_dies_leaves_nothing_behind_that_looks_set_by_hand() {
    killed_at_every_point(&[]);
}

#[test]
fn a_launch_that_dies_leaves_nothing_behind_that_looks_set_by_hand() {
    killed_at_every_point(&["launch", "ada", "--", "echo", "{model}"]);
}

#[test]
fn a_run_that_dies_does_not_touch_what_was_set_by_hand() {
    let undisturbed = scene();
    write_policy(undisturbed.path(), "sonnet");
    reconcile(undisturbed.path(), &[], None);
    assert_eq!(models(undisturbed.path())[2].as_deref(), Some("opus"));
    let points = fs::read_to_string(undisturbed.path().join("trace")).unwrap().lines().count();
    for at in 1..=points {
        let directory = scene();
        write_policy(directory.path(), "sonnet");
        reconcile(directory.path(), &[], Some(at));
        reconcile(directory.path(), &[], None);
        let expected = ["sonnet", "sonnet", "opus"].map(|model| Some(model.to_owned()));
        assert_eq!(models(directory.path()), expected, "killed at {at}");
    }
}
