//! Output that led its readers astray, each once.

use std::process::Command;

use serde_json::Value;

use crate::support::{POLICY, Sandbox, needs_root, registry, row};

fn two() -> Sandbox {
    Sandbox::new(POLICY, &registry(&[("+1", "admin", "haiku"), ("+2", "family", "opus"), ("+3", "bots", "haiku")]))
}

#[test]
fn a_plan_over_the_limit_is_refused_once_and_not_called_applied() {
    let sandbox = two();
    sandbox.write("policy.toml", format!("{POLICY}[limits]\nmax_changes = 1\n"));
    let run = sandbox.run(&[]).expect(3);
    assert_eq!(run.summary(), "Refused: nothing was changed, 2 rows left undone, 1 in sync.");
    assert_eq!(
        (run.stdout.matches("refused").count(), run.stderr.matches("the limit is 1").count()),
        (2, 1),
        "{run:#?}"
    );
    assert_eq!(row(&sandbox.json(&[]), "+1")["outcome"], "refused");
}

#[test]
fn the_numbers_of_a_summary_add_up() {
    let sandbox = two();
    sandbox.write("policy.toml", format!("{POLICY}[chats]\n\"+2\" = {{ managed = false }}\n"));
    let plan = sandbox.run(&["--dry-run"]).expect(0);
    assert_eq!(plan.summary(), "Plan: 1 to change, 0 to restart, 0 deferred, 1 in sync, 1 not managed.");
}

#[test]
fn what_a_restart_command_says_is_in_no_comment() {
    let sandbox = two();
    sandbox.write("policy.toml", format!("{POLICY}[sessions]\nrestart = [\"./restart\"]\n"));
    sandbox.script("restart", "echo token=abc123 >&2; exit 1");
    let run = sandbox.run(&["--output", "markdown=comment.md", "--output", "json=report.json"]).expect(4);
    let comment = sandbox.read("comment.md");
    assert!(comment.contains("exited with code 1") && !comment.contains("abc123"), "{comment}");
    assert!(run.stdout.contains("exited with code 1:\n      | token=abc123\n"), "{run:#?}");
    let report: Value = serde_json::from_str(&sandbox.read("report.json")).unwrap();
    let detail = row(&report, "+1")["detail"].as_str().unwrap();
    assert_eq!(detail, "the restart command (./restart) exited with code 1:\ntoken=abc123");
}

#[test]
fn owed_restarts_can_be_had_as_json() {
    let sandbox = two();
    let owed = |sandbox: &Sandbox| -> Value {
        serde_json::from_str(&sandbox.run(&["owed", "--format", "json"]).expect(0).stdout).unwrap()
    };
    assert_eq!(owed(&sandbox)["owed"], serde_json::json!([]));
    sandbox.write("policy.toml", format!("{POLICY}[sessions]\nrestart = [\"false\"]\n"));
    sandbox.run(&["--chat", "+1"]).expect(4);
    let report = owed(&sandbox);
    assert_eq!((&report["owed"][0]["chat_id"], &report["owed"][0]["attempts"]), (&"+1".into(), &1.into()), "{report}");
    assert!(report["owed"][0]["next_try"].is_string() && report["format_version"] == "1.0", "{report}");
}

#[test]
fn adopt_writes_a_new_file_and_never_over_one() {
    let sandbox = two();
    let run = sandbox.run(&["adopt", "--write", "policy.toml"]).expect(1);
    assert!(run.stderr.contains("policy.toml already exists, and is not overwritten"), "{run:?}");
    assert_eq!(sandbox.read("policy.toml"), POLICY);
    let printed = sandbox.run(&["adopt"]).expect(0).stdout;
    let run = sandbox.run(&["adopt", "--write", "new.toml"]).expect(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", "note: wrote new.toml\n"));
    assert_eq!(sandbox.read("new.toml"), printed);
    sandbox.run(&["--policy", "new.toml", "--dry-run"]).expect(0);
}

#[test]
#[ignore = "needs root"]
fn a_work_tree_of_another_user_is_told_of_as_such() {
    needs_root();
    let sandbox = two();
    let git = |arguments: &[&str]| {
        assert!(Command::new("git").args(arguments).current_dir(sandbox.path("")).output().unwrap().status.success());
    };
    git(&["init", "-q"]);
    for name in ["", ".git"] {
        std::os::unix::fs::chown(sandbox.path(name), Some(1234), Some(1234)).unwrap();
    }
    let mut command = sandbox.command(&["diff", "--from", "git:HEAD"]);
    command.env("HOME", sandbox.path("")).env("GIT_CONFIG_SYSTEM", "/dev/null").env_remove("SUDO_UID");
    let run = crate::support::finish(&mut command).expect(1);
    assert!(
        run.stderr.contains("git refuses the work tree around") && run.stderr.contains("safe.directory"),
        "{run:?}"
    );
}

#[test]
fn an_alias_is_refused_with_what_it_stands_for() {
    let sandbox = two();
    sandbox.write("policy.toml", format!("{POLICY}[models.aliases]\n\"claude-opus\" = \"opus\"\n"));
    let run = sandbox.run(&["set-model", "+1", "claude-opus"]).expect(1);
    assert!(run.stderr.contains("in the policy it is another spelling of opus: set opus"), "{run:?}");
}
