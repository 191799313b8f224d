//! Rollouts over sessions that are files: a model that does not come up takes down no other session, and nothing that
//! failed is forgotten.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use reconcile::apply::Watch;
use reconcile::chat::Model;
use reconcile::plan::ledger::Note;
use reconcile::plan::trial::Blame;
use reconcile::policy::Policy;
use serde_json::{Value, json};

use crate::support::{Sandbox, registry, row, write_ledger};
use crate::world::{Behaviour, World, at, policy};

const POLICY: &str = r#"
[models]
allowed  = ["opus", "sonnet", "haiku"]
fallback = "opus"
[registry]
path = "sessions.json"
[sessions]
restart  = ["./restart"]
running  = ["./running"]
identity = ["./identity"]
timeout  = "1s"
parallel = 1
"#;

/// What starts a session that is restarted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Starter {
    /// The restart command itself.
    Restart,
    /// A launch, which strikes the debt.
    Launch,
}

/// Sessions that run on what they are registered with. A session that runs is a file `up-CHAT`; a line `CHAT MODEL` of
/// `broken` is a start that fails.
fn sessions(chats: &[&str], starter: Starter, rollout: &str) -> Sandbox {
    let entries: Vec<(&str, &str, &str)> = chats.iter().map(|chat| (*chat, "none", "opus")).collect();
    let sandbox = Sandbox::new("", &registry(&entries));
    sandbox.script(
        "start",
        "rm -f up-$1; echo $1 >> starts; ! grep -qxF \"$1 $2\" broken || exit 1; echo $2 $(wc -l < starts) > up-$1",
    );
    let launch = format!("exec {} launch $RECONCILE_CHAT_ID -- ./start $1 {{model}}", env!("CARGO_BIN_EXE_reconcile"));
    sandbox.script("launch", &launch.replace("$RECONCILE_CHAT_ID", "$1"));
    let start = if starter == Starter::Launch {
        "./launch $RECONCILE_CHAT_ID"
    } else {
        "./start $RECONCILE_CHAT_ID $RECONCILE_MODEL"
    };
    sandbox.script("restart", &format!("echo $RECONCILE_CHAT_ID >> calls; {start}"));
    sandbox.script("running", "if [ -e flaps ]; then rm flaps; exit 0; fi; test -e up-$RECONCILE_CHAT_ID || exit 3");
    sandbox.script("identity", "cat up-$RECONCILE_CHAT_ID");
    for chat in chats {
        sandbox.write(&format!("up-{chat}"), "opus 0\n");
    }
    sandbox.write("rollout", format!("[rollout]\nmin_healthy = \"0s\"\n{rollout}\n"));
    sandbox.write("broken", "");
    sandbox
}

/// Decides on these models, and opus for all other chats.
fn decide(sandbox: &Sandbox, models: &[(&str, &str)]) {
    let chats: String = models.iter().map(|(chat, model)| format!("{chat:?} = {model:?}\n")).collect();
    sandbox.write("policy.toml", format!("{POLICY}{}[chats]\n{chats}", sandbox.read("rollout")));
}

/// What each of these sessions runs, if it does.
fn up<'c>(sandbox: &Sandbox, chats: &[&'c str]) -> Vec<(&'c str, Option<String>)> {
    let model = |chat: &str| sandbox.read(&format!("up-{chat}")).split(' ').next().map(str::to_owned);
    chats.iter().map(|chat| (*chat, model(chat).filter(|model| !model.is_empty()))).collect()
}

fn on<'c>(models: &[(&'c str, Option<&str>)]) -> Vec<(&'c str, Option<String>)> {
    models.iter().map(|(chat, model)| (*chat, model.map(str::to_owned))).collect()
}

/// Lets the waits for a next try be over, in these parts of the ledger.
fn let_waits_be_over(sandbox: &Sandbox, parts: &[&str]) {
    let mut ledger = sandbox.ledger();
    for part in parts {
        for waits in ledger[part].as_object_mut().unwrap().values_mut() {
            waits.as_object_mut().unwrap().remove("next_try");
        }
    }
    write_ledger(&sandbox.path("sessions.json.reconcile"), ledger);
}

fn outcome<'r>(report: &'r Value, chat: &str) -> (&'r str, &'r str) {
    let row = row(report, chat);
    (row["outcome"].as_str().unwrap(), row["detail"].as_str().unwrap_or_default())
}

#[test]
fn a_failed_model_is_tried_on_no_other_chat_where_that_of_its_failure_is_stopped() {
    let waits = ("deferred", "it did not come up on sonnet, and is tried again once it is running");
    let first = ("deferred", "sonnet did not come up on a, and is tried there first");
    // The session may stop right after a run has found it running.
    let not_needed = ("done", "not running: it will start on its model");
    let failed_before = ("deferred", "sonnet has failed before, and could not be tried again on a");
    for (flaps, a, b) in [(false, waits, first), (true, not_needed, failed_before)] {
        let sandbox = sessions(&["a", "b"], Starter::Restart, "");
        sandbox.write("broken", "a sonnet\nb sonnet\n");
        decide(&sandbox, &[("a", "sonnet"), ("b", "sonnet")]);
        sandbox.run(&[]).expect(4);
        assert_eq!(sandbox.calls(), ["a", "a"]);
        fs::remove_file(sandbox.path("up-a")).unwrap();
        let_waits_be_over(&sandbox, &["failed"]);
        if flaps {
            sandbox.write("flaps", "");
        }
        let report = sandbox.json(&[]);
        assert_eq!((outcome(&report, "a"), outcome(&report, "b")), (a, b));
        assert_eq!((sandbox.calls().len(), sandbox.model("b").as_deref()), (2, Some("opus")));
    }
}

#[test]
fn that_a_model_failed_is_remembered_also_where_its_session_does_not_come_up_on_the_old_one_either() {
    let sandbox = sessions(&["a", "b"], Starter::Restart, "");
    sandbox.has_seen(&["opus"]);
    sandbox.write("broken", "a sonnet\nb sonnet\nb opus\n");
    decide(&sandbox, &[("b", "sonnet")]);
    sandbox.run(&[]).expect(4);
    assert_eq!(sandbox.calls(), ["b", "b"]);

    decide(&sandbox, &[("a", "sonnet"), ("b", "sonnet")]);
    let_waits_be_over(&sandbox, &["owed"]);
    assert_eq!(outcome(&sandbox.json(&[]), "b").0, "failed");
    let report = sandbox.json(&[]);
    assert_eq!(outcome(&report, "a"), ("deferred", "sonnet did not come up on b, and is tried there first"));
    assert_eq!(report["failed_models"], json!([{ "model": "sonnet", "chat_id": "b", "attempts": 1 }]));
    assert_eq!(sandbox.calls(), ["b", "b", "b"]);
}

#[test]
fn a_launch_leaves_it_to_a_run_to_try_a_model_also_on_the_chat_that_is_to_be_its_canary() {
    let sandbox = sessions(&["a"], Starter::Launch, "");
    let trials = json!({ "sonnet": { "trying": "a" } });
    write_ledger(&sandbox.path("sessions.json.reconcile"), json!({ "trials": trials }));
    decide(&sandbox, &[("a", "sonnet")]);
    let launched = sandbox.run(&["launch", "a", "--", "./start", "a", "{model}"]).expect(0);
    let told = "note: a starts on opus, not on sonnet: no session is known to work on it, and the next run tries it\n";
    assert_eq!(launched.stderr, told);
    assert_eq!((up(&sandbox, &["a"]), sandbox.model("a").as_deref()), (on(&[("a", Some("opus"))]), Some("opus")));
}

#[test]
fn a_session_that_was_started_before_its_edit_was_taken_back_owes_a_restart() {
    for start in ["./start b sonnet", "./launch b"] {
        let sandbox = sessions(&["a", "b"], Starter::Restart, "");
        sandbox.has_seen(&["opus", "sonnet"]);
        sandbox.write("broken", "a sonnet\n");
        let restart = sandbox.read("restart").replace("#!/bin/sh", "").trim().to_owned();
        sandbox.script("restart", &format!("[ -e starts ] || {start}\n{restart}"));
        decide(&sandbox, &[("a", "sonnet"), ("b", "sonnet")]);
        let report = sandbox.json(&[]);
        assert_eq!(outcome(&report, "b"), ("deferred", "rollout stopped after 1 failure"));
        assert_eq!((report["summary"]["owed"].as_u64(), sandbox.model("b").as_deref()), (Some(1), Some("opus")));
        assert_eq!(up(&sandbox, &["a", "b"]), on(&[("a", Some("opus")), ("b", Some("sonnet"))]));
        decide(&sandbox, &[]);
        sandbox.run(&[]).expect(0);
        assert_eq!(up(&sandbox, &["a", "b"]), on(&[("a", Some("opus")), ("b", Some("opus"))]), "{start}");
    }
}

#[test]
fn a_session_whose_edit_was_taken_back_is_not_restarted_where_nothing_has_started_it_since() {
    let sandbox = sessions(&["a", "b"], Starter::Restart, "");
    sandbox.has_seen(&["opus", "sonnet"]);
    sandbox.write("broken", "a sonnet\n");
    decide(&sandbox, &[("a", "sonnet"), ("b", "sonnet")]);
    sandbox.run(&[]).expect(4);
    decide(&sandbox, &[]);
    let told = sandbox.run(&[]).expect(0).stderr;
    assert_eq!(
        told,
        "note: the restart owed to b is no longer needed: the registry again has the model that the session runs\n"
    );
    assert_eq!(sandbox.calls(), ["a", "a"]);
}

#[test]
fn a_session_that_did_not_come_up_is_tried_again_also_where_a_launch_has_struck_its_debt() {
    let sandbox = sessions(&["a"], Starter::Launch, "auto_revert = false");
    sandbox.has_seen(&["opus", "sonnet", "haiku"]);
    sandbox.write("broken", "a sonnet\n");
    decide(&sandbox, &[("a", "sonnet")]);
    for calls in 1..4 {
        assert_eq!(outcome(&sandbox.json(&[]), "a").0, "failed");
        assert_eq!(sandbox.calls().len(), calls);
        // Its supervisor starts it again and again.
        sandbox.run(&["launch", "a", "--", "./start", "a", "{model}"]).expect(1);
        assert_eq!(sandbox.ledger()["owed"], json!({}));
        let_waits_be_over(&sandbox, &["failed"]);
    }
    // Another decision does not make it one that has been stopped by its user.
    decide(&sandbox, &[("a", "haiku")]);
    assert_eq!(outcome(&sandbox.json(&[]), "a"), ("done", ""));
    assert_eq!(up(&sandbox, &["a"]), on(&[("a", Some("haiku"))]));
}

#[test]
fn after_a_canary_that_failed_the_rest_is_not_even_edited() {
    let sandbox = sessions(&["a", "b"], Starter::Restart, "");
    sandbox.has_seen(&["opus", "haiku"]);
    sandbox.write("broken", "a sonnet\n");
    decide(&sandbox, &[("a", "sonnet"), ("b", "haiku")]);
    let report = sandbox.json(&[]);
    assert_eq!(outcome(&report, "b"), ("deferred", "rollout stopped after 1 failure"));
    assert_eq!((sandbox.ledger()["owed"].clone(), sandbox.model("b").as_deref()), (json!({}), Some("opus")));
}

#[test]
fn a_session_that_was_down_before_a_change_is_not_put_back() {
    let sandbox = sessions(&["a"], Starter::Restart, "auto_revert = false");
    sandbox.has_seen(&["opus", "sonnet", "haiku"]);
    sandbox.write("broken", "a sonnet\na haiku\n");
    let failed = ("failed", "the restart command (./restart) exited with code 1; the session is not running");
    decide(&sandbox, &[("a", "sonnet")]);
    assert_eq!(outcome(&sandbox.json(&[]), "a"), failed);
    sandbox.write("rollout", "[rollout]\nmin_healthy = \"0s\"\n");
    decide(&sandbox, &[("a", "haiku")]);
    assert_eq!(outcome(&sandbox.json(&[]), "a"), failed);
    assert_eq!((sandbox.model("a").as_deref(), sandbox.calls().len()), (Some("haiku"), 2));
}

#[test]
fn a_session_that_does_not_come_up_on_its_old_model_owes_a_restart_also_where_a_launch_starts_it() {
    let sandbox = sessions(&["a"], Starter::Launch, "");
    sandbox.has_seen(&["opus", "sonnet"]);
    sandbox.write("broken", "a sonnet\na opus\n");
    decide(&sandbox, &[("a", "sonnet")]);
    let report = sandbox.json(&[]);
    assert!(outcome(&report, "a").1.starts_with("reverted to opus, on which it did not come up either"), "{report:#}");
    assert_eq!((&report["summary"]["owed"], &sandbox.ledger()["owed"]["a"]["began"]), (&json!(1), &json!(true)));
    decide(&sandbox, &[]);
    assert_eq!(outcome(&sandbox.json(&["--retry", "a"]), "a").0, "failed");
    sandbox.write("broken", "");
    assert_eq!(outcome(&sandbox.json(&["--retry", "a"]), "a"), ("done", ""));
    assert_eq!(up(&sandbox, &["a"]), on(&[("a", Some("opus"))]));
}

/// Something that happens in each pause of a run.
struct InPauses<'w> {
    world: &'w World,
    act: fn(&World),
    pauses: Mutex<usize>,
}

impl Watch for InPauses<'_> {
    fn interrupted(&self) -> bool {
        false
    }

    fn pause(&self, _: Duration) {
        (self.act)(self.world);
        *self.pauses.lock().unwrap() += 1;
    }
}

/// Three sessions that run opus. That of cal owes a restart on sonnet, which it has not had yet.
fn owing() -> World {
    let world = World::new(r#"{"ada": {"model": "opus"}, "ben": {"model": "opus"}, "cal": {"model": "opus"}}"#);
    let mut state = world.state();
    let now = at(0).timestamp();
    for model in ["opus", "sonnet", "haiku"] {
        let model = Model::new(model).unwrap();
        state.ledger.note(&Note::Worked { chat: "ada", model: &model }, now);
    }
    state.set("cal", Some("sonnet"));
    let (opus, run) = (Model::new("opus").unwrap(), state.run_of("cal"));
    state.ledger.note(&Note::Owes { chat: "cal", ran: Some(&opus), identity: Some(&run) }, now);
    drop(state);
    world
}

fn paused(chats: &[(&str, &str)]) -> Policy {
    let mut policy = policy(chats);
    policy.rollout.pause = Duration::from_secs(1);
    policy
}

#[test]
fn what_a_session_owes_is_void_in_a_later_part_only_where_nothing_has_started_it_by_then() {
    let by_itself: fn(&World) = |world| world.state().start("cal");
    let launched: fn(&World) = |world| world.state().start_all();
    for act in [by_itself, launched, |_| {}] {
        let world = owing();
        let watch = InPauses { world: &world, act, pauses: Mutex::default() };
        let policy = paused(&[("ada", "sonnet"), ("ben", "haiku"), ("cal", "opus")]);
        let applied = world.watched(&policy, 1, None, &watch).unwrap();
        assert!(applied.error.is_none(), "{applied:#?}");
        assert!(*watch.pauses.lock().unwrap() > 0);
        let state = world.state();
        assert_eq!(state.runs["cal"], "opus");
        assert_eq!((state.entries["cal"].as_deref(), state.ledger.owed.len()), (Some("opus"), 0));
    }
}

#[test]
fn a_session_that_runs_its_model_after_all_does_not_wait_where_that_has_failed_elsewhere() {
    let world = owing();
    let opus = Model::new("opus").unwrap();
    let mut state = world.state();
    state.ledger.note(&Note::DidNotComeUp { chat: "ben", model: &opus, blame: Blame::Model }, at(0).timestamp());
    state.set("ben", Some("haiku"));
    state.behaviours.insert(("ben".to_owned(), "opus".to_owned()), Behaviour::Fails);
    drop(state);
    world.run(&policy(&[("ada", "opus"), ("ben", "opus"), ("cal", "opus")]), 0, None).unwrap();
    let state = world.state();
    assert_eq!((state.entries["cal"].as_deref(), state.ledger.owed.len(), state.tried.len()), (Some("opus"), 0, 0));
    assert_eq!(state.runs["cal"], "opus");
}

#[test]
fn without_a_canary_every_session_gets_an_untried_model_at_once() {
    let sandbox = sessions(&["a", "b"], Starter::Restart, "canary = false\n");
    decide(&sandbox, &[("a", "sonnet"), ("b", "sonnet")]);
    let plan = sandbox.json(&["--dry-run"]);
    assert!(plan["changes"].as_array().unwrap().iter().all(|row| row["canary"] == false), "{plan:#}");
    let launched = sandbox.run(&["launch", "a", "--", "./start", "a", "{model}"]).expect(0);
    assert!(!launched.stderr.contains("starts on opus"), "{}", launched.stderr);
    sandbox.run(&[]).expect(0);
    assert_eq!(up(&sandbox, &["a", "b"]), on(&[("a", Some("sonnet")), ("b", Some("sonnet"))]));
}

/// The chat of a launch, what is remembered, and why its session does not start on sonnet.
type Kept = (&'static str, Value, &'static str);

#[test]
fn a_launch_starts_on_what_the_registry_says_where_the_model_of_its_chat_is_not_known_to_work() {
    let failed = json!({ "a": { "model": "sonnet", "since": "2026-01-01T00:00:00Z", "attempts": 1 } });
    let kept: [Kept; 5] = [
        ("b", json!({ "trials": { "sonnet": "failed" }, "failed": failed }), "it did not come up on a"),
        ("a", json!({ "trials": { "sonnet": "failed" }, "failed": failed }), "the session did not come up on it"),
        (
            "a",
            json!({ "trials": { "sonnet": { "worked": "2026-01-01T00:00:00Z" } }, "failed": failed }),
            "the session did not come up on it",
        ),
        ("b", json!({ "trials": { "sonnet": { "trying": "a" } } }), "it is being tried on a"),
        ("b", json!({}), "no session is known to work on it, and the next run tries it"),
    ];
    for (chat, ledger, why) in kept {
        let sandbox = sessions(&["a", "b"], Starter::Launch, "");
        write_ledger(&sandbox.path("sessions.json.reconcile"), ledger);
        decide(&sandbox, &[("a", "sonnet"), ("b", "sonnet")]);
        let before = sandbox.read("sessions.json");
        let launched = sandbox.run(&["launch", chat, "--", "./start", chat, "{model}"]).expect(0);
        assert_eq!(launched.stderr, format!("note: {chat} starts on opus, not on sonnet: {why}\n"));
        assert_eq!((up(&sandbox, &[chat]), sandbox.read("sessions.json")), (on(&[(chat, Some("opus"))]), before));
    }
}

#[test]
fn a_launch_without_a_model_in_the_registry_starts_on_the_last_one_that_worked() {
    let sandbox = sessions(&["a"], Starter::Launch, "");
    sandbox.write("sessions.json", registry(&[("a", "none", "")]));
    let worked = |day: &str| json!({ "worked": format!("2026-01-{day}T00:00:00Z") });
    let trials =
        json!({ "opus": worked("01"), "haiku": worked("02"), "sonnet": "failed", "no longer allowed": worked("03") });
    write_ledger(&sandbox.path("sessions.json.reconcile"), json!({ "trials": trials }));
    decide(&sandbox, &[("a", "sonnet")]);
    sandbox.run(&["launch", "a", "--", "./start", "a", "{model}"]).expect(0);
    assert_eq!((up(&sandbox, &["a"]), sandbox.model("a")), (on(&[("a", Some("haiku"))]), None));
}

#[test]
fn what_is_put_back_is_not_changed_back_by_something_else() {
    let world = World::new(r#"{"ada": {"model": "opus"}}"#);
    let mut state = world.state();
    let (opus, sonnet, now) = (Model::new("opus").unwrap(), Model::new("sonnet").unwrap(), at(0).timestamp());
    // An earlier run has made the change, and ended before the restart.
    state.set("ada", Some("sonnet"));
    state.ledger.note(&Note::Owes { chat: "ada", ran: Some(&opus), identity: None }, now);
    state.ledger.note(&Note::Confirmed { chat: "ada", model: &sonnet }, now);
    state.behaviours.insert(("ada".to_owned(), "sonnet".to_owned()), Behaviour::Fails);
    drop(state);
    let policy = policy(&[("ada", "sonnet")]);
    world.run(&policy, 1, None).unwrap();
    assert_eq!(world.state().entries["ada"].as_deref(), Some("opus"));
    assert_eq!(world.plan(&policy, 2).rows[0].changed_back, []);
}

#[test]
fn what_is_forgotten_counts_against_no_model_any_more() {
    for forget in [&["owed", "--forget", "a"][..], &["owed", "--forget-all"]] {
        let sandbox = sessions(&["a"], Starter::Restart, "auto_revert = false");
        sandbox.write("broken", "a sonnet\n");
        decide(&sandbox, &[("a", "sonnet")]);
        sandbox.run(&[]).expect(4);
        assert_eq!(sandbox.ledger()["trials"], json!({ "sonnet": "failed" }));
        sandbox.run(forget).expect(0);
        let ledger = sandbox.ledger();
        assert_eq!((&ledger["owed"], &ledger["failed"], &ledger["trials"]), (&json!({}), &json!({}), &json!({})));
    }
}
