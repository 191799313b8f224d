//! What a failure of an OpenClaw gateway means: each way in which one fails, and what the client makes of it.

use std::net::TcpListener;
use std::time::Duration;

use reconcile::backend::openclaw::{
    Access, Address, Configuration, Fault, Gateway, ModelRow, Scope, Target, TargetOutcome, Token, Unavailable,
};
use reconcile::error::Error;
use reconcile::report::shown::{Naming, shown};
use serde_json::{Value, json};

use crate::gateway::{Double, Trouble, World};
use crate::slow::until;

/// Longer than anything takes that does come to an end.
const PATIENT: Duration = Duration::from_secs(60);
/// For what never comes to an end.
const IMPATIENT: Duration = Duration::from_secs(1);
const CAL: &str = "agent:main:telegram:direct:100301";
const DEE: &str = "agent:main:telegram:direct:100302";

/// A gateway with two chats.
fn double() -> Double {
    let mut world = World::default();
    world.add(CAL, &json!({ "channel": "telegram" }));
    world.add(DEE, &json!({ "channel": "telegram" }));
    Double::start(world)
}

fn access(double: &Double, token: &str) -> Access {
    Access::with_token(double.url().parse().unwrap(), Some(Token::new(token)))
}

fn connect(double: &Double, scope: Scope, timeout: Duration) -> Result<Gateway, Fault> {
    Gateway::connect(access(double, "TOKEN-FOR-TESTS"), scope, timeout)
}

fn target(gateway: &mut Gateway, key: &str) -> Target {
    let listed = gateway.sessions().unwrap();
    let row = listed.rows.into_iter().find(|row| row.key == key).unwrap();
    Target { key: row.key, session_id: row.session_id.unwrap() }
}

/// The fault of a list, where requests of a method meet trouble.
fn fault_of_a_list(method: &'static str, trouble: Trouble, timeout: Duration) -> Fault {
    let double = double();
    double.always(method, trouble);
    let listed = connect(&double, Scope::Read, timeout).and_then(|mut gateway| gateway.sessions());
    listed.unwrap_err()
}

fn unavailable(details: &Value) -> Trouble {
    let error = json!({ "code": "UNAVAILABLE", "message": "not now", "retryAfterMs": 10, "details": details });
    Trouble::Refuse(error)
}

fn not_let_in(code: &str) -> Trouble {
    Trouble::Refuse(json!({ "code": "INVALID_REQUEST", "message": "no", "details": { "code": code } }))
}

#[test]
fn a_refused_connection_is_a_gateway_that_is_down() {
    let address: Address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let fault = Gateway::connect(Access::with_token(address.clone(), None), Scope::Read, PATIENT).err().unwrap();
    assert_eq!(fault, Fault::Down(address));
}

#[test]
fn a_gateway_that_stops_takes_no_connections() {
    assert_eq!(fault_of_a_list("upgrade", Trouble::Http(503), PATIENT), Fault::Stopping);
}

#[test]
fn what_is_no_gateway_is_told_from_one() {
    for (trouble, reason) in [
        (Trouble::Http(403), "it answered with HTTP status 403"),
        (
            Trouble::Say("220 mail ready\r\n\r\n".to_owned()),
            "WebSocket protocol error: httparse error: invalid HTTP version",
        ),
        (Trouble::Cut, "the connection was cut"),
    ] {
        match fault_of_a_list("upgrade", trouble, PATIENT) {
            Fault::NotAGateway { reason: found, .. } => assert_eq!(found, reason),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_gateway_that_is_unavailable_is_waited_for_until_the_timeout() {
    let busy = Unavailable::Busy("not now".to_owned());
    let because = |reason: &str| json!({ "reason": reason });
    for (method, details, why) in [
        ("connect", because("startup-sidecars"), Unavailable::Starting),
        ("sessions.list", because("gateway-restarting"), Unavailable::Restarting),
        ("sessions.patchMany", because("gateway-restarting"), Unavailable::Restarting),
        ("sessions.list", because("gateway-suspending"), Unavailable::Suspended),
        ("sessions.list", because("something new"), busy.clone()),
        ("sessions.patchMany", Value::Null, busy),
    ] {
        let double = double();
        let ask = |timeout| {
            let mut gateway = connect(&double, Scope::Write, timeout)?;
            let target = target_of_the_first(&mut gateway)?;
            gateway.patch(&[target], Some("fake/big"))
        };
        double.always(method, unavailable(&details));
        let expected = Fault::Unavailable { why, again: Duration::from_millis(10) };
        assert_eq!(ask(IMPATIENT).unwrap_err(), expected, "{method}");
        assert!(double.count(method) > 1, "it was asked only once");
        double.calm();
        double.once(method, unavailable(&details));
        assert_eq!(ask(PATIENT), Ok(vec![TargetOutcome::Done]), "{method}");
    }
}

#[test]
fn a_gateway_that_wants_to_be_asked_again_at_once_is_given_time() {
    let double = double();
    double.always("connect", Trouble::Refuse(json!({ "code": "UNAVAILABLE", "message": "now", "retryAfterMs": 0 })));
    assert!(connect(&double, Scope::Read, IMPATIENT).is_err());
    // Between two tries are ten milliseconds, of a second.
    assert!((2..=101).contains(&double.count("connect")), "{} tries", double.count("connect"));
}

#[test]
fn a_gateway_that_wants_to_be_asked_again_next_year_is_asked_before() {
    let double = double();
    double.once(
        "connect",
        Trouble::Refuse(json!({ "code": "UNAVAILABLE", "message": "later", "retryAfterMs": u64::MAX })),
    );
    assert!(connect(&double, Scope::Read, PATIENT).is_ok());
}

fn target_of_the_first(gateway: &mut Gateway) -> Result<Target, Fault> {
    let row = gateway.sessions()?.rows.remove(0);
    Ok(Target { key: row.key, session_id: row.session_id.unwrap() })
}

#[test]
fn a_gateway_that_does_not_let_us_in_is_asked_once() {
    for (code, hint) in [
        ("AUTH_TOKEN_MISMATCH", "gateway.auth.token"),
        ("AUTH_SCOPE_MISMATCH", "shared token"),
        ("AUTH_RATE_LIMITED", "gateway.auth"),
        ("DEVICE_AUTH_SIGNATURE_INVALID", "identity of a device"),
        ("DEVICE_IDENTITY_REQUIRED", "sessions.token"),
    ] {
        let double = double();
        double.always("connect", not_let_in(code));
        let fault = connect(&double, Scope::Read, PATIENT).err().unwrap();
        assert_eq!(fault, Fault::NotLetIn { code: code.to_owned(), message: "no".to_owned() });
        assert!(hint_of(&fault).contains(hint), "{code}: {}", hint_of(&fault));
        assert_eq!(double.count("connect"), 1, "{code}");
    }
}

#[test]
fn a_device_that_waits_for_approval_is_told_how_it_gets_that() {
    let is_known = |reason: &str| reason != "not-paired";
    for (reason, id, hint) in [
        ("not-paired", "7c0f9a2e-0001", "openclaw devices approve 7c0f9a2e-0001"),
        ("scope-upgrade", "7c0f9a2e-0002", "openclaw devices approve 7c0f9a2e-0002"),
        // What is not an id is not in a command that a user copies.
        ("not-paired", "x; rm -rf ~", "openclaw devices list"),
        ("not-paired", "--latest", "openclaw devices list"),
    ] {
        let double = double();
        let details = json!({ "code": "PAIRING_REQUIRED", "reason": reason, "requestId": id, "deviceId": "0001" });
        double.always("connect", Trouble::Refuse(json!({ "code": "NOT_PAIRED", "message": "no", "details": details })));
        let fault = connect(&double, Scope::Read, PATIENT).err().unwrap();
        assert!(
            matches!(&fault, Fault::NotApproved { is_known: known, .. } if *known == is_known(reason)),
            "{fault:?}"
        );
        assert!(hint_of(&fault).contains(hint) && !hint_of(&fault).contains("rm"), "{}", hint_of(&fault));
        assert_eq!(double.count("connect"), 1);
    }
}

#[test]
fn a_wrong_token_and_none_are_told_apart_and_the_token_is_in_no_message() {
    let double = double();
    let try_with = |token: Option<&str>| {
        let access = Access::with_token(double.url().parse().unwrap(), token.map(Token::new));
        Gateway::connect(access, Scope::Read, PATIENT).err().unwrap()
    };
    let wrong = try_with(Some("SECRET-AND-WRONG"));
    assert!(matches!(&wrong, Fault::NotLetIn { code, .. } if code == "AUTH_TOKEN_MISMATCH"), "{wrong:?}");
    assert!(!format!("{} {wrong:?} {}", wrong.text(), hint_of(&wrong)).contains("SECRET"));
    assert!(!format!("{:?}", Token::new("SECRET")).contains("SECRET"));
    let none = try_with(None);
    assert!(matches!(&none, Fault::NotLetIn { code, .. } if code == "DEVICE_IDENTITY_REQUIRED"), "{none:?}");
}

#[test]
fn another_protocol_names_both_versions() {
    let details = json!({ "code": "PROTOCOL_MISMATCH", "clientMaxProtocol": 4, "expectedProtocol": 5 });
    let trouble =
        Trouble::Refuse(json!({ "code": "INVALID_REQUEST", "message": "protocol mismatch", "details": details }));
    assert_eq!(fault_of_a_list("connect", trouble, PATIENT), Fault::Protocol { ours: 4, theirs: 5 });
}

#[test]
fn a_scope_that_is_not_granted_ends_the_connection() {
    let none = Trouble::Alter(|hello| hello["auth"]["scopes"] = json!([]));
    assert_eq!(fault_of_a_list("connect", none, PATIENT), Fault::MissingScope("operator.read".to_owned()));
    let double = double();
    double.once("connect", Trouble::Alter(|hello| hello["auth"]["scopes"] = json!(["operator.read"])));
    let fault = connect(&double, Scope::Write, PATIENT).err().unwrap();
    assert_eq!(fault, Fault::MissingScope("operator.write".to_owned()));
}

#[test]
fn a_connection_that_may_only_read_cannot_change_anything() {
    let double = double();
    let mut gateway = connect(&double, Scope::Read, PATIENT).unwrap();
    let target = target(&mut gateway, CAL);
    let fault = gateway.patch(&[target], Some("fake/big")).unwrap_err();
    assert_eq!(fault, Fault::MissingScope("operator.write".to_owned()));
    assert_eq!(double.world().pinned(CAL), None);
    let (_, hello) = double.requests().remove(0);
    assert_eq!(hello["scopes"], json!(["operator.read"]));
}

#[test]
fn an_early_release_is_refused_by_its_version() {
    let lacks = |fault: Fault| match fault {
        Fault::TooOld { version, lacks } => (version, lacks),
        other => panic!("{other:?}"),
    };
    let without_method =
        Trouble::Alter(|hello| hello["features"]["methods"] = json!(["sessions.list", "sessions.patch"]));
    let found = lacks(fault_of_a_list("connect", without_method, PATIENT));
    assert_eq!(found, ("2026.9.6".to_owned(), "it lacks sessions.patchMany"));
    let without_field = Trouble::Alter(|list| {
        drop(list["sessions"][1].as_object_mut().unwrap().remove("modelOverrideSource"));
    });
    let found = lacks(fault_of_a_list("sessions.list", without_field, PATIENT));
    assert_eq!(found, ("2026.9.6".to_owned(), "its rows lack modelOverrideSource"));
}

#[test]
fn a_change_that_would_count_for_all_sessions_is_refused_before_anything_is_planned() {
    let global = Trouble::Alter(|list| list["defaults"]["modelSelectionTarget"] = "global".into());
    assert_eq!(fault_of_a_list("sessions.list", global, PATIENT), Fault::SelectionTarget("global".to_owned()));
    let early = Trouble::Alter(|list| {
        drop(list["defaults"].as_object_mut().unwrap().remove("modelSelectionTarget"));
    });
    let double = double();
    double.always("sessions.list", early);
    assert!(
        connect(&double, Scope::Read, PATIENT).unwrap().sessions().is_ok(),
        "2026.8 changes the session and does not say so"
    );
}

#[test]
fn a_list_that_is_not_whole_is_an_error() {
    let list = |change| fault_of_a_list("sessions.list", Trouble::Alter(change), PATIENT);
    let fault = list(|list| drop(list["sessions"].as_array_mut().unwrap().pop()));
    assert_eq!(fault, Fault::Truncated { rows: 1, total: 2 });
    let fault = list(|list| list["hasMore"] = true.into());
    assert_eq!(fault, Fault::Truncated { rows: 2, total: 2 });
    let fault = list(|list| list["sessions"][1] = list["sessions"][0].clone());
    assert_eq!(fault, Fault::Doubled(CAL.to_owned()));
}

#[test]
fn a_reply_that_cannot_be_read_is_never_no_sessions() {
    for (trouble, reason) in [
        (Trouble::Say("{".to_owned()), "EOF while parsing an object at line 1 column 1"),
        (Trouble::Alter(|list| drop(list.as_object_mut().unwrap().remove("sessions"))), "missing field `sessions`"),
        (Trouble::Alter(|list| list["sessions"] = json!({})), "invalid type: map, expected a sequence"),
        (Trouble::Alter(|list| *list = Value::Null), "invalid type: null, expected struct Wire"),
        (Trouble::Alter(|list| list["sessions"][0]["key"] = 5.into()), "invalid type: integer `5`, expected a string"),
        (
            Trouble::Alter(|list| {
                list["sessions"][0]["modelOverrideSource"] = "user".into();
                list["sessions"][0]["model"] = Value::Null;
            }),
            "agent:main:telegram:direct:100301 is pinned to no model",
        ),
    ] {
        match fault_of_a_list("sessions.list", trouble, PATIENT) {
            Fault::Malformed { method: "sessions.list", reason: found } => {
                assert!(found.starts_with(reason), "{found:?} instead of {reason:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Patches one chat, where the request meets trouble.
fn fault_of_a_patch(double: &Double, trouble: Trouble, timeout: Duration) -> Fault {
    let mut gateway = connect(double, Scope::Write, timeout).unwrap();
    let target = target(&mut gateway, CAL);
    double.once("sessions.patchMany", trouble);
    let fault = gateway.patch(&[target], Some("fake/big")).unwrap_err();
    assert_eq!(double.count("sessions.patchMany"), 1, "a change that is perhaps done is never sent again");
    let pinned = gateway.sessions().unwrap().rows.into_iter().find(|row| row.key == CAL).unwrap().pinned;
    assert_eq!(pinned, double.world().pinned(CAL));
    fault
}

#[test]
fn a_change_without_a_reply_is_perhaps_done() {
    for (trouble, reason, is_done) in [
        (Trouble::Close(1012), "it closed the connection (1012 service restart)", false),
        (Trouble::Cut, "the connection was cut", false),
        (Trouble::CutAfter, "the connection was cut", true),
    ] {
        let double = double();
        let fault = fault_of_a_patch(&double, trouble, PATIENT);
        assert_eq!(fault, Fault::Lost { method: "sessions.patchMany", reason: reason.to_owned() });
        assert!(fault.is_perhaps_done());
        assert_eq!(double.world().pinned(CAL).is_some(), is_done);
    }
    let double = double();
    let fault = fault_of_a_patch(&double, Trouble::Silence, IMPATIENT);
    assert_eq!(double.count("connect"), 2, "the next request is made over a new connection");
    assert_eq!(fault, Fault::Lost { method: "sessions.patchMany", reason: "it took too long".to_owned() });
    let short = Trouble::Alter(|reply| drop(reply["outcomes"].as_array_mut().unwrap().pop()));
    let fault = fault_of_a_patch(&self::double(), short, PATIENT);
    assert!(matches!(fault, Fault::Malformed { .. }) && fault.is_perhaps_done(), "{fault:?}");
}

#[test]
fn each_target_of_a_change_has_an_outcome_of_its_own() {
    let mut world = World::default();
    for key in [CAL, DEE, "agent:main:main", "agent:gone:main"] {
        world.add(key, &json!({}));
    }
    world.agents.insert("work".to_owned(), Some(vec!["fake/small".to_owned()]));
    world.add("agent:work:main", &json!({}));
    let double = Double::start(world);
    let mut gateway = connect(&double, Scope::Write, PATIENT).unwrap();
    let keys = [CAL, DEE, "agent:main:main", "agent:gone:main", "agent:work:main"];
    let mut targets: Vec<Target> = keys.iter().map(|key| target(&mut gateway, key)).collect();
    double.world().make_anew(DEE);
    targets.push(Target { key: "agent:main:telegram:direct:1".to_owned(), session_id: "gone".to_owned() });
    let outcomes = gateway.patch(&targets, Some("fake/big")).unwrap();
    let later = "Session patch failed unexpectedly. Retry the request.";
    assert_eq!(
        outcomes,
        [
            TargetOutcome::Done,
            TargetOutcome::SessionChanged,
            TargetOutcome::Done,
            TargetOutcome::Later(later.to_owned()),
            TargetOutcome::Refused("model not allowed: fake/big".to_owned()),
            TargetOutcome::SessionChanged,
        ]
    );
    assert_eq!(double.world().sessions.len(), keys.len(), "no session was made");
    assert_eq!(double.world().pinned(CAL).as_deref(), Some("fake/big"));
    assert_eq!(double.world().pinned(DEE), None);
}

#[test]
fn a_session_that_is_not_pinned_follows_the_configuration() {
    let double = double();
    let mut gateway = connect(&double, Scope::Write, PATIENT).unwrap();
    let target = target(&mut gateway, CAL);
    let pinned = |gateway: &mut Gateway| {
        let rows = gateway.sessions().unwrap().rows;
        rows.into_iter().find(|row| row.key == CAL).unwrap().pinned
    };
    assert_eq!(pinned(&mut gateway), None);
    let targets = [target];
    gateway.patch(&targets, Some("fake/big")).unwrap();
    assert_eq!(pinned(&mut gateway).as_deref(), Some("fake/big"));
    gateway.patch(&targets, None).unwrap();
    assert_eq!(pinned(&mut gateway), None);
    assert_eq!(gateway.sessions().unwrap().default_model.as_deref(), Some("fake/mid"));
}

#[test]
fn a_thinking_level_is_set_and_taken_away() {
    let double = double();
    let mut gateway = connect(&double, Scope::Write, PATIENT).unwrap();
    let targets = [target(&mut gateway, CAL)];
    let thinking = |gateway: &mut Gateway| {
        let rows = gateway.sessions().unwrap().rows;
        rows.into_iter().find(|row| row.key == CAL).unwrap().thinking
    };
    gateway.patch(&targets, Some("fake/big")).unwrap();
    assert_eq!(gateway.set_thinking(&targets, Some("high")), Ok(vec![TargetOutcome::Done]));
    assert_eq!(thinking(&mut gateway).as_deref(), Some("high"));
    gateway.patch(&targets, Some("fake/mid")).unwrap();
    assert_eq!(thinking(&mut gateway).as_deref(), Some("off"), "a model that cannot think takes the level with it");
    gateway.patch(&targets, Some("fake/big")).unwrap();
    assert_eq!(thinking(&mut gateway).as_deref(), Some("off"));
    assert_eq!(gateway.set_thinking(&targets, None), Ok(vec![TargetOutcome::Done]));
    assert_eq!(thinking(&mut gateway), None);
}

#[test]
fn agents_and_their_models_are_listed() {
    let mut world = World::default();
    world.agents.insert("work".to_owned(), Some(vec!["fake/small".to_owned()]));
    let double = Double::start(world);
    let mut gateway = connect(&double, Scope::Read, PATIENT).unwrap();
    let agents: Vec<String> = gateway.agents().unwrap().into_iter().map(|agent| agent.id).collect();
    assert_eq!(agents, ["main", "work"]);
    let mut names = |agent| gateway.models(agent).unwrap().iter().map(ModelRow::name).collect::<Vec<_>>();
    assert_eq!(names("main"), ["fake/big", "fake/mid", "fake/small"]);
    assert_eq!(names("work"), ["fake/small"]);
    let models = gateway.models("main").unwrap();
    assert_eq!((models[0].alias.as_deref(), models[0].reasoning), (Some("opus"), true));
}

#[test]
fn the_configuration_tells_who_shares_a_session_and_which_channels_have_models_of_their_own() {
    let mut world = World::default();
    let by_channel = json!({ "telegram": { "100301": "small" }, "discord": {}, "signal": { "*": "big" } });
    world.config = json!({ "session": { "dmScope": "main" }, "channels": { "modelByChannel": by_channel } });
    let double = Double::start(world);
    let mut gateway = connect(&double, Scope::Read, PATIENT).unwrap();
    let configuration = gateway.configuration().unwrap();
    assert_eq!(configuration.dm_scope.as_deref(), Some("main"));
    assert_eq!(configuration.channels_with_models, ["signal", "telegram"]);
    double.world().config = json!({ "channels": { "telegram": { "enabled": true } } });
    assert_eq!(gateway.configuration(), Ok(Configuration { dm_scope: None, channels_with_models: Vec::new() }));
}

#[test]
fn pings_are_answered_and_other_frames_skipped_while_a_reply_is_waited_for() {
    let double = double();
    let mut gateway = connect(&double, Scope::Read, PATIENT).unwrap();
    double.once("sessions.list", Trouble::Overtake);
    assert_eq!(gateway.sessions().unwrap().rows.len(), 2);
}

#[test]
fn a_connection_that_was_closed_between_two_requests_is_made_anew() {
    let double = double();
    let mut gateway = connect(&double, Scope::Write, PATIENT).unwrap();
    let target = target(&mut gateway, CAL);
    double.once("sessions.list", Trouble::CloseAfter(1012));
    gateway.sessions().unwrap();
    until("the connection is closed", || double.closed() == 1);
    assert_eq!(gateway.patch(&[target], Some("fake/big")), Ok(vec![TargetOutcome::Done]));
    assert_eq!(double.count("connect"), 2);
}

#[test]
fn a_request_that_is_too_large_is_not_sent() {
    let double = double();
    let fault = Gateway::connect(access(&double, &"x".repeat(70_000)), Scope::Read, PATIENT).err().unwrap();
    assert!(matches!(fault, Fault::TooLarge { method: "connect", limit: 65_536, .. }), "{fault:?}");
    assert_eq!(double.count("connect"), 0);
    double.once("connect", Trouble::Alter(|hello| hello["policy"]["maxPayload"] = 200.into()));
    let mut gateway = connect(&double, Scope::Write, PATIENT).unwrap();
    let targets: Vec<Target> =
        (0..9).map(|n| Target { key: format!("agent:main:{n}"), session_id: "x".to_owned() }).collect();
    assert!(matches!(gateway.patch(&targets, None).unwrap_err(), Fault::TooLarge { limit: 200, .. }));
    assert_eq!(double.count("sessions.patchMany"), 0);
}

#[test]
fn what_a_gateway_says_is_left_out_where_no_chat_may_be_named() {
    let named = [
        Fault::Doubled(CAL.to_owned()),
        Fault::MissingScope(CAL.to_owned()),
        Fault::TooOld { version: CAL.to_owned(), lacks: "something" },
        Fault::SelectionTarget(CAL.to_owned()),
        Fault::Lost { method: "sessions.list", reason: CAL.to_owned() },
        Fault::Malformed { method: "sessions.list", reason: CAL.to_owned() },
        Fault::Refused { method: "sessions.list", message: CAL.to_owned() },
        Fault::NotLetIn { code: CAL.to_owned(), message: CAL.to_owned() },
        Fault::Unavailable { why: Unavailable::Busy(CAL.to_owned()), again: IMPATIENT },
        Fault::NotAGateway { address: "ws://127.0.0.1:1".parse().unwrap(), reason: CAL.to_owned() },
    ];
    for fault in named {
        let message = Error::from(fault).sentence();
        assert!(shown(&message, Naming::Plain).contains(CAL));
        assert!(!shown(&message, Naming::Hidden).contains(CAL));
    }
}

#[test]
fn only_loopback_addresses_are_connected_to() {
    for (text, canonical) in [
        ("ws://127.0.0.1:18789", "ws://127.0.0.1:18789"),
        ("ws://127.0.0.1:18789/", "ws://127.0.0.1:18789"),
        ("ws://localhost:18789", "ws://127.0.0.1:18789"),
        ("ws://LOCALHOST:18789", "ws://127.0.0.1:18789"),
        ("ws://127.8.9.1:1", "ws://127.8.9.1:1"),
        ("ws://[::1]:18789", "ws://[::1]:18789"),
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), canonical);
    }
    for (text, complaint) in [
        #[cfg(not(feature = "remote"))]
        ("wss://127.0.0.1:18789", "needs TLS"),
        ("ws://10.0.0.7:18789", "is not on this host"),
        ("ws://gateway.example:18789", "is not on this host"),
        ("ws://127.0.0.1.example:18789", "is not on this host"),
        ("ws://localhost.example:18789", "is not on this host"),
        ("ws://0.0.0.0:18789", "is not on this host"),
        ("ws://2130706433:18789", "is not on this host"),
        ("ws://[::ffff:10.0.0.7]:18789", "is not on this host"),
        ("ws://127.0.0.1@10.0.0.7:18789", "is not a valid gateway address"),
        ("ws://10.0.0.7/127.0.0.1:18789", "is not a valid gateway address"),
        ("ws://127.0.0.1", "is not a valid gateway address: it has no port"),
        ("ws://[::1]", "is not a valid gateway address: it has no port"),
        ("ws://127.0.0.1:0", "is not a valid gateway address"),
        ("ws://127.0.0.1:99999", "is not a valid gateway address"),
        ("ws://:18789", "is not a valid gateway address"),
        ("http://127.0.0.1:18789", "is not a valid gateway address"),
        ("127.0.0.1:18789", "is not a valid gateway address"),
    ] {
        let error = text.parse::<Address>().unwrap_err();
        assert!(error.to_string().contains(complaint), "{text}: {error}");
        assert!(error.hint().contains("ws://127.0.0.1:18789"), "{text}: {}", error.hint());
    }
}

fn hint_of(fault: &Fault) -> String {
    fault.hint().into_foreign().raw().to_owned()
}
