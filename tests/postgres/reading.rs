//! A plan on a table.

use std::os::unix::fs::PermissionsExt;

use crate::database::Database;
use crate::support::row;

#[test]
fn a_dry_run_shows_what_differs() {
    let database = Database::with_sessions(&[("+1", "family", "opus"), ("+2", "bots", "haiku"), ("+3", "admin", "")]);
    let run = database.run(&["--dry-run"]).expect(0);
    assert_eq!(run.summary(), "Plan: 2 to change, 0 to restart, 0 deferred, 1 in sync.", "{run:?}");
    assert!(run.stdout.contains("3 sessions in public.sessions"), "{run:?}");
    let report = database.plan();
    assert_eq!((&row(&report, "+1")["before"], &row(&report, "+1")["after"]), (&"opus".into(), &"sonnet".into()));
    assert_eq!(row(&report, "+3")["before"], serde_json::Value::Null);
    assert_eq!(database.texts("SELECT coalesce(model, '-') FROM sessions ORDER BY id"), ["opus", "haiku", "-"]);
}

#[test]
fn other_commands_read_the_table_as_well() {
    let database = Database::with_sessions(&[("+1", "family", "opus"), ("+2", "bots", "haiku")]);
    assert!(database.run(&["list"]).expect(0).stdout.contains("imessage/+2"));
    assert!(database.run(&["explain", "+1"]).expect(0).stdout.contains("tiers.family"));
    assert!(database.run(&["doctor"]).stdout.contains("the table public.sessions can be read"));
}

#[test]
fn a_model_can_stand_inside_json() {
    let database = Database::new(
        r#"CREATE TABLE sessions (id text PRIMARY KEY, settings jsonb, tier text);
           INSERT INTO sessions VALUES ('deep', '{"llm": {"model": "haiku"}}', 'family'), ('null', NULL, 'family'),
               ('empty', '{}', 'family'), ('none', '{"llm": null}', 'family'), ('right', '{"llm": {"model": "sonnet"}}', 'family')"#,
    );
    let columns = "chat_id = \"id\"\nmodel = { column = \"settings\", path = [\"llm\", \"model\"] }\ntier = \"tier\"\n";
    database.policy(&database.registry(columns));
    let report = database.plan();
    assert_eq!(report["summary"]["changed"], 4);
    assert_eq!(row(&report, "deep")["before"], "haiku");
    for without in ["null", "empty", "none"] {
        assert_eq!(row(&report, without)["before"], serde_json::Value::Null, "{without}");
    }
}

const IN_JSON: &str = "chat_id = \"id\"\nmodel = { column = \"settings\", path = [\"llm\", \"model\"] }\n\
                       tier = { column = \"settings\", path = [\"tier\"] }\n";

/// A table in which the settings of `+2` are these.
fn with_settings(settings: &str) -> Database {
    let database = Database::new(&format!(
        r#"CREATE TABLE sessions (id text PRIMARY KEY, settings jsonb);
           INSERT INTO sessions VALUES ('+1', '{{"llm": {{"model": "opus"}}}}'), ('+2', '{settings}')"#
    ));
    database.make_schema();
    database.policy(&database.registry(IN_JSON));
    database
}

#[test]
fn json_of_another_form_is_refused_and_never_no_model() {
    for (settings, field) in [
        ("[]", "model"),
        ("7", "model"),
        (r#"{"llm": "opus"}"#, "model"),
        (r#"{"llm": ["opus"]}"#, "model"),
        (r#"{"llm": {"model": ["opus"]}}"#, "model"),
        // As the policy says of a chat without a tier.
        (r#"{"llm": {"model": "sonnet"}, "tier": ["admin"]}"#, "tier"),
    ] {
        let database = with_settings(settings);
        let why = format!("the {field} of chat +2 cannot be read: its JSON has an unexpected form");
        let plan = database.run(&["--dry-run"]).expect(4);
        assert!(plan.stdout.contains(&why), "{settings}: {plan:?}");
        let run = database.run(&[]).expect(4);
        assert!(run.summary().starts_with("Applied: 1 changed,") && run.stdout.contains(&why), "{settings}: {run:?}");
        let stand = "SELECT settings FROM sessions ORDER BY id";
        assert_eq!(database.texts(stand), [r#"{"llm": {"model": "sonnet"}}"#, settings], "{run:?}");
        assert!(database.run(&["--exclude", "+2"]).expect(0).summary().starts_with("No changes."));
    }
}

#[test]
fn json_of_another_form_keeps_no_other_session_from_its_start() {
    let database = with_settings(r#"{"llm": ["opus"]}"#);
    let launch = |chat| database.run(&["launch", chat, "--", "echo", "{model}"]);
    assert_eq!(launch("+1").expect(0).stdout, "sonnet\n");
    let run = launch("+2").expect(1);
    assert!(run.stderr.contains("the model of chat +2 cannot be read"), "{run:?}");
}

#[test]
fn names_are_taken_literally_and_nothing_of_a_policy_becomes_sql() {
    let table = r#"CREATE TABLE "Sessions; DROP TABLE x" ("I""d" text PRIMARY KEY, "mo'del\" text)"#;
    let database = Database::new(&format!("{table}; INSERT INTO \"Sessions; DROP TABLE x\" VALUES ('a', 'opus')"));
    let registry = r#"
[registry]
postgres = "ADDRESS"
table    = "Sessions; DROP TABLE x"
columns  = { chat_id = 'I"d', model = "mo'del\\" }
"#;
    database.policy(&registry.replace("ADDRESS", &database.address()));
    assert_eq!(database.plan()["changes"][0]["after"], "sonnet");
}

#[test]
fn a_row_without_an_id_is_an_error() {
    let database = Database::new(
        "CREATE TABLE rows (id text, model text); INSERT INTO rows VALUES (NULL, 'opus'); CREATE VIEW sessions AS SELECT * FROM rows",
    );
    database.policy(&database.registry("chat_id = \"id\"\nmodel = \"model\"\n"));
    let run = database.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("a row of public.sessions has no chat id"), "{run:?}");
}

#[test]
fn the_server_is_asked_with_no_named_statement_and_no_setting_that_outlives_its_transaction() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    database.execute("ALTER DATABASE SESSION SET log_statement = 'all'".replace("SESSION", &database.name).as_str());
    let entries = database.logged(|| _ = database.run(&["--dry-run"]).expect(0));
    let mut about_sessions = entries.iter().filter(|entry| entry.contains("public.sessions")).peekable();
    assert!(about_sessions.peek().is_some(), "{entries:#?}");
    assert!(about_sessions.all(|entry| entry.contains("<unnamed>")), "{entries:#?}");
    assert!(!entries.iter().any(|entry| entry.contains("statement: SET row")), "{entries:#?}");
}

#[test]
fn an_adopted_policy_names_the_table_and_changes_no_session_that_has_a_model() {
    let database = Database::new(
        r#"CREATE TABLE sessions (id text PRIMARY KEY, "the tier" text, settings jsonb);
           INSERT INTO sessions VALUES ('+1', 'family', '{"llm": {"model": "sonnet"}}'),
               ('+2', 'family', '{"llm": {"model": "sonnet"}}'), ('+3', 'family', '{"llm": {"model": "opus"}}')"#,
    );
    let columns =
        "chat_id = \"id\"\ntier = \"the tier\"\nmodel = { column = \"settings\", path = [\"llm\", \"model\"] }\n";
    database.policy(&database.registry(columns));
    let adopted = database.run(&["adopt"]).expect(0).stdout;
    database.sandbox.write("policy.toml", &adopted);
    let report = database.plan();
    assert_eq!((&report["sessions"], &report["changes"]), (&3.into(), &serde_json::json!([])), "{adopted}");
    assert!(adopted.contains("family = \"sonnet\"") && adopted.contains("\"+3\" = \"opus\""), "{adopted}");
}

#[test]
fn a_redacted_snapshot_needs_a_key_and_a_message_says_how_one_is_made() {
    let database = Database::with_sessions(&[("+1", "family", "opus")]);
    let run = database.run(&["snapshot", "--redact"]).expect(1);
    assert!(run.stderr.contains("(umask 077; openssl rand -hex 32 > redact.key)"), "{run:?}");
    database.sandbox.write("redact.key", "01".repeat(32));
    let mode = |mode| std::fs::set_permissions(database.sandbox.path("redact.key"), PermissionsExt::from_mode(mode));
    mode(0o644).unwrap();
    let with_key = ["snapshot", "--redact", "--redact-key", "redact.key"];
    let run = database.run(&with_key).expect(1);
    assert!(run.stderr.contains("the redaction key file … is not used"), "{run:?}");
    mode(0o600).unwrap();
    assert!(!database.run(&with_key).expect(0).stdout.contains("+1"));
}
