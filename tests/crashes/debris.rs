//! Every command that creates files, killed at every point: repeated it finishes its work, and neither it nor, where the
//! files are the registry's or the policy's, any other run leaves a file behind that is not meant to stay.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::journal_text::ledger_in;

const REGISTRY: &str = r#"{
  "ada": { "session_name": "ada", "tier": "bots", "model": "opus" },
  "ben": { "session_name": "ben", "tier": "bots", "model": "haiku" }
}
"#;

const POLICY: &str = r#"
[models]
allowed  = ["opus", "haiku"]
fallback = "opus"

[tiers]
bots = "haiku"

[chats]
"ada" = "opus"

[registry]
path = "sessions.json"

[sessions]
restart = ["true"]
"#;

/// What stands in the directory of a scene when all work is done, state included.
const STAYS: [&str; 13] = [
    "metrics.prom",
    "policy.toml",
    "policy.toml.reconcile-last",
    "report.json",
    "report.md",
    "sessions.json",
    "trace",
    "sessions.json.reconcile/data.lock",
    "sessions.json.reconcile/history.jsonl",
    "sessions.json.reconcile/ledger.journal",
    "sessions.json.reconcile/owed.json",
    "sessions.json.reconcile/redact.key",
    "sessions.json.reconcile/run.lock",
];

fn reconcile(directory: &Path, arguments: &[&str], crash_at: Option<usize>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).env("RECONCILE_CRASH_TRACE", "trace");
    if let Some(point) = crash_at {
        command.env("RECONCILE_CRASH_AT", point.to_string());
    }
    command.output().unwrap()
}

/// A registry on which one run has worked already, and what that run is called.
fn scene(policy: &str) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("policy.toml"), POLICY.replace("\"ada\" = \"opus\"\n", "")).unwrap();
    fs::write(directory.path().join("sessions.json"), REGISTRY).unwrap();
    assert_eq!(reconcile(directory.path(), &[], None).status.code(), Some(0));
    let history = fs::read_to_string(directory.path().join("sessions.json.reconcile/history.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(history.lines().last().unwrap()).unwrap();
    fs::write(directory.path().join("policy.toml"), policy).unwrap();
    fs::remove_file(directory.path().join("trace")).unwrap();
    (directory, line["run"].as_str().unwrap().to_owned())
}

/// The files of a scene that are not meant to stay.
fn debris(directory: &Path) -> BTreeSet<String> {
    let names = |below: &str| -> Vec<String> {
        let found = fs::read_dir(directory.join(below)).unwrap().map(|entry| entry.unwrap());
        let files = found.filter(|entry| !entry.file_type().unwrap().is_dir());
        files.map(|entry| format!("{below}{}", entry.file_name().into_string().unwrap())).collect()
    };
    let all = names("").into_iter().chain(names("sessions.json.reconcile/"));
    all.filter(|name| !STAYS.contains(&name.as_str())).collect()
}

/// What holds when all is done.
fn check(directory: &Path, done: &Output, story: &str) {
    assert_eq!(done.status.code(), Some(0), "{story}: {done:?}");
    assert_eq!(debris(directory), BTreeSet::new(), "{story}");
    let ledger = ledger_in(&directory.join("sessions.json.reconcile"));
    assert_eq!(ledger["owed"].as_object().map_or(0, serde_json::Map::len), 0, "{story}");
}

/// What is left of a directory that must be the same however often the work began.
fn result(directory: &Path) -> [String; 2] {
    ["policy.toml", "sessions.json"].map(|name| fs::read_to_string(directory.join(name)).unwrap())
}

/// What is killed, and repeated. `RUN` stands for the run that the scene began with.
const REPORTS: [&str; 6] =
    ["--output", "json=report.json", "--output", "markdown=report.md", "--metrics", "metrics.prom"];
const COMMANDS: [&[&str]; 8] = [
    &[REPORTS[0], REPORTS[1], REPORTS[2], REPORTS[3], REPORTS[4], REPORTS[5]],
    &["--dry-run", REPORTS[0], REPORTS[1], REPORTS[2], REPORTS[3], REPORTS[4], REPORTS[5]],
    &["set-model", "ben", "opus", REPORTS[0], REPORTS[1]],
    &["set-model", "ada", "haiku"],
    &["unset-model", "ada", REPORTS[0], REPORTS[1]],
    &["undo", "RUN", REPORTS[0], REPORTS[1]],
    &["snapshot", "--redact"],
    &["launch", "cal", "--tier", "bots", "--", "true"],
];

/// Calls `each` for every command and every point at which it was killed.
fn killed_everywhere(each: impl Fn(&Path, &[&str], &[String; 2], &str)) {
    for command in COMMANDS {
        let both = ["there", "none yet"];
        for reports in if command.contains(&"--metrics") { &both[..] } else { &both[..1] } {
            // An undo edits what the policy of that run did.
            let policy =
                if command[0] == "undo" { POLICY.replace("\"ada\" = \"opus\"\n", "") } else { POLICY.to_owned() };
            let begin = || {
                let (directory, run) = scene(&policy);
                if *reports == "there" {
                    for name in ["report.json", "report.md"] {
                        fs::write(directory.path().join(name), "the last one").unwrap();
                    }
                }
                let arguments: Vec<String> = command.iter().map(|word| word.replace("RUN", &run)).collect();
                (directory, arguments)
            };
            let (directory, arguments) = begin();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let done = reconcile(directory.path(), &arguments, None);
            check(directory.path(), &done, &format!("{command:?}, undisturbed"));
            let wanted = result(directory.path());
            let trace = fs::read_to_string(directory.path().join("trace")).unwrap();
            for (at, point) in trace.lines().enumerate() {
                let story = format!("{command:?}, reports {reports}, killed at {}, {point}", at + 1);
                let (directory, arguments) = begin();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let killed = reconcile(directory.path(), &arguments, Some(at + 1));
                assert_eq!(killed.status.signal(), Some(9), "{story}: {killed:?}");
                each(directory.path(), &arguments, &wanted, &story);
            }
        }
    }
}

#[test]
fn the_same_command_finishes_and_leaves_no_debris_after_a_death_at_any_point() {
    killed_everywhere(|directory, arguments, wanted, story| {
        let repeated = reconcile(directory, arguments, None);
        check(directory, &repeated, story);
        // The name of the run that is undone is in the policy, and each scene has another.
        if arguments[0] != "undo" {
            assert_eq!(&result(directory), wanted, "{story}");
        }
    });
}

#[test]
fn the_next_run_leaves_no_debris_of_a_command_that_died_at_any_point() {
    killed_everywhere(|directory, _, _, story| {
        let next = reconcile(directory, &[], None);
        assert_eq!(next.status.code(), Some(0), "{story}: {next:?}");
        // A report that was about to take the place of another has a name for an instant; only its own command knows it.
        let named: BTreeSet<String> = if story.ends_with("output: named") {
            ["report.json", "report.md", "metrics.prom"].map(|name| format!(".{name}.reconcile-new")).into()
        } else {
            BTreeSet::new()
        };
        assert!(debris(directory).is_subset(&named), "{story}: {:?}", debris(directory));
    });
}
