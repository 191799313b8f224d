//! Reconciling a registry that a running daemon owns: every row of the table of what the daemon is doing, and every
//! trap that it sets.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::handle::Double;
use crate::slow::{Running, until};
use crate::support::{Sandbox, row, write_ledger};

pub const REGISTRY: &str = include_str!("../dispatch/sessions.json");

/// Runs opus, and should run sonnet.
pub const CAL: &str = "+16175550103";
/// Runs opus, and should run haiku.
pub const BOT: &str = "+16175550107";
/// Has no model, and should run opus, which is what the daemon starts anyway.
const BEA: &str = "+16175550102";
/// Has no model, and should run sonnet.
const ELI: &str = "signal:+16175550105";
const GROUP: &str = "b3d258b9a4de447ca412eb335c82a077";

pub const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "sonnet"

[tiers]
admin    = "opus"
wife     = "opus"
family   = "sonnet"
favorite = "sonnet"
bots     = "haiku"
unknown  = "haiku"

[registry]
path = "sessions.json"

[rollout]
min_healthy = "0s"

[sessions]
backend = "dispatch"
socket  = "daemon.sock"
timeout = "2s"
drain   = "300ms"
"#;

pub fn sandbox() -> Sandbox {
    Sandbox::new(POLICY, REGISTRY)
}

/// A daemon on the sandbox's registry, with these sessions live and idle.
pub fn daemon(sandbox: &Sandbox, live: &[&str]) -> Double {
    let arguments: Vec<&str> = live.iter().flat_map(|chat| ["--live", *chat]).collect();
    Double::start(&sandbox.path(""), &arguments)
}

/// The commands that the daemon was sent, without those that only read.
pub fn changes(daemon: &Double) -> Vec<Value> {
    let reads = |request: &Value| ["status", "get_global_model"].iter().any(|read| request["cmd"] == *read);
    daemon.requests().into_iter().filter(|request| !reads(request)).collect()
}

pub fn set_model(chat: &str, model: &str) -> Value {
    json!({ "cmd": "set_model", "chat_id": chat, "model": model })
}

/// What became of a chat in a run: outcome and detail.
pub fn became<'r>(report: &'r Value, chat: &str) -> (&'r str, &'r str) {
    let row = row(report, chat);
    (row["outcome"].as_str().unwrap(), row["detail"].as_str().unwrap_or_default())
}

pub fn has_row(report: &Value, chat: &str) -> bool {
    report["changes"].as_array().unwrap().iter().any(|row| row["chat_id"] == chat)
}

/// Leaves a debt as an earlier run would, about the run of the session that began at `session`.
pub fn owe(sandbox: &Sandbox, chat: &str, session: &str) {
    owe_until(sandbox, chat, session, None);
}

/// Leaves a debt that waits until its next try.
pub fn owe_until(sandbox: &Sandbox, chat: &str, session: &str, next_try: Option<&str>) {
    let mut debt = json!({ "since": "2026-03-01T04:10:00Z", "began": true, "attempts": 0, "run": session });
    if let Some(next_try) = next_try {
        debt["next_try"] = json!(next_try);
    }
    write_ledger(&sandbox.path("sessions.json.reconcile"), json!({ "owed": { chat: debt } }));
}

#[test]
fn a_running_session_is_changed_and_restarted_by_the_daemon() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL), ("done", ""));
    assert_eq!(changes(&daemon), [set_model(CAL, "sonnet")]);
    assert_eq!((&daemon.truth(CAL)["model"], &daemon.truth(CAL)["starts"]), (&json!("sonnet"), &json!(2)));
    assert_eq!(sandbox.model(CAL).as_deref(), Some("sonnet"));
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    daemon.tell(&format!("turn-ends {CAL}"));
    assert!(!has_row(&sandbox.json(&["--dry-run"]), CAL));
}

#[test]
fn a_dry_run_predicts_every_row_and_only_reads() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL, BOT, ELI]);
    daemon.tell(&format!("busy {BOT}"));
    let report = sandbox.json(&["--dry-run"]);
    assert_eq!(became(&report, CAL), ("planned", "tried first: the others on sonnet wait until it has come up"));
    assert_eq!(became(&report, BOT), ("planned", "busy: the run waits for it"));
    assert_eq!(became(&report, GROUP).0, "unmanaged");
    assert!(became(&report, "+16175550108").1.starts_with("not live"), "{report:#}");
    assert!(!has_row(&report, BEA), "the daemon runs it on opus anyway");
    assert_eq!(changes(&daemon), Vec::<Value>::new());
    assert!(!sandbox.path("sessions.json.reconcile").exists());
    // And that is what happens.
    daemon.tell(&format!("turn-ends {BOT}"));
    let applied = sandbox.json(&[]);
    assert_eq!(applied["plan_id"], report["plan_id"]);
    let mut changed = changes(&daemon);
    changed.sort_by_key(ToString::to_string);
    assert_eq!(changed, [set_model(CAL, "sonnet"), set_model(BOT, "haiku"), set_model(ELI, "sonnet")]);
    assert_eq!(became(&applied, CAL), ("done", ""));
}

#[test]
fn a_session_that_is_not_live_is_never_woken() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[]);
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL).0, "deferred");
    assert_eq!(changes(&daemon), Vec::<Value>::new());
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 4 deferred, 1 not managed, 5 in sync.");
}

#[test]
fn a_young_session_keeps_its_conversation() {
    let sandbox = sandbox();
    let daemon = Double::start(&sandbox.path(""), &["--young", CAL]);
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL).0, "deferred");
    assert!(became(&report, CAL).1.starts_with("starting"));
    assert_eq!(daemon.truth(CAL)["starts"], 1);
    daemon.tell(&format!("turn-ends {CAL}"));
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
}

#[test]
fn a_busy_session_is_waited_for_and_then_deferred() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    for busy in [format!("busy {CAL}"), format!("queue {CAL} 2")] {
        daemon.tell(&busy);
        let report = sandbox.json(&[]);
        assert_eq!(became(&report, CAL), ("deferred", "still busy when the run stopped waiting"), "{busy}");
        assert_eq!(sandbox.ledger()["owed"].get(CAL), None, "what was not sent is not owed");
        daemon.tell(&format!("turn-ends {CAL}"));
    }
    assert_eq!(daemon.truth(CAL)["starts"], 1);

    daemon.tell(&format!("busy {CAL}"));
    daemon.tell(&format!("after 3 status turn-ends {CAL}"));
    sandbox.write("policy.toml", POLICY.replace("300ms", "60s"));
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    assert_eq!(daemon.truth(CAL)["replies_cut"], 0);
}

#[test]
fn whoever_must_be_waited_for_comes_last() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", POLICY.replace("\"300ms\"", "\"5s\"\nparallel = 1"));
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    daemon.tell(&format!("busy {CAL}"));
    daemon.tell(&format!("after 1 set_model turn-ends {CAL}"));
    sandbox.json(&[]);
    assert_eq!(changes(&daemon), [set_model(BOT, "haiku"), set_model(CAL, "sonnet")]);
}

#[test]
fn an_interrupted_run_waits_for_nobody() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", POLICY.replace("300ms", "1h"));
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell(&format!("busy {CAL}"));
    let mut run = Running::start(&mut sandbox.command(&["--format", "json"]));
    // Once for the plan, and then again and again.
    until("the run waits", || daemon.requests().iter().filter(|request| request["cmd"] == "status").count() > 3);
    run.signal(Signal::TERM);
    let report: Value = serde_json::from_str(&run.finish().expect(4).stdout).unwrap();
    assert_eq!(became(&report, CAL), ("deferred", "interrupted"));
    assert_eq!(changes(&daemon), Vec::<Value>::new());
}

#[test]
fn a_group_is_left_alone_whoever_writes() {
    let sandbox = sandbox();
    let down = sandbox.json(&["--dry-run"]);
    let daemon = daemon(&sandbox, &[GROUP]);
    let up = sandbox.json(&[]);
    for report in [down, up] {
        assert_eq!(became(&report, GROUP), ("unmanaged", "the daemon drops a group's model at every start"));
    }
    assert_eq!(changes(&daemon), Vec::<Value>::new());
}

#[test]
fn a_chat_that_is_not_registered_is_not_registered_by_a_policy() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", format!("{POLICY}\n[chats]\n\"+15550009999\" = \"haiku\"\n"));
    let daemon = daemon(&sandbox, &[CAL]);
    assert!(!has_row(&sandbox.json(&[]), "+15550009999"));
    assert_eq!(changes(&daemon), [set_model(CAL, "sonnet")]);
}

#[test]
fn a_model_that_an_override_left_behind_is_corrected() {
    let sandbox = sandbox();
    sandbox.write("sessions.json", REGISTRY.replace("\"model\": \"sonnet\"", "\"model\": \"haiku\""));
    let dee = "+16175550104";
    let daemon = daemon(&sandbox, &[dee]);
    assert_eq!(became(&sandbox.json(&[]), dee), ("done", ""));
    assert_eq!(daemon.truth(dee)["model"], "sonnet");
}

#[test]
fn under_the_global_override_nothing_is_restarted() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell("override haiku");
    assert_eq!(became(&sandbox.json(&["--dry-run"]), CAL).0, "deferred");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL).0, "deferred");
    assert!(became(&report, CAL).1.contains("global override is on (haiku)"), "{report:#}");

    // It may be set between the plan and the change: it is read again.
    daemon.tell("override --clear");
    daemon.tell("after 2 get_global_model override haiku");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL).0, "deferred", "{report:#}");
    assert_eq!(changes(&daemon), Vec::<Value>::new());
}

#[test]
fn a_session_that_changes_between_plan_and_restart_is_looked_at_again() {
    for (event, why) in [("kill", "its session is no longer live"), ("busy", "still busy when the run stopped waiting")]
    {
        let sandbox = sandbox();
        let daemon = daemon(&sandbox, &[CAL]);
        daemon.tell(&format!("after 2 get_global_model {event} {CAL}"));
        assert_eq!(became(&sandbox.json(&[]), CAL), ("deferred", why));
        assert_eq!(changes(&daemon), Vec::<Value>::new(), "{event}");
    }
}

#[test]
fn a_model_that_the_daemon_does_not_know_is_refused_in_the_plan() {
    let sandbox = sandbox();
    let policy =
        POLICY.replace("\"haiku\"]", "\"haiku\", \"gpt-9\"]").replace("family   = \"sonnet\"", "family   = \"gpt-9\"");
    sandbox.write("policy.toml", policy);
    assert_eq!(became(&sandbox.json(&["--dry-run"]), CAL).0, "refused", "while the daemon is down");
    let daemon = daemon(&sandbox, &[CAL]);
    sandbox.run(&["--dry-run"]).expect(4);
    sandbox.run(&[]).expect(4);
    assert_eq!(changes(&daemon), Vec::<Value>::new());
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"));

    let check = sandbox.run(&["check"]).expect(1).stdout;
    assert!(check.contains("no session can have the model of `tiers.family`: the daemon supports opus"), "{check}");
    assert!(check.contains("policy.toml:9:"), "{check}");
    sandbox.write("policy.toml", POLICY);
    sandbox.run(&["check"]).expect(0);
}

#[test]
fn what_the_daemon_has_not_saved_yet_is_not_done_again() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell("hold-saves");
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", "not yet saved"));
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"));
    daemon.tell(&format!("turn-ends {CAL}"));
    assert!(!has_row(&sandbox.json(&[]), CAL), "in sync as long as it is the same run of the session");
    assert_eq!(daemon.truth(CAL)["starts"], 2);
    daemon.tell("flush");
    assert!(!has_row(&sandbox.json(&[]), CAL));
    assert_eq!(sandbox.model(CAL).as_deref(), Some("sonnet"));
    assert_eq!(sandbox.ledger().get("unsaved"), None, "what was saved need not be remembered");
}

#[test]
fn a_model_that_nobody_runs_is_tried_on_one_session_first() {
    let sandbox = sandbox();
    let everybody =
        POLICY.replace("\"sonnet\"\nbots", "\"haiku\"\nbots").replace("family   = \"sonnet\"", "family   = \"haiku\"");
    sandbox.write("policy.toml", everybody);
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    daemon.tell(&format!("start dies {CAL}"));
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL).0, "failed", "{report:#}");
    assert_eq!(became(&report, BOT), ("deferred", format!("canary failed: haiku did not come up on {CAL}").as_str()));
    assert_eq!(changes(&daemon), [set_model(CAL, "haiku"), set_model(CAL, "opus")]);
    assert_eq!((sandbox.ledger()["owed"].get(BOT), &report["summary"]["owed"]), (None, &json!(0)));
}

#[test]
fn a_model_that_made_a_session_ill_is_not_spread_by_the_next_run() {
    let sandbox = sandbox();
    let policy = POLICY.replace("family   = \"sonnet\"", "family   = \"haiku\"").replace("\"2s\"", "\"1s\"");
    sandbox.write("policy.toml", policy);
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    daemon.tell(&format!("start unhealthy {CAL}"));
    assert_eq!(became(&sandbox.json(&[]), CAL).0, "failed");
    for chat in [CAL, BOT] {
        daemon.tell(&format!("turn-ends {chat}"));
    }
    for _ in 0..2 {
        let report = sandbox.json(&[]);
        let why = format!("haiku did not come up on {CAL}, and is tried there first");
        assert_eq!(became(&report, BOT), ("deferred", why.as_str()), "{report:#}");
    }
    assert_eq!(changes(&daemon), [set_model(CAL, "haiku")]);
    assert_eq!(became(&sandbox.json(&["--retry", BOT]), BOT), ("done", ""), "unless the user says so");
}

#[test]
fn a_session_that_owes_a_restart_proves_no_model() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", POLICY.replace("family   = \"sonnet\"", "family   = \"haiku\""));
    let mut registry: Value = serde_json::from_str(REGISTRY).unwrap();
    registry[BOT]["model"] = json!("haiku");
    sandbox.write("sessions.json", registry.to_string());
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    owe(&sandbox, BOT, daemon.status(BOT)["created_at"].as_str().unwrap());
    daemon.tell(&format!("start dies {CAL}"));
    let report = sandbox.json(&[]);
    assert_eq!(
        became(&report, BOT),
        ("deferred", format!("canary failed: haiku did not come up on {CAL}").as_str()),
        "{report:#}"
    );
}

#[test]
fn a_young_session_is_young_whoever_is_ill() {
    let sandbox = sandbox();
    let policy = POLICY.replace("family   = \"sonnet\"", "family   = \"haiku\"").replace("\"2s\"", "\"1s\"");
    sandbox.write("policy.toml", policy);
    let daemon = Double::start(&sandbox.path(""), &["--live", CAL, "--young", BOT]);
    daemon.tell(&format!("start unhealthy {CAL}"));
    assert_eq!(became(&sandbox.json(&[]), CAL).0, "failed");
    daemon.tell(&format!("turn-ends {CAL}"));
    let report = sandbox.json(&[]);
    assert!(became(&report, BOT).1.starts_with("starting: "), "{report:#}");
}

#[test]
fn an_unhealthy_session_is_a_failed_restart() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", POLICY.replace("\"2s\"", "\"1s\""));
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell(&format!("start unhealthy {CAL}"));
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, CAL).0, "failed", "{report:#}");
    assert!(became(&report, CAL).1.contains("not healthy"), "{report:#}");
    assert_eq!((&report["summary"]["changed"], &report["summary"]["restarted"]), (&json!(1), &json!(0)));

    // Whether the file has it yet is not what matters then.
    let sandbox = self::sandbox();
    sandbox.write("policy.toml", POLICY.replace("\"2s\"", "\"1s\""));
    let daemon = self::daemon(&sandbox, &[CAL]);
    daemon.tell(&format!("start unhealthy {CAL}"));
    daemon.tell("hold-saves");
    let report = sandbox.json(&[]);
    assert!(became(&report, CAL).1.contains("not healthy"), "{report:#}");
}

#[test]
fn the_text_says_what_the_daemon_is_doing() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    daemon.tell(&format!("busy {BOT}"));
    let run = sandbox.run(&["--dry-run"]).expect(0);
    for told in ["| busy: the run waits for it", "| not live: it wakes on its old model", "not managed", "restart"] {
        assert!(run.stdout.contains(told), "{told}: {run:#?}");
    }
}

#[test]
fn the_tier_of_a_live_session_counts_before_the_file_has_it() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    // By the file it is family, which is to run sonnet.
    daemon.tell(&format!("tier {CAL} admin"));
    daemon.tell(&format!("tier {BOT} family"));
    let report = sandbox.json(&[]);
    assert!(!has_row(&report, CAL), "an admin's session runs opus: {report:#}");
    assert_eq!((&row(&report, BOT)["tier"], became(&report, BOT)), (&json!("family"), ("done", "")));
    assert_eq!(changes(&daemon), [set_model(BOT, "sonnet")]);
    let selected = sandbox.run(&["--dry-run", "--tier", "admin"]).expect(0);
    assert!(selected.stdout.contains("partial: 3 selected"), "{selected:#?}");
    drop(daemon);
    assert_eq!(became(&sandbox.json(&["--dry-run"]), CAL).0, "planned", "while it is down the file is all there is");
}

#[test]
fn a_live_session_that_the_file_does_not_have_is_told_of() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell("new +15550009999 family unlisted");
    daemon.tell("turn-ends +15550009999");
    let told = "1 live session is not in the registry yet: +15550009999";
    for arguments in [&["--dry-run"][..], &[]] {
        let run = sandbox.run(arguments).expect(0);
        assert!(run.stderr.contains(told), "{run:#?}");
    }
    let run = sandbox.run(&["--dry-run", "--redact"]);
    assert!(!run.stderr.contains("9999"), "{run:#?}");
    assert_eq!(changes(&daemon), [set_model(CAL, "sonnet")], "it is not registered by a request for its model");
    daemon.tell("check-health");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, "+15550009999"), ("done", ""), "{report:#}");
    assert!(!sandbox.run(&[]).expect(0).stderr.contains("not in the registry"));
}

/// The daemon starts a session anew by itself.
fn restart(daemon: &Double, chat: &str, by: &str) {
    daemon.tell(&format!("kill {chat}"));
    daemon.tell("advance 1");
    daemon.tell(&format!("{by} {chat}"));
    daemon.tell(&format!("turn-ends {chat}"));
}

#[test]
fn a_session_that_started_under_the_global_override_is_restarted_when_that_has_ended() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    sandbox.json(&[]);
    for chat in [CAL, BOT] {
        daemon.tell(&format!("turn-ends {chat}"));
    }
    daemon.tell("override opus");
    // One before a run sees the override, and one after.
    restart(&daemon, CAL, "young");
    sandbox.run(&[]).expect(0);
    restart(&daemon, BOT, "young");
    daemon.tell("override --clear");
    daemon.tell("flush");
    let model = |chat| (daemon.truth(chat)["model"].clone(), sandbox.model(chat).unwrap());
    assert_eq!(model(CAL), (json!("opus"), "sonnet".to_owned()), "the file agrees with the policy");

    let sent = changes(&daemon).len();
    let dry = sandbox.json(&["--dry-run"]);
    assert_eq!(became(&dry, CAL).0, "planned", "{dry:#}");
    let report = sandbox.json(&[]);
    for (chat, wanted) in [(CAL, "sonnet"), (BOT, "haiku")] {
        assert_eq!(became(&report, chat).0, "done", "{report:#}");
        assert_eq!((&row(&report, chat)["edit"], model(chat)), (&json!(false), (json!(wanted), wanted.to_owned())));
        daemon.tell(&format!("turn-ends {chat}"));
    }
    assert_eq!(changes(&daemon).len(), sent + 2);
    for _ in 0..2 {
        let report = sandbox.json(&[]);
        assert!(!has_row(&report, CAL) && !has_row(&report, BOT), "{report:#}");
    }
    assert_eq!(changes(&daemon).len(), sent + 2);
}

#[test]
fn what_an_override_wrote_into_entries_does_not_count_against_the_limit_where_the_decision_was_confirmed() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    sandbox.run(&["--exclude", BOT]).expect(0);
    daemon.tell("override opus");
    daemon.tell(&format!("turn-ends {CAL}"));
    sandbox.run(&[]).expect(0);
    for _ in 0..4 {
        restart(&daemon, CAL, "wake");
    }
    daemon.tell("override --clear");
    daemon.tell("flush");
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"), "a message has woken it under the override");
    let limit = |changes: usize| sandbox.write("policy.toml", format!("{POLICY}\n[limits]\nmax_changes = {changes}\n"));
    limit(0);
    // The other one was never confirmed.
    sandbox.run(&["--dry-run"]).expect(3);
    limit(1);
    let report = sandbox.json(&[]);
    assert_eq!((became(&report, CAL), became(&report, BOT)), (("done", ""), ("done", "")), "{report:#}");
    assert_eq!(sandbox.ledger()["corrected"][CAL]["changed_back"], json!([]), "nothing has changed it back");
}

#[test]
fn with_keep_manual_the_daemons_own_command_makes_a_choice_and_an_override_makes_none() {
    let sandbox = sandbox();
    let policy = POLICY.replace("[registry]", "[registry]\nexisting = \"keep-manual\"");
    assert_ne!(policy, POLICY);
    sandbox.write("policy.toml", &policy);
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    sandbox.run(&["--take-over-all"]).expect(0);
    daemon.tell(&format!("turn-ends {CAL}"));
    daemon.tell(&format!("turn-ends {BOT}"));
    daemon.tell("override opus");
    sandbox.run(&[]).expect(0);
    restart(&daemon, CAL, "wake");
    daemon.tell("override --clear");
    daemon.tell("flush");
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"), "a message has woken it under the override");
    let report = sandbox.json(&["--dry-run"]);
    assert_eq!(became(&report, CAL), ("planned", ""), "{report:#}");
}
