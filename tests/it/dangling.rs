//! Names that policy and registry do not share: what a run tells of them in a line, and `check` in detail.

use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox};

fn policy(more: &str) -> String {
    format!("{POLICY}{more}\n")
}

/// Three chats of two people and a group.
const REGISTRY: &str = r#"{
  "tg:-10040": {"contact_name": "Book Club", "tier": "family", "source": "telegram", "model": "sonnet"},
  "+16175550142": {"contact_name": "Cal Ortiz", "session_name": "imessage/_16175550142", "tier": "family", "source": "discord", "model": "sonnet"},
  "+16175550143": {"contact_name": "Ada", "tier": "admin", "source": "discord", "model": "opus"}
}
"#;

fn chats(lines: &str) -> Sandbox {
    Sandbox::new(&policy(&format!("[chats]\n{lines}")), REGISTRY)
}

/// What a run says besides its report.
fn told(sandbox: &Sandbox) -> String {
    sandbox.run(&["--dry-run"]).expect(0).stderr
}

/// What `check` finds of the registry.
fn found(sandbox: &Sandbox) -> Vec<Value> {
    let run = sandbox.run(&["check", "--registry", "sessions.json", "--format", "json"]).expect(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    report["diagnostics"].as_array().unwrap().iter().filter(|found| found["code"] != "unused-tier").cloned().collect()
}

#[test]
fn an_override_for_a_chat_that_is_not_registered_is_told_with_the_chat_that_may_be_meant() {
    for (line, near) in [
        // The ids of Telegram groups change when they grow.
        ("\"tg:-40\" = \"haiku\"", "did you mean \"tg:-10040\", which ends in the same digits?"),
        ("\"old\" = \"haiku\"  # Book Club", "did you mean \"tg:-10040\", which has the same contact?"),
        ("\"a#b\" = { model = \"haiku\", reason = \"a # in it\" } # Book Club", "which has the same contact?"),
        ("\"TG:-10040\" = \"haiku\"", "did you mean \"tg:-10040\", which differs only in case?"),
        ("\"16175550142\" = \"haiku\"", "did you mean \"+16175550142\", which differs only in the +?"),
        ("\"6175550142\" = \"haiku\"", "did you mean \"+16175550142\", which ends in the same digits?"),
        ("\"Cal Ortiz\" = \"haiku\"", "that is a name, and the chat's id is \"+16175550142\""),
        ("\"imessage/_16175550142\" = \"haiku\"", "that is a name, and the chat's id is \"+16175550142\""),
        ("\"+16175559142\" = \"haiku\"", "did you mean \"+16175550142\"?"),
        ("\"nothing like it\" = \"haiku\"", "not registered\n"),
    ] {
        let sandbox = chats(line);
        let run = told(&sandbox);
        assert!(run.contains("is for a chat that is not registered") && run.contains(near), "{line}: {run}");
        assert!(run.contains("warning: the override for") && run.contains("policy.toml:14"), "{line}: {run}");
        let check = found(&sandbox);
        let [one] = check.as_slice() else { panic!("{line}: {check:#?}") };
        assert_eq!(
            (&one["code"], &one["level"], &one["line"]),
            (&json!("unused-override"), &json!("warning"), &json!(14))
        );
        let help = one["help"].as_str().unwrap();
        assert!(near.ends_with('\n') || help.contains(near), "{line}: {help}");
        assert_eq!(sandbox.read("sessions.json"), REGISTRY, "it is never acted on");
    }
}

#[test]
fn two_chats_that_end_in_the_same_digits_are_no_advice() {
    let registry = REGISTRY.replace("\"+16175550143\"", "\"tg:-99940\"");
    let sandbox = Sandbox::new(&policy("[chats]\n\"tg:-40\" = \"haiku\""), &registry);
    assert!(!told(&sandbox).contains("did you mean"));
}

#[test]
fn of_several_a_run_tells_the_first_in_one_line() {
    let sandbox = chats("\"+1\" = \"haiku\"\n\"+2\" = \"haiku\"\n\"tg:-10040\" = \"opus\"");
    let run = told(&sandbox);
    let line = "warning: 2 overrides are for chats that are not registered, the first for \"+1\" (policy.toml:14)\n";
    assert!(run.contains(line), "{run}");
    assert!(run.contains("hint: for details, run: reconcile check --registry sessions.json\n"), "{run}");
    assert_eq!(run.matches("not registered").count(), 1, "{run}");
}

#[test]
fn an_override_that_has_ended_is_told_of_once() {
    let sandbox = chats("\"+1\" = { model = \"haiku\", until = 2020-01-01 }");
    assert_eq!(told(&sandbox), "warning: the override for +1 ended after 2020-01-01 (policy.toml:14)\n");
}

#[test]
fn rules_globs_tiers_and_keys_are_told_in_a_line_of_each_kind() {
    let more = "[[rules]]\nsource = \"discrod\"\nmodel = \"opus\"\n\
                [[rules]]\nchat = [\"tg:*\", \"im:*\"]\nmodel = \"sonnet\"\n\
                [chats]\n\"+1*\" = \"opus\"\n[models.aliases]\n\"claude-*\" = \"opus\"";
    let registry = REGISTRY
        .replace("\"tier\": \"family\", \"source\": \"discord\"", "\"tier\": \"famly\", \"source\": \"discord\"");
    let registry = registry.replace("\"tier\": \"admin\"", "\"tier\": \"Bots\"");
    let sandbox = Sandbox::new(&policy(more), &registry);
    assert_eq!(
        told(&sandbox).lines().filter(|line| !line.contains("--plan")).collect::<Vec<_>>(),
        [
            "note: the rule rules[0] (policy.toml:13) matches no chat",
            "note: the glob \"im:*\" of a rule (policy.toml:16) matches no chat",
            "note: 2 tiers of the registry are not listed in the policy, the first is \"Bots\": did you mean \"bots\"?",
            "note: 2 keys look like a glob, but match only one exact name, the first is models.aliases.\"claude-*\" (policy.toml:22)",
            "hint: for details, run: reconcile check --registry sessions.json",
        ]
    );
    let check = found(&sandbox);
    let seen: Vec<(&str, &str)> =
        check.iter().map(|found| (found["code"].as_str().unwrap(), found["help"].as_str().unwrap())).collect();
    for (code, help) in [
        ("unused-rule", "did you mean source = \"discord\"?"),
        ("unused-glob", "check the glob, or remove it if no chat will match"),
        ("undeclared-tier", "did you mean \"bots\"? add it to [tiers], or leave it to models.fallback"),
        ("undeclared-tier", "did you mean \"family\"? add it to [tiers], or leave it to models.fallback"),
    ] {
        assert!(seen.contains(&(code, help)), "{code}: {check:#?}");
    }
    assert_eq!(seen.iter().filter(|(code, _)| *code == "glob-in-exact-key").count(), 2, "{check:#?}");
    assert!(check.iter().all(|found| found["level"] == "note"), "{check:#?}");
    sandbox.write(
        "policy.toml",
        sandbox.read("policy.toml").replace("admin  = \"opus\"\n", "").replace("bots   = \"haiku\"\n", ""),
    );
    sandbox.run(&["check", "--registry", "sessions.json", "--deny", "warnings"]).expect(0);
}

#[test]
fn names_that_differ_in_case_alone_are_a_note() {
    let sandbox = chats("\"A\" = \"opus\"\n\"a\" = \"haiku\"");
    let run = sandbox.run(&["check"]).expect(0);
    assert!(
        run.stdout.contains("note[differs-in-case]: `chats.\"a\"` and `chats.\"A\"` differ only in case"),
        "{run:?}"
    );
}

#[test]
fn what_is_as_it_should_be_is_not_told_of() {
    let more = "[[rules]]\nchat = [\"tg:*\", \"+*\"]\nsource = [\"discord\", \"telegram\"]\ntier = \"family\"\nmodel = \"sonnet\"\n\
                [chats]\n\"+16175550143\" = \"opus\"";
    let sandbox = Sandbox::new(&policy(more), REGISTRY);
    assert_eq!(told(&sandbox), "");
    // A chat's id may well look like a glob.
    let sandbox = Sandbox::new(&policy("[chats]\n\"+*\" = \"opus\""), r#"{"+*": {"tier": "bots", "model": "opus"}}"#);
    assert_eq!(told(&sandbox), "");
    // A tier that a rule asks for is no stranger, and without tiers in the policy none is.
    let ruled = Sandbox::new(
        &policy(
            "[[rules]]\ntier = \"x\"\nmodel = \"opus\"\n[[rules]]\nsource = \"s\"\nmodel = \"opus\"\n[chats]\na = \"opus\"",
        ),
        r#"{"a": {"source": "s", "tier": "x", "model": "opus"}}"#,
    );
    assert_eq!(told(&ruled), "");
}

#[test]
fn a_run_for_some_chats_tells_nothing_of_the_others() {
    let sandbox = chats("\"+1\" = \"haiku\"");
    for arguments in [&["--dry-run", "--chat", "Ada"][..], &["set-model", "Ada", "haiku"]] {
        let run = sandbox.run(arguments).expect(0);
        assert!(!run.stderr.contains("not registered"), "{run:?}");
    }
}

#[test]
fn under_pseudonyms_only_the_number_is_told() {
    let sandbox = chats("\"Cal Ortiz\" = \"haiku\"");
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    let run = sandbox.run(&["--dry-run", "--redact"]).expect(0);
    assert!(run.stderr.contains("warning: 1 override is for chats that are not registered\n"), "{run:?}");
    assert!(!run.stderr.contains("Cal") && !run.stderr.contains("6175550142"), "{run:?}");
    let run = sandbox.run(&["check", "--redact"]).expect(0);
    assert!(run.stdout.contains("warning[unused-override]") && !run.stdout.contains("Cal"), "{run:?}");
}

#[test]
fn annotations_name_no_contact_and_no_chat_of_the_registry() {
    let lines =
        "\"Cal Ortiz\" = \"haiku\"\n\"Ada\" = { model = \"haiku\", until = 2020-01-01 }\n\"tg:-40\" = \"haiku\"";
    let run = chats(lines).run(&["check", "--registry", "sessions.json", "--format", "github"]).expect(0);
    assert_eq!(run.stdout.matches("title=unused-override").count(), 2, "{run:?}");
    assert_eq!(run.stdout.matches("title=expired-override").count(), 1, "{run:?}");
    for name in ["Cal", "Ada", "Book Club", "+1617", "-10040"] {
        assert!(!run.stdout.contains(name), "{name}: {run:?}");
    }
}

#[test]
fn check_asks_the_registry_of_the_policy_where_runs_have_kept_state() {
    let sandbox = chats("\"Cal Ortiz\" = \"haiku\"");
    let check = |sandbox: &Sandbox| -> Run { sandbox.run(&["check"]).expect(0) };
    assert!(!check(&sandbox).stdout.contains("unused-override"));
    sandbox.run(&[]).expect(0);
    assert!(check(&sandbox).stdout.contains("that is a name, and the chat's id is \"+16175550142\""));
    sandbox.write("sessions.json", "{");
    let run = check(&sandbox);
    assert!(run.stderr.starts_with("warning: the registry was not checked: "), "{run:?}");
    assert!(run.stdout.ends_with("policy.toml: no mistakes\n"), "{run:?}");
}

#[test]
fn an_override_counts_for_a_chat_by_the_id_that_it_had() {
    let sandbox = chats("\"tg:-10040\" = { model = \"haiku\", was = [\"tg:-40\", \"tg:-4\"] } # Book Club");
    let run = sandbox.run(&["--dry-run"]).expect(0);
    assert!(run.stdout.contains("sonnet → haiku") && !run.stderr.contains("not registered"), "{run:?}");
    for old in ["tg:-40", "tg:-4"] {
        sandbox.write("sessions.json", REGISTRY.replace("tg:-10040", old));
        let run = sandbox.run(&["--dry-run"]).expect(0);
        assert!(run.stdout.contains("chats.\"tg:-10040\"") && !run.stderr.contains("not registered"), "{run:?}");
        assert!(sandbox.run(&["explain", old]).expect(0).stdout.contains("haiku"));
        assert!(found(&sandbox).is_empty());
        for command in [&["set-model", old, "opus"][..], &["unset-model", old]] {
            let run = sandbox.run(command).expect(1);
            assert!(
                run.stderr.contains(&format!("the override for {old} is written under tg:-10040, with `was`")),
                "{run:?}"
            );
        }
    }
    sandbox.write("sessions.json", REGISTRY);
    sandbox.run(&["set-model", "Book Club", "opus"]).expect(0);
    let line = "\"tg:-10040\" = { model = \"opus\", was = [\"tg:-40\", \"tg:-4\"] } # Book Club\n";
    assert!(sandbox.read("policy.toml").contains(line), "{}", sandbox.read("policy.toml"));
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    sandbox.run(&["--dry-run", "--redact"]).expect(0);
}

#[test]
fn an_id_stands_for_one_override_alone() {
    for lines in [
        "\"+1\" = \"opus\"\n\"+2\" = { model = \"opus\", was = [\"+1\"] }",
        "\"+2\" = { model = \"opus\", was = [\"+1\"] }\n\"+3\" = { model = \"opus\", was = [\"+1\"] }",
        "\"+2\" = { model = \"opus\", was = [\"+2\"] }",
        "\"+2\" = { model = \"opus\", was = [\"+1\", \"+1\"] }",
    ] {
        let run = chats(lines).run(&["check"]).expect(1);
        assert!(run.stdout.contains("error[duplicate]: there are two overrides for the chat"), "{run:?}");
    }
}
