//! State that another user's runs have left, and that this user may not enter: a dry run plans without it, and says so.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use crate::bad_input::{drifted, policy};
use crate::bad_state::{as_nobody, give_to_nobody};
use crate::support::{POLICY, Sandbox, needs_root, registry};

const STATE: &str = "sessions.json.reconcile";
const WARNING: &str = "warning: only user 0 may read the state of earlier runs: the plan lacks the restarts that are owed, and what is \
     held or has failed\nhint: for the whole plan, run as that user, or as root\n";

/// A sandbox of root's that others can look at: `+1` owes a restart, and `+2` has drifted.
fn scene() -> Sandbox {
    let sandbox = drifted();
    sandbox.script("restart", "exit 1");
    sandbox.run(&["--chat", "+1"]).expect(4);
    sandbox.write("policy.toml", policy().replace("family = \"sonnet\"", "family = \"haiku\""));
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).unwrap();
    sandbox
}

#[test]
#[ignore = "needs root"]
fn a_dry_run_plans_without_it_and_says_so() {
    needs_root();
    let sandbox = scene();
    let run = as_nobody(&sandbox, &["--dry-run", "--format", "json"]);
    assert_eq!(run.stderr, WARNING);
    // It is the plan of a registry beside which no run has been.
    let fresh = Sandbox::new(&sandbox.read("policy.toml"), &sandbox.read("sessions.json"));
    assert_eq!(run.expect(0).stdout, fresh.run(&["--dry-run", "--format", "json"]).expect(0).stdout);
    // Root sees all of it.
    let whole = sandbox.run(&["--dry-run"]);
    assert!(
        whole.stdout.contains("restart owed since") && !whole.stderr.contains("state of earlier runs"),
        "{whole:#?}"
    );
    let edit = as_nobody(&sandbox, &["set-model", "+2", "opus", "--dry-run"]).expect(0);
    assert!(edit.stderr.contains(WARNING), "{edit:#?}");
}

#[test]
#[ignore = "needs root"]
fn it_is_the_same_where_a_daemon_owns_the_registry() {
    needs_root();
    let sandbox = scene();
    let daemon = "\n[sessions]\nbackend = \"dispatch\"\nsocket = \"daemon.sock\"\n";
    sandbox.write("policy.toml", format!("{POLICY}{daemon}"));
    let run = as_nobody(&sandbox, &["--dry-run"]);
    assert!(run.expect(0).stderr.contains(WARNING));
}

#[test]
#[ignore = "needs root"]
fn what_changes_the_state_or_shows_it_is_refused() {
    needs_root();
    let sandbox = scene();
    let before = (sandbox.read("sessions.json"), sandbox.read("policy.toml"));
    for arguments in [&[][..], &["set-model", "+2", "opus"], &["owed"], &["history"], &["explain", "+1"]] {
        let run = as_nobody(&sandbox, arguments);
        assert!(run.expect(1).stderr.contains("permission denied"), "{arguments:?}");
    }
    assert_eq!((sandbox.read("sessions.json"), sandbox.read("policy.toml")), before);
}

#[test]
#[ignore = "needs root"]
fn state_of_ones_own_that_may_not_be_entered_is_an_error() {
    needs_root();
    let sandbox = scene();
    give_to_nobody(&sandbox);
    fs::set_permissions(sandbox.path(STATE), Permissions::from_mode(0o000)).unwrap();
    let run = as_nobody(&sandbox, &["--dry-run"]);
    assert!(run.expect(1).stderr.contains("permission denied"));
}

#[test]
#[ignore = "needs root"]
fn other_state_that_cannot_be_used_is_an_error_as_ever() {
    needs_root();
    let sandbox = scene();
    // It can be entered, and belongs to another user than the registry.
    fs::set_permissions(sandbox.path(STATE), Permissions::from_mode(0o755)).unwrap();
    let run = as_nobody(&sandbox, &["--dry-run"]);
    assert!(run.expect(1).stderr.contains("its mode is 0755, not 0700"));
    let sandbox = Sandbox::new(&policy(), &registry(&[("+1", "family", "opus")]));
    give_to_nobody(&sandbox);
    fs::create_dir(sandbox.path(STATE)).unwrap();
    fs::set_permissions(sandbox.path(STATE), Permissions::from_mode(0o755)).unwrap();
    chown(sandbox.path(STATE), Some(0), Some(0)).unwrap();
    assert!(as_nobody(&sandbox, &["--dry-run"]).expect(1).stderr.contains("user 0 owns it"));
}
