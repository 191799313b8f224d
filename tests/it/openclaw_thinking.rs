//! The thinking level of a session, which a model that cannot think takes with it: it is saved, and put back.

use serde_json::{Value, json};

use crate::gateway::Trouble;
use crate::openclaw::{CAL, Setting, pinned, world};
use crate::support::row;

/// A policy under which a chat that thinks moves to fake/mid, which cannot, and back.
fn setting() -> Setting {
    let mut world = world();
    world.sessions.retain(|row| row["key"] != CAL);
    world.add(CAL, &pinned("fake/big", &json!({ "category": "family", "thinkingLevel": "high" })));
    Setting::of(world, "")
}

fn decide(setting: &Setting, model: &str) {
    let policy = setting.sandbox.read("policy.toml");
    let (before, after) = policy.split_once("family = ").unwrap();
    let rest = after.split_once('\n').unwrap().1;
    setting.sandbox.write("policy.toml", format!("{before}family = {model:?}\n{rest}"));
}

fn level(setting: &Setting) -> Option<String> {
    setting.gateway.world().row(CAL)["thinkingLevel"].as_str().map(str::to_owned)
}

/// What a run says of the chat.
fn detail(setting: &Setting, arguments: &[&str]) -> Value {
    let run = setting.run(&[arguments, &["--format", "json"]].concat()).expect(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    row(&report, CAL)["detail"].clone()
}

#[test]
fn a_level_that_a_model_takes_with_it_is_put_back_with_a_model_that_can_think() {
    let setting = setting();
    decide(&setting, "fake/mid");
    let lost = json!("its thinking level high is saved: fake/mid cannot think");
    assert_eq!(detail(&setting, &["--dry-run"]), lost);
    assert!(!setting.sandbox.path("state").exists(), "a dry run saves nothing");
    assert_eq!(detail(&setting, &[]), lost);
    assert_eq!(level(&setting).as_deref(), Some("off"));

    decide(&setting, "fake/small");
    assert_eq!(detail(&setting, &[]), Value::Null, "another model that cannot think");

    decide(&setting, "fake/big");
    assert_eq!(detail(&setting, &[]), json!("its thinking level high is put back"));
    assert_eq!(level(&setting).as_deref(), Some("high"));
    assert!(setting.run(&[]).expect(0).summary().starts_with("No changes."));
}

#[test]
fn the_level_is_saved_before_the_change_is_asked_for() {
    let setting = setting();
    decide(&setting, "fake/mid");
    // It is made, and nothing says so.
    setting.gateway.once("sessions.patchMany", Trouble::CutAfter);
    setting.gateway.once("sessions.list", Trouble::Overtake);
    setting.gateway.always("sessions.list", Trouble::Cut);
    setting.run(&["--chat", CAL]).expect(4);
    setting.gateway.calm();
    assert_eq!(level(&setting).as_deref(), Some("off"));
    decide(&setting, "fake/big");
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(level(&setting).as_deref(), Some("high"));
}

#[test]
fn what_openclaw_runs_by_default_counts_for_a_session_that_is_let_go() {
    let setting = setting();
    setting.gateway.world().agents.insert("main".to_owned(), None);
    decide(&setting, "default");
    // fake/mid is the default, and cannot think.
    assert_eq!(detail(&setting, &["--chat", CAL]), json!("its thinking level high is saved: default cannot think"));
    assert_eq!(level(&setting).as_deref(), Some("off"));
}

#[test]
fn a_level_that_a_model_does_not_have_stays_saved_and_does_not_keep_the_model_away() {
    let setting = setting();
    decide(&setting, "fake/mid");
    setting.run(&["--chat", CAL]).expect(0);
    let without_high = |reply: &mut Value| {
        reply["models"][0]["thinkingLevels"] =
            json!([{ "id": "off", "label": "off" }, { "id": "low", "label": "low" }]);
    };
    setting.gateway.always("models.list", Trouble::Alter(without_high));
    decide(&setting, "fake/big");
    assert_eq!(detail(&setting, &["--chat", CAL]), Value::Null);
    let (_, asked) =
        setting.gateway.requests().into_iter().rfind(|(method, _)| method == "sessions.patchMany").unwrap();
    assert_eq!(
        asked["patch"],
        json!({ "model": "fake/big" }),
        "the gateway would refuse the level, and the model with it"
    );
    setting.gateway.calm();
    decide(&setting, "fake/mid");
    setting.run(&["--chat", CAL]).expect(0);
    decide(&setting, "fake/big");
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(level(&setting).as_deref(), Some("high"), "it was saved still");
}

#[test]
fn a_level_is_saved_where_openclaw_does_not_say_whether_a_model_can_think() {
    let setting = setting();
    decide(&setting, "default");
    setting.gateway.always("agents.list", Trouble::Alter(|reply| reply["agents"][0]["model"] = json!({})));
    let detail = detail(&setting, &["--chat", CAL]);
    assert_eq!(detail, "its thinking level high is saved: OpenClaw does not say whether default can think");
    assert_eq!(level(&setting).as_deref(), Some("off"));
    setting.gateway.calm();
    decide(&setting, "fake/big");
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(level(&setting).as_deref(), Some("high"));
}

#[test]
fn the_level_of_a_session_that_is_gone_is_not_given_to_another() {
    let setting = setting();
    decide(&setting, "fake/mid");
    setting.run(&["--chat", CAL]).expect(0);
    setting.gateway.world().make_anew(CAL);
    let mut world = setting.gateway.world();
    let row = world.sessions.iter_mut().find(|row| row["key"] == CAL).unwrap();
    row["category"] = "family".into();
    drop(world);
    decide(&setting, "fake/big");
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(level(&setting), None);
}

#[test]
fn a_level_that_the_user_has_chosen_since_stays() {
    let setting = setting();
    decide(&setting, "fake/mid");
    setting.run(&["--chat", CAL]).expect(0);
    let choose = |model: &str, level: &str| {
        let mut world = setting.gateway.world();
        let row = world.sessions.iter_mut().find(|row| row["key"] == CAL).unwrap();
        (row["model"], row["thinkingLevel"]) = (model.into(), level.into());
    };
    choose("big", "low");
    decide(&setting, "fake/big");
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!(level(&setting).as_deref(), Some("low"));
    // What was saved before that counts no longer, also where the user lets it think no more.
    setting.run(&[]).expect(0);
    choose("mid", "off");
    setting.run(&["--chat", CAL]).expect(0);
    assert_eq!((setting.pinned(CAL).as_deref(), level(&setting).as_deref()), (Some("fake/big"), Some("off")));
    choose("big", "low");
    setting.run(&["set-model", CAL, "fake/mid"]).expect(0);
    assert_eq!(level(&setting).as_deref(), Some("off"));
    setting.run(&["unset-model", CAL]).expect(0);
    assert_eq!(level(&setting).as_deref(), Some("low"));
}
