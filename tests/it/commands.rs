//! The commands of a policy, run for real: how they run, how they end, and what follows from that.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{POLICY, Sandbox, finish, folded, registry, row};

pub const CHAT: &str = "+16175550142";
pub const RECORD: &str = r#"restart = ["./restart", "{session_slug}"]"#;

/// One chat that runs opus and should run sonnet, and a policy with these lines about sessions.
pub fn drifted(sessions: &str) -> Sandbox {
    with(sessions, &registry(&[(CHAT, "family", "opus")]))
}

pub fn with(sessions: &str, registry: &str) -> Sandbox {
    Sandbox::new(&format!("{POLICY}\n[sessions]\n{sessions}\n"), registry)
}

fn debt(sandbox: &Sandbox) -> Value {
    sandbox.ledger()["owed"][CHAT].clone()
}

/// Whether a process does anything. One that has ended and that no process waited for does not.
fn is_alive(pid: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().unwrap().stdout;
    !matches!(state.trim_ascii().first(), None | Some(b'Z'))
}

#[test]
fn a_session_left_in_the_background_holds_nothing_up() {
    let sandbox = drifted(RECORD);
    sandbox.script("restart", "sleep 600 &\necho $! > session");
    let run = sandbox.run(&[]).expect(0);
    let session = sandbox.read("session");
    let survived = is_alive(&session);
    Command::new("kill").arg(session.trim()).status().unwrap();
    assert!(survived, "the session must outlive the run");
    assert_eq!(run.summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!(debt(&sandbox), Value::Null);
}

#[test]
fn a_restart_that_hangs_is_ended_with_all_that_it_started() {
    let sandbox = with(
        &format!("{RECORD}\ntimeout = \"1s\""),
        &registry(&[(CHAT, "family", "opus"), ("+16175550143", "family", "opus")]),
    );
    sandbox.has_seen(&["sonnet"]);
    // One of the two ends when asked to, the other has to be made to.
    sandbox.script(
        "restart",
        "case $1 in *143) trap '' TERM;; esac\nsleep 600 & echo $! >> session; echo $$ >> session; while :; do wait; done",
    );
    let run = sandbox.run(&["--format", "json"]).expect(4);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    for chat in [CHAT, "+16175550143"] {
        assert_eq!(row(&report, chat)["outcome"], "failed");
        assert_eq!(row(&report, chat)["detail"], "the restart command (./restart) took longer than 1s and was killed");
        assert_eq!(sandbox.ledger()["owed"][chat]["attempts"], 1);
    }
    let processes = sandbox.read("session");
    assert_eq!(processes.lines().count(), 4);
    for process in processes.lines() {
        assert!(!is_alive(process), "{process} outlived the run");
    }
}

#[test]
fn a_failed_restart_stays_owed_and_waits_until_it_is_tried_again() {
    let sandbox = drifted(RECORD);
    sandbox.script("restart", "echo $1 >> calls\necho no such process >&2\ntest -e works");
    let run = sandbox.run(&[]).expect(4);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 1 failed, 1 restart still owed.");
    assert!(
        run.stdout.contains("      | the restart command (./restart) exited with code 1:\n      | no such process\n"),
        "{run:#?}"
    );
    assert_eq!(sandbox.model(CHAT).as_deref(), Some("sonnet"));
    let owed = debt(&sandbox);
    assert_eq!((&owed["attempts"], &owed["began"], &owed["ran"]), (&json!(1), &json!(true), &json!("opus")));

    let report = sandbox.json(&[]);
    assert_eq!(row(&report, CHAT)["outcome"], "deferred");
    assert_eq!(row(&report, CHAT)["detail"], "the restart failed before and waits for its next try");
    sandbox.run(&[]).expect(4);
    assert_eq!(sandbox.calls().len(), 1, "a debt that waits is left alone");

    sandbox.run(&["--retry", CHAT]).expect(4);
    assert_eq!((sandbox.calls().len(), debt(&sandbox)["attempts"].clone()), (2, json!(2)));

    sandbox.write("works", "");
    let run = sandbox.run(&["--retry", CHAT]).expect(0);
    assert_eq!(run.summary(), "Applied: 0 changed, 1 restarted, 0 deferred, 0 failed.");
    assert_eq!(debt(&sandbox), Value::Null);
    assert_eq!(sandbox.run(&[]).expect(0).summary(), "No changes. 1 in sync.");
    assert_eq!(sandbox.calls(), ["imessage-_16175550142"; 3]);
}

#[test]
fn what_waits_for_its_next_try_is_told_so_everywhere_and_nothing_is_asked_about_it() {
    let commands = format!("{RECORD}\nrunning = [\"./running\", \"{{session_slug}}\"]\n");
    let sandbox = drifted(&commands);
    sandbox.script("restart", "exit 1");
    sandbox.script("running", "echo $1 >> asked");
    sandbox.run(&[]).expect(4);

    let waits = "the restart failed before and waits for its next try";
    let explained = sandbox.json(&["explain", CHAT]);
    assert_eq!(explained["registry"]["outcome"], "deferred", "{explained:#}");
    assert_eq!(explained["registry"]["detail"], waits);

    sandbox.write("asked", "");
    sandbox.run(&["--dry-run", "--probe"]).expect(4);
    assert_eq!(sandbox.read("asked"), "", "it is not to be restarted");

    // Another session with the same slug is a mistake only once the restart is due.
    let mut sessions: Value = serde_json::from_str(&sandbox.read("sessions.json")).unwrap();
    let slug = json!({ "session_name": "imessage-_16175550142", "tier": "family", "model": "sonnet" });
    sessions.as_object_mut().unwrap().insert("+2".to_owned(), slug);
    sandbox.write("sessions.json", sessions.to_string());
    let report = sandbox.json(&["--dry-run"]);
    assert_eq!((&row(&report, CHAT)["outcome"], &row(&report, CHAT)["detail"]), (&json!("deferred"), &json!(waits)));
    sandbox.run(&[]).expect(4);
}

#[test]
fn a_change_of_mind_does_not_cancel_a_restart_that_was_begun() {
    let sandbox = drifted(RECORD);
    sandbox.script("restart", "echo $RECONCILE_MODEL >> calls\ntest -e works");
    sandbox.run(&[]).expect(4);
    sandbox.write("works", "");
    let policy = sandbox.read("policy.toml");
    sandbox.write("policy.toml", policy.replace("family = \"sonnet\"", "family = \"opus\""));
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["sonnet", "opus"], "it is not known what a failed restart left running");
    assert_eq!(debt(&sandbox), Value::Null);
}

#[test]
fn only_the_end_of_a_complaint_is_shown_and_escaped() {
    let sandbox = drifted(RECORD);
    sandbox.script(
        "restart",
        "i=0; while [ $i -lt 500 ]; do echo \"line $i of many\" >&2; i=$((i+1)); done\n\
         printf '::error::\\033[31mred\\007 \\342\\200\\256left\\n::warning::\\377\\n' >&2\nexit 7",
    );
    let run = sandbox.run(&[]).expect(4);
    assert!(
        run.stdout.contains("\n      | ::error::\\u{1b}[31mred\\u{7} \\u{202e}left\n      | ::warning::\u{fffd}\n")
    );
    assert!(run.stdout.contains("exited with code 7:\n"));
    assert!(!run.stdout.lines().any(|line| line.starts_with("::")), "{run:#?}");
    assert!(run.stdout.contains("line 499 of many") && !run.stdout.contains("line 100 of many"));

    let report = sandbox.run(&["--retry", CHAT, "--format", "json"]).expect(4).stdout;
    assert!(!report.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let detail = row(&report, CHAT)["detail"].as_str().unwrap().to_owned();
    let complaint = detail.strip_prefix("the restart command (./restart) exited with code 7:\n").unwrap();
    assert!(complaint.ends_with("red\u{7} \u{202e}left\n::warning::\u{fffd}"));
    // One byte of the last 4 KiB was a line's end, and one stands for three since it was no UTF-8.
    assert_eq!(complaint.len(), 4096 - 1 + 2);
    assert!(!sandbox.read("sessions.json.reconcile/history.jsonl").contains("many"), "no output of commands is kept");
}

#[test]
fn only_codes_1_and_3_of_running_spare_a_session_its_restart() {
    let spared = "not running: it will start on its model";
    for (running, restarts) in [
        ("exit 0", true),
        ("exit 1", false),
        ("exit 3", false),
        ("exit 2", true),
        ("exit 4", true),
        ("kill -9 $$", true),
        ("sleep 600", true),
    ] {
        let sandbox = drifted(&format!(
            "{RECORD}\nrunning = [\"./running\", \"{{session_slug}}\"]\n{}\n[rollout]\nmin_healthy = \"0s\"",
            if running.starts_with("sleep") { "timeout = \"1s\"" } else { "" }
        ));
        sandbox.has_seen(&["sonnet"]);
        // Once it was restarted, it runs.
        sandbox.script(
            "running",
            &format!("grep -q restart calls 2>/dev/null && exit 0\necho running $1 >> calls\n{running}"),
        );
        sandbox.script("restart", "echo restart $1 >> calls");
        let report = sandbox.json(&[]);
        let mut calls = vec!["running imessage-_16175550142"];
        calls.extend(restarts.then_some("restart imessage-_16175550142"));
        assert_eq!(sandbox.calls(), calls, "{running}");
        let row = row(&report, CHAT);
        assert_eq!(row["outcome"], "done", "{running}");
        assert_eq!(row["detail"], if restarts { Value::Null } else { json!(spared) }, "{running}");
        assert_eq!(report["summary"]["changed"], 1, "{running}");
        assert_eq!(report["summary"]["restarted"], usize::from(restarts), "{running}");
        assert_eq!((&report["summary"]["owed"], debt(&sandbox)), (&json!(0), Value::Null), "{running}");
    }
}

#[test]
fn up_to_the_limit_failures_stop_no_other_restart() {
    let chats: Vec<String> = (0..6).map(|n| format!("+1617555020{n}")).collect();
    let entries: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
    let sandbox = with(&format!("{RECORD}\nparallel = 2\n[rollout]\nmax_failures = 3"), &registry(&entries));
    sandbox.has_seen(&["sonnet"]);
    sandbox.script("restart", "case $1 in *0) exit 1;; *1) kill -9 $$;; esac");
    let report = sandbox.json(&[]);
    assert_eq!((&report["summary"]["restarted"], &report["summary"]["failed"]), (&json!(4), &json!(2)));
    assert_eq!(row(&report, &chats[1])["detail"], "the restart command (./restart) was killed by signal 9");
    let ledger = sandbox.ledger();
    assert_eq!(ledger["owed"].as_object().unwrap().keys().collect::<Vec<_>>(), [&chats[0], &chats[1]]);
}

/// Looks around: directory, standard streams, and which of the descriptors that a caller may have left are open.
const LOOK_AROUND: &str = r#"
    pwd -P >> surroundings
    for n in 0 1; do if [ /dev/fd/$n -ef /dev/null ]; then echo "$n is null" >> surroundings; fi; done
    for n in 3 4 5 6 7 8 9; do if (eval ": >&$n") 2>/dev/null; then echo "$n is open" >> surroundings; fi; done"#;

fn surroundings(script: &str, sessions: &str, arguments: &[&str]) -> (Sandbox, String) {
    let sandbox = Sandbox::new("", &registry(&[(CHAT, "family", "opus")]));
    std::fs::create_dir(sandbox.path("conf")).unwrap();
    let policy = POLICY.replace("sessions.json", "../sessions.json");
    sandbox.write("conf/policy.toml", format!("{policy}\n[sessions]\n{sessions}\n"));
    sandbox.script(&format!("conf/{script}"), LOOK_AROUND);
    let reconcile = sandbox.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 7<policy.toml 9>lockfile; exec \"$@\"", "sh"]).arg(reconcile.get_program());
    shell.args(reconcile.get_args()).args(["--policy", "conf/policy.toml"]).current_dir(sandbox.path(""));
    finish(shell.stdin(Stdio::piped())).expect(0);
    let seen = sandbox.read("conf/surroundings");
    (sandbox, seen)
}

#[test]
fn a_restart_gets_no_terminal_no_descriptors_and_the_policys_directory() {
    let (sandbox, seen) = surroundings("restart", r#"restart = ["./restart"]"#, &[]);
    let directory = sandbox.path("conf").canonicalize().unwrap();
    assert_eq!(seen, format!("{}\n0 is null\n1 is null\n", directory.display()));
}

#[test]
fn a_probe_gets_no_more_than_a_restart() {
    let commands = "restart = [\"./nowhere\"]\nrunning = [\"./running\"]";
    let (sandbox, seen) = surroundings("running", commands, &["--dry-run", "--probe"]);
    let directory = sandbox.path("conf").canonicalize().unwrap();
    assert_eq!(seen, format!("{}\n0 is null\n1 is null\n", directory.display()));
}

#[test]
fn as_many_restarts_as_allowed_are_under_way_at_once_and_never_more() {
    let chats = ["+1", "+2", "+3", "+4"];
    let sandbox = with(
        &format!("{RECORD}\nparallel = 2\ntimeout = \"10s\""),
        &registry(&chats.map(|chat| (chat, "family", "opus"))),
    );
    sandbox.has_seen(&["sonnet"]);
    for name in ["meet", "first", "counted"] {
        assert!(Command::new("mkfifo").arg(sandbox.path(name)).status().unwrap().success());
    }
    // The first two meet, which takes both; while they do, no other may have begun. So do the last two.
    sandbox.script(
        "restart",
        r#"case $1 in
            *1) read met < first; cp sessions.json.reconcile/ledger.journal begun; echo > counted;;
            *2) echo met > first; read counted < counted; echo "1 and 2 met" >> calls;;
            *3) echo met > meet;;
            *4) read met < meet; echo "3 and 4 $met" >> calls;;
        esac"#,
    );
    sandbox.run(&[]).expect(0);
    assert_eq!(owed_and_begun(&sandbox.read("begun")), (4, 2));
    assert_eq!(sandbox.calls(), ["1 and 2 met", "3 and 4 met"]);
}

/// How many restarts are owed, and how many of these have begun.
fn owed_and_begun(journal: &str) -> (usize, usize) {
    let ledger = folded(journal);
    let owed = ledger["owed"].as_object().unwrap();
    (owed.len(), owed.values().filter(|debt| debt["began"] == true).count())
}

#[test]
fn one_at_a_time_means_that_the_next_begins_when_the_last_has_ended() {
    let chats = ["+1", "+2", "+3"];
    let sandbox = with(&format!("{RECORD}\nparallel = 1"), &registry(&chats.map(|chat| (chat, "family", "opus"))));
    sandbox.has_seen(&["sonnet"]);
    sandbox.script("restart", "echo $1 >> calls\ncp sessions.json.reconcile/ledger.journal \"at-$1\"");
    sandbox.run(&[]).expect(0);
    assert_eq!(sandbox.calls(), ["imessage-_1", "imessage-_2", "imessage-_3"]);
    // Each debt is settled before the next attempt.
    for (name, seen) in [("at-imessage-_1", (3, 1)), ("at-imessage-_2", (2, 1)), ("at-imessage-_3", (1, 1))] {
        assert_eq!(owed_and_begun(&sandbox.read(name)), seen, "{name}");
    }
}

#[test]
fn a_restart_finds_the_new_model_and_its_debt_on_disk() {
    let sandbox = drifted(&format!("{RECORD}\nrunning = [\"./running\"]"));
    sandbox.has_seen(&["sonnet"]);
    // It is asked again after the restart.
    sandbox.script("running", "test -e at-running || cp sessions.json.reconcile/ledger.journal at-running");
    sandbox.script("restart", "cp sessions.json at-restart; cp sessions.json.reconcile/ledger.journal owed-at-restart");
    sandbox.run(&[]).expect(0);
    let registry: Value = serde_json::from_str(&sandbox.read("at-restart")).unwrap();
    assert_eq!(registry[CHAT]["model"], "sonnet");
    // A session that turns out not to run was not tried.
    for (name, began) in [("at-running", false), ("owed-at-restart", true)] {
        let owed = folded(&sandbox.read(name))["owed"][CHAT].clone();
        let seen = (&owed["began"], &owed["ran"], &owed["attempts"], &owed["next_try"]);
        assert_eq!(seen, (&json!(began), &json!("opus"), &json!(0), &Value::Null), "{name}");
    }
    assert_eq!(sandbox.ledger()["owed"], json!({}));
}

/// Two debts of restarts that were not begun, because a signal came first; the policy wants the models back.
fn back(started_since: &str) -> Sandbox {
    let commands =
        format!("{RECORD}\nparallel = 1\nrunning = [\"true\"]\nidentity = [\"cat\", \"start-{{session_slug}}\"]");
    let sandbox = with(&commands, &registry(&["+1", "+2"].map(|chat| (chat, "family", "opus"))));
    sandbox.has_seen(&["sonnet", "opus"]);
    for name in ["start-imessage-_1", "start-imessage-_2"] {
        sandbox.write(name, "first");
    }
    sandbox.script("restart", "echo again >> start-$1\nkill -TERM $PPID");
    sandbox.run(&[]).expect(4);
    assert_eq!(debt_of(&sandbox, "+2")["identity"], "first");
    sandbox.write("start-imessage-_2", started_since);
    sandbox.script("restart", "echo $1 >> calls\necho again >> start-$1");
    sandbox.write("policy.toml", sandbox.read("policy.toml").replace("family = \"sonnet\"", "family = \"opus\""));
    sandbox
}

fn debt_of(sandbox: &Sandbox, chat: &str) -> Value {
    sandbox.ledger()["owed"][chat].clone()
}

#[test]
fn a_debt_is_void_only_where_nothing_has_started_the_session_since() {
    // It runs what the registry says again, and needs no restart.
    let sandbox = back("first");
    let run = sandbox.run(&["--chat", "+2"]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 0 restarted, 0 deferred, 0 failed.", "{run:#?}");
    assert!(run.stderr.contains("the restart owed to +2 is no longer needed"), "{run:#?}");
    assert_eq!((sandbox.calls(), debt_of(&sandbox, "+2")), (vec![], Value::Null));
    // Something has started it on what the registry said then.
    let sandbox = back("second");
    let run = sandbox.run(&["--chat", "+2"]).expect(0);
    assert_eq!(run.summary(), "Applied: 1 changed, 1 restarted, 0 deferred, 0 failed.", "{run:#?}");
    assert_eq!((sandbox.calls(), debt_of(&sandbox, "+2")), (vec!["imessage-_2".to_owned()], Value::Null));
}

#[test]
fn a_command_that_leaves_its_group_is_ended_all_the_same() {
    let leave = "import os, signal; os.setpgid(0, os.getpgid(os.getppid())); signal.pause()";
    let sandbox = drifted(&format!("restart = [\"python3\", \"-c\", {leave:?}]\ntimeout = \"500ms\""));
    let run = sandbox.run(&[]).expect(4);
    assert!(run.stdout.contains("took longer than 500ms and was killed"), "{run:#?}");
}

#[test]
fn a_probe_asks_only_for_sessions_that_would_be_restarted() {
    let all = r#""all": {"session_name": "all", "tier": "family", "model": "opus"}"#;
    let unset = r#""unset": {"session_name": "unset", "tier": "family"}"#;
    let drifted = r#""drifted": {"session_name": "drifted", "tier": "family", "model": "opus"}"#;
    let sessions = format!("{RECORD}\nrunning = [\"./running\"]\nunset_runs = \"sonnet\"");
    let sandbox = with(&sessions, &format!("{{{all}, {unset}, {drifted}}}"));
    sandbox.script("running", "echo $RECONCILE_CHAT_ID >> calls");
    sandbox.run(&["--dry-run", "--probe"]).expect(4);
    assert_eq!(sandbox.calls(), ["drifted"]);
}

#[test]
fn where_nothing_can_be_written_a_session_is_restarted_all_the_same() {
    let sandbox = drifted("restart = [\"./restart\"]");
    for (exit, told) in [(1, "exited with code 1"), (0, "restarted")] {
        sandbox.script("restart", &format!("echo $RECONCILE_CHAT_ID >> calls\necho why >&2\nexit {exit}"));
        let run = finish(sandbox.command(&["--retry", CHAT]).env("TMPDIR", "/nowhere"));
        assert!(run.stdout.contains(told) && !run.stdout.contains("why"), "{run:#?}");
    }
    assert_eq!(sandbox.calls(), [CHAT, CHAT]);
}
