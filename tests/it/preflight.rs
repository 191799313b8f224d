//! Before the first write a run looks whether the commands that it will need can be executed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::commands::{CHAT, RECORD, drifted};
use crate::support::{Run, Sandbox, finish};

const HINT: &str = "hint: name the program by its full path, or set PATH for this run: cron's is short\n";

/// Runs it with this PATH.
fn run(sandbox: &Sandbox, path: &str, arguments: &[&str]) -> Run {
    finish(sandbox.command(arguments).env("PATH", path))
}

/// Sees that a run is refused because of `command`, and that it has done nothing.
fn refused(sandbox: &Sandbox, path: &str, command: &str) {
    let run = run(sandbox, path, &[]).expect(1);
    assert_eq!(run.stderr, format!("error[program]: {command}\n{HINT}"));
    assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.ledger()["owed"].clone()), (Some("opus"), Value::Null));
}

#[test]
fn a_program_that_is_not_in_path_is_found_out_before_the_write() {
    let sandbox = drifted(r#"restart = ["nosuch", "{session_slug}"]"#);
    for path in ["/usr/bin:/bin", ""] {
        refused(
            &sandbox,
            path,
            &format!("the restart command (nosuch) cannot be executed: there is no such program in PATH ({path})"),
        );
    }
}

#[test]
fn each_command_that_a_restart_needs_is_looked_at() {
    let sandbox = drifted("restart = [\"true\"]\nrunning = [\"nosuch\"]");
    refused(
        &sandbox,
        "/bin",
        "the running command (nosuch) cannot be executed: there is no such program in PATH (/bin)",
    );
    let sandbox = drifted("restart = [\"true\"]\nrunning = [\"true\"]\nidentity = [\"./nosuch\"]");
    refused(&sandbox, "/bin", "the identity command (./nosuch) cannot be executed: no such file or directory");
}

#[test]
fn what_cannot_be_executed_is_no_program() {
    let sandbox = drifted(RECORD);
    let cannot = |why: &str| format!("the restart command (./restart) cannot be executed: {why}");
    symlink("nowhere", sandbox.path("restart")).unwrap();
    refused(&sandbox, "/bin", &cannot("no such file or directory"));
    fs::remove_file(sandbox.path("restart")).unwrap();

    fs::create_dir(sandbox.path("restart")).unwrap();
    refused(&sandbox, "/bin", &cannot("is a directory"));
    fs::remove_dir(sandbox.path("restart")).unwrap();

    sandbox.script("restart", "");
    fs::set_permissions(sandbox.path("restart"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&sandbox, "/bin", &cannot("permission denied"));
}

#[test]
fn programs_are_looked_up_as_they_will_be_executed() {
    // A name with a slash is relative to the policy's directory, and so is an empty or relative entry of PATH.
    for (command, path) in [("./bin/restart", "/bin"), ("restart", "/bin:bin"), ("restart", "/nowhere:bin:/bin")] {
        let sandbox = drifted(&format!("restart = [{command:?}]"));
        fs::create_dir(sandbox.path("bin")).unwrap();
        sandbox.script("bin/restart", "echo restarted >> calls");
        let moved = finish(sandbox.command(&["--policy", "policy.toml"]).env("PATH", path));
        assert_eq!(
            (moved.expect(0).summary(), sandbox.calls().len()),
            ("Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.", 1),
            "{command}"
        );
    }
    // The first that can be executed counts, not the first of that name.
    let sandbox = drifted(r#"restart = ["restart"]"#);
    for directory in ["first", "second"] {
        fs::create_dir(sandbox.path(directory)).unwrap();
        sandbox.script(&format!("{directory}/restart"), "echo restarted >> calls");
    }
    fs::set_permissions(sandbox.path("first/restart"), fs::Permissions::from_mode(0o644)).unwrap();
    run(&sandbox, "first:second:/bin", &[]).expect(0);
    assert_eq!(sandbox.calls(), ["restarted"]);
}

#[test]
fn an_override_is_not_set_where_its_session_could_not_be_restarted() {
    let sandbox = drifted(r#"restart = ["nosuch", "{session_slug}"]"#);
    let policy = sandbox.read("policy.toml");
    let run = run(&sandbox, "/bin", &["set-model", CHAT, "haiku"]).expect(1);
    assert!(run.stderr.contains("(nosuch) cannot be executed"), "{run:#?}");
    assert_eq!((sandbox.read("policy.toml"), sandbox.model(CHAT).as_deref()), (policy, Some("opus")));
}

#[test]
fn a_run_without_a_restart_needs_no_program() {
    let sandbox = drifted(r#"restart = ["nosuch"]"#);
    let policy = sandbox.read("policy.toml").replace("family = \"sonnet\"", "family = \"opus\"");
    sandbox.write("policy.toml", policy);
    assert_eq!(run(&sandbox, "", &[]).expect(0).stderr, "");
}

#[test]
fn a_dry_run_warns_where_runs_have_been_and_check_never() {
    let sandbox = drifted(r#"restart = ["nosuch"]"#);
    let warning = "warning: the restart command (nosuch) cannot be executed: there is no such program in PATH (/bin)\n";
    let told = |arguments: &[&str]| run(&sandbox, "/bin", arguments).expect(0).stderr.contains(warning);
    assert!(!told(&["--dry-run"]), "this may be a runner of CI");
    fs::create_dir(sandbox.path("sessions.json.reconcile")).unwrap();
    fs::set_permissions(sandbox.path("sessions.json.reconcile"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(told(&["--dry-run"]));
    assert!(told(&["--dry-run", "--quiet"]));
    assert!(!told(&["check"]));
}
