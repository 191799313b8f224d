//! What is taken for a registry: `registry.key` and `registry.shape`, and the files that are none.

use std::fs;

use crate::support::{POLICY, Sandbox, registry};

/// The policy, with more lines in its last section, `[registry]`.
fn policy(more: &str) -> String {
    format!("{POLICY}{more}\n")
}

#[test]
fn a_file_whose_entries_have_no_field_of_a_session_is_refused() {
    for text in [
        r#"{"compilerOptions": {}, "scripts": {}}"#,
        r#"{"compilerOptions": {"target": "es2022"}}"#,
        r#"{"a": {"model": "opus"}, "b": {"name": "x", "Tier": "bots"}}"#,
    ] {
        for command in
            [&[][..], &["--dry-run"], &["adopt"], &["set-model", "a", "haiku"], &["launch", "a", "--", "true"]]
        {
            let sandbox = Sandbox::new(&policy(""), text);
            let run = sandbox.run(command).expect(1);
            assert!(run.stderr.contains("error[not-a-registry]"), "{command:?}: {run:#?}");
            assert!(run.stderr.contains("registry.shape = \"any\""), "{command:?}: {run:#?}");
            assert_eq!(sandbox.read("sessions.json"), text, "{command:?}");
        }
        let sandbox = Sandbox::new(&policy("shape = \"any\""), text);
        sandbox.run(&["--allow-changes", "9"]).expect(0);
        assert!(sandbox.read("sessions.json").contains("\"model\""));
    }
}

#[test]
fn one_field_of_one_session_is_enough() {
    let fields = ["tier", "type", "source", "session_name", "contact_name", "display_name", "session_id", "resume_id"];
    for field in fields.into_iter().chain(["chat_id"]) {
        for value in ["\"x\"", "\"\"", "null"] {
            let text = format!(r#"{{"a": {{"model": "sonnet"}}, "b": {{"{field}": {value}, "model": "sonnet"}}}}"#);
            let run = Sandbox::new(&policy(""), &text).run(&[]).expect(0);
            assert!(run.summary().ends_with("2 in sync."), "{field} {value}: {run:#?}");
        }
    }
    let empty = Sandbox::new(&policy(""), "{}").run(&[]).expect(0);
    assert!(empty.stdout.contains("0 sessions"), "{empty:#?}");
}

#[test]
fn a_large_file_that_is_no_registry_is_refused_as_a_small_one_is() {
    // Read by several threads, and in windows.
    for size in [3 << 20, 17 << 20] {
        let package = |number: usize| format!("  \"package-{number:07}\": {{\n    \"version\": \"1.2.3\"\n  }},\n");
        let packages: String = (0..size / package(0).len()).map(package).collect();
        let text = format!("{{\n{packages}");
        let sandbox = Sandbox::new(&policy(""), &format!("{text}  \"last\": {{}}\n}}\n"));
        let run = sandbox.run(&["--dry-run"]).expect(1);
        assert!(run.stderr.contains("error[not-a-registry]"), "{run:#?}");
        let session = format!("{text}  \"last\": {{\"tier\": \"bots\", \"model\": \"haiku\"}}\n}}\n");
        sandbox.write("sessions.json", session);
        sandbox.run(&["--dry-run", "--allow-changes", "1000000", "--quiet"]).expect(0);
    }
}

const NESTED: &str = r#"{
  "version": 3,
  "sessions": {
    "+1": {
      "tier": "family",
      "model": "opus"
    },
    "+2": {},
    "+3": {"tier": "bots"}
  },
  "stats": {"+1": {"model": "none"}}
}
"#;

#[test]
fn sessions_one_level_deeper_are_told_of() {
    for text in [NESTED, r#"{"sessions": {"+1": {"tier": "bots"}}}"#] {
        let sandbox = Sandbox::new(&policy(""), text);
        let run = sandbox.run(&[]).expect(1);
        assert!(run.stderr.contains("the sessions are one level deeper, in \"sessions\""), "{run:#?}");
        assert!(run.stderr.contains("set registry.key = \"sessions\""), "{run:#?}");
        assert_eq!(run.stderr.matches("error[").count(), 1, "{run:#?}");
        assert_eq!(sandbox.read("sessions.json"), text);
    }
}

#[test]
fn sessions_one_level_deeper_are_edited_without_loss() {
    let sandbox = Sandbox::new(&policy("key = \"sessions\""), NESTED);
    sandbox.run(&["--dry-run"]).expect(0);
    let diff = sandbox.run(&["--dry-run", "--format", "diff"]).expect(0).stdout;
    let wanted = NESTED
        .replace(r#""model": "opus""#, r#""model": "sonnet""#)
        .replace(r#""+2": {},"#, "\"+2\": {\n      \"model\": \"sonnet\"\n    },")
        .replace(r#"{"tier": "bots"}"#, r#"{"tier": "bots", "model": "haiku"}"#);
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.read("sessions.json"), wanted);
    for line in [
        "-      \"model\": \"opus\"",
        "+      \"model\": \"sonnet\"",
        "+    \"+3\": {\"tier\": \"bots\", \"model\": \"haiku\"}",
    ] {
        assert!(diff.contains(line), "{line}: {diff}");
    }
    assert!(sandbox.run(&[]).expect(0).summary().starts_with("No changes."));
}

#[test]
fn commands_that_change_one_chat_know_the_key() {
    let sandbox = Sandbox::new(&policy("key = \"sessions\""), NESTED);
    sandbox.run(&["set-model", "+1", "haiku"]).expect(0);
    sandbox.run(&["set-model", "+3", "opus"]).expect(0);
    assert!(sandbox.read("sessions.json").contains(r#""+3": {"tier": "bots", "model": "opus"}"#));
    assert!(sandbox.read("policy.toml").contains(r#""+3" = "opus""#));
    assert!(sandbox.run(&["explain", "+3"]).expect(0).stdout.contains("opus"));
    sandbox.run(&["launch", "+4", "--tier", "bots", "--", "true"]).expect(0);
    let after = sandbox.read("sessions.json");
    let added = r#""+3": {"tier": "bots", "model": "opus"},
    "+4": {"chat_id": "+4", "tier": "bots", "model": "haiku"}
  },"#;
    assert!(after.contains(added), "{after}");
    sandbox.run(&["launch", "+1", "--", "true"]).expect(0);
    sandbox.run(&["owed"]).expect(0);
    sandbox.run(&["undo", &first_run(&sandbox)]).expect(0);
    assert!(
        sandbox.read("sessions.json").contains("\"+1\": {\n      \"tier\": \"family\",\n      \"model\": \"sonnet\"\n")
    );
    assert!(sandbox.read("sessions.json").ends_with("  \"stats\": {\"+1\": {\"model\": \"none\"}}\n}\n"));
}

fn first_run(sandbox: &Sandbox) -> String {
    let history = fs::read_to_string(sandbox.path("sessions.json.reconcile/history.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    line["run"].as_str().unwrap().to_owned()
}

#[test]
fn a_launch_fills_an_object_of_no_sessions_and_a_file_that_is_not_there() {
    let entry = |indent: &str| {
        let member = |text: &str| format!("\n{indent}{indent}{indent}\"{text}");
        let (id, tier, model) =
            (member("chat_id\": \"+1\","), member("tier\": \"bots\","), member("model\": \"haiku\""));
        format!("{{\n{indent}{indent}\"+1\": {{{id}{tier}{model}\n{indent}{indent}}}\n{indent}}}")
    };
    for (before, after) in [
        (
            "{\"sessions\":{}}",
            "{\"sessions\":{\"+1\":{\"chat_id\":\"+1\",\"tier\":\"bots\",\"model\":\"haiku\"}}}".to_owned(),
        ),
        ("{\n  \"sessions\": {},\n  \"v\": 1\n}\n", format!("{{\n  \"sessions\": {},\n  \"v\": 1\n}}\n", entry("  "))),
        ("{\n\t\"sessions\": {\n\t}\n}\n", format!("{{\n\t\"sessions\": {}\n}}\n", entry("\t"))),
        ("", format!("{{\n  \"sessions\": {}\n}}\n", entry("  "))),
    ] {
        let sandbox = Sandbox::new(&policy("key = \"sessions\""), before);
        if before.is_empty() {
            fs::remove_file(sandbox.path("sessions.json")).unwrap();
        }
        sandbox.run(&["launch", "+1", "--tier", "bots", "--", "true"]).expect(0);
        assert_eq!(sandbox.read("sessions.json"), after, "{before:?}");
    }
}

#[test]
fn a_launch_knows_the_key_of_a_policy_with_mistakes() {
    let broken = policy("key = \"sessions\"\n[chats]\n\"+1\" = { model = \"opus\"");
    let sandbox = Sandbox::new(&broken, NESTED);
    let run = sandbox.run(&["launch", "+1", "--", "echo", "{model}"]).expect(0);
    assert_eq!(run.stdout, "opus\n");
    assert_eq!(sandbox.read("sessions.json"), NESTED);
}

#[test]
fn adopt_finds_the_key_by_itself() {
    let sandbox = Sandbox::new("", NESTED);
    fs::remove_file(sandbox.path("policy.toml")).unwrap();
    let adopted = sandbox.run(&["adopt", "--registry", "sessions.json"]).expect(0).stdout;
    assert!(adopted.contains("key = \"sessions\""), "{adopted}");
    sandbox.write("policy.toml", &adopted);
    assert!(sandbox.run(&["--dry-run"]).expect(0).stdout.contains("3 sessions"));

    let loose = r#"{"a": {"model": "opus"}}"#;
    let sandbox = Sandbox::new(&policy("shape = \"any\""), loose);
    let adopted = sandbox.run(&["adopt"]).expect(0).stdout;
    assert!(adopted.contains("shape = \"any\""), "{adopted}");
}

#[test]
fn a_key_that_names_no_object_is_an_error() {
    for (text, code, told) in [
        ("{}", "missing-key", "has no \"sessions\""),
        (r#"{"session": {}}"#, "missing-key", "did you mean registry.key = \"session\"?"),
        (r#"{"sessions": []}"#, "not-an-object", "\"sessions\" is not an object"),
        (r#"{"sessions": {}, "sess\u0069ons": {}}"#, "duplicate-field", "has \"sessions\" twice"),
        (r#"{"sessions": {}, "x": }"#, "malformed", "malformed"),
        (r#"{"sessions": {"a": {"tier": "bots"}}"#, "malformed", "ends too early"),
        (r#"{"sessions": {"a": {"tier": "bots"}, "a": {}}}"#, "duplicate-chat", "defined twice"),
        (r#"{"sessions": {"a": {"x": 1}}}"#, "not-a-registry", "no entry has a field of a session"),
        ("[]", "malformed", "is not a JSON object"),
    ] {
        let sandbox = Sandbox::new(&policy("key = \"sessions\""), text);
        let run = sandbox.run(&[]).expect(1);
        assert!(run.stderr.contains(&format!("error[{code}]")) && run.stderr.contains(told), "{text}: {run:#?}");
        assert_eq!(sandbox.read("sessions.json"), text);
    }
}

#[test]
fn a_redacted_snapshot_has_its_sessions_at_the_top_with_any_key() {
    let sandbox = Sandbox::new(&policy("key = \"sessions\""), NESTED);
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    sandbox.write("redacted.json", snapshot);
    let arguments = ["--dry-run", "--registry", "redacted.json", "--redact-key", "sessions.json.reconcile/redact.key"];
    assert!(sandbox.run(&arguments).expect(0).stdout.contains("3 to change"));
}

#[test]
fn a_registry_without_a_key_is_none_the_less_flat() {
    let sandbox = Sandbox::new(&policy("key = \"\""), &registry(&[("+1", "bots", "haiku")]));
    assert!(sandbox.run(&[]).expect(1).stderr.contains("`registry.key` must not be empty"));
    sandbox.write("policy.toml", policy("shape = \"flat\""));
    assert!(sandbox.run(&[]).expect(1).stderr.contains("known: `sessions`, `any`"));
}
