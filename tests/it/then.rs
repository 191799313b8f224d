//! A temporary override covers a permanent one and does not destroy it, and what `set-model` did can be taken back.

use serde_json::Value;

use crate::support::{POLICY, Sandbox, finish, registry};

const ADA: &str = "+16175550142";
const BOTH: &str = "{ model = \"haiku\", until = 2099-12-12, then = \"opus\" }";

/// A chat of a tier on sonnet, with this override, and in sync with it.
fn sandbox(entry: &str) -> Sandbox {
    let chats = if entry.is_empty() { String::new() } else { format!("\"{ADA}\" = {entry}\n") };
    let sandbox = Sandbox::new(&format!("{POLICY}\n[chats]\n{chats}"), &registry(&[(ADA, "family", "sonnet")]));
    sandbox.run(&[]).expect(0);
    sandbox
}

/// What the policy says of the chat.
fn entry(sandbox: &Sandbox) -> Option<String> {
    let key = format!("\"{ADA}\" = ");
    sandbox.read("policy.toml").lines().find_map(|line| line.strip_prefix(&key).map(str::to_owned))
}

fn newest(sandbox: &Sandbox) -> String {
    let run = sandbox.run(&["history", "--format", "json"]).expect(0);
    let line: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    line["run"].as_str().unwrap().to_owned()
}

fn set(sandbox: &Sandbox, more: &[&str]) {
    sandbox.run(&[&["set-model", ADA], more].concat()).expect(0);
}

#[test]
fn a_temporary_override_keeps_the_permanent_one_for_afterwards() {
    let sandbox = sandbox("\"opus\"");
    set(&sandbox, &["haiku", "--until", "2099-12-12"]);
    assert_eq!(entry(&sandbox).as_deref(), Some(BOTH));
    assert_eq!(sandbox.model(ADA).as_deref(), Some("haiku"));
    let check = sandbox.run(&["check"]).expect(0).stdout;
    assert!(!check.contains("expir") && !check.contains("redundant"), "{check}");

    let after = |time: &str| sandbox.run(&["--dry-run", "--at", time]).expect(0).stdout;
    assert!(after("2099-12-12T23:59:59").contains("No changes"));
    assert!(after("2099-12-13T00:00:00").contains("haiku → opus"), "{}", after("2099-12-13T00:00:00"));
    let told = sandbox.run(&["explain", ADA]).expect(0).stdout;
    assert!(told.contains("decides: until 2099-12-12, then opus"), "{told}");
    assert_eq!(sandbox.json(&["explain", ADA])["decision"]["then"], "opus");
}

#[test]
fn another_temporary_override_keeps_what_is_covered() {
    let sandbox = sandbox(BOTH);
    set(&sandbox, &["sonnet", "--until", "2099-12-31", "--reason", "test"]);
    let wanted = "{ model = \"sonnet\", until = 2099-12-31, then = \"opus\", reason = \"test\" }";
    assert_eq!(entry(&sandbox).as_deref(), Some(wanted));
    // One for good does not: it is said.
    let run = sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(entry(&sandbox).as_deref(), Some("\"haiku\""));
    assert!(run.stderr.contains("its `then`, opus, was removed"), "{run:#?}");
}

#[test]
fn what_is_not_permanent_is_not_kept() {
    for before in ["{ model = \"opus\", until = 2099-01-01 }", "{ model = \"opus\", until = 2020-01-01 }", ""] {
        let sandbox = sandbox(before);
        set(&sandbox, &["haiku", "--until", "2099-12-12"]);
        assert_eq!(entry(&sandbox).as_deref(), Some("{ model = \"haiku\", until = 2099-12-12 }"), "{before}");
    }
}

#[test]
fn what_an_end_leaves_counts_and_is_no_warning_of_a_run() {
    let sandbox = sandbox("{ model = \"haiku\", until = 2020-01-01, then = \"opus\" }");
    assert_eq!(sandbox.model(ADA).as_deref(), Some("opus"));
    let run = sandbox.run(&[]).expect(0);
    assert!(!run.stderr.contains("ended"), "{run:#?}");
    let told = sandbox.run(&["explain", ADA]).expect(0).stdout;
    assert!(told.contains("haiku    over: it ended after 2020-01-01") && told.contains("opus     decides"), "{told}");
    let check = sandbox.run(&["check"]).expect(0);
    assert!(
        check.stdout.contains("write \"opus\" alone") || check.stderr.contains("write \"opus\" alone"),
        "{check:#?}"
    );
    sandbox.run(&["unset-model", ADA]).expect(0);
    assert_eq!(entry(&sandbox), None, "what has ended covers nothing");
}

#[test]
fn a_chat_can_be_left_alone_for_a_time() {
    let sandbox = sandbox("{ managed = false, until = 2099-12-12, then = \"opus\" }");
    assert_eq!(sandbox.model(ADA).as_deref(), Some("sonnet"));
    let run = sandbox.run(&["--dry-run", "--at", "2100-01-01"]).expect(0);
    assert!(run.stdout.contains("sonnet → opus"), "{run:#?}");
}

#[test]
fn taking_away_a_temporary_override_brings_back_what_it_covered() {
    let sandbox = sandbox(BOTH);
    let run = sandbox.run(&["unset-model", ADA]).expect(0);
    assert_eq!(entry(&sandbox).as_deref(), Some("\"opus\""));
    assert!(run.stderr.contains("is opus again, as before"), "{run:#?}");
    assert_eq!(sandbox.model(ADA).as_deref(), Some("opus"));
    sandbox.run(&["unset-model", ADA]).expect(0);
    assert_eq!((entry(&sandbox), sandbox.model(ADA).as_deref()), (None, Some("sonnet")));
}

#[test]
fn what_counts_afterwards_needs_an_end_and_must_be_allowed() {
    for (entry, told) in [
        ("{ model = \"haiku\", then = \"opus\" }", "has `then` but no `until`"),
        ("{ model = \"haiku\", until = 2099-01-01, then = \"opsu\" }", "opsu"),
        ("{ model = \"haiku\", until = 2099-01-01, then = 3 }", "must be a string"),
    ] {
        let sandbox = Sandbox::new(&format!("{POLICY}\n[chats]\n\"{ADA}\" = {entry}\n"), "{}");
        let run = sandbox.run(&["--dry-run"]).expect(1);
        assert!(run.stderr.contains(told) && run.stderr.matches("error").count() == 1, "{run:#?}");
    }
}

#[test]
fn undo_of_a_set_model_restores_what_was_there() {
    for before in
        ["", "\"opus\"", "{ model = \"opus\", reason = \"thesis\" }", BOTH, "{ model = \"opus\", until = 2099-01-01 }"]
    {
        let sandbox = sandbox(before);
        let (policy, model) = (entry(&sandbox), sandbox.model(ADA));
        for wanted in [&["sonnet"][..], &["sonnet", "--until", "2099-11-11"]] {
            // Once the model is another, so that the run has an effect.
            let wanted =
                if model.as_deref() == Some("sonnet") { [&["haiku"], &wanted[1..]].concat() } else { wanted.to_vec() };
            set(&sandbox, &wanted);
            sandbox.run(&["undo", &newest(&sandbox)]).expect(0);
            assert_eq!((entry(&sandbox), sandbox.model(ADA)), (policy.clone(), model.clone()), "{before}, {wanted:?}");
        }
        // And the undo can be taken back.
        let again = newest(&sandbox);
        sandbox.run(&["undo", &again]).expect(0);
        assert_ne!(entry(&sandbox), policy, "{before}");
    }
}

#[test]
fn undo_of_an_unset_model_brings_the_override_back() {
    let sandbox = sandbox("\"opus\"");
    sandbox.run(&["unset-model", ADA]).expect(0);
    let run = newest(&sandbox);
    sandbox.run(&["undo", &run]).expect(0);
    assert_eq!((entry(&sandbox).as_deref(), sandbox.model(ADA).as_deref()), (Some("\"opus\""), Some("opus")));
    assert_eq!(sandbox.run(&["undo", &run]).expect(0).summary(), "No changes. 1 in sync.", "again");
}

#[test]
fn undo_leaves_an_override_that_was_changed_since() {
    let sandbox = sandbox("");
    set(&sandbox, &["haiku"]);
    let run = newest(&sandbox);
    set(&sandbox, &["opus"]);
    let undo = sandbox.run(&["undo", &run]).expect(1);
    assert!(undo.stderr.contains("its override was changed since"), "{undo:#?}");
    assert_eq!((entry(&sandbox).as_deref(), sandbox.model(ADA).as_deref()), (Some("\"opus\""), Some("opus")));
}

#[test]
fn undo_does_not_bring_back_what_the_policy_no_longer_allows() {
    let sandbox = sandbox("\"opus\"");
    set(&sandbox, &["haiku"]);
    let policy =
        sandbox.read("policy.toml").replace("\"opus\", \"sonnet\"", "\"sonnet\"").replace("admin  = \"opus\"\n", "");
    sandbox.write("policy.toml", policy);
    let undo = sandbox.run(&["undo", &newest(&sandbox)]).expect(1);
    assert!(undo.stderr.contains("the policy does not allow opus"), "{undo:#?}");
}

#[test]
fn redacted_output_names_no_chat_of_an_override() {
    let sandbox = sandbox("");
    set(&sandbox, &["haiku", "--reason", "for Ada"]);
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    let told = sandbox.run(&["history", "--format", "json", "--redact"]).expect(0).stdout;
    assert!(told.contains("set-model") && !told.contains(ADA) && !told.contains("for Ada"), "{told}");
}

#[test]
fn what_counts_afterwards_counts_once_where_an_hour_repeats() {
    let chats = format!("[chats]\n\"{ADA}\" = {{ model = \"haiku\", until = 2026-10-25T02:30:00, then = \"opus\" }}\n");
    let sandbox = Sandbox::new(&format!("{POLICY}{chats}"), &registry(&[(ADA, "family", "sonnet")]));
    let decided = |at: &str| {
        let time = format!("2026-10-25T{at}:00Z");
        let arguments = ["--dry-run", "--at", &time, "--format", "json"];
        let run = finish(sandbox.command(&arguments).env("TZ", "Europe/Berlin")).expect(0);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        report["changes"][0]["after"].as_str().unwrap().to_owned()
    };
    assert_eq!(["00:20", "00:35", "01:05", "01:35"].map(decided), ["haiku", "opus", "opus", "opus"]);
}
