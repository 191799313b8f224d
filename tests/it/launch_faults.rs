//! A launch on a disk that fails: it starts its session, or changes nothing, or says what it has changed and what is owed.

use serde_json::Value;

use crate::injected::each_refusal;
use crate::launch::sandbox;
use crate::support::{POLICY, Run, Sandbox, needs, registry};

const LAUNCH: [&str; 6] = ["launch", "+1", "--tier", "family", "--", "./session"];

/// A session that says that it was started.
fn scene(registry: &str) -> Sandbox {
    let sandbox = sandbox(&format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n"), registry);
    // Without a write, which is refused to it, too.
    sandbox.script("session", ": > started.$RECONCILE_MODEL");
    sandbox
}

fn is_owed(sandbox: &Sandbox) -> bool {
    sandbox.ledger()["owed"]["+1"].is_object()
}

/// What must hold after a launch that was disturbed.
fn check(sandbox: &Sandbox, run: &Run, story: &str, before: &str, was_owed: bool) {
    let now = sandbox.read("sessions.json");
    let is_started = ["opus", "sonnet"].iter().any(|model| sandbox.path(&format!("started.{model}")).exists());
    let left = (now == before, is_owed(sandbox) == was_owed);
    match run.code {
        // On a disk that is full it runs on what the registry has then, or on what the policy says where that is nothing.
        0 if story.starts_with("write:error=ENOSPC") => {
            let registered = serde_json::from_str::<Value>(&now).unwrap_or_default();
            let has = registered["+1"]["model"].as_str().unwrap_or("sonnet");
            assert!(sandbox.path(&format!("started.{has}")).exists(), "{story}: {run:#?}");
        }
        0 => assert!(is_started && !is_owed(sandbox), "{story}: {run:#?}"),
        1 => assert!(!is_started && left == (true, true), "{story}: nothing was changed? {left:?} {run:#?}"),
        4 => {
            assert!(!is_started, "{story}: {run:#?}");
            // A session from before runs on what the registry said then. Where nothing can be looked at any more, whether
            // something has happened cannot be told.
            let has_one_before = before.contains("+1");
            let is_untold = left == (true, true) && run.stderr.contains("could not be recorded");
            assert!(is_owed(sandbox) == has_one_before || is_untold, "{story}: {run:#?}");
        }
        code => panic!("{story}: {code}: {run:#?}"),
    }
    // The same launch again, undisturbed.
    sandbox.run(&LAUNCH).expect(0);
    assert_eq!(sandbox.model("+1").as_deref(), Some("sonnet"), "{story}");
    assert!(!is_owed(sandbox) && sandbox.ledger()["exchange"].is_null(), "{story}");
    assert!(!sandbox.path("sessions.json.reconcile/registry.new").exists(), "{story}");
}

#[test]
#[ignore = "needs strace"]
fn a_launch_that_changes_a_model_owes_the_restart_until_its_session_starts() {
    needs(&["strace"]);
    let before = registry(&[("+1", "family", "opus"), ("+2", "family", "sonnet")]);
    // The first that ever writes there, and one beside a ledger that is appended to.
    each_refusal(|| scene(&before), &LAUNCH, |sandbox, run, story| check(sandbox, run, story, &before, false));
    let with_ledger = || {
        let sandbox = scene("{\"+9\": {\"tier\": \"family\"}}");
        sandbox.run(&["launch", "+9", "--", "true"]).expect(0);
        sandbox.write("sessions.json", &before);
        sandbox
    };
    each_refusal(with_ledger, &LAUNCH, |sandbox, run, story| check(sandbox, run, story, &before, false));
}

#[test]
#[ignore = "needs strace"]
fn a_launch_that_changes_nothing_pays_or_leaves_the_debt() {
    needs(&["strace"]);
    let before = registry(&[("+1", "family", "sonnet")]);
    let owing = || {
        let sandbox = scene(&registry(&[("+1", "family", "opus")]));
        sandbox.run(&[]).expect(4);
        assert!(is_owed(&sandbox));
        sandbox
    };
    each_refusal(owing, &LAUNCH, |sandbox, run, story| check(sandbox, run, story, &before, true));
}

#[test]
#[ignore = "needs strace"]
fn a_launch_that_creates_the_registry_says_so_where_it_fails_after_that() {
    needs(&["strace"]);
    let none = || {
        let sandbox = scene("{}");
        std::fs::remove_file(sandbox.path("sessions.json")).unwrap();
        sandbox
    };
    each_refusal(none, &LAUNCH, |sandbox, run, story| check(sandbox, run, story, "", false));
}
