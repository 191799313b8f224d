//! Models that a policy calls by OpenClaw's aliases. A gateway that allows every model would pin a session to a model of that
//! very name, so it is asked for the full name.

use serde_json::{Value, json};

use crate::gateway::Model;
use crate::openclaw::{CAL, DEE, ROOM, Setting, pinned, world};
use crate::support::row;

/// A policy that calls all models by their aliases, of which it maps these.
fn setting(aliases: &str) -> Setting {
    let mut world = world();
    world.allowed.clear();
    let setting = Setting::of(world, "");
    let policy = setting.sandbox.read("policy.toml");
    let (_, rest) = policy.split_once("\"default\"]\n").unwrap();
    let rest = rest.replace("fake/big", "opus").replace("fake/small", "haiku");
    let allowed = "allowed = [\"opus\", \"sonnet\", \"haiku\", \"default\"]";
    let policy = format!("[models]\n{allowed}\naliases = {{ {aliases} }}\n{rest}");
    setting.sandbox.write("policy.toml", policy);
    setting
}

const ALL: &str = r#""fake/big" = "opus", "fake/mid" = "sonnet", "fake/small" = "haiku""#;
const ALL_BUT_OPUS: &str = r#""fake/mid" = "sonnet", "fake/small" = "haiku""#;

/// The models that have been asked for.
fn asked_for(setting: &Setting) -> Vec<Value> {
    let requests = setting.gateway.requests().into_iter();
    let patches = requests.filter(|(method, _)| method == "sessions.patchMany");
    patches.map(|(_, params)| params["patch"]["model"].clone()).collect()
}

#[test]
fn a_model_that_the_policy_calls_by_an_alias_is_asked_for_by_its_full_name() {
    let setting = setting(ALL);
    let run = setting.run(&[]).expect(0);
    assert_eq!(run.summary(), "Applied: 2 changed, 0 restarted, 0 deferred, 0 failed.", "{run:#?}");
    assert!(run.stdout.contains("default → opus"), "{run:#?}");
    assert_eq!(asked_for(&setting), [Value::Null, json!("fake/big")]);
    assert_eq!(setting.pinned(CAL).as_deref(), Some("fake/big"));
    assert_eq!(setting.pinned(DEE).as_deref(), Some("fake/small"), "it was in sync");
    assert!(setting.run(&[]).expect(0).summary().starts_with("No changes."));
}

#[test]
fn an_alias_that_the_policy_does_not_map_is_refused_because_it_would_never_be_in_sync() {
    let setting = setting(ALL_BUT_OPUS);
    let run = setting.run(&[]).expect(4);
    let why = "opus is OpenClaw's alias of fake/big: write that, or map it in models.aliases";
    assert!(run.stdout.contains(why), "{run:#?}");
    assert_eq!((setting.pinned(CAL), setting.pinned(ROOM)), (None, None));
    assert_eq!(asked_for(&setting), [Value::Null], "the others are changed");
    let url = setting.gateway.url();
    let check = setting.run(&["check", "--connect", &url]).expect(0);
    assert!(check.stdout.contains("[model-not-listed]"), "{check:#?}");
    assert!(check.stdout.contains(r#"add "fake/big" = "opus" to models.aliases"#), "{check:#?}");
}

#[test]
fn a_check_knows_the_default_by_its_alias() {
    let setting = setting(ALL);
    let url = setting.gateway.url();
    let codes = |policy: &str| {
        setting.sandbox.write("policy.toml", policy);
        let check = setting.run(&["check", "--connect", &url]).expect(0);
        ["model-not-listed", "pins-the-default", "new-chats"].map(|code| check.stdout.contains(&format!("[{code}]")))
    };
    let policy = setting.sandbox.read("policy.toml");
    assert_eq!(codes(&policy), [false, false, false]);
    // fake/mid is what OpenClaw runs sessions on anyway.
    assert_eq!(codes(&policy.replace("fallback = \"default\"", "fallback = \"sonnet\"")), [false, true, false]);
    assert_eq!(codes(&policy.replace("fallback = \"default\"", "fallback = \"haiku\"")), [false, false, true]);
}

#[test]
fn an_alias_of_a_model_that_pins_an_account_is_refused() {
    let setting = setting(r#""fake/big@work" = "opus", "fake/small" = "haiku""#);
    let odd = Model { id: "big@work", alias: Some("opus"), reasoning: true };
    setting.gateway.world().models[0] = odd;
    let run = setting.run(&["--chat", CAL]).expect(4);
    assert!(run.stdout.contains("the @ in fake/big@work would pin an account as well"), "{run:#?}");
    assert!(asked_for(&setting).is_empty());
}

#[test]
fn a_name_is_a_full_name_before_it_is_an_alias() {
    let setting = setting(ALL);
    setting.gateway.world().models[0].alias = Some("fake/small");
    let policy = setting.sandbox.read("policy.toml").replace(ALL, "").replace("opus", "fake/small");
    setting.sandbox.write("policy.toml", policy);
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(asked_for(&setting), [json!("fake/small")]);
}

#[test]
fn the_thinking_level_goes_by_the_model_that_an_alias_stands_for() {
    let setting = setting(ALL);
    let thinks = json!({ "category": "work", "thinkingLevel": "high" });
    setting.gateway.world().add("agent:main:thinker", &pinned("fake/big", &thinks));
    let run = setting.run(&["--chat", "agent:main:thinker", "--format", "json"]).expect(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let detail = &row(&report, "agent:main:thinker")["detail"];
    assert_eq!(detail, "its thinking level high is saved: haiku cannot think", "{report:#}");
    setting.run(&["set-model", "agent:main:thinker", "opus"]).expect(0);
    assert_eq!(setting.gateway.world().row("agent:main:thinker")["thinkingLevel"], "high");
}

#[test]
fn what_a_run_has_pinned_under_an_alias_was_not_pinned_by_hand_and_can_be_undone() {
    let setting = setting(ALL);
    let policy = setting.sandbox.read("policy.toml") + "[registry]\nexisting = \"keep-manual\"\n";
    setting.sandbox.write("policy.toml", &policy);
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(setting.pinned(CAL).as_deref(), Some("fake/big"));
    setting.sandbox.write("policy.toml", policy.replace("family = \"opus\"", "family = \"haiku\""));
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(setting.pinned(CAL).as_deref(), Some("fake/small"));
    setting.run(&["undo", "last"]).expect(0);
    assert_eq!(setting.pinned(CAL).as_deref(), Some("fake/big"));
}
