//! `models.retired`: what takes the place of a model on the day of its withdrawal, and what is told of it before.

use serde_json::{Value, json};

use crate::support::{Run, Sandbox};

/// Chats of every way in which a policy can say opus-4.
const REGISTRY: &str = r#"{
  "by-chat": {"tier": "family", "model": "opus-4"},
  "by-rule": {"tier": "family", "source": "discord", "model": "claude-4"},
  "by-tier": {"tier": "admin", "model": "opus-4"},
  "by-fallback": {"source": "imessage", "model": "opus-4"},
  "unmanaged": {"tier": "admin", "model": "opus-4"},
  "other": {"tier": "family", "model": "haiku"},
  "drifts": {"tier": "family", "model": "opus-4"}
}
"#;

fn policy(on: &str) -> String {
    format!(
        r#"
[models]
allowed   = ["opus-4", "opus-5", "haiku"]
fallback  = "opus-4"
aliases   = {{ "claude-4" = "opus-4" }}
time_zone = "UTC"
retired   = {{ "opus-4" = {{ on = {on}, use = "opus-5" }} }}
[tiers]
admin  = "opus-4"
family = "haiku"
[[rules]]
source = "discord"
model  = "opus-4"
[chats]
by-chat   = "opus-4"
unmanaged = {{ managed = false }}
[registry]
path = "sessions.json"
[limits]
max_changes = 9
"#
    )
}

fn as_of(sandbox: &Sandbox, time: &str) -> Run {
    sandbox.run(&["--dry-run", "--at", time])
}

/// The chats that a dry run at that time changes, and to what.
fn changes(sandbox: &Sandbox, time: &str) -> Vec<(String, String)> {
    let report = sandbox.json(&["--dry-run", "--at", time]);
    let rows = report["changes"].as_array().unwrap().iter().filter(|row| row["edit"] == true);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.map(|row| (text(&row["chat_id"]), text(&row["after"]))).collect()
}

#[test]
fn from_that_day_the_other_model_is_used_wherever_the_policy_says_it() {
    let sandbox = Sandbox::new(&policy("2026-12-01"), REGISTRY);
    let drift = |others: &[(&str, &str)]| -> Vec<(String, String)> {
        others.iter().map(|(chat, model)| ((*chat).to_owned(), (*model).to_owned())).collect()
    };
    assert_eq!(changes(&sandbox, "2026-11-30T23:59:59"), drift(&[("drifts", "haiku")]));
    let replaced = [
        ("by-chat", "opus-5"),
        ("by-fallback", "opus-5"),
        ("by-rule", "opus-5"),
        ("by-tier", "opus-5"),
        ("drifts", "haiku"),
    ];
    assert_eq!(changes(&sandbox, "2026-12-01T00:00:00"), drift(&replaced));
    let past = Sandbox::new(&policy("2020-01-01"), REGISTRY);
    past.run(&[]).expect(0);
    assert_eq!(past.model("by-tier").as_deref(), Some("opus-5"));
    assert_eq!(past.model("unmanaged").as_deref(), Some("opus-4"), "an unmanaged chat is left alone");
    let explained = past.run(&["explain", "by-tier"]).expect(0).stdout;
    assert!(explained.contains("→ opus-5\n"), "{explained}");
    assert!(explained.contains("opus-4   decides: opus-4 is retired, and opus-5 takes its place"), "{explained}");
    let run = past.run(&["set-model", "other", "opus-4"]).expect(1);
    assert!(run.stderr.contains("opus-4 is retired, and opus-5 takes its place"), "{run:?}");
    let launched = past.run(&["launch", "new", "--tier", "admin", "--", "echo", "{model}"]).expect(0);
    assert_eq!(launched.stdout, "opus-5\n");
}

#[test]
fn a_registry_that_holds_it_gets_the_other_model_also_where_existing_ones_are_kept() {
    let kept = policy("2026-12-01").replace("path =", "existing = \"keep\"\npath =");
    let sandbox = Sandbox::new(&kept, REGISTRY);
    assert_eq!(changes(&sandbox, "2026-11-30"), []);
    let chats: Vec<String> = changes(&sandbox, "2026-12-01").into_iter().map(|(chat, _)| chat).collect();
    assert_eq!(chats, ["by-chat", "by-fallback", "by-rule", "by-tier", "drifts"]);
}

#[test]
fn a_month_before_every_chat_that_it_concerns_is_named() {
    let sandbox = Sandbox::new(&policy("2026-12-01"), REGISTRY);
    assert!(!as_of(&sandbox, "2026-10-31").expect(0).stderr.contains("retire"));
    let run = as_of(&sandbox, "2026-11-01").expect(0);
    let line = "warning: opus-4 retires on 2026-12-01, in 30 days: 4 chats change to opus-5 (by-chat, by-fallback, \
                by-rule, by-tier); 1 chat that is not managed keeps it (unmanaged)\n";
    assert!(run.stderr.contains(line), "{run:#?}");
    assert!(as_of(&sandbox, "2026-11-30").stderr.contains("opus-4 retires tomorrow, on 2026-12-01: 4 chats"));
    let after = as_of(&sandbox, "2027-05-01").expect(0);
    assert!(after.stderr.contains("opus-4 was retired on 2026-12-01: 4 chats change to opus-5"), "{after:#?}");
    let done = Sandbox::new(&policy("2020-01-01"), REGISTRY);
    done.run(&[]).expect(0);
    let line = "warning: opus-4 was retired on 2020-01-01: 1 chat that is not managed keeps it (unmanaged)\n";
    assert_eq!(done.run(&["--dry-run"]).expect(0).stderr, line);
    assert!(!done.run(&["--dry-run", "--chat", "other"]).expect(0).stderr.contains("retire"), "a part of the registry");
}

#[test]
fn a_change_over_the_limit_is_told_of_before_it_is_due() {
    let sandbox = Sandbox::new(&policy("2026-12-01").replace("max_changes = 9", "max_changes = 3"), REGISTRY);
    let run = as_of(&sandbox, "2026-11-15").expect(0);
    assert!(
        run.stderr.contains("4 chats change to opus-5 (by-chat, by-fallback, by-rule, by-tier), over the limit of 3")
    );
    assert!(run.stderr.contains("hint: change some of them earlier, or raise limits.max_changes"), "{run:#?}");
    as_of(&sandbox, "2026-12-01").expect(3);
    // Without a limit in the policy it is the usual one.
    let chats: Vec<String> =
        (0..30).map(|number| format!("\"{number}\": {{\"tier\": \"admin\", \"model\": \"opus-4\"}}")).collect();
    let unlimited = policy("2026-12-01").replace("max_changes = 9", "");
    let sandbox = Sandbox::new(&unlimited, &format!("{{{}}}", chats.join(",")));
    assert!(as_of(&sandbox, "2026-11-15").expect(0).stderr.contains("over the limit of 10"));
}

#[test]
fn check_tells_the_same_with_the_registry() {
    let sandbox = Sandbox::new(&policy("2020-01-01").replace("max_changes = 9", "max_changes = 3"), REGISTRY);
    let check =
        |format: &str| sandbox.run(&["check", "--registry", "sessions.json", "--format", format]).expect(0).stdout;
    let report: Value = serde_json::from_str(&check("json")).unwrap();
    let found = report["diagnostics"].as_array().unwrap();
    let found = found.iter().find(|found| found["code"] == "withdrawn-model").unwrap();
    assert_eq!((&found["level"], &found["line"]), (&json!("warning"), &json!(7)));
    let message = "opus-4 was retired on 2020-01-01: 4 chats change to opus-5, over the limit of 3; 1 chat that is not \
                   managed keeps it";
    assert_eq!(found["message"], message);
    assert!(found["help"].as_str().unwrap().contains("(by-chat, by-fallback, by-rule, by-tier)"), "{found:#}");
    assert!(!check("github").contains("by-fallback"), "chats are not named where others read");
}

#[test]
fn under_pseudonyms_no_chat_is_named() {
    let sandbox = Sandbox::new(&policy("2020-01-01"), REGISTRY);
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    let run = sandbox.run(&["--dry-run", "--redact"]).expect(0);
    assert!(
        run.stderr.contains("4 chats change to opus-5; 1 chat that"),
        "which are the first tells of their order: {run:#?}"
    );
    assert!(!run.stderr.contains("by-") && !run.stderr.contains("unmanaged)"), "{run:#?}");
}

#[test]
fn a_replacement_may_be_withdrawn_in_turn() {
    let twice = policy("2026-12-01")
        .replace("use = \"opus-5\" } }", "use = \"opus-5\" }, \"opus-5\" = { on = 2027-02-01, use = \"haiku\" } }");
    let sandbox = Sandbox::new(&twice, REGISTRY);
    assert!(changes(&sandbox, "2027-01-31").contains(&("by-tier".to_owned(), "opus-5".to_owned())));
    assert!(changes(&sandbox, "2027-02-01").contains(&("by-tier".to_owned(), "haiku".to_owned())));
}

#[test]
fn what_is_withdrawn_need_not_be_allowed_besides() {
    let sandbox = Sandbox::new(&policy("2026-12-01").replace("[\"opus-4\", ", "["), REGISTRY);
    assert_eq!(changes(&sandbox, "2026-12-01").len(), 5);
}

#[test]
fn a_withdrawal_that_makes_no_sense_is_a_mistake() {
    for (from, to, told) in [
        ("use = \"opus-5\"", "use = \"opus-6\"", "`opus-6` is not an allowed model"),
        ("use = \"opus-5\"", "use = \"opus-4\"", "error[retired-in-circle]: `opus-4` is replaced by itself"),
        (", use = \"opus-5\"", "", "`models.retired.opus-4.use` is missing"),
        ("on = 2026-12-01, ", "", "`models.retired.opus-4.on` is missing"),
        ("on = 2026-12-01", "on = 2026-12-01T10:00:00", "`models.retired.opus-4.on` must be a date"),
        ("on = 2026-12-01", "on = \"2026-12-01\"", "must be a date"),
        ("on =", "at = 1, on =", "unknown key `models.retired.opus-4.at`"),
    ] {
        let run = Sandbox::new(&policy("2026-12-01").replace(from, to), REGISTRY).run(&["check"]).expect(1);
        assert!(run.stdout.contains(told), "{to}: {run:?}");
    }
}
