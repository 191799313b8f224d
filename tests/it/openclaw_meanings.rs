//! What a failure of a gateway means for a run of the real binary: each way in which one fails, before the first change and
//! after it.

use serde_json::{Value, json};

use crate::gateway::Trouble;
use crate::openclaw::{CAL, ROOM, Setting};
use crate::support::row;

/// The gateway refuses a request with this code and these details.
fn refusal(code: &str, details: &Value) -> Trouble {
    Trouble::Refuse(json!({ "code": code, "message": "not like this", "retryAfterMs": 2000, "details": details }))
}

fn unavailable(reason: &str) -> Trouble {
    refusal("UNAVAILABLE", &json!({ "reason": reason }))
}

/// Why a gateway says that it is unavailable, and what a run says.
const REASONS: [(&str, &str); 4] = [
    ("startup-sidecars", "the gateway is still starting"),
    ("gateway-restarting", "the gateway is restarting"),
    ("gateway-suspending", "the gateway is suspended"),
    ("", "the gateway is busy"),
];

#[test]
fn a_gateway_that_stays_unavailable_is_an_error_before_the_first_change() {
    for method in ["connect", "sessions.list", "models.list", "sessions.patchMany"] {
        for (reason, said) in REASONS {
            let setting = Setting::new();
            setting.gateway.always(method, unavailable(reason));
            let run = setting.run(&[]).expect(1);
            assert!(run.stderr.contains(said) && run.stderr.contains("hint: "), "{method}, {reason}: {run:#?}");
            assert_eq!(setting.pinned(CAL), None);
        }
    }
}

/// The chat that should follow the configuration is changed by the first request, the other one by the second.
#[test]
fn after_the_first_change_what_a_gateway_cannot_do_now_is_left_to_the_next_run() {
    for (trouble, said) in [
        (unavailable("gateway-restarting"), "the gateway is restarting"),
        (unavailable("gateway-suspending"), "the gateway is suspended"),
        (unavailable("startup-sidecars"), "the gateway is still starting"),
        (unavailable(""), "the gateway is busy"),
        (refusal("FORBIDDEN", &json!({ "missingScope": "operator.write" })), "does not grant the scope operator.write"),
    ] {
        let setting = Setting::new();
        setting.gateway.once("sessions.patchMany", Trouble::Overtake);
        setting.gateway.always("sessions.patchMany", trouble);
        let run = setting.run(&[]).expect(4);
        assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 1 deferred, 0 failed.", "{run:#?}");
        assert!(run.stdout.contains(said), "{run:#?}");
        assert_eq!(setting.pinned(ROOM), None);
        setting.gateway.calm();
        assert!(setting.run(&[]).expect(0).summary().starts_with("Applied: 1 changed"));
    }
}

#[test]
fn a_session_that_the_gateway_does_not_tell_from_another_of_its_chat_is_refused_and_the_others_are_changed() {
    let setting = Setting::new();
    let without = |list: &mut Value| {
        let rows = list["sessions"].as_array_mut().unwrap();
        let row = rows.iter_mut().find(|row| row["key"] == CAL).unwrap();
        row.as_object_mut().unwrap().remove("sessionId");
    };
    setting.gateway.always("sessions.list", Trouble::Alter(without));
    let run = setting.run(&[]).expect(4);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed, 1 refused.", "{run:#?}");
    assert!(run.stdout.contains("OpenClaw does not say which session of the chat this is (sessionId)"), "{run:#?}");
    assert_eq!(setting.pinned(CAL), None);
}

#[test]
fn who_is_not_let_in_tries_once_and_is_told_what_to_do() {
    for (code, hint) in [
        ("AUTH_TOKEN_MISMATCH", "gateway.auth.token"),
        ("AUTH_TOKEN_MISSING", "sessions.token"),
        ("AUTH_SCOPE_MISMATCH", "shared token"),
        ("DEVICE_AUTH_SIGNATURE_EXPIRED", "loopback"),
    ] {
        let setting = Setting::new();
        setting.gateway.always("connect", refusal("INVALID_REQUEST", &json!({ "code": code })));
        let run = setting.run(&[]).expect(1);
        assert!(run.stderr.contains(code) && run.stderr.contains("does not let this program in"), "{run:#?}");
        assert!(run.stderr.lines().any(|line| line.contains("hint: ") && line.contains(hint)), "{code}: {run:#?}");
        assert_eq!(setting.gateway.count("connect"), 1, "{code}");
    }
}

#[test]
fn another_protocol_is_an_error_that_names_both() {
    let setting = Setting::new();
    let details = json!({ "code": "PROTOCOL_MISMATCH", "clientMaxProtocol": 4, "expectedProtocol": 5 });
    setting.gateway.always("connect", refusal("INVALID_REQUEST", &details));
    let run = setting.run(&[]).expect(1);
    assert!(run.stderr.contains("the gateway speaks protocol 5, and this program speaks protocol 4"), "{run:#?}");
    assert_eq!(setting.gateway.count("connect"), 1);
}

/// The outcome of a row, and what is said of it, where the request for it meets trouble.
fn outcome(trouble: Trouble, code: i32) -> (String, String) {
    let setting = Setting::new();
    setting.gateway.once("sessions.patchMany", trouble);
    let run = setting.run(&["--chat", CAL, "--format", "json"]).expect(code);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let text = |field: &str| row(&report, CAL)[field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("detail"))
}

fn each(error: &Value) -> Value {
    json!({ "ok": false, "key": CAL, "error": error })
}

#[test]
fn a_target_that_is_refused_for_good_has_failed_with_the_words_of_the_gateway() {
    for change in [
        (|reply: &mut Value| {
            let message = "model not allowed: fake/big";
            reply["outcomes"][0] = each(&json!({ "code": "INVALID_REQUEST", "message": message }));
        }) as fn(&mut Value),
        |reply| {
            let message = "Unknown provider \"fake\". Use /models to list providers.";
            reply["outcomes"][0] = each(&json!({ "code": "INVALID_REQUEST", "message": message }));
        },
        // What the details look like is not promised.
        |reply| {
            let error = json!({ "code": "INVALID_REQUEST", "message": "no such thing", "details": "at /model" });
            reply["outcomes"][0] = each(&error);
        },
        |reply| {
            let details = json!({ "reason": 5, "issues": [] });
            reply["outcomes"][0] = each(&json!({ "code": "X", "message": "no, because", "details": details }));
        },
    ] {
        let (verdict, detail) = outcome(Trouble::Alter(change), 4);
        assert_eq!(verdict, "failed", "{detail}");
        let words = ["model not allowed: fake/big", "Unknown provider", "no such thing", "no, because"];
        assert!(words.iter().any(|words| detail.starts_with(words)), "{detail}");
    }
    let (verdict, detail) = outcome(refusal("INVALID_REQUEST", &json!(["at /patch"])), 4);
    assert_eq!(
        (verdict.as_str(), detail.as_str()),
        ("failed", "the gateway refused sessions.patchMany: not like this")
    );
}

#[test]
fn an_outcome_may_say_that_it_has_no_error() {
    let no_error = Trouble::Alter(|reply| reply["outcomes"][0]["error"] = Value::Null);
    assert_eq!(outcome(no_error, 0).0, "done");
}

#[test]
fn a_target_that_was_made_anew_or_cannot_be_changed_now_is_deferred() {
    let (verdict, detail) = outcome(
        Trouble::Alter(|reply| {
            let details = json!({ "reason": "session-changed" });
            reply["outcomes"][0] = each(&json!({ "code": "INVALID_REQUEST", "message": "x", "details": details }));
        }),
        0,
    );
    assert_eq!((verdict.as_str(), detail.contains("deleted or made anew")), ("deferred", true), "{detail}");
    let (verdict, detail) = outcome(
        Trouble::Alter(|reply| {
            reply["outcomes"][0] = each(&json!({ "code": "UNAVAILABLE", "message": "busy just now" }));
        }),
        0,
    );
    assert_eq!((verdict.as_str(), detail.as_str()), ("deferred", "busy just now"));
}

#[test]
fn a_change_without_a_reply_is_looked_for_whatever_became_of_the_reply() {
    for trouble in [Trouble::Close(1012), Trouble::Close(1001), Trouble::Cut, Trouble::Silence] {
        let (verdict, detail) = outcome(trouble, 0);
        assert_eq!((verdict.as_str(), detail.contains("has not made the change")), ("deferred", true), "{detail}");
    }
    for trouble in [
        Trouble::CutAfter,
        Trouble::Alter(|reply| *reply = json!({ "outcomes": [] })),
        Trouble::Alter(|reply| reply["outcomes"][0]["key"] = "another".into()),
        Trouble::Alter(|reply| *reply = Value::Null),
    ] {
        assert_eq!(outcome(trouble, 0).0, "done");
    }
}

#[test]
fn what_is_not_the_wanted_model_when_it_is_read_back_has_failed() {
    // It says that it has done it, and has not.
    let reply =
        json!({ "type": "res", "id": "r2", "ok": true, "payload": { "outcomes": [{ "ok": true, "key": CAL }] } });
    let (verdict, detail) = outcome(Trouble::Say(reply.to_string()), 4);
    assert_eq!((verdict.as_str(), detail.as_str()), ("failed", "the registry says default again"));
    // It does not say whether it has.
    let (verdict, _) = outcome(Trouble::Say(json!({ "type": "res", "id": "r2" }).to_string()), 0);
    assert_eq!(verdict, "deferred", "it is looked for");
}

/// What a gateway says comes from elsewhere: from models, plugins, people.
const HOSTILE: &str = "\n::error::owned \u{1b}[31m <img src=x> \u{202e}";

#[test]
fn the_words_of_a_gateway_come_alive_in_no_report() {
    let hostile = || {
        Trouble::Alter(|reply| {
            reply["outcomes"][0] = each(&json!({ "code": "INVALID_REQUEST", "message": HOSTILE }));
        })
    };
    for format in ["text", "json", "markdown"] {
        let setting = Setting::new();
        setting.gateway.once("sessions.patchMany", hostile());
        let run = setting.run(&["--chat", CAL, "--format", format]).expect(4);
        is_dead(&format!("{}\n{}", run.stdout, run.stderr));
        assert!(format != "markdown" || !run.stdout.contains("<img"), "{run:#?}");
        assert!(format == "markdown" || run.stdout.contains("owned"), "{format}: {run:#?}");
    }
    for (method, trouble) in [
        ("connect", Trouble::Refuse(json!({ "code": HOSTILE, "message": HOSTILE }))),
        ("sessions.list", Trouble::Refuse(json!({ "code": "UNAVAILABLE", "message": HOSTILE, "retryAfterMs": 9999 }))),
        ("sessions.list", Trouble::Refuse(json!({ "code": HOSTILE, "message": HOSTILE }))),
        ("sessions.list", Trouble::Alter(|list| list["sessions"][0]["key"] = HOSTILE.into())),
        ("sessions.list", Trouble::Alter(|list| list["sessions"][0]["agentId"] = HOSTILE.into())),
        ("sessions.list", Trouble::Alter(|list| list["sessions"][0]["category"] = HOSTILE.into())),
        ("sessions.list", Trouble::Alter(|list| list["defaults"]["modelSelectionTarget"] = HOSTILE.into())),
        ("connect", Trouble::Alter(|hello| hello["server"]["version"] = HOSTILE.into())),
    ] {
        let setting = Setting::new();
        setting.run(&["snapshot", "--redact"]).expect(0);
        setting.gateway.always(method, trouble);
        for arguments in [&["--dry-run", "-vv"][..], &["list"], &["check"], &["doctor"], &["explain", CAL]] {
            let run = setting.run(arguments);
            is_dead(&format!("{}\n{}", run.stdout, run.stderr));
        }
        let redacted = setting.run(&["--redact"]);
        let said = format!("{}\n{}", redacted.stdout, redacted.stderr);
        is_dead(&said);
        assert!(!said.contains("100301") && !said.contains("owned"), "{said}");
    }
}

fn is_dead(said: &str) {
    assert!(said.lines().all(|line| !line.starts_with("::")), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said:?}");
}
