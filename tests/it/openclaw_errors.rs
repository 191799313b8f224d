//! The codes under which the failures of a gateway are told, by the real binary.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::Trouble;
use crate::openclaw::{POLICY, Setting, sessions};
use crate::support::{Run, Sandbox, finish, write_state};

fn refuse(code: &str, details: &Value) -> Trouble {
    Trouble::Refuse(json!({ "code": code, "message": "no", "details": details }))
}

/// Each error with what makes a gateway give it: the request that meets trouble.
fn failures() -> Vec<(&'static str, &'static str, Trouble)> {
    let protocol = json!({ "code": "PROTOCOL_MISMATCH", "clientMaxProtocol": 4, "expectedProtocol": 5 });
    let pairing = json!({ "code": "PAIRING_REQUIRED", "reason": "not-paired", "requestId": "1", "deviceId": "1" });
    vec![
        ("error[gateway-stopping]", "upgrade", Trouble::Http(503)),
        ("error[not-a-gateway]", "upgrade", Trouble::Http(403)),
        ("error[gateway-refuses]", "connect", refuse("INVALID_REQUEST", &json!({ "code": "AUTH_TOKEN_MISMATCH" }))),
        ("error[gateway-device]", "connect", refuse("NOT_PAIRED", &pairing)),
        ("error[gateway-protocol]", "connect", refuse("INVALID_REQUEST", &protocol)),
        ("error[gateway-scope]", "connect", Trouble::Alter(|hello| hello["auth"]["scopes"] = json!([]))),
        ("error[gateway-too-old]", "connect", Trouble::Alter(|hello| hello["features"]["methods"] = json!([]))),
        (
            "error[gateway-request-too-large]",
            "connect",
            Trouble::Alter(|hello| hello["policy"]["maxPayload"] = 9.into()),
        ),
        ("error[gateway-unavailable]", "sessions.list", refuse("UNAVAILABLE", &Value::Null)),
        ("error[gateway-refused]", "sessions.list", refuse("INVALID_REQUEST", &Value::Null)),
        ("error[gateway-no-reply]", "sessions.list", Trouble::Cut),
        ("error[gateway-reply]", "sessions.list", Trouble::Say("{".to_owned())),
        ("error[gateway-truncated]", "sessions.list", Trouble::Alter(|list| list["hasMore"] = true.into())),
        (
            "error[gateway-doubled]",
            "sessions.list",
            Trouble::Alter(|list| list["sessions"][1] = list["sessions"][0].clone()),
        ),
        (
            "error[gateway-selection]",
            "sessions.list",
            Trouble::Alter(|list| list["defaults"]["modelSelectionTarget"] = "global".into()),
        ),
    ]
}

/// Sees that a run fails with this error, and changes nothing.
#[track_caller]
fn fails(run: Run, error: &str) {
    let run = run.expect(1);
    assert!(run.stderr.starts_with(&format!("{error}: ")), "{error}: {run:#?}");
    assert_eq!(run.stdout, "", "{error}");
}

#[test]
fn each_failure_of_a_gateway_has_a_code() {
    for (error, method, trouble) in failures() {
        let setting = Setting::new();
        setting.gateway.always(method, trouble);
        fails(setting.run(&["--dry-run"]), error);
    }
}

#[test]
fn with_redact_no_failure_of_a_gateway_names_a_chat() {
    for (error, method, trouble) in failures() {
        let setting = Setting::new();
        setting.run(&["snapshot", "--redact"]).expect(0);
        setting.gateway.always(method, trouble);
        let run = setting.run(&["--dry-run", "--redact"]);
        assert!(["100301", "Ortiz"].iter().all(|name| !run.stderr.contains(name)), "{error}: {run:#?}");
        fails(run, error);
    }
}

#[test]
fn a_gateway_that_takes_no_connections_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Room for one that waits, and it is taken.
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok());
    let waiting: Vec<TcpStream> = waiting.collect();
    assert!(!waiting.is_empty());
    let sandbox = Sandbox::new(&format!("{POLICY}\n{}", sessions(&format!("ws://{address}"))), "{}");
    let run = finish(sandbox.command(&["--dry-run"]).env("GATEWAY_TOKEN", "1"));
    fails(run, "error[gateway-unreachable]");
}

#[test]
fn a_gateway_that_goes_away_during_a_run_ends_it() {
    let setting = Setting::new();
    setting.gateway.always("sessions.patchMany", refuse("UNAVAILABLE", &Value::Null));
    fails(setting.run(&[]), "error[unavailable]");
}

#[test]
fn saved_thinking_levels_that_cannot_be_read_are_an_error() {
    let setting = Setting::new();
    setting.run(&[]).expect(0);
    write_state(&setting.sandbox.path("state/gateway"), "thinking.json", "high");
    fails(setting.run(&["--dry-run"]), "error[thinking-levels]");
}
