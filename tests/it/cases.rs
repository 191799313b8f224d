//! A folder of `tests/cases` is a case. It holds
//!
//! - `policy.toml` (or a directory `policy.d`) and `sessions.json`; where they need them, `owed.json` (a ledger of version
//!   0.1, with `SOON` for a time at which a wait may end) or `ledger.json` (one of this version), `arguments` (of both runs),
//!   `stopped` (the chats whose sessions are not running) and `broken` (lines `CHAT MODEL`: sessions that do not come up);
//! - what is expected: `dry-run.txt` and `apply.txt` (the output of the two runs), `after.json` (the registry
//!   afterwards), `owed-after` (the chats that owe a restart then) and `calls` (the commands that were run).
//!
//! Policies may name `./restart`, which appends its arguments to `calls` and starts a session, and `./running`, which
//! appends the chat's id. In the output, the time of the run is `NOW`, and a wait that begins with it ends `LATER`.
//! After an apply that did not end with an error, one more dry run must find nothing that it would edit.
//! `SNAPSHOTS=overwrite cargo test` writes what is expected anew.

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::Value;
use snapbox::Data;

use crate::support::{Run, Sandbox, below, write_ledger, write_state};

#[test]
fn every_case_does_what_its_folder_says() {
    let cases = below("cases");
    assert!(cases.len() > 20, "cases are missing");
    for case in cases {
        println!("{}", case.display());
        check(&case);
    }
}

fn check(case: &Path) {
    let registry = fs::read_to_string(case.join("sessions.json")).unwrap();
    let soon = (Timestamp::now() + SignedDuration::from_hours(5)).round(Unit::Minute).unwrap();
    let sandbox = scene(case, &registry, soon);
    // On the same day without the date.
    let shown = ["at %Y-%m-%d %H:%M", "at %H:%M"].map(|form| soon.strftime(form).to_string());
    let transcript =
        |run: &Run| timeless(&shown.iter().fold(transcript(run), |text, time| text.replace(time, "at SOON")));
    let arguments = fs::read_to_string(case.join("arguments")).unwrap_or_default();
    let arguments: Vec<&str> = arguments.lines().collect();

    let dry_run = sandbox.run(&[&arguments[..], &["--dry-run"]].concat());
    expect(case, "dry-run.txt", &transcript(&dry_run));
    assert_eq!(sandbox.read("sessions.json"), registry, "a dry run changed the registry");
    assert_eq!(sandbox.read("calls"), "", "a dry run ran something");

    let apply = sandbox.run(&arguments);
    expect(case, "apply.txt", &transcript(&apply));
    expect(case, "after.json", &sandbox.read("sessions.json"));
    let mut calls = sandbox.calls();
    calls.sort();
    let ledger = sandbox.ledger();
    let owed = ledger["owed"].as_object().into_iter().flatten().map(|(chat, _)| format!("{chat}\n"));
    expect(case, "owed-after", &owed.collect::<String>());
    expect(case, "calls", &calls.iter().map(|call| format!("{call}\n")).collect::<String>());

    if !transcript(&dry_run).contains("nothing was done") && apply.code != 1 {
        let again = sandbox.json(&[&arguments[..], &["--dry-run"]].concat());
        let left = again["changes"].as_array().unwrap().iter().filter(|row| row["outcome"] == "planned");
        assert_eq!(left.count(), 0, "an apply left something to do: {again:#}");
    }
}

/// A sandbox with everything that the folder holds.
fn scene(case: &Path, registry: &str, soon: Timestamp) -> Sandbox {
    let sandbox = Sandbox::new("", registry);
    for file in walkdir::WalkDir::new(case).into_iter().map(|entry| entry.unwrap()) {
        let name = file.path().strip_prefix(case).unwrap();
        if file.file_type().is_dir() {
            fs::create_dir_all(sandbox.path("").join(name)).unwrap();
        } else if !name.starts_with("calls") {
            fs::copy(file.path(), sandbox.path("").join(name)).unwrap();
        }
    }
    let restart = r#"cd "$(dirname "$0")"; echo "restart $*" >> calls
        if grep -qxF -e "$RECONCILE_CHAT_ID $RECONCILE_MODEL" broken 2>/dev/null; then echo "$RECONCILE_CHAT_ID" >> stopped; exit 1; fi
        if test -e stopped; then grep -vxF -e "$RECONCILE_CHAT_ID" stopped > up; mv up stopped; fi"#;
    sandbox.script("restart", restart);
    sandbox.script("running", r#"cd "$(dirname "$0")"; echo "running $RECONCILE_CHAT_ID" >> calls; if grep -qxF -e "$RECONCILE_CHAT_ID" stopped 2>/dev/null; then exit 3; fi"#);
    if let Ok(ledger) = fs::read_to_string(case.join("owed.json")) {
        let state = sandbox.path("sessions.json.reconcile");
        write_state(&state, "owed.json", ledger.replace("SOON", &soon.to_string()));
    }
    if let Ok(ledger) = fs::read_to_string(case.join("ledger.json")) {
        let ledger: Value = serde_json::from_str(&ledger.replace("SOON", &soon.to_string())).unwrap();
        write_ledger(&sandbox.path("sessions.json.reconcile"), ledger);
    }
    sandbox
}

/// Without the times of this run: those of today, and those of waits that begin today.
fn timeless(text: &str) -> String {
    let now = Timestamp::now();
    let minutes = |from: i64, to: i64| (from..=to).map(move |minute| now + SignedDuration::from_mins(minute));
    let mut text = text.to_owned();
    for (before, word, times) in [("since ", "NOW", minutes(-3, 0)), ("next try at ", "LATER", minutes(-2, 12 * 60))] {
        for time in times {
            for form in ["%Y-%m-%d %H:%M", "%H:%M"] {
                text = text.replace(&format!("{before}{}", time.strftime(form)), &format!("{before}{word}"));
            }
        }
    }
    text
}

fn transcript(run: &Run) -> String {
    format!("{}--- stderr\n{}--- exit {}\n", run.stdout, run.stderr, run.code)
}

fn expect(case: &Path, name: &str, actual: &str) {
    snapbox::assert_data_eq!(actual.to_owned(), Data::read_from(&case.join(name), None).raw());
}
