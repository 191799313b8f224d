//! Where the system gives a run less than it asks for: descriptors, and memory. Threads are in `bad_state`.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::support::{POLICY, Run, Sandbox, finish, needs, registry};

const CHATS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Six sessions that drifted.
fn drifted(parallel: usize) -> Sandbox {
    let sessions = CHATS.map(|chat| (chat, "bots", "opus"));
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\nparallel = {parallel}\n");
    let sandbox = Sandbox::new(&policy, &registry(&sessions));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    sandbox
}

/// The binary with a limit, as `prlimit` takes it.
fn limited(sandbox: &Sandbox, limit: &str, arguments: &[&str]) -> Run {
    let mut command = Command::new("prlimit");
    command.arg(limit).arg(env!("CARGO_BIN_EXE_reconcile")).args(arguments);
    finish(command.current_dir(sandbox.path("")).env("TZ", "UTC"))
}

/// How often each session was started.
fn starts(sandbox: &Sandbox) -> Vec<usize> {
    let calls = sandbox.calls();
    CHATS.iter().map(|chat| calls.iter().filter(|call| call == chat).count()).collect()
}

/// A run that does not wait for the next try of what failed.
fn retry() -> Vec<&'static str> {
    CHATS.iter().flat_map(|chat| ["--retry", chat]).collect()
}

fn is_whole(sandbox: &Sandbox, story: &str) {
    let registry: serde_json::Value = serde_json::from_str(&sandbox.read("sessions.json")).expect(story);
    assert_eq!(registry.as_object().unwrap().len(), CHATS.len(), "{story}");
}

/// The files of a sandbox that are there for the time of a run only.
fn debris(sandbox: &Sandbox) -> BTreeSet<String> {
    let files = walkdir::WalkDir::new(sandbox.path("")).min_depth(1).into_iter();
    let names = files.map(|file| file.unwrap().file_name().to_str().unwrap().to_owned());
    names.filter(|name| name.starts_with('.') || name.contains(".new")).collect()
}

/// What a run with a limit says is so: where it changed nothing, it says that, and where it says that, it did not.
#[track_caller]
fn is_honest(sandbox: &Sandbox, before: &[String; 2], run: &Run, story: &str) {
    assert!([0, 1, 4].contains(&run.code), "{story}: {run:#?}");
    assert!(!run.stderr.contains("panicked"), "{story}: {run:#?}");
    assert!(!run.stderr.contains("another program"), "{story}: no other program does anything: {run:#?}");
    assert!(run.code != 1 || &files(sandbox) == before, "{story}: something was changed: {run:#?}");
    is_whole(sandbox, story);
}

fn files(sandbox: &Sandbox) -> [String; 2] {
    ["sessions.json", "policy.toml"].map(|name| sandbox.read(name))
}

#[test]
#[ignore = "needs prlimit"]
fn with_any_number_of_descriptors_each_session_is_started_once() {
    needs(&["prlimit"]);
    for parallel in [1, 4] {
        for most in 4..=40 {
            let sandbox = drifted(parallel);
            for arguments in [vec![], retry(), retry()] {
                let before = files(&sandbox);
                let run = limited(&sandbox, &format!("--nofile={most}"), &arguments);
                is_honest(&sandbox, &before, &run, &format!("{most} descriptors, {parallel} at once"));
            }
            sandbox.run(&retry()).expect(0);
            assert_eq!(starts(&sandbox), [1; 6], "{most} descriptors, {parallel} at once");
            assert_eq!(debris(&sandbox), BTreeSet::new(), "{most} descriptors");
        }
    }
}

#[test]
#[ignore = "needs prlimit"]
fn with_any_number_of_descriptors_an_edit_of_the_policy_is_whole_or_not_made() {
    needs(&["prlimit"]);
    for most in 4..=40 {
        let sandbox = drifted(4);
        let story = format!("{most} descriptors");
        for _ in 0..2 {
            let before = files(&sandbox);
            let run = limited(&sandbox, &format!("--nofile={most}"), &["set-model", "b", "sonnet"]);
            is_honest(&sandbox, &before, &run, &story);
            let edited = sandbox.read("policy.toml").contains("b\" = \"sonnet\"");
            assert!(edited || sandbox.model("b").as_deref() == Some("opus"), "{story}: {run:#?}");
        }
        sandbox.run(&["set-model", "b", "sonnet"]).expect(0);
        sandbox.run(&retry()).expect(0);
        assert_eq!(sandbox.model("b").as_deref(), Some("sonnet"), "{story}");
        assert_eq!(starts(&sandbox), [1; 6], "{story}");
        assert_eq!(debris(&sandbox), BTreeSet::new(), "{story}");
    }
}

#[test]
#[ignore = "needs prlimit"]
fn with_any_number_of_descriptors_a_launch_starts_its_session_or_leaves_the_restart_to_a_run() {
    needs(&["prlimit"]);
    for most in 4..=40 {
        let sandbox = drifted(4);
        let story = format!("{most} descriptors");
        sandbox.has_seen(&["haiku"]);
        let before = files(&sandbox);
        let launched = limited(&sandbox, &format!("--nofile={most}"), &["launch", "a", "--", "true"]);
        is_honest(&sandbox, &before, &launched, &story);
        sandbox.run(&retry()).expect(0);
        let by_run = usize::from(launched.code != 0);
        assert_eq!(starts(&sandbox), [by_run, 1, 1, 1, 1, 1], "{story}: {launched:#?}");
        assert_eq!(debris(&sandbox), BTreeSet::new(), "{story}");
    }
}

#[test]
#[ignore = "needs prlimit"]
fn a_run_that_dies_because_memory_is_scarce_is_finished_by_the_next() {
    needs(&["prlimit"]);
    for parallel in [1, 4] {
        for mebibytes in 4..=48 {
            let sandbox = drifted(parallel);
            let story = format!("{mebibytes} MiB, {parallel} at once");
            let mut command = Command::new("timeout");
            command.args(["60", "prlimit", &format!("--as={}", mebibytes << 20), env!("CARGO_BIN_EXE_reconcile")]);
            let ended = command.current_dir(sandbox.path("")).stdin(Stdio::null()).output().unwrap();
            assert_ne!(ended.status.code(), Some(124), "{story}: it hangs");
            is_whole(&sandbox, &story);
            sandbox.run(&retry()).expect(0);
            // What was under way when the run died is restarted once more.
            assert!(starts(&sandbox).iter().all(|count| [1, 2].contains(count)), "{story}: {:?}", sandbox.calls());
            assert_eq!(debris(&sandbox), BTreeSet::new(), "{story}");
        }
    }
}
