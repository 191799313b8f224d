//! Reconciling the sessions of a gateway: the real binary against a double that speaks as a gateway does. Each row of what a
//! failure means is a test.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::gateway::{Double, Trouble, World};
use crate::slow::until;
use crate::support::{Run, Sandbox, finish, row};

/// Is not pinned, and should be on fake/big.
pub const CAL: &str = "agent:main:telegram:direct:100301";
/// Is pinned to fake/small, as it should be.
pub const DEE: &str = "agent:main:telegram:direct:100302";
/// Is pinned to fake/mid, and should follow the configuration.
pub const ROOM: &str = "agent:main:telegram:group:-100500";
/// A scheduled job.
const JOB: &str = "agent:main:cron:00000000-0000-4000-8000-000000000001";
pub const TOKEN: &str = "TOKEN-FOR-TESTS";

pub const POLICY: &str = r#"
[models]
allowed  = ["fake/big", "fake/mid", "fake/small", "fake/nope", "default"]
fallback = "default"

[tiers]
family = "fake/big"
work   = "fake/small"
"#;

/// The section of a policy for a gateway at this address.
pub fn sessions(url: &str) -> String {
    format!(
        "[sessions]\nbackend = \"openclaw\"\nurl = {url:?}\ntoken = {{ env = \"GATEWAY_TOKEN\" }}\nstate = \"state/gateway\"\n\
         timeout = \"1s\"\n"
    )
}

pub fn pinned(model: &str, more: &Value) -> Value {
    let (provider, model) = model.split_once('/').unwrap();
    let mut row = json!({ "modelProvider": provider, "model": model, "modelOverrideSource": "user" });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

/// Three chats, two of which drift, and a scheduled job.
pub fn world() -> World {
    let mut world = World::default();
    world.add(CAL, &json!({ "channel": "telegram", "category": "family", "origin": { "label": "Cal Ortiz" } }));
    world.add(DEE, &pinned("fake/small", &json!({ "channel": "telegram", "category": "work" })));
    world.add(ROOM, &pinned("fake/mid", &json!({ "channel": "telegram" })));
    world.add(JOB, &pinned("fake/small", &json!({})));
    world
}

/// A policy and the gateway that it names.
pub struct Setting {
    pub sandbox: Sandbox,
    pub gateway: Double,
}

impl Setting {
    pub fn of(world: World, more: &str) -> Self {
        let gateway = Double::start(world);
        let policy = format!("{POLICY}{more}\n{}", sessions(&gateway.url()));
        Self { sandbox: Sandbox::new(&policy, "{}"), gateway }
    }

    pub fn new() -> Self {
        Self::of(world(), "")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.command(arguments);
        command.env("GATEWAY_TOKEN", TOKEN);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let run = finish(&mut self.command(arguments));
        assert!(!run.stdout.contains(TOKEN) && !run.stderr.contains(TOKEN), "a message holds the token: {run:#?}");
        run
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:#?}"))
    }

    pub fn pinned(&self, chat: &str) -> Option<String> {
        self.gateway.world().pinned(chat)
    }

    /// The scopes that connections have asked for.
    fn scopes(&self) -> Vec<Value> {
        let requests = self.gateway.requests();
        let connects = requests.into_iter().filter(|(method, _)| method == "connect");
        connects.map(|(_, params)| params["scopes"].clone()).collect()
    }
}

/// As many chats that drift as this, all to fake/big.
fn many(count: usize) -> World {
    let mut world = World::default();
    for number in 0..count {
        world.add(&format!("agent:main:telegram:direct:{number:04}"), &json!({ "category": "family" }));
    }
    world
}

fn unavailable() -> Trouble {
    Trouble::Refuse(json!({ "code": "UNAVAILABLE", "message": "gateway-restarting", "retryAfterMs": 2000 }))
}

#[test]
fn a_dry_run_cannot_change_anything_and_shows_what_a_run_would_do() {
    let setting = Setting::new();
    let report = setting.json(&["--dry-run"]);
    assert_eq!(report["sessions"], 3, "{report:#}");
    let changes = report["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "{report:#}");
    assert_eq!((&row(&report, CAL)["before"], &row(&report, CAL)["after"]), (&json!("default"), &json!("fake/big")));
    assert_eq!((&row(&report, ROOM)["before"], &row(&report, ROOM)["after"]), (&json!("fake/mid"), &json!("default")));
    assert!(changes.iter().all(|row| row["restart"] == false && row["owed"] == false), "{report:#}");
    assert_eq!(setting.gateway.count("sessions.patchMany"), 0);
    assert!(setting.scopes().iter().all(|scopes| *scopes == json!(["operator.read"])), "{:?}", setting.scopes());
    assert!(!setting.sandbox.path("state").exists(), "a dry run writes nothing");
}

#[test]
fn a_run_pins_what_drifts_and_nothing_else_and_a_plan_after_it_is_empty() {
    let setting = Setting::new();
    let run = setting.run(&[]).expect(0);
    assert_eq!(run.summary(), "Applied: 2 changed, 0 restarted, 0 deferred, 0 failed.", "{run:#?}");
    assert_eq!(setting.pinned(CAL).as_deref(), Some("fake/big"));
    assert_eq!(setting.pinned(DEE).as_deref(), Some("fake/small"));
    assert_eq!(setting.pinned(ROOM), None, "it follows the configuration again");
    assert_eq!(setting.pinned(JOB).as_deref(), Some("fake/small"), "what is in the background is left alone");
    let requests = setting.gateway.requests();
    let patches: Vec<&Value> = requests.iter().filter(|(of, _)| of == "sessions.patchMany").map(|(_, of)| of).collect();
    let targets = patches.iter().flat_map(|patch| patch["targets"].as_array().unwrap());
    assert!(targets.clone().all(|target| target["expectedSessionId"].is_string()), "{patches:#?}");
    assert_eq!((targets.count(), patches.len()), (2, 2), "one request for each model");
    let writes = json!(["operator.read", "operator.write"]);
    assert!(setting.scopes().iter().all(|scopes| *scopes == json!(["operator.read"]) || *scopes == writes));

    let again = setting.run(&[]).expect(0);
    assert!(again.summary().starts_with("No changes."), "{again:#?}");
    assert_eq!(setting.gateway.count("sessions.patchMany"), 2);
    let owed = setting.run(&["owed"]).expect(0);
    assert!(owed.stdout.contains("No restarts are owed."), "{owed:#?}");
}

#[test]
fn what_is_in_the_background_is_managed_where_the_policy_says_so() {
    let setting = Setting::new();
    let policy = setting.sandbox.read("policy.toml") + "background = true\n";
    setting.sandbox.write("policy.toml", policy);
    setting.run(&[]).expect(0);
    assert_eq!(setting.pinned(JOB), None);
}

#[test]
fn many_sessions_are_changed_fifty_at_a_time() {
    let setting = Setting::of(many(120), "[limits]\nmax_changes = 200\n");
    setting.run(&[]).expect(0);
    let sizes: Vec<usize> = setting
        .gateway
        .requests()
        .iter()
        .filter(|(method, _)| method == "sessions.patchMany")
        .map(|(_, params)| params["targets"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [50, 50, 20]);
    assert!(setting.run(&[]).expect(0).summary().starts_with("No changes."));
}

#[test]
fn a_name_that_the_gateway_does_not_list_is_refused_before_anything_is_sent() {
    let setting = Setting::of(world(), &format!("[chats]\n{CAL:?} = \"fake/nope\"\n"));
    let run = setting.run(&[]).expect(4);
    assert!(run.stdout.contains("OpenClaw lists no model fake/nope for the agent main"), "{run:#?}");
    assert_eq!((setting.pinned(CAL), setting.pinned(ROOM)), (None, None), "the others are changed");
    setting.run(&["--dry-run"]).expect(4);
}

#[test]
fn the_sessions_of_an_agent_that_is_not_configured_are_refused() {
    let mut world = world();
    world.add("agent:gone:main", &json!({ "category": "family" }));
    let setting = Setting::of(world, "");
    let report = setting.json(&["--dry-run"]);
    let gone = row(&report, "agent:gone:main");
    assert_eq!(gone["outcome"], "refused", "{report:#}");
    assert_eq!(gone["detail"], "the agent gone is not configured in OpenClaw");
}

#[test]
fn a_model_that_pins_an_account_is_refused_and_check_says_so() {
    let setting = Setting::new();
    let policy = setting.sandbox.read("policy.toml").replace("fake/big", "fake/big@work");
    setting.sandbox.write("policy.toml", policy);
    let check = setting.run(&["check"]).expect(1);
    assert!(check.stdout.contains("would pin an account as well"), "{check:#?}");
    let report = setting.json(&["--dry-run"]);
    assert_eq!(row(&report, CAL)["outcome"], "refused", "{report:#}");
}

#[test]
fn what_cannot_be_listed_is_an_error_and_never_fewer_sessions() {
    for (method, trouble, said) in [
        ("upgrade", Trouble::Http(503), "the gateway is stopping"),
        ("sessions.list", Trouble::Alter(|list| list["totalCount"] = 7.into()), "listed 4 of 7 sessions"),
        ("connect", Trouble::Alter(|hello| hello["auth"]["scopes"] = json!([])), "does not grant the scope operator."),
        ("connect", Trouble::Alter(|hello| hello["features"]["methods"] = json!([])), "is not supported"),
        ("sessions.list", unavailable(), "the gateway is"),
        ("sessions.list", Trouble::Silence, "did not reply to sessions.list"),
        ("sessions.list", Trouble::Alter(|list| list["defaults"]["modelSelectionTarget"] = "global".into()), "global"),
    ] {
        let setting = Setting::new();
        setting.gateway.always(method, trouble);
        for arguments in [&["--dry-run"][..], &[]] {
            let run = setting.run(arguments).expect(1);
            assert!(run.stderr.contains(said) && run.stderr.contains("hint: "), "{said}: {run:#?}");
        }
        assert_eq!(setting.gateway.count("sessions.patchMany"), 0);
    }
}

#[test]
fn a_gateway_that_is_down_is_an_error() {
    let setting = Setting::new();
    let Setting { sandbox, gateway } = setting;
    drop(gateway);
    let run = finish(sandbox.command(&[]).env("GATEWAY_TOKEN", TOKEN)).expect(1);
    assert!(run.stderr.contains("no gateway listens at ws://127.0.0.1:"), "{run:#?}");
}

#[test]
fn a_wrong_token_is_tried_once() {
    let setting = Setting::new();
    let run = finish(setting.sandbox.command(&["--dry-run"]).env("GATEWAY_TOKEN", "another")).expect(1);
    assert!(run.stderr.contains("AUTH_TOKEN_MISMATCH") && !run.stderr.contains("another"), "{run:#?}");
    assert_eq!(setting.scopes().len(), 1);
}

#[test]
fn a_session_that_was_made_anew_is_left_to_the_next_run() {
    let setting = Setting::new();
    setting.gateway.once(
        "sessions.patchMany",
        Trouble::Alter(|reply| {
            for outcome in reply["outcomes"].as_array_mut().unwrap() {
                let error = json!({
                    "code": "INVALID_REQUEST", "message": "changed", "details": { "reason": "session-changed" },
                });
                *outcome = json!({ "ok": false, "key": outcome["key"], "error": error });
            }
        }),
    );
    let report = setting.json(&["--chat", CAL]);
    assert_eq!(row(&report, CAL)["outcome"], "deferred", "{report:#}");
    assert!(row(&report, CAL)["detail"].as_str().unwrap().contains("deleted or recreated"), "{report:#}");
}

#[test]
fn what_the_gateway_refuses_for_good_has_failed_with_its_words() {
    // The list of models knows it, and the agent's own policy does not.
    let mut world = world();
    world.allowed.retain(|name| name != "fake/big");
    let setting = Setting::of(world, "");
    setting.gateway.always(
        "models.list",
        Trouble::Alter(|reply| {
            let row = json!({ "id": "big", "name": "big", "provider": "fake", "available": true });
            reply["models"].as_array_mut().unwrap().push(row);
        }),
    );
    let run = setting.run(&["--chat", CAL]).expect(4);
    assert!(run.stdout.contains("model not allowed: fake/big"), "{run:#?}");
    let owed = setting.run(&["owed"]).expect(0);
    assert!(owed.stdout.starts_with("No restarts are owed."), "a refusal says nothing of a model: {owed:#?}");
}

#[test]
fn a_gateway_that_cannot_be_asked_before_the_first_change_is_an_error_and_later_ends_the_run() {
    let setting = Setting::of(many(120), "[limits]\nmax_changes = 200\n");
    setting.gateway.always("sessions.patchMany", unavailable());
    let run = setting.run(&[]).expect(1);
    assert!(run.stderr.contains("the gateway is"), "{run:#?}");
    setting.gateway.calm();

    setting.gateway.once("sessions.patchMany", Trouble::Overtake);
    setting.gateway.always("sessions.patchMany", unavailable());
    let run = setting.run(&[]).expect(4);
    assert_eq!(run.summary(), "Applied: 50 changed, 0 restarted, 70 deferred, 0 failed.", "{run:#?}");
    setting.gateway.calm();
    let run = setting.run(&[]).expect(0);
    assert!(run.summary().starts_with("Applied: 70 changed"), "{run:#?}");
}

#[test]
fn a_change_without_a_reply_is_looked_for() {
    // It was made.
    let setting = Setting::new();
    setting.gateway.once("sessions.patchMany", Trouble::CutAfter);
    let report = setting.json(&["--chat", CAL]);
    assert_eq!(row(&report, CAL)["outcome"], "done", "{report:#}");

    // It was not.
    let setting = Setting::new();
    setting.gateway.once("sessions.patchMany", Trouble::Cut);
    let report = setting.json(&["--chat", CAL]);
    assert_eq!(row(&report, CAL)["outcome"], "deferred", "{report:#}");
    assert!(row(&report, CAL)["detail"].as_str().unwrap().contains("has not made the change"), "{report:#}");

    // That cannot be told. The plan has been made by then.
    let setting = Setting::new();
    setting.gateway.once("sessions.patchMany", Trouble::CutAfter);
    setting.gateway.once("sessions.list", Trouble::Overtake);
    setting.gateway.always("sessions.list", Trouble::Cut);
    let run = setting.run(&["--chat", CAL, "--format", "json"]).expect(4);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(row(&report, CAL)["outcome"], "unknown", "{report:#}");
}

#[test]
fn what_the_user_changes_back_is_corrected_three_times_and_then_held() {
    let setting = Setting::new();
    for _ in 0..3 {
        setting.run(&["--chat", CAL]).expect(0);
        let mut world = setting.gateway.world();
        let row = world.sessions.iter_mut().find(|row| row["key"] == CAL).unwrap();
        (row["model"], row["modelOverrideSource"]) = ("mid".into(), "user".into());
    }
    let report = setting.json(&["--chat", CAL]);
    assert_eq!(row(&report, CAL)["outcome"], "held", "{report:#}");
    setting.run(&["--chat", CAL]).expect(4);
}

#[test]
fn a_gateway_that_is_starting_is_waited_for() {
    let setting = Setting::new();
    let details = json!({ "reason": "startup-sidecars" });
    let error = json!({ "code": "UNAVAILABLE", "message": "starting", "retryAfterMs": 1, "details": details });
    setting.gateway.once("connect", Trouble::Refuse(error));
    setting.run(&[]).expect(0);
}

/// As many chats as [`many`], of which the gateway refuses to pin the first to fake/big.
fn with_one_refused(count: usize, more: &str) -> Setting {
    let setting = Setting::of(many(count), &format!("[limits]\nmax_changes = 200\n{more}"));
    setting.gateway.once(
        "sessions.patchMany",
        Trouble::Alter(|reply| {
            let error = json!({ "code": "INVALID_REQUEST", "message": "model not allowed: fake/big" });
            let key = reply["outcomes"][0]["key"].clone();
            reply["outcomes"][0] = json!({ "ok": false, "key": key, "error": error });
        }),
    );
    setting
}

#[test]
fn after_so_many_failures_no_further_request_is_made() {
    let setting = with_one_refused(120, "");
    let run = setting.run(&[]).expect(4);
    assert_eq!(run.summary(), "Applied: 49 changed, 0 restarted, 70 deferred, 1 failed.", "{run:#?}");
    assert!(run.stdout.contains("rollout stopped after 1 failure"), "{run:#?}");
    assert_eq!(setting.gateway.count("sessions.patchMany"), 1);
    let setting = with_one_refused(120, "[rollout]\nmax_failures = 2\n");
    let run = setting.run(&[]).expect(4);
    assert_eq!(run.summary(), "Applied: 119 changed, 0 restarted, 0 deferred, 1 failed.", "{run:#?}");
}

#[test]
fn a_pause_is_made_between_two_requests() {
    let setting = Setting::of(many(120), "[limits]\nmax_changes = 200\n[rollout]\npause = \"1ms\"\n");
    let run = setting.run(&[]).expect(0);
    assert!(run.summary().starts_with("Applied: 120 changed"), "{run:#?}");
    // Once for the plan, and once to read back each of three portions.
    assert_eq!((setting.gateway.count("sessions.patchMany"), setting.gateway.count("sessions.list")), (3, 4));
}

#[test]
fn a_run_that_is_killed_between_two_requests_is_finished_by_the_next() {
    let setting = Setting::of(many(120), "[limits]\nmax_changes = 200\n");
    let policy = setting.sandbox.read("policy.toml").replace("timeout = \"1s\"", "timeout = \"60s\"");
    setting.sandbox.write("policy.toml", policy);
    setting.gateway.once("sessions.patchMany", Trouble::Overtake);
    setting.gateway.always("sessions.patchMany", Trouble::Silence);
    let mut run = setting.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the second request", || setting.gateway.count("sessions.patchMany") == 2);
    run.kill().unwrap();
    run.wait().unwrap();
    setting.gateway.calm();

    let planned = setting.run(&["--dry-run"]).expect(0);
    assert!(planned.summary().starts_with("Plan: 70 to change"), "{planned:#?}");
    let run = setting.run(&[]).expect(0);
    assert!(run.summary().starts_with("Applied: 70 changed"), "{run:#?}");
    assert!(setting.run(&[]).expect(0).summary().starts_with("No changes."));
    // What the killed run did is told as well.
    let history = setting.run(&["history", "--format", "json"]).expect(0);
    let runs: Vec<Value> = history.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = |run: &Value| run["changes"].as_array().unwrap().iter().filter(|row| row["outcome"] == "done").count();
    assert_eq!(runs.iter().map(rows).collect::<Vec<_>>(), [70, 50], "{history:#?}");
}
