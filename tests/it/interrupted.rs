//! SIGINT and SIGTERM: what is under way ends, the rest stays owed, and the next run finishes it.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use reconcile::apply::Watch;
use reconcile::plan::Row;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::slow::{Running, Slow, until};
use crate::support::{Run, row};
use crate::world::{World, policy};

const JSON: [&str; 2] = ["--format", "json"];

/// Each chat's outcome and its detail.
fn outcomes(run: &Run) -> Vec<(String, String, Value)> {
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:#?}"));
    let rows = report["changes"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.map(|row| (text(&row["chat_id"]), text(&row["outcome"]), row["detail"].clone())).collect()
}

fn done(chat: &str) -> (String, String, Value) {
    (chat.to_owned(), "done".to_owned(), Value::Null)
}

fn interrupted(chat: &str) -> (String, String, Value) {
    (chat.to_owned(), "deferred".to_owned(), json!("interrupted"))
}

/// Lets the next run finish, in which these restarts must begin, in this order.
fn finish(slow: &Slow, chats: &[&str]) {
    let mut next = slow.start(&[]);
    for chat in chats {
        assert_eq!(slow.begun(), *chat);
        slow.end(chat);
    }
    let told = next.finish().expect(0);
    let restarted = format!("Applied: 0 changed, {} restarted, 0 deferred, 0 failed.", chats.len());
    assert_eq!(told.summary(), restarted);
    assert_eq!(slow.owed(), [""; 0]);
    assert_eq!(slow.sandbox.run(&[]).expect(0).summary(), "No changes. 3 in sync.");
}

#[test]
fn the_restart_under_way_ends_and_the_others_stay_owed() {
    for signal in [Signal::INT, Signal::TERM] {
        let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
        let mut run = slow.start(&JSON);
        assert_eq!(slow.begun(), "a");
        run.interrupt(signal);
        assert!(!run.is_over(), "it waits for the restart under way");
        slow.end("a");
        let told = run.finish().expect(4);
        assert_eq!(outcomes(&told), [done("a"), interrupted("b"), interrupted("c")]);
        let report: Value = serde_json::from_str(&told.stdout).unwrap();
        assert_eq!(row(&report, "b")["restart"], true);
        let numbers = ["changed", "restarted", "deferred", "owed", "failed"].map(|name| &report["summary"][name]);
        assert_eq!(numbers, [3, 1, 2, 2, 0]);
        assert_eq!((slow.sandbox.calls(), slow.owed()), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
        finish(&slow, &["b", "c"]);
        assert_eq!(slow.sandbox.calls(), ["a", "b", "c"], "each exactly once");
    }
}

#[test]
fn an_interrupted_run_says_so_in_its_summary() {
    let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
    let mut run = slow.start(&[]);
    assert_eq!(slow.begun(), "a");
    run.interrupt(Signal::TERM);
    slow.end("a");
    let told = run.finish().expect(4);
    assert_eq!(told.summary(), "Applied: 3 changed, 1 restarted, 2 deferred, 0 failed, 2 restarts still owed.");
    assert_eq!(told.stdout.matches("interrupted").count(), 2, "{told:#?}");
}

#[test]
fn with_two_under_way_both_end() {
    let slow = Slow::new(&["a", "b", "c"], "parallel = 2");
    let mut run = slow.start(&JSON);
    let mut begun = [slow.begun(), slow.begun()];
    begun.sort();
    assert_eq!(begun, ["a", "b"]);
    run.interrupt(Signal::INT);
    // When the one has ended, its place is not given to another.
    slow.end("b");
    until("the first of them is struck", || slow.owed() == ["a", "c"]);
    assert!(!run.is_over(), "it waits for the other, too");
    slow.end("a");
    let told = run.finish().expect(4);
    assert_eq!(outcomes(&told), [done("a"), done("b"), interrupted("c")]);
    assert_eq!((slow.ended(), slow.owed()), (vec!["b".to_owned(), "a".to_owned()], vec!["c".to_owned()]));
    finish(&slow, &["c"]);
    assert_eq!(slow.sandbox.calls().len(), 3, "each exactly once");
}

#[test]
fn a_restart_under_way_that_never_ends_is_ended_by_its_timeout() {
    let slow = Slow::new(&["a", "b", "c"], "parallel = 1\ntimeout = \"4s\"");
    let mut run = slow.start(&JSON);
    assert_eq!(slow.begun(), "a");
    run.interrupt(Signal::TERM);
    let told = run.finish().expect(4);
    let found = outcomes(&told);
    assert_eq!(found[1..], [interrupted("b"), interrupted("c")]);
    let (outcome, detail) = (&found[0].1, found[0].2.as_str().unwrap());
    assert!(outcome == "failed" && detail.contains("took longer than 4s"), "{found:#?}");
    assert_eq!((slow.sandbox.calls(), slow.owed()), (vec!["a".to_owned()], ["a", "b", "c"].map(str::to_owned).into()));
    assert_eq!(slow.ended(), [""; 0]);
}

#[test]
fn from_a_terminal_the_restart_under_way_is_not_interrupted() {
    let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
    let mut run = Running::start(slow.sandbox.command(&JSON).process_group(0));
    assert_eq!(slow.begun(), "a");
    // A terminal sends it to everybody in the foreground.
    let group = Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    run.wait_until_noted();
    slow.end("a");
    assert_eq!(outcomes(&run.finish().expect(4))[0], done("a"));
    assert_eq!(slow.ended(), ["a"]);
    finish(&slow, &["b", "c"]);
}

#[test]
fn a_second_signal_ends_the_run_at_once_and_no_debt_is_lost() {
    for signals in [[Signal::INT, Signal::INT], [Signal::INT, Signal::TERM], [Signal::TERM, Signal::TERM]] {
        let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
        let mut run = slow.start(&[]);
        assert_eq!(slow.begun(), "a");
        run.interrupt(signals[0]);
        assert!(!run.is_over());
        run.signal(signals[1]);
        // Nothing has let the restart end: the run does not wait for it.
        let told = run.finish().expect(4);
        assert_eq!((told.stdout.as_str(), slow.ended()), ("", vec![]));
        assert_eq!(slow.owed(), ["a", "b", "c"]);
        // That restart may or may not have done its work, so it is done again.
        slow.end("a");
        until("the restart that was left alone has ended", || slow.ended() == ["a"]);
        finish(&slow, &["a", "b", "c"]);
        assert_eq!(slow.sandbox.calls(), ["a", "a", "b", "c"]);
    }
}

#[test]
fn a_run_that_waits_for_another_stops_waiting() {
    let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
    let mut first = slow.start(&[]);
    assert_eq!(slow.begun(), "a");
    for signal in [Signal::INT, Signal::TERM] {
        let mut second = slow.start(&["--lock-timeout", "1h"]);
        until("the second run waits", || second.has_open("run.lock"));
        second.signal(signal);
        let told = second.finish().expect(75);
        // It tells what ended it and who holds the lock, and no advice on waiting longer.
        let [before, after] = [
            "error[interrupted]: interrupted while waiting for another run, which holds ",
            &format!("/run.lock (pid {})\n", first.id()),
        ];
        assert!(told.stderr.starts_with(before) && told.stderr.ends_with(after), "{told:#?}");
        assert_eq!((told.stderr.lines().count(), told.stdout.as_str()), (1, ""), "{told:#?}");
    }
    assert!(!first.is_over());
    for chat in ["a", "b", "c"] {
        slow.end(chat);
    }
    first.finish().expect(0);
    assert_eq!(slow.sandbox.calls(), ["a", "b", "c"]);
}

#[test]
fn a_signal_in_a_pause_ends_the_run_at_once_and_what_was_to_come_is_not_edited() {
    for signal in [Signal::INT, Signal::TERM] {
        let slow = Slow::new(&["a", "b"], "parallel = 1\n[rollout]\npause = \"1h\"");
        let mut run = slow.start(&JSON);
        assert_eq!(slow.begun(), "a");
        slow.end("a");
        until("the first restart is over", || slow.owed().is_empty());
        run.signal(signal);
        let told = run.finish().expect(4);
        assert_eq!(outcomes(&told), [done("a"), interrupted("b")]);
        assert_eq!(
            ["a", "b"].map(|chat| slow.sandbox.model(chat)),
            [Some("sonnet".to_owned()), Some("opus".to_owned())]
        );
        assert_eq!(slow.owed(), [""; 0]);
    }
}

#[test]
fn an_edit_that_waits_for_another_stops_waiting() {
    let slow = Slow::new(&["a"], "");
    let before = slow.sandbox.read("policy.toml");
    let lock = File::open(slow.sandbox.path("policy.toml")).unwrap();
    lock.lock().unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut edit = slow.start(&["--lock-timeout", "1h", "set-model", "a", "haiku"]);
        until("the edit waits for the file", || edit.has_open("policy.toml"));
        edit.signal(signal);
        let told = edit.finish().expect(75);
        let holder = std::process::id();
        let expected = "error[interrupted]: interrupted while waiting for another process, which holds policy.toml";
        assert_eq!(told.stderr, format!("{expected} (pid {holder})\n"));
    }
    assert_eq!((slow.sandbox.read("policy.toml"), slow.sandbox.model("a").as_deref()), (before, Some("opus")));
}

#[test]
fn interrupted_before_the_first_effect_nothing_is_done() {
    for signal in [Signal::INT, Signal::TERM] {
        let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
        let before = slow.sandbox.read("sessions.json");
        // Another program is at the data: the run has come no further than to its lock.
        let state = slow.sandbox.path("sessions.json.reconcile");
        let lock = File::options().create_new(true).write(true).mode(0o600).open(state.join("data.lock")).unwrap();
        lock.lock().unwrap();
        let mut run = slow.start(&["--lock-timeout", "1h", "--format", "json"]);
        until("the run waits for the data", || run.has_open("data.lock"));
        run.signal(signal);
        let told = run.finish().expect(75);
        assert!(told.stdout.is_empty() && told.stderr.contains("interrupted while waiting"), "{told:#?}");
        assert_eq!((slow.sandbox.read("sessions.json"), slow.sandbox.calls().len()), (before, 0));
        assert_eq!(slow.owed(), [""; 0], "nothing is owed for what was not changed");
    }
}

#[test]
fn an_interrupted_run_over_debts_leaves_the_others_owed() {
    let slow = Slow::new(&["a", "b", "c"], "parallel = 1");
    for (under_way, left) in [("a", &["b", "c"][..]), ("b", &["c"]), ("c", &[])] {
        let mut run = slow.start(&[]);
        assert_eq!(slow.begun(), under_way);
        run.interrupt(Signal::TERM);
        slow.end(under_way);
        run.finish().expect(4);
        assert_eq!(slow.owed(), left);
    }
    assert_eq!(slow.sandbox.run(&[]).expect(0).summary(), "No changes. 3 in sync.");
    assert_eq!(slow.sandbox.calls(), ["a", "b", "c"], "each exactly once");
}

/// Interrupts the run when it has come so far: a number of restarts begun, a number of them ended.
struct Interrupter {
    after: (usize, usize),
    begun: Mutex<Vec<String>>,
    ended: Mutex<usize>,
    interrupted: AtomicBool,
}

impl Interrupter {
    fn new(begun: usize, ended: usize) -> Self {
        Self {
            after: (begun, ended),
            begun: Mutex::default(),
            ended: Mutex::default(),
            interrupted: AtomicBool::new(false),
        }
    }

    fn interrupted() -> Self {
        Self { interrupted: AtomicBool::new(true), ..Self::new(0, 0) }
    }

    fn look(&self) {
        if (self.begun.lock().unwrap().len(), *self.ended.lock().unwrap()) == self.after {
            self.interrupted.store(true, Ordering::SeqCst);
        }
    }
}

impl Watch for Interrupter {
    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
    fn begun(&self, row: &Row) {
        self.begun.lock().unwrap().push(row.chat.id.to_string());
        self.look();
    }
    fn ended(&self, _: &Row) {
        *self.ended.lock().unwrap() += 1;
        self.look();
    }
}

const DRIFT: &str = r#"{"a": {"model": "opus"}, "b": {"model": "opus"}, "c": {"model": "opus"}}"#;

#[test]
fn after_an_interruption_no_worker_is_given_another_session() {
    let world = World::new(DRIFT);
    let interrupter = Interrupter::new(1, 1);
    let applied = world.watched(&policy(&[]), 0, None, &interrupter).unwrap();
    assert!(applied.interrupted);
    assert_eq!(*interrupter.begun.lock().unwrap(), ["a"]);
    assert_eq!(world.state().changed, ["a"]);
}

#[test]
fn a_worker_interrupted_before_its_effect_has_begun_nothing() {
    let world = World::new(DRIFT);
    let applied = world.watched(&policy(&[]), 0, None, &Interrupter::new(2, 1)).unwrap();
    assert!(applied.interrupted);
    let state = world.state();
    assert_eq!(state.changed, ["a"]);
    assert_eq!(state.ledger.owed.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert!(state.ledger.owed.values().all(|debt| !debt.began), "{:?}", state.ledger);
}

#[test]
fn interrupted_before_the_commit_every_row_is_deferred() {
    let world = World::new(DRIFT);
    let applied = world.watched(&policy(&[]), 0, None, &Interrupter::interrupted()).unwrap();
    assert!(applied.interrupted && !applied.planned.plan.has_effects());
    let details = applied.planned.plan.rows.iter().map(|row| row.outcome.detail.as_deref());
    assert_eq!(details.collect::<Vec<_>>(), [Some("interrupted"); 3]);
    assert!(world.state().changed.is_empty() && world.state().ledger.owed.is_empty());
}

/// A bug, in the attempt on the second chat.
struct Bug;

impl Watch for Bug {
    fn interrupted(&self) -> bool {
        false
    }
    fn begun(&self, row: &Row) {
        assert_ne!(row.chat.id, "b", "a bug");
    }
}

#[test]
fn a_worker_that_panics_ends_the_run_with_an_error_and_the_rest_stays_owed() {
    let world = World::new(DRIFT);
    let applied = world.watched(&policy(&[]), 0, None, &Bug).unwrap();
    assert_eq!(applied.error.expect("an error").code(), "panicked");
    let state = world.state();
    assert_eq!(state.changed, ["a"]);
    assert_eq!(state.ledger.owed.keys().collect::<Vec<_>>(), ["b", "c"]);
}
