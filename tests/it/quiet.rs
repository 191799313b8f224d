//! A quiet run from cron tells of what stays wrong when it begins, changes and ends, and once a day.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::{POLICY, Run, Sandbox, registry, write_state};

const CONDITIONS: &str = "sessions.json.reconcile/conditions.json";
const NEEDS_NAME: &str = "[sessions]\nrestart = [\"true\", \"{session_slug}\"]\n";
const OVER: &str = "[chats]\na = { model = \"opus\", until = 2020-01-01 }\n";

fn quiet(sandbox: &Sandbox, code: i32) -> Run {
    sandbox.run(&["--quiet", "--metrics", "out.prom"]).expect(code)
}

fn is_silent(sandbox: &Sandbox, code: i32) {
    let run = quiet(sandbox, code);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

/// What is told, and then not again.
fn told_once(sandbox: &Sandbox, code: i32) -> Run {
    let run = quiet(sandbox, code);
    assert!(!run.stderr.is_empty() || !run.stdout.is_empty(), "nothing is told");
    for _ in 0..3 {
        is_silent(sandbox, code);
    }
    run
}

/// As if everything had been told so long ago.
fn a_time_passes(sandbox: &Sandbox, time: SignedDuration) {
    let mut file: Value = serde_json::from_str(&sandbox.read(CONDITIONS)).unwrap();
    for told in file["told"].as_object_mut().unwrap().values_mut() {
        let at: Timestamp = told["at"].as_str().unwrap().parse().unwrap();
        told["at"] = (at - time).to_string().into();
    }
    sandbox.write(CONDITIONS, file.to_string());
}

fn metric(sandbox: &Sandbox, name: &str) -> Option<String> {
    let text = sandbox.read("out.prom");
    let line = text.lines().find(|line| line.starts_with(&format!("reconcile_{name}{{")))?;
    line.rsplit(' ').next().map(str::to_owned)
}

/// A row that is held, and one in sync.
fn held() -> Sandbox {
    let sandbox = Sandbox::new(POLICY, "");
    for _ in 0..3 {
        sandbox.write("sessions.json", registry(&[("a", "family", "opus"), ("b", "bots", "haiku")]));
        sandbox.run(&[]).expect(0);
    }
    sandbox.write("sessions.json", registry(&[("a", "family", "opus"), ("b", "bots", "haiku")]));
    sandbox
}

/// A row that is refused, because its command needs a name that it does not have.
fn refused() -> Sandbox {
    let chats = r#"{ "a": { "tier": "family", "model": "opus" }, "b": { "tier": "bots", "model": "haiku" } }"#;
    Sandbox::new(&format!("{POLICY}{NEEDS_NAME}"), chats)
}

#[test]
fn a_held_row_is_told_once_once_a_day_and_when_it_is_over() {
    let sandbox = held();
    assert_eq!(told_once(&sandbox, 4).summary(), "No changes. 1 held, 1 in sync.");
    assert_eq!(metric(&sandbox, "held").as_deref(), Some("1"));
    a_time_passes(&sandbox, SignedDuration::from_hours(23));
    is_silent(&sandbox, 4);
    a_time_passes(&sandbox, SignedDuration::from_hours(2));
    assert_eq!(told_once(&sandbox, 4).summary(), "No changes. 1 held, 1 in sync.");
    sandbox.write("sessions.json", registry(&[("a", "family", "sonnet"), ("b", "bots", "haiku")]));
    let run = told_once(&sandbox, 0);
    assert!(run.stderr.contains("note: resolved: imessage/a is held"), "{run:#?}");
}

#[test]
fn a_refused_row_is_told_when_it_begins_changes_and_ends() {
    let sandbox = refused();
    assert!(told_once(&sandbox, 4).stdout.contains("needs a session name"));
    assert_eq!(metric(&sandbox, "refused").as_deref(), Some("1"));
    sandbox.write(
        "sessions.json",
        sandbox.read("sessions.json").replace("\"tier\": \"family\"", "\"session_name\": \"-a\", \"tier\": \"family\""),
    );
    assert!(told_once(&sandbox, 4).stdout.contains("would be taken for an option"));
    sandbox.write("sessions.json", sandbox.read("sessions.json").replace("\"-a\"", "\"a\""));
    let run = quiet(&sandbox, 0);
    assert!(run.stderr.contains("resolved: -a is refused: "), "{run:#?}");
    is_silent(&sandbox, 0);
}

#[test]
fn a_warning_is_told_once_and_when_it_is_over() {
    let sandbox = Sandbox::new(&format!("{POLICY}{OVER}"), &registry(&[("a", "family", "sonnet")]));
    assert!(told_once(&sandbox, 0).stderr.contains("ended after 2020-01-01"));
    sandbox.write("policy.toml", POLICY);
    let run = told_once(&sandbox, 0);
    assert!(run.stderr.contains("resolved: warning: the override for a ended after 2020-01-01"), "{run:#?}");
}

#[test]
fn a_model_that_failed_is_told_once_while_it_waits() {
    let policy = format!("{POLICY}[sessions]\nrestart = [\"false\"]\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("a", "family", "opus"), ("b", "family", "opus")]));
    quiet(&sandbox, 4);
    is_silent(&sandbox, 4);
    is_silent(&sandbox, 4);
    assert_eq!(metric(&sandbox, "failed_models").as_deref(), Some("1"));
    a_time_passes(&sandbox, SignedDuration::from_hours(25));
    // By then its next try may be due, which is told as any other.
    assert!(quiet(&sandbox, 4).stderr.contains("did not come up on a"));
}

#[test]
fn a_plan_over_the_limit_is_told_once_and_when_it_changes() {
    let limit = "[limits]\nmax_changes = 0\n";
    let sandbox = Sandbox::new(&format!("{POLICY}{limit}"), &registry(&[("a", "family", "opus")]));
    assert!(told_once(&sandbox, 3).stderr.contains("the limit is 0"));
    sandbox.write("sessions.json", registry(&[("a", "family", "opus"), ("b", "family", "opus")]));
    assert!(told_once(&sandbox, 3).stderr.contains("2 changes"));
    sandbox.write("policy.toml", POLICY);
    assert!(quiet(&sandbox, 0).stderr.contains("resolved: the plan has 2 changes"));
}

#[test]
fn what_else_a_run_has_to_tell_is_told_with_what_stays_wrong() {
    let sandbox = refused();
    told_once(&sandbox, 4);
    let chats = sandbox
        .read("sessions.json")
        .replace("\"haiku\"", "\"opus\"")
        .replace("\"b\": {", "\"b\": { \"session_name\": \"b\",");
    sandbox.write("sessions.json", chats);
    let run = quiet(&sandbox, 4);
    assert!(run.stdout.contains("needs a session name") && run.summary().contains("1 changed"), "{run:#?}");
    is_silent(&sandbox, 4);
}

#[test]
fn a_dry_run_and_a_loud_run_remember_nothing() {
    let sandbox = refused();
    for arguments in [&["--quiet", "--dry-run"][..], &[]] {
        sandbox.run(arguments).expect(4);
        assert!(!sandbox.path(CONDITIONS).exists());
        assert!(!sandbox.run(arguments).expect(4).stdout.is_empty());
    }
    told_once(&sandbox, 4);
    let before = sandbox.read(CONDITIONS);
    assert!(!sandbox.run(&["--quiet", "--dry-run"]).expect(4).stdout.is_empty());
    assert_eq!(sandbox.read(CONDITIONS), before);
    let mode = fs::metadata(sandbox.path(CONDITIONS)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_run_for_some_chats_says_nothing_of_the_others() {
    let sandbox = refused();
    told_once(&sandbox, 4);
    let run = sandbox.run(&["--quiet", "--chat", "b"]).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    is_silent(&sandbox, 4);
}

#[test]
fn a_memory_that_cannot_be_used_is_an_error_and_none_is_a_first_run() {
    let sandbox = held();
    told_once(&sandbox, 4);
    let state = sandbox.path("sessions.json.reconcile");
    for (text, told) in [("{", "is damaged"), ("{\"version\":9}", "it was written by a newer reconcile")] {
        write_state(&state, "conditions.json", text);
        let before = sandbox.read("sessions.json");
        let run = sandbox.run(&["--quiet"]).expect(1);
        assert!(run.stderr.contains("conditions.json") && run.stderr.contains(told), "{run:#?}");
        assert_eq!(sandbox.read("sessions.json"), before);
    }
    fs::remove_file(sandbox.path(CONDITIONS)).unwrap();
    told_once(&sandbox, 4);
}

#[test]
fn what_stays_wrong_is_no_failure_of_the_run_that_finds_it() {
    let sandbox = refused();
    quiet(&sandbox, 4);
    let success = || metric(&sandbox, "last_success_timestamp_seconds");
    assert!(success().is_some(), "the run did all that could be done");
    fs::remove_file(sandbox.path("out.prom")).unwrap();
    sandbox.write("policy.toml", format!("{POLICY}[sessions]\nrestart = [\"false\"]\n"));
    quiet(&sandbox, 4);
    assert_eq!(success(), None, "its own restart failed");
    quiet(&sandbox, 4);
    assert!(success().is_some(), "the restart waits for its next try");
}

#[test]
fn a_name_that_a_stranger_chose_makes_no_run_fail() {
    for name in ["-rf", "all", "$(reboot)", "a\nb", "\u{0}", "\u{202e}", &"x".repeat(200_000)] {
        let chats = serde_json::json!({ "a": {
            "session_name": "a", "contact_name": name, "source": name, "type": name, "tier": "family", "model": "opus",
        } });
        let restart = "[sessions]\nrestart = [\"./restart\", \"{session_slug}\", \"{model}\"]\n";
        let sandbox = Sandbox::new(&format!("{POLICY}{restart}"), &chats.to_string());
        sandbox.script("restart", "echo \"$@\" >> calls");
        quiet(&sandbox, 0);
        assert_eq!(sandbox.calls(), ["a sonnet"], "{name:.20?}");
        is_silent(&sandbox, 0);
    }
}
