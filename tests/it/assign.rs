//! `[[assign]]`: tiers for chats of which the registry tells none, and rules by agent and account.

use serde_json::{Value, json};

use crate::support::{Sandbox, row};

const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "haiku"

[tiers]
family = "sonnet"
work   = "opus"

[[assign]]
tier    = "family"
chat    = ["+1617*", "signal:ann"]
contact = "Ben Roe"

[[assign]]
tier = "work"
chat = "*"

[registry]
path = "sessions.json"
"#;

const REGISTRY: &str = r#"{
  "+16175550101": {"session_name": "imessage/_16175550101", "model": "haiku"},
  "signal:ann": {"source": "signal", "model": "haiku"},
  "signal:ben": {"contact_name": "Ben Roe", "model": "haiku"},
  "signal:cal": {"contact_name": "Cal Ortiz", "tier": "", "model": "haiku"},
  "+16175550102": {"tier": "bots", "model": "haiku"}
}
"#;

/// What a dry run would give each chat.
fn planned(sandbox: &Sandbox, arguments: &[&str]) -> Vec<(String, String, String)> {
    let report = sandbox.json(&[&["--dry-run"], arguments].concat());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = report["changes"].as_array().unwrap().iter();
    rows.map(|row| (text(&row["chat_id"]), text(&row["tier"]), text(&row["after"]))).collect()
}

fn rows(rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    rows.iter().map(|(chat, tier, model)| ((*chat).to_owned(), (*tier).to_owned(), (*model).to_owned())).collect()
}

#[test]
fn the_first_assignment_gives_its_tier_to_chats_that_have_none() {
    let sandbox = Sandbox::new(POLICY, REGISTRY);
    let all = rows(&[
        ("+16175550101", "family", "sonnet"),
        ("signal:ann", "family", "sonnet"),
        ("signal:ben", "family", "sonnet"),
        ("signal:cal", "work", "opus"),
    ]);
    assert_eq!(planned(&sandbox, &[]), all, "the tier of +16175550102 is its own");
    assert_eq!(planned(&sandbox, &["--tier", "work"]), rows(&[("signal:cal", "work", "opus")]));
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("signal:ben").as_deref(), Some("sonnet"));
    assert!(!sandbox.read("sessions.json").contains("family"), "the registry is told of models alone");
}

#[test]
fn every_command_sees_the_tier() {
    let sandbox = Sandbox::new(POLICY, REGISTRY);
    let explained = sandbox.run(&["explain", "signal:ben"]).expect(0).stdout;
    assert!(
        explained.starts_with("signal:ben (Ben Roe, tier family by assign[0], policy.toml:10) → sonnet\n"),
        "{explained}"
    );
    let explained = sandbox.json(&["explain", "signal:ben"]);
    assert_eq!(explained["tier_because"], json!({"rule": "assign[0]", "file": "policy.toml", "line": 10}));
    let explained = sandbox.json(&["explain", "+16175550102"]);
    assert_eq!(explained["tier_because"], Value::Null);

    let listed = sandbox.json(&["list", "--tier", "family"]);
    let listed: Vec<&Value> = listed["chats"].as_array().unwrap().iter().map(|chat| &chat["chat_id"]).collect();
    assert_eq!(listed, ["+16175550101", "signal:ann", "signal:ben"]);

    sandbox.write("old.toml", POLICY.replace("contact = \"Ben Roe\"", ""));
    let diff = sandbox.json(&["diff", "--from", "old.toml"]);
    assert_eq!(row(&diff, "signal:ben")["before"], "opus", "by the old policy it is of the second assignment");
    assert_eq!(row(&diff, "signal:ben")["after"], "sonnet");
    assert_eq!(diff["changes"].as_array().unwrap().len(), 1);

    let set = sandbox.run(&["set-model", "signal:ben", "sonnet"]).expect(0);
    assert!(!set.stderr.contains("another"), "{set:?}");
}

#[test]
fn a_launch_decides_by_it_and_does_not_register_it() {
    let sandbox = Sandbox::new(POLICY, "{}");
    let launch = [
        "launch",
        "signal:eve",
        "--contact-name",
        "Ben Roe",
        "--",
        "sh",
        "-c",
        "echo $RECONCILE_MODEL $RECONCILE_TIER",
    ];
    assert_eq!(sandbox.run(&launch).expect(0).stdout, "sonnet family\n");
    let registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    assert_eq!(registry["signal:eve"]["model"], "sonnet");
    assert_eq!(registry["signal:eve"]["tier"], Value::Null);
}

#[test]
fn whole_chat_ids_count_under_pseudonyms_and_nothing_else_can() {
    let policy = POLICY.replace("\"+1617*\", ", "").replace("contact = \"Ben Roe\"", "");
    let policy = policy.replace("[[assign]]\ntier = \"work\"\nchat = \"*\"\n", "");
    let sandbox = Sandbox::new(&policy, REGISTRY);
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    sandbox.write("redacted.json", snapshot);
    let on_snapshot = ["--registry", "redacted.json", "--redact-key", "sessions.json.reconcile/redact.key"];
    let id = |arguments: &[&str]| sandbox.json(&[&["--dry-run"], arguments].concat())["plan_id"].clone();
    assert_eq!(id(&on_snapshot), id(&["--redact"]));

    sandbox.write("policy.toml", POLICY);
    let run = sandbox.run(&[&["--dry-run"], &on_snapshot[..]].concat()).expect(1);
    assert!(run.stderr.contains("assign[0] (policy.toml:10) selects chats by pattern or name"), "{run:?}");
}

#[test]
fn rules_ask_for_agent_and_account_also_under_pseudonyms() {
    let policy = "[models]\nallowed = [\"opus\", \"haiku\"]\nfallback = \"haiku\"\n[registry]\npath = \"sessions.json\"\n\
        [[rules]]\nagent = \"work\"\naccount = [\"+16175550100\", \"other\"]\nmodel = \"opus\"\n";
    let registry = r#"{
      "a": {"agent": "work", "account": "+16175550100", "source": "signal", "model": "haiku"},
      "b": {"agent": "work", "source": "signal", "model": "haiku"},
      "c": {"agent": "home", "account": "other", "source": "signal", "model": "haiku"}
    }"#;
    let sandbox = Sandbox::new(policy, registry);
    assert_eq!(planned(&sandbox, &[]), rows(&[("a", "", "opus")]));
    let explained = sandbox.run(&["explain", "b"]).expect(0).stdout;
    assert!(explained.contains("needs account = +16175550100 or other; this chat has none"), "{explained}");

    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    assert!(!snapshot.contains("6175550100"), "{snapshot}");
    sandbox.write("redacted.json", snapshot);
    let on_snapshot =
        ["--dry-run", "--registry", "redacted.json", "--redact-key", "sessions.json.reconcile/redact.key"];
    assert_eq!(sandbox.json(&on_snapshot)["plan_id"], sandbox.json(&["--dry-run", "--redact"])["plan_id"]);
}

#[test]
fn those_who_have_no_chat_are_told_without_names() {
    let policy = POLICY.replace("\"Ben Roe\"", "[\"Ben Roe\", \"Bne Roe\"]");
    let sandbox = Sandbox::new(&policy, REGISTRY);
    let run = sandbox.run(&["--dry-run"]).expect(0);
    assert!(run.stderr.contains("note: a chat or contact of assign[0] (policy.toml:13) is not registered"), "{run:?}");
    let check = sandbox.run(&["check", "--registry", "sessions.json", "--format", "github"]).expect(0);
    assert!(check.stdout.contains("no chat has a contact of `assign[0]`"), "{check:?}");
    assert!(!check.stdout.contains("Bne"), "{check:?}");
    sandbox.run(&["check", "--registry", "sessions.json", "--deny", "warnings"]).expect(0);
}
