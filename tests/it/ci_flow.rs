//! The way of a team: a dry run in CI, its plan is reviewed, and exactly that is applied after the merge.

use std::fs;

use serde_json::{Value, json};

use crate::support::{POLICY, Sandbox, row};

const SESSIONS: &str = "
[sessions]
restart = [\"./restart\"]
running = [\"./running\"]
";

/// What the owner of the registry holds in memory: chat, tier and model.
fn sessions() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![("+1", "family", "opus"), ("+2", "bots", ""), ("+3", "admin", "opus"), ("+4", "family", "haiku")]
}

/// The registry as its owner saves it: whole, as a new file.
fn save(sandbox: &Sandbox, sessions: &[(&str, &str, &str)], messages: u32) {
    let entry = |(id, tier, model): &(&str, &str, &str)| {
        let session = format!("session-{id}-{messages}");
        let mut entry = json!({ "tier": tier, "session_id": session, "message_count": messages, "model": model });
        if model.is_empty() {
            entry.as_object_mut().unwrap().remove("model");
        }
        ((*id).to_owned(), entry)
    };
    let registry: serde_json::Map<String, Value> = sessions.iter().map(entry).collect();
    sandbox.write("new.json", Value::from(registry).to_string());
    fs::rename(sandbox.path("new.json"), sandbox.path("sessions.json")).unwrap();
}

/// A plan that CI has made of a pull request; every session was running then.
fn reviewed() -> Sandbox {
    let sandbox = Sandbox::new(&format!("{POLICY}{SESSIONS}"), "{}");
    save(&sandbox, &sessions(), 1);
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls");
    sandbox.script("running", "exit 0");
    let outputs = ["--output", "json=plan.json", "--output", "markdown=comment.md"];
    let run = sandbox.run(&[&["--dry-run"], &outputs[..]].concat()).expect(0);
    assert_eq!(run.summary(), "Plan: 3 to change, 3 to restart, 0 deferred, 1 in sync.");
    assert_eq!(sandbox.calls(), [""; 0], "a dry run restarts nothing");
    sandbox
}

fn plan(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.read("plan.json")).unwrap()
}

/// Between review and merge: chats go on, one session falls asleep, a new chat comes, a comment moves the policy's lines.
fn life_goes_on(sandbox: &Sandbox) {
    let mut sessions = sessions();
    sessions.push(("+9", "admin", "opus"));
    save(sandbox, &sessions, 2);
    sandbox.script("running", "test $RECONCILE_CHAT_ID != +4 || exit 3");
    sandbox.write("policy.toml", format!("# Agreed on by everybody.\n\n{POLICY}{SESSIONS}"));
}

#[test]
fn what_was_reviewed_is_applied_whatever_the_chats_did_meanwhile() {
    for by_id in [false, true] {
        let sandbox = reviewed();
        let shown = plan(&sandbox);
        let id = shown["plan_id"].as_str().unwrap();
        assert!(sandbox.read("comment.md").contains(&format!("<code>--plan {id}</code>")));
        life_goes_on(&sandbox);
        let now = sandbox.json(&["--dry-run", "--probe"]);
        let because = |report: &Value| row(report, "+1")["because"]["line"].as_u64();
        assert_eq!(because(&now), because(&shown).map(|line| line + 2), "the lines have moved");
        assert_eq!(row(&now, "+4")["restart"], false, "its session is idle by now");
        assert_eq!(now["plan_id"], shown["plan_id"]);
        let before = sandbox.read("sessions.json");
        let run = sandbox.run(&["--plan", if by_id { id } else { "plan.json" }]).expect(0);
        assert_eq!(run.summary(), "Applied: 3 changed, 2 restarted, 0 deferred, 0 failed.");
        let mut calls = sandbox.calls();
        calls.sort();
        assert_eq!(calls, ["+1", "+2"]);
        let mut expected: Value = serde_json::from_str(&before).unwrap();
        for (chat, model) in [("+1", "sonnet"), ("+2", "haiku"), ("+4", "sonnet")] {
            expected[chat]["model"] = model.into();
        }
        let after: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
        assert_eq!(after, expected, "what the chats did meanwhile is there");
        // It was consented to once.
        sandbox.run(&["--plan", "plan.json"]).expect(3);
    }
}

#[test]
fn what_was_not_reviewed_is_refused_and_shown() {
    let sandbox = reviewed();
    life_goes_on(&sandbox);
    let mut sessions = sessions();
    sessions[0].1 = "admin";
    sessions[2].1 = "bots";
    sessions[3].1 = "bots";
    save(&sandbox, &sessions, 3);
    let before = sandbox.read("sessions.json");
    let id = plan(&sandbox)["plan_id"].as_str().unwrap().to_owned();
    let differences = [
        "- +1: opus → sonnet, no longer planned",
        "- +4: haiku → sonnet, no longer planned",
        "+ +3: opus → haiku, not in that plan",
    ];
    for consent in ["plan.json", &id] {
        let run = sandbox.run(&["--plan", consent, "--output", "markdown=comment.md"]).expect(3);
        assert!(run.stderr.contains(&format!(", not {id}: nothing was done")), "{run:#?}");
        assert_eq!(run.stderr.matches("note: ").count(), if consent == id { 0 } else { differences.len() });
        for difference in differences {
            assert_eq!(run.stderr.contains(&format!("note: {difference}\n")), consent == "plan.json", "{run:#?}");
        }
        let comment = sandbox.read("comment.md");
        assert_eq!(comment.contains("<summary>3 differences</summary>"), consent == "plan.json", "{comment}");
        assert!(comment.contains(&format!("not {id}&#58; nothing was done")), "{comment}");
        assert_eq!(
            (sandbox.read("sessions.json"), sandbox.calls(), sandbox.ledger()),
            (before.clone(), vec![], Value::Null)
        );
    }
}

#[test]
fn a_policy_that_decides_otherwise_after_the_review_is_refused() {
    let sandbox = reviewed();
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("family = \"sonnet\"", "family = \"haiku\""));
    let before = sandbox.read("sessions.json");
    let run = sandbox.run(&["--plan", "plan.json"]).expect(3);
    assert!(run.stderr.contains("note: ~ +1: opus → haiku, was opus → sonnet\n"), "{run:#?}");
    assert_eq!((sandbox.read("sessions.json"), sandbox.calls()), (before, vec![]));
}
