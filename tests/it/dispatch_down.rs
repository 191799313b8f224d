//! A daemon that is down, that comes up, and that goes down: who writes the registry, and what is told of that.

use std::sync::atomic::{AtomicBool, Ordering};

use reconcile::apply::{Attempt, Backend, Turn, apply};
use reconcile::error::Result;
use reconcile::plan::select::Request;
use reconcile::plan::{Goal, Observed, Row, Verdict, Writer};
use reconcile::policy::{Source, read};
use serde_json::{Value, json};

use crate::dispatch::{CAL, POLICY, REGISTRY, became, changes, daemon, has_row, sandbox};
use crate::handle::Double;
use crate::world::{Unwatched, World, at};

#[test]
fn a_daemon_that_is_down_is_said_to_be() {
    let run = sandbox().run(&["--dry-run"]).expect(0);
    assert!(run.stderr.contains("note: nobody listens at daemon.sock"), "{run:#?}");
}

#[test]
fn while_the_daemon_is_down_the_file_is_edited_and_nothing_is_owed() {
    let sandbox = sandbox();
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL), ("done", ""));
    assert_eq!(report["summary"]["restarted"], 0);
    assert_eq!(sandbox.model(CAL).as_deref(), Some("sonnet"));
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 1 not managed, 9 in sync.");

    // When it starts it reads the file. Until it has written it, nobody knows whether it did.
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell("hold-saves");
    assert_eq!(daemon.truth(CAL)["model"], "sonnet");
    daemon.tell("flush");
    assert!(!has_row(&sandbox.json(&[]), CAL));
    assert_eq!(changes(&daemon), Vec::<Value>::new());
}

#[test]
fn the_limit_does_not_count_a_first_model_that_restarts_nothing() {
    let sandbox = sandbox();
    let plan = sandbox.json(&["--dry-run"]);
    let edits = plan["changes"].as_array().unwrap().iter().filter(|row| row["edit"] == true);
    let (first, replaced): (Vec<_>, Vec<_>) = edits.partition(|row| row["before"].is_null());
    assert!(!first.is_empty(), "{plan:#}");
    sandbox.write("policy.toml", format!("{POLICY}\n[limits]\nmax_changes = {}\n", replaced.len()));
    sandbox.run(&[]).expect(0);
}

#[test]
fn an_edit_in_the_window_at_the_start_is_found_lost_and_made_again() {
    let sandbox = sandbox();
    // It has read the registry, and its socket is not there yet.
    let daemon = Double::start(&sandbox.path(""), &["--live", CAL, "--pause-start-up"]);
    daemon.tell("hold-saves");
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    daemon.tell("open-socket");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL), ("deferred", "not yet confirmed by the daemon"), "{report:#}");
    assert_eq!(changes(&daemon), Vec::<Value>::new());
    // It writes what it remembers: now the drift shows.
    daemon.tell(&format!("touch {CAL}"));
    daemon.tell("flush");
    daemon.tell("let-saves");
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"));
    assert_eq!(became(&sandbox.json(&[]), CAL).0, "done");
    assert_eq!(daemon.truth(CAL)["model"], "sonnet");
}

#[test]
fn an_edit_in_the_window_at_the_end_is_found_lost_and_made_again() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell("shutdown");
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    daemon.tell(&format!("touch {CAL}"));
    daemon.tell("finish-shutdown");
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"), "it saved what it remembered");
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    assert_eq!(sandbox.model(CAL).as_deref(), Some("sonnet"));
}

#[test]
fn a_daemon_that_goes_down_in_the_middle_leaves_rows_deferred_and_nothing_owed() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    // After the two looks of the plan and the one before the change.
    daemon.tell("after 2 get_global_model shutdown");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL), ("deferred", "the daemon went down"), "{report:#}");
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"), "the file is not edited in its place in the same run");
    drop(daemon);
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
}

/// A daemon that is down when the plan is made, and up when the registry is to be replaced.
struct ComesUp {
    is_up: AtomicBool,
}

impl Backend for ComesUp {
    fn observe(&self, _: &[&Row]) -> Result<Observed> {
        let writer = if self.is_up.load(Ordering::Relaxed) { Writer::Daemon } else { Writer::UsMeanwhile };
        Ok(Observed { writer, ..Observed::default() })
    }

    fn may_write(&self) -> Result<bool> {
        self.is_up.store(true, Ordering::Relaxed);
        Ok(false)
    }

    fn restart(&self, _: &Row, _: &dyn Turn) -> Attempt {
        panic!("no session is live")
    }
}

#[test]
fn a_daemon_that_comes_up_in_the_middle_keeps_its_registry() {
    let world = World::new(REGISTRY.to_owned());
    let (policy, _) = read(&[Source::new("policy.toml", POLICY.to_owned())]).unwrap();
    let (now, request) = (at(0), Request::default());
    let goal = Goal { policy: &policy, now: &now, request: &request, allow_changes: None, expected: None };
    let applied = apply(&goal, &world, &ComesUp { is_up: AtomicBool::new(false) }, &Unwatched).unwrap();
    let plan = applied.planned.plan;
    assert_eq!(plan.writer, Writer::Daemon);
    assert!(plan.rows.iter().all(|row| matches!(row.outcome.verdict, Verdict::Deferred | Verdict::Unmanaged)));
    assert_eq!(world.state().registry, REGISTRY);
    let unsure =
        plan.rows.iter().filter(|row| row.outcome.detail.as_deref() == Some("not yet confirmed by the daemon"));
    assert_eq!(unsure.count(), 0, "nothing was edited");
}
