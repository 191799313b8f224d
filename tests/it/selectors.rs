//! Which chats a run is about, and what a partial plan leaves alone.

use serde_json::{Value, json};

use crate::support::{POLICY, Sandbox, row};

const ADA: &str = "+16175550142";
const BEN: &str = "+16175550143";
const CAL: &str = "discord:voice-1";
const DEE: &str = "+16175550144";

/// Four chats that all drift. Two of them have one contact name, and one is named like another's session.
fn sandbox() -> Sandbox {
    let entry = |session: &str, contact: &str, tier: &str| json!({ "session_name": session, "contact_name": contact, "tier": tier, "source": "imessage", "model": "haiku" });
    let sessions = json!({
        ADA: entry("imessage/ada", "Ada Quinn", "family"),
        BEN: entry("imessage/ben", "Ben Ortiz", "admin"),
        CAL: entry("discord/cal", "Ben Ortiz", "family"),
        DEE: entry("imessage/dee", "imessage/ada", "trial"),
    });
    let commands = "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n";
    let sandbox = Sandbox::new(&format!("{POLICY}\n{commands}"), &serde_json::to_string_pretty(&sessions).unwrap());
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls\ntest ! -e broken");
    sandbox
}

/// The chats that a dry run with these arguments would change.
fn selected(arguments: &[&str]) -> Vec<String> {
    let report = sandbox().json(&[&["--dry-run"], arguments].concat());
    let rows = report["changes"].as_array().unwrap();
    assert_eq!(report["summary"]["changed"], rows.len());
    assert_eq!(report["complete"], json!(arguments.is_empty() || arguments[0] == "--retry"), "{arguments:?}");
    rows.iter().map(|row| row["chat_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_chat_is_selected_by_its_id_its_sessions_name_or_a_name_that_only_it_has() {
    assert_eq!(selected(&[]), [ADA, BEN, DEE, CAL]);
    assert_eq!(selected(&["--chat", ADA]), [ADA]);
    assert_eq!(selected(&["--chat", "discord/cal"]), [CAL]);
    assert_eq!(selected(&["--chat", "Ada Quinn"]), [ADA]);
    assert_eq!(selected(&["--chat", "imessage/ada"]), [ADA], "a session's name wins over a contact's");
    assert_eq!(selected(&["--chat", ADA, "--chat", "discord/cal"]), [ADA, CAL]);
    assert_eq!(selected(&["--chat", ADA, "--chat", "Ada Quinn"]), [ADA], "the same chat twice is one");
}

#[test]
fn tiers_add_to_chats_and_exclusions_win() {
    assert_eq!(selected(&["--tier", "family"]), [ADA, CAL]);
    assert_eq!(selected(&["--tier", "family", "--tier", "admin"]), [ADA, BEN, CAL]);
    assert_eq!(selected(&["--tier", "family", "--chat", BEN]), [ADA, BEN, CAL]);
    assert_eq!(selected(&["--exclude", "discord/cal"]), [ADA, BEN, DEE]);
    assert_eq!(selected(&["--tier", "family", "--exclude", "Ada Quinn"]), [CAL]);
    assert_eq!(selected(&["--chat", ADA, "--exclude", ADA]), [""; 0]);
    assert_eq!(selected(&["--tier", "trial"]), [DEE], "a tier that only the registry knows");
    assert_eq!(selected(&["--tier", "bots"]), [""; 0], "a tier that only the policy knows");
    assert_eq!(selected(&["--retry", ADA]), [ADA, BEN, DEE, CAL], "a retry selects nothing");
}

#[test]
fn a_name_of_two_or_of_nobody_is_an_error_with_advice() {
    for (arguments, error, hint) in [
        (
            ["--chat", "Ben Ortiz"],
            "\"Ben Ortiz\" is the name of 2 chats",
            "pass the chat id: +16175550143, discord:voice-1",
        ),
        (["--chat", "Ada Quin"], "no chat \"Ada Quin\" in sessions.json", "did you mean \"Ada Quinn\"?"),
        (
            ["--exclude", "nobody at all"],
            "no chat \"nobody at all\"",
            "pass a chat id, a session name or a contact's name",
        ),
        (["--retry", "imessage/adaa"], "no chat \"imessage/adaa\"", "did you mean \"imessage/ada\"?"),
        (["--tier", "famly"], "neither the registry nor the policy has the tier \"famly\"", "family"),
    ] {
        let sandbox = sandbox();
        let before = sandbox.read("sessions.json");
        let run = sandbox.run(&arguments).expect(1);
        assert!(run.stderr.contains(&format!("]: {error}")), "{run:#?}");
        let hints = run.stderr.lines().filter(|line| line.starts_with("hint: ") && line.contains(hint));
        assert_eq!(hints.count(), 1, "{run:#?}");
        assert_eq!((sandbox.read("sessions.json"), sandbox.calls().len()), (before, 0));
    }
}

#[test]
fn a_partial_run_says_so_and_changes_nothing_else() {
    let sandbox = sandbox();
    let run = sandbox.run(&["--chat", "Ada Quinn"]).expect(0);
    let first = run.stdout.lines().next().unwrap();
    assert!(first.starts_with("policy.toml · 4 sessions in sessions.json · partial: 1 selected · plan "), "{first}");
    assert_eq!(sandbox.calls(), [ADA]);
    let models = [ADA, BEN, CAL, DEE].map(|chat| sandbox.model(chat).unwrap());
    assert_eq!(models, ["sonnet", "haiku", "haiku", "haiku"]);

    let summary = sandbox.json(&["--dry-run", "--tier", "family"])["summary"].clone();
    assert_eq!((&summary["changed"], &summary["in_sync"]), (&json!(1), &json!(1)), "the sum is of those selected");
}

#[test]
fn a_partial_run_leaves_the_debts_of_others_alone() {
    let sandbox = sandbox();
    sandbox.has_seen(&["opus", "sonnet", "haiku"]);
    sandbox.write("broken", "");
    sandbox.run(&["--chat", ADA]).expect(4);
    sandbox.run(&["--chat", BEN]).expect(4);
    std::fs::remove_file(sandbox.path("broken")).unwrap();
    let before = sandbox.ledger()["owed"].clone();
    assert_eq!(before.as_object().unwrap().len(), 2);

    // One debt would be void, its entry being gone: a run that is not about it does not say so.
    let mut sessions: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    sessions.as_object_mut().unwrap().remove(BEN);
    sandbox.write("sessions.json", sessions.to_string());
    let run = sandbox.run(&["--chat", CAL, "--retry", CAL]).expect(4);
    assert!(!run.stderr.contains("void"), "{run:#?}");
    assert_eq!(sandbox.ledger()["owed"], before);

    sandbox.run(&["--exclude", CAL, "--retry", ADA]).expect(4);
    let left = sandbox.ledger()["owed"].clone();
    assert_eq!(left, json!({ BEN: before[BEN] }));

    let run = sandbox.run(&[]).expect(0);
    assert!(
        run.stderr.contains("note: the restart owed to +16175550143 is no longer needed: its entry is gone"),
        "{run:#?}"
    );
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

/// What is owed must be seen, and settled, while a bad policy is being fixed.
#[test]
fn debts_and_history_need_no_policy_that_is_valid_or_there() {
    let sandbox = sandbox();
    sandbox.write("broken", "");
    sandbox.run(&["--tier", "family"]).expect(4);
    let told = |arguments: &[&str]| sandbox.run(arguments).expect(0).stdout;
    let [owed, history] = ["owed", "history"].map(|command| told(&[command]));
    sandbox.write("policy.toml", format!("nonsense = 1\n{}", sandbox.read("policy.toml")));
    sandbox.run(&[]).expect(1);
    assert_eq!((told(&["owed"]), told(&["history"])), (owed.clone(), history.clone()));
    std::fs::remove_file(sandbox.path("policy.toml")).unwrap();
    let named = ["--registry", "sessions.json"];
    assert_eq!((told(&["owed", named[0], named[1]]), told(&["history", named[0], named[1]])), (owed, history));
    assert!(told(&["owed", "--forget", ADA, named[0], named[1]]).contains("Forgot"));
    assert!(sandbox.run(&["owed"]).expect(1).stderr.contains("there is no policy"));
}

#[test]
fn the_debts_are_listed_and_can_be_forgotten_by_any_name() {
    for name in [ADA, "Ada Quinn", "imessage/ada"] {
        let sandbox = sandbox();
        assert_eq!(sandbox.run(&["owed"]).expect(0).stdout, "No restarts are owed.\n");
        sandbox.has_seen(&["opus", "sonnet", "haiku"]);
        let policy = sandbox.read("policy.toml");
        sandbox.write("policy.toml", format!("{policy}\n[rollout]\nmax_failures = 2\n"));
        sandbox.write("broken", "");
        sandbox.run(&["--tier", "family"]).expect(4);
        let listed = sandbox.run(&["owed"]).expect(0).stdout;
        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[0].contains("+16175550142   Ada Quinn   restart owed since "), "{listed}");
        assert!(lines[0].contains(", next try at "), "{listed}");
        assert!(lines[1].contains("discord:voice-1   Ben Ortiz   restart owed since "), "{listed}");
        assert!(lines[2].contains("sonnet did not come up on +16175550142: 1 attempt since "), "{listed}");
        assert_eq!(lines[3..], ["2 restarts are owed."]);

        let forgot = sandbox.run(&["owed", "--forget", name]).expect(0);
        assert_eq!(forgot.stdout, "Forgot the restart owed to +16175550142.\n");
        assert_eq!(sandbox.ledger()["owed"].as_object().unwrap().keys().collect::<Vec<_>>(), [CAL]);
        let again = sandbox.run(&["owed", "--forget", name]).expect(1);
        assert!(again.stderr.contains("no restart is owed to +16175550142"), "{again:#?}");
        assert_eq!(sandbox.calls(), [ADA, CAL], "forgetting restarts nothing");
    }
}

#[test]
fn one_failed_attempt_is_one_attempt() {
    let sandbox = sandbox();
    sandbox.write("broken", "");
    sandbox.run(&["--chat", ADA]).expect(4);
    let listed = sandbox.run(&["owed"]).expect(0).stdout;
    assert!(listed.contains(", 1 attempt, next try at "), "{listed}");
}

#[test]
fn what_others_wrote_never_starts_a_line_of_the_debts() {
    let sessions = json!({ "::error::\u{1b}[31m": { "session_name": "a", "tier": "family", "model": "opus" } });
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n");
    let sandbox = Sandbox::new(&policy, &sessions.to_string());
    sandbox.run(&[]).expect(4);
    let listed = sandbox.run(&["owed"]).expect(0).stdout;
    assert!(listed.contains("::error::\\u{1b}[31m   restart owed since "), "{listed}");
    assert!(!listed.lines().any(|line| line.starts_with("::")), "{listed}");
}

#[test]
fn a_debt_can_be_forgotten_when_its_entry_is_gone() {
    let sandbox = sandbox();
    sandbox.write("broken", "");
    sandbox.run(&["--chat", ADA]).expect(4);
    sandbox.write("sessions.json", "{}");
    let unknown = sandbox.run(&["owed", "--forget", "Ada Quinn"]).expect(1);
    assert!(unknown.stderr.contains("no chat \"Ada Quinn\""), "{unknown:#?}");
    sandbox.run(&["owed", "--forget", ADA]).expect(0);
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

#[test]
fn a_row_of_a_partial_report_is_the_row_of_the_whole_one() {
    let sandbox = sandbox();
    let whole = sandbox.json(&["--dry-run"]);
    let part = sandbox.json(&["--dry-run", "--chat", ADA]);
    let without_detail = |report: &Value| {
        let mut row = row(report, ADA).clone();
        row.as_object_mut().unwrap().remove("detail");
        row
    };
    // Alone, it is not said to be tried before others.
    assert_eq!(without_detail(&part), without_detail(&whole));
    assert_ne!(part["plan_id"], whole["plan_id"]);
    assert_eq!(part["sessions"], whole["sessions"]);
}

#[test]
fn a_group_is_known_by_the_name_that_it_shows() {
    let sessions = json!({ "b3d258b9": { "type": "group", "display_name": "Walkers", "model": "haiku" } });
    let sandbox = Sandbox::new(POLICY, &sessions.to_string());
    let report = sandbox.json(&["--dry-run", "--chat", "Walkers"]);
    assert_eq!(row(&report, "b3d258b9")["after"], "sonnet");
}

#[test]
fn a_row_says_that_a_restart_is_owed_from_the_run_on_that_fails_at_it() {
    let sandbox = sandbox();
    sandbox.write("broken", "");
    let failed = sandbox.json(&["--chat", ADA]);
    assert_eq!(row(&failed, ADA)["owed"], true, "now");
    assert_eq!(row(&sandbox.json(&["--dry-run", "--chat", ADA]), ADA)["owed"], true, "and before the next try");
    assert_eq!(row(&sandbox.json(&["--dry-run", "--chat", BEN]), BEN)["owed"], false);
}
