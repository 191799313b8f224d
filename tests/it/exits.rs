//! How a run ends: exit codes, limits, consent, and where its report goes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{POLICY, Run, Sandbox, finish, registry, row};

const CHAT: &str = "+16175550142";
const RESTART: &str = "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\n";

/// So many family chats on a model (sonnet is in sync), and a restart command that notes its calls.
fn sessions(models: &[&str], more: &str) -> Sandbox {
    let ids: Vec<String> = (0..models.len()).map(|index| format!("+1617555{index:04}")).collect();
    let chats: Vec<_> = ids.iter().zip(models).map(|(id, model)| (id.as_str(), "family", *model)).collect();
    let sandbox = Sandbox::new(&format!("{POLICY}\n{RESTART}\n{more}"), &registry(&chats));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls\ntest ! -e broken");
    sandbox
}

/// One chat that runs opus and should run sonnet.
fn drifted(more: &str) -> Sandbox {
    let sandbox = Sandbox::new(&format!("{POLICY}\n{RESTART}\n{more}"), &registry(&[(CHAT, "family", "opus")]));
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls\ntest ! -e broken");
    sandbox
}

/// Inode, mode, time of the last change to the nanosecond, and content.
type Facts = (u64, u32, i64, i64, Vec<u8>);

/// Everything below the sandbox.
fn tree(sandbox: &Sandbox) -> BTreeMap<String, Facts> {
    let entries = walkdir::WalkDir::new(sandbox.path("")).into_iter().map(|entry| {
        let entry = entry.unwrap();
        let facts = entry.metadata().unwrap();
        let content = if facts.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        let name = entry.path().display().to_string();
        (name, (facts.ino(), facts.mode(), facts.mtime(), facts.mtime_nsec(), content))
    });
    entries.collect()
}

#[test]
fn a_run_ends_with_0_when_all_is_done_and_again_when_nothing_is_to_do() {
    let sandbox = drifted("");
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    let before = tree(&sandbox);
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 1 in sync.");
    let mut after = tree(&sandbox);
    // The lock file names the process that took it last. Nothing else has changed.
    after.retain(|name, _| !name.ends_with("run.lock") && !name.ends_with("data.lock"));
    for (name, facts) in after {
        assert_eq!(before[&name], facts, "{name}");
    }
    assert_eq!(sandbox.calls(), [CHAT]);
}

#[test]
fn a_dry_run_writes_nothing_and_runs_nothing() {
    let sandbox = sessions(&["opus", "opus", "", "sonnet"], "running = [\"./running\"]");
    sandbox.script("running", "echo running >> calls");
    for arguments in [&["--dry-run"][..], &["-n", "--format", "json"], &["-n", "--format", "diff"]] {
        let before = tree(&sandbox);
        sandbox.run(arguments).expect(0);
        assert_eq!(tree(&sandbox), before);
    }
    // Neither does it where there is state already: a failed restart, and its debt.
    sandbox.write("broken", "");
    sandbox.run(&[]).expect(4);
    let before = tree(&sandbox);
    sandbox.run(&["--dry-run", "--retry", "+16175550000"]).expect(0);
    assert_eq!(
        sandbox.run(&["--dry-run", "--detailed-exitcode"]).expect(4).summary(),
        "No changes. 3 deferred, 1 in sync."
    );
    sandbox.run(&["owed"]).expect(0);
    assert_eq!(tree(&sandbox), before);
}

#[test]
fn a_probe_asks_and_does_no_more() {
    let sandbox = sessions(&["opus", "opus", "sonnet"], "running = [\"./running\"]");
    sandbox.script("running", "echo running $RECONCILE_CHAT_ID >> calls\ncase $RECONCILE_CHAT_ID in *0) exit 3;; esac");
    let registry = sandbox.read("sessions.json");
    let asked = sandbox.json(&["--dry-run", "--probe"]);
    let mut calls = sandbox.calls();
    calls.sort();
    // The third is in sync: it is asked whether sonnet works.
    assert_eq!(calls, ["running +16175550000", "running +16175550001", "running +16175550002"]);
    let stopped = row(&asked, "+16175550000");
    assert_eq!((&stopped["restart"], &stopped["edit"]), (&json!(false), &json!(true)));
    assert_eq!((&asked["summary"]["changed"], &asked["summary"]["restarted"]), (&json!(2), &json!(1)));
    assert_eq!(asked["plan_id"], sandbox.json(&["--dry-run"])["plan_id"], "liveness is no part of a plan");
    assert_eq!((sandbox.read("sessions.json"), sandbox.ledger()), (registry, Value::Null));
}

#[test]
fn an_error_before_anything_was_changed_is_1() {
    type Break = fn(&Sandbox);
    let broken: [(Break, &str); 6] = [
        (|sandbox| sandbox.write("policy.toml", "[models"), "error[syntax]"),
        (|sandbox| fs::remove_file(sandbox.path("policy.toml")).unwrap(), "there is no policy policy.toml"),
        (|sandbox| fs::remove_file(sandbox.path("sessions.json")).unwrap(), "there is no registry sessions.json"),
        (|sandbox| sandbox.write("sessions.json", ""), "sessions.json:1:1"),
        (|sandbox| sandbox.write("sessions.json", "{\"+1\": {\"model\": \"opus\"}"), "sessions.json:1:"),
        (
            |sandbox| {
                let open = fs::Permissions::from_mode(0o755);
                fs::set_permissions(sandbox.path("sessions.json.reconcile"), open).unwrap();
            },
            "its mode is 0755",
        ),
    ];
    for (break_it, told) in broken {
        let sandbox = drifted("");
        fs::DirBuilder::new().mode(0o700).create(sandbox.path("sessions.json.reconcile")).unwrap();
        break_it(&sandbox);
        // But for the locks, which stay, and the directory that they are in.
        let others = || {
            let mut tree = tree(&sandbox);
            let locks = ["run.lock", "data.lock", "sessions.json.reconcile"];
            tree.retain(|path, _| !locks.iter().any(|lock| path.ends_with(lock)));
            tree
        };
        let before = others();
        let run = sandbox.run(&[]).expect(1);
        assert!(run.stdout.is_empty() && run.stderr.contains(told), "{told}: {run:#?}");
        assert_eq!(others(), before);
    }
}

#[test]
fn a_detailed_dry_run_tells_by_its_code_whether_there_is_something_to_do() {
    let sandbox = drifted("");
    sandbox.run(&["--dry-run"]).expect(0);
    sandbox.run(&["--dry-run", "--detailed-exitcode"]).expect(2);
    sandbox.run(&[]).expect(0);
    sandbox.run(&["--dry-run", "--detailed-exitcode"]).expect(0);

    let unmanaged = drifted(&format!("[chats]\n{CHAT:?} = {{ managed = false }}\n"));
    unmanaged.run(&["--dry-run", "--detailed-exitcode"]).expect(0);
    let sandbox = sessions(&["opus", "opus"], "");
    sandbox.write("sessions.json", sandbox.read("sessions.json").replace("imessage/_16175550001", "all"));
    sandbox.run(&["--dry-run", "--detailed-exitcode"]).expect(4);
    sandbox.run(&["--dry-run", "--detailed-exitcode", "--allow-changes", "0"]).expect(3);
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &["--wrong"][..],
        &["wrong"],
        &["--probe"],
        &["--at", "2026-12-31"],
        &["--detailed-exitcode"],
        &["--dry-run", "--at", "tomorrow"],
        &["--dry-run", "--at", "9999-12-31"],
        &["--metrics", "out.prom", "--chat", CHAT],
        &["explain", ""],
        &["--allow-changes", "-1"],
        &["--allow-changes", "many"],
        &["--lock-timeout", "soon"],
        &["--format", "yaml"],
        &["--output", "json"],
        &["--output", "json="],
        &["--output", "yaml=file"],
        &["--dry-run", "owed"],
        &["--chat", CHAT, "owed"],
        &["owed", "--forget"],
        &["owed", "extra"],
    ] {
        let sandbox = drifted("");
        let before = tree(&sandbox);
        let run = sandbox.run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{arguments:?}: {run:#?}");
        assert!(run.stderr.contains("error: "), "{run:#?}");
        assert_eq!(tree(&sandbox), before);
    }
    for asked_for in ["--help", "--version", "-h"] {
        assert!(!drifted("").run(&[asked_for]).expect(0).stdout.is_empty());
    }
}

#[test]
fn a_run_beside_another_is_75_and_names_it() {
    let sandbox = drifted("");
    let state = sandbox.path("sessions.json.reconcile");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let mut lock =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(state.join("run.lock")).unwrap();
    lock.try_lock().unwrap();
    writeln!(lock, "4242").unwrap();
    let before = tree(&sandbox);
    for arguments in [&["--lock-timeout", "0s"][..], &["owed", "--forget", CHAT, "--lock-timeout", "20ms"]] {
        let run = sandbox.run(arguments).expect(75);
        assert!(run.stderr.contains("/run.lock") && run.stderr.contains("hint: "), "{run:#?}");
    }
    // Neither looking at the plan nor at the debts needs the lock.
    sandbox.run(&["--dry-run", "--lock-timeout", "0s"]).expect(0);
    sandbox.run(&["owed", "--lock-timeout", "0s"]).expect(0);
    assert_eq!(tree(&sandbox), before);
    drop(lock);
    sandbox.run(&["--lock-timeout", "0s"]).expect(0);
}

#[test]
fn a_row_that_failed_was_refused_or_does_not_converge_is_4() {
    let sandbox = drifted("");
    sandbox.write("broken", "");
    sandbox.run(&[]).expect(4);
    fs::remove_file(sandbox.path("broken")).unwrap();
    sandbox.run(&["--retry", CHAT]).expect(0);

    let undo = || sandbox.write("sessions.json", registry(&[(CHAT, "family", "opus")]));
    // The first is a correction; each later one finds the last undone.
    for _ in 0..3 {
        undo();
        sandbox.run(&[]).expect(0);
    }
    undo();
    sandbox.run(&["--dry-run"]).expect(4);
    let report = sandbox.json(&[]);
    assert_eq!((&row(&report, CHAT)["outcome"], &report["summary"]["held"]), (&json!("held"), &json!(1)));
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("opus"));
    sandbox.run(&[]).expect(4);
    sandbox.run(&["--retry", CHAT]).expect(0);
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("sonnet"));
}

#[test]
fn an_interrupted_run_ends_after_the_restart_under_way_and_is_4() {
    let sandbox = sessions(&["opus", "opus", "opus"], "");
    sandbox.has_seen(&["sonnet"]);
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls\ntest -e calm || kill -TERM $PPID");
    let run = sandbox.run(&["--format", "json"]).expect(4);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let outcomes = report["changes"].as_array().unwrap().iter().map(|row| (&row["outcome"], &row["detail"]));
    let (done, interrupted) = (json!("done"), (json!("deferred"), json!("interrupted")));
    let waiting = (&interrupted.0, &interrupted.1);
    assert_eq!(outcomes.collect::<Vec<_>>(), [(&done, &Value::Null), waiting, waiting]);
    assert_eq!((&report["summary"]["changed"], &report["summary"]["owed"]), (&json!(3), &json!(2)));
    assert_eq!(sandbox.calls(), ["+16175550000"]);
    sandbox.write("calm", "");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["+16175550000", "+16175550001", "+16175550002"], "a rerun does not wait");
}

#[test]
fn an_error_after_the_first_effect_is_4_and_what_is_left_is_not_forgotten() {
    let sandbox = sessions(&["opus", "opus"], "");
    sandbox.script("restart", "echo $RECONCILE_CHAT_ID >> calls\necho junk >> sessions.json.reconcile/ledger.journal");
    let run = sandbox.run(&[]).expect(4);
    assert!(run.stderr.contains("ledger.journal is damaged"), "{run:#?}");
    assert_eq!(sandbox.calls(), ["+16175550000"], "no restart begins without a ledger");
    let run = sandbox.run(&["--dry-run"]).expect(1);
    assert!(run.stderr.contains("ledger.journal is damaged"), "damage is never \"no debts\": {run:#?}");

    let sandbox = sessions(&["opus"], "");
    sandbox.script("restart", "echo junk > sessions.json");
    let report: Value = serde_json::from_str(&sandbox.run(&["--format", "json"]).expect(4).stdout).unwrap();
    assert_eq!((&report["changes"][0]["outcome"], &report["summary"]["unknown"]), (&json!("unknown"), &json!(1)));
}

fn many(drifted: usize, of: usize) -> Vec<&'static str> {
    (0..of).map(|index| if index < drifted { "opus" } else { "sonnet" }).collect()
}

#[test]
fn without_a_limit_it_is_10_or_30_percent_whichever_is_more() {
    for (drifted, of, code) in [(10, 10, 0), (11, 11, 3), (11, 33, 3), (11, 37, 0), (30, 100, 0), (31, 100, 3)] {
        let sandbox = sessions(&many(drifted, of), "");
        assert_eq!(sandbox.run(&["--dry-run"]).code, code, "{drifted} of {of}");
        assert_eq!(sandbox.run(&["--dry-run", "--tier", "family"]).code, code, "{drifted} of {of}");
    }
}

#[test]
fn over_the_limit_nothing_is_done_until_the_user_consents() {
    let sandbox = sessions(&many(3, 5), "[limits]\nmax_changes = 2\n");
    let before = sandbox.read("sessions.json");
    for arguments in [&["--dry-run"][..], &[], &["--tier", "family"], &["--allow-changes", "2"]] {
        let run = sandbox.run(arguments).expect(3);
        assert!(
            run.stderr.contains("error: the plan has 3 changes that count, and the limit is 2: nothing was done"),
            "{run:#?}"
        );
        assert!(run.stderr.trim_end().ends_with(" --allow-changes 3"), "{run:#?}");
        assert_eq!((sandbox.read("sessions.json"), sandbox.calls().len()), (before.clone(), 0));
    }
    sandbox.run(&["--chat", "+16175550000"]).expect(0);
    sandbox.run(&["--allow-changes", "2"]).expect(0);
    assert_eq!(sandbox.calls().len(), 3);
}

#[test]
fn the_limit_counts_models_replaced_and_sessions_restarted() {
    let none = "[limits]\nmax_changes = 0\n";
    // Without a model, and known to run the one it shall have: nothing is replaced, and no session restarted.
    let sandbox = Sandbox::new(
        &format!("{POLICY}\n{RESTART}\nunset_runs = \"sonnet\"\n{none}"),
        &registry(&[(CHAT, "family", "")]),
    );
    sandbox.run(&[]).expect(0);
    assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.calls().len()), (Some("sonnet"), 0));
    // Without a model, and not known to: a restart.
    let sandbox = Sandbox::new(&format!("{POLICY}\n{RESTART}\n{none}"), &registry(&[(CHAT, "family", "")]));
    sandbox.run(&[]).expect(3);
    // A model replaced, though nothing can be restarted.
    let sandbox = Sandbox::new(&format!("{POLICY}\n{none}"), &registry(&[(CHAT, "family", "opus")]));
    sandbox.run(&[]).expect(3);
    let run = sandbox.run(&["--allow-changes", "1"]).expect(0);
    assert!(run.stderr.contains("note: nothing was restarted"), "{run:#?}");
}

#[test]
fn a_model_that_failed_is_told_by_every_command_until_it_comes_up() {
    let sandbox = sessions(&["opus", "opus"], "");
    sandbox.write("broken", "");
    let report = sandbox.json(&["--metrics", "out.prom"]);
    let failed = json!([{ "model": "sonnet", "chat_id": "+16175550000", "attempts": 1 }]);
    assert_eq!(report["failed_models"], failed);
    assert_eq!(row(&report, "+16175550001")["detail"], "canary failed: sonnet did not come up on +16175550000");
    assert_eq!(sandbox.model("+16175550001").as_deref(), Some("opus"), "it is not even edited");
    assert!(sandbox.read("out.prom").contains("reconcile_failed_models{registry=\"sessions.json\"} 1\n"));
    let told = "sonnet did not come up on +16175550000: 1 attempt since ";
    assert!(sandbox.run(&["--dry-run"]).expect(4).stderr.contains(told));
    assert!(sandbox.run(&["owed"]).expect(0).stdout.contains(told));
    let explained = sandbox.run(&["explain", "+16175550000"]).expect(0).stdout;
    assert!(explained.contains("start: did not come up on sonnet: 1 attempt since "), "{explained}");
    assert_eq!(sandbox.json(&["explain", "+16175550000"])["failed_start"]["attempts"], 1);

    fs::remove_file(sandbox.path("broken")).unwrap();
    let run = sandbox.run(&["--retry", "+16175550000"]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 2 restarted, 0 deferred, 0 failed.", "the others follow");
    assert!(!run.stderr.contains("did not come up"), "{run:#?}");
}

#[test]
fn owed_restarts_never_count() {
    let sandbox = sessions(&many(3, 5), "[limits]\nmax_changes = 0\n[rollout]\nmax_failures = 9\n");
    sandbox.has_seen(&["sonnet"]);
    sandbox.write("broken", "");
    sandbox.run(&["--allow-changes", "3"]).expect(4);
    fs::remove_file(sandbox.path("broken")).unwrap();
    let retry = ["--retry", "+16175550000", "--retry", "+16175550001", "--retry", "+16175550002"];
    assert_eq!(
        sandbox.run(&[&["--dry-run"][..], &retry].concat()).expect(0).summary(),
        "Plan: 0 to change, 3 to restart (3 owed), 0 deferred, 2 in sync."
    );
    sandbox.run(&retry).expect(0);
    assert_eq!(sandbox.calls().len(), 6);
}

#[test]
fn a_named_plan_is_applied_or_nothing_is() {
    let sandbox = sessions(&["opus", "haiku", "sonnet"], "");
    let report = sandbox.json(&["--dry-run", "--output", "json=plan.json"]);
    let id = report["plan_id"].as_str().unwrap();
    let edits = json!([["+16175550000", "opus", "sonnet"], ["+16175550001", "haiku", "sonnet"]]).to_string();
    let hash: String = Sha256::digest(edits).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(id, hash);

    sandbox.run(&["--dry-run", "--chat", "+16175550000", "--output", "json=one.json"]).expect(0);
    let run = sandbox.run(&["--plan", "one.json"]).expect(3);
    assert!(run.stderr.contains("hint: that plan is for some chats only: pass the same --chat"), "{run:#?}");
    sandbox.run(&["--dry-run", "--plan", "one.json", "--chat", "+16175550000"]).expect(0);

    // One row is new, one is gone, and one is another.
    let later = registry(&[("+16175550001", "family", "opus"), ("+16175550009", "bots", "")]);
    let agreed = sandbox.read("sessions.json");
    sandbox.write("sessions.json", &later);
    for plan in [id, "plan.json"] {
        for dry in [&["--dry-run"][..], &[]] {
            let run = sandbox.run(&[&["--plan", plan], dry].concat()).expect(3);
            assert!(run.stderr.contains(&format!(", not {id}: nothing was done")), "{run:#?}");
            let differences = [
                "note: - +16175550000: opus → sonnet, no longer planned\n",
                "note: + +16175550009: (none) → haiku, not in that plan\n",
                "note: ~ +16175550001: opus → sonnet, was haiku → sonnet\n",
            ];
            for difference in differences {
                assert_eq!(run.stderr.contains(difference), plan == "plan.json", "{run:#?}");
            }
            assert_eq!((sandbox.read("sessions.json"), sandbox.calls().len()), (later.clone(), 0));
        }
    }
    sandbox.write("sessions.json", &agreed);
    sandbox.run(&["--plan", id, "--chat", "+16175550000"]).expect(3);
    sandbox.run(&["--plan", "plan.json"]).expect(0);
    assert_eq!(sandbox.calls().len(), 2);
    sandbox.write("sessions.json", &agreed);
    sandbox.run(&["--plan", id]).expect(0);
    sandbox.run(&["--plan", id]).expect(3);
}

#[test]
fn a_plan_whose_rows_were_changed_is_no_plan() {
    let sandbox = drifted("");
    let report = sandbox.json(&["--dry-run"]);
    let mut without = report.clone();
    without["changes"].as_array_mut().unwrap().clear();
    let mut other = report.clone();
    other["changes"][0]["after"] = "haiku".into();
    for changed in [without, other] {
        sandbox.write("plan.json", changed.to_string());
        let run = sandbox.run(&["--plan", "plan.json"]).expect(1);
        assert!(run.stderr.contains("plan.json was edited: its rows do not match its plan id"), "{run:?}");
        assert_eq!(sandbox.model(CHAT).as_deref(), Some("opus"));
    }
    sandbox.write("plan.json", report.to_string());
    sandbox.run(&["--plan", "plan.json"]).expect(0);
}

#[test]
fn a_plan_id_is_given_whole() {
    let sandbox = drifted("");
    let shown = sandbox.run(&["--dry-run"]).expect(0);
    let id = sandbox.json(&["--dry-run"])["plan_id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 32);
    assert!(shown.stdout.lines().next().unwrap().ends_with(&format!("plan {}", &id[..12])), "{shown:#?}");
    assert!(shown.stderr.ends_with(&format!("hint: to apply this plan or nothing, pass --plan {id}\n")), "{shown:#?}");
    for typed in [&id[..31], &id[..16], &id[..12], "7", &format!("{id}0"), &id.to_uppercase()] {
        let run = sandbox.run(&["--plan", typed]).expect(64);
        assert!(run.stderr.contains("a plan id has 32 lowercase hex digits"), "{run:#?}");
        assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.calls().len()), (Some("opus"), 0));
    }
    // A file whose name could be an id is named by a path.
    sandbox.run(&["--dry-run", "--output", "json=added"]).expect(0);
    sandbox.run(&["--plan", "added"]).expect(64);
    sandbox.run(&["--plan", "./added"]).expect(0);
}

#[test]
fn the_plan_id_is_told_only_where_it_can_be_used() {
    let sandbox = drifted("");
    let id = sandbox.json(&["--dry-run"])["plan_id"].as_str().unwrap().to_owned();
    let tells = |arguments: &[&str]| sandbox.run(arguments).stderr.contains("--plan");
    assert!(tells(&["--dry-run"]));
    for arguments in [
        &["--dry-run", "--quiet"][..],
        &["--dry-run", "--format", "json"],
        &["--dry-run", "--plan", &id],
        &["--dry-run", "--allow-changes", "0"],
        &["set-model", CHAT, "haiku", "--dry-run"],
        &[],
        // It leaves nothing to apply.
        &["--dry-run"],
    ] {
        assert!(!tells(arguments), "{arguments:?}");
    }
}

/// The report of a dry run of version 0.1, which has an id of 16 digits.
fn of_version_1(report: &Value) -> Value {
    let mut old = report.clone();
    old["plan_id"] = report["plan_id"].as_str().unwrap()[..16].into();
    old
}

#[test]
fn a_plan_file_of_version_1_is_compared_row_by_row() {
    let sandbox = drifted("");
    let report = sandbox.json(&["--dry-run"]);
    sandbox.write("plan.json", of_version_1(&report).to_string());
    sandbox.write("sessions.json", sandbox.read("sessions.json").replace("opus", "haiku"));
    let run = sandbox.run(&["--plan", "plan.json"]).expect(3);
    assert!(run.stderr.contains(": haiku → sonnet, was opus → sonnet\n"), "{run:#?}");
    sandbox.write("sessions.json", sandbox.read("sessions.json").replace("haiku", "opus"));
    sandbox.run(&["--plan", "plan.json"]).expect(0);
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("sonnet"));
}

#[test]
fn two_plans_with_one_id_of_version_1_are_not_taken_for_each_other() {
    // Found by search: the first 16 digits of the SHA-256 of both plans are the same.
    let (harmless, other) = ("421deae6a3b2b682", "baff7375054b4999");
    let sandbox = Sandbox::new(POLICY, &registry(&[(harmless, "family", "opus"), (other, "bots", "opus")]));
    let plan = |chat| of_version_1(&sandbox.json(&["--dry-run", "--chat", chat]));
    assert_eq!(plan(harmless)["plan_id"], plan(other)["plan_id"]);
    sandbox.write("plan.json", plan(harmless).to_string());
    let run = sandbox.run(&["--plan", "plan.json", "--chat", other]).expect(3);
    for difference in [
        format!("- {harmless}: opus → sonnet, no longer planned\n"),
        format!("+ {other}: opus → haiku, not in that plan\n"),
    ] {
        assert!(run.stderr.contains(&format!("note: {difference}")), "{run:#?}");
    }
    assert_eq!((sandbox.model(harmless).as_deref(), sandbox.model(other).as_deref()), (Some("opus"), Some("opus")));
    sandbox.run(&["--plan", "plan.json", "--chat", harmless]).expect(0);
    assert_eq!(sandbox.model(harmless).as_deref(), Some("sonnet"));
}

#[test]
fn a_plan_that_is_none_is_an_error() {
    let sandbox = drifted("");
    sandbox.write("junk.json", "{\"plan_id\": 7}");
    sandbox.write("binary", [0xff, 0xfe]);
    for plan in ["junk.json", "binary", "missing.json", ".", "", "plan-7f3c", "sessions.json"] {
        let run = sandbox.run(&["--plan", plan]).expect(1);
        assert!(run.stderr.contains("error[") && run.stderr.contains("hint: "), "{plan}: {run:#?}");
        assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.calls().len()), (Some("opus"), 0));
    }
}

#[test]
fn a_plan_is_read_from_a_regular_file_and_nothing_is_waited_for() {
    let sandbox = drifted("");
    assert!(Command::new("mkfifo").arg(sandbox.path("pipe")).status().unwrap().success());
    for file in ["pipe", "/dev/zero"] {
        let run = sandbox.run(&["--plan", file]).expect(1);
        assert!(run.stderr.contains(&format!("cannot read {file}: it is not a regular file")), "{run:#?}");
        assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.calls().len()), (Some("opus"), 0));
        let run = sandbox.run(&["--dry-run", "--redact", "--redact-key", file]).expect(1);
        assert!(run.stderr.contains("cannot read …: it is not a regular file"), "{run:#?}");
    }
}

#[test]
fn a_closed_pipe_ends_the_printing_and_never_an_apply() {
    for arguments in [&[][..], &["--format", "json"], &["--dry-run"], &["--wrong"]] {
        let sandbox = drifted("");
        let closed = || Stdio::from(std::io::pipe().unwrap().1);
        let mut child = sandbox.command(arguments).stdout(closed()).stderr(closed()).spawn().unwrap();
        let applied = arguments != ["--dry-run"] && arguments != ["--wrong"];
        assert_eq!(child.wait().unwrap().code(), Some(if arguments == ["--wrong"] { 64 } else { 0 }));
        assert_eq!(sandbox.model(CHAT).as_deref(), Some(if applied { "sonnet" } else { "opus" }));
        assert_eq!(sandbox.calls().len(), usize::from(applied));
    }
}

/// A dry run or an apply that cannot print its report.
fn into_full(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let full = File::options().write(true).open("/dev/full").unwrap();
    finish(sandbox.command(arguments).stdout(full))
}

#[test]
fn a_report_that_cannot_be_written_is_1_without_effects_and_4_with_them() {
    let sandbox = drifted("");
    for (arguments, code) in [(&["--help"][..], 1), (&["--version"], 1)] {
        let run = into_full(&sandbox, arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:#?}");
    }
    for (arguments, code) in [(&["--dry-run"][..], 1), (&["--dry-run", "--detailed-exitcode"], 1), (&[], 4), (&[], 1)] {
        let run = into_full(&sandbox, arguments);
        assert!(run.stderr.contains("error[system]: cannot write stdout: no space left on device"), "{run:#?}");
        assert_eq!(run.code, code, "{arguments:?}: {run:#?}");
    }
    assert_eq!((sandbox.model(CHAT).as_deref(), sandbox.calls().len()), (Some("sonnet"), 1));
}

#[test]
fn an_error_goes_before_a_refusal() {
    let sandbox = drifted("");
    for arguments in [&["--dry-run", "--allow-changes", "0"][..], &["--allow-changes", "0"]] {
        let run = into_full(&sandbox, arguments);
        assert_eq!(run.code, 1, "{arguments:?}: {run:#?}");
    }
}

#[test]
fn an_error_names_its_cause_once_and_in_plain_words() {
    let sandbox = drifted("");
    let run = sandbox.run(&["--dry-run", "--output", "json=nowhere/plan.json"]).expect(1);
    assert_eq!(run.stderr, "error[system]: cannot write nowhere/plan.json: no such file or directory\n");
}
