//! State directories as version 0.1 left them. Every later version must read them, so that an upgrade loses no debt, no
//! correction, no interrupted replacement of the registry, and no past run.
//!
//! The fixtures are in `tests/state-0.1`, and `tests/state-0.1/make` shows how each was made: by runs of 0.1, some of them
//! killed. The tests see what a user sees: the output of commands, the registry, and which restarts were run. Of the files
//! in a state directory they know only `redact.key`, which users name, too. There is one exception, in `install`.
//!
//! A ledger of 0.1 identifies files by device, inode, size and modification time. It does so to tell the registry that a
//! run planned on, and the file that it made, from all others. A copy of a file has another inode, so the notes in a
//! checked-in ledger match no file and would be ignored. `install` therefore edits the ledger before the first command
//! runs: where it identifies a file of the fixture, it identifies the copy afterwards. `files.json`, written when the
//! fixture was made, lists what the originals were. Sizes and modification times stay those of 0.1, and so does which file
//! has which name. One thing is not shown by this: that a later version reads the numbers of a file as 0.1 wrote them. The
//! tests in `files::` and `tests/crashes` cover it, with files of their own.
//!
//! The tests do not depend on the clock. Where a time matters, `--at` gives it, relative to the runs in the fixture's
//! history. Elsewhere `--retry` makes sure that nothing waits.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::dispatch::{BOT, CAL, REGISTRY, became, changes, daemon, has_row, set_model};
use crate::handle::Double;
use crate::support::{POLICY, Sandbox, below, registry, row, write_state};

const STATE: &str = "sessions.json.reconcile";

const ONE: &str = "+16175550101";
const TWO: &str = "+16175550102";
const THREE: &str = "+16175550103";
const FOUR: &str = "+16175550104";
const FIVE: &str = "+16175550105";
const SIX: &str = "+16175550106";

/// Killed while they replaced the registry, in the order of the points.
const KILLED: [&str; 7] = [
    "exchange-begun",
    "exchange-unnoted",
    "exchange-noted",
    "exchange-made",
    "exchange-looked",
    "exchange-cleared",
    "exchange-closing",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state-0.1").join(name)
}

/// What version 0.1 said of a fixture.
fn said(name: &str, file: &str) -> String {
    fs::read_to_string(fixture(name).join(file)).unwrap()
}

/// A sandbox with what is in a fixture, where restarts go well.
fn left(name: &str) -> Sandbox {
    let sandbox = Sandbox::new("", "");
    install(name, &sandbox);
    sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID\" >> calls");
    sandbox
}

/// Copies a fixture into a sandbox, with the modes that a state directory must have, and lets its ledger identify the
/// copies.
fn install(name: &str, sandbox: &Sandbox) {
    for entry in walkdir::WalkDir::new(fixture(name)).min_depth(1) {
        let entry = entry.unwrap();
        let target = sandbox.path("").join(entry.path().strip_prefix(fixture(name)).unwrap());
        if entry.file_type().is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
            fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        }
    }
    let Ok(files) = fs::read_to_string(fixture(name).join("files.json")) else { return };
    let files: BTreeMap<String, Value> = serde_json::from_str(&files).unwrap();
    let files: Vec<(Value, Value)> = files
        .into_iter()
        .map(|(file, was)| {
            let is = stamp_like(&sandbox.path(&file), &was);
            (was, is)
        })
        .collect();
    let ledger = format!("{STATE}/owed.json");
    let mut input = serde_json::from_str(&sandbox.read(&ledger)).unwrap();
    assert!(identify_copies(&mut input, &files) > 0, "{name}: the ledger identifies none of the files");
    sandbox.write(&ledger, format!("{input:#}\n"));
}

/// Gives a copy the modification time of its original, and returns how a ledger identifies the copy.
fn stamp_like(copy: &Path, original: &Value) -> Value {
    let number = |of: &Value| of.as_u64().unwrap();
    let (seconds, nanoseconds) = (number(&original["modified"][0]), number(&original["modified"][1]));
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
    File::options().write(true).open(copy).unwrap().set_modified(modified).unwrap();
    let is = fs::symlink_metadata(copy).unwrap();
    json!({ "device": is.dev(), "inode": is.ino(), "size": is.size(), "modified": [is.mtime(), is.mtime_nsec()] })
}

/// Replaces the identities of originals by those of their copies, and counts them. A file that was gone when the fixture
/// was made keeps its identity, which no file has now.
fn identify_copies(ledger: &mut Value, files: &[(Value, Value)]) -> usize {
    let same = |was: &Value, named: &Value| was["device"] == named["device"] && was["inode"] == named["inode"];
    if ledger.get("inode").is_some() {
        let Some((_, is)) = files.iter().find(|(was, _)| same(was, ledger)) else { return 0 };
        assert_eq!(ledger["size"], is["size"], "the fixture was made of another file");
        *ledger = is.clone();
        return 1;
    }
    match ledger {
        Value::Object(members) => members.values_mut().map(|value| identify_copies(value, files)).sum(),
        Value::Array(elements) => elements.iter_mut().map(|value| identify_copies(value, files)).sum(),
        _ => 0,
    }
}

/// Every file of a sandbox, and what it holds.
fn contents(sandbox: &Sandbox) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(sandbox.path("")).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(|entry| (entry.path().to_owned(), fs::read(entry.path()).unwrap())).collect()
}

/// The chats that owe a restart.
fn owed(sandbox: &Sandbox) -> Vec<String> {
    let text = sandbox.run(&["owed"]).expect(0).stdout;
    let chats = text.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| word.contains("+1617"));
    chats.map(str::to_owned).collect()
}

/// The chats that were restarted, sorted, as often as they were.
fn restarted(sandbox: &Sandbox) -> Vec<String> {
    let mut calls = sandbox.calls();
    calls.sort();
    calls
}

fn runs(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let run = sandbox.run(&[&["history", "--format", "json"], arguments].concat()).expect(0);
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// When the last run was that did something for a chat.
fn last_run(sandbox: &Sandbox, chat: &str) -> Timestamp {
    runs(sandbox, &[chat])[0]["at"].as_str().unwrap().parse().unwrap()
}

/// What a dry run so long after a time says.
fn plan_at(sandbox: &Sandbox, time: Timestamp, seconds: i64) -> Value {
    let at = (time + SignedDuration::from_secs(seconds)).to_string();
    sandbox.json(&["--dry-run", "--at", &at])
}

/// Something else sets a model.
fn change_model(sandbox: &Sandbox, chat: &str, model: &str) {
    let mut registry: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    registry[chat]["model"] = json!(model);
    sandbox.write("sessions.json", registry.to_string());
}

/// Asserts that nothing is left to do: nothing is planned or owed, and no temporary file was left behind.
#[track_caller]
fn assert_settled(sandbox: &Sandbox) {
    let plan = sandbox.json(&["--dry-run"]);
    assert!(plan["changes"].as_array().unwrap().iter().all(|row| row["outcome"] != "planned"), "{plan:#}");
    assert_eq!(owed(sandbox), [""; 0]);
    let left = contents(sandbox).into_keys().find(|file| file.extension().is_some_and(|kind| kind == "new"));
    assert_eq!(left, None);
}

#[test]
fn looking_at_old_state_changes_none_of_it() {
    let fixtures = below("state-0.1").into_iter().filter(|path| path.is_dir());
    let fixtures: Vec<_> = fixtures.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(fixtures.len(), 19, "{fixtures:?}");
    for name in fixtures {
        let sandbox = left(&name);
        let before = contents(&sandbox);
        sandbox.run(&["--dry-run"]).expect(if name == "held" { 4 } else { 0 });
        sandbox.run(&["owed"]).expect(0);
        sandbox.run(&["history"]).expect(0);
        sandbox.run(&["explain", THREE]).expect(0);
        assert!(contents(&sandbox) == before, "{name}");
    }
}

#[test]
fn state_that_remembers_nothing_is_gone_on_with() {
    for (name, past) in [("fresh", 0), ("empty-ledger", 1)] {
        let sandbox = left(name);
        assert_eq!(runs(&sandbox, &[]).len(), past, "{name}");
        assert_settled(&sandbox);
        let report = sandbox.json(&[]);
        assert_eq!((&report["changes"], &report["summary"]["in_sync"]), (&json!([]), &json!(2)), "{name}");

        change_model(&sandbox, TWO, "opus");
        sandbox.run(&[]).expect(0);
        assert_eq!((sandbox.model(TWO).as_deref(), restarted(&sandbox)), (Some("sonnet"), vec![TWO.to_owned()]));
        assert_eq!(runs(&sandbox, &[]).len(), past + 1, "{name}");
        assert_settled(&sandbox);
    }
}

#[test]
fn every_owed_restart_is_still_listed_with_its_time_and_its_attempts() {
    let sandbox = left("debts");
    assert_eq!(owed(&sandbox), [TWO, THREE, FOUR, FIVE, SIX]);
    let now = sandbox.run(&["owed"]).expect(0).stdout;
    let then = said("debts", "owed.txt");
    let debts: Vec<&str> = then.lines().filter(|line| line.contains("+1617")).collect();
    assert_eq!(debts.len(), 5, "{then}");
    for debt in debts {
        let words: Vec<&str> = debt.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
        let beside = |word: &str| words.iter().position(|w| w.starts_with(word)).unwrap();
        let (chat, since, attempts) = (words[0], words[beside("since") + 1], words[beside("attempt") - 1]);
        let line = now.lines().find(|line| line.contains(chat)).unwrap_or_default();
        assert!(line.contains(since) && line.contains(&format!(" {attempts} attempt")), "{debt}: {line}");
    }
}

#[test]
fn what_waits_for_its_next_try_waits_as_long_as_before() {
    let sandbox = left("debts");
    // After one failure it waits for a minute, after four for eight.
    for (chat, minutes) in [(FOUR, 1), (FIVE, 8)] {
        let failed = last_run(&sandbox, chat);
        let waits = plan_at(&sandbox, failed, minutes * 60 - 15);
        assert_eq!(row(&waits, chat)["outcome"], "deferred", "{waits:#}");
        let tried = plan_at(&sandbox, failed, minutes * 60 + 15);
        assert_eq!(row(&tried, chat)["outcome"], "planned", "{tried:#}");
        for (key, expected) in [("edit", false), ("restart", true), ("owed", true)] {
            assert_eq!(row(&tried, chat)[key], expected, "{key}: {tried:#}");
        }
    }
    // What was never tried, and what was being tried when the run was killed, does not wait.
    let plan = plan_at(&sandbox, last_run(&sandbox, TWO), 0);
    for chat in [TWO, THREE, SIX] {
        assert_eq!(
            (&row(&plan, chat)["outcome"], &row(&plan, chat)["owed"]),
            (&json!("planned"), &json!(true)),
            "{chat}"
        );
    }
}

#[test]
fn every_owed_restart_is_made_once() {
    let sandbox = left("debts");
    let registry = sandbox.read("sessions.json");
    let report = sandbox.json(&["--retry", FOUR, "--retry", FIVE]);
    assert_eq!(report["summary"]["restarted"], 5, "{report:#}");
    assert_eq!(restarted(&sandbox), [TWO, THREE, FOUR, FIVE, SIX]);
    assert_eq!(sandbox.read("sessions.json"), registry, "it was as it should be");
    assert_settled(&sandbox);
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls().len(), 5);
}

#[test]
fn a_debt_knows_what_the_session_ran_and_whether_its_restart_was_begun() {
    let sandbox = left("debts");
    // Back to the model that they ran. Version 0.1 did not note which start of a session that was, and any of them may have
    // been started since.
    let chats = [TWO, THREE, FOUR, FIVE, SIX];
    let overrides: String = chats.iter().map(|chat| format!("\"{chat}\" = \"opus\"\n")).collect();
    sandbox.write("policy.toml", format!("{}\n[chats]\n{overrides}", sandbox.read("policy.toml")));
    let plan = sandbox.json(&["--dry-run"]);
    for chat in chats {
        assert_eq!((&row(&plan, chat)["edit"], &row(&plan, chat)["restart"]), (&json!(true), &json!(true)), "{chat}");
    }
    sandbox.run(&["--retry", FOUR, "--retry", FIVE]).expect(0);
    assert_eq!(restarted(&sandbox), [TWO, THREE, FOUR, FIVE, SIX]);
    assert_eq!(
        chats.map(|chat| sandbox.model(chat)),
        [const { Some("opus") }; 5].map(|model| model.map(str::to_owned))
    );
    assert_settled(&sandbox);
}

#[test]
fn a_restart_that_fails_once_more_waits_longer_than_before() {
    let sandbox = left("debts");
    sandbox.script("restart", "exit 1");
    sandbox.run(&["--chat", FIVE, "--retry", FIVE]).expect(4);
    assert_eq!(owed(&sandbox), [TWO, THREE, FOUR, FIVE, SIX], "the others' debts stay");
    let line = sandbox.run(&["owed"]).expect(0).stdout.lines().find(|line| line.contains(FIVE)).unwrap().to_owned();
    assert!(line.contains(" 5 attempts"), "{line}");
    let failed = last_run(&sandbox, FIVE);
    assert_eq!(row(&plan_at(&sandbox, failed, 15 * 60), FIVE)["outcome"], "deferred");
    assert_eq!(row(&plan_at(&sandbox, failed, 17 * 60), FIVE)["outcome"], "planned");
}

#[test]
fn a_debt_is_forgotten_by_hand_or_paid_by_a_launch_and_the_others_stay() {
    let sandbox = left("debts");
    sandbox.run(&["owed", "--forget", FOUR]).expect(0);
    assert_eq!(owed(&sandbox), [TWO, THREE, FIVE, SIX]);
    sandbox.run(&["launch", SIX, "--", "true"]).expect(0);
    assert_eq!(owed(&sandbox), [TWO, THREE, FIVE]);
    // The same where a launch is the first command that reads the old state.
    let sandbox = left("debts");
    sandbox.run(&["launch", SIX, "--", "true"]).expect(0);
    assert_eq!(owed(&sandbox), [TWO, THREE, FOUR, FIVE]);
}

#[test]
fn a_held_row_stays_held_until_it_is_retried() {
    let sandbox = left("held");
    let registry = sandbox.read("sessions.json");
    let past = runs(&sandbox, &[]);
    for arguments in [&["--dry-run"][..], &[], &[]] {
        let report = sandbox.json(arguments);
        assert_eq!(row(&report, ONE)["outcome"], "held", "{report:#}");
        assert_eq!(report["changes"].as_array().unwrap().len(), 1, "{report:#}");
        sandbox.run(arguments).expect(4);
    }
    // However long ago it was, and with the times at which it was found undone.
    let month = last_run(&sandbox, ONE) + SignedDuration::from_hours(24 * 30);
    let text = sandbox.run(&["--dry-run", "--at", &month.to_string()]).expect(4).stdout;
    let undone = past[..2].iter().map(|run| run["at"].as_str().unwrap().parse::<Timestamp>().unwrap());
    for time in undone {
        assert!(text.contains(&time.strftime("%Y-%m-%d %H:%M").to_string()), "{time}: {text}");
    }
    let day = past[0]["at"].as_str().unwrap().split_once('T').unwrap().0;
    assert_eq!(text.matches(day).count(), 3, "{text}");
    assert_eq!((sandbox.read("sessions.json"), sandbox.calls()), (registry, vec![]));
    assert_eq!(runs(&sandbox, &[]), past);

    sandbox.run(&["--retry", ONE]).expect(0);
    assert_eq!((sandbox.model(ONE).as_deref(), restarted(&sandbox)), (Some("haiku"), vec![ONE.to_owned()]));
    assert_settled(&sandbox);
}

#[test]
fn corrections_that_were_changed_back_before_are_counted_on() {
    let sandbox = left("held");
    let last = last_run(&sandbox, TWO);
    for chat in [TWO, THREE] {
        change_model(&sandbox, chat, "opus");
    }
    // For the third time, and for the first.
    let soon = plan_at(&sandbox, last, 3600);
    assert_eq!((&row(&soon, TWO)["outcome"], &row(&soon, THREE)["outcome"]), (&json!("held"), &json!("planned")));
    // After a day, what was found before is over; what is held is not.
    let late = plan_at(&sandbox, last, 25 * 3600);
    let outcomes = [ONE, TWO, THREE].map(|chat| &row(&late, chat)["outcome"]);
    assert_eq!(outcomes, ["held", "planned", "planned"]);
    // Another decision is another correction.
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("bots   = \"haiku\"", "bots = \"sonnet\""));
    let other = plan_at(&sandbox, last, 3600);
    assert_eq!([ONE, TWO, THREE].map(|chat| &row(&other, chat)["outcome"]), ["planned"; 3]);
}

#[test]
fn a_run_that_was_killed_while_it_replaced_the_registry_is_finished() {
    for name in KILLED {
        let sandbox = left(name);
        assert_eq!(owed(&sandbox), [ONE, TWO], "{name}");
        let plan = sandbox.json(&["--dry-run"]);
        for chat in [ONE, TWO] {
            let row = row(&plan, chat);
            assert_eq!([&row["restart"], &row["owed"]], [true; 2], "{name}: {row:#}");
        }
        sandbox.run(&[]).expect(0);
        assert_eq!(restarted(&sandbox), [ONE, TWO], "{name}");
        let models = [ONE, TWO, THREE].map(|chat| sandbox.model(chat).unwrap_or_default());
        assert_eq!(models, ["haiku", "sonnet", "haiku"], "{name}");
        assert_eq!(runs(&sandbox, &[]).len(), 1, "{name}");
        assert_settled(&sandbox);
    }
}

#[test]
fn the_debts_of_a_killed_run_are_paid_where_its_change_is_taken_back() {
    for name in KILLED {
        let sandbox = left(name);
        sandbox.write("policy.toml", format!("{}\n[chats]\n\"{ONE}\" = \"opus\"\n", sandbox.read("policy.toml")));
        sandbox.run(&[]).expect(0);
        // It ran opus, and may have been started anew since.
        assert_eq!(restarted(&sandbox), [ONE, TWO], "{name}");
        assert_eq!([ONE, TWO].map(|chat| sandbox.model(chat).unwrap()), ["opus", "sonnet"], "{name}");
        assert_settled(&sandbox);
    }
}

#[test]
fn what_a_killed_run_displaced_of_another_program_is_put_back() {
    let of_another = "set by another program";
    let registry = fs::read_to_string(fixture("exchange-foreign").join("sessions.json")).unwrap();
    assert!(!registry.contains(of_another), "it is not in the registry that the run left");

    let sandbox = left("exchange-foreign");
    sandbox.run(&[]).expect(0);
    assert!(sandbox.read("sessions.json").contains(of_another), "{}", sandbox.read("sessions.json"));
    assert_eq!([ONE, TWO].map(|chat| sandbox.model(chat).unwrap()), ["haiku", "sonnet"]);
    assert_eq!(restarted(&sandbox), [ONE, TWO]);
    assert_settled(&sandbox);

    // The same where another command is the first that takes the data lock.
    for first in [&["launch", THREE, "--", "true"][..], &["owed", "--forget", ONE], &["snapshot", "--redact"]] {
        let sandbox = left("exchange-foreign");
        sandbox.run(first).expect(0);
        assert!(sandbox.read("sessions.json").contains(of_another), "{first:?}");
        sandbox.run(&[]).expect(0);
        assert!(sandbox.read("sessions.json").contains(of_another), "{first:?}");
        assert_settled(&sandbox);
    }
}

/// Whether `new` has everything that `old` has. A later version may add keys to JSON.
fn has_all_of(new: &Value, old: &Value) -> bool {
    match old {
        Value::Object(members) => {
            members.iter().all(|(key, value)| new.get(key).is_some_and(|new| has_all_of(new, value)))
        }
        Value::Array(elements) => {
            let new = new.as_array().map(Vec::as_slice).unwrap_or_default();
            new.len() == elements.len() && new.iter().zip(elements).all(|(new, old)| has_all_of(new, old))
        }
        _ => new == old,
    }
}

#[test]
fn every_past_run_of_every_part_is_told_as_before() {
    let sandbox = left("history");
    let told = runs(&sandbox, &[]);
    let before: Vec<Value> =
        said("history", "history.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((told.len(), before.len()), (12, 12));
    for (run, before) in told.iter().zip(&before) {
        assert!(has_all_of(run, before), "{before:#}\n{run:#}");
    }
    let text = sandbox.run(&["history"]).expect(0).stdout;
    for run in &before {
        let row = &run["changes"][0];
        let change = format!("{} → {}", row["before"].as_str().unwrap(), row["after"].as_str().unwrap());
        let from = text.find(run["run"].as_str().unwrap()).unwrap_or_else(|| panic!("{run:#}: {text}"));
        assert!(text[from..].lines().nth(1).unwrap().contains(&change), "{run:#}: {text}");
    }
    // Over all parts, newest first.
    let models: Vec<_> = runs(&sandbox, &[FIVE]).iter().map(|run| run["changes"][0]["after"].clone()).collect();
    assert_eq!(models, ["haiku", "sonnet", "opus", "sonnet"]);
    let explained: Value = serde_json::from_str(&sandbox.run(&["explain", ONE, "--format", "json"]).stdout).unwrap();
    assert_eq!(explained["last_change"]["run"], before[11]["run"], "of the oldest part: {explained:#}");
}

#[test]
fn a_run_of_the_oldest_part_can_be_taken_back() {
    let sandbox = left("history");
    let all = runs(&sandbox, &[]);
    let [touched, oldest] = [&all[10], &all[11]].map(|run| run["run"].as_str().unwrap());
    let shown = sandbox.run(&["undo", oldest, "--dry-run"]).expect(0);
    assert!(
        shown.stdout.contains(&format!("+\"{ONE}\" = {{ model = \"opus\", reason = \"undo of {oldest}\" }}")),
        "{shown:#?}"
    );
    // The runs of newer parts have changed that chat since.
    let refused = sandbox.run(&["undo", touched, "--dry-run"]).expect(1);
    assert_eq!(refused.stdout, "", "{refused:#?}");

    sandbox.run(&["undo", oldest]).expect(0);
    assert_eq!(sandbox.model(ONE).as_deref(), Some("opus"));
    let after = runs(&sandbox, &[]);
    assert_eq!((after.len(), &after[0]["changes"][0]["chat_id"]), (13, &json!(ONE)));
    assert_eq!(after[1..], all, "the new run is added to the old ones");
}

#[test]
fn the_pseudonyms_stay_what_they_were() {
    let sandbox = left("redaction");
    let key = sandbox.read(&format!("{STATE}/redact.key"));
    let before: Value = serde_json::from_str(&said("redaction", "registry.redacted.json")).unwrap();
    let now: Value = serde_json::from_str(&sandbox.run(&["snapshot", "--redact"]).expect(0).stdout).unwrap();
    assert!(has_all_of(&now, &before), "{before:#}\n{now:#}");
    assert_eq!(sandbox.read(&format!("{STATE}/redact.key")), key, "no other key was made");

    let plan: Value = serde_json::from_str(&said("redaction", "plan.json")).unwrap();
    let pseudonyms: Vec<&str> =
        before.as_object().unwrap().keys().filter(|id| id.starts_with("chat-")).map(String::as_str).collect();
    assert_eq!(pseudonyms.len(), 3);
    let now = sandbox.json(&["--dry-run", "--redact"]);
    let (now_id, old_id) = (now["plan_id"].as_str().unwrap(), plan["plan_id"].as_str().unwrap());
    assert_eq!((now_id.len(), &now_id[..16]), (32, old_id), "the same hash, of which more is shown");
    for row in now["changes"].as_array().unwrap() {
        assert!(pseudonyms.contains(&row["chat_id"].as_str().unwrap()), "{row}");
    }
    for past in ["owed", "history"] {
        let text = sandbox.run(&[past, "--redact"]).expect(0).stdout;
        assert!(!text.contains("+1617"), "{text}");
        let names =
            |name: &&&str| text.contains(**name) || text.contains(before[**name]["session_name"].as_str().unwrap());
        assert_eq!(pseudonyms.iter().filter(names).count(), 1, "{past}: {text}");
    }
}

#[test]
fn a_plan_that_was_made_for_a_redacted_snapshot_is_applied() {
    let sandbox = left("redaction");
    let key = format!("{STATE}/redact.key");
    let again = sandbox.json(&["--dry-run", "--registry", "registry.redacted.json", "--redact-key", &key]);
    let mut told: Value = serde_json::from_str(&said("redaction", "plan.json")).unwrap();
    assert!(again["plan_id"].as_str().unwrap().starts_with(told["plan_id"].as_str().unwrap()), "{again:#}");
    told["plan_id"] = again["plan_id"].clone();
    assert!(has_all_of(&again, &told), "{again:#}");
    sandbox.run(&["--plan", "plan.json", "--redact", "--retry", TWO]).expect(0);
    assert_eq!(restarted(&sandbox), [ONE, TWO, THREE]);
    assert_settled(&sandbox);
}

/// A daemon whose sessions are the runs that the debts of the fixture name.
fn indebted() -> (Sandbox, Double) {
    let sandbox = left("dispatch-debts");
    let daemon = daemon(&sandbox, &[CAL, BOT]);
    (sandbox, daemon)
}

fn start_anew(daemon: &Double, chat: &str) {
    for event in ["kill", "wake", "turn-ends"] {
        daemon.tell(&format!("{event} {chat}"));
    }
}

#[test]
fn a_debt_of_a_daemon_is_paid_while_the_run_of_the_session_is_the_one_that_it_names() {
    let (sandbox, daemon) = indebted();
    assert_eq!(owed(&sandbox), [CAL, BOT]);
    assert!(sandbox.run(&["owed"]).expect(0).stdout.contains(" 1 attempt"));
    let failed = last_run(&sandbox, CAL);
    // The registry says what it should. Only the debt knows better, and waits.
    let waits = plan_at(&sandbox, failed, 45);
    assert_eq!(
        (&row(&waits, CAL)["outcome"], &row(&waits, CAL)["edit"]),
        (&json!("deferred"), &json!(false)),
        "{waits:#}"
    );
    assert_eq!(became(&plan_at(&sandbox, failed, 75), CAL).0, "planned");

    let report = sandbox.json(&["--retry", CAL]);
    assert_eq!([became(&report, CAL).0, became(&report, BOT).0], ["done"; 2], "{report:#}");
    let mut sent = changes(&daemon);
    sent.sort_by_key(ToString::to_string);
    assert_eq!(sent, [set_model(CAL, "sonnet"), set_model(BOT, "haiku")]);
    assert_eq!(owed(&sandbox), [""; 0]);
}

#[test]
fn a_debt_of_a_daemon_is_met_by_another_run_of_the_session_and_by_nothing_else() {
    let (sandbox, daemon) = indebted();
    start_anew(&daemon, CAL);
    let report = sandbox.json(&["--chat", CAL]);
    assert!(!has_row(&report, CAL), "{report:#}");
    assert_eq!((changes(&daemon), owed(&sandbox)), (vec![], vec![BOT.to_owned()]));
    assert_eq!(runs(&sandbox, &[CAL])[0]["cancelled"], json!([CAL]));
    // The other session's model is still to be changed, but nothing is owed for what was asked of its last run.
    assert_eq!(row(&sandbox.json(&["--dry-run"]), BOT)["owed"], true);
    start_anew(&daemon, BOT);
    let plan = sandbox.json(&["--dry-run"]);
    assert_eq!((became(&plan, BOT).0, &row(&plan, BOT)["owed"]), ("planned", &json!(false)), "{plan:#}");

    let (sandbox, daemon) = indebted();
    daemon.tell(&format!("kill {CAL}"));
    sandbox.run(&["--chat", CAL]).expect(0);
    // An attempt on it failed, so that it is gone may be what that came to: it is started again.
    assert_eq!((changes(&daemon), owed(&sandbox)), (vec![set_model(CAL, "sonnet")], vec![BOT.to_owned()]));
}

#[test]
fn a_change_that_the_daemon_has_not_saved_is_in_sync_for_that_run_of_the_session() {
    let sandbox = left("dispatch-unsaved");
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"), "the file lags");
    let daemon = daemon(&sandbox, &[CAL]);
    // What the run of 0.1 asked of the daemon.
    daemon.tell("hold-saves");
    daemon.set_model(CAL, "sonnet");
    daemon.tell(&format!("turn-ends {CAL}"));
    for arguments in [&["--dry-run"][..], &[], &[]] {
        let report = sandbox.json(arguments);
        assert!(!has_row(&report, CAL), "{report:#}");
    }
    assert_eq!(changes(&daemon), [set_model(CAL, "sonnet")], "no second time");

    start_anew(&daemon, CAL);
    assert_eq!(became(&sandbox.json(&["--dry-run"]), CAL).0, "planned");
}

/// A daemon that read the registry before 0.1 edited it, and seems to be down because its socket is not there yet. It
/// saves only when it is told to `flush`.
fn starting(name: &str, live: &[&str]) -> (Sandbox, Double) {
    let sandbox = Sandbox::new("", REGISTRY);
    let live: Vec<&str> = live.iter().flat_map(|chat| ["--live", *chat]).chain(["--pause-start-up"]).collect();
    let daemon = Double::start(&sandbox.path(""), &live);
    daemon.tell("hold-saves");
    install(name, &sandbox);
    (sandbox, daemon)
}

#[test]
fn an_edit_that_no_daemon_has_confirmed_is_not_taken_for_done() {
    // In the second, the run was killed before it could note that its edit had been made.
    for name in ["dispatch-unconfirmed", "dispatch-exchange-made"] {
        let (sandbox, daemon) = starting(name, &[CAL, BOT]);
        assert_eq!([CAL, BOT].map(|chat| sandbox.model(chat).unwrap()), ["sonnet", "haiku"], "{name}");
        daemon.tell("open-socket");
        let report = sandbox.json(&[]);
        for chat in [CAL, BOT] {
            assert_eq!(became(&report, chat).0, "deferred", "{name}: {report:#}");
        }
        assert_eq!(changes(&daemon), [Value::Null; 0], "{name}");
        // It saves what it remembers: the edits were lost, and are made again.
        daemon.tell("flush");
        daemon.tell("let-saves");
        let report = sandbox.json(&[]);
        assert_eq!([became(&report, CAL).0, became(&report, BOT).0], ["done"; 2], "{name}: {report:#}");
        assert_eq!([CAL, BOT].map(|chat| daemon.truth(chat)["model"].clone()), ["sonnet", "haiku"], "{name}");
    }
}

#[test]
fn an_edit_that_the_daemon_has_read_is_in_sync() {
    for name in ["dispatch-unconfirmed", "dispatch-exchange-made"] {
        let sandbox = left(name);
        let daemon = daemon(&sandbox, &[CAL, BOT]);
        let report = sandbox.json(&[]);
        assert!(!has_row(&report, CAL) && !has_row(&report, BOT), "{name}: {report:#}");
        assert_eq!(changes(&daemon), [Value::Null; 0], "{name}");
    }
}

#[test]
fn one_more_edit_while_the_daemon_is_down_leaves_the_earlier_ones_unconfirmed() {
    let eli = "signal:+16175550105";
    for name in ["dispatch-unconfirmed", "dispatch-exchange-made"] {
        let (sandbox, daemon) = starting(name, &[CAL, BOT, eli]);
        assert_eq!(became(&sandbox.json(&["--chat", eli]), eli).0, "done", "{name}");
        daemon.tell("open-socket");
        let report = sandbox.json(&[]);
        assert_eq!([CAL, BOT, eli].map(|chat| became(&report, chat).0), ["deferred"; 3], "{name}: {report:#}");
        assert_eq!(changes(&daemon), [Value::Null; 0], "{name}");
    }
}

#[test]
fn an_edit_that_a_killed_run_did_not_come_to_is_made_and_the_one_before_it_stays_unconfirmed() {
    let (sandbox, daemon) = starting("dispatch-exchange-noted", &[CAL, BOT]);
    assert_eq!([CAL, BOT].map(|chat| sandbox.model(chat).unwrap()), ["sonnet", "opus"]);
    daemon.tell("open-socket");
    let report = sandbox.json(&[]);
    assert_eq!([CAL, BOT].map(|chat| became(&report, chat).0), ["deferred", "done"], "{report:#}");
    assert_eq!(changes(&daemon), [set_model(BOT, "haiku")]);
    // Without a daemon, the edit is made in the file.
    let sandbox = left("dispatch-exchange-noted");
    sandbox.run(&[]).expect(0);
    assert_eq!([CAL, BOT].map(|chat| sandbox.model(chat).unwrap()), ["sonnet", "haiku"]);
    assert_settled(&sandbox);
}

#[test]
fn what_a_run_of_version_0_1_noted_while_its_state_was_being_moved_is_not_lost() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"false\"]\n");
    let sandbox = Sandbox::new(&policy, &registry(&[("a", "family", "opus"), ("b", "family", "sonnet")]));
    sandbox.run(&[]).expect(4);
    // The run died before it had closed the file of version 0.1, of which a run then noted a debt there.
    let debt = json!({ "since": "2026-03-01T00:00:00Z", "ran": "haiku", "began": true, "attempts": 1 });
    let ledger = json!({ "version": 1, "owed": { "b": debt }, "corrected": {}, "exchange": null });
    write_state(&sandbox.path("sessions.json.reconcile"), "owed.json", ledger.to_string());
    sandbox.run(&["--retry", "a"]).expect(4);
    let owed: Vec<String> = sandbox.ledger()["owed"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(owed, ["a", "b"]);
    let closed = sandbox.read("sessions.json.reconcile/owed.json");
    assert!(closed.contains("moved_to"), "{closed}");
}
