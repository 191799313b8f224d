//! What a run owes to sessions of a running daemon: by which run of the session, until when, and what meets it.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::dispatch::{CAL, POLICY, REGISTRY, became, changes, daemon, owe, owe_until, sandbox, set_model};
use crate::support::row;

#[test]
fn a_restart_that_the_breaker_refuses_stays_owed() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell(&format!("trip-breaker {CAL}"));
    let starts = daemon.truth(CAL)["starts"].clone();
    sandbox.run(&[]).expect(4);
    assert_eq!(sandbox.ledger()["owed"][CAL]["attempts"], 1);
    assert_eq!(daemon.truth(CAL)["starts"], starts);
    // The registry has changed by now, and looks in sync. The debt knows better, and waits.
    daemon.tell("flush");
    assert_eq!(sandbox.model(CAL).as_deref(), Some("sonnet"));
    let waiting = sandbox.json(&[]);
    assert_eq!((became(&waiting, CAL).0, &row(&waiting, CAL)["owed"]), ("deferred", &json!(true)));
    daemon.tell("advance 1300");
    let report = sandbox.json(&["--retry", CAL]);
    assert_eq!(became(&report, CAL), ("done", ""), "{report:#}");
    assert_eq!(changes(&daemon).last(), Some(&set_model(CAL, "sonnet")), "only set_model is ever sent");
    assert_eq!(sandbox.ledger()["owed"], json!({}));
    assert_eq!(daemon.truth(CAL)["model"], "sonnet");
}

#[test]
fn a_lost_reply_is_no_lost_restart() {
    for lost in ["reply-never", "reply-cut 7", "close-without-reply"] {
        let sandbox = sandbox();
        sandbox.write("policy.toml", POLICY.replace("\"2s\"", "\"1500ms\""));
        let daemon = daemon(&sandbox, &[CAL]);
        daemon.tell(&format!("{lost} set_model"));
        assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""), "{lost}");
        assert_eq!(daemon.truth(CAL)["starts"], 2, "{lost}");
        assert_eq!(sandbox.ledger()["owed"], json!({}), "{lost}");
    }
}

#[test]
fn what_nobody_can_tell_is_unknown_and_asked_for_again() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", POLICY.replace("\"2s\"", "\"1s\""));
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell("ignore-next set_model");
    let report: Value = serde_json::from_str(&sandbox.run(&["--format", "json"]).expect(4).stdout).unwrap();
    assert_eq!(became(&report, CAL).0, "unknown", "{report:#}");
    let debt = sandbox.ledger()["owed"][CAL].clone();
    assert_eq!((&debt["attempts"], &debt["run"]), (&json!(0), &daemon.status(CAL)["created_at"]));
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    assert_eq!(daemon.truth(CAL)["starts"], 2);
}

#[test]
fn a_debt_is_met_by_any_new_run_of_the_session_and_by_nothing_else() {
    let sandbox = sandbox();
    sandbox.write("sessions.json", REGISTRY.replace("\"model\": \"opus\"", "\"model\": \"sonnet\""));
    let daemon = daemon(&sandbox, &[CAL]);
    owe(&sandbox, CAL, "2026-01-01T00:00:00");
    let run = sandbox.run(&["--chat", CAL]).expect(0);
    assert!(run.stderr.contains("its session was started again since"), "{run:#?}");
    assert_eq!(sandbox.ledger()["owed"], json!({}));

    fs::remove_dir_all(sandbox.path("sessions.json.reconcile")).unwrap();
    owe(&sandbox, CAL, daemon.status(CAL)["created_at"].as_str().unwrap());
    let report = sandbox.json(&["--chat", CAL]);
    assert_eq!((became(&report, CAL), &row(&report, CAL)["edit"]), (("done", ""), &json!(false)));
    assert_eq!(changes(&daemon), [set_model(CAL, "sonnet")]);

    fs::remove_dir_all(sandbox.path("sessions.json.reconcile")).unwrap();
    owe(&sandbox, CAL, daemon.status(CAL)["created_at"].as_str().unwrap());
    daemon.tell(&format!("kill {CAL}"));
    // An attempt on it began, so that it is gone may be what that came to: it is started again.
    assert_eq!(became(&sandbox.json(&["--chat", CAL]), CAL), ("done", ""));
    assert_eq!((sandbox.ledger()["owed"].clone(), &daemon.truth(CAL)["starts"]), (json!({}), &json!(3)));
}

#[test]
fn a_debt_that_is_met_between_plan_and_restart_is_not_paid_again() {
    let sandbox = sandbox();
    sandbox.write("sessions.json", REGISTRY.replace("\"model\": \"opus\"", "\"model\": \"sonnet\""));
    let daemon = daemon(&sandbox, &[CAL]);
    owe(&sandbox, CAL, daemon.status(CAL)["created_at"].as_str().unwrap());
    for event in [format!("kill {CAL}"), "advance 1".to_owned(), format!("wake {CAL}"), format!("turn-ends {CAL}")] {
        daemon.tell(&format!("after 2 get_global_model {event}"));
    }
    assert_eq!(became(&sandbox.json(&["--chat", CAL]), CAL), ("done", "it was started again meanwhile"));
    assert_eq!(changes(&daemon), Vec::<Value>::new());
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

#[test]
fn what_was_asked_of_an_earlier_run_of_the_session_is_not_waited_for() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    let later = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
    owe_until(&sandbox, CAL, "2026-01-01T00:00:00", Some(&later));
    assert_eq!(became(&sandbox.json(&[]), CAL), ("done", ""));
    assert_eq!(changes(&daemon), [set_model(CAL, "sonnet")]);
}

#[test]
fn a_debt_waits_for_its_next_try_also_while_the_file_lags() {
    let sandbox = sandbox();
    let daemon = daemon(&sandbox, &[CAL]);
    daemon.tell("hold-saves");
    daemon.tell(&format!("trip-breaker {CAL}"));
    sandbox.run(&[]).expect(4);
    for _ in 0..2 {
        assert_eq!(became(&sandbox.json(&[]), CAL).0, "deferred");
    }
    assert_eq!(changes(&daemon), [set_model(CAL, "sonnet")]);
}

#[test]
fn a_debt_from_before_outlives_a_daemon_that_goes_down_in_the_middle() {
    let sandbox = sandbox();
    sandbox.write("sessions.json", REGISTRY.replace("\"model\": \"opus\"", "\"model\": \"sonnet\""));
    let daemon = daemon(&sandbox, &[CAL]);
    owe(&sandbox, CAL, daemon.status(CAL)["created_at"].as_str().unwrap());
    daemon.tell("after 3 get_global_model shutdown");
    let report = sandbox.json(&["--chat", CAL]);
    assert_eq!(became(&report, CAL), ("deferred", "the daemon went down"), "{report:#}");
    assert_eq!(report["summary"]["owed"], 1);
    assert!(sandbox.ledger()["owed"].get(CAL).is_some());
}
