//! The OpenClaw gateway itself, with chats over a stand-in for Telegram; which model a turn runs on is seen at a stand-in
//! for the provider.
//!
//! A gateway takes a minute to start and a gigabyte of memory. So there is one, and one test, whose parts follow each other.
//! Another test, which takes many minutes, is run by `just openclaw`.

mod deaths;
mod figures;
mod http;
mod kit;
mod provider;
#[cfg(feature = "remote")]
mod remote;
mod telegram;

use std::time::Duration;

use reconcile::backend::openclaw::{Access, Fault, Gateway, Scope, Target, TargetOutcome, Token};

use crate::openclaw_real::kit::{Kit, reconcile, session, targets};
use crate::support::needs;

/// Longer than a gateway takes for anything, on a machine that is busy with other tests.
const SLOW: Duration = Duration::from_secs(180);

/// The chats of the test.
const CAL: &str = "agent:main:telegram:direct:100301";
const DEE: &str = "agent:main:telegram:direct:100302";
const GROUP: &str = "agent:main:telegram:group:-100888";

#[test]
#[ignore = "needs openclaw"]
fn a_real_gateway() {
    needs(&["openclaw"]);
    let kit = Kit::start();
    chats_are_listed_as_they_are_written_to(&kit);
    who_may_only_read_cannot_change_anything(&kit);
    a_wrong_token_is_not_let_in(&kit);
    a_chat_that_is_not_there_is_not_made(&kit);
    a_run_decides_on_which_model_the_next_turn_runs(&kit);
    mistyped_models_are_taken_and_unknown_providers_are_not(&kit);
    a_model_that_cannot_think_takes_the_thinking_level_with_it(&kit);
}

fn chats_are_listed_as_they_are_written_to(kit: &Kit) {
    kit.telegram.say(100_301, "I am Cal");
    kit.telegram.say(100_302, "I am Dee");
    kit.telegram.say_in(-100_888, 100_301, "we are a group");
    for text in ["I am Cal", "I am Dee", "we are a group"] {
        assert_eq!(kit.provider.model_of(text), "mid");
    }
    let mut gateway = kit.connect(Scope::Read).unwrap();
    assert_eq!(gateway.version(), "2026.9.6");
    let listed = gateway.sessions().unwrap();
    assert_eq!(listed.default_model.as_deref(), Some("fake/mid"));
    for (key, classification, name) in [(CAL, "direct", "Person 100301 id:100301"), (GROUP, "group", "Group -100888")] {
        let row = listed.rows.iter().find(|row| row.key == key).unwrap();
        assert_eq!(row.classification, classification);
        assert_eq!(row.own_name.as_deref(), Some(name));
        assert_eq!((row.agent.as_str(), row.account.as_deref()), ("main", Some("default")));
        assert_eq!((row.channel.as_deref(), row.pinned.as_deref()), (Some("telegram"), None));
        assert!(!row.is_background);
    }
    let agents = gateway.agents().unwrap();
    assert_eq!((agents[0].id.as_str(), agents[0].model.fallbacks.as_slice()), ("main", &["fake/small".to_owned()][..]));
    let models = gateway.models("main").unwrap();
    let names: Vec<(String, bool)> = models.iter().map(|model| (model.name(), model.reasoning)).collect();
    let expected = [("fake/big", true), ("fake/mid", false), ("fake/small", false)];
    assert_eq!(names, expected.map(|(name, reasoning)| (name.to_owned(), reasoning)));
    assert!(models[0].has_level("high") && !models[0].has_level("nonsense") && !models[1].has_level("high"));
    let configuration = gateway.configuration().unwrap();
    assert_eq!(configuration.dm_scope.as_deref(), Some("per-channel-peer"));
    assert!(configuration.channels_with_models.is_empty());
}

fn who_may_only_read_cannot_change_anything(kit: &Kit) {
    let mut gateway = kit.connect(Scope::Read).unwrap();
    let targets = targets(&mut gateway, &[CAL]);
    let fault = gateway.patch(&targets, Some("fake/big")).unwrap_err();
    assert_eq!(fault, Fault::MissingScope("operator.write".to_owned()));
    assert_eq!(session(&mut gateway, CAL).pinned, None);
}

fn a_wrong_token_is_not_let_in(kit: &Kit) {
    let fault = |token: Option<Token>| {
        let access = Access::with_token(kit.url().parse().unwrap(), token);
        Gateway::connect(access, Scope::Read, SLOW).err().unwrap()
    };
    let wrong = fault(Some(Token::new("wrong")));
    assert!(matches!(&wrong, Fault::NotLetIn { code, .. } if code == "AUTH_TOKEN_MISMATCH"), "{wrong:?}");
    let none = fault(None);
    assert!(matches!(&none, Fault::NotLetIn { code, .. } if code == "DEVICE_IDENTITY_REQUIRED"), "{none:?}");
}

fn a_chat_that_is_not_there_is_not_made(kit: &Kit) {
    let mut gateway = kit.connect(Scope::Write).unwrap();
    let session_id = session(&mut gateway, CAL).session_id.unwrap();
    let before = gateway.sessions().unwrap().rows.len();
    let gone = Target { key: "agent:main:telegram:direct:1".to_owned(), session_id: session_id.clone() };
    let anew = Target { key: DEE.to_owned(), session_id };
    let outcomes = gateway.patch(&[gone, anew], Some("fake/big")).unwrap();
    assert_eq!(outcomes, [TargetOutcome::SessionChanged, TargetOutcome::SessionChanged]);
    assert_eq!(gateway.sessions().unwrap().rows.len(), before);
    assert_eq!(session(&mut gateway, DEE).pinned, None);
}

/// Why names are looked up before the first change, and `@` is refused.
fn mistyped_models_are_taken_and_unknown_providers_are_not(kit: &Kit) {
    let mut gateway = kit.connect(Scope::Write).unwrap();
    let targets = targets(&mut gateway, &[DEE]);
    for (model, pinned) in [("fake/nope", "fake/nope"), ("opus", "fake/opus"), ("fake/big@work", "fake/big")] {
        assert_eq!(gateway.patch(&targets, Some(model)), Ok(vec![TargetOutcome::Done]));
        assert_eq!(session(&mut gateway, DEE).pinned.as_deref(), Some(pinned));
    }
    let refused = "Unknown provider \"nosuch\". Use /models to list providers.";
    let outcomes = gateway.patch(&targets, Some("nosuch/thing")).unwrap();
    assert_eq!(outcomes, [TargetOutcome::Refused(refused.to_owned())]);
    gateway.patch(&targets, None).unwrap();
}

fn a_model_that_cannot_think_takes_the_thinking_level_with_it(kit: &Kit) {
    let mut gateway = kit.connect(Scope::Write).unwrap();
    let targets = targets(&mut gateway, &[CAL]);
    gateway.patch(&targets, Some("fake/big")).unwrap();
    assert_eq!(gateway.set_thinking(&targets, Some("high")), Ok(vec![TargetOutcome::Done]));
    assert_eq!(session(&mut gateway, CAL).thinking.as_deref(), Some("high"));
    for model in ["fake/mid", "fake/big"] {
        gateway.patch(&targets, Some(model)).unwrap();
        assert_eq!(session(&mut gateway, CAL).thinking.as_deref(), Some("off"), "{model}");
    }
    assert_eq!(gateway.set_thinking(&targets, Some("high")), Ok(vec![TargetOutcome::Done]));
    assert_eq!(session(&mut gateway, CAL).thinking.as_deref(), Some("high"));
}

/// The program itself: a tier from the sidebar, a rule and an override; then what a user does in the chat; then none of that.
fn a_run_decides_on_which_model_the_next_turn_runs(kit: &Kit) {
    kit.sort_into("family", &[CAL]);
    let rules = format!(
        "[tiers]\nfamily = \"fake/big\"\n[[rules]]\ntype = \"group\"\nmodel = \"fake/small\"\n[chats]\n{DEE:?} = \"fake/small\"\n"
    );
    let sandbox = kit.sandbox(&rules);
    let report = reconcile(&sandbox, &["--dry-run"]).expect(0);
    assert!(report.summary().starts_with("Plan: 3 to change, 0 to restart"), "{report:#?}");
    let pins = || [CAL, DEE, GROUP].map(|key| session(&mut kit.connect(Scope::Read).unwrap(), key).pinned);
    assert_eq!(pins(), [None, None, None]);

    let run = reconcile(&sandbox, &[]).expect(0);
    assert_eq!(run.summary(), "Applied: 3 changed, 0 restarted, 0 deferred, 0 failed.", "{run:#?}");
    kit.telegram.say(100_301, "who answers Cal now?");
    kit.telegram.say(100_302, "and Dee?");
    kit.telegram.say_in(-100_888, 100_302, "and the group?");
    assert_eq!(kit.provider.model_of("who answers Cal now?"), "big");
    assert_eq!(kit.provider.model_of("and Dee?"), "small");
    assert_eq!(kit.provider.model_of("and the group?"), "small");

    kit.telegram.say(100_301, "/model fake/small");
    kit.until("the user's choice counts", || pins()[0].as_deref() == Some("fake/small"));
    let run = reconcile(&sandbox, &[]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed.", "{run:#?}");
    assert_eq!(pins()[0].as_deref(), Some("fake/big"));
    assert!(reconcile(&sandbox, &[]).expect(0).summary().starts_with("No changes."));

    let run = reconcile(&kit.sandbox(""), &[]).expect(0);
    assert_eq!(run.summary(), "Applied: 3 changed, 0 restarted, 0 deferred, 0 failed.", "{run:#?}");
    assert_eq!(pins(), [None, None, None]);
    kit.telegram.say(100_301, "and whoever is the default?");
    assert_eq!(kit.provider.model_of("and whoever is the default?"), "mid");
}
