//! Models on which the daemon cannot start a session: one session is tried, put back, and tried again later; no other is
//! taken down.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::dispatch::{became, changes, set_model};
use crate::handle::Double;
use crate::support::{Sandbox, registry, row};

const CHATS: [&str; 4] = ["ada", "ben", "cal", "dan"];

const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "haiku"

[registry]
path = "sessions.json"

[rollout]
min_healthy = "0s"

[sessions]
backend = "dispatch"
socket  = "daemon.sock"
timeout = "1s"
drain   = "300ms"
"#;

/// Four chats on opus that should run haiku, all of them live.
fn world() -> (Sandbox, Double) {
    world_of(&CHATS.map(|chat| (chat, "opus")))
}

fn world_of(chats: &[(&str, &str)]) -> (Sandbox, Double) {
    let entries: Vec<_> = chats.iter().map(|(chat, model)| (*chat, "family", *model)).collect();
    let sandbox = Sandbox::new(POLICY, &registry(&entries));
    let live: Vec<&str> = chats.iter().flat_map(|(chat, _)| ["--live", *chat]).collect();
    let daemon = Double::start(&sandbox.path(""), &live);
    (sandbox, daemon)
}

/// What each session runs; none of a chat whose session is not live.
fn models(daemon: &Double) -> Vec<Value> {
    CHATS.iter().map(|chat| daemon.truth(chat)["model"].clone()).collect()
}

/// Lets the next try of what failed be due, as time does, and the daemon forget its restarts.
fn later(sandbox: &Sandbox, daemon: &Double) {
    let past = (Timestamp::now() - SignedDuration::from_hours(1)).to_string();
    sandbox.amend_ledger(&|ledger| {
        for kind in ["owed", "failed"] {
            for (_, kept) in ledger[kind].as_object_mut().into_iter().flatten() {
                if kept.get("next_try").is_some() {
                    kept["next_try"] = json!(past);
                }
            }
        }
    });
    let mut pending: Value = serde_json::from_str(&sandbox.read("sessions.json.reconcile/pending.json")).unwrap();
    for (_, times) in pending["restarts"].as_object_mut().into_iter().flatten() {
        *times = json!([past]);
    }
    sandbox.write("sessions.json.reconcile/pending.json", pending.to_string());
    daemon.tell("advance 1300");
}

#[test]
fn a_model_that_cannot_start_takes_one_session_down_which_is_put_back() {
    let (sandbox, daemon) = world();
    daemon.tell("starts fails haiku");
    let id = daemon.status("ada")["session_id"].clone();
    let report = sandbox.json(&[]);
    let why = "reverted to opus: the daemon could not start it: The session did not start";
    assert_eq!(became(&report, "ada"), ("failed", why), "{report:#}");
    for chat in &CHATS[1..] {
        assert_eq!(became(&report, chat), ("deferred", "canary failed: haiku did not come up on ada"));
    }
    assert_eq!(models(&daemon), ["opus"; 4]);
    assert_eq!(daemon.truth("ada")["resumed"], id, "with its conversation");
    assert_eq!(changes(&daemon), [set_model("ada", "haiku"), set_model("ada", "opus")]);
    let summary = &report["summary"];
    assert_eq!([&summary["changed"], &summary["restarted"], &summary["failed"], &summary["owed"]], [0, 0, 1, 0]);

    // Run after run, as cron makes them, nothing is in sync and no session goes down.
    for _ in 0..8 {
        let run = sandbox.run(&["--format", "json"]).expect(4);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        for chat in CHATS {
            assert_eq!(became(&report, chat).0, "deferred");
        }
    }
    assert_eq!(changes(&daemon).len(), 2);
    assert_eq!(models(&daemon), ["opus"; 4]);
}

#[test]
fn a_model_that_failed_is_tried_again_where_it_failed_and_then_on_the_others() {
    let (sandbox, daemon) = world();
    daemon.tell("starts fails haiku");
    sandbox.run(&[]).expect(4);
    daemon.tell("turn-ends ada");
    later(&sandbox, &daemon);
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, "ada").0, "failed", "{report:#}");
    assert_eq!((&sandbox.ledger()["failed"]["ada"]["attempts"], models(&daemon)), (&json!(2), vec![json!("opus"); 4]));

    daemon.tell("turn-ends ada");
    daemon.tell("starts well haiku");
    later(&sandbox, &daemon);
    let report = sandbox.json(&[]);
    for chat in CHATS {
        assert_eq!(became(&report, chat), ("done", ""), "{report:#}");
    }
    assert_eq!(models(&daemon), ["haiku"; 4]);
    assert_eq!(sandbox.ledger()["failed"], json!({}));
}

#[test]
fn a_model_on_which_others_run_stops_the_rollout_at_the_first_failure() {
    let (sandbox, daemon) = world_of(&[("ada", "opus"), ("ben", "opus"), ("cal", "opus"), ("dan", "haiku")]);
    daemon.tell("starts fails haiku");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, "ada").0, "failed", "{report:#}");
    assert_eq!(became(&report, "ben"), ("deferred", "rollout stopped after 1 failure"));
    assert_eq!(models(&daemon), ["opus", "opus", "opus", "haiku"]);
}

#[test]
fn a_session_without_a_turn_since_its_start_proves_no_model() {
    let (sandbox, daemon) = world_of(&[("ada", "opus"), ("ben", "opus"), ("dan", "haiku")]);
    daemon.tell("kill dan");
    daemon.tell("young dan");
    let tried = "tried first: the others on haiku wait until it has come up";
    assert_eq!(became(&sandbox.json(&["--dry-run"]), "ada"), ("planned", tried));
    daemon.tell("turn-ends dan");
    assert_eq!(became(&sandbox.json(&["--dry-run"]), "ada"), ("planned", ""));
}

#[test]
fn a_session_that_is_gone_after_the_reply_is_put_back() {
    for (how, why) in [
        ("vanishes", "the daemon said ok, but no session is alive"),
        ("dies", "the daemon said ok, but no session is alive"),
    ] {
        let (sandbox, daemon) = world();
        daemon.tell(&format!("start {how} ada"));
        let report = sandbox.json(&["--chat", "ada"]);
        assert_eq!(became(&report, "ada"), ("failed", format!("reverted to opus: {why}").as_str()), "{how}");
        assert_eq!(models(&daemon), ["opus"; 4]);
    }
}

#[test]
fn a_session_that_dies_soon_after_it_came_up_is_put_back() {
    let (sandbox, daemon) = world();
    sandbox.write("policy.toml", POLICY.replace("\"0s\"", "\"500ms\""));
    // After the looks of the plan, before the change and after it.
    daemon.tell("after 4 status kill ada");
    let report = sandbox.json(&["--chat", "ada"]);
    let why = "reverted to opus: the session stopped within 500ms of coming up";
    assert_eq!(became(&report, "ada"), ("failed", why), "{report:#}");
    assert_eq!(models(&daemon), ["opus"; 4]);
}

#[test]
fn a_lost_reply_and_a_session_that_is_gone_are_a_failed_start() {
    let (sandbox, daemon) = world();
    daemon.tell("starts fails haiku");
    daemon.tell("close-without-reply set_model");
    let report = sandbox.json(&[]);
    assert!(became(&report, "ada").1.starts_with("reverted to opus: "), "{report:#}");
    assert_eq!(models(&daemon), ["opus"; 4]);
}

#[test]
fn auto_revert_can_be_turned_off_and_the_failure_stands_all_the_same() {
    let (sandbox, daemon) = world();
    sandbox.write("policy.toml", POLICY.replace("min_healthy", "auto_revert = false\nmin_healthy"));
    daemon.tell("starts fails haiku");
    sandbox.run(&[]).expect(4);
    assert_eq!(daemon.status("ada"), Value::Null);
    // That its session is no longer live is what the attempt came to.
    let run = sandbox.run(&["--format", "json"]).expect(4);
    assert!(!run.stderr.contains("void"), "{}", run.stderr);
    assert_eq!(sandbox.ledger()["owed"]["ada"]["attempts"], 1);
    assert_eq!(changes(&daemon).len(), 1);
    daemon.tell("starts well haiku");
    later(&sandbox, &daemon);
    // It is put back first, even if the policy wants another model next.
    sandbox.json(&[]);
    assert!(!daemon.status("ada").is_null());
}

#[test]
fn a_revert_that_the_breaker_refuses_is_made_later_and_before_the_model_is_tried_again() {
    let (sandbox, daemon) = world();
    daemon.tell("starts fails haiku");
    // Something else has used up the restarts but one.
    daemon.tell("after 1 set_model trip-breaker ada");
    let report = sandbox.json(&[]);
    let (outcome, detail) = became(&report, "ada");
    assert_eq!(outcome, "failed", "{report:#}");
    assert!(detail.contains("3 restarts of a chat in 20 minutes"), "{detail}");
    assert_eq!((daemon.status("ada"), &sandbox.ledger()["failed"]["ada"]["model"]), (Value::Null, &json!("haiku")));

    // The daemon has noted the old model, and the file may lag.
    for flush in [false, true] {
        if flush {
            daemon.tell("flush");
        }
        let waiting = sandbox.json(&[]);
        assert_eq!(became(&waiting, "ada").0, "deferred", "{waiting:#}");
    }
    later(&sandbox, &daemon);
    sandbox.json(&[]);
    assert_eq!(changes(&daemon).last(), Some(&set_model("ada", "opus")));
    assert_eq!(models(&daemon), ["opus"; 4]);
    assert_eq!(sandbox.ledger()["failed"]["ada"]["model"], "haiku", "which is still remembered");
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

#[test]
fn a_revert_that_fails_too_is_told_and_stays_owed() {
    let (sandbox, daemon) = world();
    daemon.tell("starts fails haiku");
    daemon.tell("starts fails opus ada");
    let report = sandbox.json(&[]);
    let (outcome, detail) = became(&report, "ada");
    assert!(outcome == "failed" && detail.contains("on which it did not come up either"), "{detail}");
    assert_eq!(report["summary"]["owed"], 1);
    for _ in 0..3 {
        later(&sandbox, &daemon);
        let report = sandbox.json(&[]);
        assert_eq!(became(&report, "ada").0, "failed", "{report:#}");
        assert_eq!(
            changes(&daemon).last(),
            Some(&set_model("ada", "opus")),
            "the model is not tried on a session that is down"
        );
        for chat in &CHATS[1..] {
            assert_eq!(became(&report, chat).0, "deferred");
        }
    }
    daemon.tell("starts well opus ada");
    later(&sandbox, &daemon);
    sandbox.json(&[]);
    assert_eq!(models(&daemon), ["opus"; 4]);
}

#[test]
fn a_refusal_of_the_breaker_says_nothing_of_the_model() {
    let (sandbox, daemon) = world();
    daemon.tell("trip-breaker ada");
    let report = sandbox.json(&[]);
    assert_eq!(became(&report, "ada").0, "failed");
    assert!(became(&report, "ada").1.contains("3 restarts of a chat in 20 minutes"), "{report:#}");
    for chat in &CHATS[1..] {
        assert_eq!(became(&report, chat), ("done", ""), "{report:#}");
    }
    assert_eq!((&sandbox.ledger()["failed"], models(&daemon)[0].clone()), (&json!({}), json!("opus")));
}

#[test]
fn a_model_is_tried_only_while_there_are_restarts_left_to_put_the_session_back() {
    let (sandbox, daemon) = world_of(&[("ada", "opus")]);
    let move_to = |model: &str| {
        sandbox.write("policy.toml", POLICY.replace("fallback = \"haiku\"", &format!("fallback = {model:?}")));
        let report = sandbox.json(&[]);
        daemon.tell("turn-ends ada");
        report
    };
    assert_eq!(became(&move_to("sonnet"), "ada"), ("done", ""));
    assert_eq!(became(&move_to("opus"), "ada"), ("done", ""));
    let report = move_to("haiku");
    let (outcome, detail) = became(&report, "ada");
    assert!(outcome == "deferred" && detail.contains("2 times in the last 20 minutes"), "{detail}");
    assert_eq!(became(&sandbox.json(&["--retry", "ada"]), "ada"), ("done", ""), "unless the user says so");
}

#[test]
fn an_unhealthy_session_that_could_not_go_on_with_its_conversation_is_not_put_back() {
    let (sandbox, daemon) = world();
    daemon.tell("start unhealthy ada");
    let report = sandbox.json(&[]);
    let (outcome, detail) = became(&report, "ada");
    assert_eq!((outcome, daemon.truth("ada")["starts"].clone()), ("failed", json!(2)), "{detail}");
    assert!(detail.contains("not healthy") && detail.contains("not reverted to opus"), "{detail}");
    assert_eq!(daemon.truth("ada")["conversation_lost"], false);
    assert_eq!(row(&report, "ben")["outcome"], "deferred");
}

#[test]
fn a_session_that_came_up_late_after_all_clears_its_model() {
    let (sandbox, daemon) = world();
    daemon.tell("start unhealthy ada");
    sandbox.run(&[]).expect(4);
    // It works by now, though no run has started it.
    daemon.tell("recover ada");
    daemon.tell("turn-ends ada");
    daemon.tell("flush");
    let report = sandbox.json(&[]);
    for chat in &CHATS[1..] {
        assert_eq!(became(&report, chat), ("done", ""), "{report:#}");
    }
    assert_eq!((sandbox.run(&[]).code, &sandbox.ledger()["failed"]), (0, &json!({})));
    assert_eq!(daemon.truth("ada")["starts"], 2);
}

#[test]
fn a_daemon_that_dies_before_it_replies_is_found_out_by_later_runs() {
    let (sandbox, mut daemon) = world_of(&[("ada", "opus")]);
    daemon.tell("after 1 set_model die");
    let report = sandbox.json(&[]);
    assert_eq!((became(&report, "ada").0, &report["summary"]["owed"]), ("unknown", &json!(1)), "{report:#}");
    assert!(daemon.has_ended());
    // Nothing more can be known while it is down.
    let down = sandbox.run(&["--format", "json"]).expect(4);
    let down: Value = serde_json::from_str(&down.stdout).unwrap();
    assert_eq!(became(&down, "ada").0, "deferred", "{down:#}");

    let daemon = Double::start(&sandbox.path(""), &["--live", "ada"]);
    assert!(sandbox.run(&[]).expect(0).stdout.contains("No changes."));
    assert_eq!((&daemon.truth("ada")["model"], &daemon.truth("ada")["starts"]), (&json!("haiku"), &json!(1)));
    assert_eq!((&sandbox.ledger()["failed"], &sandbox.ledger()["owed"]), (&json!({}), &json!({})));
}
