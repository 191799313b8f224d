//! What a run has written and cannot find again is an error after the first effect, never "nothing is owed".

use std::fs;

use serde_json::Value;

use crate::support::{POLICY, Run, Sandbox, needs_attributes, registry};

const STATE: &str = "sessions.json.reconcile";
const CHATS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Five chats that drift, whose restarts come one after the other. The first restart does `meanwhile` to the state.
fn drifted(meanwhile: &str) -> Sandbox {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n");
    let sandbox = Sandbox::new(&policy, &registry(&CHATS.map(|chat| (chat, "family", "opus"))));
    sandbox.script(
        "restart",
        &format!(
            "echo $RECONCILE_CHAT_ID >> calls\nif test $RECONCILE_CHAT_ID = a && mkdir done 2>&-; then {meanwhile}; fi\ntest ! -e broken"
        ),
    );
    sandbox
}

/// A run whose state goes while it restarts: no more restarts, exit 4, this error, and the file is named.
#[track_caller]
fn told(sandbox: &Sandbox, error: &str, names: &str) -> Run {
    let run = sandbox.run(&["--output", "json=run.json"]).expect(4);
    assert!(run.stderr.contains(error) && run.stderr.contains(names), "{run:#?}");
    assert_eq!(sandbox.calls(), ["a"], "no restart begins without the ledger");
    let report: Value = serde_json::from_str(&sandbox.read("run.json")).unwrap();
    for chat in &CHATS[1..] {
        let row = report["changes"].as_array().unwrap().iter().find(|row| row["chat_id"] == *chat).unwrap();
        assert_eq!(row["outcome"], "deferred", "{report:#}");
    }
    run
}

#[test]
fn a_ledger_that_is_removed_during_a_run_is_an_error_and_its_debts_are_kept() {
    // Where its locks are gone, too, the run can no longer note that the first restart succeeded.
    for (meanwhile, again) in
        [("rm sessions.json.reconcile/ledger.journal", None), ("rm sessions.json.reconcile/*", Some("a"))]
    {
        let sandbox = drifted(meanwhile);
        told(&sandbox, "error[ledger-removed]: ", "sessions.json.reconcile/ledger.journal was removed");
        // What this run knew is written down again, and the next one does what is left.
        sandbox.run(&[]).expect(0);
        let expected: Vec<&str> = again.into_iter().chain(CHATS).collect();
        assert_eq!(sandbox.calls(), expected, "{meanwhile}");
    }
}

#[test]
fn a_ledger_that_an_older_copy_replaces_during_a_run_is_an_error() {
    for put_back in ["cp old sessions.json.reconcile/ledger.journal", "mv old sessions.json.reconcile/ledger.journal"] {
        let sandbox = drifted(put_back);
        // A ledger of some records.
        sandbox.run(&["launch", "z", "--tier", "family", "--", "true"]).expect(0);
        let drifted = sandbox.read("sessions.json");
        sandbox.run(&["--chat", "e"]).expect(0);
        sandbox.write("sessions.json", drifted);
        fs::remove_dir(sandbox.path("done")).unwrap_or_default();
        fs::remove_file(sandbox.path("calls")).unwrap();
        fs::copy(sandbox.path(STATE).join("ledger.journal"), sandbox.path("old")).unwrap();
        fs::set_permissions(sandbox.path("old"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        told(
            &sandbox,
            "error[ledger-replaced]: ",
            "sessions.json.reconcile/ledger.journal was replaced by an older copy",
        );
    }
}

#[test]
fn a_state_directory_that_is_removed_or_moved_during_a_run_is_an_error() {
    for meanwhile in [
        "rm -r sessions.json.reconcile",
        "mv sessions.json.reconcile elsewhere",
        "mv sessions.json.reconcile elsewhere && mkdir -m 700 sessions.json.reconcile",
    ] {
        let sandbox = drifted(meanwhile);
        told(&sandbox, "error[directory-moved]: ", "sessions.json.reconcile was moved, removed or replaced");
    }
}

#[test]
#[ignore = "needs extended attributes"]
fn state_that_was_removed_between_runs_is_told_of_once() {
    needs_attributes();
    let sandbox = drifted("true");
    sandbox.run(&[]).expect(0);
    fs::remove_dir_all(sandbox.path(STATE)).unwrap();
    let owed = sandbox.run(&["owed"]).expect(0).stderr;
    assert!(owed.contains("the state of earlier runs, with the restarts that are owed, is missing"), "{owed}");
    assert!(owed.contains("hint: ") && owed.contains("owed --forget-all"), "{owed}");
    assert!(
        sandbox
            .run(&["--dry-run"])
            .expect(0)
            .stderr
            .contains("the state of earlier runs, with the restarts that are owed, is missing")
    );
    assert!(
        sandbox
            .run(&[])
            .expect(0)
            .stderr
            .contains("the state of earlier runs, with the restarts that are owed, is missing")
    );
    // From now on there is state again.
    assert_eq!(sandbox.run(&[]).expect(0).stderr, "");
}

#[test]
fn a_registry_that_vanishes_while_a_launch_waits_is_never_created_anew() {
    let sandbox = drifted("true");
    sandbox.run(&["launch", "a", "--", "true"]).expect(0);
    let lock = fs::File::open(sandbox.path(STATE).join("data.lock")).unwrap();
    lock.lock().unwrap();
    let mut launch = crate::slow::Running::start(&mut sandbox.command(&["launch", "b", "--", "true"]));
    crate::slow::until("the launch waits", || launch.has_open("data.lock"));
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    lock.unlock().unwrap();
    let run = launch.finish().expect(1);
    assert!(run.stderr.contains("sessions.json"), "{run:#?}");
    assert!(!sandbox.path("sessions.json").exists(), "a registry of one session took the place of five");
}
