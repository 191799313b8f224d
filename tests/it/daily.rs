//! What users of other tools look for: a retry of all that failed, a policy by its path, another time, the next policy above.

use std::fs;

use serde_json::Value;

use crate::support::{POLICY, Sandbox, finish, registry, row};
use crate::terminal::at;

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
            let hint = format!("hint: {above} is there: pass it with --policy {above}, or run in its directory");
            assert!(run.stderr.lines().any(|line| line == hint), "{run:#?}");
        }
    }
    let other = finish(sandbox.command(&["plan", "--policy", "other.toml"]).current_dir(sandbox.path("a"))).expect(1);
    assert!(other.stderr.contains("hint: pass one with --policy PATH"), "{other:#?}");
}

#[test]
fn the_home_directory_is_found_where_no_shell_has_put_it_in() {
    let sandbox = Sandbox::new(POLICY, "");
    fs::create_dir_all(sandbox.path("home/conf")).unwrap();
    sandbox.write("home/sessions.json", registry(&[("+1", "family", "opus")]));
    for home in ["~", "$HOME"] {
        let policy = POLICY.replace("\"sessions.json\"", &format!("\"{home}/sessions.json\""));
        sandbox.write("home/conf/policy.toml", policy);
        let run = |arguments: &[&str]| {
            let mut command = sandbox.command(arguments);
            finish(command.env("HOME", sandbox.path("home")))
        };
        let policy = format!("{home}/conf/policy.toml");
        let planned = run(&["plan", "--policy", &policy]).expect(0);
        assert!(planned.stdout.contains("home/sessions.json · "), "{planned:#?}");
        assert_eq!(run(&["list", "--policy", &policy, "--registry", &format!("{home}/sessions.json")]).code, 0);
        let mut command = sandbox.command(&["plan"]);
        let by_variable = finish(command.env("HOME", sandbox.path("home")).env("RECONCILE_POLICY", &policy));
        assert_eq!(by_variable.expect(0).stdout, planned.stdout);
        // Without a home it is a name like any other.
        let mut command = sandbox.command(&["plan", "--policy", &policy]);
        let missing = finish(command.env_remove("HOME")).expect(1);
        assert!(missing.stderr.contains(&format!("there is no policy {policy}")), "{missing:#?}");
        let mut command = sandbox.command(&["plan", "--policy", "home/conf/policy.toml"]);
        let missing = finish(command.env_remove("HOME")).expect(1);
        assert!(missing.stderr.contains("HOME is not set"), "{missing:#?}");
    }
    // Only at the beginning, and not another user's.
    sandbox.write("policy.toml", POLICY.replace("\"sessions.json\"", "\"a/~/sessions.json\""));
    assert!(sandbox.run(&["plan"]).expect(1).stderr.contains("there is no registry a/~/sessions.json"));
    sandbox.write("policy.toml", POLICY.replace("\"sessions.json\"", "\"~ada/sessions.json\""));
    assert!(sandbox.run(&["plan"]).expect(1).stderr.contains("there is no registry ~ada/sessions.json"));
}

#[test]
fn what_the_paths_of_a_linked_policy_are_relative_to_is_told() {
    let sandbox = Sandbox::new("", "");
    fs::create_dir(sandbox.path("real")).unwrap();
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    sandbox.write("real/policy.toml", POLICY);
    sandbox.write("real/sessions.json", registry(&[("+1", "family", "opus")]));
    std::os::unix::fs::symlink("real/policy.toml", sandbox.path("policy.toml")).unwrap();
    let run = sandbox.run(&["plan"]).expect(1);
    let found = fs::canonicalize(sandbox.path("real/sessions.json")).unwrap();
    let expected = format!(
        "error[no-registry]: there is no registry sessions.json\nhint: policy.toml is a symbolic link, and its paths are relative to the \
         directory of the link; {} is there: pass it with --registry, or write its absolute path in the policy\n",
        found.display()
    );
    assert_eq!(run.stderr, expected);
    sandbox.run(&["plan", "--registry", "real/sessions.json"]).expect(0);
    // The one beside the link counts.
    sandbox.write("sessions.json", "{}");
    assert!(sandbox.run(&["plan"]).expect(0).stdout.contains("0 sessions in sessions.json"));
}

/// A family on the wrong model whose contact is known, and a bot without a contact.
fn people() -> Sandbox {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n[chats]\n");
    let chats = registry(&[("+1", "family", "opus"), ("+2", "bots", "opus")]);
    let sandbox =
        Sandbox::new(&policy, &chats.replacen("\"chat_id\"", "\"contact_name\": \"Cal Ortiz\", \"chat_id\"", 1));
    sandbox.script("restart", "exit 1");
    sandbox
}

#[test]
fn contacts_are_named_where_people_look_and_nowhere_else() {
    let sandbox = people();
    let planned = sandbox.run(&["plan"]).expect(0).stdout;
    assert!(
        planned.contains("  ~ imessage/_1   Cal Ortiz   family   opus → sonnet   restart   policy.toml:8"),
        "{planned}"
    );
    assert!(planned.contains("  ~ imessage/_2   -           bots     opus → haiku "), "{planned}");
    // Where a column has no room, the name stands below.
    let narrow = at(&sandbox, 70, &["plan"]);
    assert!(
        narrow.contains("family   opus → sonnet   restart\n      | Cal Ortiz · policy.toml:8 tiers.family\n"),
        "{narrow}"
    );
    sandbox.run(&["--quiet"]).expect(4);
    let owed = sandbox.run(&["owed"]).expect(0).stdout;
    assert!(owed.contains("  +1   Cal Ortiz   restart owed since"), "{owed}");
    let history = sandbox.run(&["history"]).expect(0).stdout;
    assert!(history.contains("  ! imessage/_1   Cal Ortiz   opus → sonnet   failed   policy.toml:8"), "{history}");
    // Neither what is posted, nor what programs read, nor what hides names.
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    for arguments in [
        &["plan", "--format", "markdown"][..],
        &["plan", "--format", "json"],
        &["plan", "--redact"],
        &["check", "--format", "github"],
        &["owed", "--redact"],
        &["history", "--redact"],
        &["history", "--format", "json"],
    ] {
        let run = sandbox.run(arguments);
        assert!(!run.stdout.contains("Cal") && !run.stderr.contains("Cal"), "{arguments:?}: {run:#?}");
    }
    // What is owed is told also where the registry cannot be read.
    sandbox.write("sessions.json", "broken");
    assert!(sandbox.run(&["owed"]).expect(0).stdout.contains("  +1   restart owed since"));
}

#[test]
fn a_new_override_has_the_name_of_its_contact_behind_it() {
    let sandbox = people();
    sandbox.run(&["set-model", "Cal Ortiz", "opus"]).expect(0);
    assert!(
        sandbox.read("policy.toml").ends_with("[chats]\n\"+1\" = \"opus\"  # Cal Ortiz\n"),
        "{}",
        sandbox.read("policy.toml")
    );
    // A comment is left as it is, and so is an override without one.
    let policy = sandbox.read("policy.toml").replace("Cal Ortiz", "the thesis");
    sandbox.write("policy.toml", &policy);
    sandbox.run(&["set-model", "+1", "sonnet"]).expect(4);
    assert!(sandbox.read("policy.toml").ends_with("\"+1\" = \"sonnet\"  # the thesis\n"));
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("  # the thesis", ""));
    sandbox.run(&["set-model", "+1", "opus"]).expect(4);
    assert!(sandbox.read("policy.toml").ends_with("\"+1\" = \"opus\"\n"));
    // Nothing but a name comes to stand there.
    let hostile = sandbox.read("sessions.json").replace("Cal Ortiz", r"x\n[limits]\n\u202e");
    sandbox.write("sessions.json", hostile);
    sandbox.run(&["unset-model", "+1"]).expect(4);
    sandbox.run(&["set-model", "+1", "opus", "--reason", "r"]).expect(4);
    let expected = "\"+1\" = { model = \"opus\", reason = \"r\" }  # x\\n[limits]\\n\\u{202e}\n";
    assert!(sandbox.read("policy.toml").ends_with(expected), "{}", sandbox.read("policy.toml"));
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    sandbox.run(&["unset-model", "+1"]).expect(4);
    sandbox.run(&["set-model", "+1", "opus", "--redact"]).expect(4);
    assert!(sandbox.read("policy.toml").ends_with("[chats]\n\"+1\" = \"opus\"\n"));
}
