//! What a run waits for, for how long, and what it says of what it waits for.

use std::fs::{self, File};
use std::io::{Read, read_to_string};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::slow::{Running, Slow, until};
use crate::support::{POLICY, Sandbox, finish, registry, write_state};

const STATE: &str = "sessions.json.reconcile";

/// One chat that drifts, beside a state directory that has its locks.
fn drifted() -> Sandbox {
    let sandbox = Sandbox::new(POLICY, &registry(&[("a", "family", "opus")]));
    for lock in ["run.lock", "data.lock"] {
        write_state(&sandbox.path(STATE), lock, "");
    }
    sandbox
}

fn locked(sandbox: &Sandbox, name: &str) -> File {
    let lock = File::options().write(true).open(sandbox.path(STATE).join(name)).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn only_a_process_that_holds_the_lock_is_named() {
    // The file still names a run that has died; something else holds the lock: this test.
    let sandbox = drifted();
    let lock = locked(&sandbox, "run.lock");
    let dead = Command::new("true").spawn().and_then(|mut child| child.wait().map(|_| child.id())).unwrap();
    for named in [dead.to_string(), "1".to_owned(), "junk".to_owned()] {
        write_state(&sandbox.path(STATE), "run.lock", &named);
        let run = sandbox.run(&["--lock-timeout", "0s"]).expect(75);
        let told = format!(
            "error[locked]: another process holds {}",
            fs::canonicalize(sandbox.path(STATE)).unwrap().display()
        );
        assert!(run.stderr.starts_with(&told), "{run:#?}");
        let names_it = run.stderr.contains(&format!("/run.lock (pid {})\n", std::process::id()));
        assert_eq!(names_it, cfg!(target_os = "linux"), "{run:#?}");
    }
    drop(lock);

    let slow = Slow::new(&["a"], "");
    let mut first = slow.start(&[]);
    slow.begun();
    let run = slow.sandbox.run(&["--lock-timeout", "0s"]).expect(75);
    assert!(run.stderr.starts_with("error[locked]: another run holds "), "{run:#?}");
    assert!(run.stderr.contains(&format!("/run.lock (pid {})\n", first.id())), "{run:#?}");
    slow.end("a");
    first.finish().expect(0);
}

#[test]
fn a_lock_timeout_of_nothing_waits_for_nothing() {
    let sandbox = drifted();
    let _lock = locked(&sandbox, "data.lock");
    for arguments in [&["--lock-timeout", "0s"][..], &["launch", "a", "--lock-timeout", "0s", "--", "true"]] {
        let since = Instant::now();
        let run = sandbox.run(arguments).expect(75);
        assert!(run.stderr.contains("data.lock"), "{run:#?}");
        assert!(since.elapsed() < Duration::from_secs(8), "it waited {:?}", since.elapsed());
    }
}

/// What another run exits with while the report of a run with these arguments is not read yet.
fn beside_an_unread_report(arguments: &[&str], other: i32) {
    // More lines than a pipe holds.
    let chats: Vec<String> = (0..3000).map(|number| format!("+1617555{number:04}")).collect();
    let rows: Vec<(&str, &str, &str)> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
    let sandbox = Sandbox::new(POLICY, &registry(&rows));
    let mut command = sandbox.command(&[&["--allow-changes", "3000"], arguments].concat());
    let mut unread = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut report = unread.stdout.take().unwrap();
    report.read_exact(&mut [0]).unwrap();
    sandbox.run(&["--lock-timeout", "0s"]).expect(other);
    assert!(unread.try_wait().unwrap().is_none(), "its report fits into the pipe");
    let rest = read_to_string(&mut report).unwrap();
    assert!(rest.contains("3000 changed"), "{rest}");
    assert_eq!(unread.wait().unwrap().code(), Some(0));
}

#[test]
fn a_run_whose_report_is_not_read_yet_keeps_no_other_run_waiting() {
    beside_an_unread_report(&[], 0);
}

#[test]
fn a_run_that_has_yet_to_write_a_file_keeps_others_from_writing_theirs_before() {
    for arguments in [&["--metrics", "metrics.prom"][..], &["--output", "json=report.json"], &["--quiet"]] {
        beside_an_unread_report(arguments, 75);
    }
}

#[test]
fn a_run_that_waits_for_the_data_stops_waiting_when_asked_to() {
    let sandbox = drifted();
    let _lock = locked(&sandbox, "data.lock");
    for signal in [Signal::INT, Signal::TERM] {
        let mut run = Running::start(&mut sandbox.command(&["--lock-timeout", "20s"]));
        until("the run waits for the data", || run.has_open("data.lock"));
        run.signal(signal);
        let told = run.finish().expect(75);
        assert!(
            told.stderr.starts_with("error[interrupted]: interrupted while waiting for another process"),
            "{told:#?}"
        );
        assert_eq!(sandbox.model("a").as_deref(), Some("opus"));
    }
}

#[test]
fn a_state_directory_is_usable_under_any_umask() {
    for umask in ["0177", "0277", "0022", "0777"] {
        let sandbox = Sandbox::new(POLICY, &registry(&[("a", "family", "opus")]));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_reconcile")]);
        let run = finish(command.current_dir(sandbox.path("")).stdin(Stdio::null()));
        assert_eq!(run.code, 0, "{umask}: {run:#?}");
        let mode = |name: &str| fs::metadata(sandbox.path(STATE).join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(""), 0o700, "{umask}");
        for name in ["run.lock", "data.lock", "ledger.journal", "history.jsonl"] {
            assert_eq!(mode(name), 0o600, "{umask}: {name}");
        }
        sandbox.run(&["set-model", "a", "haiku"]).expect(0);
    }
}

#[test]
fn time_in_which_the_run_was_stopped_counts_for_no_timeout() {
    const STOPPED: Duration = Duration::from_secs(4);
    let slow = Slow::new(&["a", "b"], "parallel = 1\ntimeout = \"3s\"");
    let mut run = slow.start(&[]);
    assert_eq!(slow.begun(), "a");
    let since = Instant::now();
    run.signal(Signal::STOP);
    // One restart ends while the run is stopped; of the other, its time goes on afterwards.
    slow.end("a");
    until("the restart has ended", || slow.ended() == ["a"]);
    until("the run was stopped for longer than the timeout", || since.elapsed() > STOPPED);
    run.signal(Signal::CONT);
    assert_eq!(slow.begun(), "b");
    let since = Instant::now();
    run.signal(Signal::STOP);
    until("the run was stopped for longer than the timeout", || since.elapsed() > STOPPED);
    run.signal(Signal::CONT);
    slow.end("b");
    let told = run.finish().expect(0);
    assert_eq!(told.summary(), "Applied: 2 changed, 2 restarted, 0 deferred, 0 failed.");
    assert_eq!(slow.sandbox.ledger()["owed"], json!({}));
}

#[test]
fn all_debts_are_forgotten_at_once_where_the_user_says_so() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n[rollout]\nmax_failures = 2\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("a", "family", "opus"), ("b", "family", "opus")]));
    sandbox.has_seen(&["sonnet"]);
    assert_eq!(sandbox.run(&["owed", "--forget-all"]).expect(0).stdout, "No restarts are owed.\n");
    sandbox.run(&[]).expect(4);
    sandbox.run(&["owed", "--forget-all", "--forget", "a"]).expect(64);
    assert_eq!(sandbox.run(&["owed", "--forget-all"]).expect(0).stdout, "Forgot 2 owed restarts.\n");
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 2 in sync.");
}
