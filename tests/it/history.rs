//! What past runs did can be read, by people and by programs, and one of them can be taken back.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::slow::{Running, until};
use crate::support::{POLICY, Run, Sandbox, finish, needs, registry};
use crate::terminal::at;

const ADA: &str = "+16175550142";
const BEN: &str = "+16175550143";
const CAL: &str = "+16175550144";
const NEW: &str = "+16175550145";

/// Three sessions on the wrong model and one without any.
fn sandbox() -> Sandbox {
    let chats = [(ADA, "family", "opus"), (BEN, "bots", "opus"), (CAL, "admin", "haiku"), (NEW, "bots", "")];
    Sandbox::new(&format!("{POLICY}\n[chats]\n"), &registry(&chats))
}

fn runs(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let run = sandbox.run(&[&["history", "--format", "json"], arguments].concat()).expect(0);
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The name of the newest run.
fn newest(sandbox: &Sandbox) -> String {
    runs(sandbox, &[])[0]["run"].as_str().unwrap().to_owned()
}

fn git(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"];
    finish(Command::new("git").args(identity).args(arguments).current_dir(sandbox.path(""))).expect(0)
}

#[test]
fn before_the_first_change_there_is_nothing_to_tell() {
    let sandbox = sandbox();
    assert_eq!(sandbox.run(&["history"]).expect(0).stdout, "No run has changed anything yet.\n");
    assert_eq!(sandbox.run(&["history", "--format", "json"]).expect(0).stdout, "");
    sandbox.run(&["--dry-run"]).expect(0);
    assert_eq!(runs(&sandbox, &[]), [Value::Null; 0], "a dry run is no run");
}

#[test]
fn two_runs_never_have_one_name_whatever_the_clock_does() {
    const LATER: &str = "29991231T235959999999Z";
    let sandbox = sandbox();
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    // As if the clock had been right then, and had been set back since; and as if the file had been put aside.
    let (history, part) = ("sessions.json.reconcile/history.jsonl", "sessions.json.reconcile/history.1.jsonl");
    let line = sandbox.read(history).replace(&newest(&sandbox), LATER);
    for aside in [false, true] {
        sandbox.write(history, &line);
        if aside {
            fs::rename(sandbox.path(history), sandbox.path(part)).unwrap();
        }
        for model in ["haiku", "sonnet", "opus"] {
            sandbox.run(&["set-model", BEN, model]).expect(0);
        }
        let names: Vec<Value> = runs(&sandbox, &[]).iter().map(|run| run["run"].clone()).collect();
        assert!(names.len() >= 4 && names.is_sorted_by(|newer, older| newer.as_str() > older.as_str()), "{names:?}");
        assert_eq!(names[2], "30000101T000000000000Z", "right after the last one");
        sandbox.run(&["undo", names[0].as_str().unwrap()]).expect(0);
        assert_eq!(sandbox.model(BEN).as_deref(), Some("sonnet"));
    }
}

#[test]
fn the_newest_run_comes_first_and_a_chat_has_a_history_of_its_own() {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    sandbox.run(&[]).expect(0);

    let told = runs(&sandbox, &[]);
    assert_eq!(told.len(), 2, "a run that changes nothing is not told");
    assert_eq!(sandbox.read("sessions.json.reconcile/history.jsonl").lines().count(), 2, "in one file");
    assert_eq!(told[0]["changes"].as_array().unwrap().len(), 1);
    assert_eq!(told[1]["changes"].as_array().unwrap().len(), 4);
    assert!(told[0]["run"].as_str() > told[1]["run"].as_str());

    let text = sandbox.run(&["history", ADA]).expect(0).stdout;
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("imessage/")).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert!(rows[0].contains("sonnet → haiku   done   policy.toml:15 chats.\"+16175550142\""), "{text}");
    assert!(rows[1].contains("opus → sonnet   done   policy.toml:8 tiers.family"), "{text}");
    assert!(!text.contains("changed,") && sandbox.run(&["history"]).expect(0).stdout.contains("4 changed,"), "{text}");
    let by_name = runs(&sandbox, &["imessage/_16175550143"]);
    assert_eq!(by_name.len(), 1);
    assert_eq!(by_name[0]["changes"].as_array().unwrap().len(), 1);

    sandbox.write("sessions.json", registry(&[(BEN, "bots", "haiku")]));
    assert_eq!(runs(&sandbox, &[ADA]).len(), 2, "a chat that is gone still has one");
    assert_eq!(runs(&sandbox, &["nobody"]).len(), 0);
    assert_eq!(sandbox.run(&["history", "nobody"]).expect(0).stdout, "No run has changed that chat.\n");
}

#[test]
fn a_restart_that_a_later_run_makes_up_for_is_told_of_that_run() {
    let policy = format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n");
    let sandbox = Sandbox::new(&policy, &registry(&[(ADA, "family", "opus"), (BEN, "bots", "haiku")]));
    sandbox.script("restart", "exit 1");
    sandbox.run(&[]).expect(4);
    sandbox.script("restart", "exit 0");
    sandbox.run(&["--retry", ADA]).expect(0);
    let told = runs(&sandbox, &[ADA]);
    assert_eq!(told.iter().map(|run| &run["changes"][0]["outcome"]).collect::<Vec<_>>(), ["done", "failed"]);
    let text = sandbox.run(&["history"]).expect(0).stdout;
    let changes: Vec<bool> =
        text.lines().filter(|line| line.contains("imessage/")).map(|row| row.contains('→')).collect();
    assert_eq!(changes, [false, true], "only the first run changed the model: {text}");
}

#[test]
fn a_run_says_who_did_it_where_and_by_which_commit() {
    let sandbox = sandbox();
    git(&sandbox, &["init", "-q"]);
    git(&sandbox, &["add", "policy.toml"]);
    git(&sandbox, &["commit", "-qm", "policy"]);
    let head = git(&sandbox, &["rev-parse", "HEAD"]).stdout.trim().to_owned();

    finish(sandbox.command(&["--chat", BEN]).env("USER", "night").env_remove("LOGNAME").env_remove("SUDO_USER"))
        .expect(0);
    let told = &runs(&sandbox, &[])[0];
    assert_eq!(told["user"], "night");
    assert_eq!(told["uid"], rustix::process::geteuid().as_raw());
    assert_eq!(told["host"], rustix::system::uname().nodename().to_str().unwrap());
    assert_eq!(told["policy_commit"], head);
    assert_eq!(told["policy_modified"], false);

    finish(sandbox.command(&["set-model", ADA, "haiku"]).env("SUDO_USER", "alice")).expect(0);
    let told = &runs(&sandbox, &[])[0];
    assert_eq!(told["user"], "alice", "behind sudo, the person");
    assert_eq!(told["policy_modified"], true, "the override is not committed yet");
    let text = sandbox.run(&["history"]).expect(0).stdout;
    assert!(
        text.contains(&format!("alice@{} · policy {}, modified", told["host"].as_str().unwrap(), &head[..12])),
        "{text}"
    );
}

/// Nothing but the name of the commit depends on git, and what it started in turn is ended with it.
#[test]
fn a_git_that_hangs_does_not_keep_a_run_from_its_end() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n"));
    sandbox.script("restart", "echo \"$RECONCILE_CHAT_ID\" >> calls");
    sandbox.script("git", "sleep 1000 & echo $! > sleeps; wait");
    let path = format!("{}:{}", sandbox.path("").display(), std::env::var("PATH").unwrap());
    let mut run = Running::start(sandbox.command(&["--chat", BEN]).env("PATH", path).env("USER", "night"));
    until("the run ends", || run.is_over());
    assert_eq!(run.finish().expect(0).summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!(sandbox.calls(), [BEN]);
    let told = &runs(&sandbox, &[])[0];
    assert_eq!((&told["changes"][0]["outcome"], &told["policy_commit"]), (&Value::from("done"), &Value::Null));
    let state = || fs::read_to_string(format!("/proc/{}/stat", sandbox.read("sleeps").trim()));
    until("what git started is ended", || state().is_ok_and(|stat| stat.contains(") Z ")) || state().is_err());
}

#[test]
fn where_nobody_may_be_named_a_run_does_not_say_who_did_it() {
    let sandbox = sandbox();
    sandbox.run(&["snapshot", "--redact"]).expect(0);
    finish(sandbox.command(&[]).env("USER", "alice")).expect(0);
    assert_eq!(runs(&sandbox, &[])[0]["user"], "alice");
    let told = &runs(&sandbox, &["--redact"])[0];
    assert_eq!([&told["user"], &told["uid"], &told["host"]], [&Value::Null; 3]);
    // Of a plan of one row, the chat could be found from its id by trying all numbers.
    assert_ne!(told["plan_id"], runs(&sandbox, &[])[0]["plan_id"]);
    // The chats have the names that they have in a snapshot.
    let snapshot: Value = serde_json::from_str(&sandbox.run(&["snapshot", "--redact"]).expect(0).stdout).unwrap();
    for row in told["changes"].as_array().unwrap() {
        let entry = &snapshot[row["chat_id"].as_str().unwrap()];
        assert!(entry.is_object() && entry["session_name"] == row["session_name"], "{row}");
    }
    assert!(!sandbox.run(&["history", "--redact"]).expect(0).stdout.contains("alice"));
}

#[test]
fn the_files_are_bounded_and_read_as_json_lines_over_all_parts() {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    let state = "sessions.json.reconcile/history";
    let line = sandbox.read(&format!("{state}.jsonl"));
    let name = newest(&sandbox);
    for part in ["", ".1", ".2", ".3", ".4"] {
        let runs = 0..(1 << 20) / line.len() + 1;
        let runs: String = runs.map(|run| line.replace(&name, &format!("2000{part}{run}"))).collect();
        // What is left out of a name makes the file no shorter.
        sandbox.write(&format!("{state}{part}.jsonl"), format!("{runs}{}", "\n".repeat(1 << 20)));
        let mode = PermissionsExt::from_mode(0o600);
        fs::set_permissions(sandbox.path(&format!("{state}{part}.jsonl")), mode).unwrap();
    }
    let before = runs(&sandbox, &[]).len();
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    assert_eq!(sandbox.read(&format!("{state}.jsonl")).lines().count(), 1, "a new part begins");
    assert!(!sandbox.path(&format!("{state}.5.jsonl")).exists());
    assert_eq!(runs(&sandbox, &[]).len(), before / 5 * 4 + 1, "the oldest part went");
    for text in ["SECRET", "stderr"] {
        assert!(!sandbox.read(&format!("{state}.jsonl")).contains(text));
    }
}

#[test]
fn no_words_of_a_command_are_kept() {
    let sandbox = sandbox();
    sandbox.write("policy.toml", format!("{POLICY}\n[sessions]\nrestart = [\"./restart\"]\n"));
    sandbox.script("restart", "echo SECRET >&2; exit 1");
    let run = sandbox.run(&[]).expect(4);
    assert!(run.stdout.contains("SECRET"), "{run:#?}");
    assert!(!sandbox.read("sessions.json.reconcile/history.jsonl").contains("SECRET"));
    assert_eq!(runs(&sandbox, &[])[0]["changes"][0]["outcome"], "failed");
}

#[test]
fn undo_writes_the_old_models_as_overrides_and_reconciles_those_chats() {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    let run = newest(&sandbox);
    sandbox.run(&["set-model", BEN, "sonnet"]).expect(0);

    let shown = sandbox.run(&["undo", &run, "--dry-run"]).expect(0);
    assert!(
        shown.stdout.contains(&format!("+\"{ADA}\" = {{ model = \"opus\", reason = \"undo of {run}\" }}")),
        "{shown:#?}"
    );
    assert_eq!(sandbox.model(ADA).as_deref(), Some("sonnet"), "a dry run");

    let undone = sandbox.run(&["undo", &run]).expect(0);
    assert_eq!(undone.summary(), "Applied: 2 changed, 0 restarted, 0 deferred, 0 failed.");
    assert!(undone.stderr.contains(&format!("{BEN} is left as it is: its model was changed since")), "{undone:#?}");
    assert!(undone.stderr.contains(&format!("{NEW} is left as it is: it had no model before")), "{undone:#?}");
    let models = [ADA, BEN, CAL, NEW].map(|chat| sandbox.model(chat).unwrap_or_default());
    assert_eq!(models, ["opus", "sonnet", "haiku", "haiku"]);
    for (chat, model) in [(ADA, "opus"), (CAL, "haiku")] {
        let written = format!("\"{chat}\" = {{ model = \"{model}\", reason = \"undo of {run}\" }}");
        assert!(sandbox.read("policy.toml").contains(&written), "{}", sandbox.read("policy.toml"));
    }
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 4 in sync.");

    // Again: nothing is left to do.
    let again = sandbox.run(&["undo", &run]).expect(0);
    assert_eq!(again.summary(), "No changes. 2 in sync.");
}

#[test]
fn the_newest_runs_and_those_since_a_time_can_be_asked_for() {
    let sandbox = sandbox();
    for chat in [ADA, BEN, CAL] {
        sandbox.run(&["--chat", chat]).expect(0);
    }
    let all = runs(&sandbox, &[]);
    assert_eq!(runs(&sandbox, &["--limit", "2"]), all[..2]);
    assert_eq!(runs(&sandbox, &["--limit", "1", ADA]), all[2..], "of those that are about the chat");
    assert_eq!(runs(&sandbox, &["--limit", "9"]), all);
    assert_eq!(runs(&sandbox, &["--limit", "0"]), [Value::Null; 0]);
    let second = all[1]["at"].as_str().unwrap();
    assert_eq!(runs(&sandbox, &["--since", second]), all[..2]);
    for (since, count) in [("1d", 3), ("2000-01-01", 3), ("2000-01-01T12:00", 3), ("2999-12-31", 0), ("0", 0)] {
        assert_eq!(runs(&sandbox, &["--since", since]).len(), count, "{since}");
    }
    let none = sandbox.run(&["history", "--since", "2999-12-31"]).expect(0);
    assert_eq!(none.stdout, "No such run has changed anything.\n");
    for wrong in ["yesterday", "+1d", "-1d", ""] {
        sandbox.run(&["history", "--since", wrong]).expect(64);
    }
}

#[test]
fn what_a_run_did_stands_in_columns_that_fit_the_terminal() {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    let text = sandbox.run(&["history"]).expect(0).stdout;
    assert!(text.lines().next().unwrap().contains(" · apply · "), "the command: {text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("  ~ imessage/")).collect();
    let columns = ["→", "done", "policy.toml:"].map(|word| {
        let places: Vec<usize> =
            rows.iter().map(|row| row.chars().count() - row[row.find(word).unwrap()..].chars().count()).collect();
        assert!(rows.len() == 4 && (word == "→" || places.iter().all(|place| *place == places[0])), "{word}: {text}");
    });
    assert_eq!(columns.len(), 3);
    for columns in [60, 80] {
        let shown = at(&sandbox, columns, &["history"]);
        assert!(shown.lines().all(|line| line.width() <= columns as usize), "{shown}");
        assert!(shown.contains("tiers.family") && !shown.contains('…'), "{shown}");
    }
}

#[test]
fn a_run_that_only_restarted_is_not_the_last_one_to_take_back() {
    let policy = format!("{POLICY}\n[chats]\n[sessions]\nrestart = [\"./restart\"]\n");
    let sandbox = Sandbox::new(&policy, &registry(&[(ADA, "family", "opus")]));
    sandbox.write("restart", "#!/bin/sh\ntest ! -e broken\n");
    fs::set_permissions(sandbox.path("restart"), fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.write("broken", "");
    sandbox.run(&[]).expect(4);
    let changed = newest(&sandbox);
    fs::remove_file(sandbox.path("broken")).unwrap();
    let paid = sandbox.run(&["--retry", ADA]).expect(0);
    assert_eq!(paid.summary(), "Applied: 0 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_ne!(newest(&sandbox), changed);
    sandbox.run(&["undo", "last"]).expect(0);
    assert_eq!(sandbox.model(ADA).as_deref(), Some("opus"));
    assert!(sandbox.read("policy.toml").contains(&format!("undo of {changed}")));
}

#[test]
fn the_last_run_that_changed_something_can_be_taken_back_without_its_name() {
    let sandbox = sandbox();
    let none = sandbox.run(&["undo", "last"]).expect(1);
    assert!(none.stderr.contains("no run in the history has changed a model or an override"), "{none:#?}");
    sandbox.run(&["--chat", ADA]).expect(0);
    sandbox.run(&["--chat", CAL]).expect(0);
    let run = newest(&sandbox);
    let undone = sandbox.run(&["undo", "last"]).expect(0);
    assert_eq!(undone.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed.");
    let models = [ADA, CAL].map(|chat| sandbox.model(chat).unwrap());
    assert_eq!(models, ["sonnet", "haiku"]);
    assert!(sandbox.read("policy.toml").contains(&format!("undo of {run}")));
    // An undo is a run that changed something, too.
    sandbox.run(&["undo", "last"]).expect(0);
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"));
    assert!(!sandbox.read("policy.toml").contains("undo of"));
}

#[test]
fn what_somebody_brought_back_already_needs_no_undo() {
    let sandbox = sandbox();
    let before = sandbox.read("sessions.json");
    sandbox.run(&[]).expect(0);
    sandbox.write("sessions.json", before);
    let run = sandbox.run(&["undo", &newest(&sandbox)]).expect(1);
    assert!(run.stderr.contains(&format!("{ADA} is left as it is: it has its old model")), "{run:#?}");
}

#[test]
fn a_model_that_was_changed_and_changed_back_was_touched() {
    let sandbox = sandbox();
    sandbox.run(&["--chat", ADA]).expect(0);
    let run = newest(&sandbox);
    sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
    sandbox.run(&["unset-model", ADA]).expect(0);
    assert_eq!(sandbox.model(ADA).as_deref(), Some("sonnet"), "as the run left it");
    sandbox.run(&["undo", &run]).expect(1);
    assert_eq!(sandbox.model(ADA).as_deref(), Some("sonnet"));
}

#[test]
fn a_model_that_is_no_longer_allowed_is_not_brought_back() {
    let sandbox = sandbox();
    sandbox.run(&["--chat", CAL, "--chat", ADA]).expect(0);
    let run = newest(&sandbox);
    let policy =
        sandbox.read("policy.toml").replace(", \"haiku\"]", "]").replace("bots   = \"haiku\"", "bots = \"sonnet\"");
    sandbox.write("policy.toml", policy);
    let undone = sandbox.run(&["undo", &run]).expect(0);
    assert!(undone.stderr.contains(&format!("{CAL} is left as it is: the policy does not allow haiku")), "{undone:#?}");
    assert_eq!(sandbox.model(ADA).as_deref(), Some("opus"));
    assert_eq!(sandbox.model(CAL).as_deref(), Some("opus"));
}

#[test]
fn a_run_is_named_by_the_beginning_of_its_name_if_that_is_only_its() {
    let sandbox = sandbox();
    sandbox.run(&["--chat", ADA]).expect(0);
    let first = newest(&sandbox);
    sandbox.run(&["--chat", BEN]).expect(0);
    let run = sandbox.run(&["undo", "2"]).expect(1);
    assert!(run.stderr.contains("the beginning of the names of 2 runs") && run.stderr.contains(&first), "{run:#?}");
    let run = sandbox.run(&["undo", "1999"]).expect(1);
    assert!(run.stderr.contains("no such run: \"1999\""), "{run:#?}");
    sandbox.run(&["undo", ""]).expect(1);
    sandbox.run(&["undo", &first[..first.len() - 1]]).expect(0);
    assert_eq!(sandbox.model(ADA).as_deref(), Some("opus"));
}

#[test]
fn a_damaged_line_is_an_error_and_a_torn_last_one_is_not() {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    let file = "sessions.json.reconcile/history.jsonl";
    let whole = sandbox.read(file);
    let mut torn = whole.clone();
    write!(torn, "{}", &whole[..whole.len() / 2]).unwrap();
    sandbox.write(file, &torn);
    assert_eq!(runs(&sandbox, &[]).len(), 1);
    sandbox.write(file, format!("{{\"run\": 1}}\n{whole}"));
    let run = sandbox.run(&["history"]).expect(1);
    assert!(run.stderr.contains("history.jsonl is damaged in line 1"), "{run:#?}");
}

#[test]
fn every_line_has_a_version_and_one_without_is_of_the_first() {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    let file = "sessions.json.reconcile/history.jsonl";
    let line = sandbox.read(file);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["version"], 1);
    let told = runs(&sandbox, &[]);
    assert_eq!(told[0]["version"], 1);
    sandbox.write(file, line.replacen("\"version\":1,", "", 1));
    assert_ne!(sandbox.read(file), line);
    assert_eq!(runs(&sandbox, &[]), told);
}

#[test]
fn a_line_of_a_newer_version_is_refused_and_not_guessed_at() {
    let sandbox = sandbox();
    sandbox.run(&[]).expect(0);
    let file = "sessions.json.reconcile/history.jsonl";
    let whole = sandbox.read(file);
    // Its form may be another, or the same with another meaning.
    for newer in ["{\"version\":2,\"rows\":[]}\n".to_owned(), whole.replacen("\"version\":1", "\"version\":2", 1)] {
        sandbox.write(file, format!("{whole}{newer}"));
        for arguments in [&["history"][..], &["undo", "2", "--dry-run"]] {
            let run = sandbox.run(arguments).expect(1);
            for told in ["line 2 of the history", "history.jsonl has version 2", "a newer reconcile wrote it", "hint: "]
            {
                assert!(run.stderr.contains(told), "{told}: {run:#?}");
            }
        }
        // A run that has nothing to tell of the past is not stopped by it, and adds its own line.
        sandbox.run(&["set-model", ADA, "haiku"]).expect(0);
        sandbox.run(&["unset-model", ADA]).expect(0);
        assert_eq!(sandbox.read(file).lines().count(), 4);
    }
}

#[test]
#[ignore = "needs strace"]
fn a_new_history_has_its_name_on_disk() {
    needs(&["strace"]);
    let sandbox = sandbox();
    // One that is new, and one that is new because the last one is put aside.
    for part in [false, true] {
        if part {
            let line = sandbox.read("sessions.json.reconcile/history.jsonl");
            sandbox.write("sessions.json.reconcile/history.jsonl", line.repeat((1 << 20) / line.len() + 2));
            sandbox.run(&["--dry-run"]).expect(0);
            sandbox.write("sessions.json", registry(&[(ADA, "family", "opus")]));
        }
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-o", "trace", "-e", "trace=openat,fsync", env!("CARGO_BIN_EXE_reconcile")]);
        finish(strace.current_dir(sandbox.path("")).env("TZ", "UTC")).expect(0);
        let trace = sandbox.read("trace");
        let lines: Vec<&str> = trace.lines().collect();
        let made = lines.iter().rposition(|line| line.contains("history.jsonl\"") && line.contains("O_CREAT")).unwrap();
        let state = fs::canonicalize(sandbox.path("sessions.json.reconcile")).unwrap().display().to_string();
        let is_synced = |line: &&str| line.contains("fsync(") && line.contains(&format!("{state}>"));
        assert!(lines[made..].iter().any(is_synced), "{trace}");
    }
}
