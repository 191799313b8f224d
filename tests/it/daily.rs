//! What users of other tools look for: a retry of all that failed, a policy by its path, another time, the next policy above.

use std::fs;

use serde_json::Value;

use crate::support::{POLICY, Sandbox, finish, registry, row};

#[test]
fn what_has_failed_is_tried_again_without_being_named_and_what_is_held_is_not() {
    let policy =
        format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n[rollout]\nmax_failures = 9\ncanary = false\n");
    let sandbox =
        Sandbox::new(&policy, &registry(&[("+1", "family", "opus"), ("+2", "bots", "opus"), ("+3", "bots", "")]));
    sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID\" >> calls; exit 1");
    sandbox.run(&[]).expect(4);
    let failed = sandbox.calls();
    assert_eq!(failed.len(), 3, "{failed:?}");
    sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID\" >> calls");
    let waits = sandbox.json(&[]);
    assert_eq!(row(&waits, "+1")["outcome"], "deferred", "{waits:#}");
    assert_eq!(sandbox.calls().len(), 3, "each waits for its next try");

    let planned = sandbox.json(&["plan", "--retry-failed"]);
    assert!(planned["changes"].as_array().unwrap().iter().all(|row| row["outcome"] == "planned"), "{planned:#}");
    let some = sandbox.run(&["--retry-failed", "--chat", "+1"]).expect(4);
    assert_eq!(some.summary(), "Applied: 0 changed, 1 restarted, 0 deferred, 0 failed.");
    sandbox.run(&["--retry-failed"]).expect(0);
    let mut calls = sandbox.calls().split_off(3);
    calls.sort();
    assert_eq!(calls, ["+1", "+2", "+3"]);
    assert_eq!(sandbox.run(&["--retry-failed"]).expect(0).summary(), "No changes. 3 in sync.");
}

#[test]
fn what_is_held_is_not_tried_again_with_what_has_failed() {
    let sandbox = Sandbox::new(POLICY, &registry(&[("+1", "family", "opus")]));
    // Each run corrects it, and something changes it back.
    let runs = (0..9).map(|_| {
        sandbox.write("sessions.json", registry(&[("+1", "family", "opus")]));
        sandbox.json(&[])["changes"][0]["outcome"].clone()
    });
    assert!(runs.collect::<Vec<Value>>().contains(&Value::from("held")));
    sandbox.run(&["--retry-failed"]).expect(4);
    assert_eq!(sandbox.model("+1").as_deref(), Some("opus"));
    sandbox.run(&["--retry", "+1"]).expect(0);
}

#[test]
fn a_policy_is_checked_by_its_path() {
    let sandbox = Sandbox::new(POLICY, "{}");
    fs::create_dir(sandbox.path("drafts")).unwrap();
    sandbox.write("drafts/new.toml", POLICY.replace("\"haiku\"\n", "\"haikuu\"\n"));
    assert!(sandbox.run(&["check"]).expect(0).stdout.contains("policy.toml"));
    let run = sandbox.run(&["check", "drafts/new.toml"]).expect(1);
    assert!(run.stdout.contains("drafts/new.toml:9:"), "{run:#?}");
    sandbox.run(&["check", "drafts", "--format", "json"]).expect(1);
    sandbox.run(&["check", "policy.toml", "--policy", "drafts/new.toml"]).expect(64);
    sandbox.run(&["--policy", "drafts/new.toml", "check", "policy.toml"]).expect(64);
    finish(sandbox.command(&["check", "policy.toml"]).env("RECONCILE_POLICY", "drafts/new.toml")).expect(0);
}

#[test]
fn what_decides_at_another_time_is_explained() {
    let policy = format!("{POLICY}\n[chats]\n\"+1\" = {{ model = \"opus\", until = 2099-12-31 }}\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("+1", "family", "opus")]));
    for (at, model) in
        [("2099-12-31", "opus"), ("2100-01-01", "sonnet"), ("2100-01-01T12:00Z", "sonnet"), ("7d", "opus")]
    {
        let explained = sandbox.json(&["explain", "+1", "--at", at]);
        assert_eq!(explained["decision"]["model"], model, "{at}: {explained:#}");
        let planned = sandbox.json(&["plan", "--at", at]);
        assert_eq!(planned["summary"]["changed"], u32::from(model == "sonnet"), "a plan says the same");
    }
    sandbox.run(&["explain", "+1", "--at", "soon"]).expect(64);
}

#[test]
fn a_policy_in_a_directory_above_is_pointed_to() {
    let sandbox = Sandbox::new(POLICY, "{}");
    fs::create_dir_all(sandbox.path("a/b")).unwrap();
    for (directory, above) in [("a", "../policy.toml"), ("a/b", "../../policy.toml")] {
        for arguments in [&["plan"][..], &["check"], &["list"]] {
            let run = finish(sandbox.command(arguments).current_dir(sandbox.path(directory))).expect(1);
            let hint = format!("hint: {above} is there: name it with --policy {above}, or run in its directory");
            assert!(run.stderr.lines().any(|line| line == hint), "{run:#?}");
        }
    }
    let other = finish(sandbox.command(&["plan", "--policy", "other.toml"]).current_dir(sandbox.path("a"))).expect(1);
    assert!(other.stderr.contains("hint: name one with --policy PATH"), "{other:#?}");
}
