//! SIGINT and SIGTERM while a run waits for a gateway that asks to come back later: the wait ends, and what was begun is
//! finished.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::gateway::Trouble;
use crate::openclaw::{CAL, ROOM, Setting};
use crate::slow::{Running, until};
use crate::support::{Run, row};

/// A gateway for which runs wait for longer than any of these tests takes.
fn patient() -> Setting {
    let setting = Setting::new();
    let policy = setting.sandbox.read("policy.toml");
    let patient = policy.replace("timeout = \"1s\"", "timeout = \"40s\"");
    assert_ne!(patient, policy);
    setting.sandbox.write("policy.toml", &patient);
    setting
}

fn starting(again: u64) -> Trouble {
    let details = json!({ "reason": "startup-sidecars" });
    let error = json!({ "code": "UNAVAILABLE", "message": "starting", "retryAfterMs": again, "details": details });
    Trouble::Refuse(error)
}

/// A run of these arguments that is sent a signal once the gateway was asked so often for this.
fn interrupted(setting: &Setting, arguments: &[&str], (method, times): (&str, usize), signal: Signal) -> Run {
    let asked = setting.gateway.count(method);
    let mut run = Running::start(&mut setting.command(arguments));
    until("the gateway is asked", || setting.gateway.count(method) >= asked + times);
    run.signal(signal);
    run.finish()
}

#[test]
fn a_wait_for_a_gateway_that_is_starting_ends_with_the_first_signal() {
    for method in ["connect", "sessions.list", "agents.list", "models.list"] {
        for signal in [Signal::INT, Signal::TERM] {
            let setting = patient();
            setting.gateway.always(method, starting(5000));
            let run = interrupted(&setting, &[], (method, 1), signal).expect(75);
            let told = "error[interrupted]: interrupted while waiting for the gateway, which is still starting\n";
            assert!(run.stderr.starts_with(told) && run.stdout.is_empty(), "{method}: {run:#?}");
            assert_eq!(setting.gateway.count("sessions.patchMany"), 0, "{method}");
            setting.gateway.calm();
            assert!(setting.run(&[]).expect(0).summary().starts_with("Applied: 2 changed"), "{method}");
        }
    }
}

#[test]
fn an_edit_of_the_policy_that_waits_for_a_gateway_ends_with_the_first_signal_and_edits_nothing() {
    let setting = patient();
    let before = setting.sandbox.read("policy.toml");
    setting.gateway.always("sessions.list", starting(5000));
    for arguments in [&["set-model", CAL, "fake/mid"][..], &["set-model", CAL, "fake/mid", "--no-policy"]] {
        let run = interrupted(&setting, arguments, ("sessions.list", 1), Signal::INT).expect(75);
        assert!(run.stderr.starts_with("error[interrupted]: "), "{run:#?}");
        assert_eq!(setting.sandbox.read("policy.toml"), before);
    }
}

#[test]
fn interrupted_between_two_requests_a_run_reads_back_what_it_has_changed() {
    let setting = patient();
    setting.gateway.once("sessions.patchMany", Trouble::Overtake);
    setting.gateway.always("sessions.patchMany", starting(5000));
    let mut run = Running::start(&mut setting.command(&["--format", "json"]));
    until("the gateway is asked for the second change", || setting.gateway.count("sessions.patchMany") == 2);
    // The list that is read back has to be asked for twice.
    setting.gateway.once("sessions.list", starting(10));
    run.signal(Signal::TERM);
    let run = run.finish().expect(4);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:#?}"));
    let became = |chat| {
        let row = row(&report, chat);
        (row["outcome"].clone(), row["detail"].clone())
    };
    assert_eq!(
        [became(CAL), became(ROOM)].map(|(outcome, detail)| json!([outcome, detail])),
        [json!(["deferred", "interrupted"]), json!(["done", null])]
    );
    assert_eq!((setting.pinned(CAL), setting.pinned(ROOM)), (None, None));
}
