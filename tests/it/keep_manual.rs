//! `existing = "keep-manual"`: a model that was set by hand stays, and everything else follows the policy.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox};

const MANUAL: &str = "existing = \"keep-manual\"\npath = ";

fn policy() -> String {
    POLICY.replace("path = ", MANUAL)
}

/// Ada and Ben of the family, Cal of the admins, as the policy wants them.
fn sandbox() -> Sandbox {
    let entry = |tier, model| json!({ "tier": tier, "model": model });
    let registry =
        json!({ "ada": entry("family", "sonnet"), "ben": entry("family", "sonnet"), "cal": entry("admin", "opus") });
    Sandbox::new(&policy(), &registry.to_string())
}

/// All three are known to be as the policy wants them.
fn known() -> Sandbox {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    sandbox
}

fn set(sandbox: &Sandbox, chat: &str, field: &str, value: &str) {
    let mut registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    registry[chat][field] = value.into();
    sandbox.write("sessions.json", registry.to_string());
}

fn rows(run: &Run) -> Vec<Value> {
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let rows = report["changes"].as_array().unwrap().iter();
    rows.map(|row| json!([row["chat_id"], row["before"], row["after"], row["outcome"], row["detail"]])).collect()
}

fn dry_run(sandbox: &Sandbox) -> Vec<Value> {
    rows(&sandbox.run(&["--dry-run", "--format", "json"]).expect(0))
}

fn kept(chat: &str, model: &str) -> Value {
    json!([chat, model, null, "unmanaged", "set by hand: kept"])
}

#[test]
fn what_was_set_by_hand_stays_and_what_follows_the_policy_goes_on_to() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    assert_eq!(dry_run(&sandbox), [kept("ada", "haiku")]);
    sandbox.run(&[]).expect(0);
    sandbox.write("policy.toml", policy().replace("family = \"sonnet\"", "family = \"opus\""));
    assert_eq!(dry_run(&sandbox), [kept("ada", "haiku"), json!(["ben", "sonnet", "opus", "planned", null])]);
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("ada").as_deref(), Some("haiku"));
    assert_eq!(sandbox.model("ben").as_deref(), Some("opus"));
}

#[test]
fn a_chat_of_another_tier_moves_with_it() {
    let sandbox = known();
    set(&sandbox, "cal", "tier", "bots");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("cal").as_deref(), Some("haiku"));
}

#[test]
fn a_choice_is_one_no_longer_once_the_policy_agrees_with_it() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    sandbox.write("policy.toml", policy().replace("family = \"sonnet\"", "family = \"haiku\""));
    sandbox.run(&[]).expect(0);
    sandbox.write("policy.toml", policy().replace("family = \"sonnet\"", "family = \"opus\""));
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.model("ada").as_deref(), Some("opus"));
}

#[test]
fn back_to_what_a_run_has_replaced_is_a_choice_too() {
    let sandbox = known();
    sandbox.write("policy.toml", policy().replace("family = \"sonnet\"", "family = \"opus\""));
    sandbox.run(&[]).expect(0);
    set(&sandbox, "ada", "model", "sonnet");
    assert_eq!(dry_run(&sandbox), [kept("ada", "sonnet")]);
}

#[test]
fn back_to_what_a_run_is_replacing_is_taken_for_a_lost_edit() {
    let sandbox = known();
    sandbox.has_seen(&["opus", "sonnet"]);
    sandbox.write("before.json", sandbox.read("sessions.json"));
    sandbox.script("restart", "cp before.json sessions.json");
    let restarts = "[sessions]\nrestart = [\"./restart\"]\n";
    sandbox.write("policy.toml", policy().replace("family = \"sonnet\"", "family = \"opus\"") + restarts);
    let row = json!(["ada", "sonnet", "opus", "failed", "the registry has sonnet again"]);
    for _ in 0..2 {
        assert_eq!(rows(&sandbox.run(&["--chat", "ada", "--format", "json"]).expect(4)), std::slice::from_ref(&row));
    }
}

#[test]
fn a_choice_that_is_made_while_a_restart_is_owed_stays_too() {
    let sandbox = known();
    sandbox.has_seen(&["opus", "sonnet"]);
    let failing = policy().replace("family = \"sonnet\"", "family = \"opus\"") + "[sessions]\nrestart = [\"false\"]\n";
    sandbox.write("policy.toml", failing);
    sandbox.run(&[]).expect(4);
    assert_eq!(sandbox.model("ada").as_deref(), Some("opus"));
    set(&sandbox, "ada", "model", "haiku");
    sandbox.run(&[]);
    assert_eq!(sandbox.model("ada").as_deref(), Some("haiku"));
}

#[test]
fn the_first_run_keeps_what_differs_and_counts_it() {
    let sandbox = sandbox();
    set(&sandbox, "ada", "model", "haiku");
    set(&sandbox, "ben", "model", "opus");
    let first = sandbox.run(&["--format", "json"]).expect(0);
    assert_eq!(rows(&first), [kept("ada", "haiku"), kept("ben", "opus")]);
    assert!(first.stderr.contains("note: 2 chats keep their models as if set by hand"), "{}", first.stderr);
    assert!(first.stderr.contains("--take-over-all"), "{}", first.stderr);
    let second = sandbox.run(&["--format", "json"]).expect(0);
    assert_eq!(rows(&second), [kept("ada", "haiku"), kept("ben", "opus")]);
    assert!(!second.stderr.contains("as if set by hand"), "{}", second.stderr);
}

#[test]
fn a_run_for_some_chats_is_not_the_first_look_at_the_others() {
    let sandbox = sandbox();
    set(&sandbox, "ben", "model", "opus");
    sandbox.run(&["--chat", "ada"]).expect(0);
    assert_eq!(dry_run(&sandbox), [kept("ben", "opus")]);
}

#[test]
fn a_refused_first_run_is_not_the_first_look() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", policy() + "[limits]\nmax_changes = 0\n");
    set(&sandbox, "ben", "model", "opus");
    sandbox.run(&["--take-over-all"]).expect(3);
    assert_eq!(dry_run(&sandbox), [kept("ben", "opus")]);
}

#[test]
fn taken_over_is_one_chat_or_all_within_the_limit() {
    let sandbox = sandbox();
    set(&sandbox, "ada", "model", "haiku");
    set(&sandbox, "ben", "model", "opus");
    sandbox.run(&["--take-over", "ada"]).expect(0);
    assert_eq!(sandbox.model("ada").as_deref(), Some("sonnet"));
    assert_eq!(dry_run(&sandbox), [kept("ben", "opus")]);
    sandbox.run(&["--take-over-all", "--allow-changes", "0"]).expect(3);
    sandbox.run(&["--take-over-all"]).expect(0);
    assert_eq!(sandbox.model("ben").as_deref(), Some("sonnet"));
    assert_eq!(dry_run(&sandbox), Vec::<Value>::new());
}

#[test]
fn a_run_that_took_over_can_be_undone() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    sandbox.run(&["--take-over", "ada"]).expect(0);
    let history = sandbox.run(&["history"]).expect(0).stdout;
    let name = history.split_whitespace().next().unwrap().to_owned();
    sandbox.run(&["undo", &name]).expect(0);
    assert_eq!(sandbox.model("ada").as_deref(), Some("haiku"));
    assert_eq!(dry_run(&sandbox), Vec::<Value>::new());
}

#[test]
fn there_is_nothing_to_take_over_where_models_are_replaced() {
    let sandbox = Sandbox::new(POLICY, "{}");
    for arguments in [&["--take-over-all"][..], &["--dry-run", "--take-over", "ada"]] {
        let run = sandbox.run(arguments).expect(1);
        assert!(run.stderr.contains("there is nothing to take over"), "{}", run.stderr);
    }
}

#[test]
fn an_override_wins_and_without_it_the_chat_is_under_the_policy_again() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    sandbox.run(&["set-model", "ada", "opus"]).expect(0);
    assert_eq!(sandbox.model("ada").as_deref(), Some("opus"));
    sandbox.run(&["unset-model", "ada"]).expect(0);
    assert_eq!(sandbox.model("ada").as_deref(), Some("sonnet"));
}

#[test]
fn a_new_chat_follows_the_policy() {
    let sandbox = known();
    let registry = sandbox.read("sessions.json").replacen('{', r#"{"new": {"tier": "bots", "model": "opus"}, "#, 1);
    sandbox.write("sessions.json", registry);
    assert_eq!(dry_run(&sandbox), [json!(["new", "opus", "haiku", "planned", null])]);
}

#[test]
fn a_chat_that_was_away_is_known_when_it_is_back() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    let whole = sandbox.read("sessions.json");
    sandbox.write("sessions.json", r#"{"ben": {"tier": "family", "model": "sonnet"}}"#);
    sandbox.run(&[]).expect(0);
    sandbox.write("sessions.json", whole);
    assert_eq!(dry_run(&sandbox), [kept("ada", "haiku")]);
}

#[test]
fn another_name_of_the_same_model_is_no_choice() {
    let sandbox = known();
    let aliases = "fallback = \"sonnet\"\naliases = { \"claude-sonnet\" = \"sonnet\" }";
    sandbox.write(
        "policy.toml",
        policy().replace("fallback = \"sonnet\"", aliases).replace("family = \"sonnet\"", "family = \"opus\""),
    );
    set(&sandbox, "ada", "model", "claude-sonnet");
    assert_eq!(dry_run(&sandbox).first(), Some(&json!(["ada", "claude-sonnet", "opus", "planned", null])));
}

#[test]
fn a_launch_goes_by_a_choice_and_is_remembered() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    let start =
        |chat: &str| sandbox.run(&["launch", chat, "--tier", "family", "--", "echo", "{model}"]).expect(0).stdout;
    assert_eq!(start("ada"), "haiku\n");
    assert_eq!(start("dora"), "sonnet\n");
    // No run has looked at it since.
    set(&sandbox, "dora", "model", "haiku");
    assert_eq!(dry_run(&sandbox), [kept("ada", "haiku"), kept("dora", "haiku")]);
}

#[test]
fn explain_says_that_it_was_set_by_hand() {
    let sandbox = known();
    let explain = |chat: &str| sandbox.run(&["explain", chat]).expect(0).stdout;
    assert!(explain("ada").contains("the model was not set by hand"), "{}", explain("ada"));
    set(&sandbox, "ada", "model", "haiku");
    let told = explain("ada");
    assert!(told.contains("set by hand: kept"), "{told}");
}

#[test]
fn a_list_says_that_it_was_set_by_hand() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    let list = sandbox.run(&["list"]).expect(0).stdout;
    assert!(list.contains("3 chats: 2 in sync, 1 set by hand."), "{list}");
    let json: Value = serde_json::from_str(&sandbox.run(&["list", "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!((&json["chats"][0]["set_by_hand"], &json["chats"][0]["managed"]), (&json!(true), &json!(false)));
    assert_eq!((&json["chats"][1]["set_by_hand"], &json["chats"][1]["managed"]), (&json!(false), &json!(true)));
}

#[test]
fn a_redacted_snapshot_says_what_was_set_by_hand() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    sandbox.write("policy.toml", policy().replace("family = \"sonnet\"", "family = \"opus\""));
    let snapshot = sandbox.run(&["snapshot", "--redact"]).expect(0).stdout;
    sandbox.write("snapshot.json", &snapshot);
    let key = sandbox.path("sessions.json.reconcile/redact.key");
    let key = key.to_str().unwrap();
    let plan = |arguments: &[&str]| -> Value {
        let run = sandbox.run(&[&["--dry-run", "--format", "json"], arguments].concat()).expect(0);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let elsewhere = plan(&["--registry", "snapshot.json", "--redact-key", key]);
    let here = plan(&["--redact"]);
    assert_eq!(elsewhere["plan_id"], here["plan_id"]);
    assert_eq!(elsewhere["summary"], here["summary"]);
    assert_eq!(here["summary"]["unmanaged"], 1);
}

#[test]
fn what_is_remembered_ends_where_models_are_replaced() {
    let sandbox = known();
    sandbox.write("policy.toml", POLICY.replace("family = \"sonnet\"", "family = \"opus\""));
    sandbox.run(&[]).expect(0);
    assert!(!sandbox.path("sessions.json.reconcile/last-applied").exists());
    sandbox.write("policy.toml", policy());
    // Nothing tells what the run before has replaced from what was set by hand.
    assert_eq!(dry_run(&sandbox), [kept("ada", "opus"), kept("ben", "opus")]);
}

#[test]
fn the_memory_is_private_names_no_chat_and_its_damage_is_an_error() {
    let sandbox = known();
    let path = sandbox.path("sessions.json.reconcile/last-applied");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let whole = fs::read(&path).unwrap();
    assert!(!whole.windows(3).any(|bytes| bytes == b"ada"));
    let after_the_header = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..after_the_header], &whole[..10], b""] {
        fs::write(&path, damaged).unwrap();
        for command in [&["--dry-run"][..], &[]] {
            let run = sandbox.run(command).expect(1);
            assert!(run.stderr.contains("last-applied is damaged"), "{}", run.stderr);
        }
    }
    fs::remove_file(&path).unwrap();
    let run = sandbox.run(&[]).expect(0);
    assert!(!run.stderr.contains("as if set by hand"), "nothing differs: {}", run.stderr);
}

#[test]
fn a_dry_run_remembers_nothing() {
    let sandbox = sandbox();
    sandbox.run(&["--dry-run"]).expect(0);
    assert!(!sandbox.path("sessions.json.reconcile").exists());
}

#[test]
fn a_change_to_keep_manual_leaves_alone_what_was_set_by_hand() {
    let sandbox = known();
    set(&sandbox, "ada", "model", "haiku");
    sandbox.write("old.toml", POLICY);
    let run = sandbox.run(&["diff", "--from", "old.toml", "--format", "json"]).expect(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let rows = report["changes"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!((&rows[0]["chat_id"], &rows[0]["outcome"]), (&json!("ada"), &json!("unmanaged")));
}
