//! A daemon that is down, that comes up, and that goes down: who writes the registry, and what is told of that.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use reconcile::apply::{Applied, RunContext, Watch, apply};
use reconcile::backend::file::RegistryFile;
use reconcile::backend::{Home, Place, Probe, open};
use reconcile::plan::Verdict;
use reconcile::plan::json::Origin;
use reconcile::plan::observed::Edits;
use reconcile::plan::select::Selector;
use reconcile::policy::{Source, read};
use serde_json::{Value, json};

use crate::dispatch::{CAL, POLICY, became, changes, daemon, has_row, sandbox};
use crate::handle::Double;
use crate::support::Sandbox;
use crate::world::{at, input};

#[test]
fn a_daemon_that_is_down_is_said_to_be() {
    let run = sandbox().run(&["--dry-run"]).expect(0);
    assert!(run.stderr.contains("note: no daemon listens at daemon.sock"), "{run:#?}");
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

    // When it starts it reads the file. Until it has written it, it is not known whether it did.
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
    daemon.tell("after 3 get_global_model shutdown");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL), ("deferred", "the daemon went down"), "{report:#}");
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"), "the file is not edited in its place in the same run");
    drop(daemon);
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
}

/// Starts a daemon right before the commit of a run, once.
struct StartsDaemon<'s> {
    sandbox: &'s Sandbox,
    daemon: Mutex<Option<Double>>,
}

impl Watch for StartsDaemon<'_> {
    fn interrupted(&self) -> bool {
        self.daemon.lock().unwrap().get_or_insert_with(|| daemon(self.sandbox, &[]));
        false
    }
}

/// A run that this watches.
fn watched(sandbox: &Sandbox, watch: &dyn Watch) -> Applied {
    let (policy, _) = read(&[Source::new("policy.toml", sandbox.read("policy.toml"))]).unwrap();
    let registry = RegistryFile::open(&sandbox.path("sessions.json")).unwrap();
    let (directory, socket) = (sandbox.path(""), Some(sandbox.path("daemon.sock")));
    let backend =
        open(&policy, Place { home: Home::File(registry), directory, socket, probe: Probe::Nothing }).unwrap();
    let (now, selector) = (at(0), Selector::default());
    let locked = backend.lock(Duration::ZERO, &|| false).unwrap();
    let input = input(backend.as_ref(), &policy, &now, &selector, usize::MAX);
    let context = RunContext { backend: backend.as_ref(), locked: locked.as_ref(), watch, author: &Origin::default };
    apply(&input, context).unwrap()
}

#[test]
fn a_daemon_that_comes_up_in_the_middle_keeps_its_registry() {
    let sandbox = sandbox();
    let before = sandbox.read("sessions.json");
    let watch = StartsDaemon { sandbox: &sandbox, daemon: Mutex::default() };
    let plan = watched(&sandbox, &watch).planned.plan;

    assert_eq!(plan.edits, Edits::PerRow { batch: 1 }, "it planned again");
    let verdicts = plan.rows.iter().map(|row| row.outcome.verdict);
    assert!(verdicts.into_iter().all(|verdict| matches!(verdict, Verdict::Deferred | Verdict::Unmanaged)));
    assert_eq!(sandbox.read("sessions.json"), before);
    let unsure =
        plan.rows.iter().filter(|row| row.outcome.detail.as_deref() == Some("not yet confirmed by the daemon"));
    assert_eq!(unsure.count(), 0, "nothing was edited");
    assert_eq!(sandbox.ledger()["owed"].as_object().map_or(0, serde_json::Map::len), 0);
}

/// Does something to the state right after the commit.
struct AfterCommit<'s>(&'s (dyn Fn() + Sync));

impl Watch for AfterCommit<'_> {
    fn interrupted(&self) -> bool {
        false
    }
    fn expect(&self, _: usize) {
        self.0();
    }
}

#[test]
fn what_the_run_remembers_of_the_daemon_and_cannot_find_again_is_an_error_after_the_first_effect() {
    let sandbox = sandbox();
    let pending = sandbox.path("sessions.json.reconcile/pending.json");
    let older = "{\"version\":2,\"edits\":[],\"unsaved\":{}}";
    let ways: [&(dyn Fn() + Sync); 2] =
        [&|| fs::remove_file(&pending).unwrap(), &|| fs::write(&pending, older).unwrap()];
    let registry = sandbox.read("sessions.json");
    for meanwhile in ways {
        sandbox.write("sessions.json", &registry);
        let applied = watched(&sandbox, &AfterCommit(meanwhile));
        let error = applied.error.expect("an error");
        assert_eq!(error.code(), "pending-changed", "{error:?}");
        assert!(applied.planned.plan.has_effects());
    }
}
